"""`kedro resume`: finished work is kept, everything behind what is missing runs, and all of it is one version."""

import errno
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest

from command_line import checksums, error_of, kedro
from deep_clustering.datasets import JSONDataset
from deep_clustering.runs.tracking.process import describe_process
from deep_clustering.runs.tracking.reading import find_run, list_runs
from deep_clustering.runs.tracking.tracked_run import LOST, TrackedRun
from deep_clustering.settings import HOOKS
from pipelines.small_project import versions
from tracked_project import PARAMETERS, client_of, make_project, refuse, tracked_run, write_parameters

pytestmark = pytest.mark.usefixtures("plain_pages")


def _fail(*arguments, **named):
    raise ValueError("out of luck")


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A project whose only run failed when it should have been scored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("deep_clustering.scores.evaluation.score_clustering", _fail)
        root = make_project(tmp_path_factory.mktemp("failed") / "project")
        run = tracked_run(root, "--pipelines=kmeans", "--params=seed=3")
    assert run.status == "FAILED"
    return root, run


@pytest.fixture
def project(failed, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return shutil.copytree(failed[0], tmp_path / "project")


@pytest.fixture
def run(failed):
    return failed[1]


def file_of(root, name, version):
    (path,) = (path for path in versions(root, name) if path.parent.name == version)
    return path


@pytest.mark.parametrize("is_named", [True, False])
def test_finished_work_is_kept_and_the_rest_gets_the_same_version(project, run, is_named, monkeypatch):
    before = checksums(project / "data")
    monkeypatch.setattr("deep_clustering.pipelines.training.nodes.fit", _fail)
    result = kedro(project, "resume", *([run.run_id[:8]] if is_named else []))
    assert result.exit_code == 0, result.output
    after = checksums(project / "data")
    assert before.items() <= after.items()
    assert {path.split("/")[-2] for path in after} == {run.save_version}
    new = list_runs(project, last=1)[0]
    assert new.tags["deep_clustering.resumes"] == run.run_id
    assert (new.status, new.params["seed"], new.scored) == ("FINISHED", "3", ("kmeans",))
    assert kedro(project, "resume").output == "no tracked run is unfinished\n"
    assert f"all its outputs are there, in version {run.save_version}" in kedro(project, "resume", run.run_id).output


def test_a_continued_run_equals_one_that_was_never_interrupted(project, run):
    assert kedro(project, "resume").exit_code == 0
    continued = list_runs(project, last=1)[0]
    result = kedro(project, "reproduce", continued.run_id)
    assert result.exit_code == 0, result.output
    assert f"run {continued.run_id} continued run {run.run_id}: the whole of it is repeated" in result.output
    new = list_runs(project, last=1)[0]
    assert f"identical: run {new.run_id} against run {run.run_id}" in result.output.splitlines()
    whole = JSONDataset(filepath=str(file_of(project, "scores.json", new.save_version))).load()
    pieced = JSONDataset(filepath=str(file_of(project, "scores.json", run.save_version))).load()
    assert whole["metrics"] == pieced["metrics"]


def test_a_run_made_in_between_does_not_leak_into_it(project, run):
    between = tracked_run(project, "--pipelines=kmeans", "--params=n_clusters=4")
    result = kedro(project, "resume", run.run_id)
    assert result.exit_code == 0, result.output
    scores = JSONDataset(filepath=str(file_of(project, "scores.json", run.save_version))).load()
    assignments = np.load(file_of(project, "assignments.npy", run.save_version))
    assert scores["n_clusters"] == 10
    assert scores["occupancy"] == np.bincount(assignments, minlength=10).tolist()
    assert versions(project, "scores.json")[-1].parent.name == between.save_version


def test_a_half_saved_node_runs_again_and_its_outputs_stay_beside_the_new_ones(project, run):
    saved = file_of(project, "assignments.npy", run.save_version)
    before = np.load(saved)
    file_of(project, "representation.npz", run.save_version).unlink()
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert "nodes are left: kmeans.assign, " in result.output
    np.testing.assert_array_equal(np.load(saved), before)
    with saved.with_name("assignments.npy.unfinished").open("rb") as aside:
        np.testing.assert_array_equal(np.load(aside), before)


def test_everything_behind_a_missing_output_runs_again(project, run):
    file_of(project, "model.safetensors", run.save_version).unlink()
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    left = next(line for line in result.output.splitlines() if "nodes are left" in line)
    assert set(left.partition("left: ")[2].split(", ")) == {
        "kmeans.fit",
        "kmeans.assign",
        "kmeans.bundle",
        "kmeans.name_clusters",
        "kmeans.tabulate",
        "evaluation.score_kmeans",
        "evaluation.project_kmeans",
        "evaluation.pick_members_kmeans",
        "evaluation.report_kmeans",
    }


def test_a_second_failure_is_continued_too(project, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.reporting.page.write_report", _fail)
        assert "out of luck" in error_of(kedro(project, "resume"))
    assert len(versions(project, "scores.json")) == 1
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert "nodes are left: evaluation.report_kmeans" in result.output
    assert file_of(project, "report.html", run.save_version)
    assert kedro(project, "resume").output == "no tracked run is unfinished\n"


def test_parameters_of_finished_nodes_must_be_as_they_were(project, run):
    write_parameters(project, PARAMETERS.replace("n_init: 2", "n_init: 3"))
    message = refuse(project, "resume", run.run_id)
    assert "computed with other parameters than the configuration has now" in message
    assert "    parameter kmeans.n_init: 2, now 3" in message


def test_where_it_was_computed_may_change(project, run):
    write_parameters(project, PARAMETERS + "features: {batch_size: 8, cache: elsewhere, device: auto}\n")
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert "  warning: changed since: parameter features.batch_size: 64, now 8" in result.output


def test_parameters_of_what_is_left_may_be_corrected(project, run):
    write_parameters(project, PARAMETERS + "evaluation: {silhouette_samples: 20}\n")
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert "  warning: changed since: parameter evaluation.silhouette_samples: 5000, now 20" in result.output


def test_other_code_or_packages_are_a_warning(project, run):
    packages = '{"numpy": "1.0"}'
    client_of(project).set_tag(run.run_id, "python.packages", packages)
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert f"  warning: changed since: package numpy: 1.0, now {np.__version__}" in result.output


def test_a_run_that_still_lives_is_refused(project, run):
    client_of(project).update_run(run.run_id, "RUNNING")
    process = describe_process()["process.id"]  # the run's process is this one
    assert refuse(project, "resume", run.run_id) == f"run {run.run_id} still runs here, as process {process}"
    assert kedro(project, "resume").output == "no tracked run is unfinished\n"


def test_a_run_on_another_host_is_refused(project, run):
    client = client_of(project)
    client.update_run(run.run_id, "RUNNING")
    client.set_tag(run.run_id, "process.host", "elsewhere")
    assert "says that it runs on host elsewhere as process" in refuse(project, "resume", run.run_id)


def test_a_run_whose_process_died_is_the_newest_unfinished_one(project, run):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    client = client_of(project)
    client.update_run(run.run_id, "RUNNING")
    client.set_tag(run.run_id, "process.id", str(process.pid))
    client.set_tag(run.run_id, "process.start", "0-0 1")
    assert find_run(project, run.run_id).status == "died"
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"resuming run {run.run_id} (kmeans digits seed 3, died)")


def test_what_a_store_did_not_take_of_a_run_that_ended_well_is_written_later(project, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TrackedRun, "log_data_card", _refuse)
        patch.setattr(TrackedRun, "log_file", _refuse)
        run = tracked_run(project, "--pipelines=kmeans")
    assert run.status == "FINISHED"
    assert run.tags[LOST].startswith("data_card, ")
    before, client = checksums(project / "data"), client_of(project)
    assert client.get_run(run.run_id).inputs.dataset_inputs == []
    result = kedro(project, "resume", run.run_id)
    assert result.exit_code == 0, result.output
    assert "  tracked now, it was saved only: data_card\n" in result.output
    assert checksums(project / "data") == before
    assert len(client.get_run(run.run_id).inputs.dataset_inputs) == 1
    assert {item.path for item in client.list_artifacts(run.run_id)} >= {"data_card.json", "kmeans"}
    again = find_run(project, run.run_id)
    assert (again.status, LOST in again.tags) == ("FINISHED", False)
    assert "tracked now" not in kedro(project, "resume", run.run_id).output


def _refuse(*arguments):
    raise OSError("no room")


def test_a_vanished_input_from_outside_the_run_is_named(project, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.scores.evaluation.score_clustering", _fail)
        partial = tracked_run(project, "--pipelines=kmeans", "--from-nodes=kmeans.assign")
    assert partial.load_versions["samples"] == run.save_version
    samples = file_of(project, "samples.npy", run.save_version)
    history = file_of(project, "history.npz", run.save_version)
    history.unlink()
    message = f"run {partial.run_id}: its input 'kmeans_history' is gone: there is no {history}"
    assert refuse(project, "resume", partial.run_id) == message
    assert samples.exists()


def test_a_continuation_is_tracked_as_the_run_was(project, monkeypatch):
    params = "--params=tracking.experiment=study,tracking.log_model=true,tracking.register=false,tracking.tags.team=a"
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.inference.predictor.make_predictor", _fail)
        tracked_run(project, "--pipelines=kmeans", params)
    assert kedro(project, "resume").exit_code == 0
    new = list_runs(project, last=1)[0]
    assert (new.experiment, new.tags["team"]) == ("study", "a")
    client = client_of(project)
    assert len(client.get_run(new.run_id).outputs.model_outputs) == 1
    assert client.search_registered_models() == []


def test_a_run_that_is_being_continued_is_passed_over(project, run):
    older = run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deep_clustering.scores.evaluation.score_clustering", _fail)
        newer = tracked_run(project, "--pipelines=kmeans")
        kedro(project, "resume", newer.run_id)
    continuation = list_runs(project, last=1)[0]
    assert continuation.tags["deep_clustering.resumes"] == newer.run_id
    client_of(project).update_run(continuation.run_id, "RUNNING")
    result = kedro(project, "resume")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"resuming run {older.run_id}")


def test_a_continuation_whose_run_is_deleted_is_passed_over(project, run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deep_clustering.scores.evaluation.score_clustering", _fail)
        kedro(project, "resume", run.run_id)
    client_of(project).delete_run(run.run_id)
    assert kedro(project, "resume").output == "no tracked run is unfinished\n"


def test_each_part_names_the_one_that_went_on(project, run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("deep_clustering.reporting.page.write_report", _fail)
        kedro(project, "resume")
    (second,) = list_runs(project, last=1)
    assert kedro(project, "resume").exit_code == 0
    (third,) = list_runs(project, last=1)
    tags = [find_run(project, part.run_id).tags.get("deep_clustering.resumed_by") for part in (run, second, third)]
    assert tags == [third.run_id, third.run_id, None]
    assert [find_run(project, part.run_id).status for part in (run, second, third)] == ["FAILED", "FAILED", "FINISHED"]


def _raising(error):
    def fail(*arguments, **named):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "is_advised"),
    [
        (ValueError("bad data"), False),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (OSError("no number"), False),
        (OSError(errno.ENOSPC, "no space left"), True),
        (MemoryError(), True),
        (KeyboardInterrupt(), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_it_is_advised_where_it_may_help(project, run, monkeypatch, caplog, error, is_advised):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("deep_clustering.scores.evaluation.score_clustering", _raising(error))
    kedro(project, "run", "--pipelines=kmeans", "--nodes=kmeans.assign,evaluation.score_kmeans")
    if isinstance(error, KeyboardInterrupt):
        for hook in HOOKS:
            getattr(hook, "_finish", lambda status: None)("KILLED")  # as at the end of the process
    newest = list_runs(project, last=1)[0]
    assert newest.run_id != run.run_id
    advice = f"to continue it: kedro resume {newest.run_id[:8]}"
    assert (advice in caplog.messages) is is_advised
