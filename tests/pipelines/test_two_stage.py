"""The two-stage pipeline, run as Kedro runs it: what each stage leaves, and that a predictor knows both."""

import numpy as np
import pytest

from deep_clustering.datasets import JSONDataset, NpzDataset, NumpyDataset, PredictorDataset
from deep_clustering.inference.predictor import Assigner
from deep_clustering.pipeline_registry import register_pipelines
from pipelines.small_project import copy_project, run, versions

NETWORK = {"encoder": {"kind": "conv", "channels": [4, 8], "hidden": [16]}, "epochs": 2, "batch_size": 64}
START = {"kind": "kmeans", "n_init": 1, "hold": 0.5}
HEADS = {"epochs": 2, "batch_size": 64, "heads": 2, "start": START}
STAGES = {"trunk": NETWORK, "self_labelled": NETWORK, "neural_mixture_on_trunk": HEADS}
PAGES = ("project", "pick_members", "report", "name_clusters", "tabulate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Root of a project in which all stages but the pages have run; not to be changed."""
    root = copy_project(tmp_path_factory.mktemp("stages") / "project")
    nodes = [node.name for node in register_pipelines()["self_labelled"].nodes]
    run(root, "self_labelled", nodes=[name for name in nodes if not name.split(".")[-1].startswith(PAGES)], **STAGES)
    return root


def load(root, dataset, folder, name):
    (path,) = [path for path in versions(root, name) if folder in path.parts]
    return dataset(filepath=str(path)).load()


def test_each_stage_leaves_a_version_of_its_own(finished):
    files = ["trunk/model.safetensors", "trunk/features.npy", "trunk/neighbours.npy", "trunk/history.npz"]
    files += [f"neural_mixture_on_trunk/{name}" for name in ("model.safetensors", "assignments.npy")]
    files += [f"self_labelled/{name}" for name in ("certain_rows.npy", "model.safetensors", "assignments.npy")]
    for file in files:
        folder, name = file.split("/")
        assert len([path for path in versions(finished, name) if folder in path.parts]) == 1, file
    assert load(finished, NumpyDataset, "trunk", "features.npy").shape == (200, 16)
    assert len(load(finished, NpzDataset, "trunk", "history.npz")["representation_loss"]) == 2


def test_the_trunk_learns_from_the_half_of_each_cluster_that_is_most_certain(finished):
    clusters = load(finished, NumpyDataset, "neural_mixture_on_trunk", "assignments.npy")
    certain = load(finished, NumpyDataset, "self_labelled", "certain_rows.npy")
    log_odds = load(finished, NpzDataset, "neural_mixture_on_trunk", "representation.npz")["log_odds"]
    for cluster in np.unique(clusters):
        is_chosen = certain[clusters == cluster] >= 0
        assert is_chosen.sum() == max(1, round(0.5 * len(is_chosen)))
        assert (certain[clusters == cluster][is_chosen] == cluster).all()
        of_cluster = log_odds[clusters == cluster]
        assert is_chosen.all() or of_cluster[is_chosen].min() >= of_cluster[~is_chosen].max()


@pytest.mark.parametrize("name", ["neural_mixture_on_trunk", "self_labelled"])
def test_a_predictor_takes_raw_images_through_both_stages(finished, name):
    samples = load(finished, NumpyDataset, "03_primary", "samples.npy")
    predictor = load(finished, PredictorDataset, name, "predictor.safetensors")
    found = Assigner(predictor).assign(samples)["cluster"]
    np.testing.assert_array_equal(found, load(finished, NumpyDataset, name, "assignments.npy"))


def test_the_scores_are_of_the_last_stage(finished):
    scores = load(finished, JSONDataset, "self_labelled", "scores.json")
    assert scores["method"] == "neural_mixture"
    assert scores["n_samples"] == 200
