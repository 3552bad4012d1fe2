"""A method against the baseline: which runs it is compared with, and how."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from deep_clustering.sweep.leaderboard.statistics import FEWEST, Difference, paired_difference, unpaired_difference
from deep_clustering.sweep.parsing import split_outside


def compare(name: str, group: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, Any]:
    """The difference of a metric to the baseline.

    Args:
        name: The metric.
        group: Runs of a method.
        baseline: Runs of the baseline.

    Returns:
        m_pairs, m_difference, m_difference_low, m_difference_high, m_difference_p, m_difference_test and
        m_difference_values of the metric m, see `Difference`.
    """
    found = _difference(name, group, baseline)._asdict()
    line = {f"{name}_pairs": found.pop("pairs"), f"{name}_difference": found.pop("mean")}
    return line | {f"{name}_difference_{part}": value for part, value in found.items()}


def paired_differences(values: pd.DataFrame, baseline: pd.DataFrame, name: str) -> np.ndarray:
    """A metric minus the baseline's with the same seed; a baseline without seeds is the same for all.

    Args:
        values: Runs of a method, one per seed.
        baseline: Runs of the baseline.
        name: The metric.

    Returns:
        Shape (n_pairs,); a value or a partner that is missing makes no pair.
    """
    if is_constant(baseline) or is_constant(values):
        pairs = values[[name]].merge(baseline[[name]], how="cross", suffixes=("", "_baseline"))
    else:
        known = baseline[baseline["seed"].notna()]
        pairs = values[["seed", name]].merge(known[["seed", name]], on="seed", suffixes=("", "_baseline"))
    differences = (pairs[name] - pairs[f"{name}_baseline"]).to_numpy(dtype=np.float64)
    return differences[~np.isnan(differences)]


def is_constant(group: pd.DataFrame) -> bool:
    """Whether the runs are of a method without a seed, which gives the same result every time.

    A consensus has no seed either, but the runs that it is of were drawn.
    """
    is_consensus = "consensus_of" in group and bool(group["consensus_of"].notna().any())
    return len(group) > 0 and bool(group["seed"].isna().all()) and not is_consensus


def baseline_of(key: tuple[str, str, str], known: Iterable[tuple[str, str, str]], baseline: str) -> Any | None:  # noqa: ANN401
    """The runs that others are compared with.

    Args:
        key: Environment, method and variant that is compared.
        known: Those that have runs.
        baseline: A method, or one of its variants as "method@variant".

    Returns:
        The key of the baseline's runs with the options that both share; None for the baseline itself, or if it is
        ambiguous.
    """
    env, method, variant = key
    name, _, wanted = baseline.partition("@")
    candidates = [other for other in known if other[0] == env and other[1] == name]
    if wanted:
        chosen = [other for other in candidates if other[2] == wanted and other != key]
        return chosen[0] if chosen else None
    if method == name or not candidates:
        return None
    options = set(split_outside(variant))
    same = [other for other in candidates if set(split_outside(other[2])) <= options]
    chosen = same or candidates
    return chosen[0] if len(chosen) == 1 else None


def _difference(name: str, group: pd.DataFrame, baseline: pd.DataFrame) -> Difference:
    """Paired by seed where enough seeds are common, or all of one side; otherwise of the two means."""
    differences = paired_differences(group, baseline, name)
    fewer = min(int(group[name].notna().sum()), int(baseline[name].notna().sum()))
    if len(differences) and len(differences) >= min(fewer, FEWEST):
        return paired_difference(differences, is_constant=is_constant(group) and is_constant(baseline))
    return unpaired_difference(group[name].to_numpy(), baseline[name].to_numpy())
