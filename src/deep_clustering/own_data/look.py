"""A look at data that nobody has described yet: what it is, and the settings that suit it. No torch in here."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deep_clustering.checks import count_distinct
from deep_clustering.data.places import absolute
from deep_clustering.data.sources import image_files
from deep_clustering.data.sources.array_files import (
    arrange,
    class_labels,
    is_sparse_file,
    read_array,
    read_labels,
    to_float32,
)
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.greys import find_ranges
from deep_clustering.data.sources.loading import make_source
from deep_clustering.data.sources.number_tables import NumberTable, besides_of, read_number_table
from deep_clustering.data.sources.row_weights import as_weights, check_number
from deep_clustering.data.sources.samples import Samples
from deep_clustering.data.sources.table_columns import AUTO
from deep_clustering.data.sources.tables import SUFFIXES as TABLES
from deep_clustering.own_data.request import Request
from deep_clustering.own_data.suggestions import (
    Settings,
    are_counts,
    backbone_shape,
    drawing_settings,
    feature_settings,
    image_settings,
    image_shape,
    sparse_features,
    term_settings,
    text_features,
    text_settings,
    value_range_of,
    vector_settings,
)
from deep_clustering.own_data.table_preview import columns_in_words
from deep_clustering.own_data.text_preview import Preview, heaviest_words, lonely_texts, readings
from deep_clustering.own_data.values import look_at_sparse_values, look_at_values

# How much is looked at in detail: the whole of small data, evenly spaced parts of large data.
_HEADERS = 20_000
_DECODED = 300
_ROWS = 3000
_VALUES = 50_000_000

# Differences of the channels of a grey image that JPEG may leave.
_GREY = 8
# Different sparse rows that are counted, as many as clusters are guessed at most.
_GUESSED = 10
# Most frequent terms that a text keeps.
_TERMS = 2000


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen, and what suits it."""

    source: dict[str, Any]
    """Options of the source."""
    suggest: Callable[[int], Settings]
    """Settings for a number of clusters."""
    n_samples: int
    """Rows."""
    row_shape: tuple[int, ...]
    """Shape of a sample as the source gives it."""
    density: float | None
    """Share of values that are not zero in sparse rows; None for dense ones."""
    n_classes: int | None
    """Known classes; None without labels."""
    preview: Preview
    """Lines for the user: what, and its value."""
    texts: Sequence[str] = ()
    """The texts, for trying an encoder on some."""
    rows: np.ndarray | None = None
    """Rows of vectors as they come, for trying heads on; None of all other data."""
    n_different: int = _ROWS
    """Rows that differ from one another among those looked at in detail; where that is not known, more than a guess of
    the number of clusters."""
    is_whole: bool = False
    """Whether these are all rows."""


def look(request: Request) -> Look:
    """Look at the data that a request names.

    Args:
        request: What the user asks for.

    Returns:
        What was seen.

    Raises:
        FileNotFoundError: if the data is missing.
        ValueError: if it cannot be clustered, or is a pipe, socket or device.
    """
    if request.images is not None:
        _refuse_weights(request)
        _refuse_ids(request)
        return _look_at_images(request, request.images)
    if request.text is not None:
        return _look_at_text(request, request.text)
    assert request.array is not None
    if request.array.exists() and not (request.array.is_file() or request.array.is_dir()):
        raise ValueError(f"new-data: {request.array}: expected a file, got a pipe, socket or device")
    if request.array.is_dir():
        raise ValueError(
            f"new-data: {request.array} is a folder; --array takes one file, an array or a table, and --images a "
            "folder of images"
        )
    if is_sparse_file(request.array):
        _refuse_weights(request)
        _refuse_ids(request)
        return _look_at_sparse(request, request.array)
    return _look_at_array(request, request.array)


def _refuse_weights(request: Request) -> None:
    if request.weights is not None:
        raise ValueError("new-data: --weights belongs to --text and to a dense --array")


def _refuse_ids(request: Request) -> None:
    if request.id_column is not None:
        raise ValueError("new-data: --id-column belongs to --text and to a table of --array")


def project_path(path: Path) -> str:
    """Relative to the project if it is inside, so that the project can be moved; else absolute."""
    resolved = absolute(path)
    inside = resolved.is_relative_to(Path.cwd())
    return (resolved.relative_to(Path.cwd()) if inside else resolved).as_posix()


