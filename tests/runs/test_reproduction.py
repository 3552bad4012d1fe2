"""`kedro reproduce`: what repeats exactly, what is told apart, and every run that cannot be repeated."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from command_line import kedro
from deep_clustering.runs import repeating
from deep_clustering.runs.reproduction import Verdict, compare
from deep_clustering.runs.tracking.reading import find_run, list_runs
from deep_clustering.runs.tracking.results import Results
from pipelines.small_project import versions
from tracked_project import PARAMETERS, client_of, make_project, refuse, tracked_run, write_parameters


def scoring(name):
    """Options of a run that ends with the scores: maps and pages are not compared."""
    return f"--pipelines={name}", f"--to-outputs={name}_scores"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project with a finished run of a method that needs no network and of one that does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = make_project(tmp_path_factory.mktemp("finished") / "project")
        runs = {name: tracked_run(root, *scoring(name), "--params=seed=3") for name in ("kmeans", "dcan")}
    assert {run.status for run in runs.values()} == {"FINISHED"}
    return root, runs


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return shutil.copytree(finished[0], tmp_path / "project")


@pytest.fixture
def runs(finished):
    return finished[1]


@pytest.mark.parametrize("name", ["kmeans", "dcan"])
def test_on_one_thread_of_a_processor_a_run_repeats_exactly(project, runs, name):
    old = runs[name]
    result = kedro(project, "reproduce", old.run_id[:8])
    assert result.exit_code == 0, result.output
    new = list_runs(project, last=1)[0]
    assert f"identical: run {new.run_id} against run {old.run_id}" in result.output.splitlines()
    assert new.tags["deep_clustering.reproduces"] == old.run_id
    assert (new.params, new.experiment, new.data_sha256) == (old.params, old.experiment, old.data_sha256)
    assert new.save_version > old.save_version
    first, second = (np.load(path) for path in versions(project, "assignments.npy") if path.parts[-4] == name)
    np.testing.assert_array_equal(first, second)


def predicted(project):
    """A tracked run in which the only model of a project gives clusters to new rows."""
    (model,) = versions(project, "predictor.safetensors")
    np.save(project / "rows.npy", np.random.default_rng(0).integers(0, 17, size=(30, 8, 8)))
    options = f"predict.model={model},predict.input={project}/rows.npy"
    return tracked_run(project, "--pipelines=predict", f"--params={options}")


def test_clusters_of_new_rows_are_compared_as_those_of_a_fit_are(project):
    tracked_run(project, "--pipelines=kmeans", "--to-outputs=kmeans.predictor")
    old = predicted(project)
    result = kedro(project, "reproduce", old.run_id)
    assert result.exit_code == 0, result.output
    assert re.search(r"^predictions +100.00% .* identical$", result.output, re.MULTILINE)
    first, _ = versions(project, "predictions.parquet")
    table = pd.read_parquet(first)
    table["cluster"] = 0
    table.to_parquet(first)
    result = kedro(project, "reproduce", old.run_id)
    assert result.exit_code == 1
    assert re.search(r"^predictions .* different$", result.output, re.MULTILINE)
    first.write_bytes(b"cut")
    assert f"the predictions of run {old.run_id} are damaged: {first}" in refuse(project, "reproduce", old.run_id)
    first.unlink()
    assert f"the predictions of run {old.run_id} are gone: there is no {first}" in refuse(
        project, "reproduce", old.run_id
    )


def test_feedback_is_repeated_on_the_model_that_it_was_about_and_not_on_its_own(project):
    (project / "feedback.csv").write_text("cluster,split\n2,2\n")
    upto = ("--pipelines=kmeans", "--to-nodes=kmeans.assign")
    old = tracked_run(project, *upto, "--params=seed=3,feedback=feedback.csv")
    result = kedro(project, "reproduce", old.run_id)
    assert result.exit_code == 0, result.output
    assert "identical: run " in result.output


def test_former_models_are_named_by_what_was_latest_then(runs):
    old, options = runs["kmeans"], {"seed": 3, "clusters": {"model": "latest"}}
    assert repeating.with_former_models(old, options) == options
    changed = old.params | {"clusters.feedback": "a.csv", "clusters.numbers_of": "latest"}
    given = repeating.with_former_models(replace(old, params=changed), options)
    then = f"before:{old.save_version}"
    place = old.params["clusters.folder"]
    assert given == {"seed": 3, "clusters": {"model": then, "numbers_of": then, "folder": place}}
    pinned = replace(old, params=changed | {"clusters.model": "a.safetensors", "clusters.numbers_of": "null"})
    assert repeating.with_former_models(pinned, {}) == {"clusters": {"folder": place}}


def test_the_data_set_of_predictions_is_that_of_their_model(project):
    (project / "conf/local/globals.yml").write_text("data_set: other\n")
    tracked_run(project, "--pipelines=kmeans", "--to-outputs=kmeans.predictor")
    (project / "conf/local/globals.yml").unlink()
    old = predicted(project)
    result = kedro(project, "reproduce", old.run_id)
    assert result.exit_code == 0, result.output
    assert "data_set" not in result.output


def test_other_data_are_told_and_make_it_different(project, runs):
    write_parameters(project, PARAMETERS.replace("n_rows: 200", "n_rows: 150"))
    result = kedro(project, "reproduce", runs["kmeans"].run_id)
    assert result.exit_code == 1
    assert "  parameter ingestion.n_rows: 200, now 150" in result.output
    digest = runs["kmeans"].data_sha256["samples"]
    assert f"the data differ: sha256 of samples was {digest}, now " in result.output
    assert result.output.splitlines()[-1].startswith("different: run ")


def test_a_changed_parameter_file_is_told_and_can_make_it_different(project, runs):
    (project / "conf/local/globals.yml").write_text("n_clusters: 4\n")
    result = kedro(project, "reproduce", runs["kmeans"].run_id)
    assert result.exit_code == 1
    assert "  parameter kmeans.n_clusters: 10, now 4" in result.output
    assert "the data differ" not in result.output
    assert result.output.splitlines()[-1].startswith("different: run ")


def test_the_recorded_version_of_an_input_is_used_and_not_the_newest(project, runs):
    assigned = tracked_run(project, "--pipelines=kmeans", "--nodes=kmeans.assign", "--params=n_clusters=10")
    assert assigned.load_versions["kmeans.model"] == runs["kmeans"].save_version
    tracked_run(project, *scoring("kmeans"), "--params=n_clusters=4")
    result = kedro(project, "reproduce", assigned.run_id)
    assert result.exit_code == 0, result.output
    new = list_runs(project, last=1)[0]
    assert new.load_versions == assigned.load_versions
    assert new.restriction == {"node_names": ["kmeans.assign"]}
    assert result.output.splitlines()[-1].startswith("identical: run ")


def test_a_vanished_input_is_named_with_its_file_before_any_work(project):
    assigned = tracked_run(project, "--pipelines=kmeans", "--nodes=kmeans.assign")
    (model,) = (path for path in versions(project, "model.safetensors") if path.parts[-4] == "kmeans")
    model.unlink()
    message = f"run {assigned.run_id}: its input 'kmeans.model' is gone: there is no {model}"
    assert refuse(project, "reproduce", assigned.run_id) == message


def test_outputs_can_go_elsewhere(project, runs, tmp_path):
    before = versions(project, "assignments.npy")
    folder = tmp_path / "elsewhere"
    result = kedro(project, "reproduce", runs["kmeans"].run_id, f"--output-folder={folder}")
    assert result.exit_code == 0, result.output
    assert versions(project, "assignments.npy") == before
    assert len(list(folder.glob("**/assignments.npy/*/assignments.npy"))) == 1


def test_recorded_folders_that_are_gone_give_way_to_the_projects_own(project, tmp_path):
    folders = {name: tmp_path / name for name in ("data_folder", "output_folder")}
    placed = ",".join(f"{name}={folder}" for name, folder in folders.items())
    run = tracked_run(project, *scoring("kmeans"), f"--params={placed}")
    before = len(versions(project, "assignments.npy"))
    for folder in folders.values():
        shutil.rmtree(folder)
    result = kedro(project, "reproduce", run.run_id)
    assert result.exit_code == 0, result.output
    for name, folder in folders.items():
        assert f"  {name}: {folder} is gone; the project's own is used" in result.output
        assert not folder.exists()
    assert len(versions(project, "assignments.npy")) == before + 1


def test_where_a_run_was_tracked_is_not_a_part_of_it(project):
    run = tracked_run(project, "--pipelines=kmeans", "--to-nodes=kmeans.assign", "--params=tracking.experiment=study")
    write_parameters(project, PARAMETERS.replace("tracking: {", "tracking: {enabled: false, "))
    result = kedro(project, "reproduce", run.run_id)
    assert result.exit_code == 0, result.output
    new = list_runs(project, last=1)[0]
    assert (new.experiment, new.tags["deep_clustering.reproduces"]) == ("study", run.run_id)


def test_the_recorded_number_of_threads_is_set(project, runs):
    client_of(project).set_tag(runs["kmeans"].run_id, "hardware.torch_threads", "2")
    try:
        result = kedro(project, "reproduce", runs["kmeans"].run_id)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert "  torch threads: 2, now 1; set to 2" in result.output
    assert list_runs(project, last=1)[0].torch_threads == 2


def test_a_precision_that_was_found_by_trying_is_given_and_another_device_is_named(project, monkeypatch):
    with monkeypatch.context() as patch:  # an accelerator, on a machine that has none
        describe = {"precision_used": "fp32", "device_used": "cuda"}
        noted = {f"dcan.{name}": text for name, text in describe.items()}
        patch.setattr("deep_clustering.runs.tracking.records.circumstances", lambda *_: noted)
        # A pass in bfloat16 as slow as one in single precision, also where others use the processor meanwhile.
        patch.setattr("deep_clustering.training.precision._seconds_of_a_pass", lambda *_: 1.0)
        old = tracked_run(project, *scoring("dcan"), "--params=dcan.precision=auto,dcan.epochs=1")
    result = kedro(project, "reproduce", old.run_id)
    assert result.exit_code == 0, result.output
    assert "  dcan.precision: auto came to fp32; set to fp32" in result.output
    assert "ran with dcan.device: cuda, now cpu" in result.output.splitlines()
    assert "ran with dcan.precision" not in result.output
    assert "_used" not in result.output
    new = list_runs(project, last=1)[0]
    assert (old.params["dcan.precision"], new.params["dcan.precision"]) == ("auto", "fp32")
    assert (old.params["dcan.epochs"], new.params["dcan.epochs"]) == ("1", "1")
    assert new.used == {"dcan.precision": "fp32", "dcan.device": "cpu"}


def test_a_hidden_parameter_is_refused_with_the_reason(project, runs):
    params = json.dumps({"seed": 3, "ingestion": {"token": "[redacted]"}})
    client_of(project).set_tag(runs["kmeans"].run_id, "kedro.runtime_params", params)
    message = refuse(project, "reproduce", runs["kmeans"].run_id)
    assert "the value of ingestion.token was hidden when it was recorded" in message
    assert "kedro run --pipelines=kmeans" in message


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("kedro.pipeline", "kmeens", "the project has no pipeline kmeens any more"),
        ("kedro.env", "nowhere", "is of --env=nowhere, and there is no conf/nowhere any more"),
        ("kedro.selection", '{"node_names": ["kmeans.ft"]}', "kmeans.ft"),
        ("kedro.runtime_params", "[1]", "tag kedro.runtime_params: expected JSON, got '[1]'"),
        ("kedro.runtime_params", "{", "tag kedro.runtime_params: expected JSON, got '{'"),
    ],
)
def test_a_run_that_the_project_no_longer_has_is_refused(project, runs, tag, value, message):
    client_of(project).set_tag(runs["kmeans"].run_id, tag, value)
    assert message in refuse(project, "reproduce", runs["kmeans"].run_id)


def test_a_run_that_has_not_ended_is_refused(project, runs):
    client_of(project).update_run(runs["kmeans"].run_id, "RUNNING")
    assert refuse(project, "reproduce", runs["kmeans"].run_id) == (
        f"run {runs['kmeans'].run_id} has not ended yet; it can be reproduced when it has"
    )


def test_a_failed_run_is_repeated_with_nothing_to_compare(project, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.data.preparation.prepare", _fail)
        failed = tracked_run(project, *scoring("kmeans"))
    assert failed.status == "FAILED"
    result = kedro(project, "reproduce", failed.run_id)
    assert result.exit_code == 0, result.output
    new = list_runs(project, last=1)[0]
    assert result.output.splitlines()[-1] == (
        f"run {failed.run_id} left nothing to compare with; run {new.run_id} has finished"
    )


def test_a_failed_run_is_compared_in_what_it_had_done(project, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.scores.evaluation.score_clustering", _fail)
        failed = tracked_run(project, *scoring("kmeans"))
    client = client_of(project)
    assert [item.path for item in client.list_artifacts(failed.run_id, "kmeans")] == ["kmeans/assignments.npy"]
    result = kedro(project, "reproduce", failed.run_id)
    assert result.exit_code == 0, result.output
    assert "100.00%" in result.output
    assert result.output.splitlines()[-1].startswith("identical: run ")


def _fail(*arguments):
    raise ValueError("out of luck")


def test_changes_are_told_apart(finished, monkeypatch):
    root, runs = finished
    now = {"git.sha": "b" * 40, "git.branch": "main", "git.dirty": "false"}
    monkeypatch.setattr("deep_clustering.runs.tracking.provenance.describe_git", lambda path: now)
    run = runs["kmeans"]
    same = replace(run, git={"sha": "b" * 40, "branch": "other", "dirty": "false"})
    assert repeating.changes_of_code(same, root) == []
    other = replace(
        run,
        git={"sha": "a" * 40, "branch": "trunk", "dirty": "true"},
        python="3.11.0",
        packages={**run.packages, "numpy": "1.0", "gone": "2.0"},
    )
    assert repeating.changes_of_code(other, root) == [
        f"code: commit {'a' * 12} (trunk), now {'b' * 12}",
        "code: with changes that no commit holds, then",
        f"python: 3.11.0, now {run.python}",
        "package gone: 2.0, now -",
        f"package numpy: 1.0, now {np.__version__}",
    ]


ROWS = np.repeat(np.arange(10), 20)  # 200 rows
METRICS = {"acc": 0.75, "nmi": 0.5}


def moved(n_rows):
    """Assignments with some rows in a cluster of their neighbours."""
    changed = ROWS.copy()
    changed[:n_rows] = 1
    return changed


@pytest.mark.parametrize(
    ("assignments", "metrics", "verdict", "agreement"),
    [
        (ROWS, METRICS, Verdict.IDENTICAL, 1.0),
        ((ROWS + 3) % 10, METRICS, Verdict.WITHIN_TOLERANCE, 1.0),
        (ROWS, METRICS | {"acc": 0.755}, Verdict.WITHIN_TOLERANCE, 1.0),
        (ROWS, METRICS | {"acc": 0.765}, Verdict.DIFFERENT, 1.0),
        (moved(2), METRICS, Verdict.WITHIN_TOLERANCE, 0.99),
        (moved(2), METRICS | {"acc": 0.755}, Verdict.WITHIN_TOLERANCE, 0.99),
        (moved(2), METRICS | {"acc": 0.5}, Verdict.DIFFERENT, 0.99),
        (moved(3), METRICS, Verdict.DIFFERENT, 0.985),
        (moved(3), METRICS | {"acc": 0.755}, Verdict.DIFFERENT, 0.985),
        (ROWS % 3, METRICS, Verdict.DIFFERENT, 0.3),
        (ROWS, {"acc": 0.75}, Verdict.DIFFERENT, 1.0),
        (ROWS, None, Verdict.DIFFERENT, 1.0),
        (None, METRICS, Verdict.DIFFERENT, None),
        (ROWS[:-1], METRICS | {"acc": 0.5}, Verdict.DIFFERENT, 0.0),
        (None, METRICS | {"acc": 0.5}, Verdict.DIFFERENT, None),
        (None, None, Verdict.DIFFERENT, None),
    ],
)
def test_the_verdict_follows_its_definition(assignments, metrics, verdict, agreement):
    then = Results(assignments=ROWS, metrics=METRICS)
    found = compare("toy", then, Results(assignments=assignments, metrics=metrics), tolerance=0.01)
    assert found.verdict == verdict
    assert found.agreement == (None if agreement is None else pytest.approx(agreement))


def test_what_the_recorded_run_has_not_left_is_not_asked_of_the_new_one():
    whole = Results(assignments=ROWS, metrics=METRICS)
    assert compare("toy", Results(assignments=ROWS, metrics=None), whole, 0.01).verdict == Verdict.IDENTICAL
    assert compare("toy", Results(assignments=moved(3), metrics=None), whole, 0.01).verdict == Verdict.DIFFERENT
    assert compare("toy", Results(assignments=None, metrics=METRICS), whole, 0.01).verdict == Verdict.IDENTICAL
    assert compare("toy", Results(assignments=None, metrics={"acc": 0.5}), whole, 0.01).verdict == Verdict.DIFFERENT


def test_the_tolerance_is_the_callers(project, runs):
    then, now = Results(assignments=None, metrics=METRICS), Results(assignments=None, metrics=METRICS | {"acc": 0.8})
    verdicts = [compare("toy", then, now, tolerance).verdict for tolerance in (0.0, 0.04, 0.06)]
    assert verdicts == [Verdict.DIFFERENT, Verdict.DIFFERENT, Verdict.WITHIN_TOLERANCE]
    assert compare("toy", then, None, 1.0).verdict == Verdict.DIFFERENT


def test_an_unknown_run_is_refused(project):
    assert "there is no run '000000'; the newest runs: " in refuse(project, "reproduce", "000000")
    assert find_run(project, list_runs(project)[0].run_id)
