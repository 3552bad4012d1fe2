"""A comparison without the methods that fail: which nodes belong to a method, what goes on, what is said of it."""

import json

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from mlflow.tracking import MlflowClient

from command_line import error_of, kedro_run
from deep_clustering.methods.baselines import GaussianMixtureClusterer, KMeansClusterer
from deep_clustering.pipeline_registry import register_pipelines
from deep_clustering.pipelines.namespaces import COMPARED
from deep_clustering.runs.comparing import ComparingRunner, failures_of, is_comparison, methods_of
from pipelines.small_project import copy_project, versions

pytestmark = pytest.mark.usefixtures("plain_pages")

SMALL = "--params=ingestion.n_rows=120,n_clusters=4,recommendation.resamples=20,recommendation.refits=0"
UNTRACKED = ",tracking.enabled=false"


@pytest.fixture
def project(tmp_path):
    root = copy_project(tmp_path / "project")
    methods = root / "conf" / "digits" / "parameters.yml"
    methods.write_text("comparison:\n  methods: [kmeans, gmm, ward]\n")
    return root


def fails_with(error):
    def fit(*args, **kwargs):
        raise error

    return fit


def newest(project, name):
    return versions(project, name)[-1]


def test_nodes_belong_to_the_methods_whose_training_lies_behind_them():
    found = methods_of(register_pipelines()["__default__"])
    assert found["data.load_samples"] == frozenset()
    for name in COMPARED:
        nodes = [f"{name}.fit", f"{name}.assign", f"evaluation.score_{name}", f"evaluation.report_{name}"]
        assert {found[node] for node in nodes} == {frozenset({name})}
    assert found["evaluation.compare_methods"] == found["evaluation.recommend"] == frozenset(COMPARED)


@pytest.mark.parametrize("error", [ValueError("gmm: no such rows"), FloatingPointError("nan"), MemoryError()])
def test_a_method_that_fails_is_reported_and_the_others_are_compared(project, monkeypatch, caplog, error):
    monkeypatch.setattr(GaussianMixtureClusterer, "fit", fails_with(error))
    result = kedro_run(project, "--env=digits", SMALL + UNTRACKED)
    assert result.exit_code == 0, result.output
    assert set(pd.read_csv(newest(project, "comparison.csv"))["method"]) == {"kmeans", "ward"}
    recommendation = json.loads(newest(project, "recommendation.json").read_text())
    message = str(error) or "MemoryError"
    assert recommendation["failures"] == {"gmm": message}
    assert set(recommendation["scores"]) == {"kmeans", "ward"}
    clusters = pd.read_csv(newest(project, "clusters.csv"))["cluster"]
    (chosen,) = [path for path in versions(project, "assignments.npy") if "recommended" in path.parts]
    np.testing.assert_array_equal(clusters, np.load(chosen))
    page = next(path for path in versions(project, "report.html") if "comparison" in path.parts).read_text()
    assert f"gmm failed and was left out: {message}" in page
    assert len([r for r in caplog.records if "gmm failed and is left out" in r.getMessage()]) == 1
    assert not [path for path in versions(project, "assignments.npy") if "gmm" in path.parts]


def test_it_is_tracked_as_finished_with_what_failed(project, monkeypatch):
    monkeypatch.setattr(GaussianMixtureClusterer, "fit", fails_with(ValueError("gmm: no such rows")))
    assert kedro_run(project, "--env=digits", SMALL + ",tracking.log_model=false").exit_code == 0
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FINISHED"
    assert run.data.tags["failed_methods"] == "gmm"
    assert run.data.tags["failed.gmm"] == "gmm: no such rows"
    assert "--runner" not in run.data.tags["kedro.command"]


def test_without_any_method_left_the_run_fails_with_the_first_error(project, monkeypatch):
    monkeypatch.setattr(KMeansClusterer, "fit", fails_with(ValueError("kmeans: no")))
    methods = project / "conf" / "digits" / "parameters.yml"
    methods.write_text("comparison:\n  methods: [kmeans]\n")
    assert error_of(kedro_run(project, "--env=digits", SMALL + UNTRACKED)) == "kmeans: no"


