"""Which of several partitions of the same rows to take, without labels: what each says of pairs of near rows.

A partition is scored by the log-likelihood, in nats for each pair, of rows and near ones under its hard clusters, of
the shares that they have:

    p(second in cluster j | first in cluster k) = (1 - e) [j = k] + e s_j,     score = mean log p(j | k) / s_j

at the share of noise e that is best, which is `methods.shared_information.pair_log_likelihood`. It is 0 for clusters
that say nothing of near rows and at most the entropy of the shares. Methods are compared on the same pairs, and their
differences by resampled rows.

Near are rows that are among each other's nearest. What is near to a row that lies apart says little of it: rows of
which that is not mutual count less, and on the sets of `docs/recommendation.md` such pairs rank partitions better than
the nearest rows as they are. Where `neighbours.held_out` says so, the pairs are none that a method has seen as views.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Lt
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from deep_clustering.data.neighbours import is_held_out

# Permutations that a score must exceed: by chance it does so once in so many and one.
_PERMUTATIONS = 19
_INTERVAL = (2.5, 97.5)
# Adjusted Rand index from which a second fit is called the same partition, and much the same.
REPEATABLE, _FAIRLY_REPEATABLE = 0.9, 0.7
# Nats by which the same partition's score differs under other numbers of its clusters.
_EQUAL = 1e-9


@dataclass(frozen=True, kw_only=True)
class RecommendationOptions:
    """The parameter block `recommendation`."""

    max_rows: Annotated[int, Ge(10)]
    """Rows whose pairs are scored at most, evenly spaced; where methods are given no neighbours, among themselves."""
    resamples: Annotated[int, Ge(20)]
    """Resamples of the rows, for the intervals."""
    refits: Annotated[int, Ge(0)]
    """Further fits of the recommended method, each with a seed of its own on a part of the rows; 0 for none."""
    refit_share: Annotated[float, Gt(0), Lt(1)]
    """Share of the rows in each of them."""


class Pairs(NamedTuple):
    """Near rows."""

    first: np.ndarray
    """Index of the first row of each pair, shape (n_pairs,)."""
    second: np.ndarray
    """Index of the second."""
    are_seen: bool = False
    """Whether methods trained on them, though pairs should have been kept from them: there were none."""


class NeighbourScores(NamedTuple):
    """Scores of partitions, and what they are in each resample of the rows."""

    score: dict[str, float]
    """In nats for each pair."""
    resampled: dict[str, np.ndarray]
    """Shape (n_resamples,); the resamples of all partitions are of the same rows."""
    chance: dict[str, float]
    """The greatest score of 19 permutations of the rows."""
    same: dict[str, float]
    """Share of the pairs in one cluster."""

    def interval(self, name: str, over: str | None = None) -> tuple[float, float]:
        """95 % interval of a partition's score, or of what it has more than another one."""
        values = self.resampled[name] - (self.resampled[over] if over is not None else 0.0)
        low, high = np.percentile(values, _INTERVAL)
        return float(low), float(high)


def mutual_pairs(table: np.ndarray, held_out: float) -> Pairs:
    """Rows that are among each other's nearest, and that no method was given as views of each other.

    Args:
        table: Nearest rows of each row, shape (n_samples, k), all of them; -1 where a row has fewer.
        held_out: Share of the pairs that methods were not given; 0 if they were given all: then all are pairs.

    Returns:
        Each pair in both orders. Where there is none of this kind, near rows that no method was given, each with its
        own nearest, or else all near rows.
    """
    n_samples, k = table.shape
    is_there = table.ravel() >= 0
    owner, near = np.repeat(np.arange(n_samples), k)[is_there], table.ravel()[is_there]
    graph = sparse.csr_matrix((np.ones(len(near), dtype=bool), (owner, near)), shape=(n_samples, n_samples))
    for first, second in (graph.multiply(graph.T).nonzero(), (owner, near)):
        kept = is_held_out(first, second, held_out) if held_out > 0 else slice(None)
        if len(first[kept]):
            return Pairs(first[kept], second[kept])
    return Pairs(owner, near, are_seen=held_out > 0)


