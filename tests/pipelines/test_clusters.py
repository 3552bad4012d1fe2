"""Feedback on a former model and numbers that are kept, from the node that fits to the predictor."""

import shutil

import numpy as np
import pytest

import spaces
from command_line import error_of, kedro_run, params
from deep_clustering.datasets import (
    JSONDataset,
    ModelDataset,
    NpzDataset,
    NumpyDataset,
    ParquetDataset,
    PredictorDataset,
)
from deep_clustering.inference.predictor import Assigner
from deep_clustering.methods import Model, load_method
from deep_clustering.pipelines.training.nodes import assign, fit
from pipelines.small_project import versions


@pytest.fixture
def project(finished, tmp_path):
    """A copy of a project with a run of k-means."""
    return shutil.copytree(finished, tmp_path / "project")


@pytest.fixture
def train(tmp_path, tiny_options):
    """Function: fit a method to rows by the node, and keep the version as a run does."""
    n_versions = iter(range(100))

    def train(rows, keys, method="kmeans", seed=0, **clusters) -> tuple[Model, np.ndarray]:
        chosen = {"feedback": None, "model": "latest", "numbers_of": None, "folder": str(tmp_path), **clusters}
        options = {**tiny_options(method, "vectors", n_clusters=3, seed=seed), "method": method}
        if "n_init" in options:
            options["n_init"] = 10
        checkpoints = {"every": 0, "resume": False, "folder": str(tmp_path / "checkpoints")}
        split = np.full(len(rows), 3, dtype=np.uint8)
        data = rows, split, np.zeros((len(rows), 0), np.int32), keys, np.ones(len(rows), np.float32)
        model, history = fit(*data, options, checkpoints, chosen, {"workers": 1, "launcher": "local"})
        assert "cost_wall_seconds" in history
        path = tmp_path / method / "model.safetensors" / f"v{next(n_versions):02}" / "model.safetensors"
        path.parent.mkdir(parents=True)
        ModelDataset(filepath=str(path)).save(model)
        return model, assign(model, rows, split, spaces.ROWS)[0]

    return train


def write(tmp_path, text):
    (tmp_path / "feedback.csv").write_text(text)
    return {"feedback": str(tmp_path / "feedback.csv")}


KEYS = np.arange(120, dtype=np.uint64)


@pytest.mark.parametrize("method", ["kmeans", "dcan", "neural_mixture", "ward", "tsne_gmm"])
def test_feedback_changes_the_latest_model_without_training(method, train, blobs, tmp_path):
    model, before = train(blobs, KEYS, method)
    changed, after = train(blobs, KEYS, method, **write(tmp_path, "cluster,name,merge_into\n0,a,1\n"))
    of_rows = load_method(model).predict_proba(blobs)
    joined_is_likelier = of_rows[:, 0] + of_rows[:, 1] > of_rows[:, 2]
    np.testing.assert_array_equal(after, np.where(joined_is_likelier, 1, 2))
    assert changed.clusters["names"] == {"1": "a"}
    np.testing.assert_array_equal(changed.arrays["rows/clusters"], after)
    _, named = train(blobs, KEYS, method, **write(tmp_path, "cluster,name\n2,b\n"))
    np.testing.assert_array_equal(named, after)
    for model in ("v00", "before:v01"):
        _, first = train(blobs, KEYS, method, model=model, **write(tmp_path, "cluster,name\n0,c\n"))
        np.testing.assert_array_equal(first, before)


def test_feedback_on_other_rows_or_options_says_what_differs(train, blobs, tmp_path):
    train(blobs, KEYS)
    asked = write(tmp_path, "cluster,name\n0,a\n")
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        train(blobs, KEYS, seed=1, **asked)
    with pytest.raises(ValueError, match="fitted to 120 rows and these are 110, 110 of them in both"):
        train(blobs[:110], KEYS[:110], **asked)
    with pytest.raises(ValueError, match="the options of features differ"):
        train(blobs * 2, KEYS, **asked)


def test_a_model_that_is_not_there_is_named(train, blobs, tmp_path):
    asked = write(tmp_path, "cluster,name\n0,a\n")
    with pytest.raises(ValueError, match=r"there is no model in .*kmeans.* yet; run --pipelines=kmeans first"):
        train(blobs, KEYS, **asked)
    train(blobs, KEYS)
    with pytest.raises(ValueError, match="has no version before v00"):
        train(blobs, KEYS, model="before:v00", **write(tmp_path, "cluster,name\n0,c\n"))
    with pytest.raises(ValueError, match=r"has no version v0 \(did you mean 'v00'\?\)"):
        train(blobs, KEYS, model="v0", **asked)
    with pytest.raises(ValueError, match="there is no model none"):
        train(blobs, KEYS, model="none.safetensors", **asked)


