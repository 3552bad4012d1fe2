"""Runs that are killed, or whose disk fails, at random moments, and what the next command makes of them, as JSON.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --faults 40
    OMP_NUM_THREADS=1 python benchmarks/faults.py --faults 40 --kind ENOSPC

Each run is a fork of a process that has the libraries loaded (tests/faults/forked_runs.py), in a project of its own
with the embedded digits. SIGKILL ends it at a step of writing that a seed draws from those that an unbroken run takes:
a file opened, half written, named, removed, a folder made. With EIO that step fails instead, with ENOSPC it and all
later ones but removals, until the command has ended. Then `kedro resume` goes on, or, where nothing was tracked yet,
the same command. Counted are runs that do not end as the unbroken one, files that were there at the fault and are gone
or others afterwards, and Python tracebacks in what the broken command printed.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
NETWORK = {"epochs": 3, "batch_size": 64, "restarts": 1, "encoder": "{kind: conv, channels: [4, 8], hidden: [16]}"}
OPTIONS: dict[str, dict[str, Any]] = {
    "kmeans": {"n_init": 2},
    "gmm": {"n_init": 1},
    "dcan": NETWORK,
    "neural_mixture": {**NETWORK, "start": "{kind: none}"},
}
SHARED = "ingestion.n_rows=200,reporting.map_points=20,tracking.log_model=false,checkpoints.every=1,device=cpu"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=40, help="in all, over the pipelines (default: %(default)s)")
    parser.add_argument("--kind", default="kill", choices=["kill", "EIO", "ENOSPC"], help="(default: %(default)s)")
    parser.add_argument("--pipelines", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument("--seconds", type=float, default=1800, help="after them no run begins (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_project(root: Path) -> Path:
    """A project without data."""
    (root / "src").mkdir(parents=True)
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("mine"))
    return root


def words_of(pipeline: str) -> list[str]:
    """The command that runs a pipeline."""
    own = ",".join(f"{pipeline}.{name}={value}" for name, value in OPTIONS[pipeline].items())
    return ["run", f"--pipelines={pipeline}", "--env=digits", f"--params={SHARED},{own}"]


def files_of(root: Path) -> dict[str, str]:
    """Digest of each finished file of the data; checkpoints and what is being written come and go."""
    files = (path for path in (root / "data").rglob("*") if path.is_file() and not path.name.startswith("."))
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "checkpoints" not in path.parts and path.suffix != ".part"
    }


def result_of(root: Path, pipeline: str) -> bytes | None:
    """The clusters of the newest version; None if there is none."""
    found = sorted((root / "data").glob(f"07_model_output/digits/{pipeline}/assignments.npy/*/assignments.npy"))
    return np.load(found[-1]).tobytes() if found else None


def break_and_finish(
    run: Callable[..., dict[str, Any]], pipeline: str, fault: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """One fault and what follows, in a project of its own."""
    root = make_project(folder / "project")
    broken = run(root, words_of(pipeline), **fault)
    before, text = files_of(root), (folder / "log.txt").read_text(errors="replace")
    code, by = broken["code"], "itself"
    if code != 0:
        code, by = run(root, ["resume"])["code"], "resume"
    if code != 0:
        code, by = run(root, words_of(pipeline))["code"], "the same command"
    after = files_of(root)
    # What a half-finished node had saved is set aside, and is computed anew.
    lost = [name for name, digest in before.items() if digest not in (after.get(name), after.get(f"{name}.unfinished"))]
    return {
        "pipeline": pipeline,
        **fault,
        "broken_code": broken["code"],
        "traceback": "Traceback (most recent call last)" in text,
        "files_before": len(before),
        "finished_by": by,
        "code": code,
        "lost": lost,
        "clusters": result_of(root, pipeline),
    }


def main() -> None:
    """An unbroken run of each pipeline, then the faults; prints JSON."""
    chosen, draw = arguments(), random.Random(0)
    draw.seed(chosen.seed)
    deadline = time.monotonic() + chosen.seconds
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/faults/forked_runs.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""},
        text=True,
    )

    def run(root: Path, words: list[str], **moment: int | str | None) -> dict[str, Any]:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"root": str(root), "words": words, **moment}) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    noted: list[dict[str, Any]] = []
    with server, tempfile.TemporaryDirectory() as folder:
        unbroken: dict[str, tuple[int, bytes | None]] = {}
        for number in range(chosen.faults):
            pipeline = chosen.pipelines[number % len(chosen.pipelines)]
            if time.monotonic() > deadline:
                break
            if pipeline not in unbroken:
                root = make_project(Path(folder) / f"unbroken-{pipeline}" / "project")
                steps = run(root, words_of(pipeline))["n_steps"]
                unbroken[pipeline] = steps, result_of(root, pipeline)
            steps, clusters = unbroken[pipeline]
            fault = {"step": draw.randint(1, steps), "fault": None if chosen.kind == "kill" else chosen.kind}
            one = break_and_finish(run, pipeline, fault, Path(folder) / str(number))
            noted.append({**one, "clusters": one["clusters"] == clusters and clusters is not None})
        server.stdin.close()  # type: ignore[union-attr]
    counts = {name: steps for name, (steps, _) in unbroken.items()}
    print(json.dumps({"kind": chosen.kind, **totals(noted), "steps": counts, "faults": noted}))


def totals(noted: list[dict[str, Any]]) -> dict[str, int]:
    """How many faults there were and what came of them."""
    return {
        "n_faults": len(noted),
        "killed": sum(one["broken_code"] == -9 for one in noted),
        "ended_well": sum(one["finished_by"] == "itself" for one in noted),
        "resumed": sum(one["finished_by"] == "resume" for one in noted),
        "begun_anew": sum(one["finished_by"] == "the same command" for one in noted),
        "tracebacks": sum(one["traceback"] for one in noted),
        "not_finished": sum(one["code"] != 0 for one in noted),
        "other_clusters": sum(not one["clusters"] for one in noted),
        "files_lost": sum(len(one["lost"]) for one in noted),
    }


if __name__ == "__main__":
    main()
