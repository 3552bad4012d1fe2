"""Files of images of any kind to arrays of one size: what is found in a folder, and how each file is decoded."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from deep_clustering.data.sources.greys import GreyRanges, is_deep, to_bytes
from deep_clustering.data.sources.raster_formats import DAMAGED, raster_formats
from deep_clustering.options import nearest_file
from deep_clustering.redaction import one_line
from deep_clustering.training.progress import Reading, meter

Fit = Literal["crop", "pad", "stretch"]
EXTENSIONS = ("png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm")
"""Endings of names that are taken for images where nobody lists others."""

# Files that a thread takes at a time, and so many that how far they are is shown.
_FILES, _SHOWN_FILES = 64, 2000


class Found(NamedTuple):
    """What lies below a folder; paths are relative to it, with slashes, sorted."""

    images: list[str]
    """Files whose name ends like that of an image."""
    unreadable: dict[str, str]
    """Links to nothing, what is no file, and folders that may not be entered, with the reason."""
    others: list[str]
    """All other files, and hidden ones."""
    outside: list[str]
    """Those of the images that lie elsewhere, and are here by a link."""


def find_images(root: Path, extensions: Iterable[str]) -> Found:
    """Search a folder and what is below it.

    Links are followed, but not to a folder that this one lies in; a folder is entered once, however many links lead to
    it, so that loops end. Hidden folders are left out.

    Args:
        root: The folder.
        extensions: Endings of the names of images, without the dot; case does not matter.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not root.is_dir():
        if root.exists():
            raise FileNotFoundError(f"ingestion: {root} is one file; expected the folder of the images that are sorted")
        raise FileNotFoundError(f"ingestion: no folder of images at {root}{nearest_file(root)}")
    endings = {f".{extension.lower().lstrip('.')}" for extension in extensions}
    found = Found([], {}, [], [])
    real = os.path.realpath(root)
    for path, is_outside in _files_below(root, real, found.unreadable):
        file = path.relative_to(root).as_posix()
        if path.suffix.lower() not in endings or path.name.startswith("."):
            found.others.append(printable(file))
        elif os.path.isfile(path):
            found.images.append(file)
            if is_outside or (path.is_symlink() and not _is_below(os.path.realpath(path), real)):
                found.outside.append(file)
        else:
            found.unreadable[printable(file)] = "not a file" if os.path.exists(path) else "link to nothing"
    return Found(sorted(found.images), found.unreadable, sorted(found.others), sorted(found.outside))


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(os.path.join(folder, ""))


def _files_below(root: Path, real_root: str, unreadable: dict[str, str]) -> Iterator[tuple[Path, bool]]:
    """Files, and whether the folder that they are in lies outside."""
    entered: set[str] = set()
    folders: list[Path] = [root]
    links: list[Path] = []
    # Links come last: a folder that can be reached without one keeps its own path.
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        if folder != root and _is_below(real_root, real):  # as / is, with all that the machine has
            unreadable[printable(folder.relative_to(root).as_posix())] = "link to a folder that this one lies in"
            continue
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            unreadable[printable(folder.relative_to(root).as_posix())] = error.strerror or "cannot be entered"
            continue
        for path in entries:
            if not os.path.isdir(path):
                yield path, not _is_below(real, real_root)
            elif not path.name.startswith("."):
                (links if path.is_symlink() else folders).append(path)


def printable(file: str) -> str:
    """A path that can be printed on one line, whatever its name has."""
    return one_line(os.fsencode(file).decode("utf-8", "backslashreplace"))


