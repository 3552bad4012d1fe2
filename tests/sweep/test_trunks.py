"""Sweeps of methods on a trunk: each trunk learns once, for all the cells that are on it."""

import json
from pathlib import Path

import pytest

from command_line import kedro
from deep_clustering.runs.reproduction import Verdict
from deep_clustering.runs.tracking.reading import find_run, list_runs
from sweep.test_sweep import SMALL, records, sweep

OPTIONS = """\
trunk: {epochs: 2, batch_size: 64, encoder: {kind: conv, channels: [4, 8], hidden: [16]}}
kmeans_on_trunk: {n_init: 1}
turtle_on_trunk: {steps: 6, heads: 1}
neural_mixture_on_trunk: {epochs: 2, batch_size: 64, heads: 2, start: {kind: kmeans, n_init: 1, hold: 0.5}}
self_labelled: {epochs: 2, batch_size: 64, encoder: {kind: conv, channels: [4, 8], hidden: [16]}}
checkpoints: {every: 1}
"""


@pytest.fixture(autouse=True)
def small_trunks(project: Path) -> None:
    (project / "conf/digits/parameters.yml").write_text(OPTIONS)


def notes(project: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in project.glob("sweep/digits/*/trunk.json")}


def learned(project: Path) -> list[str]:
    """Folders of the trunks, one for each time that one has learned."""
    models = project.glob("**/trunk/model.safetensors/*/model.safetensors")
    return sorted(path.relative_to(project / "sweep/digits").parts[0] for path in models)


def test_cells_on_a_trunk_share_it_and_score_as_if_each_had_its_own(project, caplog):
    result = sweep(project, "--pipelines=kmeans_on_trunk,self_labelled")
    assert result.exit_code == 0, result.output
    cells = records(project)
    assert set(cells) == {f"{name}-seed{seed}" for name in ("kmeans_on_trunk", "self_labelled") for seed in (0, 1)}
    assert learned(project) == sorted(notes(project)) == ["trunk-seed0", "trunk-seed1"]
    assert {cell["parameters"]["trunk"]["epochs"] for cell in cells.values()} == {2}

    for name in ("kmeans_on_trunk", "self_labelled"):
        words = [f"--pipelines={name}", f"--to-outputs={name}_scores", f"--params=seed=1,{SMALL}"]
        assert kedro(project, "run", "--env=digits", *words).exit_code == 0
        (scores,) = project.glob(f"data/08_reporting/digits/{name}/scores.json/*/scores.json")
        assert cells[f"{name}-seed1"]["metrics"] == json.loads(scores.read_text())["metrics"]

    before = notes(project)
    caplog.clear()
    result = sweep(project, "--pipelines=kmeans_on_trunk,self_labelled,turtle_on_trunk")
    assert result.exit_code == 0, result.output
    assert notes(project) == before
    assert "learning" not in caplog.text


def test_a_trunk_learns_for_each_choice_of_its_options_and_for_no_other(project):
    options = ["--pipelines=kmeans_on_trunk,kmeans", "--seeds=0", "--grid=trunk.epochs=1,2", "--grid=n_clusters=8,10"]
    result = sweep(project, *options)
    assert result.exit_code == 0, result.output
    assert learned(project) == sorted(notes(project)) == ["trunk-trunk.epochs=1-seed0", "trunk-trunk.epochs=2-seed0"]
    assert [note["parameters"]["trunk"]["epochs"] for _, note in sorted(notes(project).items())] == [1, 2]
    assert len(records(project)) == 8


def test_only_what_a_missing_cell_is_on_learns_anew_when_its_options_or_rows_have_changed(project, caplog):
    assert sweep(project, "--pipelines=kmeans_on_trunk").exit_code == 0
    conf = project / "conf/digits/parameters.yml"
    conf.write_text(OPTIONS.replace("trunk: {epochs: 2", "trunk: {epochs: 1", 1))
    record = project / "sweep/digits/cells/kmeans_on_trunk-seed1/cell.json"
    record.unlink()
    assert sweep(project, "--pipelines=kmeans_on_trunk").exit_code == 0
    assert "learning digits/trunk-seed1 anew: trunk.epochs was 2, is 1" in caplog.text
    assert learned(project) == ["trunk-seed0", "trunk-seed1", "trunk-seed1"]
    assert [note["parameters"]["trunk"]["epochs"] for _, note in sorted(notes(project).items())] == [2, 1]

    record.unlink()
    (project / "sweep/digits/prepared/prepared.json").unlink()
    assert sweep(project, "--pipelines=kmeans_on_trunk").exit_code == 0
    assert "learning digits/trunk-seed1 anew: data.version was " in caplog.text
    assert learned(project) == ["trunk-seed0", *["trunk-seed1"] * 3]


def test_a_trunk_that_fails_fails_its_cells_and_goes_on_from_its_checkpoints(project, monkeypatch):
    cells = ("--pipelines=kmeans_on_trunk,kmeans,turtle_on_trunk", "--seeds=0")
    epochs: list[int] = []
    place = "deep_clustering.methods.trunk._Training.close_epoch"
    with monkeypatch.context() as patch:
        patch.setattr(place, lambda _, epoch: {} if epoch < 2 else 1 / 0)
        result = sweep(project, *cells)
    assert result.exit_code == 1
    status = {name: cell.get("reason", cell["status"]) for name, cell in records(project).items()}
    reason = "its trunk: ZeroDivisionError: division by zero"
    assert status == {"kmeans_on_trunk-seed0": reason, "turtle_on_trunk-seed0": reason, "kmeans-seed0": "finished"}
    assert notes(project) == {}

    monkeypatch.setattr(place, lambda _, epoch: epochs.append(epoch) or {})
    result = sweep(project, *cells)
    assert result.exit_code == 0, result.output
    assert epochs == [2]
    assert learned(project) == ["trunk-seed0"]


def test_wrong_options_of_a_trunk_are_refused_before_anything_is_written(project):
    result = sweep(project, "--pipelines=kmeans_on_trunk", "--grid=trunk.epochs=0,2")
    assert result.exit_code == 1
    assert "digits: trunk: epochs must be at least 1, got 0" in result.output
    assert not (project / "sweep").exists()


def test_the_run_of_a_cell_on_a_trunk_is_reproduced_on_that_trunk(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = SMALL.replace(",tracking.enabled=false", "")
    assert sweep(project, "--pipelines=kmeans_on_trunk", "--seeds=0", params=params).exit_code == 0
    run = find_run(project, records(project)["kmeans_on_trunk-seed0"]["run_id"])
    assert run.load_versions["trunk_features"] == notes(project)["trunk-seed0"]["version"]
    result = kedro(project, "reproduce", run.run_id, "--output-folder=again")
    assert result.exit_code == 0, result.output
    assert f"{Verdict.IDENTICAL}: run {list_runs(project, last=1)[0].run_id} against run {run.run_id}" in result.output
    assert learned(project) == ["trunk-seed0"]
