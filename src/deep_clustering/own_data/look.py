"""A look at data that nobody has described yet: what it is, and the settings that suit it. No torch in here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deep_clustering.checks import count_distinct
from deep_clustering.data.places import absolute
from deep_clustering.data.sources.array_files import (
    arrange,
    class_labels,
    is_sparse_file,
    read_array,
    read_labels,
    to_float32,
)
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.loading import make_source
from deep_clustering.data.sources.number_tables import NumberTable, besides_of, read_number_table
from deep_clustering.data.sources.row_weights import as_weights, check_number
from deep_clustering.data.sources.samples import Samples
from deep_clustering.data.sources.table_columns import AUTO
from deep_clustering.data.sources.tables import SUFFIXES as TABLES
from deep_clustering.own_data.image_look import look_at_images, refuse_blank
from deep_clustering.own_data.request import Request
from deep_clustering.own_data.seen import ROWS, Look, project_path, spaced
from deep_clustering.own_data.suggestions import (
    Settings,
    are_counts,
    drawing_settings,
    feature_settings,
    image_settings,
    sparse_features,
    term_settings,
    text_features,
    text_settings,
    value_range_of,
    vector_settings,
)
from deep_clustering.own_data.table_preview import columns_in_words
from deep_clustering.own_data.text_preview import heaviest_words, lonely_texts, readings
from deep_clustering.own_data.values import look_at_sparse_values, look_at_values

# Values that are looked at in detail: all of small data, those of evenly spaced rows of large data.
_VALUES = 50_000_000
# Different sparse rows that are counted, as many as clusters are guessed at most.
_GUESSED = 10
# Most frequent terms that a text keeps.
_TERMS = 2000


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
        return look_at_images(request, request.images)
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
    some = spaced(samples, ROWS).astype(np.float32)
    n_different = len(np.unique(some.reshape(len(some), -1), axis=0))
    if n_different == 1 < len(some) == len(raw):
        raise ValueError(f"new-data: all {len(raw)} rows of {file} are alike; expected rows that differ")
    if request.drawings and some.ndim != 4:
        raise ValueError(f"new-data: --drawings needs images, got rows of shape {some.shape[1:]} in {file}")

    if some.ndim == 4:
        refuse_blank(request, some)

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
