"""A look at data that nobody has described yet: what it is, and the settings that suit it. No torch in here."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deep_clustering.data.sources import image_files
from deep_clustering.data.sources.array_files import arrange, class_labels, read_array, read_labels, to_float32
from deep_clustering.data.sources.greys import find_ranges
from deep_clustering.data.sources.loading import make_source
from deep_clustering.own_data.suggestions import (
    image_settings,
    image_shape,
    neighbour_settings,
    term_settings,
    text_settings,
    uneven_column,
    value_range_of,
    vector_settings,
)

# How much is looked at: the whole of small data, evenly spaced parts of large data.
_HEADERS = 20_000
_DECODED = 300
_VALUES = 50_000_000

# Differences of the channels of a grey image that JPEG may leave.
_GREY = 8
# Most frequent terms that a text keeps.
_TERMS = 2000


class Look(NamedTuple):
    """What was seen, and what suits it."""

    source: dict[str, Any]
    """Options of the source."""
    views: dict[str, Any]
    """Options of the views."""
    encoder: dict[str, Any]
    """Options of the encoder."""
    features: dict[str, Any]
    """Options of the features."""
    is_sparse: bool
    """Whether the rows are CSR."""
    n_samples: int
    """Rows."""
    n_classes: int | None
    """Known classes; None without labels."""
    preview: list[tuple[str, str]]
    """Lines for the user: what, and its value."""


def project_path(path: Path) -> str:
    """Relative to the project if it is inside, so that the project can be moved; else absolute."""
    resolved = path.resolve()
    inside = resolved.is_relative_to(Path.cwd())
    return (resolved.relative_to(Path.cwd()) if inside else resolved).as_posix()


def _spaced(items: Sequence[Any] | np.ndarray, n: int) -> Any:  # noqa: ANN401 - of the type of `items`
    """At most about n of the items, evenly spaced."""
    return items[:: max(1, -(-len(items) // n))]


def look_at_images(name: str, folder: Path, size: int | None, labels: str) -> Look:
    """Look at a folder of images.

    Args:
        name: Name of the data set.
        folder: The folder.
        size: Side of the images; None chooses one.
        labels: folders or none.

    Returns:
        What was seen: all names, the headers of many, the pixels of some.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there is no image that can be read.
    """
    root = folder.resolve()
    found = image_files.find_images(root, image_files.EXTENSIONS)
    headers = {file: image_files.header(root / file) for file in _spaced(found.images, _HEADERS)}
    sizes = [seen for seen in headers.values() if seen is not None]
    if not sizes:
        raise ValueError(
            f"new-data: no readable images below {root}; got {len(found.images)} files named *.png, *.jpg, ... and "
            f"{len(found.others)} others"
        )
    shape = (size, size) if size else image_shape(sizes)
    candidates = [file for file, seen in headers.items() if seen is not None]
    chosen = _spaced(candidates, _DECODED)
    images, read, damaged = image_files.read_images(
        root, chosen, shape=shape, channels=3, fit="crop", ranges=find_ranges(root, chosen)
    )
    if not read:
        raise ValueError(f"new-data: none of the images below {root} can be decoded, for instance {_first(damaged)}")
    bad = found.unreadable | {file: "not an image" for file, seen in headers.items() if seen is None} | damaged
    colours = images.astype(np.int16)
    channels = 1 if int(np.ptp(colours, axis=1).max()) <= _GREY else 3
    folders = {file.partition("/")[0] for file in candidates if "/" in file}
    hint = " (sub-folders: --labels folders would score against them)" if len(folders) > 1 and labels == "none" else ""
    preview = [
        ("images", f"{len(found.images)} files{hint}"),
        ("first", ", ".join(image_files.printable(file) for file in candidates[:3])),
        ("unreadable", f"{len(bad)} of {len(headers)} looked at" + (f", for instance {_first(bad)}" if bad else "")),
        ("other files", f"{len(found.others)}" + (f", for instance {found.others[0]}" if found.others else "")),
        ("sizes", _sizes_in_words(sizes)),
        ("samples", f"uint8, {channels} x {shape[0]} x {shape[1]}, values {images.min()} to {images.max()}"),
    ]
    views, encoder = image_settings(images / 255.0, channels)
    n_classes = len(folders) if labels == "folders" else None
    source = _image_source(name, project_path(root), shape, channels, labels)
    return Look(source, views, encoder, {"scaling": "range"}, False, len(found.images), n_classes, preview)


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


def look_at_array(name: str, file: Path, key: str | None, layout: str, labels: str | None) -> Look:
    """Look at an array of images or vectors.

    Args:
        name: Name of the data set.
        file: A `.npy` or `.npz` file.
        key: Name of the array in an archive; None takes the only one.
        layout: As in the source `arrays`.
        labels: A file, the name of an array in the same archive, or None.

    Returns:
        What was seen: all of a small array, evenly spaced rows of a large one.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the array cannot be clustered.
    """
    raw = read_array(file.resolve(), "samples", key, besides=labels)
    step = max(1, -(-raw.size // _VALUES))
    part, layout = arrange(raw[::step] if raw.ndim else raw, layout)
    if not part.size:
        raise ValueError(f"new-data: {file} is empty, got shape {raw.shape}")
    samples = part if part.dtype == np.uint8 else to_float32(part)
    low, high = float(samples.min()), float(samples.max())
    value_range = value_range_of(samples, low, high)
    source = {
        "kind": "arrays",
        "name": name,
        "samples": project_path(file),
        "labels": labels if labels is None or not Path(labels).is_file() else project_path(Path(labels)),
        "key": key,
        "layout": layout,
        "value_range": value_range,
    }
    preview = [
        ("array", f"{raw.dtype} {' x '.join(map(str, raw.shape))}, layout {layout}"),
        ("values", f"{low:g} to {high:g}" + (f" in every {step}th row" if step > 1 else "")),
        ("samples", f"{samples.dtype}, {len(raw)} rows of {' x '.join(map(str, samples.shape[1:]))}"),
    ]
    low, high = value_range or (low, high)
    scaled = (samples[: _DECODED * 10].astype(np.float32) - low) / ((high - low) or 1)
    features, views, encoder, attention = _array_settings(scaled)
    n_classes = None
    if labels is not None:
        n_classes = len(class_labels(read_labels(file.resolve(), labels), len(raw))[1])
    return Look(source, views, encoder, features, False, len(raw), n_classes, preview + attention)


def _array_settings(scaled: np.ndarray) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[tuple[str, str]]]:
    """Options of features, views and encoder, and what the user should know of them."""
    if scaled.ndim == 4:
        return {"scaling": "range"}, *image_settings(scaled, scaled.shape[1]), []
    column = uneven_column(scaled)
    if column is None:
        return {"scaling": "range"}, *vector_settings(scaled, is_standardised=False), []
    attention = ("attention", f"column {column} varies far more than the others: all will be standardised")
    features = {"scaling": "range", "postprocess": "standardise"}
    return features, *vector_settings(scaled, is_standardised=True), [attention]


def look_at_sparse(name: str, file: Path, labels: str | None) -> Look:
    """Look at a sparse matrix.

    Args:
        name: Name of the data set.
        file: A file of `scipy.sparse.save_npz`.
        labels: A `.npy` file, or None.

    Returns:
        What was seen.
    """
    source = {
        "kind": "sparse_arrays",
        "name": name,
        "samples": project_path(file),
        "labels": None if labels is None else project_path(Path(labels)),
        "vocabulary": None,
    }
    return _look_at_terms(source)


def look_at_text(name: str, file: Path, column: str, encoding: str, labels: str | None) -> Look:
    """Look at a table with a column of texts.

    Args:
        name: Name of the data set.
        file: CSV, TSV, Parquet or JSON Lines.
        column: Column of the texts.
        encoding: Of the characters.
        labels: Column of the classes, or None.

    Returns:
        What was seen.
    """
    source = {
        "kind": "text_table",
        "name": name,
        "path": project_path(file),
        "column": column,
        "labels_column": labels,
        "encoding": encoding,
        "max_terms": _TERMS,
        "on_empty": "skip",
    }
    return _look_at_terms(source)


def _look_at_terms(source: dict[str, Any]) -> Look:
    loaded = make_source(source).load()
    rows: Any = loaded.samples  # CSR
    n_samples, n_terms = rows.shape
    if not (n_samples and n_terms):
        raise ValueError(f"new-data: nothing to cluster, got {n_samples} rows of {n_terms} values")
    filled = np.diff(rows.indptr)
    preview = [
        ("source", loaded.about["source"]),
        ("samples", f"sparse float32, {n_samples} rows of {n_terms} values, {filled.mean():.1f} of them not zero"),
        ("values", f"{rows.min():g} to {rows.max():g}"),
        ("zero rows", f"{np.count_nonzero(filled == 0)}"),
    ]
    if "skipped_rows" in loaded.about:
        preview.append(("left out", f"{len(loaded.about['skipped_rows'])} rows without text"))
    if loaded.vocabulary:
        weights = np.asarray(rows.sum(axis=0)).ravel()
        words = [loaded.vocabulary[index] for index in np.argsort(-weights, kind="stable")[:8]]
        preview.append(("words", ", ".join(words)))
        preview += _lonely_texts(rows)
    names = loaded.about["class_names"]
    known = loaded.labels[loaded.labels >= 0]
    n_classes = len(names) if names else len(np.unique(known)) or None
    features = text_settings(loaded.texts)
    views, encoder = term_settings() if features is None else neighbour_settings()
    return Look(source, views, encoder, features or {"scaling": "none"}, True, n_samples, n_classes, preview)


def _lonely_texts(rows: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - CSR
    """What the user should know where most texts have no word in common with another."""
    n_texts = rows.getnnz(axis=0)
    n_lonely = rows.shape[0] - np.count_nonzero(rows[:, np.flatnonzero(n_texts > 1)].getnnz(axis=1))
    if 2 * n_lonely <= rows.shape[0]:
        return []
    advice = "words are what spaces part, which some scripts do without; a sentence encoder needs none"
    return [("attention", f"{n_lonely} of {rows.shape[0]} texts share no word with another: {advice}")]
