"""What the features are: torchvision's own numbers, whatever the batches, the precision and the channels."""

import numpy as np
import safetensors.torch
import torch
from torchvision import models

from data.pretrained.small_network import extract, plain_forward, with_statistics
from deep_clustering.data.pretrained import backbone as backbone_module
from deep_clustering.data.pretrained.precision import protect_from_rounding
from deep_clustering.training.precision import resolve_precision


def test_rows_are_what_torchvision_gives(network, images, make_options):
    rows = extract(images, make_options())
    assert rows.shape == (23, 1280)
    assert rows.dtype == np.float32
    expected = plain_forward(network, images)
    assert expected.std(axis=0).mean() > 0.1  # the rows differ from image to image
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-4)


def test_a_layer_with_pooling_of_its_own_and_one_in_the_middle(tmp_path, images, make_options):
    torch.manual_seed(3)
    resnet = with_statistics(models.resnet18(weights=None))
    path = tmp_path / "resnet.pth"
    torch.save(resnet.state_dict(), path)
    stem = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2")
    for layer, layers in {"avgpool": (*stem, "layer3", "layer4", "avgpool"), "layer2": stem}.items():
        rows = extract(images[:5], make_options(backbone="resnet18", layer=layer, weights=str(path)))
        expected = plain_forward(resnet, images[:5], layers=layers)
        np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-4)


def test_grey_is_repeated_and_the_value_range_counts(network, make_options):
    grey = np.random.default_rng(1).integers(0, 17, (5, 1, 8, 8), dtype=np.uint8)
    rows = extract(grey, make_options(), value_range=[0.0, 16.0])
    expected = plain_forward(network, grey.repeat(3, axis=1), value_range=[0.0, 16.0])
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-4)


def test_rows_do_not_depend_on_the_batches(images, make_options, tmp_path):
    first = extract(images, make_options(batch_size=23))
    second = extract(images, make_options(batch_size=5, cache=str(tmp_path / "other")))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)


def test_half_precision_is_near_full_precision(images, make_options):
    # at an early layer: a deep random network magnifies whatever differs
    half, full = (extract(images, make_options(precision=p, layer="features.3")) for p in ("bf16", "fp32"))
    difference = np.linalg.norm(half - full) / np.linalg.norm(full)
    assert 0 < difference < 0.05


def test_a_channel_that_rounding_would_drown_keeps_full_precision(images, network, make_options, tmp_path, monkeypatch):
    """A constant far larger than what varies is added in front of a normalisation and taken away by it."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    # Features 1 get one channel that is nearly constant; a convolution behind them adds it to all of its own.
    state["features.1.conv.2.bias"][0] = 1000.0
    kernel = state["features.2.conv.0.0.weight"]
    state["features.2.conv.0.1.running_mean"] += 1000.0 * kernel[:, 0, 0, 0]
    path = tmp_path / "fragile.safetensors"
    safetensors.torch.save_file(state, path)

    def difference(folder):
        options = {"weights": str(path), "layer": "features.3", "cache": str(tmp_path / folder)}
        half, full = (extract(images, make_options(precision=precision, **options)) for precision in ("bf16", "fp32"))
        return np.linalg.norm(half - full) / np.linalg.norm(full)

    assert difference("protected") < 0.05
    monkeypatch.setattr(backbone_module, "protect_from_rounding", lambda body: None)
    assert difference("unprotected") > 0.2


def test_a_sound_network_is_left_alone(network):
    before = [type(module) for module in network.modules()]
    protect_from_rounding(network)
    assert [type(module) for module in network.modules()] == before


def test_precision_of_a_device():
    able = torch.cpu.get_capabilities()
    expected = "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    assert [resolve_precision(name, torch.device("cpu")) for name in ("bf16", "fp32")] == ["bf16", "fp32"]


def test_random_weights_are_the_same_every_time(images, make_options, tmp_path):
    rows = [extract(images[:3], make_options(weights="random", cache=str(tmp_path / name))) for name in "ab"]
    np.testing.assert_array_equal(*rows)
    assert rows[0].std() > 0


def test_the_state_of_the_random_generator_is_untouched(images, make_options):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    extract(images[:2], make_options(weights="random"))
    torch.testing.assert_close(torch.rand(3), expected)
