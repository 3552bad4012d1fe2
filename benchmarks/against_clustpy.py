"""Methods of this project beside ClustPy's: processor seconds and ACC on the same rows, one thread each.

    pip install clustpy
    OMP_NUM_THREADS=1 python benchmarks/against_clustpy.py [--seeds 1] [--only DEC "DEC (ClustPy)"]
    OMP_NUM_THREADS=1 python benchmarks/against_clustpy.py --mnist FOLDER
    OMP_NUM_THREADS=1 python benchmarks/against_clustpy.py --env reuters10k --features FILE --labels FILE

The rows are the embedded digits, or with --mnist the 10,000 test images of the idx files in a folder as 14 x 14 pixels,
scaled to [0, 1], or what a run or a sweep of an environment left as features (.npy or .npz) and labels (.npy).
ClustPy's methods get them flattened, dense and in the unit that the environment has for autoencoders, and keep their
default options; those of this project have the options of the environment, near rows are found in their time, and
"DCAN, small" has two layers of 500 and Ward's partition as its start instead of convolutions and a t-SNE map. "DEC,
plain" and the like do without normalisation, as ClustPy's do, and without views; the pull of "DCN, plain" is .1 of the
squared error of a row of 200 values, about that of ClustPy, where the mean over values is what it is weighed against
here. Each seed runs all of them by turns; a line is printed as each ends.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clustpy.deep import AEC, DCN, DEC, IDEC, VaDE
from kedro.config import OmegaConfigLoader
from scipy import sparse
from sklearn.datasets import load_digits

from deep_clustering.data.neighbours import find_neighbours
from deep_clustering.data.sources import load_source
from deep_clustering.methods import make_method
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.settings import CONFIG_LOADER_ARGS


def settings(env: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and globals of an environment."""
    args = {**CONFIG_LOADER_ARGS, "default_run_env": env}
    conf = OmegaConfigLoader(conf_source=str(Path(__file__).parents[1] / "conf"), **args)
    return conf["parameters"], conf["globals"]


def competitors(rows: np.ndarray | sparse.csr_matrix, env: str) -> dict[str, Callable[[int], np.ndarray]]:
    """For each method what turns a seed into the cluster of each row."""
    parameters, shared = settings(env)
    dense = rows.reshape(len(rows), -1) if isinstance(rows, np.ndarray) else rows.toarray()
    if shared["row_unit"] == "root_mean_square":
        dense = (dense / np.sqrt(np.square(dense, dtype=np.float64).mean())).astype(np.float32)

    def ours(name: str, **changes: object) -> Callable[[int], np.ndarray]:
        options = {**parameters[name], **changes}

        def fit(seed: int) -> np.ndarray:
            by_neighbours = options["views"]["kind"] == "neighbours"
            near = find_neighbours(rows, parameters["neighbours"]).table if by_neighbours else None
            return make_method({**options, "seed": seed}).fit(rows, near).predict(rows)

        return fit

    def theirs(kind: type) -> Callable[[int], np.ndarray]:
        n_clusters = shared["n_clusters"]
        return lambda seed: kind(n_clusters=n_clusters, random_state=seed, device="cpu").fit(dense).labels_

    # As ClustPy's: fully connected, on the pixels as they are.
    mlp = {"kind": "mlp", "hidden": [500, 500]}
    ward = {"kind": "ward", "hold": 0.25, "max_rows": 10_000}
    plain = {
        "encoder": {"kind": "plain_mlp", "hidden": [256, 256]},
        "views": {"kind": "same"},
        "epochs": 100,
        "pretraining": 0.5,
    }
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
        "DCAN, small": ours("dcan", start=ward, encoder=mlp, views={**parameters["dcan"]["views"], "size": 0}),
        "NMM-EM": ours("neural_mixture"),
        "DEC, plain": ours("dec", **plain),
        "IDEC, plain": ours("idec", **plain),
        "DCN, plain": ours("dcn", **plain, pull=0.0005),
        "VaDE, plain": ours("vade", **plain),
    }


def read_mnist(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """The test images at half their size in [0, 1], and classes."""
    source = {"kind": "mnist", "root": folder, "protocol": "test", "download": False}
    loaded, _ = load_source({"source": source, "n_rows": 0})
    pixels = loaded.samples.astype(np.float32) / 255
    return pixels.reshape(len(pixels), 1, 14, 2, 14, 2).mean(axis=(3, 5)), loaded.labels


def read_features(features: str, labels: str) -> tuple[np.ndarray | sparse.csr_matrix, np.ndarray]:
    """Rows that a run left, dense or sparse, and classes."""
    rows = sparse.load_npz(features).tocsr() if features.endswith(".npz") else np.load(features)
    return rows, np.load(labels)


def main() -> None:
    """Print one line for each fit, and one for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="names of the methods; default: all")
    parser.add_argument("--mnist", help="folder of MNIST's idx files")
    parser.add_argument("--env", help="environment in conf/ that --features are of")
    parser.add_argument("--features", help="rows that a run left, .npy or .npz")
    parser.add_argument("--labels", help="their classes, .npy")
    given = parser.parse_args()
    if len({given.env is None, given.features is None, given.labels is None}) > 1:
        parser.error("--env, --features and --labels go together")
    torch.set_num_threads(1)
    if given.features is not None:
        env, (rows, labels) = given.env, read_features(given.features, given.labels)
    elif given.mnist is not None:
        env, (rows, labels) = "mnist", read_mnist(given.mnist)
    else:
        digits = load_digits()
        env, rows, labels = "digits", (digits.images[:, None] / 16).astype(np.float32), digits.target
    n_classes = len(np.unique(labels))
    seconds: dict[str, list[float]] = {}
    accuracies: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        for name, fit in competitors(rows, env).items():
            if given.only and name not in given.only:
                continue
            start = time.process_time()
            assignments = np.asarray(fit(seed), dtype=np.int64)
            seconds.setdefault(name, []).append(time.process_time() - start)
            table = contingency(assignments, labels.astype(np.int64), int(assignments.max()) + 1, n_classes)
            accuracies.setdefault(name, []).append(accuracy(table))
            print(f"{name}, seed {seed}: {seconds[name][-1]:.1f} CPU s, ACC {accuracies[name][-1]:.3f}", flush=True)
    for name, values in seconds.items():
        listed = " ".join(f"{value:.3f}" for value in accuracies[name])
        print(f"{name:15s} {np.mean(values):7.1f} CPU s   ACC {np.mean(accuracies[name]):.3f} ({listed})")


if __name__ == "__main__":
    main()
