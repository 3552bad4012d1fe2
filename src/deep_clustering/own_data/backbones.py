"""What sees somebody's photographs: a pretrained network, one that learns, or patches, and how long it takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from torchvision import models

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.gradients import gradient_rows
from deep_clustering.data.learned import small_images
from deep_clustering.data.learned_options import LearnedOptions
from deep_clustering.data.patches import LEARNED_IMAGES as PATCHED_IMAGES
from deep_clustering.data.patches import learn_patches, patch_rows
from deep_clustering.data.pretrained.backbone import make_backbone
from deep_clustering.data.pretrained.extraction import make_extractor
from deep_clustering.data.pretrained.known import TIMM, check_backbone, check_weights, is_file, load_timm
from deep_clustering.data.pretrained.weights import load_weights, locate_weights, read_weights
from deep_clustering.options import build
from deep_clustering.own_data.estimates import Watch
from deep_clustering.training.precision import resolve_precision
from deep_clustering.training.rows import resolve_device

# Layers whose output is one vector for an image, the first that a network has.
_LAYERS = ("avgpool", "global_pool", "features")
_SIZE = 224
_FOLDER = Path("data/01_raw/weights")
# Images of the batches that are timed; the first batch only warms up.
_TIMED = 8
# Images whose patches are: one for every so many that patches are learned from at most, fewer if they have more values.
_TIMED_PATCHES, _TIMED_VALUES = 200, 2**24


def backbone_features(name: str, weights: str | None) -> dict[str, Any]:
    """Options of the features for a backbone, whose weights have been tried.

    Args:
        name: A known backbone.
        weights: A file, or a name of torchvision's; None looks for `data/01_raw/weights/<name>.*`.

    Returns:
        Options: backbone, beside_gradients, weights, size, layer and postprocess.

    Raises:
        FileNotFoundError: if there are no weights, saying what to put where.
        ValueError: if the backbone is unknown, or the file does not fit it.
    """
    check_backbone(name)
    chosen = weights or _weights_here(name)
    check_weights(name, chosen)
    layer = _layer_of(name)
    if is_file(chosen):
        load_weights(make_backbone(name, layer), read_weights(Path(chosen)), f"new-data: {chosen} for {name}")
    return {
        "backbone": name,
        "beside_gradients": True,
        "weights": chosen,
        "size": _SIZE,
        "layer": layer,
        "postprocess": "centre_l2",
    }


def _layer_of(name: str) -> str:
    for layer in _LAYERS:
        try:
            make_backbone(name, layer)
        except ValueError:
            continue
        return layer
    raise ValueError(
        f"new-data: {name} has none of the layers {', '.join(_LAYERS)}; write features.backbone and features.layer "
        "into the environment by hand, as conf/cifar10_lite2 does"
    )


def _weights_here(name: str) -> str:
    """A file in the folder of weights, or those of torchvision that are here already."""
    short = name.removeprefix(TIMM)
    for suffix in (".safetensors", ".pth", ".pt"):
        if (_FOLDER / f"{short}{suffix}").is_file():
            return (_FOLDER / f"{short}{suffix}").as_posix()
    if name.startswith(TIMM):
        page = load_timm().get_pretrained_cfg(short).hf_hub_id
        raise FileNotFoundError(
            f"new-data: no weights of {name} here; download model.safetensors from https://huggingface.co/{page} and "
            f"save it as {_FOLDER / short}.safetensors, or name the file by --backbone-weights"
        )
    url = models.get_model_weights(name)["DEFAULT"].url
    file = Path(urlparse(url).path).name
    if (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file():
        return "DEFAULT"
    raise FileNotFoundError(
        f"new-data: no weights of {name} here; download {url} and save it as {_FOLDER / short}.pth, or name the file "
        "by --backbone-weights; --backbone-weights DEFAULT lets torchvision download it in the run"
    )


def try_backbone(features: Mapping[str, Any], row_shape: tuple[int, ...], base: Mapping[str, Any]) -> tuple[int, float]:
    """Let a backbone see a few random images.

    Args:
        features: What `backbone_features` gave.
        row_shape: Channels, height and width of an image.
        base: The other options of the features.

    Returns:
        Values of a row, of gradients too, and seconds for an image here.
    """
    options = build(FeatureOptions, {**base, **features}, "features")
    device = resolve_device(options.device)
    weights = locate_weights(str(options.backbone), options.weights) if is_file(options.weights) else None
    precision = resolve_precision(options.precision, device)
    extractor = make_extractor(options, [0.0, 255.0], weights, precision, device)
    images = np.random.default_rng(0).integers(0, 256, (_TIMED, *row_shape), dtype=np.uint8)
    extractor(images[:2])
    watch = Watch()
    width = extractor(images).shape[1] + gradient_rows(images, [0.0, 255.0]).shape[1]
    return width, watch.seconds / _TIMED


def try_learned(row_shape: tuple[int, ...], n_samples: int, base: Mapping[str, Any]) -> tuple[int, float]:
    """Let a small network learn from a few random images, and see these by it and by gradients.

    Args:
        row_shape: Channels, height and width of an image.
        n_samples: Number of all images.
        base: Options of the features.

    Returns:
        Values of a row, of gradients too, and seconds for all images here.
    """
    device = resolve_device(base["device"])
    options = build(LearnedOptions, base["learned"], "features: learned")
    n_images = min(n_samples, options.images)
    trunk = options.trunk(n_images, str(device), resolve_precision(base["precision"], device))
    n_epochs, trunk.epochs = trunk.epochs, 1
    images = np.random.default_rng(0).integers(0, 256, (trunk.batch_size, *row_shape), dtype=np.uint8)
    small = small_images(images, [0.0, 255.0], np.arange(len(images)), options.side)
    trunk.fit(small)  # the first steps set up what is made only once
    watch = Watch()
    trunk.fit(small)
    steps = n_epochs * -(-n_images // trunk.batch_size)
    learning = watch.seconds * steps
    watch = Watch()
    width = trunk.embed(small).shape[1] + gradient_rows(images, [0.0, 255.0]).shape[1]
    return width, learning + watch.seconds * n_samples / len(images)


def try_patches(row_shape: tuple[int, ...], n_samples: int) -> tuple[int, float]:
    """Learn the patches of a few random images, and see these by them and by gradients.

    Args:
        row_shape: Channels, height and width of an image.
        n_samples: Number of all images.

    Returns:
        Values of a row, of gradients too, and seconds for all images here.
    """
    value_range = [0.0, 255.0]
    n_images = max(_TIMED, min(_TIMED_PATCHES, n_samples, _TIMED_VALUES // int(np.prod(row_shape))))
    images = np.random.default_rng(0).integers(0, 256, (n_images, *row_shape), dtype=np.uint8)
    gradient_rows(images[:1], value_range)
    watch = Watch()
    arrays = learn_patches(images, np.ones(len(images), dtype=bool), value_range)
    learning = watch.seconds * min(n_samples, PATCHED_IMAGES) / len(images)
    watch = Watch()
    width = patch_rows(images, value_range, arrays).shape[1] + gradient_rows(images, value_range).shape[1]
    return width, learning + watch.seconds * n_samples / len(images)
