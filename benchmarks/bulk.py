"""Rows per second of a prediction in bulk, and of its network alone, on memory-mapped rows of 128 numbers.

    python benchmarks/bulk.py --rows 1000000 --hidden 500,500,2000 --workers 1

A NMM-EM of ten clusters is fitted for an epoch. The network alone passes over the same map, 2,048 rows at a time, and
keeps nothing. Both take turns over the same rows, each in this process with one thread; the prediction reads, checks,
assigns and writes Parquet shards, of which the writing has a thread of its own. Times are on the wall and of the
processor; a ratio is of neighbours in time, and the median is said with the least and the greatest.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deep_clustering.data.preparation import prepare
from deep_clustering.inference.bulk import BulkOptions, predict_in_bulk
from deep_clustering.inference.predictor import PredictorOptions, from_bytes, make_predictor, to_bytes
from deep_clustering.methods import load_method, make_method, save_method
from image_folder import of_children
from scale import write_rows
from step_time import parameters

_AT_ONCE = 2048


def write_predictor(file: Path, rows: np.ndarray, hidden: list[int]) -> None:
    """A model of some rows."""
    split = np.full(len(rows), 3, dtype=np.uint8)
    options = parameters()
    card = {"name": "made", "value_range": [-20.0, 20.0], "sha256": {"samples": "0" * 64}}
    made, preparation = prepare(
        rows, split, card, {"terms": [], "idf": None}, {**options["features"], "scaling": "none"}
    )
    model = make_method(
        options["neural_mixture"]
        | {"device": "cpu", "start": {"kind": "none"}, "restarts": 1, "epochs": 1, "record_every": 1000}
        | {"views": {"kind": "noise", "scale": 0.1}, "encoder": {"kind": "mlp", "hidden": hidden}}
    ).fit(made)
    chosen = PredictorOptions(outlier_quantile=0.01, max_rows=0, data_set="made")
    density = model.describe(made).log_density
    file.write_bytes(to_bytes(make_predictor(save_method(model), preparation, model.history_, density, split, chosen)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processor, those of processes that it started and that have ended with them."""
    began, spent = time.perf_counter(), time.process_time() + of_children()
    work()
    return time.perf_counter() - began, time.process_time() + of_children() - spent


def pass_over(network: torch.nn.Module, file: Path) -> None:
    """The network alone."""
    rows = np.load(file, mmap_mode="r")
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            network(torch.from_numpy(np.array(rows[start : start + _AT_ONCE])))


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--hidden", default="500,500,2000")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        file, model = Path(folder) / "rows.npy", Path(folder) / "predictor.safetensors"
        write_rows(file, chosen.rows)
        write_predictor(model, np.array(np.load(file, mmap_mode="r")[:5000]), list(map(int, chosen.hidden.split(","))))
        fitted: Any = load_method(from_bytes(model.read_bytes()).model)
        fitted.encoder_.eval()
        options = {**parameters()["predict"], "model": str(model), "input": str(file)}
        ratios = []
        for turn in range(chosen.pairs):
            bulk = BulkOptions(folder=Path(folder) / str(turn), shard_rows=2**17, workers=chosen.workers)
            alone = timed(lambda: pass_over(fitted.encoder_, file))
            whole = timed(lambda bulk=bulk: predict_in_bulk(options, bulk))
            ratios.append([one / other for one, other in zip(alone, whole, strict=True)])
            speeds = [f"{chosen.rows / seconds:.0f}" for seconds in (*alone, *whole)]
            print("network {} rows/s ({} of its processor time), prediction {} ({})".format(*speeds), flush=True)
    for name, found in zip(("wall", "processor"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: median {statistics.median(found):.3f}, from {min(found):.3f} to {max(found):.3f}")


if __name__ == "__main__":
    main()
