"""From the partitions of several methods to the one that is recommended, and whether it is found again."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from deep_clustering.data.neighbours import find_neighbours, search_neighbours
from deep_clustering.methods import METHODS, is_baseline
from deep_clustering.options import build
from deep_clustering.scores import recommendation
from deep_clustering.scores.recommendation import RecommendationOptions
from deep_clustering.scores.refits import refit_agreements
from deep_clustering.training.draws import evenly_spaced

logger = logging.getLogger(__name__)

# Nearest rows that are looked at where methods are given none.
_NEIGHBOURS = 20


class Candidates(NamedTuple):
    """Partitions of the same rows, and what they were made of."""

    features: np.ndarray | sparse.csr_matrix
    """Rows, shape (n_samples, ...)."""
    assignments: Mapping[str, np.ndarray]
    """Cluster of each row under each name, shape (n_samples,), int64."""
    options: Mapping[str, Mapping[str, Any]]
    """`method` and its hyper-parameters under each name."""


def make_recommendation(candidates: Candidates, space: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Score the partitions, choose one, and fit its method again.

    Args:
        candidates: The partitions.
        space: Options of the neighbours: those that are compared by, and those for fitting again.
        options: Fields of `RecommendationOptions`.

    Returns:
        Plain JSON values: what `describe_recommendation` says, "stability", the adjusted Rand index of each further
        fit, "certainty", the same in words, and "is_repeatable" (None without a further fit).

    Raises:
        ValueError: if options are wrong, or there is no partition.
    """
    chosen = build(RecommendationOptions, options, "recommendation")
    assignments = candidates.assignments
    if not assignments:
        raise ValueError("recommendation: expected the assignments of at least one method, got none")
    methods = {name: candidates.options[name]["method"] for name in assignments}
    order = list(METHODS)  # the plainest baseline first
    baselines = sorted((name for name in methods if is_baseline(methods[name])), key=lambda n: order.index(methods[n]))
    pairs = _near_rows(candidates.features, space, chosen.max_rows)
    scores = recommendation.neighbour_scores(assignments, pairs, chosen.resamples)
    choice = recommendation.choose(scores, baselines)
    logger.info("%s", choice.sentence)
    described = recommendation.describe_recommendation(choice, scores, assignments, baselines, pairs)
    agreements, sentence = _stability(candidates, choice.method, space, chosen)
    if sentence:
        logger.info("%s", sentence)
    return {
        **described,
        "stability": agreements,
        "certainty": sentence,
        "is_repeatable": min(agreements) >= recommendation.REPEATABLE if agreements else None,
    }


def _near_rows(
    features: np.ndarray | sparse.csr_matrix, space: Mapping[str, Any], max_rows: int
) -> recommendation.Pairs:
    """Pairs of rows that are near each other in the space where methods find them, or would."""
    rows = evenly_spaced(features.shape[0], max_rows)
    if space["k"] > 0:
        pairs = recommendation.mutual_pairs(find_neighbours(features, space).table, space["held_out"])
        if pairs.are_seen:
            logger.warning("no near rows were held out of training: partitions are compared by those that it saw")
        is_asked = np.isin(pairs.first, rows)
        return pairs._replace(first=pairs.first[is_asked], second=pairs.second[is_asked])
    table = search_neighbours(features[rows], {**space, "k": min(_NEIGHBOURS, len(rows) - 1)})
    pairs = recommendation.mutual_pairs(table, 0.0)
    return pairs._replace(first=rows[pairs.first], second=rows[pairs.second])


def _stability(
    candidates: Candidates, name: str, space: Mapping[str, Any], chosen: RecommendationOptions
) -> tuple[list[float], str]:
    """Agreement of further fits, and what to say of it; a part of the rows may be too few for the method."""
    try:
        agreements = refit_agreements(
            candidates.features,
            candidates.assignments[name],
            candidates.options[name],
            space,
            n_refits=chosen.refits,
            share=chosen.refit_share,
        )
    except (ValueError, FloatingPointError, MemoryError) as error:
        return [], f"Whether it is found again cannot be said: fitting again failed ({error})."
    return agreements, recommendation.describe_stability(agreements, chosen.refit_share)
