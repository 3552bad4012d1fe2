"""Rows of images by a network that learns from them: what it tells apart, what is kept, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data.test_patches import strokes
from deep_clustering.data import learned as module
from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.learned import learn, open_learned
from deep_clustering.data.preparation import Preparation, open_preparation, prepare
from deep_clustering.data.sources.samples import both
from deep_clustering.options import build
from deep_clustering.pipelines.parameters import unread_options

ALL = [0.0, 255.0]
# A narrow network and few views, so that it learns in a second.
NARROW = {"encoder": {"kind": "resnet", "blocks": [1], "width": 8, "stem_stride": 2}, "n_views": 4, "total_views": 4000}


@pytest.fixture
def options(parameters):
    """Function: changes to the features of conf/base, those of the network among them by `learned`."""

    def make(learned=None, **changes):
        own = {"backbone": "learned", "postprocess": "centre_l2", "device": "cpu", "precision": "fp32", "cache": ""}
        network = parameters["features"]["learned"] | NARROW | (learned or {})
        return build(FeatureOptions, parameters["features"] | own | changes | {"learned": network}, "features")

    return make


def opened(arrays, options):
    return open_learned(arrays, ALL, options.learned_options)


def everything(images):
    return np.ones(len(images), dtype=bool)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_two_kinds_have_rows_that_are_nearer_within_a_kind(options, channels):
    images, standing = strokes(120, channels=channels)
    arrays, precision = learn(images, everything(images), ALL, options(), "a")
    rows = opened(arrays, options())(images)
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = rows @ rows.T - 2 * np.eye(len(rows))
    assert (standing[cosine.argmax(axis=1)] == standing).mean() > 0.8
    assert (rows.dtype, precision) == (np.float32, "fp32")


def test_an_image_alone_has_the_row_that_it_has_among_others(options, monkeypatch):
    images, _ = strokes(30, side=40)
    arrays, _ = learn(images, everything(images), ALL, options(), "a")
    monkeypatch.setattr(module, "_IMAGES", 7)
    rows = opened(arrays, options())(images)
    np.testing.assert_allclose(rows[3:4], opened(arrays, options())(images[3:4]), atol=1e-5)


def test_what_was_learned_is_read_from_the_cache_by_the_same_images_alone(options, tmp_path, monkeypatch):
    images, _ = strokes(30)
    kept = options(cache=str(tmp_path))
    first, _ = learn(images, everything(images), ALL, kept, "a")
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.methods.trunk.Trunk.fit", lambda *_: 1 / 0)
        again, _ = learn(images, everything(images), ALL, kept, "a")
        for other in ("b", "a"):
            with pytest.raises(ZeroDivisionError):
                learn(images, np.arange(30) < (30 if other == "b" else 20), ALL, kept, other)
        for change in ({"side": 40}, {"seed": 1}, {"most_epochs": 2}, {"weight_decay": 0.0}):
            with pytest.raises(ZeroDivisionError):
                learn(images, everything(images), ALL, options(change, cache=str(tmp_path)), "a")
        with pytest.raises(ZeroDivisionError):
            learn(images, everything(images), [ALL[0], 2 * ALL[1]], kept, "a")
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    anew, _ = learn(images, everything(images), ALL, kept, "a")
    assert all(np.array_equal(first[name], anew[name]) for name in first)


def test_a_killed_network_goes_on_where_it_was(options, tmp_path, monkeypatch):
    images, _ = strokes(100)
    whole, _ = learn(images, everything(images), ALL, options(), "a")
    kept = options(cache=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(
            "deep_clustering.methods.trunk._Training.close_epoch", lambda _, epoch: {} if epoch < 4 else 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            learn(images, everything(images), ALL, kept, "a")
    epochs = []
    monkeypatch.setattr(
        "deep_clustering.methods.trunk._Training.close_epoch",
        lambda _, epoch: {} if epochs.append(epoch) is None else 0,
    )
    again, _ = learn(images, everything(images), ALL, kept, "a")
    assert epochs[0] == 4
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_epochs_are_for_so_many_views_and_of_many_images_some_are_learned_from(options, monkeypatch):
    own = options({"total_views": 400_000}).learned_options
    assert [own.trunk(n, "cpu", "fp32").epochs for n in (2, 1700, 10_000, 100_000)] == [60, 59, 10, 1]
    seen = []
    monkeypatch.setattr("deep_clustering.methods.trunk.Trunk.fit", lambda _, rows, __: seen.append(len(rows)) or 1 / 0)
    images, _ = strokes(30)
    with pytest.raises(ZeroDivisionError):
        learn(images, everything(images), ALL, options({"images": 10}), "a")
    assert seen == [10]


def test_new_images_are_seen_as_those_of_the_training_by_the_options_of_then(options, parameters):
    images, _ = strokes(40)
    views = parameters["features"]["learned"]["views"] | {"size": 20}
    card = {"name": "strokes", "value_range": ALL, "sha256": {"samples": "a" * 64}}
    plain = dict(vars(options({"side": 36, "views": views}, beside_gradients=True)))
    rows, preparation = prepare(images, both(len(images)), card, {"terms": [], "idf": None}, plain)
    again = Preparation.from_plain(preparation.to_plain(), preparation.arrays)
    np.testing.assert_allclose(open_preparation(again)(images[5:9]), rows[5:9], atol=1e-5)
    assert preparation.options["precision"] == "fp32"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 9), np.float32), r"backbone 'learned' needs images of shape .*, got \(4, 9\)"),
        (np.zeros((4, 2, 8, 8), np.uint8), "1 or 3 channels, got 2"),
        (np.zeros((1, 3, 8, 8), np.uint8), "at least 2, got 1"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(options, images, message):
    with pytest.raises(ValueError, match=message):
        learn(images, everything(images), ALL, options(), "a")


def test_images_of_other_channels_are_refused(options):
    images, _ = strokes(30)
    arrays, _ = learn(images, everything(images), ALL, options(), "a")
    with pytest.raises(ValueError, match="learned from images of 1 channels, got 3"):
        opened(arrays, options())(np.repeat(images, 3, axis=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sid": 32}, r"features: learned: unknown option 'sid' \(did you mean 'side'\?\)"),
        ({"side": 4}, "features: learned: side must be at least 8, got 4"),
        ({"n_views": 0}, "features: learned: n_views must be at least 2, got 0"),
        ({"views": {"kind": "photos"}}, r"features: learned: views: unknown kind 'photos' \(did you mean 'photo'\?\)"),
        ({"encoder": {"kind": "resnet"}}, r"features: learned: encoder \(resnet\): missing option 'blocks'"),
        ({"views": {"kind": "noise", "scale": 0.1}}, "features: learned: .*parts needs views that crop"),
    ],
)
def test_wrong_options_are_refused_with_their_place(options, change, message):
    with pytest.raises(ValueError, match=message):
        options(change)


def test_without_the_network_its_options_are_still_checked_or_none(parameters):
    own = parameters["features"]["learned"]
    with pytest.raises(ValueError, match="features: learned: unknown option 'sid'"):
        build(FeatureOptions, parameters["features"] | {"learned": own | {"sid": 32}}, "features")
    none = parameters["features"] | {"learned": {}}
    assert build(FeatureOptions, none, "features").learned == {}
    with pytest.raises(ValueError, match="features: learned: missing option 'side'"):
        build(FeatureOptions, none | {"backbone": "learned"}, "features")


def test_features_without_a_network_are_checked_without_torch(parameters):
    code = (
        "import json, sys; from deep_clustering.data.feature_options import FeatureOptions; "
        "from deep_clustering.options import build; "
        "build(FeatureOptions, json.loads(sys.argv[1]), 'features'); sys.exit('torch' in sys.modules)"
    )
    given = json.dumps(parameters["features"])
    assert subprocess.run([sys.executable, "-c", code, given], check=False).returncode == 0


@pytest.mark.parametrize(("backbone", "is_in_use"), [("learned", True), (None, False)])
def test_options_of_a_network_that_is_not_in_use_are_said_to_be_read_by_nothing(parameters, backbone, is_in_use):
    features = parameters["features"] | {"backbone": backbone}
    given = {"features": {"learned": {"views": {"crop": 0.45}}}}
    said = "--params: features.learned.views.crop is read by nothing: features.learned.views is not in use"
    assert list(unread_options(given, {"features": features})) == ([] if is_in_use else [said])
