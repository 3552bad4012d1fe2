"""DCAN and NMM-EM beside ClustPy's DEC and DCN: processor seconds and ACC on the same rows, one thread each.

    pip install clustpy
    OMP_NUM_THREADS=1 python benchmarks/against_clustpy.py [number of seeds]

The rows are the embedded digits, scaled to [0, 1]; DEC and DCN get them flattened and keep their default options, the
methods of this project have the options of conf/base. Each seed runs all four by turns.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from clustpy.deep import DCN, DEC
from kedro.config import OmegaConfigLoader
from sklearn.datasets import load_digits

from deep_clustering.methods import make_method
from deep_clustering.metrics import accuracy, contingency
from deep_clustering.settings import CONFIG_LOADER_ARGS

N_CLUSTERS = 10


def competitors(images: np.ndarray) -> dict[str, Callable[[int], np.ndarray]]:
    """For each method what turns a seed into the cluster of each row."""
    conf = OmegaConfigLoader(
        conf_source=str(Path(__file__).parents[1] / "conf"), **{**CONFIG_LOADER_ARGS, "default_run_env": "digits"}
    )
    rows = images.reshape(len(images), -1)

    def ours(name: str, **changes: object) -> Callable[[int], np.ndarray]:
        options = {**conf["parameters"][name], **changes}
        return lambda seed: make_method({**options, "seed": seed}).fit(images).predict(images)

    def theirs(kind: type) -> Callable[[int], np.ndarray]:
        return lambda seed: kind(n_clusters=N_CLUSTERS, random_state=seed, device="cpu").fit(rows).labels_

    return {
        "DEC (ClustPy)": theirs(DEC),
        "DCN (ClustPy)": theirs(DCN),
        "DCAN": ours("dcan"),
        "DCAN, one training": ours("dcan", restarts=1),
        "NMM-EM": ours("neural_mixture"),
    }


def main() -> None:
    """Print one line for each method."""
    torch.set_num_threads(1)
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    seconds: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    for seed in range(n_seeds):
        for name, fit in competitors(images).items():
            start = time.process_time()
            assignments = np.asarray(fit(seed), dtype=np.int64)
            seconds.setdefault(name, []).append(time.process_time() - start)
            table = contingency(assignments, digits.target.astype(np.int64), N_CLUSTERS, N_CLUSTERS)
            accuracies.setdefault(name, []).append(accuracy(table))
    for name, values in seconds.items():
        listed = " ".join(f"{value:.3f}" for value in accuracies[name])
        print(f"{name:20s} {np.mean(values):7.1f} CPU s   ACC {np.mean(accuracies[name]):.3f} ({listed})")


if __name__ == "__main__":
    main()