def read_images(
    root: Path,
    files: Sequence[str],
    *,
    shape: tuple[int, int],
    channels: int,
    fit: str,
    ranges: GreyRanges | None = None,
) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Decode files to one array.

    Args:
        root: Folder of the files.
        files: Paths relative to it.
        shape: Height and width of every image.
        channels: 1 or 3.
        fit: One of `Fit`.
        ranges: Of grey levels of more than 8 bits, see `find_ranges`; None takes all that their types are for.

    Returns:
        images: those that could be decoded, in order, shape (n, channels, height, width), uint8.
        read: their files.
        unreadable: the other files, with the reason.
    """
    images = np.empty((len(files), channels, *shape), dtype=np.uint8)
    unreadable: dict[str, str] = {}

    def read_some(places: range) -> list[tuple[int, str]]:
        return decode_into(images, places, root, files, fit, ranges)

    raster_formats()  # what it loads is loaded once
    parts = [range(start, min(start + _FILES, len(files))) for start in range(0, len(files), _FILES)]
    # Decoding lets go of Python's lock; warnings are of the whole process, so that threads may not set them.
    with bombs_are_errors(), ThreadPoolExecutor(cores()) as pool, _progress(len(files)) as count:
        for part, failed in zip(parts, pool.map(read_some, parts), strict=True):
            unreadable |= {files[place]: reason for place, reason in failed}
            count(len(part))
    kept = [place for place, file in enumerate(files) if file not in unreadable]
    if unreadable:
        for place, source in enumerate(kept):
            images[place] = images[source]
    reasons = {printable(file): reason for file, reason in unreadable.items()}
    return images[: len(kept)], [files[place] for place in kept], reasons


def decode_into(
    images: np.ndarray, places: range, root: Path, files: Sequence[str], fit: str, ranges: GreyRanges | None
) -> list[tuple[int, str]]:
    """Decode some files into their places; warnings are the caller's.

    Args:
        images: Room for all files, shape (n, channels, height, width), uint8.
        places: Of the files that are decoded.
        root: Folder of the files.
        files: Paths of all relative to it.
        fit: One of `Fit`.
        ranges: See `read_images`.

    Returns:
        Places of those that cannot be decoded, with the reason.
    """
    failed = []
    _, channels, height, width = images.shape
    for place in places:
        try:
            images[place] = decode(
                root / files[place], shape=(height, width), channels=channels, fit=fit, ranges=ranges
            )
        except ValueError as error:
            failed.append((place, str(error)))
    return failed


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _progress(n_files: int) -> Iterator[Callable[[int], object]]:
    """Show how far many files are; few are read before anybody asks."""
    if n_files < _SHOWN_FILES:
        yield lambda _: None
        return

    def text(reading: Reading) -> str:
        return f"{reading.done} of {reading.total} files, {reading.speed:.0f} files/s, {reading.left:.0f} s left"

    with meter("images", "file", n_files, text) as count:
        yield count


@contextmanager
def bombs_are_errors() -> Iterator[None]:
    """Refuse images of more pixels than are safe, and say nothing else of files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(
    path: Path, *, shape: tuple[int, int], channels: int, fit: str, ranges: GreyRanges | None = None
) -> np.ndarray:
    """One image of a given size, of shape (channels, height, width), uint8; warnings are the caller's.

    The first frame, turned as its EXIF orientation says; what is transparent shows white.

    Raises:
        ValueError: with the reason, if the file cannot be read as an image.
    """
    try:
        with Image.open(path, formats=raster_formats()) as image:
            image.draft(None, (2 * max(shape), 2 * max(shape)))
            ImageOps.exif_transpose(image, in_place=True)  # of most images that would be a copy
            plain, mode = _without_depth(image, ranges or {}), "L" if channels == 1 else "RGB"
            resized = _resize(plain if plain.mode == mode else plain.convert(mode), shape, fit)
            pixels = np.frombuffer(resized.tobytes(), dtype=np.uint8).reshape(*shape, channels)
    except (*DAMAGED, MemoryError) as error:
        raise ValueError(_reason(path, error)) from error
    return pixels.transpose(2, 0, 1)


def header(path: Path) -> tuple[int, int] | None:
    """Height and width that a file says it has, without decoding it; None if it is no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=raster_formats()) as image:
                return image.height, image.width
    except DAMAGED:
        return None


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "empty file" if path.stat().st_size == 0 else "not an image, or of a kind that is not read"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than the {Image.MAX_IMAGE_PIXELS:,} pixels that are taken for safe"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return f"damaged: {text}"


def _without_depth(image: Image.Image, ranges: GreyRanges) -> Image.Image:
    """An image of 8 bits per channel without transparency, grey or in colour."""
    if is_deep(image):
        return Image.fromarray(to_bytes(np.asarray(image), ranges))
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return image


def _resize(image: Image.Image, shape: tuple[int, int], fit: str) -> Image.Image:
    size = (shape[1], shape[0])
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color="black")
    return image.resize(size, Image.Resampling.BILINEAR)