@pytest.mark.parametrize("method", ["kmeans", "gmm", "ward"])
def test_a_fit_to_more_rows_keeps_numbers_and_names(method, train, blobs, blob_labels, tmp_path):
    chosen = np.random.default_rng(0).permutation(120)[:80]
    train(blobs[chosen], KEYS[chosen], method)
    _, before = train(blobs[chosen], KEYS[chosen], method, **write(tmp_path, "cluster,name\n2,third\n"))
    model, after = train(blobs, KEYS, method, seed=7, numbers_of="latest")
    np.testing.assert_array_equal(after[chosen], before)  # groups far apart: both fits find them
    assert model.clusters["names"] == {"2": "third"}
    assert len(set(zip(after.tolist(), blob_labels.tolist(), strict=True))) == 3


def test_a_cluster_that_is_new_gets_a_new_number(train, blobs, blob_labels):
    two = blob_labels < 2
    _, before = train(blobs[two], KEYS[two])  # three clusters of two groups
    _, after = train(blobs, KEYS, numbers_of="latest")
    whole = next(group for group in (0, 1) if len(set(before[blob_labels[two] == group].tolist())) == 1)
    number = before[blob_labels[two] == whole][0]
    assert set(after[blob_labels == whole].tolist()) == {number}
    assert set(after[blob_labels == 2].tolist()) == {3}


def test_numbers_of_data_without_a_row_in_common_are_refused(train, blobs):
    train(blobs, KEYS)
    with pytest.raises(ValueError, match="no row in common"):
        train(blobs, KEYS + 1000, numbers_of="latest")


def load_last(root, dataset, name):
    return dataset(filepath=str(versions(root, name)[-1])).load()


def test_a_run_with_feedback_is_a_version_that_all_outputs_agree_on(project):
    before = load_last(project, NumpyDataset, "assignments.npy")
    (project / "feedback.csv").write_text("cluster,name,merge_into,split\n3,,1,\n1,ones,,\n5,,,2\n")
    result = kedro_run(project, "--pipelines=kmeans", params(feedback="feedback.csv"))
    assert result.exit_code == 0, result.output
    after = load_last(project, NumpyDataset, "assignments.npy")
    assert len(versions(project, "model.safetensors")) == 2
    np.testing.assert_array_equal(after[before != 5], np.where(before == 3, 1, before)[before != 5])
    assert set(after[before == 5].tolist()) == {5, 10}
    assert (after == 5).sum() >= (after == 10).sum()
    said = load_last(project, NpzDataset, "representation.npz")
    np.testing.assert_array_equal(said["responsibilities"].argmax(axis=1), after)
    assert said["retired"].tolist() == [3]
    scores = load_last(project, JSONDataset, "scores.json")
    assert (scores["n_clusters"], scores["collapsed"], scores["retired"]) == (10, False, [3])
    former = versions(project, "model.safetensors")[0].parent.name
    assert scores["feedback"] == f"feedback=feedback.csv,clusters.model={former}"
    page = versions(project, "report.html")[-1].read_text(encoding="utf-8")
    assert f",{scores['feedback']}</span>" in page
    assert "</i>Cluster 3" not in page
    assert "<span>empty</span>" not in page
    names = load_last(project, JSONDataset, "cluster_names.json")
    assert (len(names), names[1], names[3]) == (11, "ones", "retired 3")
    table = Assigner(load_last(project, PredictorDataset, "predictor.safetensors")).assign(
        load_last(project, NumpyDataset, "samples.npy")
    )
    np.testing.assert_array_equal(table["cluster"], after)
    assert set(table["name"][table["cluster"] == 1]) == {"ones"}
    assert set(table["name"][table["cluster"] != 1]) == {""}
    np.save(project / "new.npy", load_last(project, NumpyDataset, "samples.npy")[:5])
    model = versions(project, "predictor.safetensors")[-1]
    result = kedro_run(project, "--pipelines=predict", params(model=str(model), input="new.npy"))
    assert result.exit_code == 0, result.output
    predicted = load_last(project, ParquetDataset, "predictions.parquet")
    np.testing.assert_array_equal(predicted["cluster"], after[:5])
    assert [name == "ones" for name in predicted["name"]] == (after[:5] == 1).tolist()


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("cluster,name\nx,a\n", {}, "line 2, column 'cluster': got 'x'"),
        ("cluster,name\n1,a\n", {"numbers_of": "latest"}, "leave out numbers_of"),
        ("cluster,merge_into\n1,2\n3,44\n", {}, "feedback.csv, line 3, column 'merge_into': there is no cluster 44"),
    ],
)
def test_feedback_that_cannot_be_used_is_refused_before_anything_is_computed(project, text, changes, message):
    (project / "feedback.csv").write_text(text)
    n_before = len(versions(project, "samples.npy"))
    result = kedro_run(project, "--pipelines=kmeans", params(feedback="feedback.csv", **changes))
    assert message in error_of(result)
    assert len(versions(project, "samples.npy")) == n_before
