"""Commands that are killed, or whose disk fails, at random moments, and what the next one makes of them, as JSON.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --faults 40
    OMP_NUM_THREADS=1 python benchmarks/faults.py --faults 40 --kind ENOSPC
    OMP_NUM_THREADS=1 python benchmarks/faults.py --faults 20 --jobs two_stage sweep leaderboard --earlier

Each command is a fork of a process that has the libraries loaded (tests/faults/forked_runs.py), in a project of its own
with the embedded digits. SIGKILL ends it at a step of writing that a seed draws from those that an unbroken one takes:
a file opened, half written, named, removed, a folder made. With EIO that step fails instead, with ENOSPC it and all
later ones but removals, until the command has ended. Then `kedro resume` goes on, or, where nothing was tracked yet or
the command is not `kedro run`, the same command. With `--earlier` the clock of what follows the fault is a day behind.
Counted are commands that do not end as the unbroken one, files that were there at the fault and are gone or others
afterwards, and Python tracebacks in what the broken command printed.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from pipelines.small_project import copy_project  # noqa: E402  from the folder that has just been added

Run = Callable[..., dict[str, Any]]
ENCODER = "{kind: conv, channels: [4, 8], hidden: [16]}"
NETWORK = {"epochs": 3, "batch_size": 64, "encoder": ENCODER}
HEADS = {"epochs": 2, "batch_size": 64, "heads": 2, "start": "{kind: kmeans, n_init: 1, hold: 0.5}"}
STAGES = {"trunk": NETWORK, "self_labelled": NETWORK, "neural_mixture_on_trunk": HEADS}
BACKBONE = {"backbone": "mobilenet_v3_small", "weights": "random", "layer": "features", "size": 32, "batch_size": 32}
SHARED = "ingestion.n_rows=200,reporting.map_points=20,checkpoints.every=1,device=cpu"
SWEEP = "data/sweeps/small"
PREDICTOR = "predictor.safetensors"
# What a sweep or a table of it writes anew is no file that was finished.
RENEWED = {"sweep.json", "sweep.lock", "log.txt", "runs.csv", "leaderboard.csv", "leaderboard.md", "leaderboard.html"}


def run_words(pipeline: str, log_model: bool = False, **blocks: dict[str, Any]) -> list[str]:
    """The command that runs a pipeline with the options of these blocks."""
    own = [f"{block}.{name}={value}" for block, options in blocks.items() for name, value in options.items()]
    tracking = f"tracking.log_model={str(log_model).lower()}"
    return ["run", f"--pipelines={pipeline}", "--env=digits", f"--params={','.join([SHARED, tracking, *own])}"]


def newest(root: Path, pattern: str) -> Path | None:
    """The file that was written last below the data."""
    return max((root / "data").glob(pattern), key=lambda path: path.stat().st_mtime_ns, default=None)


def assignments_of(method: str) -> Callable[[Path], bytes | None]:
    """Function that gives the clusters of the newest version; None if there is none."""

    def read(root: Path) -> bytes | None:
        found = newest(root, f"07_model_output/digits/{method}/assignments.npy/*/assignments.npy")
        return np.load(found).tobytes() if found else None

    return read


def predictions(root: Path) -> bytes | None:
    """The clusters of the newest predictions."""
    found = newest(root, "07_model_output/digits/predictions/predictions.parquet/*/predictions.parquet")
    return pd.read_parquet(found)["cluster"].to_numpy().tobytes() if found else None


def cells(root: Path) -> bytes:
    """The scores of all cells of the sweep that have finished."""
    records = [json.loads(path.read_text()) for path in sorted((root / SWEEP).glob("*/cells/*/cell.json"))]
    return json.dumps([(one["id"], one["status"], one.get("metrics")) for one in records], sort_keys=True).encode()


def leaderboard(root: Path) -> bytes | None:
    """The table of the sweep."""
    path = root / SWEEP / "leaderboard.csv"
    return path.read_bytes() if path.exists() else None


@dataclass(frozen=True)
class Job:
    """A command, what must have run before it, and what is looked at behind it."""

    words: list[str]
    result: Callable[[Path], bytes | None]
    before: tuple[list[str], ...] = ()


def sweep_words() -> list[str]:
    """The command of a small sweep."""
    grid = ["--envs=digits", "--pipelines=kmeans,gmm", "--seeds=0-1", f"--folder={SWEEP}", "--launcher=local"]
    return ["sweep", *grid, "--params=ingestion.n_rows=200"]


def jobs() -> dict[str, Job]:
    """What can be broken, by name."""
    trained = run_words("kmeans", kmeans={"n_init": 2})
    mixture = {"start": "{kind: none}", "restarts": 1}
    given = f"model={PREDICTOR},input=rows.npy,tracking.log_model=false"
    return {
        "kmeans": Job(trained, assignments_of("kmeans")),
        "gmm": Job(run_words("gmm", gmm={"n_init": 1}), assignments_of("gmm")),
        "dcan": Job(run_words("dcan", dcan={**NETWORK, "restarts": 1}), assignments_of("dcan")),
        "neural_mixture": Job(
            run_words("neural_mixture", neural_mixture={**NETWORK, **mixture}), assignments_of("neural_mixture")
        ),
        "two_stage": Job(run_words("self_labelled", **STAGES), assignments_of("self_labelled")),
        "shards": Job(run_words("kmeans", features=BACKBONE, kmeans={"n_init": 2}), assignments_of("kmeans")),
        "tracking": Job(run_words("kmeans", log_model=True, kmeans={"n_init": 2}), assignments_of("kmeans")),
        "predict": Job(["run", "--pipelines=predict", f"--params={given}"], predictions, (trained,)),
        "sweep": Job(sweep_words(), cells),
        "leaderboard": Job(["leaderboard", SWEEP], leaderboard, (sweep_words(),)),
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=40, help="in all, over the jobs (default: %(default)s)")
    parser.add_argument("--kind", default="kill", choices=["kill", "EIO", "ENOSPC"], help="(default: %(default)s)")
    parser.add_argument("--jobs", nargs="+", default=list(jobs()), choices=list(jobs()), help="(default: all)")
    parser.add_argument("--earlier", action="store_true", help="what follows a fault has a clock a day behind")
    parser.add_argument("--seconds", type=float, default=1800, help="after them no run begins (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_project(run: Run, job: Job, root: Path) -> Path:
    """A project in which all has run that the job needs."""
    copy_project(root)
    for words in job.before:
        assert run(root, words)["code"] == 0, (root.parent / "log.txt").read_text()
    if predictor := newest(root, f"**/{PREDICTOR}/*/{PREDICTOR}"):
        shutil.copy(predictor, root / PREDICTOR)
        np.save(root / "rows.npy", np.load(next((root / "data").glob("**/samples.npy/*/samples.npy"))))
    return root


def files_of(root: Path) -> dict[str, str]:
    """Digest of each finished file of the data; checkpoints and what is being written come and go."""
    files = (path for path in (root / "data").rglob("*") if path.is_file() and not path.name.startswith("."))
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "checkpoints" not in path.parts and path.suffix not in (".part", ".log") and path.name not in RENEWED
    }


def finish(run: Run, job: Job, root: Path, **clock: int) -> tuple[int, str]:
    """Go on after the fault; returns the last exit code and what command brought the end."""
    if job.words[0] == "run":
        code = run(root, ["resume"], **clock)["code"]
        if code == 0 and job.result(root) is not None:
            return code, "resume"
    return run(root, job.words, **clock)["code"], "the same command"


def break_and_finish(run: Run, job: Job, ready: Path, fault: dict[str, Any], earlier: bool) -> dict[str, Any]:
    """One fault and what follows, in a copy of a project that is ready for it."""
    with tempfile.TemporaryDirectory() as folder:
        root = shutil.copytree(ready, Path(folder) / "project")
        broken = run(root, job.words, **fault)
        before, text = files_of(root), (Path(folder) / "log.txt").read_text(errors="replace")
        code, by = broken["code"], "itself"
        if code != 0:
            code, by = finish(run, job, root, **({"clock": -86_400} if earlier else {}))
        after = files_of(root)
        # What a half-finished node had saved is set aside, and is computed anew.
        lost = [name for name, sha in before.items() if sha not in (after.get(name), after.get(f"{name}.unfinished"))]
        log = (Path(folder) / "log.txt").read_text(errors="replace")
        return {
            **fault,
            "broken_code": broken["code"],
            "traceback": "Traceback (most recent call last)" in text,
            "files_before": len(before),
            "finished_by": by,
            "code": code,
            "lost": lost,
            "result": job.result(root),
            "log": log[-2000:] if code else "",
        }


def main() -> None:
    """Each job unbroken, then the faults; prints JSON."""
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
            name = chosen.jobs[number % len(chosen.jobs)]
            job, ready = jobs()[name], Path(folder) / name / "project"
            if time.monotonic() > deadline:
                break
            if name not in unbroken:
                make_project(run, job, ready)
                whole = shutil.copytree(ready, Path(folder) / f"{name}-unbroken" / "project")
                report = run(whole, job.words)
                assert report["code"] == 0, (whole.parent / "log.txt").read_text()
                unbroken[name] = report["n_steps"], job.result(whole)
            steps, result = unbroken[name]
            fault = {"step": draw.randint(1, steps), "fault": None if chosen.kind == "kill" else chosen.kind}
            one = break_and_finish(run, job, ready, fault, chosen.earlier)
            noted.append({"job": name, **one, "result": one["result"] == result and result is not None})
        server.stdin.close()  # type: ignore[union-attr]
    counts = {name: steps for name, (steps, _) in unbroken.items()}
    by_job = {name: totals([one for one in noted if one["job"] == name]) for name in counts}
    print(json.dumps({"kind": chosen.kind, **totals(noted), "steps": counts, "by_job": by_job, "faults": noted}))


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
        "other_results": sum(not one["result"] for one in noted),
        "files_lost": sum(len(one["lost"]) for one in noted),
    }


if __name__ == "__main__":
    main()
