"""Views: random changes of a row that keep its meaning, one independent draw for each row of a batch.

All of them work on a whole batch on the tensor's device and take their randomness from a given generator. `plain` is
the view used for prediction: the same output shape, no randomness.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.options import build_kind, check_choice, check_range
from deep_clustering.training.rows import Rows


class View(ABC):
    """A family of random views."""

    @abstractmethod
    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random view of each row."""

    @abstractmethod
    def plain(self, rows: Tensor) -> Tensor:
        """The view without randomness."""

    @abstractmethod
    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one viewed row; raises ValueError if rows of that shape have no such view."""

    @abstractmethod
    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """Two views of each row of an index batch.

        Args:
            rows: All rows.
            index: The batch, shape (n,), int64.
            neighbours: Nearest rows of every row, nearest first, (n_samples, k), int64, -1 for none; None if unknown.
            generator: Source of the draws, on the rows' device.

        Returns:
            First views, then second views in the same order, shape (2n, ...).
        """


class _OwnPartner(View):
    """Both views are of the row itself, and a row alone is enough to draw them."""

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        batch = rows[index]
        return self(torch.cat([batch, batch]), generator)


def _uniform(n: int, half_width: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from [-half_width, half_width], shape (n,)."""
    return (2 * torch.rand(n, generator=generator, device=like.device, dtype=like.dtype) - 1) * half_width


