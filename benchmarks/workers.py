"""Rows per second of an epoch of NMM-EM or DCAN by two workers of one thread each, and by one.

    python benchmarks/workers.py --width 1024 --hidden 1024 --batch-size 512
    python benchmarks/workers.py --method dcan --width 1024 --hidden 1024 --batch-size 512
    python benchmarks/workers.py --images --batch-size 1024

With --images rows are images of 28 x 28, seen at 20 x 20 by the convolutions of conf/base; else they are vectors.

An epoch is the median of four within a fit, of what lies between the ends of one and of the next, in time on the wall
and in processor time of the first worker. The two take turns; a ratio is of neighbours in time, and the median of the
ratios is said with the least and the greatest. Where somebody else uses the machine the wall says nothing: two
processes get more of it than one. The processor's ratio is what two idle cores would give if no worker waited for the
other. Said besides: how many exchanges a step has, how many bytes go into them, and how long such exchanges take where
nothing else is done.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.multiprocessing
from torch import Tensor, distributed

from deep_clustering.methods import make_method
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.history import History
from deep_clustering.training.parallel import fit_alone, fit_together
from deep_clustering.training.workers import joined_as
from step_time import parameters

_EPOCHS = 4


@contextmanager
def noted_epochs() -> Iterator[list[tuple[float, float]]]:
    """When each epoch of a fit ended, on the wall and by what this process had spent of its processor."""
    ends: list[tuple[float, float]] = []
    close = History.close_epoch

    def close_epoch(self: History, epoch: int, **terms: Tensor) -> None:
        close(self, epoch, **terms)
        ends.append((time.perf_counter(), time.process_time()))

    History.close_epoch = close_epoch
    try:
        yield ends
    finally:
        History.close_epoch = close


def seconds_of_epoch(options: dict, rows: np.ndarray, n_workers: int) -> np.ndarray:
    """Medians over the epochs of a fit behind its first one."""
    model = make_method({**options, "epochs": 1 + _EPOCHS})
    with tempfile.TemporaryDirectory() as folder, noted_epochs() as ends:
        kept = Checkpoints(CheckpointOptions(every=0, resume=False, folder=folder), "workers")
        if n_workers == 1:
            fit_alone(model, rows, None, kept, None)
        else:
            fit_together(n_workers, model, rows, None, kept, None)
    return np.median(np.diff(ends, axis=0), axis=0)


@contextmanager
def noted_exchanges() -> Iterator[list[tuple[str, int]]]:
    """Kind and numbers of each exchange that this process takes part in."""
    found: list[tuple[str, int]] = []
    reduce, gather = distributed.all_reduce, distributed.all_gather

    def all_reduce(own: Tensor) -> None:
        found.append(("reduce", own.numel()))
        reduce(own)

    def all_gather(parts: list[Tensor], own: Tensor) -> None:
        found.append(("gather", own.numel()))
        gather(parts, own)

    distributed.all_reduce, distributed.all_gather = all_reduce, all_gather
    try:
        yield found
    finally:
        distributed.all_reduce, distributed.all_gather = reduce, gather


def exchanges_alone(rank: int, store: str, exchanges: list[tuple[str, int]]) -> None:
    """Say how long the exchanges of a step take, one after the other; median of 50 steps."""
    torch.set_num_threads(1)
    own = [torch.zeros(n) for _, n in exchanges]
    parts = [[torch.empty(n) for _ in range(2)] for _, n in exchanges]
    seconds = []
    with joined_as(rank, 2, store):
        for _ in range(50):
            began = time.perf_counter()
            for (kind, _), of_worker, of_all in zip(exchanges, own, parts, strict=True):
                if kind == "reduce":
                    distributed.all_reduce(of_worker)
                else:
                    distributed.all_gather(of_all, of_worker)
            seconds.append(time.perf_counter() - began)
    if not rank:
        print(f"alone {1000 * statistics.median(seconds):.2f} ms a step, {1000 * min(seconds):.2f} at least")


def describe_exchanges(options: dict, rows: np.ndarray) -> None:
    """Those of the first step of a fit."""
    model = make_method({**options, "epochs": 1})
    n_steps = len(rows) // options["batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoints(CheckpointOptions(every=0, resume=False, folder=folder), "workers")
        with noted_exchanges() as found:
            fit_together(2, model, rows, None, kept, None)
        of_step = found[: len(found) // n_steps]
        print(f"{len(of_step)} exchanges a step of {[f'{4 * n / 1024:.0f} KiB' for _, n in of_step]}", flush=True)
        torch.multiprocessing.spawn(exchanges_alone, (f"{folder}/store", of_step), nprocs=2)


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("neural_mixture", "dcan"), default="neural_mixture")
    parser.add_argument("--rows", type=int, default=20_480)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rng, base = np.random.default_rng(0), parameters()[chosen.method]
    if chosen.images:
        rows = rng.random((chosen.rows, 1, 28, 28), dtype=np.float32)
        network = {"views": base["views"] | {"size": 20}}
    else:
        rows = rng.normal(size=(chosen.rows, chosen.width)).astype(np.float32)
        network = {
            "views": {"kind": "noise", "scale": 0.1},
            "encoder": {"kind": "mlp", "hidden": [chosen.hidden, chosen.hidden]},
        }
    fixed = {"device": "cpu", "start": {"kind": "none"}, "restarts": 1, "record_every": 1000}
    options = base | fixed | network | {"batch_size": chosen.batch_size}
    describe_exchanges(options, rows)
    ratios = []
    for _ in range(chosen.pairs):
        one, two = (seconds_of_epoch(options, rows, n_workers) for n_workers in (1, 2))
        ratios.append(one / two)
        print("one worker {:.2f} s ({:.2f} of the processor), two {:.2f} ({:.2f})".format(*one, *two), flush=True)
    for name, found in zip(("wall", "processor"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: median {statistics.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}")


if __name__ == "__main__":
    main()
