"""Convolutions: outputs and gradients are those of torch, in single precision and to the rounding of bfloat16."""

import copy

import pytest
import torch
from torch import Tensor, nn

from deep_clustering.training.convolutions import Conv2d

SHAPES = [  # channels in and out, side of the images, kernel, stride, padding
    (32, 48, 6, 3, 1, 1),
    (32, 48, 9, 3, 2, 1),
    (40, 32, 3, 3, 1, 1),
    (32, 64, 12, 1, 2, 0),
    (32, 64, 7, 1, 2, 0),
    (32, 64, 5, 1, 1, 0),
    (32, 32, 12, 3, 1, 1),  # many places: by torch
    (3, 32, 6, 3, 1, 1),  # few channels: by torch
    (3, 32, 6, 1, 1, 0),
    (32, 32, 5, 3, 1, 0),
    (32, 32, 5, 1, 1, 1),
]


def passed(layer: nn.Conv2d, images: Tensor, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the images and of the weights of a loss that weighs each output."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        outputs = layer(images)
    weights = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    (outputs.float() * weights).sum().backward()
    assert images.grad is not None
    assert layer.weight.grad is not None
    return outputs.detach().float(), images.grad, layer.weight.grad


@pytest.mark.parametrize("innermost", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_those_of_torch(shape, precision, innermost):
    n_in, n_out, side, kernel, stride, padding = shape
    torch.manual_seed(0)
    layout = torch.channels_last if innermost else torch.contiguous_format
    expected = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
    layer = Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
    layer.load_state_dict(copy.deepcopy(expected.state_dict()))
    images = torch.randn(5, n_in, side, side).contiguous(memory_format=layout)
    layer = layer.to(memory_format=layout)
    found, reference = passed(layer, images, precision), passed(expected, images, "fp32")
    for one, other in zip(found, reference, strict=True):
        assert one.shape == other.shape
        error = (one - other).norm() / other.norm()
        assert error < (1e-6 if precision == "fp32" else 2e-2)


def test_images_that_need_no_gradient_get_none():
    layer = Conv2d(32, 32, 3, padding=1, bias=False)
    images = torch.randn(2, 32, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        layer(images).float().square().sum().backward()
    assert layer.weight.grad is not None
    assert images.grad is None


def test_outputs_without_gradients_are_those_of_torch_to_the_bit():
    layer = Conv2d(32, 32, 3, padding=1, bias=False)
    images = torch.randn(2, 32, 4, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(images), nn.Conv2d.forward(layer, images))
