"""What is refused before anything is extracted, and the optional networks of timm."""

import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F  # noqa: N812

from data.pretrained.small_network import extract
from deep_clustering.data.pretrained import backbone as backbone_module
from deep_clustering.data.pretrained import known


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet"}, r"^features: backbone got 'resnet' \(did you mean 'resnet\d+'\?"),
        ({"weights": "IMAGENET1K_V3"}, r"weights of mobilenet_v2 got 'IMAGENET1K_V3' \(did you mean 'IMAGENET1K_V"),
        ({"weights": "nowhere/x.pth"}, "weights: no such file: 'nowhere/x.pth'"),
        ({"weights": "nowhere/x.onnx"}, "weights: expected a file .safetensors, .pth, .pt, got 'nowhere/x.onnx'"),
        ({"size": 4}, "size must be at least 8, got 4"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"precision": "fp16"}, r"precision got 'fp16' \(did you mean 'bf16'\?\)"),
        (
            {"postprocess": "l2"},
            r"postprocess got 'l2' \(known: centre_l2, none, standardise\)|did you mean 'centre_l2'",
        ),
        ({"layr": 1}, "unknown option 'layr'"),
    ],
)
def test_wrong_options_are_refused(make_options, changes, message):
    with pytest.raises(ValueError, match=message):
        make_options(**changes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((4, 2, 8, 8), np.uint8), "needs images of 1 or 3 channels, got 2"),
        (np.zeros((4, 10), np.float32), r"needs uint8 images of shape .* got float32 \(4, 10\); set features.backbone"),
        (np.zeros((0, 3, 8, 8), np.uint8), r"got uint8 \(0, 3, 8, 8\)"),
    ],
)
def test_wrong_images_are_refused(make_options, rows, message):
    with pytest.raises(ValueError, match=message):
        extract(rows, make_options())


def test_an_unknown_layer_is_refused_with_the_nearest(images, make_options):
    with pytest.raises(
        ValueError, match=r"features: layer of mobilenet_v2 got 'feature' \(did you mean 'features'\?\)"
    ):
        extract(images, make_options(layer="feature"))
    with pytest.raises(ValueError, match=r"features: layer of mobilenet_v2 got 'avgpool' \(known: .*features"):
        extract(images, make_options(layer="avgpool"))


def test_a_size_that_the_network_cannot_take_is_refused(images, make_options, forwards):
    with pytest.raises(ValueError, match="alexnet cannot take images of size 32: it is too small"):
        extract(images, make_options(backbone="alexnet", weights="random", layer="avgpool", size=32))
    assert forwards == [1]


def test_not_a_number_is_never_stored(network, images, make_options, tmp_path):
    path = tmp_path / "broken.safetensors"
    safetensors.torch.save_file(network.state_dict() | {"features.0.0.weight": torch.full((32, 3, 3, 3), np.nan)}, path)
    with pytest.raises(ValueError, match="the network gives NaN or infinity for images 0 to 22"):
        extract(images, make_options(weights=str(path)))
    assert not list((tmp_path / "cache").glob("*/*.npy"))


class TinyTimm:
    """What the library uses of timm: a registry, and models that know their normalisation and classifier."""

    def list_models(self):
        return ["tiny_net", "other_net"]

    def create_model(self, name, pretrained):
        assert (name, pretrained) == ("tiny_net", False)
        layers = {"stem": torch.nn.Conv2d(3, 4, 3), "norm": torch.nn.Identity(), "fc": torch.nn.Flatten()}
        model = torch.nn.Sequential()
        for key, layer in layers.items():
            model.add_module(key, layer)
        model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "classifier": "fc"}
        return model


def test_timm_is_optional(make_options, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="backbone 'timm:<name>' needs the package timm: pip install timm"):
        make_options(backbone="timm:resnet18")


def test_a_network_of_timm_has_its_own_normalisation(make_options, monkeypatch, tmp_path):
    for module in (known, backbone_module):
        monkeypatch.setattr(module, "load_timm", TinyTimm)
    kernel = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file({"stem.weight": kernel, "stem.bias": torch.zeros(4)}, path)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    rows = extract(images, make_options(backbone="timm:tiny_net", layer="norm", weights=str(path)))
    pixels = (torch.from_numpy(images).float() / 255 - 0.5) / 0.25
    np.testing.assert_allclose(rows, F.conv2d(pixels, kernel).mean((2, 3)).numpy(), rtol=1e-3, atol=1e-4)
    for changes, message in {
        ("backbone", "timm:tiny_ne"): r"did you mean 'tiny_net'",
        ("weights", "DEFAULT"): "takes a file or 'random', got 'DEFAULT'",
    }.items():
        with pytest.raises(ValueError, match=message):
            make_options(**({"backbone": "timm:tiny_net"} | dict([changes])))
