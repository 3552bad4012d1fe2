"""A trunk by itself, and NMM-EM that begins with one and with the clusters that heads found on it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from deep_clustering.data.features import scale_samples
from deep_clustering.data.preparation import Preparation, embed_rows, open_preparation
from deep_clustering.methods import make_method
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.methods.partitions import most_certain
from deep_clustering.methods.starts import Given, GivenStart, held_epochs
from deep_clustering.methods.trunk import Trunk, make_trunk, trunk_options
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.views.image import Affine

ENCODER = {"kind": "conv", "channels": [4], "hidden": [8]}
START = {"kind": "given", "core": 0.5, "hold": 1.0, "renew": 0.0, "renewed_core": 0.5}
RENEWED = START | {"hold": 0.25, "renew": 0.5, "renewed_core": 0.9}


@pytest.fixture
def options(parameters) -> dict[str, Any]:
    """Options of a small trunk."""
    views = parameters["trunk"]["views"] | {"size": 8}
    return parameters["trunk"] | {"views": views, "encoder": ENCODER, "epochs": 4, "batch_size": 50, "device": "cpu"}


@pytest.fixture
def trunk(options, digits) -> Trunk:
    return make_trunk(options).fit(digits)


@pytest.fixture
def self_labelling(tiny_options, options) -> Callable[..., Any]:
    """Function of changes that makes NMM-EM which begins with a trunk."""

    def make(**changes: Any) -> Any:
        own = {"encoder": ENCODER, "views": options["views"], "start": START, "batch_size": 50, "n_clusters": 10}
        return make_method(tiny_options("neural_mixture", **own | changes))

    return make


def test_a_trunk_learns_and_embeds_rows_one_by_one_as_together(trunk, digits):
    losses = trunk.history_["representation_loss"]
    assert losses[-1] < losses[0]
    rows = trunk.embed(digits)
    assert rows.shape == (200, 8)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(trunk.embed(digits[3:4]), rows[3:4], atol=1e-5)


def test_a_trunk_learns_from_several_views_of_a_row(options, digits):
    loss = {"kind": "coding_rate", "weight": 1.0, "projection": [16, 8], "invariance": 20.0, "distortion": 0.2}
    trunk = make_trunk(options | {"n_views": 5, "representation": loss}).fit(digits)
    losses = trunk.history_["representation_loss"]
    assert losses[-1] < losses[0]
    assert trunk.embed(digits).shape == (200, 8)


def test_a_row_may_be_embedded_by_the_mean_of_its_parts(options, digits):
    photo = {"kind": "photo", "size": 8, "crop": 0.5, "flip": 0.5, "brightness": 0.1, "contrast": 0.1}
    photo |= {"saturation": 0.0, "hue": 0.0, "greyscale": 0.0}
    trunk = make_trunk(options | {"views": photo, "embedding": "parts", "epochs": 1}).fit(digits)
    rows = trunk.embed(digits)
    with torch.inference_mode():
        expected = sum(trunk.trunk_.eval()(part) for part in trunk.view.parts(torch.tensor(digits))) / 9
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    np.testing.assert_allclose(trunk.embed(digits[3:4]), rows[3:4], atol=1e-5)


def test_a_trunk_is_made_again_from_its_options_and_arrays(trunk, digits):
    again = make_trunk(trunk_options(trunk)).set_arrays(trunk.get_arrays())
    np.testing.assert_array_equal(again.embed(digits), trunk.embed(digits))
    assert all(name == "row_shape" or name.startswith("trunk.") for name in trunk.get_arrays())  # and no projector


def test_a_killed_trunk_goes_on_where_it_was(options, digits, tmp_path, monkeypatch):
    whole = make_trunk(options).fit(digits)
    kept = [Checkpoints(CheckpointOptions(every=2, resume=resume, folder=str(tmp_path)), "trunk") for resume in (0, 1)]
    with monkeypatch.context() as patch:
        patch.setattr(
            "deep_clustering.methods.trunk._Training.close_epoch", lambda _, epoch: {} if epoch < 3 else 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            make_trunk(options).fit(digits, kept[0])
    np.testing.assert_array_equal(make_trunk(options).fit(digits, kept[1]).embed(digits), whole.embed(digits))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"representation": {"kind": "none"}}, "a trunk learns nothing without a loss, got kind none"),
        ({"epochs": 0}, "epochs"),
        ({"n_views": 1}, "n_views must be at least 2, got 1"),
        ({"embedding": "parts"}, "parts needs views that crop, of kind photo, got kind affine"),
        ({"batch": 3}, r"trunk: unknown option 'batch'"),
    ],
)
def test_wrong_options_of_a_trunk_are_refused(options, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trunk(options | changes)


def test_a_weight_of_zero_is_no_loss(options):
    with pytest.raises(ValueError, match="got kind infonce of weight 0"):
        make_trunk(options | {"representation": options["representation"] | {"weight": 0.0}})


def test_the_preparation_of_a_trunk_makes_the_same_rows_of_raw_samples(trunk, digits):
    samples = (digits * 255).round().astype(np.uint8)
    split = np.full(len(samples), 3, dtype=np.uint8)
    split[150:] = 2
    features = {"scaling": "range", "postprocess": "none", "backbone": None, "beside_gradients": False, "weights": ""}
    features |= {"size": 8, "layer": "", "batch_size": 1, "precision": "fp32", "device": "cpu", "cache": ""}
    former = Preparation(
        data_set="digits",
        data_sha256="",
        row_shape=samples.shape[1:],
        dtype="uint8",
        is_sparse=False,
        value_range=(0.0, 255.0),
        fit="crop",
        options=features,
        weights_sha256=None,
        terms=(),
        arrays={},
        reads_texts=False,
    )
    rows, preparation = embed_rows(
        scale_samples(samples, (0, 255), "range"), split, former, trunk_options(trunk), trunk.get_arrays()
    )
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    again = Preparation.from_plain(preparation.to_plain(), preparation.arrays)
    np.testing.assert_allclose(open_preparation(again)(samples[:7]), rows[:7], atol=1e-5)
    centred = trunk.embed(scale_samples(samples, (0, 255), "range"))
    centred = centred - centred[:150].mean(axis=0)
    np.testing.assert_allclose(rows, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(ValueError, match="postprocessed behind it, got postprocess 'centre_l2'"):
        embed_rows(rows, split, preparation, {}, {})


def test_the_most_certain_rows_of_each_cluster_are_chosen():
    partition = np.array([0, 0, 0, 0, 1, 1, 2])
    certainty = np.array([1.0, 4.0, 2.0, 3.0, 9.0, 8.0, -5.0])
    assert most_certain(partition, certainty, 0.5).tolist() == [-1, 0, -1, 0, 1, -1, 2]
    assert most_certain(partition, certainty, 1.0).tolist() == partition.tolist()


def test_a_mixture_begins_with_the_trunk_and_learns_what_is_given(trunk, self_labelling, digits, digit_labels):
    known = most_certain(digit_labels, np.random.default_rng(0).random(200), 0.5)
    before = self_labelling(epochs=1, learning_rate=0.0).fit(digits, given=Given(known, trunk.get_arrays()))
    found = before.get_arrays()
    for name, array in trunk.get_arrays().items():
        if name.startswith("trunk.") and not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            np.testing.assert_array_equal(found[name.replace("trunk.", "encoder.")], array)
    given = Given(known, trunk.get_arrays())
    learned = self_labelling(epochs=30, learning_rate=1e-2, restarts=2).fit(digits, given=given).predict(digits)
    assert (learned == known)[known >= 0].mean() > 0.9  # the numbers of the clusters are those that were given
    assert (learned == digit_labels)[known < 0].mean() > 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "begins with a partition of its own, got nothing"),
        (Given(np.zeros(7, dtype=np.int64), {}), r"clusters below 10 of 200 rows, got 0 at most and shape \(7,\)"),
        (Given(np.full(200, 10), {}), "clusters below 10 of 200 rows, got 10 at most"),
        (Given(np.zeros(200, dtype=np.int64), {}), "trunk: the saved weights do not fit the network"),
    ],
)
def test_what_is_given_must_fit(self_labelling, digits, given, message):
    with pytest.raises(ValueError, match=message):
        self_labelling().fit(digits, given=given)


def test_a_start_of_another_kind_takes_nothing(self_labelling, digits):
    given = Given(np.zeros(200, dtype=np.int64), {})
    with pytest.raises(ValueError, match="kind given, and no other, begins with a partition of its own"):
        self_labelling(start={"kind": "none"}).fit(digits, given=given)
    with pytest.raises(ValueError, match="a range needs another start"):
        self_labelling(n_clusters={"min": 2, "max": 4})


def test_what_is_held_is_found_then_renewed_for_a_growing_share_then_free():
    start = GivenStart(core=0.5, hold=0.25, renew=0.5, renewed_core=0.9)
    shares = [start.core_of_epoch(epoch, 8) for epoch in range(8)]
    assert shares == [
        None,
        None,
        pytest.approx(0.6),
        pytest.approx(0.7),
        pytest.approx(0.8),
        pytest.approx(0.9),
        None,
        None,
    ]
    assert held_epochs(start, 8) == 6
    as_found = GivenStart(core=0.5, hold=0.75, renew=0.0, renewed_core=0.5)
    assert [as_found.core_of_epoch(epoch, 8) for epoch in range(8)] == [None] * 8
    assert held_epochs(as_found, 8) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hold": 0.5, "renew": 0.6}, r"hold and renew are shares of the same epochs, got 0.5 and 0.6"),
        (
            {"core": 0.95, "renewed_core": 0.9},
            "core must be at most renewed_core, the share that it grows to, got core = 0.95 and renewed_core = 0.9",
        ),
        ({"hold": 0.0, "renew": 0.5}, "hold must be above 0 where renew is: .* got hold = 0.0 and renew = 0.5"),
        ({"renew": True}, "'renew' got True: expected float, at least 0 and at most 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(self_labelling, changes, message):
    with pytest.raises(ValueError, match=message):
        self_labelling(start=RENEWED | changes)


@pytest.mark.parametrize(("epochs", "is_said"), [(1, True), (4, False)])
def test_a_share_of_few_epochs_that_is_none_is_said(trunk, self_labelling, digits, caplog, epochs, is_said):
    given = Given(np.arange(200) % 10, trunk.get_arrays())
    self_labelling(start=RENEWED, epochs=epochs).fit(digits, given=given)
    said = "start.renew: 0.5 of 1 epochs is none, so nothing is renewed; raise epochs, or set renew to 0"
    assert (said in caplog.text) == is_said


def test_renewed_clusters_are_those_of_the_densities_of_rows_without_views(
    trunk, self_labelling, digits, digit_labels, monkeypatch
):
    seen, stage = {}, MixtureTraining.stage

    def watched(training: Any, epoch: int, held: torch.Tensor | None) -> int:
        number = stage(training, epoch, held)
        if epoch in (2, 5):
            encoder, model = training.networks["encoder"].eval(), training._model
            with torch.no_grad():
                scores = encoder(model.view.plain(torch.tensor(digits))).double()
            density = scores - torch.log(torch.exp(scores).mean(dim=0))
            joint = (density + model.log_mixing_weights_[0]).numpy()
            seen[epoch] = held.clone().numpy()[:, 0], joint
        return number

    monkeypatch.setattr(MixtureTraining, "stage", watched)
    known = most_certain(digit_labels, np.random.default_rng(0).random(200), 0.5)
    before = known.copy()
    model = self_labelling(epochs=8, start=RENEWED, precision="fp32", heads=1, mixing="learned")
    model.fit(digits, given=Given(known, trunk.get_arrays()))
    np.testing.assert_array_equal(known, before)  # what was given stays as it was
    for epoch, share in ((2, 0.6), (5, 0.9)):
        held, joint = seen[epoch]
        clusters, ordered = joint.argmax(axis=1), np.sort(joint, axis=1)
        for cluster in np.unique(clusters):
            members = np.flatnonzero(clusters == cluster)
            surest = members[np.argsort(-(ordered[members, -1] - ordered[members, -2]))]
            n_kept = max(1, round(share * len(members)))
            assert set(np.flatnonzero(held == cluster)) == set(surest[:n_kept])


def test_nothing_is_held_of_an_auxiliary_head(trunk, self_labelling, digits, digit_labels, monkeypatch):
    seen, stage = [], MixtureTraining.stage

    def watched(training: Any, epoch: int, held: torch.Tensor | None) -> int:
        number = stage(training, epoch, held)
        if held is not None:
            seen.append((held >= 0).sum(dim=0).tolist())
        return number

    monkeypatch.setattr(MixtureTraining, "stage", watched)
    model = self_labelling(epochs=4, start=RENEWED, heads=2, auxiliary_clusters=20, mixing="uniform")
    model.fit(digits, given=Given(digit_labels, trunk.get_arrays()))
    assert len(seen) == 3
    assert all(first == second > 0 for first, second, _ in seen)
    assert [auxiliary for *_, auxiliary in seen] == [0, 0, 0]


def test_a_training_goes_on_with_what_was_renewed(trunk, self_labelling, digits, digit_labels, tmp_path, monkeypatch):
    given = Given(digit_labels, trunk.get_arrays())
    whole = self_labelling(epochs=8, start=RENEWED).fit(digits, given=given)
    kept = Checkpoints(CheckpointOptions(every=1, resume=False, folder=str(tmp_path)), "neural_mixture")
    with monkeypatch.context() as patch:
        close = MixtureTraining.close_epoch
        patch.setattr(MixtureTraining, "close_epoch", lambda self, epoch: close(self, epoch) if epoch < 5 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            self_labelling(epochs=8, start=RENEWED).fit(digits, checkpoints=kept, given=given)
    again = Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(tmp_path)), "neural_mixture")
    resumed = self_labelling(epochs=8, start=RENEWED).fit(digits, checkpoints=again, given=given)
    np.testing.assert_array_equal(resumed.predict(digits), whole.predict(digits))
    for name, array in whole.get_arrays().items():
        np.testing.assert_allclose(resumed.get_arrays()[name], array, atol=1e-6)


def test_checkpoints_of_other_given_clusters_are_refused(trunk, self_labelling, digits, digit_labels, tmp_path):
    kept = Checkpoints(CheckpointOptions(every=1, resume=False, folder=str(tmp_path)), "neural_mixture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deep_clustering.methods.mixture_training.MixtureTraining.finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            self_labelling().fit(digits, checkpoints=kept, given=Given(digit_labels, trunk.get_arrays()))
    again = Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(tmp_path)), "neural_mixture")
    with pytest.raises(ValueError, match="given"):
        self_labelling().fit(digits, checkpoints=again, given=Given(9 - digit_labels, trunk.get_arrays()))


def test_a_trunk_learns_from_small_views_too(options, digits):
    crops = {"kind": "photo_crops", "size": 8, "crop": 0.6, "flip": 0.5, "brightness": 0.1, "contrast": 0.1}
    crops |= {"saturation": 0.1, "hue": 0.1, "greyscale": 0.2, "small_views": 1, "small_size": 4, "small_crop": 0.3}
    resnet = {"kind": "resnet", "blocks": [1], "width": 4, "stem_stride": 1}
    fitted = make_trunk(options | {"views": crops, "encoder": resnet, "epochs": 1}).fit(digits)
    assert np.isfinite(fitted.history_["representation_loss"]).all()
    assert torch.isfinite(torch.from_numpy(fitted.embed(digits))).all()


def test_views_that_are_no_numbers_end_a_trunk_with_its_name_epoch_and_term(options, digits, monkeypatch):
    monkeypatch.setattr(Affine, "__call__", lambda _, rows, generator: rows * torch.nan)
    with pytest.raises(FloatingPointError, match=r"trunk: 'representation_loss' .*epoch 1"):
        make_trunk(options).fit(digits)


def test_rows_too_few_for_a_negative_are_refused(options, digits):
    with pytest.raises(ValueError, match="trunk: expected rows to tell apart, at least 2, got 1"):
        make_trunk(options).fit(digits[:1])
