"""Heads of the kinds of TEMI and TURTLE on given features: what NMM-EM's linear heads are compared with.

    OMP_NUM_THREADS=1 python benchmarks/feature_heads.py FEATURES.npy LABELS.npy NEIGHBOURS.npy [--seeds 5]

The three files are what `kedro run --pipelines=prepare` leaves for the environment: rows, classes, and the neighbours
of each row. Every head is linear, as NMM-EM's is in `conf/cifar10_mobilenet`, and sees the same rows and pairs; labels
are for the printed scores. The originals have more: other backbones, two of them at a time in TURTLE, layers of their
own, longer schedules. So these rows say what the objectives do here, and nothing about published figures.

    TEMI    Adaloglou et al., "Exploring the limits of deep image clustering using pretrained models", BMVC 2023,
            arXiv 2303.17896: student and averaged teacher, pointwise mutual information of a row and a neighbour,
            pairs weighted by the agreement of all teachers; of the heads the one of least loss is kept
    TURTLE  Gadetsky et al., "Let go of your labels with unsupervised transfer", ICML 2024, arXiv 2406.07236: labels
            such that a linear classifier that is trained on them by a few steps fits them, with an entropy term
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from kedro.config import OmegaConfigLoader
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods import make_method
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[1] / "conf"
BATCH = 512
Fit = Callable[[int], np.ndarray]


def temi(
    rows: Tensor,
    neighbours: Tensor,
    n_clusters: int,
    seed: int,
    *,
    n_heads: int = 20,
    epochs: int = 100,
    beta: float = 0.6,
    momentum: float = 0.996,
    temperature: float = 0.1,
    learning_rate: float = 1e-2,
) -> np.ndarray:
    """Cluster of each row by the TEMI-type head of least loss, shape (n,), int64."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.empty(rows.shape[1], n_heads * n_clusters).normal_(0, 0.02, generator=generator).requires_grad_()
    teacher = student.detach().clone()
    optimiser = torch.optim.AdamW([student], lr=learning_rate)
    shares = torch.full((n_heads, n_clusters), 1 / n_clusters)

    def log_probabilities(batch: Tensor, weights: Tensor) -> Tensor:
        return torch.log_softmax((batch @ weights).view(-1, n_heads, n_clusters) / temperature, dim=2)

    for _ in range(epochs):
        losses = torch.zeros(n_heads)
        for index in torch.randperm(len(rows), generator=generator).split(BATCH):
            drawn = torch.randint(neighbours.shape[1], (len(index),), generator=generator)
            pair = rows[index], rows[neighbours[index, drawn]]
            own = [log_probabilities(view, student) for view in pair]
            with torch.no_grad():
                taught = [log_probabilities(view, teacher) for view in pair]
                weight = (taught[0] + taught[1]).exp().sum(dim=2).mean(dim=1, keepdim=True)
                shares = momentum * shares + (1 - momentum) * torch.cat(taught).exp().mean(dim=0)
            information = [
                torch.logsumexp(beta * (own[side] + taught[1 - side]) - shares.log(), dim=2) for side in (0, 1)
            ]
            loss = -(weight * torch.stack(information).mean(dim=0)).mean(dim=0)
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
            teacher.lerp_(student.detach(), 1 - momentum)
            losses += loss.detach()
    return log_probabilities(rows, teacher)[:, losses.argmin()].argmax(dim=1).numpy()


def turtle(
    rows: Tensor,
    n_clusters: int,
    seed: int,
    *,
    n_steps: int = 1000,
    n_inner: int = 10,
    entropy_weight: float = 10.0,
    learning_rate: float = 1e-3,
    batch: int = 1024,
) -> np.ndarray:
    """Cluster of each row by TURTLE-type labels, shape (n,), int64."""
    generator = torch.Generator().manual_seed(seed)
    rows = rows * rows.shape[1] ** 0.5  # values of the order of one, for the small steps
    shape = (rows.shape[1], n_clusters)
    direction = torch.empty(shape).normal_(0, 1, generator=generator).requires_grad_()
    classifier = torch.zeros(shape, requires_grad=True)
    inner, outer = (torch.optim.Adam([weights], lr=learning_rate) for weights in (classifier, direction))
    for _ in range(n_steps):
        part = rows[torch.randint(len(rows), (batch,), generator=generator)]
        labels = torch.softmax(part @ F.normalize(direction, dim=0), dim=1)
        for _ in range(n_inner):
            inner.zero_grad()
            F.cross_entropy(part @ classifier, labels.detach()).backward()
            inner.step()
        entropy = torch.special.entr(labels.mean(dim=0)).sum()
        outer.zero_grad()
        (F.cross_entropy(part @ classifier.detach(), labels) - entropy_weight * entropy).backward()
        outer.step()
    return (rows @ F.normalize(direction.detach(), dim=0)).argmax(dim=1).numpy()


def competitors(rows: np.ndarray, neighbours: np.ndarray) -> dict[str, Fit]:
    """For each method what turns a seed into the cluster of each row."""
    conf = OmegaConfigLoader(conf_source=str(CONF), **{**CONFIG_LOADER_ARGS, "default_run_env": "cifar10_mobilenet"})[
        "parameters"
    ]
    n_clusters = conf["neural_mixture"]["n_clusters"]
    tensor, table = torch.from_numpy(rows), torch.from_numpy(neighbours.astype(np.int64))

    def ours(name: str) -> Fit:
        return lambda seed: make_method({**conf[name], "seed": seed}).fit(rows, neighbours).predict(rows)

    return {
        "k-means": lambda seed: make_method({**conf["kmeans"], "seed": seed}).fit(rows).predict(rows),
        "NMM-EM": ours("neural_mixture"),
        "TEMI-type": lambda seed: temi(tensor, table, n_clusters, seed),
        "TURTLE-type": lambda seed: turtle(tensor, n_clusters, seed),
    }


def main() -> None:
    """Print one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("features", "labels", "neighbours"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="methods; default: all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows, labels, neighbours = (np.load(getattr(given, name)) for name in ("features", "labels", "neighbours"))
    labels = labels.astype(np.int64)
    for name, fit in competitors(rows.astype(np.float32), neighbours).items():
        if given.only and name not in given.only:
            continue
        began, scores = time.process_time(), []
        for seed in range(given.seeds):
            assignments = np.asarray(fit(seed), dtype=np.int64)
            table = contingency(assignments, labels, int(assignments.max()) + 1, int(labels.max()) + 1)
            scores.append(accuracy(table))
        seconds = (time.process_time() - began) / given.seeds
        listed = " ".join(f"{score:.3f}" for score in scores)
        print(f"{name:12s} ACC {np.mean(scores):.3f} ({listed})   {seconds:6.1f} CPU s each", flush=True)


if __name__ == "__main__":
    main()
