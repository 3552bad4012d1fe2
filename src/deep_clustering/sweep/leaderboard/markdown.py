"""The leaderboard as Markdown tables, and its place in a README."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deep_clustering.atomic import write_text
from deep_clustering.options import closest
from deep_clustering.redaction import markdown_cell
from deep_clustering.reporting.summary_cells import MARKDOWN, certainty, difference, p_value, spread
from deep_clustering.reporting.text_tables import markdown, number

_METRICS = {"acc": "ACC", "nmi": "NMI", "ari": "ARI"}
_LABEL_FREE = {"silhouette": "silhouette", "stability": "stability"}
_MARKERS = re.compile(r"(<!-- leaderboard:(?P<name>[\w.-]+) -->\n).*?(<!-- /leaderboard -->)", re.DOTALL)


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table for each environment, under its name if there are several.

    Args:
        table: What `make_leaderboard` returned.

    Returns:
        Tables with the columns that have any value.
    """
    parts = []
    for env, lines in table.groupby("env", sort=False):
        heading = f"### {markdown_cell(str(env))}\n\n" if table["env"].nunique() > 1 else ""
        parts.append(heading + _one_table(lines))
    return "\n".join(parts)


def to_brief_markdown(table: pd.DataFrame, baseline: str) -> str:
    """One Markdown table of four columns for a first page.

    Args:
        table: What `make_leaderboard` returned for one environment.
        baseline: Method that the others are compared with.

    Returns:
        Method, ACC with its interval, difference to the baseline and seconds of processor time.

    Raises:
        ValueError: if there are several environments, or no ACC.
    """
    if table["env"].nunique() != 1 or not has(table, "acc"):
        raise ValueError("--brief: expected runs of one environment with ACC")
    rows = [
        [
            str(line["method"]) + (f", {line['variant']}" if line["variant"] else ""),
            _brief_score(line),
            difference(line, "acc", MARKDOWN),
            number(line.get("cpu_seconds_mean"), 1),
        ]
        for line in table.to_dict("records")
    ]
    return markdown([["method", "ACC", f"ACC over {baseline}", "CPU s"], *rows])


def replace_in_readme(path: Path, name: str, text: str) -> bool:
    """Put a table between `<!-- leaderboard:<name> -->` and `<!-- /leaderboard -->`.

    Args:
        path: The file.
        name: Name in the marker.
        text: What comes between, ending with a line break.

    Returns:
        Whether the file has changed.

    Raises:
        ValueError: if the file or the markers are missing.
    """
    if not path.is_file():
        raise ValueError(f"--readme: no file {path}")
    before = path.read_text(encoding="utf-8")
    known = [match["name"] for match in _MARKERS.finditer(before)]
    if name not in known:
        hint = closest(name, known) if known else "there is none at all"
        raise ValueError(
            f"--readme: {path} has no lines <!-- leaderboard:{name} --> and <!-- /leaderboard --> ({hint})"
        )
    after = _MARKERS.sub(lambda match: match[1] + text + match[3] if match["name"] == name else match[0], before)
    if after != before:
        write_text(path.resolve(), after)  # a link stays one
    return after != before


def _one_table(lines: pd.DataFrame) -> str:
    columns = {heading: [cell(line) for line in lines.to_dict("records")] for heading, cell in _columns(lines).items()}
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    return markdown([list(shown), *zip(*shown.values(), strict=True)])


def _columns(lines: pd.DataFrame) -> dict[str, Callable[[Mapping[Any, Any]], str]]:
    groups = [{name: label for name, label in group.items() if has(lines, name)} for group in (_METRICS, _LABEL_FREE)]
    metrics = groups[0] or groups[1]
    columns: dict[str, Callable[[Mapping[Any, Any]], str]] = {
        "method": lambda line: str(line["method"]),
        "options": lambda line: str(line["variant"]),
    }
    for name, label in metrics.items():
        columns[label] = lambda line, name=name: spread(line, name)  # type: ignore[misc]
    if metrics:
        first = next(iter(metrics))
        columns[_interval_heading(lines, first, metrics[first])] = lambda line: certainty(line, first, MARKDOWN)
        columns[f"{metrics[first]} over the baseline"] = lambda line: difference(line, first, MARKDOWN)
        columns["p"] = lambda line: p_value(line, first, MARKDOWN)
    columns |= {
        "ACC of the label-free choice": lambda line: number(line.get("chosen_acc")),
        "best ACC": lambda line: number(line.get("best_acc")),
        "CPU s": lambda line: number(line.get("cpu_seconds_mean"), 1),
        "MB": lambda line: number(line.get("peak_memory_mb_mean"), 0),
        "runs": lambda line: f"{line['n_runs']}" + (f" (+{line['n_failed']} failed)" if line["n_failed"] else ""),
    }
    return columns


def has(lines: pd.DataFrame, name: str) -> bool:
    """Whether any line knows a metric."""
    return f"{name}_mean" in lines and bool(lines[f"{name}_mean"].notna().any())


def _brief_score(line: Mapping[Any, Any]) -> str:
    """Mean and interval; equal runs are one result, and have none."""
    certain = certainty(line, "acc", MARKDOWN)
    return number(line["acc_mean"]) + (f" {certain}" if " " in certain and "equal" not in certain else "")


def _interval_heading(lines: pd.DataFrame, name: str, label: str) -> str:
    """What stands in the column of intervals: of fewer than five runs there is none."""
    has_interval = bool((lines[f"{name}_low"] < lines[f"{name}_high"]).any())
    has_runs = bool(((lines[f"{name}_n"] > 1) & lines[f"{name}_low"].isna()).any())
    if has_interval:
        return f"95 % interval of {label}" + (", or each run" if has_runs else "")
    return f"{label} of each run" if has_runs else f"spread of {label}"
