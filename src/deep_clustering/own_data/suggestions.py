"""What suits data of a kind: image size, value range, views, encoder and epochs to start from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Images of many sizes are brought to at most this side, which a CPU can train on.
_SIDE = 32
# Sides up to this one are kept if all images share them.
_KEPT_SIDE = 64

# Latent semantic analysis: what it takes, and what it gives.
_FEWEST_TEXTS, _FEWEST_TERMS, _DIRECTIONS = 200, 50, 100
_MAX_DF, _MIN_DF = 0.3, 2

# Passes over single rows that suit small networks, and the epochs that may come of them.
_PASSES = 200_000
_EPOCHS = (10, 200)
# Smaller sets get smaller batches, so that an epoch has several steps.
_BATCHES = ((1000, 64), (5000, 128), (10**12, 256))
_SNAPSHOTS = 12


def image_shape(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Size to bring images to.

    Args:
        sizes: Height and width of each image.

    Returns:
        Height and width: the images' own if small and shared; their proportions if shared and not extreme; else a
        square.
    """
    heights, widths = np.array(sizes).T
    height, width = int(np.median(heights)), int(np.median(widths))
    is_shared = len(set(sizes)) == 1
    if is_shared and max(height, width) <= _KEPT_SIDE:
        return height, width
    if is_shared:
        scale = _SIDE / min(height, width)
        if max(height, width) * scale <= 2 * _SIDE:
            return round(height * scale), round(width * scale)
    side = max(8, min(_SIDE, height, width))
    return side, side


def image_settings(images: np.ndarray, channels: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Views and encoder for images.

    Args:
        images: Some of them, in [0, 1], shape (n, channels, height, width).
        channels: 1 or 3.

    Returns:
        views: an affine family; strokes on black are shifted into black, other images are mirrored at their border.
        encoder: convolutions down to about four pixels.
    """
    height, width = images.shape[-2:]
    border = np.concatenate([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], axis=-1)
    is_on_black = float(np.median(border)) < 0.05
    side = min(height, width)
    views = {
        "kind": "affine",
        "size": 0 if side >= 16 else 16,
        "rotation": 15,
        "translation": 0.1 if channels == 1 else 0.15,
        "scale": 0.1 if channels == 1 else 0.3,
        "shear": 8 if channels == 1 else 5,
        "padding": "zeros" if is_on_black else "reflection",
    }
    widths = [16, 32, 64] if side < 48 else [16, 32, 64, 128]
    return views, {"kind": "conv", "channels": widths, "hidden": [128]}


def value_range_of(samples: np.ndarray, low: float, high: float) -> list[float] | None:
    """The range that values were surely meant to have.

    Args:
        samples: Images or vectors.
        low: Their lowest value.
        high: Their highest value.

    Returns:
        Lowest and highest possible value; None leaves it to the source.
    """
    if samples.dtype == np.uint8 and high < 128:
        return [0.0, max(high, 1.0)]  # bits, or grey levels of a small number
    if samples.dtype != np.uint8 and samples.ndim == 4 and low >= 0:
        return next(([0.0, top] for top in (1.0, 255.0) if top / 2 < high <= top), None)
    return None


def vector_settings(rows: np.ndarray, *, is_standardised: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Views and encoder for vectors.

    Args:
        rows: Some of them, scaled, shape (n, n_features).
        is_standardised: Whether the methods will get columns of deviation 1.

    Returns:
        views: dropout if most values are zero; else noise of half the typical standard deviation of a column.
        encoder: fully connected layers, wider for more columns.
    """
    hidden = [128, 128] if rows.shape[1] <= 64 else [512, 256]
    if not is_standardised and rows.min() >= 0 and np.count_nonzero(rows) < rows.size / 2:
        return {"kind": "dropout", "rate": 0.2}, {"kind": "mlp", "hidden": hidden}
    spread = 1.0 if is_standardised else float(np.sqrt(rows.var(axis=0, dtype=np.float64).mean()))
    return {"kind": "noise", "scale": float(f"{spread / 2:.2g}")}, {"kind": "mlp", "hidden": hidden}


def text_settings(texts: Sequence[str]) -> dict[str, Any] | None:
    """Features that suit texts: latent semantic analysis, centred and of length one.

    Args:
        texts: All of them.

    Returns:
        Options of the features; None for few different texts or words, whose terms are better taken as they are.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    n_distinct = len(set(texts))  # copies of a text have no direction of their own
    if n_distinct < _FEWEST_TEXTS:
        return None
    try:
        n_terms = len(CountVectorizer(max_df=_MAX_DF, min_df=_MIN_DF, binary=True).fit(texts).vocabulary_)
    except ValueError:  # no term is left
        return None
    if n_terms < _FEWEST_TERMS:
        return None
    # Half of what there may be: similar texts and words that go together leave fewer.
    directions = min(_DIRECTIONS, min(n_distinct, n_terms) // 2)
    return {"encoder": "lsa", "lsa": directions, "max_df": _MAX_DF, "min_df": _MIN_DF, "postprocess": "centre_l2"}


def neighbour_settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """Views and encoder for dense rows of length one, whose neighbours share their topic."""
    return {"kind": "neighbours"}, {"kind": "mlp", "hidden": [512]}


def term_settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """Views and encoder for rows of terms: those of the Reuters collections."""
    return {"kind": "dropout", "rate": 0.5}, {"kind": "mlp", "hidden": [512, 256]}


def start_settings(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """What DCAN begins with.

    Args:
        encoder: Options of the encoder, whose kind says what the rows are.

    Returns:
        start and restarts: the partition of k-means for vectors and terms, whose groups may be of any size; for images,
        where it would mislead, none, which several trainings make up for.
    """
    if encoder["kind"] == "mlp":
        return {"start": {"kind": "kmeans", "hold": 0.3, "n_init": 20}, "restarts": 1}
    return {"start": {"kind": "none"}, "restarts": 3}


def uneven_column(rows: np.ndarray) -> int | None:
    """The column that would decide the clusters alone.

    Args:
        rows: Shape (n, n_features).

    Returns:
        Its index; None if no column varies far more than a typical one.
    """
    spread = rows.std(axis=0)
    return int(spread.argmax()) if spread.max() > 20 * np.median(spread) else None


def schedule(n_samples: int) -> dict[str, int]:
    """Epochs, batches and snapshots: fewer epochs for more rows, so that a run takes about as long.

    Args:
        n_samples: Number of rows.

    Returns:
        The options epochs, batch_size and record_every.
    """
    low, high = _EPOCHS
    epochs = min(high, max(low, _PASSES // n_samples))
    batch_size = next(size for limit, size in _BATCHES if n_samples < limit)
    return {"epochs": epochs, "batch_size": batch_size, "record_every": max(1, epochs // _SNAPSHOTS)}
