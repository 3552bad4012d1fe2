"""The best of several trainings: by its score, which must be a number, in one precision, and resumed."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from deep_clustering.methods.dec import DEC
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.history import History
from deep_clustering.training.restarts import Trained, best_of_restarts

NAN = float("nan")


@dataclass(kw_only=True)
class Told(DEC):
    """A method whose fit finds something before it trains, and whose trainings need it."""

    def fit(self, *rows):
        self.found_ = len(rows[0])
        return super().fit(*rows)

    def training(self, data):
        assert self.found_ == len(data.rows)
        return super().training(data)


def trained(restart: int, score: float) -> Trained:
    """A training that is told apart by its number: in its arrays, its only snapshot and its final figure."""
    history = History("any")
    history.snapshot(1, torch.tensor([restart, restart, 9]))
    history.final(number=torch.tensor(restart))
    return Trained({"weights": np.full(3, restart)}, history, score)


def best_of(scores: list[float], checkpoints: Checkpoints | None = None, precision: str = "fp32") -> Trained:
    return best_of_restarts(
        lambda restart, _, __: trained(restart, scores[restart]),
        len(scores),
        "any",
        lambda: precision,
        checkpoints,
        {"method": "any"},
    )


def checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(folder)), "any")


@pytest.mark.parametrize(
    ("scores", "winner"),
    [
        ([0.1, 0.3, 0.2], 1),
        ([-5.0, -7.0], 0),
        ([NAN, 0.2, 0.1], 1),
        ([0.1, NAN, 0.2], 2),
        ([0.3, NAN], 0),
        ([math.inf, 0.1], 1),
        ([0.1, math.inf, NAN], 0),
        ([-math.inf, -1.0], 1),
    ],
)
def test_the_greatest_score_that_is_a_number_wins(scores, winner):
    best = best_of(scores)
    assert best.score == scores[winner]
    np.testing.assert_array_equal(best.arrays["weights"], [winner] * 3)
    history = best.history.arrays()
    np.testing.assert_array_equal(history["snapshot_assignments"], [[winner, winner, 9]])
    assert history["final_number"] == winner
    np.testing.assert_array_equal(history["candidate_assignments"], [[k, k, 9] for k in range(len(scores))])
    expected = [score if math.isfinite(score) else -math.inf for score in scores]
    np.testing.assert_allclose(history["candidate_scores"], expected)
    assert history["candidate_scores"].argmax() == winner


@pytest.mark.parametrize("scores", [[NAN, NAN], [NAN, -math.inf, math.inf]])
def test_without_a_score_that_is_a_number_there_is_no_best(scores):
    with pytest.raises(FloatingPointError, match=f"^any: none of {len(scores)} restarts has a score that is a number"):
        best_of(scores)


@pytest.mark.parametrize("stopped_before", [0, 1, 2])
def test_finished_restarts_are_not_trained_again_and_the_precision_is_not_decided_again(tmp_path, stopped_before):
    scores, seen = [0.5, NAN, 0.2], []

    def train(restart: int, precision: str, part: Checkpoints) -> Trained:
        seen.append((restart, precision))
        if restart == stopped_before and len(seen) == stopped_before + 1:
            raise KeyboardInterrupt
        return trained(restart, scores[restart])

    def decide() -> str:
        decided.append("bf16" if not decided else "fp32")
        return decided[-1]

    decided: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        best_of_restarts(train, 3, "any", decide, checkpoints(tmp_path), {"method": "any"})
    best = best_of_restarts(train, 3, "any", decide, checkpoints(tmp_path), {"method": "any"})
    assert seen == [(k, "bf16") for k in [*range(stopped_before + 1), *range(stopped_before, 3)]]
    assert decided == ["bf16"]
    unbroken = best_of(scores).history.arrays()
    for name, array in best.history.arrays().items():
        np.testing.assert_array_equal(array, unbroken[name], err_msg=name)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_each_restart_has_what_the_fit_found_before(tiny_options, blobs):
    options = tiny_options("dec", "vectors", n_clusters=3, epochs=1, restarts=2)
    del options["method"]
    assert Told(**options).fit(blobs).predict(blobs).shape == (120,)
