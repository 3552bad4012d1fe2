"""The runs behind a leaderboard: one line for each, from a sweep's folder or from a table that was saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deep_clustering.atomic import write_text
from deep_clustering.data.sources.dialects import first_cells
from deep_clustering.sweep.folder import FINISHED, read_records
from deep_clustering.sweep.leaderboard.consensus_files import leaderboard_lines

# What identifies and describes a run; every other column that is not a cost is a metric.
FACTS = (
    "env",
    "method",
    "variant",
    "seed",
    "consensus_of",
    "status",
    "reason",
    "data_set",
    "data_sha256",
    "protocol",
    "collapsed",
    "threads",
    "git_sha",
    "run_id",
    "version",
)
# Each metric is compared by itself; a run has some dozens.
_MOST_COLUMNS = 1000
COSTS = ("wall_seconds", "cpu_seconds", "peak_memory_mb", "peak_gpu_memory_mb")


def collect_runs(folder: Path) -> pd.DataFrame:
    """One line for each cell of a sweep that has ended, and for each consensus that `kedro consensus` made of them.

    Args:
        folder: The sweep's folder.

    Returns:
        Columns of `FACTS`, metrics and `COSTS`.

    Raises:
        ValueError: if the folder holds no sweep, or no cell has ended.
    """
    if not (folder / "sweep.json").is_file():
        raise ValueError(f"{folder}: expected the folder of a sweep, but there is no sweep.json")
    records = read_records(folder)
    if not records:
        raise ValueError(f"{folder}: no cell of this sweep has ended yet")
    lines = [*map(_line, records), *leaderboard_lines(folder, records)]
    runs = _tidy(pd.DataFrame(lines), "")
    return runs.sort_values(["env", "method", "variant", "seed"], na_position="first").reset_index(drop=True)


def read_runs(path: Path) -> pd.DataFrame:
    """Read a table of runs.

    Args:
        path: A .csv that `write_runs` wrote, or another one with at least the columns method, seed and a metric.

    Returns:
        Columns of `FACTS`, metrics and `COSTS`.

    Raises:
        ValueError: if it is no such table.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a table of runs (.csv), got a pipe, socket or device")
    try:
        if (n_columns := len(first_cells(path, "utf-8", ",", '"'))) > _MOST_COLUMNS:
            raise ValueError(f"{path}: expected a table of runs (.csv), got one of {n_columns} columns or more")
        runs = pd.read_csv(path, dtype={"variant": str, "reason": str}, keep_default_na=True)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file or folder; expected a sweep's folder or a runs.csv") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a table of runs (.csv), got a file that is none: {error}") from error
    missing = [name for name in ("method", "seed") if name not in runs.columns]
    if missing or runs.empty:
        wanted = f"lacks the columns {', '.join(missing)}" if missing else "has no lines"
        raise ValueError(f"{path}: expected a table of runs; it {wanted}")
    runs = _tidy(runs, path.stem)
    for name in (*metric_names(runs), *(name for name in COSTS if name in runs)):
        if not pd.api.types.is_numeric_dtype(runs[name]):
            raise ValueError(f"{path}: expected numbers in the column '{name}'")
    return runs


def write_runs(runs: pd.DataFrame, path: Path) -> None:
    """Write a table of runs with six digits."""
    write_text(path, runs.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def metric_names(runs: pd.DataFrame) -> list[str]:
    """Columns that are metrics."""
    return [name for name in runs.columns if name not in FACTS and name not in COSTS]


def _line(record: Mapping[str, Any]) -> dict[str, Any]:
    facts = {
        "method": record["pipeline"],
        "git_sha": (record.get("environment") or {}).get("git.sha"),
        **{name: record.get(name) for name in FACTS if name in record},
    }
    return {**facts, **record.get("metrics", {}), **record.get("cost", {})}


def _tidy(runs: pd.DataFrame, env: str) -> pd.DataFrame:
    """All columns of facts that every leaderboard reads, in one order, with types that survive a file."""
    runs = runs.copy()
    for name, value in (("env", env), ("variant", ""), ("status", FINISHED)):
        runs[name] = runs[name].fillna(value) if name in runs else value
    runs["seed"] = runs["seed"].astype("Int64")  # a method without randomness has no seed
    facts = [name for name in FACTS if name in runs]
    costs = [name for name in COSTS if name in runs]
    metrics = metric_names(runs)
    runs[[*metrics, *costs]] = runs[[*metrics, *costs]].replace({None: np.nan})
    return runs[[*facts, *metrics, *costs]]
