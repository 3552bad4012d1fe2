"""One map of the rows, the same for all methods, coloured by the clusters of each."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from deep_clustering.reporting import figures
from deep_clustering.reporting.map_figures import Painted, draw_map
from deep_clustering.reporting.panels import Panel, make_panel
from deep_clustering.reporting.projection import MAX_AXES, place_rows
from deep_clustering.scores.shared_space import draw_rows, flatten_rows, match_partition

# Rows on the map: it is drawn small, once for each method.
_MAX_ROWS = 2000


class SharedMap(NamedTuple):
    """Rows in the plane, and the cluster of each under each method."""

    coordinates: np.ndarray
    """Shape (n_rows, 2)."""
    assignments: Mapping[str, np.ndarray]
    """Shape (n_rows,) under each name."""
    reference: str
    """Whose clusters give the others their colours."""


def draw_shared_map(
    features: np.ndarray | sparse.csr_matrix, assignments: Mapping[str, np.ndarray], reference: str
) -> SharedMap:
    """Place a draw of the rows in the plane by their features.

    Args:
        features: Rows, shape (n_samples, ...).
        assignments: Cluster of each row under each name, shape (n_samples,).
        reference: Name of the method that the colours are of.

    Returns:
        The map, of at most 2,000 rows.
    """
    rows = draw_rows(features.shape[0], _MAX_ROWS)
    drawn = flatten_rows(features[rows])
    if not isinstance(drawn, np.ndarray):
        n_axes = min(MAX_AXES, min(drawn.shape) - 1)
        drawn = TruncatedSVD(n_axes, random_state=0).fit_transform(drawn) if n_axes > 0 else drawn.toarray()
    of_rows = {name: clusters[rows] for name, clusters in assignments.items()}
    return SharedMap(place_rows(np.asarray(drawn), seed=0), of_rows, reference)


def shared_panels(
    shared: SharedMap, order: list[str], agreement: Mapping[str, Mapping[str, float]], recommended: str | None
) -> list[Panel]:
    """A small map for each method; clusters that overlap the most have one colour.

    Args:
        shared: The map.
        order: Names of the methods.
        agreement: Adjusted Rand index of each two methods.
        recommended: Method that is recommended, on the map or not; None without advice.

    Returns:
        The panels in that order.
    """
    reference = shared.assignments[shared.reference]
    panels = []
    for name in order:
        clusters = shared.assignments[name]
        matched = match_partition(clusters, reference)
        agreed = f"ARI {agreement[name][shared.reference]:.2f}"
        if name == shared.reference:
            agreed = "recommended" if name == recommended else "whose colours the others have"
        n_there = len(np.unique(clusters))
        colours = {number: figures.PALETTE[to % len(figures.PALETTE)] for number, to in enumerate(matched)}
        names = {number: str(number) for number in colours} if n_there <= figures.MAX_ANNOTATED else {}
        figure = draw_map(Painted(shared.coordinates, clusters, colours, names), is_small=True)
        alt = f"The shared map of {len(clusters):,} rows coloured by the {n_there} clusters of {name}."
        panels.append(make_panel(name, figure, alt=alt, caption=f"{n_there} clusters, {agreed}"))
    return panels
