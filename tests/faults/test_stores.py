"""A tracking store that cannot be opened: `tracking.on_error` decides before the first node."""

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing

import numpy as np
import pytest
from sqlalchemy.engine import make_url

from command_line import checksums, command, error_of, kedro_run, params
from deep_clustering.inference.mlflow_store import sqlite_path, sqlite_uri
from deep_clustering.runs.tracking import store
from pipelines.small_project import copy_project, versions

PASSWORD = "hush"


@pytest.fixture(scope="module")
def migrated_store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    store.start_run(root, "template", "template", {}).finish("FINISHED")
    return root / "mlflow.db"


def unreachable(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return f"http://me:{PASSWORD}@127.0.0.1:9"


def read_only(tmp_path, monkeypatch):
    """Rights do not bind the superuser, mounts do."""
    file = tmp_path / "mlflow.db"
    if os.geteuid() != 0:
        file.chmod(0o400)
    elif mount("--bind", file, file) or mount("-o", "remount,ro,bind", file):
        pytest.skip("mounting needs rights")
    return f"sqlite:///{file}"


def mount(*words):
    return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode


def in_no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    return f"sqlite:///{tmp_path}/file/mlflow.db"


def locked(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    return f"sqlite:///{tmp_path}/locked.db"


def not_a_database(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    return f"sqlite:///{tmp_path}/mlflow.db"


def overwritten(tmp_path, monkeypatch):
    file = tmp_path / "mlflow.db"
    content = file.read_bytes()
    file.write_bytes(content[:100] + bytes(range(256)) * (len(content) // 256))
    return f"sqlite:///{file}"


def cut_short(tmp_path, monkeypatch):
    os.truncate(tmp_path / "mlflow.db", (tmp_path / "mlflow.db").stat().st_size // 2)
    return f"sqlite:///{tmp_path}/mlflow.db"


FAULTS = {
    unreachable: "Max retries|Connection refused",
    read_only: "readonly database",
    in_no_folder: "Not a directory|File exists",
    locked: "database is locked",
    not_a_database: "file is not a database",
    overwritten: "malformed|not a database",
    cut_short: "malformed",
}


@pytest.fixture(params=FAULTS, ids=lambda fault: fault.__name__)
def fault(request, tmp_path, migrated_store, monkeypatch):
    shutil.copy(migrated_store, tmp_path)
    shutil.copy(migrated_store, tmp_path / "locked.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", request.param(tmp_path, monkeypatch))
    with closing(sqlite3.connect(tmp_path / "locked.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield FAULTS[request.param]
    if request.param is read_only and os.geteuid() == 0:
        subprocess.run(["umount", "--lazy", str(tmp_path / "mlflow.db")], check=True)


def test_stop_is_one_error_before_anything_runs(project, fault):
    before = checksums(project / "data")
    found = error_of(kedro_run(project, "--pipelines=kmeans", params(tracking__enabled="true")))
    assert re.search(rf"cannot open the tracking store .*({fault})", found), found
    assert "--params=tracking.on_error=warn" in found
    assert PASSWORD not in found
    assert checksums(project / "data") == before


def test_warn_is_one_warning_and_the_run_goes_on_untracked(project, fault, caplog):
    before = checksums(project / "data")
    only = params(tracking__enabled="true", tracking__on_error="warn")
    result = kedro_run(project, "--pipelines=kmeans", "--nodes=kmeans.fit", only)
    assert result.exit_code == 0, result.output
    ours = [record for record in caplog.records if record.name.startswith("deep_clustering")]
    (warning,) = (record.getMessage() for record in ours if record.levelname == "WARNING")
    assert re.search(rf"this run is not tracked: cannot open the tracking store .*({fault})", warning), warning
    assert PASSWORD not in warning
    assert [name for name in set(checksums(project / "data")) - set(before) if name.startswith("06_models")]


def test_another_word_is_refused(project):
    found = error_of(kedro_run(project, "--pipelines=kmeans", params(tracking__on_error="war")))
    assert "tracking: on_error got 'war' (did you mean 'warn'?)" in found


def test_a_store_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    from mlflow.store.db import utils

    upgrade = utils._upgrade_db

    def stop(engine):
        raise KeyboardInterrupt

    monkeypatch.setattr(utils, "_upgrade_db", stop)
    with pytest.raises(KeyboardInterrupt):
        store.start_run(tmp_path, "tests", "first", {})
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db.part-journal").write_bytes(b"of a killed process")
    monkeypatch.setattr(utils, "_upgrade_db", upgrade)
    store.start_run(tmp_path, "tests", "second", {}).finish("FINISHED")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


# Only one of them has what a URI escapes: MLflow keeps an engine for each URI, which then names the file from here.
@pytest.mark.parametrize("name", ["a#b", "a b, é", "%20a?b#%3F"])
def test_a_store_opens_in_any_folder_and_leaves_no_other_one(tmp_path, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / name
    root.mkdir()
    monkeypatch.chdir(root)
    store.start_run(root, "own", "first", {"tag": "x"}).finish("FINISHED")
    run = store.start_run(root, "own", "second", {})
    (root / "file.txt").write_text("content")
    run.log_file(root / "file.txt", "kind")
    assert run.has_file(root / "file.txt", "kind")
    assert [path.name for path in (root / "mlartifacts").rglob("file.txt")] == ["file.txt"]
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert sorted(database.execute("SELECT name FROM runs")) == [("first",), ("second",)]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["plain", "a%20b", "a?b", "a#b", "%3F?#%"])
def test_the_uri_of_a_file_names_that_file_from_any_folder(tmp_path, monkeypatch, name):
    file = tmp_path / name / "mlflow.db"
    file.parent.mkdir()
    for here in (file.parent, tmp_path):
        monkeypatch.chdir(here)
        uri = sqlite_uri(file)
        assert make_url(uri).database is not None
        assert (here / make_url(uri).database).resolve() == file.resolve()
        assert (here / sqlite_path(uri)).resolve() == file.resolve()
    assert sqlite_path("postgresql://host/store") is None


@pytest.mark.slow
def test_a_run_in_an_oddly_named_folder_is_tracked_and_predicts(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = copy_project(tmp_path / "a%20b?c #é" / "project")
    result = command(root, "-m", "deep_clustering", "--pipelines=kmeans", params(tracking__enabled="true"))
    assert result.returncode == 0, result.stderr
    assert "did not take" not in result.stderr
    np.save(root / "rows,of mine.npy", np.zeros((3, 1, 8, 8), dtype=np.uint8))
    words = "--params=model=models:/digits-kmeans@champion,input=rows,of mine.npy"
    result = command(root, "-m", "deep_clustering", "--pipelines=predict", words)
    assert result.returncode == 0, result.stderr
    assert len(versions(root, "predictions.parquet")) == 1
