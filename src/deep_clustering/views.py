"""Views: random changes of a row that keep its meaning, one independent draw for each row of a batch.

All of them work on a whole batch on the tensor's device and take their randomness from a given generator. `plain` is
the view used for prediction: the same output shape, no randomness.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.options import build_kind, check_choice, check_range


class View(Protocol):
    """A family of random views."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random view of each row."""

    def plain(self, rows: Tensor) -> Tensor:
        """The view without randomness."""

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one viewed row; raises ValueError if rows of that shape have no such view."""


def _uniform(n: int, half_width: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from [-half_width, half_width], shape (n,)."""
    return (2 * torch.rand(n, generator=generator, device=like.device, dtype=like.dtype) - 1) * half_width


@dataclass(frozen=True, kw_only=True)
class Affine:
    """Rotation, shift, zoom and shear of an image, drawn uniformly, in one bilinear resampling."""

    size: int
    """Side of the output in pixels; 0 keeps the input's height and width."""
    rotation: float
    """Largest angle, in degrees."""
    translation: float
    """Largest shift along each axis, as a share of the side."""
    scale: float
    """Largest relative zoom: .1 draws factors from .9 to 1.1."""
    shear: float
    """Largest shear angle, in degrees."""
    padding: str
    """What lies outside the image: zeros, border or reflection."""

    def __post_init__(self) -> None:
        check_range("size", self.size, 0)
        check_range("rotation", self.rotation, 0, 180)
        check_range("translation", self.translation, 0, 1)
        check_range("scale", self.scale, 0, 0.95)
        check_range("shear", self.shear, 0, 80)
        check_choice("padding", self.padding, ("zeros", "border", "reflection"))

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random affine view of each image.

        Args:
            rows: Images, shape (n, channels, height, width).
            generator: Source of the draws, on the images' device.

        Returns:
            Images, shape (n, channels, size, size).
        """
        n = len(rows)
        angle = _uniform(n, math.radians(self.rotation), rows, generator)
        shear = torch.tan(_uniform(n, math.radians(self.shear), rows, generator))
        zoom = 1 + _uniform(n, self.scale, rows, generator)
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        height, width = rows.shape[-2:]
        # In pixels: rotation by `angle`, then x += shear * y; the aspect factor turns pixels into [-1, 1] units.
        aspect = height / width
        theta = torch.zeros(n, 2, 3, device=rows.device, dtype=rows.dtype)
        theta[:, 0, 0] = cos
        theta[:, 0, 1] = (shear * cos - sin) * aspect
        theta[:, 1, 0] = sin / aspect
        theta[:, 1, 1] = shear * sin + cos
        theta[:, 0, 2] = _uniform(n, 2 * self.translation, rows, generator)
        theta[:, 1, 2] = _uniform(n, 2 * self.translation, rows, generator)
        return self._resample(rows, theta)

    def plain(self, rows: Tensor) -> Tensor:
        """The images, only brought to the output size by the same resampling."""
        if rows.shape[1:] == self.output_shape(tuple(rows.shape[1:])):
            return rows
        theta = torch.eye(2, 3, device=rows.device, dtype=rows.dtype).expand(len(rows), 2, 3)
        return self._resample(rows, theta)

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, size, size)."""
        if len(row_shape) != 3:
            raise ValueError(f"affine views need images of shape (channels, height, width), got rows of {row_shape}")
        return (row_shape[0], self.size, self.size) if self.size else row_shape

    def _resample(self, rows: Tensor, theta: Tensor) -> Tensor:
        shape = (len(rows), *self.output_shape(tuple(rows.shape[1:])))
        grid = F.affine_grid(theta, list(shape), align_corners=False)
        return F.grid_sample(rows, grid, mode="bilinear", padding_mode=self.padding, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Each value of a row is set to zero with a given probability; the row keeps its Euclidean length."""

    rate: float
    """Probability of zero."""

    def __post_init__(self) -> None:
        check_range("rate", self.rate, 0, 0.99)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random thinning of each row, same shape."""
        keep = torch.rand(rows.shape, generator=generator, device=rows.device) >= self.rate
        thinned = rows * keep
        norm = rows.flatten(1).norm(dim=1)
        factor = norm / thinned.flatten(1).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
        # A row that lost everything stays zero.
        return thinned * factor.nan_to_num(posinf=0.0).view(-1, *[1] * (rows.dim() - 1))

    def plain(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The row's own shape."""
        return row_shape


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise on each value of a row."""

    scale: float
    """Standard deviation, in units of the features."""

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 0)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A noisy copy of each row, same shape."""
        noise = torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        return rows + self.scale * noise

    def plain(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The row's own shape."""
        return row_shape


VIEWS: dict[str, type[View]] = {"affine": Affine, "dropout": Dropout, "noise": Noise}


def make_view(options: Mapping[str, Any]) -> View:
    """Make a family of views from its options.

    Args:
        options: `kind` (a key of `VIEWS`) and the options of that kind.

    Returns:
        The views.

    Raises:
        ValueError: if the kind or an option is unknown, missing or out of range.
    """
    return build_kind(VIEWS, options, "views")