def neighbour_scores(assignments: Mapping[str, np.ndarray], pairs: Pairs, n_resamples: int) -> NeighbourScores:
    """Score partitions of the same rows by the pairs, see the head of this file.

    Args:
        assignments: Cluster of each row under each name, shape (n_samples,), int64.
        pairs: Near rows.
        n_resamples: Resamples of the rows that are drawn, with replacement: each counts the pairs that it is first in.

    Returns:
        The scores.
    """
    generator = np.random.default_rng(0)  # one draw for all runs: scores of two runs differ by their partitions alone
    rows, owner = np.unique(pairs.first, return_inverse=True)
    draws = [generator.integers(len(rows), size=len(rows)) for _ in range(n_resamples)]
    counts = np.array([np.bincount(draw, minlength=len(rows)) for draw in draws], dtype=np.float64)
    counts = counts.reshape(n_resamples, len(rows))
    once = np.ones((1, len(rows)))
    result = NeighbourScores({}, {}, {}, {})
    orders = [generator.permutation(len(next(iter(assignments.values())))) for _ in range(_PERMUTATIONS)]
    for name, clusters in assignments.items():
        first, second = clusters[pairs.first], clusters[pairs.second]
        result.score[name] = float(_pair_log_likelihoods(owner, first, second, once)[0])
        result.resampled[name] = _pair_log_likelihoods(owner, first, second, counts)
        shuffled = (clusters[order][pairs.second] for order in orders)
        result.chance[name] = max(float(_pair_log_likelihoods(owner, first, other, once)[0]) for other in shuffled)
        result.same[name] = float((first == second).mean())
    return result


