"""Command line of the project: Kedro's own commands, with errors a person can read."""

import copy
import logging
import warnings
from functools import wraps
from pathlib import Path
from typing import Any

import click
import kedro.runner
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


def _check_runner(runner: str | None) -> None:
    """Refuse a runner that Kedro does not have; a dotted name is a class of somebody else."""
    known = [name for name in kedro.runner.__all__ if name.endswith("Runner") and name != "AbstractRunner"]
    if runner and "." not in runner and runner not in known:
        raise click.ClickException(f"--runner: unknown runner '{runner}' ({closest(runner, known)})")


@wraps(kedro_run.callback)  # type: ignore[arg-type]
def _run(**options: Any) -> Any:  # noqa: ANN401
    """Run the pipeline; an expected error becomes one message without a traceback."""
    _check_environment(options["env"])
    _check_runner(options["runner"])
    # The project documents --pipeline as well as --pipelines; the warning would be the first thing a user reads.
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    try:
        return kedro_run.callback(**options)  # type: ignore[misc]
    except _EXPECTED as error:
        logger.debug("the run failed", exc_info=True)
        raise click.ClickException(_root_message(error)) from error


def _root_message(error: BaseException) -> str:
    """The message of an error; one that the project raised says all, another is told by its kind as well."""
    text = str(error).strip() or type(error).__name__
    is_ours = isinstance(error, ValueError | DatasetError | FloatingPointError) or (
        isinstance(error, OSError) and error.errno is None
    )
    return text if is_ours else f"{type(error).__name__}: {text}"


run = copy.copy(kedro_run)
run.callback = _run
cli.add_command(run)


@cli.command("new-data")
@click.argument("name")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of images; sub-folders are searched too.")
@click.option("--array", type=click.Path(path_type=Path), help="Images or vectors in .npy or .npz, or a sparse .npz.")
@click.option("--text", type=click.Path(path_type=Path), help="Table of texts: .csv, .tsv, .parquet or .jsonl.")
@click.option("--column", help="Of --text: column of the texts.")
@click.option("--labels", help="Classes, only for scores: 'folders', a .npy file or array of the .npz, a column.")
@click.option("--key", help="Of --array: name of the array in a .npz with several.")
@click.option("--layout", default="auto", show_default=True, help="Of --array: auto, nchw, nhwc, nhw or vectors.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of --text: encoding of the characters.")
@click.option("--size", type=click.IntRange(8, 512), help="Of --images: side in pixels to bring them to.")
@click.option("--n-clusters", type=click.IntRange(2), help="Number of clusters.")
@click.option("--force", is_flag=True, help="Replace conf/NAME.")
def new_data_command(**options: Any) -> None:  # noqa: ANN401
    """Look at your own data and write its environment conf/NAME."""
    from deep_clustering.new_data import Request, new_data

    try:
        click.echo(new_data(Request(**options), Path("conf")))
    except _EXPECTED as error:
        logger.debug("new-data failed", exc_info=True)
        raise click.ClickException(_root_message(error)) from error
