"""Views of images: affine motions of drawings, and crops and colours of photographs."""

import math
from abc import abstractmethod
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training.rows import Rows
from deep_clustering.training.views.base import OwnView

# From RGB to brightness and two colour axes, in which saturation scales and hue turns.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, kw_only=True)
class _ImageView(OwnView):
    """Images that an affine map of the plane reads anew, at a size of its own."""

    size: Annotated[int, Ge(0)]
    """Side of the output in pixels; 0 keeps the input's height and width."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def outside(self) -> str:
        """What lies outside of an image, in the words of `grid_sample`."""

    def plain(self, rows: Tensor) -> Tensor:
        """The images, only brought to the output size by the same resampling."""
        if rows.shape[1:] == self.output_shape(tuple(rows.shape[1:])):
            return rows
        return self._resample(rows, torch.eye(2, 3, device=rows.device, dtype=rows.dtype).expand(len(rows), 2, 3))

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, size, size)."""
        if len(row_shape) != 3:
            raise ValueError(
                f"{self.kind} views need images of shape (channels, height, width), got rows of {row_shape}; vectors "
                "take views of kind neighbours, dropout or noise"
            )
        return (row_shape[0], self.size, self.size) if self.size else row_shape

    def _resample(self, rows: Tensor, theta: Tensor) -> Tensor:
        """Images read through affine maps of the output's [-1, 1] square into the input's, bilinearly."""
        shape = self.output_shape(tuple(rows.shape[1:]))
        grid = F.affine_grid(theta, [len(rows), *shape], align_corners=False)
        return F.grid_sample(rows, grid, mode="bilinear", padding_mode=self.outside, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Affine(_ImageView):
    """Rotation, shift, zoom and shear of an image, drawn uniformly, in one bilinear resampling."""

    rotation: Annotated[float, Ge(0), Le(180)]
    """Largest angle, in degrees."""
    translation: Annotated[float, Ge(0), Le(1)]
    """Largest shift along each axis, as a share of the side."""
    scale: Annotated[float, Ge(0), Le(0.95)]
    """Largest relative zoom: .1 draws factors from .9 to 1.1."""
    shear: Annotated[float, Ge(0), Le(80)]
    """Largest shear angle, in degrees."""
    padding: Literal["zeros", "reflection"]
    """What lies outside of the image: zeros, which suits strokes on black, or the image mirrored at its border."""

    kind = "affine"

    @property
    def outside(self) -> str:
        """What the option says."""
        return self.padding

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


@dataclass(frozen=True, kw_only=True)
class Photo(_ImageView):
    """Crop, flip, colour jitter and greyscale of an image: the views of contrastive learning, for photographs."""

    crop: Annotated[float, Ge(0.05), Le(1)]
    """Smallest side of the crop, as a share of the image's; 1 takes the whole image."""
    flip: Annotated[float, Ge(0), Le(1)]
    """Probability of a left-right flip."""
    brightness: Annotated[float, Ge(0), Le(1)]
    """Largest relative change of the brightness."""
    contrast: Annotated[float, Ge(0), Le(1)]
    """Largest relative change of the contrast."""
    saturation: Annotated[float, Ge(0), Le(1)]
    """Largest relative change of the saturation; images of one channel have none."""
    hue: Annotated[float, Ge(0), Le(0.5)]
    """Largest turn of the hue, as a share of the colour circle; images of one channel have none."""
    greyscale: Annotated[float, Ge(0), Le(1)]
    """Probability of losing all colour."""

    kind = "photo"
    largest = 1.0  # side of the crop, as a share of the image's

    @property
    def outside(self) -> str:
        """The values of the border go on."""
        return "border"

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random view of each image.

        Args:
            rows: Images in [0, 1], shape (n, channels, height, width).
            generator: Source of the draws, on the images' device.

        Returns:
            Images in [0, 1], shape (n, channels, size, size).
        """
        n = len(rows)
        side = self.largest - (self.largest - self.crop) * torch.rand(
            n, generator=generator, device=rows.device, dtype=rows.dtype
        )
        mirrored = torch.rand(n, generator=generator, device=rows.device) < self.flip
        theta = torch.zeros(n, 2, 3, device=rows.device, dtype=rows.dtype)
        theta[:, 0, 0] = torch.where(mirrored, -side, side)
        theta[:, 1, 1] = side
        # The crop's centre may move as far as the crop stays inside the image.
        theta[:, 0, 2] = _uniform(n, 1, rows, generator) * (1 - side)
        theta[:, 1, 2] = _uniform(n, 1, rows, generator) * (1 - side)
        return self._jitter(self._resample(rows, theta), generator).clamp(0, 1)

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Nine crops on a grid, of the mean side of the random ones; see `View.parts`."""
        side = (self.largest + self.crop) / 2
        places = [-(1 - side), 0.0, 1 - side]
        theta = [[[side, 0.0, x], [0.0, side, y]] for y in places for x in places]
        maps = torch.tensor(theta, device=rows.device, dtype=rows.dtype)
        return [self._resample(rows, one.expand(len(rows), 2, 3)) for one in maps]

    def _jitter(self, images: Tensor, generator: torch.Generator) -> Tensor:
        def factor(half_width: float) -> Tensor:
            return (1 + _uniform(len(images), half_width, images, generator)).view(-1, 1, 1, 1)

        images = images * factor(self.brightness)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * factor(self.contrast)
        if images.shape[1] != 3:
            return images
        to_yiq, to_rgb = _colour_axes(images.device, images.dtype)
        luma, red, blue = torch.einsum("ij,njhw->inhw", to_yiq, images)
        chroma = factor(self.saturation)[:, 0]
        kept = torch.rand(len(images), 1, 1, generator=generator, device=images.device) >= self.greyscale
        angle = _uniform(len(images), 2 * math.pi * self.hue, images, generator).view(-1, 1, 1)
        cos, sin = torch.cos(angle) * chroma * kept, torch.sin(angle) * chroma * kept
        turned = torch.stack([luma, cos * red - sin * blue, sin * red + cos * blue])
        return torch.einsum("ij,jnhw->nihw", to_rgb, turned)


@dataclass(frozen=True, kw_only=True)
class _SmallCrops(Photo):
    """Crops below a size."""

    largest: float
    """Side of the crop, as a share of the image's."""


@dataclass(frozen=True, kw_only=True)
class PhotoCrops(Photo):
    """Photographs as in kind photo, and beside two such views further ones of small parts, in few pixels.

    Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", arXiv 2006.09882,
    section 3.2 (multi-crop): more views of an image for little more time.
    """

    small_views: Annotated[int, Ge(1)]
    """Further views of each image."""
    small_size: Annotated[int, Ge(4)]
    """Side of them in pixels."""
    small_crop: Annotated[float, Ge(0.05), Le(1)]
    """Smallest side of their crop, as a share of the image's; the largest is `crop`."""

    kind = "photo_crops"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.small_crop > self.crop:
            raise ValueError(f"small_crop must be at most crop = {self.crop}, got {self.small_crop}")

    @property
    def n_small(self) -> int:
        """The option."""
        return self.small_views

    def small(self, rows: Rows, index: Tensor, generator: torch.Generator) -> Tensor:
        """Views of small parts of each image; see `View.small`."""
        shared = {field.name: getattr(self, field.name) for field in fields(Photo)}
        crops = _SmallCrops(**shared | {"size": self.small_size, "crop": self.small_crop, "largest": self.crop})
        return crops(rows[index.repeat(self.small_views)], generator)


@cache
@torch.inference_mode(mode=False)  # kept for all calls, also for those that need gradients
def _colour_axes(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Matrix from RGB to the colour axes and its inverse, copied to a device once: each copy waits for it."""
    to_yiq, to_rgb = (torch.from_numpy(matrix) for matrix in (_TO_YIQ, np.linalg.inv(_TO_YIQ)))
    return to_yiq.to(device, dtype), to_rgb.to(device, dtype)


def _uniform(n: int, half_width: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from [-half_width, half_width], shape (n,)."""
    return (2 * torch.rand(n, generator=generator, device=like.device, dtype=like.dtype) - 1) * half_width