def _pair_log_likelihoods(owner: np.ndarray, first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`methods.shared_information.pair_log_likelihood` of many resamples of the rows at once.

    Args:
        owner: Which row each pair belongs to, shape (n_pairs,).
        first: Cluster of its first row, same shape.
        second: Cluster of its second row.
        counts: How often each resample has each row, shape (n_resamples, n_rows).

    Returns:
        Shape (n_resamples,).
    """
    import torch  # not with the options, which are checked before anything heavy is loaded

    from deep_clustering.methods.shared_information import best_log_likelihood

    n_clusters = int(max(first.max(), second.max())) + 1
    shape = (counts.shape[1], n_clusters)

    def count(of: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        """Pairs in each cluster, shape (n_resamples, n_clusters)."""
        values = np.ones(len(of))
        return np.asarray((sparse.csr_matrix((values, (of, clusters)), shape).T @ counts.T).T)

    is_same = first == second
    same = count(owner[is_same], first[is_same])
    either = count(owner, first) + count(owner, second)
    n_pairs = (counts @ np.bincount(owner, minlength=counts.shape[1]))[:, None]
    scores = best_log_likelihood(torch.from_numpy(same / n_pairs), torch.from_numpy(either / (2 * n_pairs)))
    return scores.numpy()


class Choice(NamedTuple):
    """The method that is recommended, and why."""

    method: str
    sentence: str
    """Names the method first."""
    gain: dict[str, Any] | None
    """Of the recommended or else the best neural method over the best baseline: names, difference and its interval;
    None without either."""


def choose(scores: NeighbourScores, baselines: Sequence[str]) -> Choice:
    """Recommend the neural partition that says most of near rows, unless a baseline says as much.

    Args:
        scores: Scores of the partitions.
        baselines: Names of those that are baselines, the plainest first.

    Returns:
        The choice: the neural method of the greatest score, if that exceeds the plainest baseline's and no baseline
        certainly exceeds it, with a 95 % interval of the difference above 0. Else the best of the baselines that
        certainly exceed it or, where it says no more than the plainest, those that certainly exceed that one, or else
        the plainest.
    """
    ranked = sorted(scores.score, key=lambda name: -scores.score[name])  # stable: of equal scores the first
    neural = [name for name in ranked if name not in baselines]
    if not (baselines and neural):
        method = ranked[0]
        return Choice(method, _alone(method, ranked) + _by_chance(scores, method), None)
    best, plainest = neural[0], baselines[0]
    says_more = scores.score[best] > scores.score[plainest] + _EQUAL
    bar = best if says_more else plainest
    above = [name for name in ranked if name in baselines and scores.interval(name, over=bar)[0] > 0]
    method = above[0] if above else bar
    rival = next(name for name in ranked if name in baselines) if method == best else method
    low, high = scores.interval(best, over=rival)
    difference = scores.score[best] - scores.score[rival]
    gain = {"method": best, "over": rival, "difference": difference, "interval": [low, high]}
    figures = f"{best} {difference:+.3f} nats, 95 % interval {low:+.3f} to {high:+.3f}"
    if method != best:
        text = f"No neural partition explains the neighbours of a row better than it ({figures})."
    elif difference > 0:
        certainly = "" if low > 0 else ", which is not certain"
        text = f"It explains the neighbours of a row better than the best baseline {rival}{certainly} ({figures})."
    else:
        text = (
            f"It explains the neighbours of a row better than {plainest}; {rival} explains them better still, which "
            f"is not certain ({figures})."
        )
    return Choice(method, f"Recommended: {method}. {text}{_by_chance(scores, method)}", gain)


def _alone(method: str, ranked: Sequence[str]) -> str:
    if len(ranked) == 1:
        return f"Recommended: {method}. There is no other partition to compare it with."
    return f"Recommended: {method}. Of {len(ranked)} partitions it explains the neighbours of a row best."


def _by_chance(scores: NeighbourScores, method: str) -> str:
    if scores.score[method] > scores.chance[method]:
        return ""
    return " But near rows share its clusters no more than by chance: there may be nothing to find."


def describe_stability(agreements: Sequence[float], share: float) -> str:
    """Whether a method finds its partition again, in words.

    Args:
        agreements: Adjusted Rand index of each further fit with the recommended partition, on the rows of both.
        share: Share of the rows in each fit.

    Returns:
        A sentence; empty without a further fit.
    """
    if not agreements:
        return ""
    lowest = min(agreements)
    verdict = "repeatable" if lowest >= _FAIRLY_REPEATABLE else "not repeatable"
    if _FAIRLY_REPEATABLE <= lowest < REPEATABLE:
        verdict = f"fairly {verdict}"
    listed = ", ".join(f"{value:.2f}".replace("0.", ".", 1) for value in agreements)
    fits = "A second fit" if len(agreements) == 1 else f"{len(agreements)} further fits"
    verb = "agrees" if len(agreements) == 1 else "agree"
    return f"{fits} on {share:.0%} of the rows {verb} with ARI {listed}: {verdict}.".replace("%", " %")


def describe_recommendation(
    choice: Choice,
    scores: NeighbourScores,
    assignments: Mapping[str, np.ndarray],
    baselines: Sequence[str],
    pairs: Pairs,
) -> dict[str, Any]:
    """All that is known of a recommendation but its stability, as plain JSON values.

    Args:
        choice: What is recommended.
        scores: Scores of the partitions.
        assignments: Cluster of each row under each name.
        baselines: Names of those that are baselines.
        pairs: What was scored.

    Returns:
        "method", "sentence", "beats_baseline" (None without a baseline and a neural method), "gain", "scores" of each
        method, best first, "agreement" of the others with it (adjusted Rand index), "n_rows" that are in pairs,
        "n_pairs", whichever row comes first, and "pairs_are_seen", whether methods trained on them for want of others.
    """
    either = np.sort([pairs.first, pairs.second], axis=0)
    each = {
        name: {
            "score": scores.score[name],
            "interval": list(scores.interval(name)),
            "chance": scores.chance[name],
            "same_cluster": scores.same[name],
            "n_clusters": len(np.unique(assignments[name])),
            "is_baseline": name in baselines,
        }
        for name in sorted(scores.score, key=lambda name: -scores.score[name])
    }
    taken = assignments[choice.method]
    others = {name: clusters for name, clusters in assignments.items() if name != choice.method}
    return {
        "method": choice.method,
        "sentence": choice.sentence,
        "beats_baseline": None if choice.gain is None else choice.method not in baselines,
        "gain": choice.gain,
        "scores": each,
        "agreement": {name: float(adjusted_rand_score(taken, clusters)) for name, clusters in others.items()},
        "n_rows": len(np.unique(pairs.first)),
        "n_pairs": np.unique(either, axis=1).shape[1],
        "pairs_are_seen": pairs.are_seen,
    }
