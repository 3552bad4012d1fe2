"""Weights: which files are taken, and that none is ever unpickled."""

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision import models

from data.pretrained.small_network import extract, plain_forward
from deep_clustering.data.pretrained.weights import file_sha256, locate_weights, read_weights


def test_a_pytorch_file_gives_the_same_rows_under_its_own_key(network, images, make_options, tmp_path):
    path = tmp_path / "network.pth"
    torch.save(network.state_dict(), path)
    first, second = extract(images[:4], make_options()), extract(images[:4], make_options(weights=str(path)))
    np.testing.assert_array_equal(first, second)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_file_without_classifier_does_for_a_layer_before_it(network, images, make_options, tmp_path):
    path = tmp_path / "headless.safetensors"
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("classifier")}
    safetensors.torch.save_file(state, path)
    rows = extract(images[:4], make_options(weights=str(path)))
    np.testing.assert_allclose(rows, plain_forward(network, images[:4]), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"Missing: 2 \(classifier.1.weight, classifier.1.bias\)"):
        extract(images[:4], make_options(weights=str(path), layer="classifier"))


def test_files_without_batch_counters_do(network, images, make_options, tmp_path):
    path = tmp_path / "old.safetensors"
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    safetensors.torch.save_file(state, path)
    rows = extract(images[:4], make_options(weights=str(path)))
    np.testing.assert_array_equal(rows, extract(images[:4], make_options()))


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickled_object_is_refused_and_not_run(writer, make_options, images, tmp_path):
    path, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
    if writer == "torch":
        torch.save({"features.0.0.weight": Trap(sprung)}, path)
    else:
        path.write_bytes(pickle.dumps({"features.0.0.weight": Trap(sprung)}, protocol=2))
    with pytest.raises(
        ValueError, match=r"trap\.pth: expected named tensors, got a file that is damaged or holds other"
    ):
        extract(images, make_options(weights=str(path)))
    assert not sprung.exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth", "empty.pth", "empty.safetensors"])
def test_damaged_files_are_refused(name, weights, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    whole = weights if name.endswith("safetensors") else tmp_path / "whole.pth"
    content = b"" if name.startswith("empty") else whole.read_bytes()[:5000]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: expected named tensors, got a file that is damaged"):
        read_weights(path)


@pytest.mark.parametrize(("content", "got"), [({"model": {"a": 1}, "epoch": 3}, "model, epoch"), ([1], "list")])
def test_files_that_are_no_state_dict_are_refused(content, got, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=f"expected a state dict \\(name to tensor\\), got .*{got}"):
        read_weights(tmp_path / "x.pth")


def test_weights_of_another_network_are_refused(images, make_options, weights, forwards):
    with pytest.raises(ValueError, match="do not belong together") as caught:
        extract(images, make_options(backbone="resnet18", layer="avgpool"))
    message = str(caught.value)
    assert message.startswith(f"features: {weights} for resnet18: ")
    # ResNet-18 has 20 convolutions and 20 normalisations of 4 arrays each in front of its classifier, counters aside
    assert "Missing: 100 (conv1.weight, bn1.weight, bn1.bias, ...)" in message
    # MobileNetV2 has 52 convolutions, 52 normalisations of 5 arrays, and a linear layer
    assert "Unexpected: 314 (classifier.1.bias, classifier.1.weight, features.0.0.weight, ...)" in message
    assert not forwards


def test_weights_of_another_width_are_refused(images, make_options, tmp_path):
    path = tmp_path / "narrow.safetensors"
    safetensors.torch.save_file(models.mobilenet_v2(weights=None, width_mult=0.5).state_dict(), path)
    with pytest.raises(ValueError, match=r"Of another shape: \d+ \(features.0.0.weight: got \(16, 3, 3, 3\), expected"):
        extract(images, make_options(weights=str(path)))


def test_a_classifier_for_other_classes_does_no_harm(network, images, make_options, tmp_path):
    path = tmp_path / "ten.safetensors"
    state = network.state_dict() | {"classifier.1.weight": torch.zeros(10, 1280), "classifier.1.bias": torch.zeros(10)}
    safetensors.torch.save_file(state, path)
    rows = extract(images[:2], make_options(weights=str(path)))
    np.testing.assert_array_equal(rows, extract(images[:2], make_options()))


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, example B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_named_weights_are_taken_from_the_folder_of_torch_or_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(url, path, hash_prefix, progress):
        assert (url.rpartition("/")[2], hash_prefix) == ("mobilenet_v2-7ebf99e0.pth", "7ebf99e0")
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(
        ConnectionError, match=r"IMAGENET1K_V2 of mobilenet_v2: cannot download https://.*no route.*PATH"
    ):
        locate_weights("mobilenet_v2", "IMAGENET1K_V2")
    present = tmp_path / "hub" / "checkpoints" / "mobilenet_v2-7ebf99e0.pth"
    present.touch()
    assert locate_weights("mobilenet_v2", "IMAGENET1K_V2") == present
    assert locate_weights("mobilenet_v2", "DEFAULT") == present  # torchvision documents DEFAULT as the newest
