"""From runs to a leaderboard: one line for each environment, method and combination of options."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from deep_clustering.methods import METHODS, label_free_score
from deep_clustering.options import closest
from deep_clustering.sweep.folder import FINISHED
from deep_clustering.sweep.leaderboard.runs import COSTS, metric_names
from deep_clustering.sweep.leaderboard.statistics import summarise
from deep_clustering.sweep.parsing import split_outside

KEYS = ["env", "method", "variant"]
DEFAULT_BASELINE = "kmeans"


def make_leaderboard(runs: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Summarise the finished runs.

    Args:
        runs: One line for each run, see `deep_clustering.sweep.leaderboard.runs`.
        baseline: Method that the others are compared with, pairing equal seeds, or one of its variants as
            "method@variant"; None for k-means if it is there.

    Returns:
        One line for each environment, method and variant, best first within an environment, with n_runs, n_failed;
        for every metric m and cost m_n, m_mean, m_std, m_low, m_high; for every metric also m_difference to the
        baseline, m_difference_low and m_difference_high; and label_free_score, chosen_seed, chosen_acc, best_acc and
        oracle_gap, see `choose`. What is unknown is NaN.

    Raises:
        ValueError: if no run of the baseline is there.
    """
    names = {
        *runs["method"],
        *(f"{method}@{variant}" for method, variant in zip(runs["method"], runs["variant"], strict=True) if variant),
    }
    if baseline is not None and baseline not in names:
        raise ValueError(f"--baseline: no runs of '{baseline}' ({closest(baseline, names)})")
    finished = runs[runs["status"] == FINISHED]
    groups: dict[Any, pd.DataFrame] = dict(list(finished.groupby(KEYS, sort=False)))
    metrics = [name for name in metric_names(runs) if runs[name].notna().any()]
    costs = [name for name in COSTS if name in runs]
    lines = []
    for key, everything in runs.groupby(KEYS, sort=False):
        group = groups.get(key, everything.iloc[:0])
        line: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        line |= {"n_runs": len(group), "n_failed": len(everything) - len(group)}
        for name in (*metrics, *costs):
            summary = summarise(group[name].to_numpy(), is_constant=name in metrics and _is_constant(group))
            line |= {f"{name}_{part}": value for part, value in summary._asdict().items()}
        other = _baseline_of(key, groups, baseline or DEFAULT_BASELINE)
        if other is not None:
            for name in metrics:
                line |= _difference(name, group, groups[other])
        lines.append(line | choose(group))
    table = pd.DataFrame(lines)
    order = next((f"{name}_mean" for name in ("acc", "silhouette") if name in metrics), None)
    if order:
        table = table.sort_values(order, ascending=False, kind="stable", na_position="last")
    return table.sort_values("env", kind="stable").reset_index(drop=True)


def notes(runs: pd.DataFrame) -> list[str]:
    """Sentences about runs that do not quite compare.

    Args:
        runs: One line for each run.

    Returns:
        One sentence for each environment and difference.
    """
    reasons = {
        "data_sha256": "the runs are not all of the same rows",
        "protocol": "the runs do not share one protocol",
        "git_sha": "the runs are of several versions of the code",
        "threads": "the runs had different numbers of threads",
    }
    return [
        f"{env}: {reason}: compare them with care."
        for env, group in runs[runs["status"] == FINISHED].groupby("env", sort=False)
        for name, reason in reasons.items()
        if name in group and group[name].nunique() > 1
    ]


def choose(group: pd.DataFrame) -> dict[str, Any]:
    """The run that somebody without labels would choose among the seeds of a method, and what labels would add.

    Args:
        group: Runs of one method, environment and variant.

    Returns:
        label_free_score, chosen_seed, chosen_acc, best_acc (chosen by labels) and oracle_gap, their difference; empty
        if the method declares no label-free score, or there is nothing to choose or to compare.
    """
    methods = set(group["method"])
    rule = label_free_score(*methods) if len(methods) == 1 and methods <= set(METHODS) else None
    if rule is None or rule[0] not in group or "acc" not in group:
        return {}
    name, better = rule
    known = group[group[name].notna() & group["acc"].notna()]
    if len(known) < 2:
        return {}
    place = int((known[name] if better == "max" else -known[name]).argmax())
    chosen = known.iloc[place]
    best = known["acc"].max()
    return {
        "label_free_score": name,
        "chosen_seed": chosen["seed"],
        "chosen_acc": chosen["acc"],
        "best_acc": best,
        "oracle_gap": best - chosen["acc"],
    }


def paired_differences(values: pd.DataFrame, baseline: pd.DataFrame, name: str) -> np.ndarray:
    """A metric minus the baseline's with the same seed; a baseline without seeds is the same for all.

    Args:
        values: Runs of a method, one per seed.
        baseline: Runs of the baseline.
        name: The metric.

    Returns:
        Shape (n_pairs,); a value or a partner that is missing makes no pair.
    """
    if _is_constant(baseline) or _is_constant(values):
        pairs = values[[name]].merge(baseline[[name]], how="cross", suffixes=("", "_baseline"))
    else:
        pairs = values[["seed", name]].merge(baseline[["seed", name]], on="seed", suffixes=("", "_baseline"))
    differences = (pairs[name] - pairs[f"{name}_baseline"]).to_numpy(dtype=np.float64)
    return differences[~np.isnan(differences)]


def _difference(name: str, group: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, float]:
    differences = paired_differences(group, baseline, name)
    summary = summarise(differences, is_constant=_is_constant(group) and _is_constant(baseline))
    return {
        f"{name}_pairs": summary.n,
        f"{name}_difference": summary.mean,
        f"{name}_difference_low": summary.low,
        f"{name}_difference_high": summary.high,
    }


def _is_constant(group: pd.DataFrame) -> bool:
    """Whether the runs are of a method without a seed, which gives the same result every time.

    A consensus has no seed either, but the runs that it is of were drawn.
    """
    is_consensus = "consensus_of" in group and bool(group["consensus_of"].notna().any())
    return len(group) > 0 and bool(group["seed"].isna().all()) and not is_consensus


def _baseline_of(key: Any, groups: Mapping[Any, pd.DataFrame], baseline: str) -> Any | None:  # noqa: ANN401
    """The baseline's runs with the options that both share; None for the baseline itself, or if it is ambiguous."""
    env, method, variant = key
    name, _, wanted = baseline.partition("@")
    candidates = [other for other in groups if other[0] == env and other[1] == name]
    if wanted:
        chosen = [other for other in candidates if other[2] == wanted and other != key]
        return chosen[0] if chosen else None
    if method == name or not candidates:
        return None
    options = set(split_outside(variant))
    same = [other for other in candidates if set(split_outside(other[2])) <= options]
    chosen = same or candidates
    return chosen[0] if len(chosen) == 1 else None
