"""Reports for the gallery of the site: three recipes on data that scikit-learn carries, run in a copy of the project.

`make gallery` runs this file; the page asks `shown` for what there is.
"""

import csv
import inspect
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "build/gallery"
MODULES = (
    "cluster",
    "datasets",
    "decomposition",
    "ensemble",
    "feature_selection",
    "linear_model",
    "metrics",
    "neighbors",
    "preprocessing",
)


@dataclass(frozen=True)
class Recipe:
    """A report of the gallery: how it is called, what is clustered, and by which commands."""

    name: str
    rows: str
    commands: tuple[str, ...]
    report: str
    """Folder of the report within data/08_reporting."""
    write: Callable[[Path], None] | None = None
    """Writes the file that the first command reads into a folder."""


def write_wine(folder: Path) -> None:
    """The measurements of scikit-learn's wines, without their cultivars, and these as a file of their own."""
    import numpy as np
    from sklearn.datasets import load_wine

    wine = load_wine()
    np.savez(folder / "wine.npz", rows=wine.data, cultivar=wine.target)


def write_docstrings(folder: Path) -> None:
    """The documentation of scikit-learn's public names of nine modules, one text each, with the module."""
    texts: dict[str, str] = {}
    for module in MODULES:
        members = import_module(f"sklearn.{module}")
        for name in sorted(vars(members).keys() & set(members.__all__)):
            text = inspect.getdoc(vars(members)[name]) or ""
            if len(text) > 200:  # a name without documentation, or a module
                texts.setdefault(text, module)
    with (folder / "docstrings.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "module"])
        lines.writerows(texts.items())


RECIPES = (
    Recipe(
        "digits", "1,797 images of handwritten digits, 8 x 8 pixels", ("kedro run --pipelines=dcan",), "digits/dcan"
    ),
    Recipe(
        "wine",
        "178 wines, 13 chemical measurements each",
        (
            "kedro new-data wine --array wine.npz --key rows --labels cultivar --n-clusters 3",
            "kedro run --env=wine --pipelines=dcan",
        ),
        "wine/dcan",
        write_wine,
    ),
    Recipe(
        "docstrings",
        "the documentation of scikit-learn's functions and classes, nine modules",
        (
            "kedro new-data docstrings --text docstrings.csv --column text --labels module --n-clusters 9",
            "kedro run --env=docstrings --pipelines=neural_mixture",
        ),
        "docstrings/neural_mixture",
        write_docstrings,
    ),
)


def make(folder: Path) -> None:
    """Run all recipes and put their reports into a folder.

    Raises:
        CalledProcessError: if a command fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        shutil.copy(ROOT / "pyproject.toml", project)
        for part in ("conf", "src"):
            shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__", "local"))
        (project / "conf/local").mkdir()
        for recipe in RECIPES:
            if recipe.write:
                recipe.write(project)
            for command in recipe.commands:
                subprocess.run(
                    [sys.executable, "-m", *shlex.split(command)],
                    cwd=project,
                    env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")},
                    check=True,
                )
            newest = max(project.glob(f"data/08_reporting/{recipe.report}/report.html/*/report.html"))
            shutil.copy(newest, folder / f"{recipe.name}.html")


def shown(folder: Path) -> str:
    """Markdown of the gallery: what was clustered, by which commands, and the report if it was made."""
    parts = []
    for recipe in RECIPES:
        made = (folder / f"{recipe.name}.html").exists()
        report = f"[Open the report](gallery/{recipe.name}.html)" if made else "`make gallery` makes the report."
        commands = "\n".join(recipe.commands)
        parts.append(
            f"## {recipe.name}\n\n{recipe.rows[0].upper()}{recipe.rows[1:]}. {report}\n\n```sh\n{commands}\n```"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    make(REPORTS)
