"""Figures of how sure a run is: of its assignments, and of its number of clusters."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deep_clustering.reporting.figures import INK, LEGEND, MUTED, PALETTE, STEPS, fit_labels, make_axes


def draw_reliability(edges: Sequence[float], confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray) -> Figure:
    """Accuracy over confidence in bins with the diagonal of perfect calibration, above the share of samples per bin.

    Args:
        edges: shape (n_bins + 1,).
        confidence: mean of each bin, shape (n_bins,); nan in an empty one.
        accuracy: share that is right, shape (n_bins,); nan in an empty one.
        count: samples of each bin, shape (n_bins,).
    """
    figure, (axes, below) = make_axes(4.4, 4.2, 2, 1, height_ratios=(3, 1), sharex=True)
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.115, top=0.98, hspace=0.06)
    left, widths = np.asarray(edges)[:-1], np.diff(edges)
    axes.bar(left, accuracy, widths, align="edge", color=PALETTE[0], alpha=0.35, edgecolor="white", linewidth=0.7)
    axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (4, 3)), linewidth=1)
    axes.plot(confidence, accuracy, "o", color=PALETTE[0], markersize=4.5, clip_on=False)
    axes.vlines(confidence, accuracy, confidence, color=PALETTE[6], linewidth=1.6)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.04)
    axes.set_ylabel("accuracy", fontsize=9, color=MUTED)
    below.bar(left, count / count.sum(), widths, align="edge", color=PALETTE[3], edgecolor="white")
    below.yaxis.set_major_locator(MaxNLocator(3, steps=STEPS))
    below.set_ylabel("share", fontsize=9, color=MUTED)
    below.set_xlabel("confidence: certainty of the assignment", fontsize=9, color=MUTED)
    return figure


def draw_selection(
    n_clusters: Sequence[int],
    log_likelihood: np.ndarray,
    deviation: np.ndarray,
    bound: np.ndarray,
    *,
    suggested: int,
    n_classes: int | None,
) -> Figure:
    """Log-likelihood over the number of clusters K, once in nats with its bound and once as a share of it.

    Args:
        n_clusters: shape (n_numbers,).
        log_likelihood: mean per sample in nats, shape (n_numbers,).
        deviation: standard error of each mean, shape (n_numbers,); the bars are two of them either way.
        bound: greatest log-likelihood of each number, shape (n_numbers,).
        suggested: the number to mark.
        n_classes: the number of classes, marked by a dotted line; None without labels.
    """
    figure, both = make_axes(7.6, 2.9, 1, 2)
    place = list(n_clusters).index(suggested)
    for axes, scale, label in zip(both, (np.ones_like(bound), bound), ("nats", "share of the bound"), strict=True):
        values, errors = log_likelihood / scale, 2 * deviation / scale
        if n_classes is not None:
            axes.axvline(n_classes, color=MUTED, linestyle=":", linewidth=1.4, label=f"{n_classes} classes")
        axes.plot(n_clusters, bound / scale, color=INK, linestyle=(0, (4, 3)), linewidth=1, label="bound")
        axes.errorbar(
            n_clusters, values, errors, color=PALETTE[0], marker="o", markersize=3.5, linewidth=1.4, capsize=2.5
        )
        axes.plot(
            suggested, values[place], "o", color=PALETTE[6], markersize=8, zorder=3, label=f"{suggested} suggested"
        )
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=STEPS, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axes.set_xlabel("number of clusters K", fontsize=9, color=MUTED)
        axes.set_ylabel(label, fontsize=9, color=MUTED)
        axes.grid(axis="y", color="#e8ebee", linewidth=0.7)
    figure.legend(*axes.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False, fontsize=9)
    fit_labels(figure, above=LEGEND)
    return figure