def _spaced(items: Sequence[Any] | np.ndarray, n: int) -> Any:  # noqa: ANN401 - of the type of `items`
    """At most about n of the items, evenly spaced."""
    return items[:: max(1, -(-len(items) // n))]


def _look_at_images(request: Request, folder: Path) -> Look:
    """All names, the headers of many, the pixels of some."""
    root = absolute(folder)
    found = image_files.find_images(root, image_files.EXTENSIONS)
    headers = {file: image_files.header(root / file) for file in _spaced(found.images, _HEADERS)}
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
    chosen = _spaced(candidates, _DECODED)
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
    _refuse_blank(request, images[:, :channels])
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


def _refuse_blank(request: Request, images: np.ndarray) -> None:
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


def _look_at_array(request: Request, file: Path) -> Look:
    """The range of all values in one pass, and the rest from evenly spaced rows."""
    raw, table = _read_array_or_table(request, absolute(file))
    whole, layout = arrange(raw, request.layout)
    if not whole.size:
        raise ValueError(f"new-data: {file} is empty, got shape {raw.shape}")
    values = look_at_values(whole)
    if len(whole) > 1 and values.low == values.high:
        raise ValueError(f"new-data: all values of {file} are {values.low:g}; expected rows that differ")
    part = whole[:: max(1, -(-whole.size // _VALUES))]
    samples = part if part.dtype == np.uint8 else to_float32(part)
    low, high = values.usual
    value_range = value_range_of(samples, low, high)
    if value_range is None and values.n_wild:
        value_range = [low, high]  # what lies outside keeps its value, and the other rows keep their differences
    preview = [
        ("array", f"{raw.dtype} {' x '.join(map(str, raw.shape))}, layout {layout}"),
        *([] if table is None else columns_in_words(table)),
        ("values", f"{values.low:g} to {values.high:g}"),
        ("samples", f"{samples.dtype}, {len(raw)} rows of {' x '.join(map(str, samples.shape[1:]))}"),
        *values.attention(),
    ]
    some = _spaced(samples, _ROWS).astype(np.float32)
    n_different = len(np.unique(some.reshape(len(some), -1), axis=0))
    if n_different == 1 < len(some) == len(raw):
        raise ValueError(f"new-data: all {len(raw)} rows of {file} are alike; expected rows that differ")
    if request.drawings and some.ndim != 4:
        raise ValueError(f"new-data: --drawings needs images, got rows of shape {some.shape[1:]} in {file}")

    if some.ndim == 4:
        _refuse_blank(request, some)

    def suggest(n_clusters: int) -> Settings:
        if request.drawings:
            return drawing_settings(some.shape[2:], len(raw), n_clusters)
        if some.ndim == 4:
            return image_settings(some.shape[1], len(raw), n_clusters)
        return vector_settings(some, values.deviations, len(raw), n_clusters)

    n_classes = None
    if request.labels is not None:
        n_classes = len(class_labels(read_labels(absolute(file), request.labels), len(raw))[1])
    if request.weights is not None:
        check_number(as_weights(read_labels(absolute(file), request.weights, "weights"), request.weights), len(raw))
    return Look(
        source=_array_source(request, file, layout, value_range)
        | ({} if table is None else {"id_column": table.id_column}),
        suggest=suggest,
        n_different=n_different,
        is_whole=len(some) == len(raw),
        n_samples=len(raw),
        row_shape=tuple(samples.shape[1:]),
        density=None,
        n_classes=n_classes,
        preview=preview,
        rows=samples if samples.ndim == 2 else None,
    )


def _array_source(request: Request, file: Path, layout: str, value_range: list[float] | None) -> dict[str, Any]:
    def place(name: str | None) -> str | None:
        return name if name is None or not Path(name).is_file() else project_path(Path(name))

    source = {
        "kind": "arrays",
        "name": request.name,
        "samples": project_path(file),
        "labels": place(request.labels),
        "key": request.key,
        "layout": layout,
        "value_range": value_range,
    }
    return source if request.weights is None else {**source, "weights": place(request.weights)}


def _read_array_or_table(request: Request, file: Path) -> tuple[np.ndarray, NumberTable | None]:
    """The array as it is stored, and the table that it is of, if it is of one."""
    if plain_suffix(file) in TABLES and file.is_file():
        besides = besides_of(request.labels, request.weights)
        table = read_number_table(file, request.key, besides, request.id_column or AUTO)
        return table.rows, table
    _refuse_ids(request)
    return read_array(file, "samples", request.key, besides=request.labels), None


def _look_at_sparse(request: Request, file: Path) -> Look:
    source = {
        "kind": "sparse_arrays",
        "name": request.name,
        "samples": project_path(file),
        "labels": None if request.labels is None else project_path(Path(request.labels)),
        "vocabulary": None,
    }
    return _look_at_terms(request, source)


def _look_at_text(request: Request, file: Path) -> Look:
    source = {
        "kind": "text_table",
        "name": request.name,
        "path": project_path(file),
        "column": request.column,
        "labels_column": request.labels,
        "encoding": request.encoding,
        "max_terms": _TERMS,
        "on_empty": "skip",
        "separator": request.separator,
        "header": request.header,
        "analyzer": request.analyzer,
        "id_column": request.id_column or AUTO,
    }
    return _look_at_terms(request, source if request.weights is None else {**source, "weights": request.weights})


def _look_at_terms(request: Request, source: dict[str, Any]) -> Look:
    """All rows, read as a run will read them."""
    loaded = make_source(source).load()
    rows: Any = loaded.samples  # CSR
    n_samples, n_terms = rows.shape
    if not (n_samples and n_terms):
        raise ValueError(f"new-data: nothing to cluster, got {n_samples} rows of {n_terms} values")
    n_different = len(set(loaded.texts)) or count_distinct(rows, _GUESSED)
    if n_different == 1 < n_samples:
        raise ValueError(f"new-data: all {n_samples} rows are alike; expected rows that differ")
    filled = np.diff(rows.indptr)
    preview = [
        ("source", loaded.about["source"]),
        ("samples", f"sparse float32, {n_samples} rows of {n_terms} values, {filled.mean():.1f} of them not zero"),
        ("values", f"{rows.min():g} to {rows.max():g}"),
        ("zero rows", f"{np.count_nonzero(filled == 0)}"),
        *look_at_sparse_values(rows).attention(),
    ]
    if "skipped_rows" in loaded.about:
        preview.append(("left out", f"{len(loaded.about['skipped_rows'])} rows without text"))
    if loaded.vocabulary:
        preview += heaviest_words(rows, loaded.vocabulary)
        source = {**source, **_found(source, loaded.about["reading"])}
        preview += readings(loaded.about["reading"]) + ([] if request.encoder else lonely_texts(rows))
    elif are_counts(rows):
        advice = "if they count terms, TF-IDF says more of them: TfidfTransformer().fit_transform(rows) of scikit-learn"
        preview.append(("attention", f"all values are whole numbers; {advice}"))
    names = loaded.about["class_names"]
    known = loaded.labels[loaded.labels >= 0]
    return Look(
        source=source,
        suggest=_text_suggestion(request, loaded),
        n_samples=n_samples,
        row_shape=(n_terms,),
        density=rows.nnz / (n_samples * n_terms),
        n_classes=len(names) if names else len(np.unique(known)) or None,
        preview=preview,
        texts=loaded.texts,
        n_different=n_different,
        is_whole=bool(loaded.texts),
    )


def _found(source: Mapping[str, Any], reading: Mapping[str, Any]) -> dict[str, Any]:
    """What was found about a table, in place of what was to be found: later rows are read in the same way."""
    return {name: reading[name] for name, value in source.items() if value == "auto" and name in reading}


def _text_suggestion(request: Request, loaded: Samples) -> Callable[[int], Settings]:
    n_samples = loaded.samples.shape[0]
    if request.encoder not in (None, "lsa"):
        features: dict[str, Any] | None = {"encoder": request.encoder, "postprocess": "centre_l2"}
        why = f"{request.encoder}, centred, of length one"
    else:
        if loaded.texts:
            features = text_features(loaded.texts, loaded.about["reading"]["analyzer"])
        else:
            features = sparse_features(loaded.samples)
        why = f"latent semantic analysis, {features['lsa'] if features else 0} directions, centred, of length one"
    if features is None:
        settings = text_settings if loaded.texts else term_settings
        return lambda n_clusters: settings(n_samples, n_clusters)
    return lambda n_clusters: feature_settings(features, n_samples, n_clusters, [("rows", why)])
