"""Means of runs, their certainty and their differences to a baseline as cells of a table, in Markdown and on a page."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from deep_clustering.reporting.texts import format_number


class Form(NamedTuple):
    """How a kind of table writes what has several parts."""

    interval: str
    """Of a mean."""
    difference: str
    """Behind a difference that has an interval."""
    welch: str
    """Behind the p value of that test; the sign-flip test of pairs needs no name."""
    between: str
    """Between runs that are too few for an interval."""


MARKDOWN = Form("[{low}, {high}]", "[{low}, {high}]", " (Welch)", " ")
PAGE = Form("{low} to {high}", "({low} to {high}; p {p})", ", Welch", ", ")


def spread(line: Mapping[Any, Any], name: str) -> str:
    """Mean and standard deviation of a metric; the mean alone where nothing varies or a single run cannot tell."""
    mean, deviation = (line.get(f"{name}_{part}", math.nan) for part in ("mean", "std"))
    varies = line.get(f"{name}_n", 0) > 1 and deviation > 0
    return format_number(mean) + (f" ± {format_number(deviation)}" if varies else "") if mean == mean else ""


def certainty(line: Mapping[Any, Any], name: str, form: Form) -> str:
    """The interval of a mean; of too few runs, the runs; of equal ones, that they are equal."""
    low, high, n = (line.get(f"{name}_{part}", math.nan) for part in ("low", "high", "n"))
    if low < high:
        return form.interval.format(low=format_number(low), high=format_number(high))
    if low == high:
        return f"{n} equal runs" if n > 1 else "constant"
    return form.between.join(_values(line.get(f"{name}_values"), ".3f")) if n > 1 else ""


def difference(line: Mapping[Any, Any], name: str, form: Form) -> str:
    """Difference to the baseline with its interval, or with that of each pair where they are too few."""
    value = line.get(f"{name}_difference", math.nan)
    if value is None or math.isnan(value):
        return ""
    low, high = (line[f"{name}_difference_{part}"] for part in ("low", "high"))
    if low < high:
        ends = form.difference.format(low=f"{low:+.3f}", high=f"{high:+.3f}", p=p_value(line, name, form))
        return f"{value:+.3f} {ends}"
    values = _values(line.get(f"{name}_difference_values"), "+.3f")
    return f"{value:+.3f}" + (f" ({form.between.join(values)})" if len(values) > 1 else "")


def p_value(line: Mapping[Any, Any], name: str, form: Form) -> str:
    """The p value of a difference, and by which test where it is not the sign-flip test of pairs."""
    p = line.get(f"{name}_difference_p", math.nan)
    if p is None or math.isnan(p):
        return ""
    shown = f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
    return shown + form.welch * (line[f"{name}_difference_test"] == "Welch")


def _values(text: Any, form: str) -> list[str]:  # noqa: ANN401
    return [f"{float(value):{form}}" for value in (text or "").split()]
