"""Methods of this project beside ClustPy's: processor seconds and ACC on the same rows, one thread each.

    pip install clustpy
    OMP_NUM_THREADS=1 python benchmarks/against_clustpy.py [--seeds 1] [--only DEC "DEC (ClustPy)"]
    OMP_NUM_THREADS=1 python benchmarks/against_clustpy.py --mnist FOLDER

The rows are the embedded digits, or with --mnist the 10,000 test images of the idx files in a folder as 14 x 14 pixels,
scaled to [0, 1]. ClustPy's methods get them flattened and keep their default options; those of this project have the
options of the environment, and "DCAN, small" has two layers of 500 and Ward's partition as its start instead of
convolutions and a t-SNE map. Each seed runs all of them by turns.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from clustpy.deep import AEC, DCN, DEC, IDEC, VaDE
from kedro.config import OmegaConfigLoader
from sklearn.datasets import load_digits

from deep_clustering.data.sources import load_source
from deep_clustering.methods import make_method
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.settings import CONFIG_LOADER_ARGS

N_CLUSTERS = 10


def competitors(images: np.ndarray, env: str) -> dict[str, Callable[[int], np.ndarray]]:
    """For each method what turns a seed into the cluster of each row."""
    conf = OmegaConfigLoader(
        conf_source=str(Path(__file__).parents[1] / "conf"), **{**CONFIG_LOADER_ARGS, "default_run_env": env}
    )
    rows = images.reshape(len(images), -1)

    def ours(name: str, **changes: object) -> Callable[[int], np.ndarray]:
        options = {**conf["parameters"][name], **changes}
        return lambda seed: make_method({**options, "seed": seed}).fit(images).predict(images)

    def theirs(kind: type) -> Callable[[int], np.ndarray]:
        return lambda seed: kind(n_clusters=N_CLUSTERS, random_state=seed, device="cpu").fit(rows).labels_

    # As ClustPy's: fully connected, on the pixels as they are.
    mlp = {"kind": "mlp", "hidden": [500, 500]}
    ward = {"kind": "ward", "hold": 0.25, "max_rows": 10_000}
    return {
        "AEC (ClustPy)": theirs(AEC),
        "ABC": ours("autoencoder"),
        "DEC (ClustPy)": theirs(DEC),
        "DEC": ours("dec"),
        "IDEC (ClustPy)": theirs(IDEC),
        "IDEC": ours("idec"),
        "DCN (ClustPy)": theirs(DCN),
        "DCN": ours("dcn"),
        "VaDE (ClustPy)": theirs(VaDE),
        "VaDE": ours("vade"),
        "DCAN": ours("dcan"),
        "DCAN, small": ours("dcan", start=ward, encoder=mlp, views={**conf["parameters"]["dcan"]["views"], "size": 0}),
        "NMM-EM": ours("neural_mixture"),
    }


def read_rows(mnist: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] and classes."""
    if mnist is None:
        digits = load_digits()
        return (digits.images[:, None] / 16).astype(np.float32), digits.target
    source = {"kind": "mnist", "root": mnist, "protocol": "test", "download": False}
    loaded, _ = load_source({"source": source, "n_rows": 0})
    pixels = loaded.samples.astype(np.float32) / 255
    return pixels.reshape(len(pixels), 1, 14, 2, 14, 2).mean(axis=(3, 5)), loaded.labels


def main() -> None:
    """Print one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="names of the methods; default: all")
    parser.add_argument("--mnist", help="folder of MNIST's idx files")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = read_rows(given.mnist)
    seconds: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        for name, fit in competitors(images, "mnist" if given.mnist else "digits").items():
            if given.only and name not in given.only:
                continue
            start = time.process_time()
            assignments = np.asarray(fit(seed), dtype=np.int64)
            seconds.setdefault(name, []).append(time.process_time() - start)
            table = contingency(assignments, labels.astype(np.int64), N_CLUSTERS, N_CLUSTERS)
            accuracies.setdefault(name, []).append(accuracy(table))
    for name, values in seconds.items():
        listed = " ".join(f"{value:.3f}" for value in accuracies[name])
        print(f"{name:15s} {np.mean(values):7.1f} CPU s   ACC {np.mean(accuracies[name]):.3f} ({listed})")


if __name__ == "__main__":
    main()
