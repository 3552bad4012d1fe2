"""Memory of whole runs of `kedro run` on memory-mapped rows of 128 numbers, node by node.

    python benchmarks/run_memory.py --rows 300000,3000000 --runs dcan,dcan+kmeans+tracked --out memory.json

Each is a run of its own in a copy of the project with the environment `own`: one epoch with batches of 1,024, one
hidden layer of 128, a map of 1,000 rows that t-SNE places, seed 0; without a start, or from one beginning of k-means.
Features and samples of any number of rows are mapped, so that what grows with them is seen at few; a file of samples of
less than 268 MB is read whole. Memory is what the process holds beside mapped files (RssAnon of Linux), looked at from
outside a hundred times a second, at its peak in each node beyond what it held before the first one. A node is from the
end of the one before it to its own, loading and saving included. A line for each node is added to the file.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from scale import write_rows

ROOT = Path(__file__).parents[1]
_COMMON = {"epochs": 1, "restarts": 1, "batch_size": 1024, "encoder.hidden": "[128]", "start.kind": "none"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "dcan": _COMMON | {"discriminator_hidden": "[32]"},
    "neural_mixture": _COMMON,
}
_KMEANS = {"start.kind": "kmeans", "start.n_init": 1}
_SHARED = {"seed": 0, "reporting.map_points": 1000}
_LOGGING = """
version: 1
disable_existing_loggers: false
handlers: {console: {class: logging.StreamHandler, level: INFO}}
loggers: {kedro.runner: {level: INFO}, deep_clustering: {level: INFO}}
root: {level: WARNING, handlers: [console]}
"""
_BEGIN, _END = re.compile(r"Using synchronous mode"), re.compile(r"Completed node: (\S+)")
_LOOK_SECONDS = 0.01


def make_project(root: Path, n_rows: int) -> None:
    """A copy of the project with made rows, in which rows of any number are mapped."""
    shutil.copytree(ROOT / "conf", root / "conf")
    (root / "src").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    catalog = root / "conf/base/catalog.yml"
    catalog.write_text(re.sub(r"mmap_above: \d+", "mmap_above: 0", catalog.read_text("utf-8")), encoding="utf-8")
    (root / "logging.yml").write_text(_LOGGING, encoding="utf-8")
    samples = root / "data/01_raw/own/samples.npy"
    samples.parent.mkdir(parents=True)
    write_rows(samples, n_rows)


class Watch(threading.Thread):
    """Looks at the memory of another process until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._lock, self._peak, self.now = threading.Lock(), 0, 0

    def run(self) -> None:
        """Until there is no such process."""
        while True:
            try:
                lines = self._status.read_text("utf-8").splitlines()
            except (OSError, ProcessLookupError):
                return
            held = [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")]
            with self._lock:
                self.now = held[0] if held else 0
                self._peak = max(self._peak, self.now)
            time.sleep(_LOOK_SECONDS)

    def take_peak(self) -> int:
        """The peak since the last call."""
        with self._lock:
            peak, self._peak = self._peak, self.now
        return peak


def measure(name: str, root: Path) -> list[dict[str, Any]]:
    """One run; a line for each of its nodes."""
    pipeline, *more = name.split("+")
    own = _OPTIONS[pipeline] | (_KMEANS if "kmeans" in more else {})
    options = {f"{pipeline}.{option}": value for option, value in own.items()} | _SHARED
    options["tracking.enabled"] = str("tracked" in more).lower()
    params = ",".join(f"{option}={value}" for option, value in options.items())
    command = ["kedro", "run", "--env=own", f"--pipelines={pipeline}", f"--params={params}"]
    print(" ".join(command), flush=True)
    settings = {"KEDRO_LOGGING_CONFIG": str(root / "logging.yml"), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "true"}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=root,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watch = Watch(process.pid)
    watch.start()
    lines, before = [], 0
    assert process.stdout is not None
    for said in process.stdout:
        if _BEGIN.search(said):
            watch.take_peak()
            before = watch.now
        elif done := _END.search(said):
            lines.append({"node": done[1], "mb": round((watch.take_peak() - before) / 1e6)})
            print(f"{done[1]}: {lines[-1]['mb']} MB", flush=True)
        else:
            print(f"    {said}", end="", flush=True)
    if process.wait():
        raise SystemExit(f"{name} ended with {process.returncode}")
    return [{"run": name, "before_mb": round(before / 1e6), **line} for line in lines]


def digest(root: Path) -> str:
    """Of the assignments: runs of one seed and as many rows are to have the same."""
    (file,) = (root / "data/07_model_output/own").glob("*/assignments.npy/*/assignments.npy")
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def main() -> None:
    """Each run on each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="300000")
    parser.add_argument("--runs", default="dcan,neural_mixture", help="methods, with +kmeans, +tracked or both")
    parser.add_argument("--folder", help="where the rows and outputs are written; they are removed at the end")
    parser.add_argument("--out", help="JSON file to which the lines are added")
    chosen = parser.parse_args()
    for n_rows in map(int, chosen.rows.split(",")):
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            root = Path(folder)
            make_project(root, n_rows)
            for name in chosen.runs.split(","):
                lines = [{"rows": n_rows, **line} for line in measure(name, root)]
                worst = max(lines, key=lambda line: line["mb"])
                print(
                    f"{name}, {n_rows} rows, assignments {digest(root)}: {worst['mb']} MB in {worst['node']}",
                    flush=True,
                )
                if chosen.out:
                    out = Path(chosen.out)
                    known = json.loads(out.read_text("utf-8")) if out.exists() else []
                    out.write_text(json.dumps(known + lines, indent=1) + "\n", encoding="utf-8")
                for outputs in (root / "data").glob("0[2-9]*"):
                    shutil.rmtree(outputs)


if __name__ == "__main__":
    main()
