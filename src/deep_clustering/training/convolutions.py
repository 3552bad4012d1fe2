"""Convolutions whose gradients on a processor in bfloat16 are products of matrices.

The gradient of a convolution's weights sums, over all places of all images, the outer products of what flows back to a
place and of the patch that was seen there. Where a map has few places and many channels torch's kernel for it mostly
takes two to four times as long in bfloat16 as patches laid out as rows and one product; for a kernel of one pixel there
is nothing to lay out, in either gradient. docs/experiments/speed.md has the times.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

# Maps of more places, and patches of fewer channels, are left to torch.
_MOST_PLACES, _FEWEST_CHANNELS = 36, 32


class Conv2d(nn.Conv2d):
    """A convolution of square kernels without bias; what it gives and learns is that of `nn.Conv2d`."""

    def forward(self, images: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        is_learning = torch.is_grad_enabled() and self.weight.requires_grad
        if not is_learning or images.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(images)
        half = torch.get_autocast_dtype("cpu")
        return _Convolve.apply(images.to(half), self.weight.to(half), self.stride[0], int(self.padding[0]))


class _Convolve(torch.autograd.Function):
    """A convolution by torch, and gradients by products where these are faster."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:  # noqa: ANN401 - torch's
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:  # noqa: ANN401
        images, weight = ctx.saved_tensors
        n_places = gradient.shape[2] * gradient.shape[3]
        is_point = weight.shape[2] == 1 and not ctx.padding
        has_products = images.shape[1] >= _FEWEST_CHANNELS and (is_point or n_places <= _MOST_PLACES)
        of_images, of_weight = _by_torch(
            gradient, images, weight, ctx, [ctx.needs_input_grad[0] and not is_point, not has_products]
        )
        if has_products:
            of_weight = _of_weight(gradient, images, weight, ctx.stride, ctx.padding)
        if is_point and ctx.needs_input_grad[0]:
            of_images = _of_images(gradient, images, weight, ctx.stride)
        return of_images, of_weight, None, None


def _by_torch(gradient: Tensor, images: Tensor, weight: Tensor, ctx: Any, wanted: list[bool]) -> list[Any]:  # noqa: ANN401
    """Gradients of images and weight, None for those that are not wanted."""
    if not any(wanted):
        return [None, None]
    sizes = [ctx.stride] * 2, [ctx.padding] * 2, [1, 1]
    return torch.ops.aten.convolution_backward(
        gradient, images, weight, None, *sizes, False, [0, 0], 1, [*wanted, False]
    )[:2]


def _of_weight(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Sum over all places of the outer products of gradient and patch, shape (n_out, n_in, side, side)."""
    n_out, n_in, side, _ = weight.shape
    innermost = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding)).contiguous()
    of_image, of_line, of_place, of_channel = innermost.stride()
    n, _, height, width = gradient.shape
    patches = innermost.as_strided(
        (n, height, width, side, side, n_in),
        (of_image, of_line * stride, of_place * stride, of_line, of_place, of_channel),
    ).reshape(n * height * width, side * side * n_in)
    sums = gradient.permute(0, 2, 3, 1).reshape(-1, n_out).t() @ patches
    return sums.view(n_out, side, side, n_in).permute(0, 3, 1, 2)


def _of_images(gradient: Tensor, images: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of the images through a kernel of one pixel: nothing where it did not look."""
    n, n_in, height, width = images.shape
    seen = gradient.permute(0, 2, 3, 1) @ weight.flatten(1)
    of_images = images.new_zeros(n, height, width, n_in)
    of_images[:, ::stride, ::stride] = seen
    return of_images.permute(0, 3, 1, 2)
