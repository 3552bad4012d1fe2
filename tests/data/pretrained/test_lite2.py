"""A real network of timm with a file of weights, through the environment that uses it; the oracle is timm alone."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from kedro.config import OmegaConfigLoader
from torch.nn import functional as F  # noqa: N812

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.pretrained.backbone import make_backbone
from deep_clustering.options import build
from deep_clustering.settings import CONFIG_LOADER_ARGS
from pipelines.small_project import ROOT, copy_project, run, versions

timm = pytest.importorskip("timm", reason="the extra timm is not installed")

NAME = "tf_efficientnet_lite2"
DATA = os.environ.get("DEEP_CLUSTERING_DATA")
WEIGHTS = Path(DATA or "") / "weights" / f"{NAME}_imagenet_features.safetensors"
needs_data = pytest.mark.skipif(DATA is None, reason="DEEP_CLUSTERING_DATA does not say where the shared weights are")


@torch.inference_mode()
def rows_by_timm(images, size):
    """Timm's own features, with the normalisation that its own configuration of the network asks for."""
    model = timm.create_model(NAME, pretrained=False, num_classes=0, checkpoint_path=str(WEIGHTS)).eval()
    about = timm.data.resolve_model_data_config(model)
    pixels = F.interpolate(torch.from_numpy(images).float() / 255, size=(size, size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(about[name]).view(3, 1, 1) for name in ("mean", "std"))
    return model((pixels - mean) / std).numpy()


def test_values_of_pixels_are_brought_to_minus_one_to_one_whatever_file_the_weights_are_from():
    backbone = make_backbone(f"timm:{NAME}", "global_pool")
    assert (tuple(backbone.mean), tuple(backbone.std)) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@needs_data
def test_the_environment_gives_the_features_of_timm(tmp_path):
    project = copy_project(tmp_path / "project")
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8).repeat(8, 2).repeat(8, 3)
    np.save(tmp_path / "images.npy", images)
    source = {"kind": "arrays", "name": "some", "samples": str(tmp_path / "images.npy"), "labels": None, "key": None}
    source |= {"layout": "nchw", "value_range": None}
    features = {"weights": str(WEIGHTS), "precision": "fp32", "device": "cpu", "cache": str(tmp_path / "cache")}
    nodes = ["data.load_samples", "data.extract_features"]
    ingestion = {"source": source, "n_rows": 0}
    run(project, "prepare", env="cifar10_lite2", nodes=nodes, ingestion=ingestion, features=features)
    (stored,) = versions(project, "features.npy")
    rows = np.load(stored)
    assert rows.shape == (6, 1280)
    expected = rows_by_timm(images, 224).astype(np.float64)
    expected -= expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-4)


@needs_data
def test_the_environment_spells_out_valid_options():
    loaded = OmegaConfigLoader(str(ROOT / "conf"), env="cifar10_lite2", **CONFIG_LOADER_ARGS)["parameters"]
    options = build(FeatureOptions, loaded["features"] | {"weights": str(WEIGHTS)}, "features")
    assert (options.backbone, options.size, options.postprocess) == (f"timm:{NAME}", 224, "centre_l2")
    assert loaded["neighbours"]["k"] == 20
    with pytest.raises(ValueError, match=r"weights: no such file: 'data/01_raw/weights/tf_efficientnet_lite2.safete"):
        build(FeatureOptions, loaded["features"], "features")
