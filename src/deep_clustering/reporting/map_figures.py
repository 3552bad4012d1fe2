"""Figures of rows in the plane: coloured by what they belong to, or by how certain that is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deep_clustering.reporting.figures import HALO, INK, MAX_ANNOTATED, PALETTE, STEPS, UNKNOWN, fit_labels, make_axes
from deep_clustering.reporting.hover import is_on_map
from deep_clustering.reporting.labels import drawable

# Inches around a map, and above one with a title.
_EDGE, _TITLE = 0.04, 0.28


class Painted(NamedTuple):
    """Rows in the plane by their groups."""

    coordinates: np.ndarray
    """Shape (n_samples, 2)."""
    groups: np.ndarray
    """Shape (n_samples,), -1 for unknown."""
    colours: Mapping[int, str]
    """Colour of each group; palest grey for others."""
    names: Mapping[int, str]
    """What stands at each group; nothing at others."""


def paint(map_: Mapping[str, np.ndarray], matched: list[int], names: Mapping[int, str]) -> list[Painted]:
    """The rows on a map by cluster, and by class where any is known; nothing without rows.

    Args:
        map_: "coordinates" (n, 2), NaN of rows that are not on it, "assignments" and "labels" (n,), -1 for unknown.
        matched: Class of each cluster, -1 for none; it has the cluster's colour.
        names: Names of classes; others have their numbers.
    """
    there = is_on_map(map_)
    points, clusters, labels = map_["coordinates"][there], map_["assignments"][there], map_["labels"][there]
    colours = {cluster: PALETTE[cluster % len(PALETTE)] for cluster in range(len(matched))}
    painted = [Painted(points, clusters, colours, {cluster: str(cluster) for cluster in colours})]
    if (labels >= 0).any():
        of_classes = {class_: colours[cluster] for cluster, class_ in enumerate(matched) if class_ >= 0}
        texts = {int(c): names.get(int(c), str(c)) for c in np.unique(labels[labels >= 0])}
        has_room = len(texts) <= MAX_ANNOTATED or max(map(len, texts.values())) <= 3
        painted.append(Painted(points, labels, of_classes, texts if has_room else {}))
    return painted if len(points) else []


def draw_map(painted: Painted, *, is_small: bool = False) -> Figure:
    """Scatter of samples coloured by group, named at the member nearest to its median; small among many."""
    figure, (axes,) = make_maps(*((2.2, 2.1) if is_small else (4.0, 3.9)))
    plot_map(axes, painted, is_small=is_small)
    return figure


def plot_map(axes: Axes, painted: Painted, *, is_small: bool = False) -> None:
    """What `draw_map` draws, into axes."""
    coordinates, groups, colours, names = painted
    there, which = np.unique(groups, return_inverse=True)
    shades = to_rgba_array([colours.get(int(group), UNKNOWN) for group in there])[which]
    size = np.clip(4000 / len(groups), 0.8, 9) if is_small else _dot_size(len(groups))
    x, y = coordinates.T
    axes.scatter(x, y, c=shades, s=float(size), linewidths=0, rasterized=True)
    crowded = len(names) > MAX_ANNOTATED or max(map(len, names.values()), default=0) > 3
    axes.margins(0.12 if crowded else 0.05)
    texts, fonts = drawable(list(names.values()), 14)
    labels = dict(zip(names, texts, strict=True))
    for group in np.intersect1d(there, list(names)):
        members = coordinates[groups == group]
        # the median of a cluster in two islands lies between them: name the member nearest to it
        gaps = np.linalg.norm(members - np.median(members, axis=0), axis=1)
        x, y = members[gaps.argmin()]
        axes.text(
            x, y, labels[int(group)], ha="center", va="center",
            fontsize=7 if crowded else 8 if is_small else 10, fontfamily=fonts, fontweight="bold", color=INK,
            path_effects=HALO, parse_math=False,
        )  # fmt: skip


def draw_certainty_map(coordinates: np.ndarray, certainty: np.ndarray) -> Figure:
    """Scatter of samples shaded by certainty, least certain on top."""
    figure, (axes,) = make_maps(4.0, 3.9)
    order = np.argsort(-certainty, kind="stable")
    x, y = coordinates[order].T
    shades = certainty[order]
    dots = axes.scatter(x, y, c=shades, s=_dot_size(len(x)), cmap="cividis", linewidths=0, rasterized=True)
    bar = figure.colorbar(dots, ax=axes, orientation="horizontal", fraction=0.05, pad=0.02, shrink=0.6)
    bar.locator = MaxNLocator(4, steps=STEPS)
    bar.ax.tick_params(labelsize=8)
    fit_labels(figure)
    return figure


def make_maps(
    width: float, height: float, n_columns: int = 1, *, has_titles: bool = False
) -> tuple[Figure, np.ndarray]:
    """Figure of a size in inches that maps fill, side by side."""
    figure, grid = make_axes(width, height, 1, n_columns)
    x, y = _EDGE / width, _EDGE / height
    figure.subplots_adjust(x, y, 1 - x, 1 - y - has_titles * _TITLE / height, wspace=0.02)
    for axes in grid:
        axes.axis("off")
    return figure, grid


def frame_of(figure: Figure) -> tuple[float, float, float, float]:
    """Where the data of a figure's first axes lie on it.

    Returns:
        (a, b, c, d): data (x, y) are at the share a x + b of the width from the left and c y + d of the height from
        the top.
    """
    axes = figure.axes[0]
    axes.get_xlim()  # limits are found when somebody asks for them
    place = axes.transData + figure.transFigure.inverted()
    (left, bottom), (right, top) = place.transform([(0, 0), (1, 1)])
    return float(right - left), float(left), float(bottom - top), float(1 - bottom)


def _dot_size(n_points: int) -> float:
    return float(np.clip(12000 / n_points, 0.8, 16))
