"""Kingdra: its sets and labels against a restatement by pairs, its loss, and what the labels of a training are."""

import numpy as np
import pytest
import torch

from deep_clustering.methods import make_method
from deep_clustering.methods.kingdra import agreed_sets, label_sets, supervised_loss
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data


def sets_by_pairs(codes: np.ndarray, certain: np.ndarray, most_shared: int, n_sets: int) -> list[list[int]]:
    """Equations (4) and (5) over all pairs of rows."""
    n_rows, members = codes.shape
    agreement = (codes[:, None] == codes[None]).sum(axis=2)
    candidates, found = set(np.flatnonzero(certain)), []
    while candidates and len(found) < n_sets:
        together = {i: [j for j in sorted(candidates) if agreement[i, j] == members] for i in candidates}
        largest = max(len(rows) for rows in together.values())
        ties = [rows for rows in together.values() if len(rows) == largest]
        rows = min(ties, key=lambda rows: tuple(codes[rows[0]]))  # of equal sets that of the least clusters
        found.append(rows)
        candidates -= {j for j in range(n_rows) if agreement[rows[0], j] > most_shared}
    return found


@pytest.mark.parametrize("most_shared", [0, 1, 2])
def test_sets_are_those_of_the_pairs(most_shared):
    rng = np.random.default_rng(0)
    groups = rng.integers(4, size=80)
    codes = np.where(rng.random((80, 3)) < 0.8, groups[:, None], rng.integers(4, size=(80, 3)))
    certain = rng.random(80) < 0.7
    found = agreed_sets(codes, certain, most_shared, 4)
    assert [rows.tolist() for rows in found] == sets_by_pairs(codes, certain, most_shared, 4)


def test_no_certain_row_makes_no_set():
    assert agreed_sets(np.zeros((5, 2), dtype=int), np.zeros(5, dtype=bool), 0, 3) == []


def test_sets_have_the_numbers_of_the_clusters_that_share_most_rows_one_to_one():
    sets = [np.array([0, 1, 2]), np.array([4, 5]), np.array([7])]
    clusters = np.array([2, 2, 0, 0, 2, 2, 1, 2])
    # Cluster 2 has two rows of each of the first two sets; the first shares one with cluster 0 as well, and takes that.
    np.testing.assert_array_equal(label_sets(sets, clusters), [0, 0, 0, -1, 2, 2, -1, 1])


def test_labels_are_weighted_by_the_size_of_their_set():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=6)
    labels, weights = np.array([0, 0, 1, -1, 2, -1]), np.array([1 / 2, 1 / 2, 1 / 5, 0, 1, 0])
    expected = sum(-w * np.log(p[i, b]) for i, (b, w) in enumerate(zip(labels, weights, strict=True)) if b >= 0) / 2.2
    arguments = [torch.from_numpy(one) for one in (np.log(p), labels, weights)]
    np.testing.assert_allclose(supervised_loss(*arguments), expected, rtol=1e-9)
    assert float(supervised_loss(*arguments[:2], torch.zeros(6))) == 0


def test_a_training_labels_at_the_end_of_a_round_and_keeps_labels_where_too_few_sets_are_found(tiny_options, blobs):
    model = make_method(tiny_options("kingdra", "vectors", n_clusters=3, members=2, round_epochs=2, certainty=0.0))
    model.device_ = torch.device("cpu")
    model.build(blobs.shape[1:])
    training = model.training(make_data(model, blobs, None))
    where = torch.from_numpy((blobs @ np.random.default_rng(0).normal(size=blobs.shape[1])).astype(np.float32))
    ranks = where.argsort().argsort() * 3 // len(where)
    training.networks = {"encoder": _Told(ranks), "member_1": _Told((ranks + 1) % 3)}
    training.stage(1, None)
    assert (training.tensors()["labels"] == -1).all()
    training.stage(2, None)
    np.testing.assert_array_equal(training.tensors()["labels"], ranks)
    np.testing.assert_allclose(training.tensors()["label_weights"], 1 / ranks.bincount()[ranks], rtol=1e-6)
    training.networks = {"encoder": _Told(ranks * 0), "member_1": _Told(ranks * 0)}
    training.stage(4, None)
    np.testing.assert_array_equal(training.tensors()["labels"], ranks)


class _Told(torch.nn.Module):
    """A network that puts all rows, in order, into clusters that it is told."""

    def __init__(self, clusters: torch.Tensor) -> None:
        super().__init__()
        self.clusters = clusters

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        assert len(rows) == len(self.clusters)
        return torch.nn.functional.one_hot(self.clusters, 3).float()


def test_the_ensemble_predicts_by_the_mean_of_its_members(tiny_options, blobs):
    model = make_method(tiny_options("kingdra", "vectors", n_clusters=3, members=3)).fit(blobs)
    rows = torch.from_numpy(blobs.copy())
    with torch.no_grad():
        p = torch.stack([torch.softmax(network(rows), dim=1) for network in model.networks_.values()])
    assert len(p) == 3
    np.testing.assert_allclose(model.predict_proba(blobs), p.mean(dim=0), atol=1e-6)


def test_well_separated_groups_are_found(tiny_options, blobs, blob_labels):
    options = tiny_options("kingdra", "vectors", n_clusters=3, epochs=20, batch_size=20, learning_rate=0.01)
    found = make_method(options | {"round_epochs": 5, "certainty": 0.5}).fit(blobs).predict(blobs)
    assert accuracy(contingency(found, blob_labels, 3, 3)) == 1
