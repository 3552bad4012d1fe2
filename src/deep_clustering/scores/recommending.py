"""From the partitions of several methods to the one that is recommended, and how sure that is."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from deep_clustering.methods import is_baseline
from deep_clustering.options import build
from deep_clustering.scores import recommendation
from deep_clustering.scores.recommendation import RecommendationOptions
from deep_clustering.scores.refits import refit_agreements

logger = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Partitions of the same rows, and what they were made of."""

    features: np.ndarray | sparse.csr_matrix
    """Rows, shape (n_samples, ...)."""
    neighbours: np.ndarray
    """Nearest rows of each that methods may have seen as views, shape (n_samples, k)."""
    assignments: Mapping[str, np.ndarray]
    """Cluster of each row under each name, shape (n_samples,), int64."""
    options: Mapping[str, Mapping[str, Any]]
    """`method` and its hyper-parameters under each name."""


def make_recommendation(candidates: Candidates, space: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Score the partitions, choose one, and fit its method again.

    Args:
        candidates: The partitions.
        space: Options of the neighbours, for fitting again.
        options: Fields of `RecommendationOptions`.

    Returns:
        Plain JSON values: what `describe_recommendation` says, "stability", the adjusted Rand index of each further
        fit, "certainty", the same in words, and "is_sure" (None without a further fit).

    Raises:
        ValueError: if options are wrong, or there is no partition.
    """
    chosen = build(RecommendationOptions, options, "recommendation")
    assignments = candidates.assignments
    if not assignments:
        raise ValueError("recommendation: expected the assignments of at least one method, got none")
    baselines = [name for name in assignments if is_baseline(candidates.options[name]["method"])]
    pairs = recommendation.held_out_pairs(candidates.features, candidates.neighbours, chosen.max_rows)
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
        "is_sure": min(agreements) >= recommendation.SURE if agreements else None,
    }


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
        return [], f"How sure that is cannot be said: fitting again failed ({error})."
    return agreements, recommendation.describe_stability(agreements, chosen.refit_share)
