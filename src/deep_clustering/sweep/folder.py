"""A sweep's folder: the grid in sweep.json, and a folder for each cell with its record, cell.json.

<folder>/sweep.json                      the grid
<folder>/sweep.lock                      who works in the folder, while somebody does
<folder>/<environment>/prepared/         the data that all its cells read, prepared once
<folder>/<environment>/trunk-seed0/      a trunk on them that several cells read, learned once
<folder>/<environment>/cells/<cell>/     outputs of a cell, its log and cell.json
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deep_clustering.atomic import write_text
from deep_clustering.data.plain_json import parse
from deep_clustering.sweep.grid import Cell, Grid
from deep_clustering.sweep.lock import LOCK

FINISHED, FAILED = "finished", "failed"


def cell_folder(folder: Path, cell: Cell) -> Path:
    """Folder of a cell."""
    return folder / cell.env / "cells" / cell.id


def data_folder(folder: Path, cell: Cell) -> Path:
    """Folder of the data that a cell reads."""
    return folder / cell.env / cell.data_name


def trunk_folder(folder: Path, cell: Cell) -> Path | None:
    """Folder of the trunk that a cell is on, None if it is on none."""
    return None if cell.trunk_name is None else folder / cell.env / cell.trunk_name


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a file that `write_json` wrote; None if there is none.

    Raises:
        ValueError: if it is no JSON object.
    """
    try:
        content = parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got a damaged file ({error}); delete it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}; delete it")
    return content


def read_record(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """What is recorded of a cell, None if it has not ended yet."""
    return read_json(cell_folder(folder, cell) / "cell.json")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All cells that have ended, in a fixed order."""
    records = [read_json(path) for path in sorted(folder.glob("*/cells/*/cell.json"))]
    return [record for record in records if record is not None]


def check_grid_of(folder: Path, grid: Grid) -> dict[str, Any]:
    """Check that a folder is free or holds a sweep that the grid continues; writes nothing.

    Args:
        folder: The sweep's folder.
        grid: The grid.

    Returns:
        What `sweep.json` holds; empty if there is none.

    Raises:
        ValueError: if the folder holds something else, or cells that the grid does not have, naming the difference.
    """
    old = read_json(folder / "sweep.json") or {}
    differences = _differences(old["grid"], grid.plain()) if "grid" in old else []
    if differences:
        raise ValueError(
            f"{folder} holds another sweep: {'; '.join(differences)}. Repeat what it has and add to it, or name "
            "another --folder"
        )
    if not old and folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise ValueError(f"--folder: {folder} is not empty and holds no sweep (no sweep.json); name another folder")
    return old


def open_folder(folder: Path, grid: Grid) -> None:
    """Note the grid in the folder; a sweep that is there already may only grow.

    Args:
        folder: The sweep's folder.
        grid: The grid.

    Raises:
        ValueError: as `check_grid_of`.
    """
    old = check_grid_of(folder, grid)
    write_json(folder / "sweep.json", {**old, "grid": grid.plain()})


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What keeps the new grid from having all cells of the old one."""
    differences = [
        f"its {name} {_listed(missing)} are not asked for"
        for name in ("envs", "pipelines", "seeds")
        if (missing := [item for item in old[name] if item not in new[name]])
    ]
    before, after = old["options"], new["options"]
    for name, values in before.items():
        missing = [value for value in values if value not in after.get(name, [])]
        if missing:
            differences.append(f"its grid has {name}={_listed(missing)}")
    for name in after:
        root = name.split(".")[0]
        # An option of a pipeline that is new here changes no cell that is there.
        is_of_new = root in new["pipelines"] and root not in old["pipelines"]
        if name not in before and not is_of_new:
            differences.append(f"its grid has no {name}")
    for name in sorted({**old["params"], **new["params"]}):
        values = [grid["params"].get(name, "nothing") for grid in (old, new)]
        if values[0] != values[1]:
            differences.append(f"its params set {name} to {values[0]}, not {values[1]}")
    return differences


def _listed(values: list[Any]) -> str:
    return ",".join(map(str, values))
