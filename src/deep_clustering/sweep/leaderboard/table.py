"""From runs to a leaderboard: one line for each environment, method and combination of options."""

from typing import Any

import pandas as pd

from deep_clustering.methods import METHODS, label_free_score_among
from deep_clustering.options import closest
from deep_clustering.sweep.folder import FINISHED
from deep_clustering.sweep.leaderboard.comparison import baseline_of, compare, is_constant
from deep_clustering.sweep.leaderboard.runs import COSTS, metric_names
from deep_clustering.sweep.leaderboard.statistics import summarise

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
        for every metric m and cost m_n, m_mean, m_std, m_low, m_high and m_values (see `Summary`); for every metric
        also its difference to the baseline, see `compare`; and label_free_score, chosen_seed, chosen_acc, best_acc
        and oracle_gap, see `choose`. What is unknown is NaN.

    Raises:
        ValueError: if no run of the baseline is there.
    """
    names = {
        *runs["method"],
        *(f"{method}@{variant}" for method, variant in zip(runs["method"], runs["variant"], strict=True) if variant),
    }
    if baseline is not None and baseline not in names:
        raise ValueError(f"--baseline: no runs of '{baseline}' ({closest(baseline, names)})")
    metrics = [name for name in metric_names(runs) if runs[name].notna().any()]
    everything: dict[Any, pd.DataFrame] = dict(list(runs.groupby(KEYS, sort=False)))
    finished = {key: group[group["status"] == FINISHED] for key, group in everything.items()}
    known = {key: group for key, group in finished.items() if len(group)}
    lines = []
    for key, group in finished.items():
        line = dict(zip(KEYS, key, strict=True)) | {"n_runs": len(group), "n_failed": len(everything[key]) - len(group)}
        line |= _summaries(group, metrics)
        other = baseline_of(key, known, baseline or DEFAULT_BASELINE)
        for name in metrics if other is not None else ():
            line |= compare(name, group, known[other])
        lines.append(line | choose(group))
    table = pd.DataFrame(lines)
    order = next((f"{name}_mean" for name in ("acc", "silhouette") if name in metrics), None)
    if order:
        table = table.sort_values(order, ascending=False, kind="stable", na_position="last")
    return table.sort_values("env", kind="stable").reset_index(drop=True)


def _summaries(group: pd.DataFrame, metrics: list[str]) -> dict[str, Any]:
    """Every metric and cost of a method's runs; costs vary even where results cannot."""
    line: dict[str, Any] = {}
    for name in (*metrics, *(cost for cost in COSTS if cost in group)):
        summary = summarise(group[name].to_numpy(), is_constant=name in metrics and is_constant(group))
        line |= {f"{name}_{part}": value for part, value in summary._asdict().items()}
    return line


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
    methods = list(group["method"].unique())
    scored = group.columns[group.notna().any()]
    rule = label_free_score_among(methods[0], scored) if len(methods) == 1 and methods[0] in METHODS else None
    if rule is None or "acc" not in group:
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
