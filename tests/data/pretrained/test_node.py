"""Post-processing of rows, the node, and the environments with a backbone."""

import subprocess
import sys

import numpy as np
import pytest
from kedro.config import OmegaConfigLoader
from scipy import sparse

from data.pretrained.small_network import RANGE, plain_forward
from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.features import fit_statistics, postprocess_rows, scale_samples
from deep_clustering.data.preparation import prepare
from deep_clustering.options import build
from deep_clustering.settings import CONFIG_LOADER_ARGS
from pipelines.small_project import ROOT, copy_project, run, versions

BOTH = 3


ALL = np.ones(40, dtype=bool)


def postprocessed(rows, is_fitted, how):
    return postprocess_rows(rows, fit_statistics(rows, is_fitted, how), how)


@pytest.fixture
def rows():
    rows = np.random.default_rng(2).normal(3, 2, (40, 6)).astype(np.float32)
    rows[:, 4] = 5.0
    return rows


def test_standardised_features_have_mean_0_and_deviation_1(rows):
    result = postprocessed(rows.copy(), ALL, "standardise")
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(axis=0), [1, 1, 1, 1, 0, 1], atol=1e-6)


def test_centred_rows_of_length_1(rows):
    result = postprocessed(rows.copy(), ALL, "centre_l2")
    centred = rows - rows.mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(result, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-6)


def test_nothing_is_done_on_demand(rows):
    np.testing.assert_array_equal(postprocessed(rows.copy(), ALL, "none"), rows)


@pytest.mark.parametrize("how", ["standardise", "centre_l2"])
def test_statistics_are_those_of_the_fitted_rows(rows, how):
    fitted = np.arange(40) < 25
    before = postprocessed(rows.copy(), fitted, how)
    rows[25:] += 100
    after = postprocessed(rows.copy(), fitted, how)
    np.testing.assert_array_equal(after[:25], before[:25])


@pytest.mark.parametrize("how", ["standardise", "centre_l2"])
def test_equal_rows_become_zeros(how):
    np.testing.assert_array_equal(postprocessed(np.full((40, 3), 2, np.float32), ALL, how), 0)


@pytest.mark.parametrize("how", ["standardise", "centre_l2"])
def test_pieces_change_nothing(rows, how, monkeypatch, tmp_path):
    whole = postprocessed(rows.copy(), ALL, how)
    monkeypatch.setattr("deep_clustering.data.features._CHUNK", 7)
    mapped = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=rows.shape)
    mapped[:] = rows
    result = postprocessed(mapped, ALL, how)
    assert isinstance(result, np.memmap)
    np.testing.assert_allclose(result, whole, atol=1e-6)


def test_sparse_rows_are_scaled_but_never_centred():
    counts = sparse.random(40, 8, 0.2, format="csr", random_state=0, dtype=np.float32)
    scaled = scale_samples(counts, [0.0, 4.0], "range")
    np.testing.assert_allclose(scaled.toarray(), counts.toarray() / 4)
    with pytest.raises(ValueError, match=r"sparse rows needs a range from 0, got -1.0..4.0"):
        scale_samples(counts, [-1.0, 4.0], "range")
    with pytest.raises(ValueError, match="postprocess 'standardise' would make sparse rows dense"):
        fit_statistics(scaled, ALL, "standardise")


def test_without_a_backbone_samples_are_only_scaled(parameters, images):
    options = parameters["features"] | {"weights": "nowhere/x.pth"}
    card = {"name": "random", "value_range": RANGE, "sha256": {"samples": "0" * 64}}
    rows, _ = prepare(images, np.full(23, BOTH, np.uint8), card, {"terms": [], "idf": None}, options)
    np.testing.assert_allclose(rows, images / 255, atol=1e-7)
    code = "import sys, deep_clustering.data.preparation; sys.exit(bool({'torch', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pipeline_with_a_backbone_goes_through(tmp_path, weights, network):
    project = copy_project(tmp_path / "project")
    features = {"backbone": "mobilenet_v2", "weights": str(weights), "size": 32, "layer": "features"}
    features |= {"precision": "fp32", "device": "cpu", "cache": str(tmp_path / "cache"), "postprocess": "centre_l2"}
    nodes = ["data.load_samples", "data.extract_features"]
    run(project, "prepare", nodes=nodes, ingestion={"n_rows": 40}, features=features)
    stored = np.load(versions(project, "features.npy")[-1])
    samples = np.load(versions(project, "samples.npy")[-1])
    expected = plain_forward(network, samples.repeat(3, axis=1), value_range=[0.0, 16.0]).astype(np.float64)
    expected -= expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert stored.shape == (40, 1280)
    np.testing.assert_allclose(stored, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("env", "backbone"),
    [("mnist_resnet18", "resnet18"), ("cifar10_resnet50", "resnet50"), ("cifar10_mobilenet", "mobilenet_v2")],
)
def test_the_environments_spell_out_valid_options(env, backbone):
    parameters = OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)["parameters"]
    options = build(FeatureOptions, parameters["features"], "features")
    assert options.backbone == backbone
    assert options.cache == f"data/04_feature/{env}/cache"
