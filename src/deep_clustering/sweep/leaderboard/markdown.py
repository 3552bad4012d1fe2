"""The leaderboard as Markdown tables, and its place in a README."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deep_clustering.atomic import write_text
from deep_clustering.options import closest

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
        heading = f"### {env}\n\n" if table["env"].nunique() > 1 else ""
        parts.append(heading + _one_table(lines))
    return "\n".join(parts)


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
    rows = [list(shown), ["---"] * len(shown), *zip(*shown.values(), strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _columns(lines: pd.DataFrame) -> dict[str, Callable[[Mapping[Any, Any]], str]]:
    groups = [{name: label for name, label in group.items() if has(lines, name)} for group in (_METRICS, _LABEL_FREE)]
    metrics = groups[0] or groups[1]
    columns: dict[str, Callable[[Mapping[Any, Any]], str]] = {
        "method": lambda line: str(line["method"]),
        "options": lambda line: str(line["variant"]).replace("|", "\\|"),
    }
    for name, label in metrics.items():
        columns[label] = lambda line, name=name: spread(line, name)  # type: ignore[misc]
    if metrics:
        first = next(iter(metrics))
        columns[f"95 % interval of {metrics[first]}"] = lambda line: interval(line, f"{first}_low", f"{first}_high")
        columns[f"{metrics[first]} over the baseline"] = lambda line: difference(line, first)
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


def number(value: Any, digits: int = 3) -> str:  # noqa: ANN401
    """A number with so many digits; nothing for what is unknown."""
    return "" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def spread(line: Mapping[Any, Any], name: str) -> str:
    """Mean and standard deviation of a metric; the mean alone where nothing varies or a single run cannot tell."""
    mean, deviation = line.get(f"{name}_mean"), line.get(f"{name}_std")
    shown = number(deviation) if line.get(f"{name}_n", 0) > 1 else ""
    return number(mean) + (f" ± {shown}" if shown else "")


def interval(line: Mapping[Any, Any], low: str, high: str) -> str:
    """An interval as "[0.812, 0.903]"."""
    ends = number(line.get(low)), number(line.get(high))
    return f"[{ends[0]}, {ends[1]}]" if all(ends) else ""


def difference(line: Mapping[Any, Any], name: str) -> str:
    """Difference to the baseline with its interval."""
    value = line.get(f"{name}_difference")
    if value is None or math.isnan(value):
        return ""
    return f"{value:+.3f} {interval(line, f'{name}_difference_low', f'{name}_difference_high')}".strip()
