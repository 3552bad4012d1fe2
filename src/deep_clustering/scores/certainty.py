"""How certain an assignment is: log odds, and what they are worth in near rows, without labels.

    s_i = log gamma_ik - log max_{j != k} gamma_ij      log odds of the cluster k of row i over the likeliest other
    c_i = 1 / (1 + exp(-s_i / T))                       certainty, in [0, 1]
    T   = argmin_T  -sum_i [a_i log c_i + (1 - a_i) log(1 - c_i)]

a_i is the share of the rows nearest to row i that are in its cluster: of rows of certainty .9, nine near rows in ten
are. The log odds are those of logarithms in double precision: responsibilities in single precision are exactly 1
where a posterior is saturated, and say nothing. One number T for all rows changes no order.

Where log odds do not tell rows apart, because more than half of them are equal or infinite as of a hard clustering,
s_i is the simplified silhouette (b - a) / max(a, b), with a the distance of the latent of a row to the mean of its
cluster and b to the nearest other mean. Rows of equal log odds are ordered by it as well.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.special import expit

from deep_clustering.data.neighbours import is_held_out, search_neighbours
from deep_clustering.training.described import Described
from deep_clustering.training.draws import evenly_spaced

# Rows that are asked about near ones, evenly spaced, each with its nearest among them.
_ROWS, _NEIGHBOURS = 5000, 5
# Numbers of those rows at most, 0.4 GB where they are made dense; of long rows there are fewer.
_NUMBERS, _FEWEST_ROWS = 10**8, 200
# Logarithm of the least and the greatest typical score in units of the temperature.
_RANGE = (-7.0, 7.0)
_CHUNK_ROWS = 4096
_GATHERED_ROWS = 2**17


class Certainty(NamedTuple):
    """How certain the assignment of each row is, three arrays of shape (n_samples,), float64."""

    certainty: np.ndarray
    """c_i, in [0, 1]."""
    log_odds: np.ndarray
    """s_i in nats; infinite where all other responsibilities are 0."""
    silhouette: np.ndarray
    """Simplified silhouette in the latent, in [-1, 1]."""

    def order(self) -> np.ndarray:
        """Rows from the most certain to the least, shape (n_samples,): by log odds, equal ones by silhouette."""
        return np.lexsort((-self.silhouette, -self.log_odds))


def rate_certainty(
    said: Described, features: np.ndarray | sparse.csr_matrix, space: Mapping[str, Any], is_fitted: np.ndarray
) -> Certainty:
    """Say how certain each assignment is, see the head of this file.

    Args:
        said: What a method says of the rows.
        features: The rows, shape (n_samples, ...).
        space: Options of the neighbours, in which rows are near.
        is_fitted: Which rows the method was fitted to, shape (n_samples,), bool; they are asked about near ones.

    Returns:
        The certainties; without two rows to ask, those of T = 1.

    Raises:
        ValueError: if an option of the neighbours is wrong.
    """
    logs = said.log_responsibilities
    odds = log_odds(said.assignments, log_of(said.responsibilities) if logs is None else logs)
    silhouette = simplified_silhouette(said.latent, said.assignments)
    fitted = np.flatnonzero(is_fitted)
    if len(fitted) < 2:
        return Certainty(expit(odds), odds, silhouette)
    score = _scores(odds, silhouette)
    first, second = (fitted[place] for place in _near_rows(features, fitted, space))
    temperature = fit_temperature(score[first], said.assignments[first] == said.assignments[second])
    return Certainty(expit(score / temperature), odds, silhouette)


def certainty_of(assignments: np.ndarray, representation: Mapping[str, np.ndarray]) -> Certainty:
    """The certainties that were stored with a representation.

    Args:
        assignments: Cluster of each row, shape (n_samples,).
        representation: "certainty", "log_odds" and "silhouette" (n_samples,), or what versions without them stored,
            "responsibilities" (n_samples, n_clusters) and "latent" (n_samples, latent_dim): then T = 1.

    Returns:
        The certainties.
    """
    if "certainty" in representation:
        return Certainty(*(representation[name] for name in Certainty._fields))
    odds = log_odds(assignments, log_of(representation["responsibilities"]))
    return Certainty(expit(odds), odds, simplified_silhouette(representation["latent"], assignments))


def log_of(responsibilities: np.ndarray) -> np.ndarray:
    """Logarithm in double precision, -inf of 0."""
    with np.errstate(divide="ignore"):
        return np.log(responsibilities.astype(np.float64))


def log_odds(assignments: np.ndarray, log_responsibilities: np.ndarray) -> np.ndarray:
    """Log odds of each row's cluster over the likeliest other one.

    Args:
        assignments: Cluster of each row, shape (n_samples,).
        log_responsibilities: Shape (n_samples, n_clusters), up to a constant of each row.

    Returns:
        Shape (n_samples,), float64, in nats; inf where there is no other cluster.
    """
    odds = np.empty(len(assignments))
    for start in range(0, len(assignments), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        others = log_responsibilities[part].astype(np.float64)
        own = np.arange(len(others)), assignments[part]
        of_own = others[own]
        others[own] = -np.inf
        odds[part] = of_own - others.max(axis=1, initial=-np.inf)
    return odds


def simplified_silhouette(latent: np.ndarray, assignments: np.ndarray) -> np.ndarray:
    """Silhouette against cluster means instead of against all pairs.

    Args:
        latent: Shape (n_samples, latent_dim).
        assignments: Cluster of each row, shape (n_samples,).

    Returns:
        Shape (n_samples,), float64, in [-1, 1]; 0 where there is no other cluster.
    """
    occupied, own = np.unique(assignments, return_inverse=True)
    if len(occupied) < 2:
        return np.zeros(len(latent))
    means = _means(latent, own, len(occupied))
    result = np.empty(len(latent))
    for start in range(0, len(latent), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        distances = _distances(latent[part].astype(np.float64), means)
        mine = np.arange(len(distances)), own[part]
        own_distance = distances[mine]
        distances[mine] = np.inf
        other_distance = distances.min(axis=1)
        larger, gap = np.maximum(own_distance, other_distance), other_distance - own_distance
        result[part] = np.divide(gap, larger, out=np.zeros_like(gap), where=larger > 0)
    return result


def _means(latent: np.ndarray, own: np.ndarray, n_clusters: int) -> np.ndarray:
    """Mean of each cluster, shape (n_clusters, latent_dim), float64; rows are gathered some at a time."""
    totals = np.zeros((n_clusters, latent.shape[1]))
    for start in range(0, len(latent), _GATHERED_ROWS):
        part = slice(start, start + _GATHERED_ROWS)
        rows, of = latent[part], own[part]
        totals += np.stack([rows[of == cluster].sum(axis=0, dtype=np.float64) for cluster in range(n_clusters)])
    return totals / np.bincount(own, minlength=n_clusters)[:, None]


def fit_temperature(score: np.ndarray, agrees: np.ndarray) -> float:
    """The temperature T at which scores say how often near rows agree, see the head of this file.

    Args:
        score: Score of the first row of each pair, shape (n_pairs,), finite.
        agrees: Whether its second row is in the same cluster, shape (n_pairs,).

    Returns:
        T > 0. One further pair, half of which agrees, keeps it there where all pairs agree.
    """
    typical = float(np.abs(score).mean()) or 1.0
    share = (len(agrees) * agrees.astype(np.float64) + 0.5) / (len(agrees) + 1)
    score = score / typical

    def loss(log_inverse: float) -> float:
        logit = np.exp(log_inverse) * score
        return float((np.logaddexp(0, logit) - share * logit).mean())

    return typical * float(np.exp(-minimize_scalar(loss, bounds=_RANGE, method="bounded").x))


def _scores(odds: np.ndarray, silhouette: np.ndarray) -> np.ndarray:
    """Log odds, infinite ones as great as the greatest other; silhouettes where log odds do not tell rows apart."""
    is_finite = np.isfinite(odds)
    most_equal = np.unique(odds[is_finite], return_counts=True)[1].max(initial=0)
    if max(most_equal, int((~is_finite).sum())) > len(odds) / 2:
        return silhouette
    return np.where(is_finite, odds, odds[is_finite].max(initial=0))


def _near_rows(
    features: np.ndarray | sparse.csr_matrix, fitted: np.ndarray, space: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near rows that no method was given as views, if there are such: their places among those fitted."""
    width = int(np.prod(features.shape[1:]))
    most = min(_ROWS, max(_NUMBERS // width, _FEWEST_ROWS))
    rows = evenly_spaced(len(fitted), most)
    # A projection that such short rows cannot have is of another data set, and asked for by nobody where k is 0.
    projection = int(space["projection"]) if int(space["projection"]) < width else 0
    options = {**space, "k": min(_NEIGHBOURS, len(rows) - 1), "projection": projection}
    table = rows[search_neighbours(features[fitted[rows]], options)]
    first, second = np.repeat(rows, table.shape[1]), table.ravel()
    is_held = is_held_out(first, second, float(space["held_out"]))
    return (first[is_held], second[is_held]) if is_held.any() else (first, second)


def _distances(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Euclidean distances, (n_rows, n_means)."""
    squared = (rows**2).sum(axis=1)[:, None] - 2 * rows @ means.T + (means**2).sum(axis=1)[None]
    return np.sqrt(np.maximum(squared, 0))
