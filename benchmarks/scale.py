"""Processor time per row of an epoch, and memory, on memory-mapped rows of 128 numbers.

    python benchmarks/scale.py --rows 10000,100000,1000000 --methods neural_mixture,dcan

Each line is a process of its own. An epoch is the difference between fits of two epochs and of one, so that start and
end of a fit do not count. Memory is what the process holds beside mapped files (RssAnon of Linux), at its peak, beyond
what it held before the rows were opened. The options are those of conf/base without a start; rows are noisy vectors.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

_WIDTH, _CHUNK = 128, 50_000


def write_rows(file: Path, n_rows: int) -> None:
    """Rows of ten clusters, in pieces."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(10, _WIDTH)).astype(np.float32) * 2
    rows = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(n_rows, _WIDTH))
    for start in range(0, n_rows, _CHUNK):
        part = rows[start : start + _CHUNK]
        part[:] = centres[random.integers(0, 10, len(part))] + random.normal(size=part.shape)
    rows.flush()


class Memory(threading.Thread):
    """Looks at the memory of this process ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first = self.peak = self.now()

    @staticmethod
    def now() -> int:
        """Bytes that are not of a file."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    def run(self) -> None:
        """Until the process ends."""
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.1)


def measure(method: str, file: Path) -> None:
    """Fit for one epoch and for two, in this process."""
    from deep_clustering.methods import make_method
    from step_time import parameters

    options = parameters()[method]
    options |= {
        "device": "cpu",
        "start": {"kind": "none"},
        "restarts": 1,
        "record_every": 1000,
        "views": {"kind": "noise", "scale": 0.1},
        "encoder": {"kind": "mlp", "hidden": [128]},
    }
    make_method({**options, "epochs": 1}).fit(np.random.default_rng(0).normal(size=(600, _WIDTH)).astype(np.float32))
    memory, spent = Memory(), []
    memory.start()
    rows = np.load(file, mmap_mode="r")
    for epochs in (1, 2):
        began = time.process_time()
        make_method({**options, "epochs": epochs}).fit(rows)
        spent.append(time.process_time() - began)
    per_row = (spent[1] - spent[0]) / len(rows) * 1e6
    beyond = (memory.peak - memory.first) / 1e6
    print(f"{method}, {len(rows)} rows: {per_row:.1f} us a row and epoch, {beyond:.0f} MB", flush=True)


def main() -> None:
    """One process for each method and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--methods", default="neural_mixture,dcan")
    parser.add_argument("--folder", help="where the rows are written; they are removed at the end")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        measure(chosen.measure[0], Path(chosen.measure[1]))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for n_rows in map(int, chosen.rows.split(",")):
            file = Path(folder) / "rows.npy"
            write_rows(file, n_rows)
            for method in chosen.methods.split(","):
                subprocess.run([sys.executable, __file__, "--measure", method, str(file)], check=True)


if __name__ == "__main__":
    main()
