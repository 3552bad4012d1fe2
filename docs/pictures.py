"""Draw the picture of the README from the outputs of a run: the map of its rows, and members of each cluster beside it.

    kedro run --pipelines=dcan --env=digits
    python docs/pictures.py data/ docs/clusters

writes docs/clusters-light.png and docs/clusters-dark.png from the newest run of `dcan` on digits.
"""

import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from deep_clustering.atomic import atomic_file

PIXELS = (1600, 720)
DPI = 100
# Share of the map's width and height between two images at least; closer ones are left to their dots.
GAP = (0.026, 0.036)


class Theme(NamedTuple):
    """Colours of a picture."""

    paper: str
    ink: str
    lighter: float
    """How far the colours of clusters go towards white."""


THEMES = {"light": Theme("#ffffff", "#24292f", 0.0), "dark": Theme("#0d1117", "#e6edf3", 0.3)}


class Run(NamedTuple):
    """What a run wrote of its clusters."""

    samples: np.ndarray
    """Grey images, shape (n_samples, 1, height, width)."""
    coordinates: np.ndarray
    """Places on the map, shape (n_samples, 2)."""
    assignments: np.ndarray
    """Cluster of each row, shape (n_samples,)."""
    members: np.ndarray
    """Rows that stand for each cluster, shape (n_clusters, n_members)."""


def read_run(data: Path, method: str = "dcan", data_set: str = "digits") -> Run:
    """Read the newest outputs below a folder of layers."""
    report = data / "08_reporting" / data_set / method
    page, gallery = newest(report / "map.npz"), newest(report / "gallery.npz")
    return Run(
        samples=newest(data / "03_primary" / data_set / "samples.npy"),
        coordinates=page["coordinates"],
        assignments=page["assignments"],
        members=gallery["rows"][:, 0],
    )


def newest(file: Path) -> Any:  # noqa: ANN401
    """The arrays of the newest version of a file.

    Raises:
        FileNotFoundError: if it has none.
    """
    found = sorted(file.glob(f"*/{file.name}"))
    if not found:
        raise FileNotFoundError(f"{file}: no version; expected the outputs of kedro run --pipelines=dcan --env=digits")
    return np.load(found[-1])


def draw(run: Run, theme: Theme) -> bytes:
    """The picture as PNG."""
    figure = Figure(figsize=(PIXELS[0] / DPI, PIXELS[1] / DPI), dpi=DPI, facecolor=theme.paper)
    colours = mpl.colormaps["tab10"](np.arange(len(run.members)) % 10)[:, :3]
    colours += theme.lighter * (1 - colours)
    draw_map(figure.add_axes((0.0, 0.0, 0.6, 1.0)), run, colours, theme)
    draw_members(figure.add_axes((0.61, 0.03, 0.38, 0.94)), run, colours, theme)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=theme.paper, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def draw_map(axes: Axes, run: Run, colours: np.ndarray, theme: Theme) -> None:
    """Every row as a dot of its cluster's colour, and the image of as many as do not hide each other."""
    places = (run.coordinates - run.coordinates.min(axis=0)) / np.ptp(run.coordinates, axis=0)
    axes.scatter(*places.T, s=9, c=colours[run.assignments], linewidths=0, alpha=0.3)
    for row in spread_out(places):
        shown = OffsetImage(tinted(run.samples[row, 0], colours[run.assignments[row]]), zoom=2.6)
        axes.add_artist(AnnotationBbox(shown, places[row], frameon=False, pad=0))
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_axis_off()
    axes.set_facecolor(theme.paper)


def draw_members(axes: Axes, run: Run, colours: np.ndarray, theme: Theme) -> None:
    """A line for each cluster: its number, its members, and how many it has."""
    sizes = np.bincount(run.assignments, minlength=len(run.members))
    for cluster, rows in enumerate(run.members):
        axes.text(0.45, cluster, f"cluster {cluster}", ha="right", va="center", size=13, color=colours[cluster])
        for place, row in enumerate(rows[rows >= 0], start=1):
            image = tinted(run.samples[row, 0], colours[cluster], paper=0.14)
            axes.imshow(image, extent=(place - 0.42, place + 0.42, cluster + 0.42, cluster - 0.42))
        axes.text(9.0, cluster, f"{sizes[cluster]} rows", ha="left", va="center", size=13, color=theme.ink)
    axes.set(xlim=(-0.9, 10.2), ylim=(len(run.members) - 0.5, -0.5), aspect="auto")
    axes.set_axis_off()


def spread_out(places: np.ndarray) -> list[int]:
    """Rows in the order of the data, each `GAP` away from those before it across or down."""
    kept: list[int] = []
    for row, place in enumerate(places):
        if not kept or (np.abs(places[kept] - place) / GAP).max(axis=1).min() > 1:
            kept.append(row)
    return kept


def tinted(grey: np.ndarray, colour: np.ndarray, paper: float = 0.0) -> np.ndarray:
    """A grey image as strokes of a colour on nothing, or on so much of the colour; shape (height, width, 4)."""
    strength = grey / max(grey.max(), 1)
    return np.dstack([*np.broadcast_to(colour[:, None, None], (3, *grey.shape)), np.maximum(strength, paper)])


def main(data: str, target: str) -> None:
    """Write the picture for each theme."""
    run = read_run(Path(data))
    for name, theme in THEMES.items():
        with atomic_file(Path(f"{target}-{name}.png")) as file:
            file.write(draw(run, theme))


if __name__ == "__main__":
    main(*sys.argv[1:])
