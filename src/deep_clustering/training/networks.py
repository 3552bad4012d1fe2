"""Network builders that the methods share."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.options import build_kind
from deep_clustering.training.convolutions import Conv2d

# Fewer input channels than these keep a convolution on CUDA from the kernels for matrix units.
_FEWEST_CHANNELS = 8


class Encoder(Protocol):
    """Options of an encoder that can build it."""

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The network from rows of one shape to `n_outputs` values."""


@dataclass(frozen=True, kw_only=True)
class MLP:
    """Fully connected layers with batch normalisation and ReLU, then a linear layer."""

    hidden: list[Annotated[int, Ge(1)]]
    """Width of each hidden layer."""

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The network; rows of any shape are flattened first."""
        return _fully_connected(self.hidden, row_shape, n_outputs, is_normalised=True)


@dataclass(frozen=True, kw_only=True)
class PlainMLP:
    """Fully connected layers with ReLU, then a linear layer, without normalisation, as in the autoencoder of DEC."""

    hidden: list[Annotated[int, Ge(1)]]
    """Width of each hidden layer."""

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The network; rows of any shape are flattened first."""
        return _fully_connected(self.hidden, row_shape, n_outputs, is_normalised=False)


def _fully_connected(
    hidden: list[int], row_shape: tuple[int, ...], n_outputs: int, *, is_normalised: bool
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(row_shape)
    for n_units in hidden:
        layers.append(nn.Linear(width, n_units, bias=not is_normalised))
        if is_normalised:
            layers.append(nn.BatchNorm1d(n_units))
        layers.append(nn.ReLU(inplace=True))
        width = n_units
    return nn.Sequential(*layers, nn.Linear(width, n_outputs))


@dataclass(frozen=True, kw_only=True)
class Fourier:
    """Random waves of a row, then a linear layer: linear in them is what a Gaussian kernel tells of rows.

    Rahimi and Recht, "Random features for large-scale kernel machines", NIPS 2007: for w ~ N(0, s / d I), rows of d
    values and m waves the mean of cos(w^T (x - y)) is the kernel exp(-s |x - y|^2 / (2 d)), and it is the product of
    (cos w_1^T x, .., cos w_m^T x, sin w_1^T x, .., sin w_m^T x) / sqrt(m), a row of length one, with the same of y.
    """

    waves: Annotated[int, Ge(1)]
    """m, how many; each gives a cosine and a sine. They are drawn once and not trained."""
    scale: Annotated[float, Ge(1e-6), Le(1e6)]
    """s, for rows whose values have deviations of about one: near is a squared distance below 1 / s of the mean one."""

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The network; rows of any shape are flattened first."""
        waves = _Waves(prod(row_shape), self.waves, self.scale)
        return nn.Sequential(nn.Flatten(), waves, nn.Linear(2 * self.waves, n_outputs))


class _Waves(nn.Module):
    """Cosines and sines of random directions, rows of length one."""

    frequencies: Tensor

    def __init__(self, width: int, n_waves: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(n_waves, width) * (scale / width) ** 0.5)

    def forward(self, rows: Tensor) -> Tensor:
        angles = F.linear(rows, self.frequencies)
        return torch.cat([angles.cos(), angles.sin()], dim=1) / len(self.frequencies) ** 0.5


class FilledConv2d(nn.Conv2d):
    """A convolution of few channels; on CUDA zeros fill them up to eight, which its kernels for matrix units need."""

    def forward(self, images: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        if self.in_channels >= _FEWEST_CHANNELS or not _wants_channels(images):
            return super().forward(images)
        return F.conv2d(fill_up(images), fill_up(self.weight), self.bias, self.stride, self.padding)


def _wants_channels(images: Tensor) -> bool:
    return images.is_cuda


def fill_up(tensor: Tensor) -> Tensor:
    """Channels of zeros behind those of a tensor, (n, 8, height, width), the channels innermost in memory."""
    innermost = tensor.permute(0, 2, 3, 1)
    return F.pad(innermost, (0, _FEWEST_CHANNELS - tensor.shape[1])).permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Conv:
    """3x3 convolutions with batch normalisation, ReLU and 2x2 pooling, then an MLP."""

    channels: list[Annotated[int, Ge(1)]]
    """Channels of each convolution; each halves height and width."""
    hidden: list[Annotated[int, Ge(1)]]
    """Width of each fully connected layer behind them."""

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The network for images of shape (channels, height, width)."""
        if len(row_shape) != 3:
            raise ValueError(
                f"encoder (conv): expected images of shape (channels, height, width), got rows of {row_shape}; "
                "use kind: mlp"
            )
        n_channels, height, width = row_shape
        if min(height, width) >> len(self.channels) < 1:
            raise ValueError(
                f"encoder (conv): {len(self.channels)} poolings need images of at least {2 ** len(self.channels)} "
                f"pixels, got {height} x {width}; use fewer channels or a larger views.size"
            )
        layers: list[nn.Module] = []
        for n_out in self.channels:
            convolution = FilledConv2d(n_channels, n_out, 3, padding=1, bias=False)
            # ReLU in front of the pooling would give the same from four times the values.
            layers += [convolution, nn.BatchNorm2d(n_out), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
            n_channels, height, width = n_out, height // 2, width // 2
        head = MLP(hidden=self.hidden).build((n_channels, height, width), n_outputs)
        # CPU pooling and CUDA tensor cores both want the channels innermost.
        return nn.Sequential(*layers, *head).to(memory_format=torch.channels_last)


class _Residual(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to their input."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        is_same = stride == 1 and n_in == n_out
        self.shortcut = (
            nn.Identity()
            if is_same
            else nn.Sequential(Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.body(images) + self.shortcut(images))


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """Residual network for images of 32 to 96 pixels: a 3x3 stem, stages of residual blocks, mean over the image.

    He et al., "Deep residual learning for image recognition", arXiv 1512.03385; two blocks in each of four stages of
    width 64 make ResNet-18.
    """

    blocks: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]
    """Residual blocks in each stage; each stage behind the first halves height and width and doubles the channels."""
    width: Annotated[int, Ge(1)]
    """Channels of the first stage."""
    stem_stride: Annotated[int, Ge(1), Le(2)]
    """1, or 2 to halve height and width at once, for images of more than 48 pixels."""

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The network for images of shape (channels, height, width)."""
        if len(row_shape) != 3:
            raise ValueError(
                f"encoder (resnet): expected images of shape (channels, height, width), got rows of {row_shape}; "
                "use kind: mlp"
            )
        n_channels, height, width = row_shape
        factor = self.stem_stride * 2 ** (len(self.blocks) - 1)
        if min(height, width) < factor:
            raise ValueError(
                f"encoder (resnet): {len(self.blocks)} stages need images of at least {factor} pixels, got "
                f"{height} x {width}; use fewer stages or a larger views.size"
            )
        layers: list[nn.Module] = [
            FilledConv2d(n_channels, self.width, 3, self.stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(self.width),
            nn.ReLU(inplace=True),
        ]
        n_in = self.width
        for stage, n_blocks in enumerate(self.blocks):
            n_out = self.width * 2**stage
            for block in range(n_blocks):
                layers.append(_Residual(n_in, n_out, stride=2 if stage and not block else 1))
                n_in = n_out
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_outputs)]
        return nn.Sequential(*layers, *head).to(memory_format=torch.channels_last)


ENCODERS: dict[str, type[Encoder]] = {
    "conv": Conv,
    "fourier": Fourier,
    "mlp": MLP,
    "plain_mlp": PlainMLP,
    "resnet": ResNet,
}


def make_encoder(options: Mapping[str, Any]) -> Encoder:
    """Make the options of an encoder.

    Args:
        options: `kind` (a key of `ENCODERS`) and the options of that kind.

    Returns:
        The options, which can build the network for rows of a given shape.

    Raises:
        ValueError: if the kind or an option is unknown, missing or out of range.
    """
    return build_kind(ENCODERS, options, "encoder")


def discriminator(latent_dim: int, hidden: list[int], n_outputs: int, leaky_slope: float) -> nn.Sequential:
    """Fully connected layers with LeakyReLU and one logit per output.

    Args:
        latent_dim: Size of the latent.
        hidden: Width of each hidden layer.
        n_outputs: Number of logits: one per cluster, or one.
        leaky_slope: Slope of the LeakyReLU below zero.

    Returns:
        The network from (n, latent_dim) to (n, n_outputs).
    """
    layers: list[nn.Module] = []
    width = latent_dim
    for n_units in hidden:
        layers += [nn.Linear(width, n_units), nn.LeakyReLU(leaky_slope, inplace=True)]
        width = n_units
    return nn.Sequential(*layers, nn.Linear(width, n_outputs))


def module_arrays(prefix: str, module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers of a module as arrays.

    Args:
        prefix: Put before each name, with a dot.
        module: The module, on any device.

    Returns:
        Name to array.
    """
    return {f"{prefix}.{name}": value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Fill a module with what `module_arrays` gave.

    Args:
        prefix: As given there.
        module: A module of the same architecture.
        arrays: Name to array; others may be among them.

    Raises:
        ValueError: if an array is missing or has another shape.
    """
    start = f"{prefix}."
    state = {
        name.removeprefix(start): torch.from_numpy(np.array(array))
        for name, array in arrays.items()
        if name.startswith(start)
    }
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{prefix}: the saved weights do not fit the network of the options: {error}") from error
