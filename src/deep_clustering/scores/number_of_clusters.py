"""What a fit over a range of numbers of clusters says of each number."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Probability that the range of numbers given beside the suggested one holds at least.
LEVEL = 0.95
_ROUNDING = 1e-6


def probable_range(n_clusters: Sequence[int], probability: Sequence[float], level: float) -> tuple[int, int]:
    """Smallest range of numbers of clusters with a given probability.

    Args:
        n_clusters: Numbers K, ascending, shape (n_numbers,).
        probability: Of each number, shape (n_numbers,); sums to 1.
        level: Probability that the range holds at least, in (0, 1].

    Returns:
        First and last number of the range; of equally small ones that of greatest probability, then the first.

    Raises:
        ValueError: if the probabilities together do not reach the level.
    """
    ends = np.concatenate([[0.0], np.cumsum(probability)])
    inside = {
        (first, last): ends[last + 1] - ends[first]
        for first in range(len(n_clusters))
        for last in range(first, len(n_clusters))
        if ends[last + 1] - ends[first] >= level - _ROUNDING
    }
    if not inside:
        raise ValueError(f"probable_range: expected probabilities that sum to 1, got {ends[-1]:.6g}")
    first, last = min(inside, key=lambda pair: (n_clusters[pair[1]] - n_clusters[pair[0]], -inside[pair], pair))
    return n_clusters[first], n_clusters[last]


def describe_selection(
    history: Mapping[str, np.ndarray], suggested: int, n_classes: int | None
) -> dict[str, Any] | None:
    """What is known of each number of clusters, and how it compares with the number of classes.

    Args:
        history: "selection_n_clusters", "selection_log_likelihood", "selection_log_likelihood_deviation",
            "selection_bound" and "selection_probability", each (n_numbers,), if the number of clusters was chosen in a
            range.
        suggested: The number that was kept.
        n_classes: Number of classes; None without labels.

    Returns:
        "n_clusters", "log_likelihood", "log_likelihood_deviation", "bound" and "probability", each with a value per
        number;
        "suggested"; "interval", first and last number of the smallest range with a probability of `LEVEL`;
        "n_classes" and "difference", suggested minus n_classes. None if no range was given.
    """
    if "selection_n_clusters" not in history:
        return None
    numbers = history["selection_n_clusters"].astype(int).tolist()
    names = ("log_likelihood", "log_likelihood_deviation", "bound", "probability")
    columns = {name: history[f"selection_{name}"].tolist() for name in names}
    return {
        "n_clusters": numbers,
        **columns,
        "suggested": suggested,
        "interval": list(probable_range(numbers, columns["probability"], LEVEL)),
        "n_classes": n_classes,
        "difference": None if n_classes is None else suggested - n_classes,
    }


def selection_metrics(selection: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a selection that sum it up.

    Args:
        selection: What `describe_selection` returned.

    Returns:
        "n_clusters_suggested", "n_clusters_probability" (of the suggested number) and, with labels, "n_clusters_off".
    """
    suggested = selection["suggested"]
    place = selection["n_clusters"].index(suggested)
    values = {"n_clusters_suggested": suggested, "n_clusters_probability": selection["probability"][place]}
    off = {} if selection["difference"] is None else {"n_clusters_off": selection["difference"]}
    return values | off
