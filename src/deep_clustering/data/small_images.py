"""Images as rows are made of them: what is refused, values in [0, 1], and a common size."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional


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


def check_four_axes(images: np.ndarray, value_range: Sequence[float], backbone: str) -> None:
    """As `check_images`, for a backbone that takes any type of numbers.

    Args:
        images: Anything.
        value_range: Lowest and highest possible value.
        backbone: What needs images.

    Raises:
        ValueError: if they are not of shape (n, 1 or 3, height, width), or the range is empty.
    """
    if images.ndim != 4:
        raise ValueError(
            f"features: backbone '{backbone}' needs images of shape (n, channels, height, width), got {images.shape}; "
            "set features.backbone to null for vectors"
        )
    _check_channels(images, value_range)


def scaled_images(images: np.ndarray, value_range: Sequence[float]) -> torch.Tensor:
    """The same images, float32, the range of their values brought to [0, 1]."""
    low, high = value_range
    return (torch.from_numpy(np.ascontiguousarray(images)).float() - low) / (high - low)


def resized_images(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images of shape (n, channels, height, width) as squares of a side in pixels."""
    if images.shape[-2:] == (side, side):
        return images
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _check_channels(images: np.ndarray, value_range: Sequence[float]) -> None:
    if images.shape[1] not in (1, 3):
        raise ValueError(f"features: a backbone needs images of 1 or 3 channels, got {images.shape[1]}")
    low, high = value_range
    if not high > low:
        raise ValueError(f"features: a backbone needs a range of different values, got {low}..{high}")
