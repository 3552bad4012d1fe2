"""What a consensus adds in accuracy to a single run, and how that spreads over subsets of the runs.

A subset is drawn without replacement, half of the runs rounded up: a run counts once, as in the consensus itself. With
replacement ten runs would leave six or seven different ones, some with double weight, and call the outcome one of ten.
The spread over subsets says how far the gain depends on which runs there are. It is no confidence interval: subsets
overlap, and each has half the runs, so that the gain of all may lie beside the gains of the subsets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import comb, prod
from typing import Any

import numpy as np

from deep_clustering.scores.consensus import combine, weigh
from deep_clustering.scores.validity import weigh_by_validity
from deep_clustering.sweep.leaderboard.consensus_inputs import Truth

SHARE = 95
WEIGHTS = ("score", "equal", "validity")
Rule = tuple[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of one consensus, in parts whose scores do not compare, and the classes of their rows."""

    responsibilities: Sequence[np.ndarray]
    """Of every run, part after part, each of shape (n_samples, n_clusters of the run)."""
    scores: Sequence[np.ndarray]
    """Label-free score of each run of each part, NaN for unknown."""
    rules: Sequence[Rule]
    """For each part name of its score and which is better; None without any."""
    truth: Truth
    """The labels."""
    kind: str
    """How runs are combined, one of `scores.consensus.KINDS`."""
    weights: str = "score"
    """What runs weigh by, one of `WEIGHTS`."""
    validity: np.ndarray | None = None
    """What `scores.validity` says of each run, shape (n_runs, 2), for weights by it."""

    @property
    def accuracies(self) -> np.ndarray:
        """ACC of each run, shape (n_runs,); NaN without labels."""
        found = [self.truth.accuracy(run.argmax(axis=1), run.shape[1]) for run in self.responsibilities]
        return np.array(found, dtype=np.float64)


def find_gain(runs: Runs, n_subsets: int) -> dict[str, Any]:
    """What the consensus adds, and its spread over subsets of the runs.

    Args:
        runs: At least two runs with labels.
        n_subsets: How many subsets are drawn; all of them if there are no more.

    Returns:
        "subsets": "n" of them, "drawn" runs in each, and "of" how many; "over_mean" (consensus minus the runs' mean
        accuracy, what a blind draw would get) and, of one method with a label-free score, "over_choice" (minus that of
        the run of the best score), each with "value" for all runs and "mean", "low" and "high" (middle 95 %) over the
        subsets. Of two runs there are no subsets: these are None then.
    """
    sizes = [len(part) for part in runs.scores]
    drawn = subset_sizes(sizes)
    accuracies = runs.accuracies
    observed = _gains(runs, accuracies, [np.arange(size) for size in sizes])
    subsets = list(draw_subsets(sizes, drawn, n_subsets)) if drawn != sizes else []
    spread = np.array([_gains(runs, accuracies, subset) for subset in subsets])
    result: dict[str, Any] = {"subsets": {"n": len(subsets), "drawn": sum(drawn), "of": sum(sizes)}}
    for place, (name, value) in enumerate(zip(("over_mean", "over_choice"), observed, strict=False)):
        ends: dict[str, float | None] = dict.fromkeys(("mean", "low", "high"))
        if subsets:
            low, high = np.percentile(spread[:, place], (50 - SHARE / 2, 50 + SHARE / 2))
            ends = {"mean": plain(spread[:, place].mean()), "low": plain(low), "high": plain(high)}
        result[name] = {"value": plain(value), **ends}
    return result


def subset_sizes(sizes: Sequence[int]) -> list[int]:
    """How many runs of each part a subset has: half of them, rounded up; of a single part at least two.

    Args:
        sizes: Number of runs of each part.

    Returns:
        One number for each part; the sizes themselves if there is no smaller subset.
    """
    least = 2 if len(sizes) == 1 else 1
    return [min(size, max(least, (size + 1) // 2)) for size in sizes]


def draw_subsets(sizes: Sequence[int], drawn: Sequence[int], n_subsets: int) -> Iterator[list[np.ndarray]]:
    """Subsets of the runs of each part, without replacement.

    Args:
        sizes: Number of runs of each part.
        drawn: How many of them a subset has.
        n_subsets: How many subsets are drawn, with the same seed each time; all there are if they are no more.

    Yields:
        For each part the places of its drawn runs, ascending.
    """
    if prod(comb(size, number) for size, number in zip(sizes, drawn, strict=True)) <= n_subsets:
        parts = [combinations(range(size), number) for size, number in zip(sizes, drawn, strict=True)]
        yield from ([np.array(part) for part in subset] for subset in product(*parts))
        return
    rng = np.random.default_rng(0)
    for _ in range(n_subsets):
        yield [np.sort(rng.permutation(size)[:number]) for size, number in zip(sizes, drawn, strict=True)]


def weigh_parts(scores: Sequence[np.ndarray], rules: Sequence[Rule]) -> np.ndarray:
    """Weights of runs: within a part by the score; every part counts the same, for their scores do not compare.

    Args:
        scores: Of each part.
        rules: Of each part.

    Returns:
        Shape (n_runs,), sums to 1.
    """
    parts = [weigh(part, rule[1] if rule else "max") for part, rule in zip(scores, rules, strict=True)]
    return np.concatenate(parts) / len(parts)


def weigh_runs(
    weights: str, scores: Sequence[np.ndarray], rules: Sequence[Rule], validity: np.ndarray | None
) -> np.ndarray:
    """Weights of runs.

    Args:
        weights: One of `WEIGHTS`: by the label-free scores, all runs of a part alike, or by validity.
        scores: Of each part.
        rules: Of each part.
        validity: Of each run, shape (n_runs, 2), for weights by it: it compares the runs of all parts.

    Returns:
        Shape (n_runs,), sums to 1.
    """
    if weights == "validity":
        assert validity is not None
        return weigh_by_validity(validity)
    if weights == "equal":
        scores = [np.full(len(part), np.nan) for part in scores]
    return weigh_parts(scores, rules)


def plain(value: float) -> float:
    """Six digits, for JSON."""
    return round(float(value), 6) + 0.0  # no -0.0


def _gains(runs: Runs, accuracies: np.ndarray, drawn: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Over the mean run and, where there is a choice, over the run chosen among those that were drawn."""
    scores = [part[rows] for part, rows in zip(runs.scores, drawn, strict=True)]
    starts = np.cumsum([0, *map(len, runs.scores)])[:-1]
    places = np.concatenate([start + rows for start, rows in zip(starts, drawn, strict=True)])
    members = [runs.responsibilities[int(place)] for place in places]
    validity = None if runs.validity is None else runs.validity[places]
    mean, _ = combine(members, weigh_runs(runs.weights, scores, runs.rules, validity), kind=runs.kind)
    acc = runs.truth.accuracy(mean.argmax(axis=1), mean.shape[1])
    assert acc is not None  # of labelled rows
    blind = [accuracies[start + rows].mean() for start, rows in zip(starts, drawn, strict=True)]
    over_mean = acc - float(np.mean(blind))
    rule = runs.rules[0] if len(runs.rules) == 1 else None
    if rule is None or np.isnan(runs.scores[0]).all():
        return (over_mean,)
    # an unknown score is never chosen
    order = scores[0] if rule[1] == "max" else -scores[0]
    return over_mean, acc - float(accuracies[places[int(np.argmax(np.where(np.isnan(order), -np.inf, order)))]])
