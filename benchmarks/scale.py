"""Processor time per row of an epoch, and memory, on memory-mapped rows of 128 numbers.

    python benchmarks/scale.py --rows 10000,100000,1000000 --methods neural_mixture,dcan --turns 2

Each line is a process of its own, whose epochs pass over `--passes` rows together, and over all of them once at least.
An epoch is from one shuffle to the next, so that the end of a fit does not count. Numbers of rows take turns, since a
machine with other work is not as fast at one time as at another. Memory is what the process holds beside mapped files
(RssAnon of Linux), at its peak, beyond what it held before the rows were opened. The options are those of conf/base
without a start; rows are noisy vectors.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import product
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


def note_shuffles(spent: list[float]) -> None:
    """Note the processor time at the beginning of each epoch."""
    import torch

    from deep_clustering.training.rows import Batch, Rows

    shuffle = Rows.batches

    def noted(rows: Rows, size: int, generator: torch.Generator) -> Iterator[Batch]:
        spent.append(time.process_time())
        yield from shuffle(rows, size, generator)

    Rows.batches = noted  # type: ignore[method-assign]


def measure(method: str, file: Path, n_passes: int) -> None:
    """Fit in this process."""
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
    memory, spent = Memory(), list[float]()
    memory.start()
    note_shuffles(spent)
    rows = np.load(file, mmap_mode="r")
    make_method({**options, "epochs": 1 + max(1, n_passes // len(rows))}).fit(rows)
    epochs = np.diff(spent) / len(rows) * 1e6
    quarters = np.percentile(epochs, [25, 50, 75])
    beyond = (memory.peak - memory.first) / 1e6
    print(
        f"{method}, {len(rows)} rows: {epochs.mean():.1f} us a row and epoch, mean of {len(epochs)} (quarters "
        f"{quarters[0]:.1f}, {quarters[1]:.1f}, {quarters[2]:.1f}), {beyond:.0f} MB",
        flush=True,
    )


def main() -> None:
    """One process for each method and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--methods", default="neural_mixture,dcan")
    parser.add_argument("--passes", type=int, default=1_000_000, help="rows that all epochs pass over, at least")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--folder", help="where the rows are written; they are removed at the end")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        measure(chosen.measure[0], Path(chosen.measure[1]), chosen.passes)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        files = [Path(folder) / f"{n_rows}.npy" for n_rows in map(int, chosen.rows.split(","))]
        for file in files:
            write_rows(file, int(file.stem))
        words = [sys.executable, __file__, "--passes", str(chosen.passes), "--measure"]
        for _ in range(chosen.turns):
            for method, file in product(chosen.methods.split(","), files):
                subprocess.run([*words, method, str(file)], check=True)


if __name__ == "__main__":
    main()