def test_a_defect_of_a_method_ends_the_run(project, monkeypatch):
    monkeypatch.setattr(GaussianMixtureClusterer, "fit", fails_with(KeyError("a defect")))
    assert isinstance(kedro_run(project, "--env=digits", SMALL + UNTRACKED).exception, KeyError)


def test_an_interruption_ends_the_run(project, monkeypatch):
    monkeypatch.setattr(GaussianMixtureClusterer, "fit", fails_with(KeyboardInterrupt()))
    result = kedro_run(project, "--env=digits", SMALL + UNTRACKED)
    assert result.exit_code != 0
    assert not versions(project, "comparison.csv")


def test_a_run_of_one_method_by_its_name_fails_as_ever(project, monkeypatch):
    monkeypatch.setattr(GaussianMixtureClusterer, "fit", fails_with(ValueError("gmm: no such rows")))
    assert error_of(kedro_run(project, "--pipelines=gmm", SMALL + UNTRACKED)) == "gmm: no such rows"


def test_data_that_cannot_be_read_end_the_run(project):
    source = ",ingestion.source.kind=arrays,ingestion.source.samples=missing.npy,ingestion.source.name=mine"
    source += ",ingestion.source.labels=null,ingestion.source.key=null,ingestion.source.layout=auto"
    given = SMALL + UNTRACKED + source + ",ingestion.source.value_range=null"
    assert "missing.npy" in error_of(kedro_run(project, "--env=digits", given))


@pytest.mark.parametrize(
    ("names", "expected"), [([], True), (["__default__"], True), (["kmeans"], False), (["kmeans", "ward"], False)]
)
def test_which_runs_are_comparisons(names, expected):
    assert is_comparison(names) is expected


def run_nodes(nodes, **data):
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in data.items()})
    from kedro.framework.hooks.manager import _create_hook_manager

    return ComparingRunner().run(Pipeline(nodes), catalog, _create_hook_manager())


def test_a_node_of_several_methods_runs_last_with_what_there_is():
    def gather(failures=None, **parts):
        return parts, failures

    def refuse(rows):
        raise ValueError("not\nthese rows")

    nodes = [
        Node(lambda rows: rows + 1, "rows", "kmeans.model", name="fit", namespace="kmeans"),
        Node(refuse, "rows", "gmm.model", name="fit", namespace="gmm"),
        Node(lambda model: model, "gmm.model", "gmm_scores", name="score"),
        Node(lambda rows: rows + 3, "rows", "ward.model", name="fit", namespace="ward"),
        Node(gather, {"a": "kmeans.model", "b": "gmm_scores", "c": "ward.model"}, ["parts", "told"], name="gather"),
    ]
    result = run_nodes(nodes, rows=1)
    assert result["parts"].load() == {"a": 2, "c": 4}
    assert result["told"].load() == {"gmm": "not these rows"}
    assert failures_of(result).messages == {"gmm": "not these rows"}
    assert failures_of(result).lost == {"gmm.model", "gmm_scores"}


def test_a_part_of_a_comparison_goes_on_without_a_method_that_fails_again():
    """As where `kedro resume` finishes a run: it reads what it has of the methods that are done."""

    def refuse(rows):
        raise ValueError("not these rows")

    def gather(failures=None, **parts):
        return parts, failures

    reads = {"a": "dcan_literal_scores", "b": "gmm_scores"}
    nodes = [
        Node(refuse, "rows", "gmm.model", name="fit", namespace="gmm"),
        Node(lambda model: model, "gmm.model", "gmm_scores", name="score"),
        Node(gather, reads, ["parts", "told"], name="gather"),
    ]
    assert methods_of(Pipeline(nodes))["gather"] == {"dcan_literal", "gmm"}
    result = run_nodes(nodes, rows=1, dcan_literal_scores=2)
    assert result["parts"].load() == {"a": 2}
    assert result["told"].load() == {"gmm": "not these rows"}


def test_a_run_without_failures_says_so():
    nodes = [Node(lambda rows: rows, "rows", "kmeans.model", name="fit", namespace="kmeans")]
    result = run_nodes(nodes, rows=1)
    assert set(result) == {"kmeans.model"}
    assert failures_of(result) == ({}, frozenset())
