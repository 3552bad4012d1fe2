"""Grey levels of more than 8 bits to bytes, by one factor for all files of a folder."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from deep_clustering.data.sources.raster_formats import DAMAGED, raster_formats

GreyRanges: TypeAlias = Mapping[str, Sequence[float]]
"""Lowest and highest value that becomes 0 and 255, of "integers" and of "fractions", whose units differ."""

NOMINAL: GreyRanges = {"integers": (0.0, 65535.0), "fractions": (0.0, 1.0)}
"""What is taken of files that nobody has looked at."""

# Files that cannot have such levels are not opened for it.
_ALWAYS_BYTES = (".jpg", ".jpeg", ".gif", ".bmp", ".webp")
# What a PNG file begins with, up to its bits and its kind of colour: 16 bits, and grey without transparency.
_PNG_BYTES, _PNG_DEEP = 26, (16, 0)
# Values that are kept of all files together, evenly spaced, and of one at least.
_KEPT, _KEPT_OF_FILE = 4_000_000, 16
# Few pixels may lie outside of the range, if the others would otherwise share less than this part of it.
_OUTSIDE, _LEAST_PART = 0.0005, 1 / 8


def is_deep(image: Image.Image) -> bool:
    """Whether an image has grey levels of 16 or 32 bits, or fractions."""
    return image.mode.startswith("I") or image.mode == "F"


def find_ranges(root: Path, files: Sequence[str]) -> dict[str, list[float]]:
    """The range of grey levels over all files that have more than 8 bits.

    Args:
        root: Folder of the files.
        files: Paths relative to it; those that cannot be read are passed over.

    Returns:
        Lowest and highest value of the kinds that occur, see `GreyRanges`. A few pixels far away from all others, as a
        camera's dead ones, do not count.
    """
    seen: dict[str, list[np.ndarray]] = {}
    n_kept = max(_KEPT_OF_FILE, _KEPT // max(1, len(files)))
    for file in files:
        if Path(file).suffix.lower() in _ALWAYS_BYTES:
            continue
        values = _deep_values(root / file)
        if values is None or not np.isfinite(values).all():
            continue
        spaced = values.ravel()[:: max(1, -(-values.size // n_kept))]
        ends = np.array([values.min(), values.max()])
        seen.setdefault(_kind(values), []).append(np.concatenate([ends, spaced]).astype(np.float64))
    return {kind: _range_of(parts, NOMINAL[kind]) for kind, parts in sorted(seen.items())}


def to_bytes(values: np.ndarray, ranges: GreyRanges) -> np.ndarray:
    """Grey levels as bytes.

    Args:
        values: Integers or floats, any shape.
        ranges: What becomes 0 and 255; `NOMINAL` is taken of a kind that is not in it. Values outside are clipped.

    Returns:
        The same shape, uint8.

    Raises:
        ValueError: if a value is NaN or infinite, or outside of the nominal range where no other is known.
    """
    kind = _kind(values)
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        raise ValueError("grey values are not finite")
    low, high = ranges.get(kind, NOMINAL[kind])
    if kind not in ranges and not (low <= lowest and highest <= high):
        raise ValueError(f"grey values from {lowest:g} to {highest:g}, expected {low:g} to {high:g}")
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _kind(values: np.ndarray) -> str:
    return "fractions" if values.dtype.kind == "f" else "integers"


def _deep_values(path: Path) -> np.ndarray | None:
    """The pixels of a file with more than 8 bits; None of any other."""
    if _is_plain_png(path):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=raster_formats()) as image:
                return np.asarray(image) if is_deep(image) else None
    except (*DAMAGED, MemoryError):
        return None  # who decodes it says why


def _is_plain_png(path: Path) -> bool:
    """Whether a file begins as a PNG without grey levels of 16 bits does: Pillow takes longer to tell."""
    try:
        with path.open("rb") as file:
            first = file.read(_PNG_BYTES)
    except OSError:
        return False
    is_png = len(first) == _PNG_BYTES and first.startswith(b"\x89PNG\r\n\x1a\n") and first[12:16] == b"IHDR"
    return is_png and tuple(first[24:]) != _PNG_DEEP


def _range_of(parts: Sequence[np.ndarray], nominal: Sequence[float]) -> list[float]:
    """Lowest and highest of what the files have shown; each part begins with those of its file."""
    low, high = min(part[0] for part in parts), max(part[1] for part in parts)
    if low == high:  # nothing to spread
        is_inside = nominal[0] <= low <= nominal[1]
        return [float(nominal[0]), float(nominal[1])] if is_inside else [float(low), float(low) + 1]
    inner = np.quantile(np.concatenate([part[2:] for part in parts]), [_OUTSIDE, 1 - _OUTSIDE])
    if 0 < inner[1] - inner[0] < _LEAST_PART * (high - low):
        low, high = inner
    return [float(low), float(high)]
