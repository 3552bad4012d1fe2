"""What a run says at its end: each file is named, what lies alike for several methods once."""

import logging

import pytest
from kedro.io import DataCatalog, Version
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset

from deep_clustering.runs.last_lines import ShowResults

MADE = ("_scores", "_report", "_assignments_csv")


@pytest.fixture
def ends_with(tmp_path, monkeypatch, caplog):
    """Function from outputs and what they hold to the lines that a run of these ends with."""
    monkeypatch.chdir(tmp_path)

    def ends_with(held, folder_of=None):
        version = Version(None, "2026-01-02T03.04.05.678Z")
        catalog = DataCatalog()
        for name, data in held.items():
            method = next((name.removesuffix(kind) for kind in MADE if name.endswith(kind)), "comparison")
            folder = (folder_of or {}).get(name, f"data/{method}")
            file = f"{folder}/{name.removeprefix(method + '_')}.json"
            catalog[name] = JSONDataset(filepath=str(tmp_path / file), version=version)
            catalog[name].save(data)
        pipeline = Pipeline([node(lambda: None, None, list(held), name="all")])
        with caplog.at_level(logging.INFO):
            ShowResults().after_pipeline_run(run_params={}, run_result={}, pipeline=pipeline, catalog=catalog)
        return [record.getMessage() for record in caplog.records]

    return ends_with


def scores_of(acc):
    return {
        "metrics": {"acc": acc, "silhouette": 0.5},
        "data_set": "mine",
        "protocol": "all rows",
        "data_sha256": "0123456789abcdef",
        "selection": None,
    }


def test_of_one_method_each_file_is_named(ends_with):
    lines = ends_with({"dcan_scores": scores_of(0.25), "dcan_report": 1, "dcan_assignments_csv": 2})
    assert lines[:5] == [
        "dcan on mine: acc 0.250, silhouette in its own space 0.500",
        "of all rows, rows sha256 0123456789ab",
        "dcan_assignments_csv: data/dcan/assignments_csv.json/2026-01-02T03.04.05.678Z/assignments_csv.json",
        "dcan_report: data/dcan/report.json/2026-01-02T03.04.05.678Z/report.json",
        "dcan_scores: data/dcan/scores.json/2026-01-02T03.04.05.678Z/scores.json",
    ]


def test_of_several_methods_the_place_is_named_once(ends_with):
    held = {f"{method}{kind}": scores_of(0.5) for method in ("dcan", "kmeans", "ward") for kind in MADE}
    lines = ends_with(held)
    assert sum(" on mine: " in line for line in lines) == 3
    places = [line for line in lines if ": data/" in line]
    assert [line.split(":")[0] for line in places] == ["METHOD_assignments_csv", "METHOD_report", "METHOD_scores"]
    assert places[1] == "METHOD_report: data/METHOD/report.json/2026-01-02T03.04.05.678Z/report.json"


def test_files_that_lie_elsewhere_are_named_by_themselves(ends_with):
    held = {"dcan_report": 1, "kmeans_report": 2}
    lines = ends_with(held, {"kmeans_report": "elsewhere"})
    assert [line.split(":")[0] for line in lines if "json" in line] == ["dcan_report", "kmeans_report"]


def test_what_is_recommended_comes_last_and_no_file_twice(ends_with):
    recommendation = {
        "method": "ward",
        "sentence": "Recommended: ward.",
        "certainty": "Again.",
        "failures": {"dcan": "no"},
    }
    held = {"kmeans_report": 1, "ward_report": 2, "comparison_report": 3, "recommendation": recommendation}
    lines = ends_with(held)
    at = lines.index("Recommended: ward.")
    assert lines[at - 1] == "dcan failed and was left out: no"
    assert lines[at + 1] == "Again."
    assert [line.split(":")[0] for line in lines[at + 2 :]] == ["recommendation", "ward_report", "comparison_report"]
    assert sum(line.startswith("comparison_report") for line in lines) == 1
