"""Rows of images by a small network that learns from the images themselves: weights of nobody, minutes of a processor.

What learns is a trunk (`deep_clustering.methods.trunk`) by the total coding rate of many views of each image, and a row
is the mean over crops of an image. What was tried stands in docs/experiments/own-data.md.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from deep_clustering.atomic import atomic_file
from deep_clustering.data.feature_options import LEARNED, FeatureOptions
from deep_clustering.data.learned_options import LearnedOptions
from deep_clustering.data.small_images import check_four_axes, resized_images, scaled_images
from deep_clustering.data.tensor_files import from_bytes, to_bytes
from deep_clustering.methods.trunk import trunk_options
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.draws import evenly_spaced
from deep_clustering.training.precision import resolve_precision
from deep_clustering.training.rows import resolve_device
from deep_clustering.training.scratch import room

logger = logging.getLogger(__name__)

# Images at a time.
_IMAGES = 256

_PREFIX = f"{LEARNED}/"


def learn(
    images: np.ndarray, is_fitted: np.ndarray, value_range: Sequence[float], options: FeatureOptions, identity: str
) -> tuple[dict[str, np.ndarray], str]:
    """Let a network learn from images, or read what it learned from the same ones before.

    Args:
        images: Shape (n, 1 or 3, height, width), of any type of numbers.
        is_fitted: Images that it learns from, shape (n,), boolean.
        value_range: Lowest and highest possible value.
        options: The network's, device, precision and cache; a killed training goes on from the cache.
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
    own = options.learned_options
    places = places[evenly_spaced(len(places), own.images)]
    trunk = own.trunk(len(places), str(device), precision)
    place = _place(
        [identity, [float(end) for end in value_range], own.side, trunk_options(trunk)], places, options.cache
    )
    if place is not None and (kept := _read(place)) is not None:
        logger.info("features: a network that learned from these images before is read from %s", place)
        return kept, precision
    checkpoints = Checkpoints(CheckpointOptions(every=1, resume="auto", folder=options.cache), LEARNED)
    trunk.fit(small_images(images, value_range, places, own.side), checkpoints if options.cache else None)
    arrays = {f"{_PREFIX}{name}": array for name, array in trunk.get_arrays().items()}
    if place is not None:
        with atomic_file(place) as file:
            file.write(to_bytes(arrays, {}))
    return arrays, precision


def open_learned(
    arrays: Mapping[str, np.ndarray], value_range: Sequence[float], options: LearnedOptions
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from images to what a network that `learn` gave makes of them; it is built once.

    Args:
        arrays: What `learn` gave, among others.
        value_range: Lowest and highest possible value.
        options: Those that it learned by.

    Returns:
        Images of shape (n, channels, height, width) to rows (n, n_latent), float32. It raises ValueError if they have
        another number of channels than those that were learned from.
    """
    own = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    n_channels = int(own["row_shape"][0])
    trunk = options.trunk(2, "auto", "fp32").set_arrays(own)

    def rows_of(images: np.ndarray) -> np.ndarray:
        check_four_axes(images, value_range, LEARNED)
        if images.shape[1] != n_channels:
            raise ValueError(f"features: a network learned from images of {n_channels} channels, got {images.shape[1]}")
        rows = room((len(images), trunk.n_latent), np.float32)
        for start in range(0, len(images), _IMAGES):
            part = images[start : start + _IMAGES]
            rows[start : start + len(part)] = trunk.embed(
                small_images(part, value_range, np.arange(len(part)), options.side)
            )
        return rows

    return rows_of


def small_images(images: np.ndarray, value_range: Sequence[float], places: np.ndarray, side: int) -> np.ndarray:
    """Images of some places in [0, 1], brought to a side in pixels, float32."""
    small = room((len(places), images.shape[1], side, side), np.float32)
    for start in range(0, len(places), _IMAGES):
        part = images[places[start : start + _IMAGES]]
        small[start : start + len(part)] = resized_images(scaled_images(part, value_range), side).clamp(0, 1).numpy()
    return small


def _place(what: list[Any], places: np.ndarray, cache: str) -> Path | None:
    """The file of a network that has learned just this from images of these places; None without a cache."""
    if not cache:
        return None
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode() + places.tobytes())
    return Path(cache) / f"{LEARNED}-{digest.hexdigest()[:16]}.safetensors"


def _read(place: Path) -> dict[str, np.ndarray] | None:
    """What a file holds; None if there is none, or it is damaged."""
    with suppress(OSError, ValueError, KeyError, SafetensorError):
        return from_bytes(place.read_bytes())[0]
    return None