@dataclass(frozen=True, kw_only=True)
class Affine(_OwnPartner):
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
    erase: float
    """Side of a square, anywhere in the view, that becomes zero, as a share of the side; 0 erases nothing."""

    def __post_init__(self) -> None:
        check_range("size", self.size, 0)
        check_range("rotation", self.rotation, 0, 180)
        check_range("translation", self.translation, 0, 1)
        check_range("scale", self.scale, 0, 0.95)
        check_range("shear", self.shear, 0, 80)
        check_choice("padding", self.padding, ("zeros", "border", "reflection"))
        check_range("erase", self.erase, 0, 0.9)

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
        return self._erase(self._resample(rows, theta), generator)

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
        return _resample(rows, theta, self.output_shape(tuple(rows.shape[1:])), self.padding)

    def _erase(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images with a square of each set to zero; its centre is anywhere, so that it may reach over the edge."""
        if not self.erase:
            return images
        inside = torch.ones((), dtype=torch.bool, device=images.device)
        for axis in (2, 3):
            side = images.shape[axis]
            pixels = torch.arange(side, device=images.device, dtype=images.dtype) + (1 - side) / 2
            distance = (pixels - _uniform(len(images), side / 2, images, generator).unsqueeze(1)).abs()
            inside = inside & (distance < self.erase * side / 2).unsqueeze(1).unsqueeze(5 - axis)
        return images.masked_fill(inside, 0.0)


@dataclass(frozen=True, kw_only=True)
class Photo(_OwnPartner):
    """Crop, flip, colour jitter and greyscale of an image: the views of contrastive learning, for photographs."""

    size: int
    """Side of the output in pixels; 0 keeps the input's height and width."""
    crop: float
    """Smallest side of the crop, as a share of the image's; 1 takes the whole image."""
    flip: float
    """Probability of a left-right flip."""
    brightness: float
    """Largest relative change of the brightness."""
    contrast: float
    """Largest relative change of the contrast."""
    saturation: float
    """Largest relative change of the saturation; images of one channel have none."""
    hue: float
    """Largest turn of the hue, as a share of the colour circle; images of one channel have none."""
    greyscale: float
    """Probability of losing all colour."""

    def __post_init__(self) -> None:
        check_range("size", self.size, 0)
        check_range("crop", self.crop, 0.05, 1)
        check_range("hue", self.hue, 0, 0.5)
        for name in ("flip", "brightness", "contrast", "saturation", "greyscale"):
            check_range(name, getattr(self, name), 0, 1)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random view of each image.

        Args:
            rows: Images in [0, 1], shape (n, channels, height, width).
            generator: Source of the draws, on the images' device.

        Returns:
            Images in [0, 1], shape (n, channels, size, size).
        """
        n = len(rows)
        side = 1 - (1 - self.crop) * torch.rand(n, generator=generator, device=rows.device, dtype=rows.dtype)
        mirrored = torch.rand(n, generator=generator, device=rows.device) < self.flip
        theta = torch.zeros(n, 2, 3, device=rows.device, dtype=rows.dtype)
        theta[:, 0, 0] = torch.where(mirrored, -side, side)
        theta[:, 1, 1] = side
        # The crop's centre may move as far as the crop stays inside the image.
        theta[:, 0, 2] = _uniform(n, 1, rows, generator) * (1 - side)
        theta[:, 1, 2] = _uniform(n, 1, rows, generator) * (1 - side)
        images = _resample(rows, theta, self.output_shape(tuple(rows.shape[1:])), "border")
        return self._jitter(images, generator).clamp(0, 1)

    def _jitter(self, images: Tensor, generator: torch.Generator) -> Tensor:
        def factor(half_width: float) -> Tensor:
            return (1 + _uniform(len(images), half_width, images, generator)).view(-1, 1, 1, 1)

        images = images * factor(self.brightness)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * factor(self.contrast)
        if images.shape[1] != 3:
            return images
        luma, red, blue = torch.einsum("ij,njhw->inhw", _to_yiq(images), images)
        chroma = factor(self.saturation)[:, 0]
        kept = torch.rand(len(images), 1, 1, generator=generator, device=images.device) >= self.greyscale
        angle = _uniform(len(images), 2 * math.pi * self.hue, images, generator).view(-1, 1, 1)
        cos, sin = torch.cos(angle) * chroma * kept, torch.sin(angle) * chroma * kept
        turned = torch.stack([luma, cos * red - sin * blue, sin * red + cos * blue])
        return torch.einsum("ij,jnhw->nihw", torch.linalg.inv(_to_yiq(images)), turned)

    def plain(self, rows: Tensor) -> Tensor:
        """The images, only brought to the output size by the same resampling."""
        shape = self.output_shape(tuple(rows.shape[1:]))
        if rows.shape[1:] == shape:
            return rows
        theta = torch.eye(2, 3, device=rows.device, dtype=rows.dtype).expand(len(rows), 2, 3)
        return _resample(rows, theta, shape, "border")

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, size, size)."""
        if len(row_shape) != 3:
            raise ValueError(f"photo views need images of shape (channels, height, width), got rows of {row_shape}")
        return (row_shape[0], self.size, self.size) if self.size else row_shape


def _to_yiq(like: Tensor) -> Tensor:
    """Matrix from RGB to brightness and two colour axes, in which saturation scales and hue turns."""
    rows = [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
    return torch.tensor(rows, device=like.device, dtype=like.dtype)


def _resample(rows: Tensor, theta: Tensor, output_shape: tuple[int, ...], padding: str) -> Tensor:
    """Images read through affine maps of the output's [-1, 1] square into the input's, bilinearly."""
    grid = F.affine_grid(theta, [len(rows), *output_shape], align_corners=False)
    return F.grid_sample(rows, grid, mode="bilinear", padding_mode=padding, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Dropout(_OwnPartner):
    """Values of a row are lost or re-weighted at random, terms of a text for instance; the row keeps its length."""

    rate: float
    """Probability that a value becomes zero."""
    reweight: float
    """Standard deviation of the log of the factor on each value left; 0 leaves the values as they are."""

    def __post_init__(self) -> None:
        check_range("rate", self.rate, 0, 0.99)
        check_range("reweight", self.reweight, 0, 3)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random thinning of each row, same shape and Euclidean length."""
        thinned = rows * (torch.rand(rows.shape, generator=generator, device=rows.device) >= self.rate)
        if self.reweight:
            factors = torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
            thinned = thinned * torch.exp(self.reweight * factors)
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
class Noise(_OwnPartner):
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


class _NeedsNeighbours(View):
    """The views of a row depend on its neighbours in the data set; a row alone is its own plain view."""

    def plain(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The row's own shape."""
        return row_shape


@dataclass(frozen=True, kw_only=True)
class Neighbours(_NeedsNeighbours):
    """The row and one of its nearest neighbours, for features of a pretrained network; noise may be added to both."""

    noise: float
    """Standard deviation of the noise on each value, in units of the features."""

    def __post_init__(self) -> None:
        check_range("noise", self.noise, 0)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A noisy copy of each row, same shape."""
        return Noise(scale=self.noise)(rows, generator) if self.noise else rows

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """Each row and a random one of its neighbours; a row without any is its own partner."""
        table = _required(neighbours, "neighbours")[index]
        counts = (table >= 0).sum(dim=1)  # the places left over are at the end of each line of the table
        draw = torch.rand(len(index), generator=generator, device=index.device)
        chosen = table.gather(1, (draw * counts).long().unsqueeze(1)).squeeze(1)
        return self(rows[torch.cat([index, torch.where(counts > 0, chosen, index)])], generator)


@dataclass(frozen=True, kw_only=True)
class RadiusNoise(_NeedsNeighbours):
    """Gaussian noise as long as a share of the distance to the row's last neighbour: small where rows are dense."""

    scale: float
    """Length of the noise, as a share of that distance."""

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 0)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A direction for each row, of expected squared length one, same shape."""
        noise = torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        return noise / math.sqrt(rows[0].numel())

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """Two noisy copies of each row; a row without neighbours gets no noise."""
        table = _required(neighbours, "radius_noise")[index]
        last = table.gather(1, ((table >= 0).sum(dim=1, keepdim=True) - 1).clamp_min(0)).squeeze(1)
        batch = rows[index]
        radius = (rows[torch.where(last >= 0, last, index)] - batch).flatten(1).norm(dim=1)
        both = torch.cat([batch, batch])
        length = self.scale * torch.cat([radius, radius]).view(-1, *[1] * (batch.dim() - 1))
        return both + length * self(both, generator)


def _required(neighbours: Tensor | None, kind: str) -> Tensor:
    if neighbours is None or neighbours.shape[1] == 0:
        raise ValueError(f"views ({kind}): expected the neighbours of every row, got none; set neighbours.k")
    return neighbours


VIEWS: dict[str, type[View]] = {
    "affine": Affine,
    "photo": Photo,
    "dropout": Dropout,
    "noise": Noise,
    "neighbours": Neighbours,
    "radius_noise": RadiusNoise,
}


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


def neighbour_table(neighbours: np.ndarray | None, n_samples: int, device: torch.device) -> Tensor | None:
    """Neighbours as the views want them.

    Args:
        neighbours: Shape (n_samples, k), integers, -1 for none; or None.
        n_samples: Number of rows.
        device: Where the rows are.

    Returns:
        The same as int64 on the device, or None.

    Raises:
        ValueError: if there is not one line for each row, or an index points outside.
    """
    if neighbours is None or neighbours.shape[1] == 0:
        return None
    if (
        len(neighbours) != n_samples
        or neighbours.max() >= n_samples
        or (np.diff((neighbours < 0).astype(int), axis=1) < 0).any()
    ):
        raise ValueError(
            f"neighbours: expected indices below {n_samples} (-1 only at the end of a line) for so many rows, got "
            f"{neighbours.shape} with indices up to {neighbours.max()}"
        )
    return torch.tensor(neighbours, dtype=torch.int64, device=device)
