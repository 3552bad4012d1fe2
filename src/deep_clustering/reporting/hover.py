"""What the maps of a report show of a sample under the pointer: its file or id, and a thumbnail or its terms."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import Any

import numpy as np
from PIL import Image
from scipy import sparse

from deep_clustering.reporting.figures import encode_image
from deep_clustering.reporting.terms import describe_rows

THUMBNAIL_SIDE = 32
SHOWN_TERMS = 6


def pick_shown(
    samples: Any,  # noqa: ANN401
    *,
    terms: Sequence[str],
    n_shown: int,
    seed: int,
    among: np.ndarray | None = None,
    ids: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Draw the samples that answer to the pointer, with what they show.

    Args:
        samples: Images uint8 (n_samples, C, H, W), or rows (n_samples, n_features), dense or CSR.
        terms: Term of each column of documents; empty for other data.
        n_shown: How many samples at most, 0 for none.
        seed: Seed of the draw.
        among: Rows that are on the map, in ascending order, int64; None: all.
        ids: File or id of each sample, shape (n_samples,); nothing where they have only their numbers.

    Returns:
        "shown", their rows in ascending order, (n,) int64; of images "thumbnails", uint8 (n, C, h, w); of documents
        "terms", text (n,); with ids also "ids", text (n,).
    """
    among = np.arange(samples.shape[0]) if among is None else among
    rows = np.sort(among[np.random.default_rng(seed).permutation(len(among))[:n_shown]]).astype(np.int64)
    drawn = {"shown": rows}
    if len(ids):
        drawn["ids"] = np.array([ids[row] for row in rows], dtype=np.str_)
    if isinstance(samples, np.ndarray) and samples.ndim == 4 and samples.shape[1] in (1, 3):
        drawn["thumbnails"] = shrink(samples[rows], THUMBNAIL_SIDE)
    if len(terms) and sparse.issparse(samples):
        drawn["terms"] = np.array(describe_rows(samples, terms, rows, SHOWN_TERMS), dtype=np.str_)
    return drawn


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Images whose larger side is at most `side`, of the same proportions; smaller ones stay as they are.

    Args:
        images: Shape (n, C, H, W), C 1 or 3; other types than uint8 stay as they are.
        side: Pixels.

    Returns:
        Shape (n, C, h, w).
    """
    height, width = images.shape[2:]
    factor = side / max(height, width)
    if factor >= 1 or images.dtype != np.uint8:
        return images
    size = (max(1, round(factor * width)), max(1, round(factor * height)))
    planes = images.reshape(-1, height, width)
    small = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in planes]
    return np.array(small, dtype=np.uint8).reshape(*images.shape[:2], size[1], size[0])


def describe_shown(
    map_: Mapping[str, np.ndarray],
    card: Mapping[str, Any],
    names: Mapping[int, str],
    cluster_names: Sequence[str] = (),
) -> dict[str, Any] | None:
    """What the script of the page needs to answer to the pointer.

    Args:
        map_: The map, with what `pick_shown` added to it.
        card: The data card, for the range of values.
        names: Class index to name.
        cluster_names: Name of each cluster, empty where they have none.

    Returns:
        "points", plain lists for JSON; "sprite", data URI of all thumbnails on a square sheet, or None; n and n_all.
        None if no sample was drawn.
    """
    rows = map_.get("shown", np.zeros(0, dtype=np.int64))
    if not len(rows):
        return None
    labels = [int(label) for label in map_["labels"][rows]]
    points: dict[str, Any] = {
        "row": rows.tolist(),
        "x": np.round(map_["coordinates"][rows, 0], 2).tolist(),
        "y": np.round(map_["coordinates"][rows, 1], 2).tolist(),
        "cluster": map_["assignments"][rows].tolist(),
        "certainty": [f"{value:.2f}" for value in map_["certainty"][rows]],
        "label": ["" if label < 0 else names.get(label, str(label)) for label in labels],
        "note": _notes(map_),
        "names": list(cluster_names),
    }
    sprite = None
    if "thumbnails" in map_:
        sheet, columns = arrange_sheet(map_["thumbnails"])
        points |= {"width": map_["thumbnails"].shape[3], "height": map_["thumbnails"].shape[2], "columns": columns}
        sprite = encode_image(sheet, value_range=card["value_range"])
    return {"points": points, "sprite": sprite, "n": len(rows), "n_all": int(is_on_map(map_).sum())}


def is_on_map(map_: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which rows have a place on the map, shape (n,), bool; all of them where they are not many."""
    return np.isfinite(map_["coordinates"]).all(axis=1)


def arrange_sheet(thumbnails: np.ndarray) -> tuple[np.ndarray, int]:
    """Thumbnails side by side, row by row.

    Args:
        thumbnails: Shape (n, C, h, w).

    Returns:
        sheet: shape (C, lines * h, columns * w); what is left over is 0.
        columns: Thumbnails in a line.
    """
    n, channels, height, width = thumbnails.shape
    columns = ceil(sqrt(n))
    lines = ceil(n / columns)
    sheet = np.zeros((lines * columns, channels, height, width), dtype=thumbnails.dtype)
    sheet[:n] = thumbnails
    grid = sheet.reshape(lines, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return grid.reshape(channels, lines * height, columns * width), columns


def id_in_words(name: str) -> str:
    """A file or an id as it is, a number so that it is not taken for that of the row."""
    return f"id {name}" if name.isdecimal() else name


def _notes(map_: Mapping[str, np.ndarray]) -> list[str]:
    """File or id and terms of the samples that are shown, a line for each; nothing where there are neither."""
    told = [list(map(id_in_words, map_["ids"]))] if "ids" in map_ else []
    told += [list(map(str, map_["terms"]))] if "terms" in map_ else []
    return ["\n".join(filter(None, texts)) for texts in zip(*told, strict=True)]
