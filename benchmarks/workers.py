"""Rows per second of a NMM-EM epoch by two workers of one thread each, and by one.

    python benchmarks/workers.py --width 1024 --hidden 1024 --batch-size 512

An epoch is the difference between fits of three epochs and of one, so that start and end do not count, in time on the
wall and in processor time of all workers. The two take turns; a ratio is of neighbours in time, and the median of the
ratios is said with the least and the greatest. Where somebody else uses the machine the wall says nothing: two
processes get more of it than one. The processor's ratio, twice the time of one worker by that of both, is what two idle
cores would give if no worker waited for the other.
"""

import argparse
import resource
import statistics
import tempfile
import time

import numpy as np
import torch

from deep_clustering.methods import make_method
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.parallel import fit_alone, fit_together
from step_time import parameters


def spent() -> np.ndarray:
    """Seconds on the wall, and of the processor in this process and those that have ended."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time() + of_children.ru_utime + of_children.ru_stime])


def seconds_of_epoch(options: dict, rows: np.ndarray, n_workers: int) -> np.ndarray:
    """Two epochs, halved."""
    found = []
    for epochs in (1, 3):
        model = make_method({**options, "epochs": epochs})
        with tempfile.TemporaryDirectory() as folder:
            kept = Checkpoints(CheckpointOptions(every=0, resume=False, folder=folder), "workers")
            began = spent()
            if n_workers == 1:
                fit_alone(model, rows, None, kept, None)
            else:
                fit_together(n_workers, model, rows, None, kept, None)
            found.append(spent() - began)
    return (found[1] - found[0]) / 2


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
        ratios.append((one[0] / two[0], 2 * one[1] / two[1]))
        print("one worker {:.2f} s ({:.2f} of the processor), two {:.2f} ({:.2f})".format(*one, *two), flush=True)
    for name, found in zip(("wall", "processor"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: median {statistics.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}")


if __name__ == "__main__":
    main()
