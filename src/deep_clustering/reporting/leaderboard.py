"""The leaderboard of a sweep as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deep_clustering.reporting import figures
from deep_clustering.reporting.page import render
from deep_clustering.reporting.panels import Panel, make_panel
from deep_clustering.reporting.summary_cells import PAGE, certainty, difference, spread
from deep_clustering.reporting.text_tables import number
from deep_clustering.reporting.texts import describe_metric, format_number

PLOTTED = ("acc", "nmi", "ari", "silhouette")


def write_leaderboard(
    *, table: pd.DataFrame, runs: pd.DataFrame, baseline: str | None, notes: Sequence[str] = ()
) -> str:
    """One self-contained HTML page: for every environment a table and the intervals of the metrics.

    Args:
        table: One line for each environment, method and variant, as `sweep.leaderboard` makes them.
        runs: One line for each run.
        baseline: Method that the others are compared with, None without any.
        notes: Sentences about runs that do not quite compare.

    Returns:
        The page, with every text that comes from the data escaped.
    """
    environments = []
    for env, lines in table.groupby("env", sort=False):
        rows = lines.to_dict("records")
        metrics = [name for name in PLOTTED if f"{name}_mean" in lines and lines[f"{name}_mean"].notna().any()]
        of_env = runs[runs["env"] == env]
        environments.append(
            {
                "name": str(env),
                "protocols": sorted({str(value) for value in of_env.get("protocol", pd.Series(dtype=str)).dropna()}),
                "labels": [describe_metric(name).label for name in metrics],
                "rows": [_row(row, metrics) for row in rows],
                "choices": [choice for row in rows if (choice := _choice(row)) is not None],
                "panels": [_panel(name, rows, of_env) for name in metrics],
                "failed": _failed(of_env),
            }
        )
    return render("leaderboard.html.jinja", environments=environments, baseline=baseline, notes=notes)


def title_of(row: Mapping[Any, Any]) -> str:
    """Method and options of a line."""
    return f"{row['method']} ({row['variant']})" if row["variant"] else str(row["method"])


def _row(row: Mapping[Any, Any], metrics: list[str]) -> dict[str, Any]:
    cells = [(spread(row, name) or format_number(None), certainty(row, name, PAGE)) for name in metrics]
    return {
        "name": title_of(row),
        "cells": cells,
        "difference": difference(row, metrics[0], PAGE) if metrics else "",
        "cpu": number(row.get("cpu_seconds_mean"), 1),
        "memory": number(row.get("peak_memory_mb_mean"), 0),
        "n_runs": row["n_runs"],
        "n_failed": row["n_failed"],
    }


def _choice(row: Mapping[Any, Any]) -> dict[str, str] | None:
    if "oracle_gap" not in row or row["oracle_gap"] != row["oracle_gap"]:
        return None
    numbers = {name: format_number(row[name]) for name in ("chosen_acc", "best_acc", "oracle_gap")}
    score = describe_metric(str(row["label_free_score"])).label
    return {"name": title_of(row), "score": score, "seed": str(int(row["chosen_seed"])), **numbers}


def _panel(name: str, rows: list[dict[Any, Any]], runs: pd.DataFrame) -> Panel:
    values = [
        runs.loc[(runs["method"] == row["method"]) & (runs["variant"] == row["variant"]), name].dropna().to_numpy()
        for row in rows
    ]
    centres = np.array([row[f"{name}_mean"] for row in rows])
    ends = np.array([[row[f"{name}_low"], row[f"{name}_high"]] for row in rows])
    text = describe_metric(name)
    figure = figures.draw_intervals([title_of(row) for row in rows], centres, ends, values)
    alt = f"Means, 95 % intervals and runs of {text.label} for {len(rows)} methods; the values are those of the table."
    return make_panel(text.label, figure, alt=alt, caption=text.sentence)


def _failed(runs: pd.DataFrame) -> list[str]:
    if "reason" not in runs:
        return []
    failed = runs[runs["reason"].notna()]
    return [
        title_of(row) + ("" if pd.isna(row["seed"]) else f", seed {row['seed']}") + f": {row['reason']}"
        for row in failed.to_dict("records")
    ]
