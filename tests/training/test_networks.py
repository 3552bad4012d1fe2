"""Network builders: shapes, sizes by formula, and saving weights as arrays."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training import networks
from deep_clustering.training.networks import (
    MLP,
    Conv,
    Fourier,
    PlainMLP,
    ResNet,
    discriminator,
    fill_up,
    load_module,
    make_encoder,
    module_arrays,
)


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("hidden", [[], [5], [7, 3]])
@pytest.mark.parametrize("row_shape", [(6,), (2, 3, 4)])
def test_mlp_maps_rows_of_any_shape(hidden, row_shape):
    module = MLP(hidden=hidden).build(row_shape, 4)
    assert module(torch.randn(8, *row_shape)).shape == (8, 4)
    widths = [prod(row_shape), *hidden]
    in_hidden = sum(before * after + 2 * after for before, after in pairwise(widths))
    assert n_parameters(module) == in_hidden + (widths[-1] + 1) * 4  # batch normalisation instead of biases


@pytest.mark.parametrize("hidden", [[], [5], [7, 3]])
def test_plain_mlp_is_linear_layers_and_relu_alone(hidden):
    """What it makes of a row does not depend on the batch, in training neither."""
    module = PlainMLP(hidden=hidden).build((2, 3), 4).train()
    kinds = [nn.Flatten, *len(hidden) * [nn.Linear, nn.ReLU], nn.Linear]
    assert [type(layer) for layer in module] == kinds
    widths = [6, *hidden, 4]
    assert n_parameters(module) == sum((before + 1) * after for before, after in pairwise(widths))
    rows = torch.randn(8, 2, 3)
    torch.testing.assert_close(module(rows)[:1], module(rows[:1]))


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_the_products_of_waves_are_a_gaussian_kernel(scale):
    torch.manual_seed(0)
    module = Fourier(waves=200_000, scale=scale).build((2, 3), 4)
    rows = torch.randn(8, 2, 3)
    seen = module[:-1](rows)
    squares = torch.cdist(rows.flatten(1), rows.flatten(1)).square()
    torch.testing.assert_close(seen @ seen.T, torch.exp(-scale * squares / (2 * 6)), atol=0.01, rtol=0)
    assert module(rows).shape == (8, 4)


def test_waves_are_saved_and_not_trained():
    module, other = (Fourier(waves=5, scale=1.0).build((3,), 2) for _ in range(2))
    assert n_parameters(module) == 2 * 5 * 2 + 2
    rows = torch.randn(4, 3)
    assert not torch.equal(module[:-1](rows), other[:-1](rows))
    load_module("encoder", other, module_arrays("encoder", module))
    torch.testing.assert_close(module(rows), other(rows), atol=0, rtol=0)


@pytest.mark.parametrize(("channels", "side"), [([4], 8), ([4, 8], 8), ([4, 8, 16], 16), ([4, 8], 7)])
def test_conv_maps_images(channels, side):
    module = Conv(channels=channels, hidden=[6]).build((2, side, side), 3)
    assert module(torch.randn(5, 2, side, side)).shape == (5, 3)
    planes = [2, *channels]
    in_convolutions = sum(9 * before * after + 2 * after for before, after in pairwise(planes))
    flat = channels[-1] * (side >> len(channels)) ** 2
    assert n_parameters(module) == in_convolutions + flat * 6 + 2 * 6 + 7 * 3


def test_conv_takes_images_that_are_not_square():
    assert Conv(channels=[4], hidden=[]).build((1, 4, 10), 2)(torch.randn(3, 1, 4, 10)).shape == (3, 2)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_conv_is_convolution_normalisation_relu_and_pooling(kind):
    module = Conv(channels=[4, 6], hidden=[]).build((2, 12, 12), 3)
    images = torch.randn(16, 2, 12, 12, generator=torch.Generator().manual_seed(0))

    def restated(rows: torch.Tensor) -> torch.Tensor:
        for place in (0, 4):
            rows = F.max_pool2d(torch.relu(module[place + 1](module[place](rows))), 2)
        return module[-1](rows.flatten(1))

    gradients = []
    for network in (module, restated):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            outputs = network(images)
        outputs.float().square().sum().backward()
        gradients.append([outputs.detach(), *(parameter.grad.clone() for parameter in module.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("is_training", [True, False])
def test_resnet_is_that_of_torchvision_with_a_small_stem(is_training):
    """The same weights in the same order give the same outputs."""
    torch.manual_seed(0)
    module = ResNet(blocks=[2, 2, 2, 2], width=64, stem_stride=1).build((3, 32, 32), 10)
    oracle = torchvision.models.resnet18(num_classes=10)
    oracle.conv1, oracle.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    wanted, ours = oracle.state_dict(), list(module.state_dict().values())
    assert len(wanted) == len(ours)
    # torchvision has the same tensors in the same order, the shortcut behind the two convolutions
    oracle.load_state_dict(dict(zip(wanted, ours, strict=True)))
    images = torch.randn(4, 3, 32, 32)
    outputs = module.train(is_training)(images)
    np.testing.assert_allclose(outputs.detach(), oracle.train(is_training)(images).detach(), atol=1e-4)


def test_a_stem_of_stride_two_halves_the_image_and_small_images_are_refused():
    stages = ResNet(blocks=[1, 1], width=4, stem_stride=2).build((3, 96, 96), 2)[:-3]
    assert stages(torch.randn(2, 3, 96, 96)).shape == (2, 8, 24, 24)
    with pytest.raises(ValueError, match="4 stages need images of at least 16 pixels, got 12 x 12"):
        ResNet(blocks=[1, 1, 1, 1], width=4, stem_stride=2).build((3, 12, 12), 2)
    with pytest.raises(ValueError, match=r"expected images .* got rows of \(6,\)"):
        ResNet(blocks=[1], width=4, stem_stride=1).build((6,), 2)
    with pytest.raises(ValueError, match=r"blocks' got \[\]: List should have at least 1 item"):
        make_encoder({"kind": "resnet", "blocks": [], "width": 4, "stem_stride": 1})


@pytest.mark.parametrize("options", [{"kind": "mlp", "hidden": [5]}, {"kind": "conv", "channels": [4], "hidden": [5]}])
def test_prediction_is_row_by_row_and_training_uses_the_batch(options):
    torch.manual_seed(0)
    module = make_encoder(options).build((1, 4, 4), 3)
    rows = torch.randn(10, 1, 4, 4)
    module(rows)
    module.eval()
    with torch.inference_mode():
        together = module(rows)
        alone = torch.cat([module(row[None]) for row in rows])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    hidden = module[:-2](rows)  # without activation and last layer
    module.train()
    in_training = module[:-2](rows)
    np.testing.assert_allclose(in_training.detach().mean(dim=0), 0, atol=1e-5)
    assert not torch.allclose(hidden, in_training)


@pytest.mark.parametrize("row_shape", [(6,), (4, 4), (1, 2, 3, 4)])
def test_conv_refuses_rows_that_are_no_images(row_shape):
    with pytest.raises(ValueError, match=r"encoder \(conv\): expected images .* use kind: mlp"):
        Conv(channels=[4], hidden=[]).build(row_shape, 2)


@pytest.mark.parametrize("row_shape", [(1, 7, 7), (1, 4, 16), (3, 16, 7)])
def test_conv_refuses_images_too_small_for_its_poolings(row_shape):
    message = f"3 poolings need images of at least 8 pixels, got {row_shape[1]} x {row_shape[2]}"
    with pytest.raises(ValueError, match=rf"encoder \(conv\): {message}"):
        Conv(channels=[4, 4, 4], hidden=[]).build(row_shape, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mlp", "hidden": [4, 0]}, "hidden must be at least 1, got 0"),
        ({"kind": "conv", "channels": [0], "hidden": []}, "channels must be at least 1, got 0"),
        ({"kind": "conv", "channels": [4], "hidden": [-1]}, "hidden must be at least 1, got -1"),
        ({"kind": "conv", "hidden": [4]}, "missing option 'channels'"),
        ({"kind": "con", "hidden": [4]}, r"unknown kind 'con' \(did you mean 'conv'\?\)"),
        ({"hidden": [4]}, "expected a mapping with 'kind'"),
    ],
)
def test_wrong_encoder_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^encoder.*{message}"):
        make_encoder(options)


@pytest.mark.parametrize("hidden", [[], [5], [5, 6]])
def test_discriminator_shape_and_size(hidden):
    module = discriminator(3, hidden, 4, 0.2)
    assert module(torch.randn(9, 3)).shape == (9, 4)
    widths = [3, *hidden, 4]
    assert n_parameters(module) == sum((before + 1) * after for before, after in pairwise(widths))


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "conv", "channels": [4, 8], "hidden": [6]},
        {"kind": "resnet", "blocks": [1], "width": 4, "stem_stride": 2},
    ],
    ids=lambda options: options["kind"],
)
def test_a_network_with_channels_filled_up_is_the_same(monkeypatch, options, n_channels):
    module = make_encoder(options).build((n_channels, 8, 8), 3)
    images = torch.rand(5, n_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for is_filled in (False, True):
        monkeypatch.setattr(networks, "_wants_channels", lambda _, is_filled=is_filled: is_filled)
        module.zero_grad()
        outputs = module(images)
        outputs.square().sum().backward()
        found.append([outputs.detach(), *(parameter.grad.clone() for parameter in module.parameters())])
    for plain, filled in zip(*found, strict=True):
        np.testing.assert_allclose(filled, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


def test_channels_of_zeros_stand_behind_the_others_and_lie_innermost():
    images = torch.rand(2, 3, 4, 5)
    filled = fill_up(images)
    assert torch.equal(filled[:, :3], images)
    assert filled.shape == (2, 8, 4, 5)
    assert not filled[:, 3:].any()
    assert filled.is_contiguous(memory_format=torch.channels_last)


def test_discriminator_judges_each_latent_alone():
    module = discriminator(3, [5], 2, 0.2)
    latent = torch.randn(7, 3)
    np.testing.assert_allclose(module(latent)[2].detach(), module(latent[2:3])[0].detach(), atol=1e-6)


def test_weights_survive_as_arrays_with_buffers():
    torch.manual_seed(1)
    options = Conv(channels=[4], hidden=[6])
    first, second = options.build((1, 4, 4), 3), options.build((1, 4, 4), 3)
    rows = torch.randn(20, 1, 4, 4)
    first(rows)  # moves the running statistics
    arrays = module_arrays("encoder", first)
    assert all(name.startswith("encoder.") for name in arrays)
    assert len(arrays) == len(first.state_dict())
    load_module("encoder", second, arrays | {"other.weight": np.zeros(3), "encoderx.weight": np.zeros(3)})
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    np.testing.assert_array_equal(first.eval()(rows).detach(), second.eval()(rows).detach())


def test_loaded_weights_are_copies():
    module = MLP(hidden=[]).build((2,), 1)
    arrays = {name: array.copy() for name, array in module_arrays("m", module).items()}
    load_module("m", module, arrays)
    before = module(torch.ones(1, 2)).item()
    for array in arrays.values():
        array[:] = 0
    assert module(torch.ones(1, 2)).item() == before


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_arrays_that_do_not_fit_are_refused(change):
    module = MLP(hidden=[4]).build((3,), 2)
    arrays = module_arrays("encoder", module)
    name = sorted(arrays)[0]
    if change == "missing":
        del arrays[name]
    elif change == "extra":
        arrays["encoder.9.weight"] = np.zeros(1, dtype=np.float32)
    else:
        arrays[name] = np.zeros((1, 2, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="encoder: the saved weights do not fit the network of the options"):
        load_module("encoder", module, arrays)
