"""Entry points of the installed package, in a project or in an empty folder, which they make one.

`python -m deep_clustering` takes the options of `kedro run`; `deep-clustering` takes every command of `kedro`.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import click
from kedro.utils import find_kedro_project

from deep_clustering.atomic import write_text

PACKAGE = Path(__file__).parent

# Commands that begin something; the others ask of what is there.
_BEGIN = ("run", "new-data", "sweep")

# Kedro asks for a folder of sources; the code is in the installed package, and conf/ has none.
_PYPROJECT = """\
# Made by deep-clustering: this folder is a project, in which every command of `kedro` works.
[tool.kedro]
package_name = "deep_clustering"
project_name = "Deep Clustering"
kedro_init_version = "1.7.0"
source_dir = "conf"
"""


def main(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Run the project's `run` command."""
    if find_kedro_project(Path.cwd()) is None and not _asks_for_help(sys.argv):
        _log_as(_make_project_here())
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    configure_project(PACKAGE.name)
    return find_run_command(PACKAGE.name)(*args, **kwargs)


def command() -> None:
    """Answer `deep-clustering COMMAND` as `kedro COMMAND` would in a project."""
    words = sys.argv[1:]
    name = next(iter(words), "--help")
    root = find_kedro_project(Path.cwd())
    if root is None and not name.startswith("-") and not _asks_for_help(words):
        if name not in _BEGIN:
            _end(f"there is no project in {Path.cwd()}; {', '.join(_BEGIN)} make one in an empty folder")
        root = _make_project_here()
    _log_as(root)
    if root is None:
        from deep_clustering.cli import cli

        cli(prog_name="deep-clustering", args=words or ["--help"])
    from kedro.framework.cli.cli import KedroCLI

    KedroCLI(project_path=root).main(args=words or ["--help"], prog_name="deep-clustering")


def make_project(here: Path, conf: Path | None = None) -> Path:
    """Make a folder a project: its own copy of the configuration, to be edited, and a pyproject.toml.

    Args:
        here: The folder.
        conf: The configuration; None takes that of the package.

    Returns:
        The folder.

    Raises:
        ValueError: if something of these names is there already.
    """
    from deep_clustering.pipelines.parameters import packaged_conf

    taken = [name for name in ("conf", "pyproject.toml") if (here / name).exists()]
    if taken:
        raise ValueError(
            f"there is no project in {here}, and none is made here as it holds {' and '.join(taken)}: "
            "go to an empty folder"
        )
    with tempfile.TemporaryDirectory(dir=here, prefix=".conf-") as part:
        copy = Path(part) / "conf"
        shutil.copytree(conf or packaged_conf(), copy, ignore=shutil.ignore_patterns("local", "*credentials*"))
        (copy / "local").mkdir()
        os.replace(copy, here / "conf")
    write_text(here / ".telemetry", "consent: false\n")
    write_text(here / "pyproject.toml", _PYPROJECT)
    return here


def _make_project_here() -> Path:
    try:
        root = make_project(Path.cwd())
    except (ValueError, OSError) as error:
        _end(str(error))
    click.echo(f"{root} is a project now: its options are in conf/, its results go to data/", err=True)
    return root


def _log_as(root: Path | None) -> None:
    """Log as the project says; Kedro asks when it is imported, and looks where the user stands."""
    file = root / "conf/logging.yml" if root else None
    if file and file.is_file():
        os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(file))


def _asks_for_help(words: list[str]) -> bool:
    return "--help" in words or "-h" in words


def _end(message: str) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
