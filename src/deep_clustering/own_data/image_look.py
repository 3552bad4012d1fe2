"""A look at a folder of images: all names, the headers of many, the pixels of some. No torch in here."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deep_clustering.data.places import absolute
from deep_clustering.data.sources import image_files
from deep_clustering.data.sources.greys import find_ranges
from deep_clustering.own_data.request import Request
from deep_clustering.own_data.seen import Look, project_path, spaced
from deep_clustering.own_data.suggestions import (
    Settings,
    backbone_shape,
    drawing_settings,
    feature_settings,
    image_settings,
    image_shape,
)

# Files whose headers and pixels are looked at, evenly spaced among many.
_HEADERS, _DECODED = 20_000, 300
# Differences of the channels of a grey image that JPEG may leave.
_GREY = 8


def look_at_images(request: Request, folder: Path) -> Look:
    """All names, the headers of many, the pixels of some."""
    root = absolute(folder)
    found = image_files.find_images(root, image_files.EXTENSIONS)
    headers = {file: image_files.header(root / file) for file in spaced(found.images, _HEADERS)}
    sizes = [seen for seen in headers.values() if seen is not None]
    if not sizes:
        raise ValueError(
            f"new-data: no readable images below {root}; got {len(found.images)} files named *.png, *.jpg, ... and "
            f"{len(found.others)} others"
        )
    n_samples, size = len(found.images), request.size
    suitable = image_shape(sizes) if request.backbone is None else backbone_shape(sizes, n_samples)
    shape = (size, size) if size else suitable
    candidates = [file for file, seen in headers.items() if seen is not None]
    chosen = spaced(candidates, _DECODED)
    images, read, damaged = image_files.read_images(
        root, chosen, shape=shape, channels=3, fit="crop", ranges=find_ranges(root, chosen)
    )
    if not read:
        raise ValueError(f"new-data: none of the images below {root} can be decoded, for instance {_first(damaged)}")
    bad = found.unreadable | {file: "not an image" for file, seen in headers.items() if seen is None} | damaged
    n_blank = int((images.min(axis=(2, 3)) == images.max(axis=(2, 3))).all(axis=1).sum())
    n_different = len(np.unique(images.reshape(len(images), -1), axis=0))
    if len(images) > 1 and n_different == 1:
        raise ValueError(
            f"new-data: all {len(images)} images looked at below {root} are alike; expected images that differ"
        )
    colours = images.astype(np.int16)
    channels = 1 if int(np.ptp(colours, axis=1).max()) <= _GREY else 3
    refuse_blank(request, images[:, :channels])
    labels = request.labels or "none"
    folders = {file.partition("/")[0] for file in candidates if "/" in file}
    if labels == "folders" and not folders:
        raise ValueError(f"new-data: --labels folders needs a sub-folder for each class, got none below {root}")
    hint = " (sub-folders: --labels folders would score against them)" if len(folders) > 1 and labels == "none" else ""
    outside = image_files.printable(found.outside[0]) if found.outside else ""
    preview = [
        ("images", f"{n_samples} files{hint}"),
        ("first", ", ".join(image_files.printable(file) for file in candidates[:3])),
        ("unreadable", f"{len(bad)} of {len(headers)} looked at" + (f", for instance {_first(bad)}" if bad else "")),
        *([("elsewhere", f"{len(found.outside)} by links, for instance {outside}")] if found.outside else []),
        ("other files", f"{len(found.others)}" + (f", for instance {found.others[0]}" if found.others else "")),
        ("sizes", _sizes_in_words(sizes)),
        ("samples", f"uint8, {channels} x {shape[0]} x {shape[1]}, values {images.min()} to {images.max()}"),
        *(
            [("attention", f"{n_blank} of {len(images)} images looked at show one colour and nothing else")]
            * (n_blank > 0)
        ),
    ]
    return Look(
        source=_image_source(request.name, project_path(root), shape, channels, labels),
        suggest=_image_suggestion(request, n_samples, (channels, *shape)),
        n_samples=n_samples,
        row_shape=(channels, *shape),
        density=None,
        n_classes=len(folders) if labels == "folders" else None,
        preview=preview,
        n_different=n_different,
        is_whole=len(images) == n_samples,
    )


def refuse_blank(request: Request, images: np.ndarray) -> None:
    """Refuse grey images, shape (n, 1, height, width), in which what would be made of them finds no edges at all."""
    is_seen_by_edges = images.shape[1] == 1 and not request.drawings and request.backbone is None
    if is_seen_by_edges and (images.min(axis=(2, 3)) == images.max(axis=(2, 3))).all():
        raise ValueError(
            f"new-data: all {len(images)} images looked at show one grey and nothing else; --drawings takes images by "
            "their pixels"
        )


def _image_suggestion(request: Request, n_samples: int, shape: tuple[int, int, int]) -> Callable[[int], Settings]:
    channels, *sides = shape
    if request.drawings:
        return lambda n_clusters: drawing_settings((sides[0], sides[1]), n_samples, n_clusters)
    if request.backbone is None:
        return lambda n_clusters: image_settings(channels, n_samples, n_clusters)
    from deep_clustering.own_data.backbones import backbone_features  # imports torch

    features = backbone_features(request.backbone, request.backbone_weights)
    made = f"the {features['layer']} of {request.backbone} by {features['weights']}"
    why = [("rows", f"{made}, beside histograms of gradients if the two say more together; centred, of length one")]
    return lambda n_clusters: feature_settings(features, n_samples, n_clusters, why)


def _image_source(name: str, path: str, shape: tuple[int, int], channels: int, labels: str) -> dict[str, Any]:
    return {
        "kind": "image_folder",
        "name": name,
        "path": path,
        "size": list(shape),
        "channels": channels,
        "fit": "crop",
        "labels": labels,
        "on_error": "skip",
        "extensions": list(image_files.EXTENSIONS),
        "cache": f"data/03_primary/{name}/cache",
    }


def _sizes_in_words(sizes: list[tuple[int, int]]) -> str:
    (height, width), count = Counter(sizes).most_common(1)[0]
    if count == len(sizes):
        return f"all {width} x {height} (width x height)"
    (low_height, low_width), (high_height, high_width) = np.min(sizes, axis=0), np.max(sizes, axis=0)
    return f"widths {low_width} to {high_width}, heights {low_height} to {high_height}, most often {width} x {height}"


def _first(bad: dict[str, str]) -> str:
    file = min(bad)
    return f"{file} ({bad[file]})"
