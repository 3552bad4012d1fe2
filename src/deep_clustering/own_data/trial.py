"""Whether linear heads suit the rows of a table: NMM-EM is fitted to some of them, and compared with k-means.

By `methods.neural_mixture`, N23, heads that are linear in a row tell no two clusters apart that lie between others.
Whether there are such, a look at the centres does not tell; that heads say much less of near rows than k-means on the
same rows does.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from deep_clustering.data.features import fit_statistics, postprocess_rows
from deep_clustering.data.neighbours import leave_out, search_neighbours
from deep_clustering.methods import make_method
from deep_clustering.own_data.settings import Settings
from deep_clustering.own_data.suggestions import n_neighbours
from deep_clustering.scores.recommendation import mutual_pairs, neighbour_scores
from deep_clustering.training.progress import phase

logger = logging.getLogger(__name__)

# Of fewer rows neither says anything certain, and waves would learn them by heart.
_FEWEST_ROWS, _MOST_ROWS = 200, 2000
# In more columns clusters seldom lie between others, and a trial would take long.
_MOST_COLUMNS = 100
# Share of its score that k-means must have more. Where it is little, heads on the values are as good as on waves.
_MORE = 0.1
_WAVES = {"kind": "fourier", "waves": 256, "scale": 4.0}


def with_waves_if_heads_fail(settings: Settings, rows: np.ndarray, parameters: Mapping[str, Any]) -> Settings:
    """Give NMM-EM random waves of the rows of a table where heads on the values say much less than k-means.

    Args:
        settings: Those of standardised columns; others are left as they are.
        rows: The rows as they come, shape (n, n_features).
        parameters: All options of a run by these settings.

    Returns:
        The settings, perhaps with another encoder and a line that says why.
    """
    is_tried = len(rows) >= _FEWEST_ROWS and rows.shape[1] <= _MOST_COLUMNS
    if settings.features.get("postprocess") != "standardise" or not is_tried:
        return settings
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:_MOST_ROWS])
    some = rows[drawn].astype(np.float32)
    statistics = fit_statistics(some, np.ones(len(some), dtype=bool), "standardise")
    if not _says_less_than_kmeans(postprocess_rows(some, statistics, "standardise"), parameters):
        return settings
    mixture = replace(settings.neural_mixture, changes={**settings.neural_mixture.changes, "encoder": _WAVES})
    reason = "waves of the rows, as heads on the values say less of near rows than k-means (tried)"
    return replace(settings, neural_mixture=mixture, why=[*settings.why, ("encoder", reason)])


def _says_less_than_kmeans(rows: np.ndarray, parameters: Mapping[str, Any]) -> bool:
    """Whether k-means explains much more of the pairs that are held out than NMM-EM does, as a run will ask."""
    space = {**parameters["neighbours"], "k": n_neighbours(len(rows))}
    table = search_neighbours(rows, space)
    near, partitions = leave_out(table, space["held_out"]), {}
    for name in ("kmeans", "neural_mixture"):
        with phase("a trial on some rows"):
            try:
                fitted = make_method(parameters[name]).fit(rows, near)
            except (ValueError, FloatingPointError, MemoryError) as error:
                logger.info("%s cannot be tried on %d rows, its options stay as they are: %s", name, len(rows), error)
                return False
        partitions[name] = fitted.predict(rows)
    score = neighbour_scores(partitions, mutual_pairs(table, space["held_out"]), 1).score
    return score["kmeans"] > (1 + _MORE) * score["neural_mixture"]
