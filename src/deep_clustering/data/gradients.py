"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005): rows of images that need no weights of anybody.

What is alike in two photographs is where which edges run, and not which pixels are bright.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from deep_clustering.data.feature_options import HOG

# Images are seen at this side, in cells of so many pixels, four of which are normalised together: 324 numbers.
_SIDE, _CELL, _BLOCK, _ORIENTATIONS = 32, 8, 2, 9
_GREY = (0.299, 0.587, 0.114)
_CHUNK = 1024


def gradient_rows(images: np.ndarray, value_range: Sequence[float]) -> np.ndarray:
    """Histograms of the directions of edges, for every image.

    Args:
        images: Shape (n, 1 or 3, height, width), of any type of numbers.
        value_range: Lowest and highest possible value.

    Returns:
        Shape (n, 324), float32, in [0, 1]; an image without an edge is a row of zeros.

    Raises:
        ValueError: if these are no images, or the range is empty.
    """
    if images.ndim != 4:
        raise ValueError(
            f"features: backbone '{HOG}' needs images of shape (n, channels, height, width), got {images.shape}; set "
            "features.backbone to null for vectors"
        )
    _check_channels(images, value_range)
    blocks = _SIDE // _CELL - _BLOCK + 1
    rows = np.empty((len(images), blocks**2 * _BLOCK**2 * _ORIENTATIONS), dtype=np.float32)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        rows[start : start + len(chunk)] = _histograms(_grey(chunk, value_range))
    return rows


def check_images(images: np.ndarray, value_range: Sequence[float]) -> None:
    """Refuse rows that are no images.

    Args:
        images: Anything.
        value_range: Lowest and highest possible value.

    Raises:
        ValueError: if they are not uint8 of shape (n, 1 or 3, height, width), or the range is empty.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        got = f"{images.dtype} {images.shape}"
        raise ValueError(
            f"features: a backbone needs uint8 images of shape (n, channels, height, width), got {got}; set "
            "features.backbone to null for vectors"
        )
    _check_channels(images, value_range)


def _check_channels(images: np.ndarray, value_range: Sequence[float]) -> None:
    if images.shape[1] not in (1, 3):
        raise ValueError(f"features: a backbone needs images of 1 or 3 channels, got {images.shape[1]}")
    low, high = value_range
    if not high > low:
        raise ValueError(f"features: a backbone needs a range of different values, got {low}..{high}")


def _grey(images: np.ndarray, value_range: Sequence[float]) -> np.ndarray:
    """Grey levels of small images, shape (n, side, side), in [0, 1]."""
    low, high = value_range
    values = (torch.from_numpy(np.ascontiguousarray(images)).float() - low) / (high - low)
    if images.shape[1] == 3:
        values = (values * torch.tensor(_GREY).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    if values.shape[-2:] != (_SIDE, _SIDE):
        values = functional.interpolate(values, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)
    return values[:, 0].numpy()


def _histograms(grey: np.ndarray) -> np.ndarray:
    """Histograms of cells, normalised in overlapping blocks, shape (n, n_values)."""
    from skimage.feature import hog

    return np.stack(
        [
            hog(
                image,
                orientations=_ORIENTATIONS,
                pixels_per_cell=(_CELL, _CELL),
                cells_per_block=(_BLOCK, _BLOCK),
                block_norm="L2-Hys",
            )
            for image in grey
        ]
    )
