"""Rows per second of a NMM-EM epoch by two workers of one thread each, and by one.

    python benchmarks/workers.py --width 1024 --hidden 1024 --batch-size 512

An epoch is the difference between fits of three epochs and of one, in time on the wall, so that start and end do not
count. The two take turns; a ratio is of neighbours in time, and the median of the ratios is said with the least and the
greatest. Nobody else should use the machine.
"""

import argparse
import statistics
import tempfile
import time

import numpy as np
import torch

from deep_clustering.methods import make_method
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.parallel import fit_alone, fit_together
from step_time import parameters


def seconds_of_epoch(options: dict, rows: np.ndarray, n_workers: int) -> float:
    """Two epochs, halved."""
    spent = []
    for epochs in (1, 3):
        model = make_method({**options, "epochs": epochs})
        with tempfile.TemporaryDirectory() as folder:
            kept = Checkpoints(CheckpointOptions(every=0, resume=False, folder=folder), "workers")
            began = time.perf_counter()
            if n_workers == 1:
                fit_alone(model, rows, None, kept, None)
            else:
                fit_together(n_workers, model, rows, None, kept, None)
            spent.append(time.perf_counter() - began)
    return (spent[1] - spent[0]) / 2


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_480)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = np.random.default_rng(0).normal(size=(chosen.rows, chosen.width)).astype(np.float32)
    options = parameters()["neural_mixture"] | {
        "device": "cpu",
        "start": {"kind": "none"},
        "restarts": 1,
        "record_every": 1000,
        "batch_size": chosen.batch_size,
        "views": {"kind": "noise", "scale": 0.1},
        "encoder": {"kind": "mlp", "hidden": [chosen.hidden, chosen.hidden]},
    }
    ratios = []
    for _ in range(chosen.pairs):
        one, two = (seconds_of_epoch(options, rows, n_workers) for n_workers in (1, 2))
        ratios.append(one / two)
        print(f"one worker {chosen.rows / one:.0f} rows/s, two {chosen.rows / two:.0f}: {one / two:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
