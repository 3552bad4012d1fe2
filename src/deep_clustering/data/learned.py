"""Rows of images by a small network that learns from the images themselves: weights of nobody, minutes of a processor.

What learns is a trunk (`deep_clustering.methods.trunk`) by the total coding rate of many views of each image, and a row
is the mean over crops of an image. What was tried stands in docs/experiments/own-data.md.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from deep_clustering.atomic import atomic_file
from deep_clustering.data.feature_options import LEARNED, FeatureOptions
from deep_clustering.data.small_images import check_four_axes, resized_images, scaled_images
from deep_clustering.data.tensor_files import from_bytes, to_bytes
from deep_clustering.methods.trunk import Trunk, make_trunk
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.draws import evenly_spaced
from deep_clustering.training.precision import resolve_precision
from deep_clustering.training.rows import resolve_device
from deep_clustering.training.scratch import room

logger = logging.getLogger(__name__)

# Images are brought to this side; views of them have fewer pixels.
_SIDE = 32
# Views that are learned from, and passes over the images at most.
_VIEWS, _MOST_EPOCHS = 400_000, 60
_TRUNK: Mapping[str, Any] = {
    "seed": 0,
    "representation": {
        "kind": "coding_rate",
        "weight": 1.0,
        "projection": [1024, 512],
        "invariance": 200.0,
        "distortion": 0.2,
    },
    "views": {
        "kind": "photo",
        "size": 24,
        "crop": 0.45,
        "flip": 0.5,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "greyscale": 0.2,
    },
    "n_views": 10,
    "encoder": {"kind": "resnet", "blocks": [1, 1, 1], "width": 32, "stem_stride": 2},
    "embedding": "parts",
    "batch_size": 64,
    "learning_rate": 1.0e-2,
    "weight_decay": 0.01,
    "compile": "off",
}
# Images at a time.
_IMAGES = 256

LEARNED_IMAGES = 40_000
"""Images that the network learns from at most, evenly spaced."""

_PREFIX = f"{LEARNED}/"


def learn(
    images: np.ndarray, is_fitted: np.ndarray, value_range: Sequence[float], options: FeatureOptions, identity: str
) -> tuple[dict[str, np.ndarray], str]:
    """Let a network learn from images, or read what it learned from the same ones before.

    Args:
        images: Shape (n, 1 or 3, height, width), of any type of numbers.
        is_fitted: Images that it learns from, shape (n,), boolean.
        value_range: Lowest and highest possible value.
        options: Device, precision and cache; a killed training goes on from the cache.
        identity: What stands for all images, such as their sha256.

    Returns:
        arrays: of the network, their names preceded by "learned/".
        precision: fp32 or bf16, in which it was trained.

    Raises:
        ValueError: if these are no images, the range is empty, or fewer than two are to learn from.
    """
    check_four_axes(images, value_range, LEARNED)
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    places = np.flatnonzero(is_fitted)
    places = places[evenly_spaced(len(places), LEARNED_IMAGES)]
    trunk = trunk_for(len(places), str(device), precision)
    place = _place(trunk, places, options, identity)
    if place is not None and (kept := _read(place)) is not None:
        logger.info("features: a network that learned from these images before is read from %s", place)
        return kept, precision
    checkpoints = Checkpoints(CheckpointOptions(every=1, resume="auto", folder=options.cache), LEARNED)
    trunk.fit(small_images(images, value_range, places), checkpoints if options.cache else None)
    arrays = {f"{_PREFIX}{name}": array for name, array in trunk.get_arrays().items()}
    if place is not None:
        with atomic_file(place) as file:
            file.write(to_bytes(arrays, {}))
    return arrays, precision


def open_learned(arrays: Mapping[str, np.ndarray], value_range: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """The function from images to what a network that `learn` gave makes of them; it is built once.

    Args:
        arrays: What `learn` gave, among others.
        value_range: Lowest and highest possible value.

    Returns:
        Images of shape (n, channels, height, width) to rows (n, n_latent), float32. It raises ValueError if they have
        another number of channels than those that were learned from.
    """
    own = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    n_channels = int(own["row_shape"][0])
    trunk = trunk_for(2, "auto", "fp32").set_arrays(own)

    def rows_of(images: np.ndarray) -> np.ndarray:
        check_four_axes(images, value_range, LEARNED)
        if images.shape[1] != n_channels:
            raise ValueError(f"features: a network learned from images of {n_channels} channels, got {images.shape[1]}")
        rows = room((len(images), trunk.n_latent), np.float32)
        for start in range(0, len(images), _IMAGES):
            part = images[start : start + _IMAGES]
            rows[start : start + len(part)] = trunk.embed(small_images(part, value_range, np.arange(len(part))))
        return rows

    return rows_of


def trunk_for(n_images: int, device: str, precision: str) -> Trunk:
    """The network that learns from so many images, untrained."""
    epochs = min(_MOST_EPOCHS, math.ceil(_VIEWS / (_TRUNK["n_views"] * max(1, n_images))))
    return make_trunk({**_TRUNK, "device": device, "precision": precision, "epochs": epochs})


def small_images(images: np.ndarray, value_range: Sequence[float], places: np.ndarray) -> np.ndarray:
    """Images of some places in [0, 1] at the side that the network sees, float32."""
    small = room((len(places), images.shape[1], _SIDE, _SIDE), np.float32)
    for start in range(0, len(places), _IMAGES):
        part = images[places[start : start + _IMAGES]]
        small[start : start + len(part)] = resized_images(scaled_images(part, value_range), _SIDE).clamp(0, 1).numpy()
    return small


def _place(trunk: Trunk, places: np.ndarray, options: FeatureOptions, identity: str) -> Path | None:
    """The file of a network that has learned just this; None without a cache."""
    if not options.cache:
        return None
    what = [identity, trunk.epochs, trunk.precision, trunk.device, dict(_TRUNK)]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode() + places.tobytes())
    return Path(options.cache) / f"{LEARNED}-{digest.hexdigest()[:16]}.safetensors"


def _read(place: Path) -> dict[str, np.ndarray] | None:
    """What a file holds; None if there is none, or it is damaged."""
    with suppress(OSError, ValueError, KeyError, SafetensorError):
        return from_bytes(place.read_bytes())[0]
    return None
