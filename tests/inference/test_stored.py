"""A stored model is found by its name or refused with what is near, and answers as MLflow loads it as it does here."""

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from alembic.script import ScriptDirectory
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from deep_clustering.inference import stored
from deep_clustering.inference.mlflow_model import ClusteringModel
from deep_clustering.inference.mlflow_store import TrackingError, check_schema, open_store, sqlite_path, sqlite_uri
from deep_clustering.inference.predictor import Assigner
from deep_clustering.inference.stored import read_predictor

FILE = Path(__file__).parents[1] / "v0_2_0/predictor.safetensors"
ROWS = np.load(FILE.with_name("assigned.npz"))["samples"]


def loaded(**config):
    model = ClusteringModel()
    model.load_context(SimpleNamespace(artifacts={"predictor": str(FILE)}, model_config=config))
    return model


def test_a_loaded_model_gives_what_the_predictor_gives(tmp_path):
    expected = Assigner(read_predictor(tmp_path, str(FILE))[0]).assign(ROWS)
    given = loaded().predict(None, ROWS)
    pd.testing.assert_frame_equal(given, expected, check_dtype=False)


@pytest.mark.parametrize(
    ("rows", "said"),
    [(ROWS[:4], "rows: got 4; expected at most 3 at once"), (ROWS[:2, ..., :5], "got")],
    ids=["too many", "another shape"],
)
def test_what_a_loaded_model_refuses_is_the_fault_of_the_client(rows, said):
    with pytest.raises(MlflowException, match=said) as caught:
        loaded(max_rows=3).predict(None, rows)
    assert caught.value.get_http_status_code() == 400


class Store:
    """A store with the model `digits-dcan`, versions 1 and 2, and a run that has logged `dcan`."""

    def __init__(self, aliases):
        self.aliases = aliases

    def get_registered_model(self, name):
        if name != "digits-dcan":
            raise MlflowException(f"no {name}", RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(aliases=self.aliases)

    def search_registered_models(self):
        return [SimpleNamespace(name="digits-dcan")]

    def search_model_versions(self, _):
        return [SimpleNamespace(version=version) for version in (1, 2)]

    def get_run(self, _):
        return SimpleNamespace(outputs=SimpleNamespace(model_outputs=[SimpleNamespace(model_id="m")]))

    def get_logged_model(self, _):
        return SimpleNamespace(name="dcan", artifact_location="place/")

    def get_model_version_download_uri(self, name, number):
        return f"place/{name}/{number}"


@pytest.fixture
def place_of(monkeypatch, tmp_path):
    """Function (model, aliases) to the place from which it would be read, and its full name."""

    def place(model, aliases=None):
        @contextmanager
        def opened(_):
            yield Store({"champion": 2} if aliases is None else aliases)

        asked = []
        monkeypatch.setattr(stored, "open_store", opened)
        monkeypatch.setattr("mlflow.artifacts.download_artifacts", lambda uri, **_: asked.append(uri) or str(FILE))
        _, name = read_predictor(tmp_path, model)
        return asked[0].removesuffix("/artifacts/predictor.safetensors"), name

    return place


@pytest.mark.parametrize(
    ("model", "place", "name"),
    [
        ("models:/digits-dcan@champion", "place/digits-dcan/2", "models:/digits-dcan/2"),
        ("models:/digits-dcan/1", "place/digits-dcan/1", "models:/digits-dcan/1"),
        ("runs:/abc/dcan", "place", "runs:/abc/dcan"),
    ],
)
def test_a_model_is_read_from_where_the_store_says(place_of, model, place, name):
    assert place_of(model) == (place, name)


@pytest.mark.parametrize(
    ("model", "aliases", "said"),
    [
        ("models:/digits-dcan", None, r"got 'models:/digits-dcan'; expected models:/<name>@<alias>"),
        ("models:/@champion", None, r"got 'models:/@champion'; expected models:/<name>@<alias>"),
        ("models:/digits-dcam/1", None, r"no registered model 'digits-dcam' \(did you mean 'digits-dcan'\?\)"),
        ("models:/digits-dcan/3", None, r"digits-dcan has no version 3"),
        ("models:/digits-dcan@campion", None, r"has no alias 'campion' \(did you mean 'champion'\?\)"),
        ("models:/digits-dcan@champion", {}, r"has no alias 'champion' \(it has none\)"),
        ("runs:/abc/dcam", None, r"run abc has no model 'dcam' \(did you mean 'dcan'\?\)"),
    ],
)
def test_what_the_store_does_not_have_is_refused_with_what_is_near(place_of, model, aliases, said):
    with pytest.raises(TrackingError, match=said):
        place_of(model, aliases)


def test_without_a_store_it_is_said_how_one_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=r"no runs are tracked yet: there is no .*mlflow.db"), open_store(tmp_path):
        pass


@pytest.mark.parametrize("name", ["plain", "a b", "50%", "why?", "%3F"])
def test_the_uri_of_a_file_leads_back_to_it(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name / "mlflow.db"
    assert sqlite_path(sqlite_uri(file)).resolve() == file
    assert sqlite_path("https://example.org") is None


@pytest.fixture
def database(tmp_path):
    """Function: versions of the schema to an SQLite store that says that it has them."""

    def make(*versions, table="alembic_version"):
        path = tmp_path / "mlflow.db"
        with closing(sqlite3.connect(path)) as store:
            store.execute(f"CREATE TABLE {table} (version_num TEXT)")
            store.executemany(f"INSERT INTO {table} VALUES (?)", [(version,) for version in versions])
            store.commit()
        return path

    return make


def test_a_store_of_another_mlflow_is_refused_with_what_to_do_and_stays_as_it_is(database, tmp_path):
    from mlflow.store.db.utils import _get_alembic_config

    oldest = ScriptDirectory.from_config(_get_alembic_config("")).get_bases()[0]
    cases = {
        oldest: "keep a copy of it and upgrade it:\n    mlflow db upgrade sqlite",
        "f" * 12: "a newer MLflow wrote it",
    }
    for version, said in cases.items():
        path = database(version)
        before = path.read_bytes()
        with pytest.raises(TrackingError, match=rf"mlflow\.db: has the schema {version}, MLflow expects [^;]*; {said}"):
            check_schema(sqlite_uri(path))
        assert path.read_bytes() == before
        path.unlink()


@pytest.mark.parametrize(("versions", "table"), [((), "alembic_version"), (("x",), "anything")])
def test_a_database_that_is_no_store_yet_is_left_to_mlflow(database, versions, table):
    check_schema(sqlite_uri(database(*versions, table=table)))


def test_a_store_behind_a_server_is_left_to_it():
    check_schema("http://localhost:1")


def test_a_place_without_a_predictor_is_named(tmp_path):
    path = tmp_path / "none.safetensors"
    with pytest.raises(ValueError, match=rf"^no predictor at {path}; expected models:/"):
        read_predictor(tmp_path, str(path))
