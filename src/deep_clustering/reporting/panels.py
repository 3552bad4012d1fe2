"""The figures of a report with their captions and descriptions."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from math import isfinite, log
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from deep_clustering.methods.pair_bound import bound
from deep_clustering.reporting import figures
from deep_clustering.reporting.certainty_figures import draw_reliability, draw_selection
from deep_clustering.reporting.hover import is_on_map
from deep_clustering.reporting.map_figures import draw_certainty_map, draw_map, frame_of, paint
from deep_clustering.reporting.texts import describe_curve, format_number

SUPERVISED = ("acc", "nmi", "ari")


class Panel(NamedTuple):
    """A figure on the page: a data URI, its texts, its natural width in CSS pixels, and where its data lie on it."""

    title: str
    image: str
    alt: str
    caption: str
    width: int
    frame: str = ""


class Curve(NamedTuple):
    """One or several columns over the epochs, and a level to compare with."""

    name: str
    epoch: Sequence[float]
    series: Mapping[str, Sequence[float | None]]
    reference: tuple[float, str] | None


def make_panel(title: str, figure: Figure, *, alt: str, caption: str) -> Panel:
    """Encode a figure with its texts; the width is its natural one in CSS pixels."""
    width = round(96 * figure.get_size_inches()[0])
    return Panel(title, figures.encode_figure(figure, vector=True), alt, caption, width)


def curve_panels(
    curves: Mapping[str, Any], n_clusters: int, *, is_suggested: bool, pair_noise: float = 0.0
) -> list[Panel]:
    """Small multiples: every history column, then the snapshots; empty when nothing was recorded.

    Args:
        curves: "history" and "snapshots", each a mapping of columns beside "epoch".
        n_clusters: Number of clusters that curves are compared with.
        is_suggested: Whether it was found by the training, during which there were others.
        pair_noise: Probability of pairs that have nothing in common, for the bound of their log-likelihood.
    """
    columns = curves_of(curves, n_clusters, is_suggested=is_suggested, pair_noise=pair_noise)
    return [_curve_panel(*curve) for curve in columns]


def curves_of(
    curves: Mapping[str, Any], n_clusters: int, *, is_suggested: bool, pair_noise: float = 0.0
) -> list[Curve]:
    """Every history column, then the snapshots; empty when nothing was recorded. See `curve_panels`."""
    history, snapshots = dict(curves.get("history") or {}), dict(curves.get("snapshots") or {})
    found = []
    epoch = history.pop("epoch", [])
    for name, values in history.items() if len(epoch) else ():
        reference = reference_level(name, values, n_clusters, is_suggested, pair_noise)
        found.append(Curve(name, epoch, {name: values}, reference))
    epoch = snapshots.pop("epoch", [])
    if not found and len(epoch) < 2:
        return []
    agreement = {name: snapshots.pop(name) for name in SUPERVISED if name in snapshots}
    for name, values in snapshots.items() if len(epoch) else ():
        if name == "n_occupied" and name in history:  # the same quantity, at fewer points
            continue
        reference = reference_level(name, values, n_clusters, is_suggested, pair_noise)
        title = f"{name}_between_snapshots" if name in history else name
        found.append(Curve(title, epoch, {name: values}, reference))
    if agreement and len(epoch):
        found.append(Curve("agreement_with_the_classes", epoch, agreement, None))
    return found


def _curve_panel(
    name: str,
    epoch: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    reference: tuple[float, str] | None,
) -> Panel:
    figure = figures.draw_curves(epoch, series, reference=reference)
    title, caption = describe_curve(name)
    last = ", ".join(f"{key} ends at {format_number(values[-1])}" for key, values in series.items())
    return make_panel(title, figure, alt=f"{title} by epoch, {len(epoch)} points; {last}.", caption=caption)


def reference_level(
    name: str, values: Sequence[float | None], n_clusters: int, is_suggested: bool, pair_noise: float = 0.0
) -> tuple[float, str] | None:
    """Level that a curve is to be compared with, and its name; None for a curve without one.

    Args:
        name: Name of the column.
        values: The curve.
        n_clusters: Number of clusters at the end of the training.
        is_suggested: Whether there were other numbers during the training.
        pair_noise: As in `curve_panels`.
    """
    if fnmatchcase(name, "discriminator*accuracy*"):
        return 0.5, "chance"
    if name == "js_divergence":
        return log(2), "ln 2: told apart"
    if name == "n_occupied":
        return float(n_clusters), "suggested" if is_suggested else "asked for"
    if name not in ("log_likelihood", "entropy", "occupancy_entropy") or is_suggested:
        return None
    # a density of continuous data is not bounded by log K: such a curve lies above it or far below zero
    level = bound(n_clusters, pair_noise if name == "log_likelihood" else 0.0)
    finite = [value for value in values if value is not None and isfinite(value)]
    bounded = bool(finite) and max(finite) <= level + 1e-6 and min(finite) > -10 * level
    return (
        (level, f"{'bound' if pair_noise and name == 'log_likelihood' else 'log K'} = {level:.3f}") if bounded else None
    )


def occupancy_panel(occupancy: Sequence[int], retired: Collection[int] = ()) -> Panel:
    """Sizes of the clusters; the caption names the largest, the smallest, the empty ones and those that are retired.

    Args:
        occupancy: Samples of each cluster.
        retired: Numbers whose clusters were merged or dissolved on request.
    """
    counts = np.asarray(occupancy)
    there = np.array([cluster not in retired for cluster in range(len(counts))])
    empty = np.flatnonzero((counts == 0) & there)
    total = max(int(counts.sum()), 1)
    smallest = np.where(there, counts, total + 1).argmin()
    caption = (
        f"Bars at the dashed line mean equally large clusters. The largest is cluster {counts.argmax()} with "
        f"{counts.max():,} samples ({counts.max() / total:.1%}), the smallest cluster {smallest} with "
        f"{counts[smallest]:,} ({counts[smallest] / total:.1%})."
    )
    if len(empty):
        caption += " Empty: " + ", ".join(map(str, empty)) + "."
    if not there.all():
        caption += f" Merged or dissolved on request: {', '.join(map(str, np.flatnonzero(~there)))}."
    alt = f"Bar chart of the sizes of {there.sum()} clusters, {len(empty)} of them empty."
    figure = figures.draw_occupancy(occupancy, retired)
    return make_panel("Cluster sizes", figure, alt=alt, caption=caption)


def confusion_panel(contingency: Mapping[str, Any]) -> Panel:
    """Clusters by classes; the caption says how much is matched and names the largest confusion."""
    counts = np.asarray(contingency["counts"])
    matched, names = contingency["matched_class"], contingency["class_names"]
    figure = figures.draw_confusion(counts, matched_class=matched, class_names=names)
    rest = counts.copy()
    for cluster, class_ in enumerate(matched):
        if class_ >= 0:
            rest[cluster, class_] = 0
    right, total = int(counts.sum() - rest.sum()), max(int(counts.sum()), 1)
    caption = (
        "Each cluster (row) is matched with at most one class, outlined; what lies outside counts as "
        f"wrong. {right:,} of {total:,} samples ({right / total:.1%}) lie inside."
    )
    if rest.any():
        row, column = np.unravel_index(rest.argmax(), rest.shape)
        caption += f" Largest confusion: {rest.max():,} of class {names[column]} in cluster {row}."
    n_clusters, n_classes = counts.shape
    alt = f"Matrix of {n_clusters} clusters by {n_classes} classes; {right / total:.1%} in matched cells."
    return make_panel("Clusters and classes", figure, alt=alt, caption=caption)


def reliability_panel(table: Mapping[str, Any], ece: float) -> Panel:
    """Confidence against accuracy; the caption says which way the confidences err, and by how much."""
    counts = np.asarray(table["counts"])
    confidence, accuracy = (np.array(table[name], dtype=float) for name in ("confidence", "accuracy"))
    claimed, right = (float(np.nansum(counts * means) / counts.sum()) for means in (confidence, accuracy))
    verdict = "too sure" if claimed > right else "not sure enough"
    figure = draw_reliability(table["edges"], confidence, accuracy, counts)
    caption = (
        "Points on the dashed line are as often right as their confidence says; below it the clustering is too sure. "
        f"The mean confidence is {claimed:.1%} and {right:.1%} are right in the matched class: on the whole {verdict}. "
        f"The orange gaps, weighted by the samples of each bin below, give the calibration error {ece:.3f}."
    )
    alt = (
        f"Accuracy over confidence in {len(counts)} bins, {int((counts > 0).sum())} of them occupied; calibration "
        f"error {ece:.3f}."
    )
    return make_panel("Reliability", figure, alt=alt, caption=caption)


def selection_panel(selection: Mapping[str, Any]) -> Panel:
    """Log-likelihood over the number of clusters; the caption gives the suggested one and how certain it is."""
    numbers, suggested = selection["n_clusters"], selection["suggested"]
    columns = ("log_likelihood", "log_likelihood_deviation", "bound")
    values, deviation, greatest = (np.array(selection[name]) for name in columns)
    low, high = selection["interval"]
    probability = selection["probability"][numbers.index(suggested)]
    figure = draw_selection(numbers, values, deviation, greatest, suggested=suggested, n_classes=selection["n_classes"])
    caption = (
        "The log-likelihood of a mixture of more clusters can be greater, so numbers are compared by their share of "
        f"what it can be at most: a clear peak speaks for its K, a plateau for several. Suggested: {suggested}, which "
        f"won in {probability:.0%} of the resamplings of the samples; {_interval(low, high)} won in at least 95 %. "
        "That is of this training alone: another seed may suggest another number. Bars: two standard errors."
    )
    if suggested == numbers[-1] or suggested == numbers[0] > 2:
        caption += " The suggested number is at the end of the range: try a wider one."
    if selection["n_classes"] is not None:
        caption += " " + _against_classes(selection["difference"], selection["n_classes"])
    alt = (
        f"Log-likelihood in nats and as a share of its bound for {numbers[0]} to {numbers[-1]} clusters; {suggested} "
        "is marked as suggested."
    )
    return make_panel("", figure, alt=alt, caption=caption)


def _interval(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _against_classes(difference: int, n_classes: int) -> str:
    if difference == 0:
        return f"The labels have as many classes, {n_classes}."
    return f"The labels have {n_classes} classes: {abs(difference)} {'fewer' if difference > 0 else 'more'}."


def map_panels(map_: Mapping[str, np.ndarray], matched: list[int], names: Mapping[int, str]) -> list[Panel]:
    """The plane by cluster, by class when classes are known, and by certainty; each knows where its data lie."""
    painted = paint(map_, matched, names)
    if not painted:
        return []
    there = is_on_map(map_)
    n_points, n_samples = int(there.sum()), len(there)
    caption = (
        "Each dot is a sample; a number marks the middle of its cluster. Distances between islands carry no meaning."
    )
    if n_points < n_samples:
        caption += f" Of {n_samples:,} samples {n_points:,}, drawn at random, are on the map."
    if len(matched) > len(figures.PALETTE):
        caption += " Colours repeat after ten clusters: read the numbers."
    alt = f"Map of {n_points:,} samples in two dimensions, coloured by cluster."
    panels = [_map_panel("By cluster", draw_map(painted[0]), alt, caption)]
    for of_classes in painted[1:]:
        caption = (
            "A class has the colour of its matched cluster, so where the two maps differ in colour the run "
            "differs from the labels. Palest grey: no label, or a class without a cluster."
        )
        alt = "The same map coloured by true class."
        panels.append(_map_panel("By true class", draw_map(of_classes), alt, caption))
    figure = draw_certainty_map(painted[0].coordinates, map_["certainty"][there])
    caption = "Blue dots are the least certain assignments: expect them where clusters meet, not inside them."
    alt = "The same map shaded by certainty of the assignment."
    panels.append(_map_panel("By certainty", figure, alt, caption))
    return panels


def _map_panel(title: str, figure: Figure, alt: str, caption: str) -> Panel:
    frame = " ".join(f"{number:.7g}" for number in frame_of(figure))
    return make_panel(title, figure, alt=alt, caption=caption)._replace(frame=frame)
