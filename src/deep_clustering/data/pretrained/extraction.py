"""Images to rows: in batches, shard by shard, with what is already there left alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deep_clustering.data.pretrained.backbone import Extractor, make_backbone
from deep_clustering.data.pretrained.weights import file_sha256, load_weights, locate_weights, read_weights
from deep_clustering.data.shards import fill, in_order, open_shards
from deep_clustering.data.shards_on_ray import on_cluster, on_processors
from deep_clustering.data.small_images import check_images
from deep_clustering.training.precision import resolve_precision
from deep_clustering.training.rows import resolve_device

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions


def extract_rows(
    images: np.ndarray, value_range: Sequence[float], sha256: str, options: "FeatureOptions"
) -> np.ndarray:
    """Rows of all images: from the cache, or from the network and then into the cache.

    Args:
        images: Shape (n, 1 or 3, height, width), uint8.
        value_range: Lowest and highest possible value.
        sha256: That of the images.
        options: With a backbone; they have been checked.

    Returns:
        Rows, shape (n, n_features), float32; a memory map if they are many.

    Raises:
        ConnectionError: if weights cannot be downloaded.
        ValueError: if images, weights, layer or size do not fit the backbone, or there is no cluster that is to
            extract them; nothing has been extracted then.
        ChildProcessError: if workers of the cluster die again and again.
    """
    check_images(images, value_range)
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    weights = locate_weights(str(options.backbone), options.weights)
    found = file_sha256(weights)
    key = {
        "samples": sha256,
        "value_range": [float(value) for value in value_range],
        "backbone": options.backbone,
        "weights": found,
        "size": options.size,
        "layer": options.layer,
        "precision": precision,
    }
    shards = open_shards(Path(options.cache), key, len(images))
    if options.launcher == "ray":
        settled: dict[str, Any] = {"precision": precision}  # which another machine might choose otherwise
        make = partial(_open_on_cluster, replace(on_processors(options), **settled), value_range, found)
        pieces = on_cluster(make, np.asarray(images), Counter())
    else:
        build = cache(lambda: make_extractor(options, value_range, weights, precision, device))
        pieces = in_order(partial(_batches, images, options.batch_size, build))
    fill(shards, pieces, "image", ("torch", "torchvision"))
    return shards.read()


def _batches(
    images: np.ndarray, batch_size: int, build: Callable[[], Extractor], start: int, stop: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Places and rows of some images at a time; the network is built when there are any."""
    for first in range(start, stop, batch_size):
        last = min(first + batch_size, stop)
        yield slice(first - start, last - start), build()(images[first:last])


def _open_on_cluster(
    options: "FeatureOptions", value_range: Sequence[float], weights_sha256: str
) -> Callable[[np.ndarray], tuple[np.ndarray, Counter[str]]]:
    """What a worker makes of the images of a shard, in the same batches; nothing is counted."""
    extract = open_extractor(options, value_range, weights_sha256)
    return lambda images: (extract(images), Counter())


def identify(options: "FeatureOptions") -> tuple[str, str]:
    """What a backbone is here: sha256 of its weights, and the precision that it computes with.

    Args:
        options: With a backbone; they have been checked.

    Raises:
        ConnectionError: if weights cannot be downloaded.
    """
    weights = locate_weights(str(options.backbone), options.weights)
    return file_sha256(weights), resolve_precision(options.precision, resolve_device(options.device))


def open_extractor(
    options: "FeatureOptions", value_range: Sequence[float], weights_sha256: str
) -> Callable[[np.ndarray], np.ndarray]:
    """The network that made rows earlier, for new images and without a cache.

    Args:
        options: With a backbone; they have been checked.
        value_range: Values of the images that become 0 and 1.
        weights_sha256: What `identify` gave then.

    Returns:
        Images (n, 1 or 3, height, width), uint8, to rows (n, n_features), float32.

    Raises:
        ConnectionError: if weights cannot be downloaded.
        ValueError: if these are other weights, or they do not fit the backbone.
    """
    device = resolve_device(options.device)
    weights = locate_weights(str(options.backbone), options.weights)
    if (found := file_sha256(weights)) != weights_sha256:
        raise ValueError(
            f"features: weights {options.weights} of {options.backbone}: expected sha256 {weights_sha256}, got {found}"
        )
    extractor = make_extractor(options, value_range, weights, resolve_precision(options.precision, device), device)

    def extract(images: np.ndarray) -> np.ndarray:
        check_images(images, value_range)
        starts = range(0, len(images), options.batch_size)
        return np.concatenate([extractor(images[start : start + options.batch_size]) for start in starts])

    return extract


def make_extractor(
    options: "FeatureOptions",
    value_range: Sequence[float],
    weights: Path | None,
    precision: str,
    device: torch.device,
) -> Extractor:
    """Build the network, fill it, and try it.

    Args:
        options: With a backbone; they have been checked.
        value_range: Values of the images that become 0 and 1.
        weights: A file, or None for random weights.
        precision: "bf16" or "fp32".
        device: Where the network runs.

    Returns:
        The network on its device, in evaluation mode.

    Raises:
        ValueError: if weights, layer or size do not fit the backbone.
    """
    backbone = make_backbone(str(options.backbone), options.layer)
    if weights is not None:
        where = f"features: {weights} for {options.backbone}"
        load_weights(backbone, read_weights(weights), where)
    extractor = Extractor(backbone, options, value_range, precision, device).eval()
    try:
        extractor(np.zeros((1, 3, options.size, options.size), dtype=np.uint8))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"features: {options.backbone} cannot take images of size {options.size}: it is too small, or the network "
            f"has a fixed one ({reason})"
        ) from error
    return extractor
