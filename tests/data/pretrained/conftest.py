"""A network with known weights, images, options, and a count of what reaches the network."""

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision import models

from data.pretrained.small_network import with_statistics
from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.pretrained.backbone import Extractor
from deep_clustering.options import build


@pytest.fixture(scope="session")
def network():
    """A MobileNetV2 whose weights no seed of the library gives."""
    torch.manual_seed(7)
    return with_statistics(models.mobilenet_v2(weights=None))


@pytest.fixture(scope="session")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).integers(0, 256, (23, 3, 20, 24), dtype=np.uint8)


@pytest.fixture
def make_options(weights, tmp_path):
    def make(**changes):
        options = {
            "scaling": "range",
            "postprocess": "none",
            "backbone": "mobilenet_v2",
            "beside_gradients": False,
            "weights": str(weights),
            "size": 32,
            "layer": "features",
            "batch_size": 8,
            "precision": "fp32",
            "device": "cpu",
            "launcher": "local",
            "cache": str(tmp_path / "cache"),
            "learned": {},
            "encoder": None,
            "pooling": "cls",
            "max_tokens": 512,
            "lsa": 100,
            "max_terms": 20000,
            "max_df": 0.3,
            "min_df": 2,
        }
        return build(FeatureOptions, options | changes, "features")

    return make


@pytest.fixture
def forwards(monkeypatch):
    """Number of images of each batch that reached a network, without the one that tries it."""
    seen = []
    original = Extractor.forward

    def counted(self, batch):
        seen.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(Extractor, "forward", counted)
    return seen
