"""What goes wrong with a training of DCAN: when it is believed, what is said of it, and what becomes of a restart."""

import logging
import math
import re

import numpy as np
import pytest
import torch

from deep_clustering.methods import dcan, dcan_training, failures, make_method
from deep_clustering.methods.failures import find_failure
from deep_clustering.training.streams import derived_seed

FINE = {"n_occupied": [4.0] * 5, "view_information": [1.2] * 5, "chance_information": [0.01] * 5}
JUDGED = {
    "discriminator_accuracy_positive": [0.6] * 5,
    "discriminator_accuracy_negative": [0.6] * 5,
    "js_divergence": [0.1] * 5,
}
SURE = {
    "discriminator_accuracy_positive": [0.6, 0.9, 1.0, 0.995, 0.998],
    "discriminator_accuracy_negative": [0.6, 0.9, 0.999, 0.999, 1.0],
    "js_divergence": [0.1, 0.3, 0.69, 0.68, 0.685],
}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (FINE, None),
        (FINE | JUDGED, None),
        (FINE | {"n_occupied": [4, 4, 3, 2, 3]}, "collapse: only 3 of 4 clusters are occupied; try"),
        (FINE | {"n_occupied": [2, 2, 4, 3, 3]}, None),
        (
            FINE | {"view_information": [1.2, 0.5, 0.01, 0.002, 0.004]},
            r"collapse: the clusters of two views of a row share 0.004 nats, no more than by chance \(0.01\); try",
        ),
        (FINE | {"view_information": [0.001, 0.001, 0.001, 0.001, 0.02]}, None),
        (
            FINE | SURE,
            r"overpowers the encoder: accuracy 0.998 on draws and 1.000 on latents, JS 0.685 of at most ln 2",
        ),
        (FINE | SURE | {"js_divergence": [0.69, 0.69, 0.6, 0.69, 0.69]}, None),
        (FINE | SURE | {"discriminator_accuracy_negative": [0.5] * 5}, None),
        ({name: column[:2] for name, column in (FINE | {"n_occupied": [1, 1, 1]}).items()}, None),
    ],
)
def test_a_failure_must_last_and_is_named_with_advice(columns, message):
    found = find_failure(columns, 4, 3)
    if message is None:
        assert found is None
    else:
        assert re.search(message, found)


def fitted(tiny_options, blobs, **changes):
    return make_method(tiny_options("dcan", "vectors", n_clusters=3, latent_dim=3) | changes).fit(blobs)


def fail_from(monkeypatch, epoch: int) -> None:
    def failure(columns, *_):
        return "collapse: something" if len(columns["n_occupied"]) >= epoch else None

    monkeypatch.setattr(failures, "find_failure", failure)


def test_a_failure_ends_a_restart_but_not_the_only_training(tiny_options, blobs, monkeypatch, caplog):
    fail_from(monkeypatch, 2)
    with caplog.at_level(logging.WARNING):
        alone = fitted(tiny_options, blobs, epochs=4)
    assert len(alone.history_["epoch"]) == 4
    assert [record.getMessage() for record in caplog.records] == ["dcan: epoch 2: collapse: something"]
    several = fitted(tiny_options, blobs, epochs=4, restarts=2)
    assert len(several.history_["epoch"]) == 2
    np.testing.assert_array_equal(several.history_["snapshot_epoch"], [0, 1, 2])
    assert several.history_["candidate_scores"].max() < -1


def test_a_restart_that_failed_loses_against_any_other(tiny_options, blobs, monkeypatch):
    fine = fitted(tiny_options, blobs, restarts=2, epochs=4)
    winner = int(np.argmax(fine.history_["candidate_scores"]))
    monkeypatch.setattr(
        dcan_training.GameTraining,
        "has_failed",
        lambda self, history: self._model.seed == derived_seed(0, winner) and history.n_epochs == 3,
    )
    other = fitted(tiny_options, blobs, restarts=2, epochs=4)
    scores = other.history_["candidate_scores"]
    assert scores[winner] < -1 <= scores[1 - winner]
    assert len(other.history_["epoch"]) == 4
    np.testing.assert_array_equal(other.predict(blobs), fine.history_["candidate_assignments"][1 - winner])


def test_a_held_partition_is_no_collapse(tiny_options, blobs, monkeypatch):
    seen = []
    monkeypatch.setattr(failures, "find_failure", lambda columns, *_: seen.append(len(columns["n_occupied"])))
    fitted(tiny_options, blobs, epochs=4, start={"kind": "kmeans", "hold": 0.5, "n_init": 1})
    assert seen == [0, 0, 1, 2]


class Seer(torch.nn.Linear):
    """A discriminator that knows: the first half of what it is shown are draws."""

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        is_draw = torch.arange(len(latent)).unsqueeze(1) < len(latent) / 2
        return torch.where(is_draw, 20.0, -20.0) + 0 * super().forward(latent)


def test_a_discriminator_that_sees_through_the_encoder_is_named_once(tiny_options, blobs, monkeypatch, caplog):
    monkeypatch.setattr(dcan, "discriminator", lambda latent_dim, _, n_outputs, __: Seer(latent_dim, n_outputs))
    with caplog.at_level(logging.WARNING):
        history = fitted(tiny_options, blobs, epochs=6, patience=4).history_
    (record,) = caplog.records
    assert re.match(
        r"dcan: epoch 4: the discriminator overpowers the encoder: accuracy 1.000 .*, JS 0.693", record.message
    )
    np.testing.assert_allclose(history["js_divergence"], math.log(2), rtol=1e-6)


# Whitening and views


def test_a_singular_covariance_is_named_once_with_the_size_of_its_correction(tiny_options, blobs, caplog):
    with caplog.at_level(logging.WARNING):
        estimator = fitted(tiny_options, blobs, latent_dim=150, batch_size=32, whitening_epsilon=0.0, patience=100)
    messages = [record.getMessage() for record in caplog.records if "singular" in record.getMessage()]
    assert len(messages) == 1
    assert "dcan: the covariance of the codes was singular in epoch 1; 0.01 of the mean variance was" in messages[0]
    assert np.isfinite(estimator.transform(blobs)).all()


@pytest.mark.parametrize("first_bad", [0, 1])
def test_views_that_are_not_finite_are_named(tiny_options, blobs, monkeypatch, first_bad):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3))
    calls, pair = [], type(estimator.view).pair

    def spoiled(self, *args):
        views = pair(self, *args)
        calls.append(1)
        if len(calls) > first_bad:
            views[3, 1] = torch.nan
        return views

    monkeypatch.setattr(type(estimator.view), "pair", spoiled)
    message = rf"dcan: the views hold NaN or infinity \(epoch {first_bad}\); look at the options of views \(noise\)"
    with pytest.raises(FloatingPointError, match=message):
        estimator.fit(blobs)
