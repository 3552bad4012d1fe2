"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005): rows of images that need no weights of anybody.

What is alike in two photographs is where which edges run, and not which pixels are bright.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from deep_clustering.data.feature_options import HOG
from deep_clustering.data.small_images import check_four_axes, resized_images, scaled_images

# Images are seen at this side, in cells of so many pixels, four of which are normalised together: 324 numbers.
_SIDE, _CELL, _BLOCK, _ORIENTATIONS = 32, 8, 2, 9
_GREY = (0.299, 0.587, 0.114)
# Values of images that are brought to that side at a time.
_VALUES = 2**25


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
    check_four_axes(images, value_range, HOG)
    blocks = _SIDE // _CELL - _BLOCK + 1
    rows = np.empty((len(images), blocks**2 * _BLOCK**2 * _ORIENTATIONS), dtype=np.float32)
    n_at_once = max(1, _VALUES // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), n_at_once):
        chunk = images[start : start + n_at_once]
        rows[start : start + len(chunk)] = _histograms(_grey(chunk, value_range))
    return rows


def _grey(images: np.ndarray, value_range: Sequence[float]) -> np.ndarray:
    """Grey levels of small images, shape (n, side, side), in [0, 1]."""
    values = scaled_images(images, value_range)
    if images.shape[1] == 3:
        values = (values * torch.tensor(_GREY).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return resized_images(values, _SIDE)[:, 0].numpy()


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
