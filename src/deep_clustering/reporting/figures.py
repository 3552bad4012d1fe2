"""Figures of a report, drawn without pyplot and encoded as data URIs."""

import base64
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import TightLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image

from deep_clustering.reporting.labels import drawable

# Petroff's ten colours, chosen to be told apart with colour-vision deficiency
PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
INK, MUTED, UNKNOWN, RED = "#1f2933", "#7b8794", "#d9dee3", "#bd1f01"
HALO = [withStroke(linewidth=2.5, foreground="white")]
MAX_ANNOTATED = 20
MAX_NAMED = 40
MAX_DIGITS = 60
MIN_PHOTOGRAPH = 16
RASTER_DPI = 190
STEPS = [1, 2, 5, 10]
# Inches of a line of a legend above the axes.
LEGEND = 0.28
NO_SVG_METADATA: Any = {"Date": None, "Creator": None}
NO_PNG_METADATA: Any = {"Software": None}


def encode_figure(figure: Figure, *, vector: bool) -> str:
    """Data URI of a figure, SVG (thousands of dots in it as pixels) or PNG; the same figure gives the same text."""
    buffer = io.BytesIO()
    if not vector:
        figure.savefig(buffer, format="png", dpi=RASTER_DPI, metadata=NO_PNG_METADATA)
        return _data_uri("image/png", buffer.getvalue())
    figure.savefig(buffer, format="svg", dpi=RASTER_DPI, metadata=NO_SVG_METADATA)
    svg = buffer.getvalue().decode()
    # matplotlib salts its ids at random unless told otherwise by a global setting
    for number, salted in enumerate(dict.fromkeys(re.findall(r'id="([a-z]+[0-9a-f]{10})"', svg))):
        svg = svg.replace(salted, f"i{number}")
    return _data_uri("image/svg+xml", svg.encode())


def encode_image(image: np.ndarray, *, value_range: Sequence[float]) -> str:
    """Data URI of an image (C, H, W) with one or three channels, value_range stretched to black..white.

    PNG, or JPEG for colour images of a size at which photographs would take several times as much as PNG.

    Raises:
        ValueError: if the image has neither one nor three channels.
    """
    if image.shape[0] not in (1, 3):
        raise ValueError(f"encode_image: expected 1 or 3 channels first, got an image of shape {image.shape}")
    low, high = value_range
    stretched = (image.astype(np.float64) - low) / (high - low if high > low else 1)
    pixels = np.round(255 * np.clip(stretched, 0, 1)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (3, *image.shape[1:])).transpose(1, 2, 0)
    buffer = io.BytesIO()
    if image.shape[0] == 3 and min(image.shape[1:]) >= MIN_PHOTOGRAPH:
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=85)
        return _data_uri("image/jpeg", buffer.getvalue())
    grey = pixels[..., 0] if image.shape[0] == 1 else pixels
    Image.fromarray(np.ascontiguousarray(grey)).save(buffer, "PNG", optimize=True)
    return _data_uri("image/png", buffer.getvalue())


def draw_curves(
    epoch: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    *,
    reference: tuple[float, str] | None = None,
) -> Figure:
    """Curves over epochs in one small panel, with a dashed level to compare with.

    Args:
        epoch: shape (t,).
        series: label to values, each (t,); a missing value is None or nan.
        reference: level and its name.
    """
    figure, axes = _panel(3.7, 2.4)
    plot_curves(axes, epoch, series, reference)
    fit_numbers(figure, [axes])
    return figure


