"""What somebody needs to repeat a run: code, environment, machine, parameters and the command."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import deep_clustering
from deep_clustering.redaction import REDACTED, flatten

UNKNOWN = "unknown"

# Ending of the parameters `<block>.precision_used` and `<block>.device_used`, which say what an option came to.
USED = "_used"
CIRCUMSTANCES = ("precision", "device")

# What a saved model needs besides this project's own code, which travels with the model.
MODEL_PACKAGES = (
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "scipy",
    "scikit-learn",
    "opentsne",
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "tokenizers",
    "sentence-transformers",
    "model2vec",
    "safetensors",
)
_RUN_PACKAGES = (*MODEL_PACKAGES, "fsspec", "kedro", "kedro-datasets")

# Options of `kedro run` that `run_params` holds under another name than its flag; the rest are handled apart.
_LIST_OPTIONS = {
    "tags": "--tags",
    "from_nodes": "--from-nodes",
    "to_nodes": "--to-nodes",
    "node_names": "--nodes",
    "from_inputs": "--from-inputs",
    "to_outputs": "--to-outputs",
    "namespaces": "--namespaces",
}


def describe_git(project_path: Path) -> dict[str, str]:
    """Commit, branch and whether the working tree differs; "unknown" without git or repository."""

    def ask(*command: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", *command], cwd=project_path, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    changes = ask("status", "--porcelain")
    return {
        "git.sha": ask("rev-parse", "--verify", "HEAD") or UNKNOWN,
        "git.branch": ask("rev-parse", "--abbrev-ref", "HEAD") or UNKNOWN,
        "git.dirty": UNKNOWN if changes is None else str(bool(changes)).lower(),
    }


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the installed ones among these packages, without importing them."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def model_requirements() -> list[str]:
    """Pinned pip requirements of a saved model."""
    # A local part such as `+cpu` names a build that package indexes do not list.
    return [f"{name}=={number.split('+')[0]}" for name, number in package_versions(MODEL_PACKAGES).items()]


def describe_environment() -> dict[str, str]:
    """Python, package versions and processor."""
    versions = {"deep_clustering": deep_clustering.__version__, **package_versions(_RUN_PACKAGES)}
    return {
        "python.version": platform.python_version(),
        "python.packages": json.dumps(versions),
        "hardware.platform": platform.platform(),
        "hardware.cpu": _cpu_model(),
        "hardware.logical_cores": str(os.cpu_count()),
    }


def describe_torch() -> dict[str, str]:
    """Threads and graphics processor, if this process has used torch at all."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {"hardware.torch_threads": str(torch.get_num_threads()), "hardware.device_name": device}


def pipeline_name(run_params: Mapping[str, Any]) -> str:
    """Names of the pipelines that run, in one order whatever the order on the command line."""
    return "+".join(sorted(run_params.get("pipeline_names") or ["__default__"]))


def spoken_name(pipelines: str) -> str:
    """Names of pipelines as users know them: a run without a name compares methods."""
    return pipelines.replace("__default__", "comparison")


def restriction_of(run_params: Mapping[str, Any]) -> dict[str, list[str]]:
    """What `kedro run` was restricted to, as arguments of Kedro's session; empty for whole pipelines."""
    return {key: sorted(run_params[key]) for key in _LIST_OPTIONS if run_params.get(key)}


def command_to_repeat(run_params: Mapping[str, Any], load_versions: Mapping[str, str]) -> str:
    """`kedro run` with everything that made this run what it was.

    Args:
        run_params: Kedro's description of the run.
        load_versions: Version of each versioned input, resolved; pinned in the command.

    Returns:
        A shell command; options that the command line cannot carry are named in a comment behind it.
    """
    runtime_params = flatten(run_params.get("runtime_params") or {})
    unsafe = {name for name, text in runtime_params.items() if REDACTED in text}
    names = ",".join(sorted(run_params.get("pipeline_names") or []))
    options = [f"--pipelines={names}"] if names else []
    if run_params.get("env"):
        options.append(f"--env={run_params['env']}")
    for key, flag in _LIST_OPTIONS.items():
        if run_params.get(key):
            options.append(f"{flag}={','.join(run_params[key])}")
    runner = re.search(r"(\w+)Runner\b", str(run_params.get("runner")))
    if runner and runner[1] not in ("Sequential", "Comparing"):  # what the command line chooses by itself
        options.append(f"--runner={runner[0]}")
    if set(runtime_params) - unsafe:
        pairs = [f"{name}={_quoted(text)}" for name, text in runtime_params.items() if name not in unsafe]
        options.append(f"--params={','.join(pairs)}")
    if load_versions:
        options.append(f"--load-versions={','.join(':'.join(item) for item in load_versions.items())}")
    note = f"  # and by --config: {', '.join(sorted(unsafe))}" if unsafe else ""
    return shlex.join(["kedro", "run", *options]) + note


def _quoted(text: str) -> str:
    """A value as `--params` takes it: quoted if a comma or bracket in it would be read as more than the text."""
    if text[:1] in ("[", "{"):
        return text
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",'\"") else text


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or UNKNOWN
