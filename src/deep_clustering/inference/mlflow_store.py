"""Where runs are tracked, and how a store is opened: quietly, and never migrated to another schema unasked."""

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deep_clustering.redaction import redact_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

# How long somebody waits for a dead server, and what MLflow would do unasked: report usage over the network,
# draw progress bars, print links, warn when git is missing. A value set by the user wins.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
# They log, with a traceback or once for each try, what becomes one sentence here.
_TALKATIVE = ("mlflow.store", "urllib3.connectionpool")
_WARNINGS = ("(?s).*An input example was not provided", "(?s).*loader strategy is deprecated")

_SQLITE = "sqlite:///"


class TrackingError(click.ClickException):
    """The tracking store cannot be used; Kedro's command line shows the message without a traceback."""


def store_uri(project_path: Path) -> str:
    """URI of the store: `MLFLOW_TRACKING_URI`, or else `mlflow.db` in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(project_path / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """URI of an SQLite file, as SQLAlchemy reads it.

    Where a folder's name holds what is not itself in a URI, the file is named from here if that avoids it: MLflow makes
    the folder of the escaped name as well. It keeps an engine for each URI, so a process works in one such project.
    """
    path = file.as_posix()
    if not _is_plain(path):
        relative = Path(os.path.relpath(file)).as_posix()
        path = relative if _is_plain(relative) else path.replace("%", "%25").replace("?", "%3F")
    return f"{_SQLITE}{path}"


def _is_plain(path: str) -> bool:
    return not set(path) & set("%?")


def sqlite_path(uri: str) -> Path | None:
    """File of an SQLite store; None for a store of another kind."""
    if not uri.startswith(_SQLITE):
        return None
    path = uri.removeprefix(_SQLITE)
    if _is_plain(path):
        return Path(path)
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or "")


def import_quietly() -> None:
    """Import MLflow."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import mlflow  # noqa: F401  it sets up its loggers

    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("mlflow").setLevel(logging.WARNING)


@contextmanager
def silent_failures() -> Iterator[None]:
    """Let nothing be logged of a store that fails, by MLflow or below it."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def tracking_failures() -> tuple[type[Exception], ...]:
    """What a store that fails raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError, OSError)


def reason_of(error: Exception) -> str:
    """Why a store failed, in one line without secrets: what the database itself said, where that is wrapped."""
    from sqlalchemy.exc import DBAPIError

    said: BaseException = error.__cause__ if isinstance(error.__cause__, DBAPIError) else error
    if isinstance(said, DBAPIError):
        said = said.orig or said
    return redact_text(f"{type(said).__name__}: {said}".splitlines()[0])


def check_schema(uri: str) -> None:
    """Refuse an SQLite store of another MLflow; MLflow itself would migrate one that lacks tables, for good.

    Args:
        uri: URI of the store. One that is not SQLite is left to its server.

    Raises:
        TrackingError: saying how to upgrade the store, or that MLflow is the older of the two.
        sqlite3.Error: if the file is no database.
    """
    path = sqlite_path(uri)
    if path is None or not path.exists():
        return
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as store:
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            return
        found = [version for (version,) in store.execute("SELECT version_num FROM alembic_version")]
    from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision

    expected = _get_latest_schema_revision()
    if found in ([], [expected]):
        return
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()}
    if set(found) <= known:
        remedy = f"keep a copy of it and upgrade it:\n    mlflow db upgrade {redact_text(uri)}"
    else:
        remedy = "a newer MLflow wrote it: install that version"
    raise TrackingError(f"{path}: has the schema {', '.join(found)}, MLflow expects {expected}; {remedy}")


@contextmanager
def open_store(project_path: Path) -> Iterator["MlflowClient"]:
    """Open the store to read it.

    Args:
        project_path: Root of the project.

    Yields:
        A client of the store.

    Raises:
        TrackingError: if there is no store, it is of another schema, or it fails meanwhile.
    """
    uri = store_uri(project_path)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise TrackingError(f"no runs are tracked yet: there is no {path}; `kedro run` makes it")
    import_quietly()
    try:
        with silent_failures():
            check_schema(uri)
            from mlflow import MlflowClient

            yield MlflowClient(tracking_uri=uri)
    except tracking_failures() as error:
        raise TrackingError(f"cannot read the tracking store {redact_text(uri)}: {reason_of(error)}") from error