def plot_curves(
    axes: Axes,
    epoch: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    reference: tuple[float, str] | None,
) -> None:
    """What `draw_curves` draws, into axes."""
    marker = "o" if len(epoch) < 12 else None
    for number, (label, values) in enumerate(series.items()):
        axes.plot(
            np.asarray(epoch, dtype=float),
            np.asarray(values, dtype=float),
            color=PALETTE[(0, 6, 4)[number % 3]],
            linestyle=("-", "--", "-.")[number % 3],
            marker=marker,
            markersize=3,
            linewidth=1.6,
            label=label,
        )
    if reference is not None:
        level, name = reference
        axes.axhline(level, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        axes.annotate(
            name, (0, level), xycoords=("axes fraction", "data"), xytext=(3, -3), fontsize=8, color=MUTED,
            textcoords="offset points", ha="left", va="top", path_effects=HALO,
        )  # fmt: skip
        axes.margins(y=0.12)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right", handlelength=2.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.set_xlabel("epoch", fontsize=9, color=MUTED)
    axes.grid(axis="y", color="#e8ebee", linewidth=0.7)


def draw_occupancy(occupancy: Sequence[int], retired: Collection[int] = ()) -> Figure:
    """Bar per cluster, with the level of equally large clusters; an empty cluster is named so, a retired one is not."""
    figure, axes = _panel(5.2, 2.9)
    n_clusters = len(occupancy)
    annotated = n_clusters * len(str(max(occupancy))) <= MAX_DIGITS
    positions = np.arange(n_clusters)
    axes.bar(positions, occupancy, color=PALETTE[0], width=0.8)
    level = sum(occupancy) / max(n_clusters - len(retired), 1)
    axes.axhline(level, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_ylim(0, 1.18 * max(*occupancy, 1))
    for cluster, count in enumerate(occupancy):
        if cluster in retired:
            axes.text(cluster, 0, "\N{EN DASH}", ha="center", va="bottom", fontsize=8, color=MUTED)
        elif count == 0:
            note, size = (" empty", 8) if n_clusters <= MAX_ANNOTATED else (" x", 6)
            axes.text(cluster, 0, note, rotation=90, ha="center", va="bottom", fontsize=size, color=RED)
        elif annotated:
            axes.text(cluster, count, f"{count}", ha="center", va="bottom", fontsize=8, color=INK, path_effects=HALO)
    _cluster_ticks(axes, n_clusters)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
    axes.set_xlabel(f"cluster (dashed: balanced, {level:.1f} samples)", fontsize=9, color=MUTED)
    fit_numbers(figure, [axes])
    return figure


def draw_confusion(counts: np.ndarray, *, matched_class: Sequence[int], class_names: Sequence[str]) -> Figure:
    """Counts of clusters (rows) by classes, columns in the order of the matched clusters.

    Colour is the share of the cluster; a matched cell is outlined. Counts are written up to 20 by 20.

    Args:
        counts: shape (n_clusters, n_classes).
        matched_class: class of each cluster, -1 for none.
        class_names: one per class.
    """
    matched = [c for c in matched_class if c >= 0]
    columns = matched + [c for c in range(counts.shape[1]) if c not in matched]
    ordered = counts[:, columns]
    share = ordered / np.maximum(ordered.sum(axis=1, keepdims=True), 1)
    n_clusters, n_classes = ordered.shape
    annotated = max(ordered.shape) <= MAX_ANNOTATED
    cell = 0.42 if annotated else 8 / max(ordered.shape)
    figure, axes = _panel(1.0 + cell * n_classes, 1.2 + 0.8 * cell * n_clusters)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for cluster, column in np.argwhere(ordered > 0) if annotated else ():
        colour = "white" if share[cluster, column] > 0.55 else INK
        text = f"{ordered[cluster, column]}"
        axes.text(column, cluster, text, ha="center", va="center", fontsize=8, color=colour)
    for column, name in enumerate(matched):
        row = list(matched_class).index(name)
        box = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(box, 1, 1, fill=False, edgecolor=PALETTE[6], linewidth=1.2 if annotated else 0.5))
    _cluster_ticks(axes, n_clusters, vertical=True)
    if n_classes <= MAX_NAMED:
        names, fonts = drawable([class_names[c] for c in columns], 14)
        rotation = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(range(n_classes), names, rotation=rotation, fontsize=8, fontfamily=fonts, parse_math=False)
    else:
        axes.set_xticks([])
    axes.set_xlabel("class", fontsize=9, color=MUTED)
    axes.set_ylabel("cluster", fontsize=9, color=MUTED)
    fit_labels(figure)
    return figure


def draw_comparison(methods: Sequence[str], metrics: Mapping[str, np.ndarray]) -> Figure:
    """Dot plot: a line per method, a marker per metric."""
    figure, axes = _panel(5.8, 1.1 + 0.34 * len(methods))
    positions = np.arange(len(methods))
    for number, (label, values) in enumerate(metrics.items()):
        axes.plot(
            values, positions, linestyle="none", label=label,
            marker="osD^v"[number % 5], color=PALETTE[(0, 6, 4, 2, 8)[number % 5]], markersize=6.5,
        )  # fmt: skip
    texts, fonts = drawable(methods, 24)
    axes.set_yticks(positions, texts, fontfamily=fonts, parse_math=False)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(right=1.02)
    axes.grid(color="#e8ebee", linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(loc="upper center", ncols=len(metrics), frameon=False, fontsize=9)
    fit_labels(figure, above=LEGEND)
    return figure


def draw_intervals(names: Sequence[str], centres: np.ndarray, ends: np.ndarray, runs: Sequence[np.ndarray]) -> Figure:
    """A line per name: its runs as pale dots, their mean, and the interval of the mean.

    Args:
        names: Shape (n,).
        centres: Shape (n,), missing values are NaN.
        ends: Lower and upper ends, shape (n, 2).
        runs: Values of the runs of each name.
    """
    figure, axes = _panel(5.2, 0.9 + 0.34 * len(names))
    positions = np.arange(len(names))
    for position, values in enumerate(runs):
        axes.plot(values, np.full(len(values), position), "o", color=PALETTE[3], alpha=0.5, markersize=4, linewidth=0)
    axes.hlines(positions, ends[:, 0], ends[:, 1], color=PALETTE[0], linewidth=2.2)
    axes.plot(centres, positions, "o", color=PALETTE[0], markersize=6.5)
    texts, fonts = drawable(names, 40)
    axes.set_yticks(positions, texts, fontfamily=fonts, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(color="#e8ebee", linewidth=0.7)
    axes.set_axisbelow(True)
    fit_labels(figure)
    return figure


def make_axes(width: float, height: float, n_rows: int, n_columns: int, **layout: Any) -> tuple[Figure, np.ndarray]:  # noqa: ANN401
    """Figure of a size in inches with several quiet pairs of axes.

    It has no layout engine, which would draw it once more whenever it is saved.
    """
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(n_rows, n_columns, squeeze=False, **layout).ravel()
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#c4ccd4")
        axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
    return figure, grid


def fit_labels(figure: Figure, *, above: float = 0.0) -> None:
    """Room for what stands around the axes of a finished figure, measured once; `above` inches are for a legend."""
    TightLayoutEngine(pad=0.3, rect=(0, 0, 1, 1 - above / figure.get_figheight())).execute(figure)


def fit_numbers(figure: Figure, grid: Sequence[Axes], *, n_columns: int = 1, above: float = 0.1) -> None:
    """Room for numbers at the axes and a name below, by how long the numbers are: to measure them is half a drawing.

    Args:
        figure: What the axes are in.
        grid: Finished axes, row by row.
        n_columns: How many stand side by side.
        above: Inches above each, for its title.
    """
    width, height = figure.get_size_inches()
    wide, high = width / n_columns, height / -(-len(grid) // n_columns)
    formatters = [axes.yaxis.get_major_formatter() for axes in grid]
    numbers = [
        one.format_ticks(axes.yaxis.get_majorticklocs().tolist()) for one, axes in zip(formatters, grid, strict=True)
    ]
    left = 0.15 + 0.08 * max(len(text) for texts in numbers for text in texts)
    above += 0.15 * any(one.get_offset() for one in formatters)  # the power of ten that numbers are multiples of
    for place, axes in enumerate(grid):
        row, column = divmod(place, n_columns)
        corner = ((column * wide + left) / width, 1 - ((row + 1) * high - 0.48) / height)
        axes.set_position((*corner, (wide - left - 0.15) / width, (high - 0.48 - above) / height))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _panel(width: float, height: float) -> tuple[Figure, Axes]:
    """Figure of a size in inches with one quiet pair of axes."""
    figure, (axes,) = make_axes(width, height, 1, 1)
    return figure, axes


def _cluster_ticks(axes: Axes, n_clusters: int, *, vertical: bool = False) -> None:
    """Every cluster number when there is room, else every tenth."""
    ticks = range(0, n_clusters, 1 if n_clusters <= MAX_ANNOTATED else 5 if n_clusters <= MAX_NAMED else 10)
    (axes.set_yticks if vertical else axes.set_xticks)(ticks, [str(tick) for tick in ticks], fontsize=9)
