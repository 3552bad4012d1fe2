"""Command line of the project: Kedro's own commands, with errors a person can read."""

import copy
import logging
import warnings
from functools import wraps
from pathlib import Path
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetError

from deep_clustering.options import closest

logger = logging.getLogger(__name__)

# What a wrong input, file or machine raises; anything else is a defect and keeps its traceback.
_EXPECTED = (ValueError, DatasetError, FloatingPointError, OSError, MissingConfigException, MemoryError)


@click.group()
def cli() -> None:
    """Commands of the project."""


def _check_environment(env: str | None) -> None:
    """Refuse an environment without a folder in conf."""
    folder = Path("conf")
    if env and folder.is_dir() and not (folder / env).is_dir():
        known = {path.name for path in folder.iterdir() if path.is_dir()}
        raise click.ClickException(f"--env: no configuration in conf/{env} ({closest(env, known)})")


@wraps(kedro_run.callback)  # type: ignore[arg-type]
def _run(**options: Any) -> Any:  # noqa: ANN401
    """Run the pipeline; an expected error becomes one message without a traceback."""
    _check_environment(options["env"])
    # The project documents --pipeline as well as --pipelines; the warning would be the first thing a user reads.
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    try:
        return kedro_run.callback(**options)  # type: ignore[misc]
    except _EXPECTED as error:
        logger.debug("the run failed", exc_info=True)
        raise click.ClickException(_root_message(error)) from error


def _root_message(error: BaseException) -> str:
    """The message of an error; Kedro's wrapper of a dataset error repeats its cause, so the cause is enough."""
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, ValueError | DatasetError) else f"{type(error).__name__}: {text}"


run = copy.copy(kedro_run)
run.callback = _run
cli.add_command(run)
