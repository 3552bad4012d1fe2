"""From options to checked samples with their card."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from scipy import sparse

from deep_clustering.checks import check_labels, check_rows
from deep_clustering.data.sources.card import data_card
from deep_clustering.data.sources.row_ids import select_rows
from deep_clustering.data.sources.row_weights import weighted
from deep_clustering.data.sources.samples import Samples, Source
from deep_clustering.options import build, build_kind

# Classes are named, not imported: the modules are read when a source is made. They import their libraries in `load`.
SOURCES = {
    "digits": "deep_clustering.data.sources.images:Digits",
    "mnist": "deep_clustering.data.sources.images:Mnist",
    "fashion_mnist": "deep_clustering.data.sources.images:FashionMnist",
    "usps": "deep_clustering.data.sources.images:Usps",
    "stl10": "deep_clustering.data.sources.images:Stl10",
    "cifar10": "deep_clustering.data.sources.cifar:Cifar10",
    "cifar100": "deep_clustering.data.sources.cifar:Cifar100",
    "arrays": "deep_clustering.data.sources.own:Arrays",
    "image_folder": "deep_clustering.data.sources.own:ImageFolder",
    "reuters10k": "deep_clustering.data.sources.reuters:Reuters10k",
    "reuters21578": "deep_clustering.data.sources.reuters21578:Reuters21578",
    "text_table": "deep_clustering.data.sources.text:TextTable",
    "sparse_arrays": "deep_clustering.data.sources.text:SparseArrays",
}

# Options that say how a source is read, and not where it lies: new files are read by them too.
_TRAVELLING = ("kind", "column", "encoding", "on_empty", "key", "layout", "extensions", "on_error")


@dataclass(frozen=True, kw_only=True)
class IngestionOptions:
    """Options of the ingestion."""

    source: dict[str, Any]
    """`kind`, a key of `SOURCES`, and the options of that kind."""
    n_rows: Annotated[int, Ge(0)]
    """Rows to take, a random subset that is the same in every run; 0 takes all."""

    def __post_init__(self) -> None:
        make_source(self.source)


def make_source(options: Mapping[str, Any]) -> Source:
    """Make a source from its options.

    Args:
        options: `kind`, a key of `SOURCES`, and the options of that kind.

    Returns:
        The source; nothing has been read yet.

    Raises:
        ValueError: if the kind or an option is unknown, missing or out of range.
    """
    return build_kind({name: _source_class(name) for name in SOURCES}, options, "ingestion.source")


def _source_class(kind: str) -> type[Source]:
    module, _, cls = SOURCES[kind].partition(":")
    return getattr(import_module(module), cls)


def load_source(options: Mapping[str, Any]) -> tuple[Samples, dict[str, Any]]:
    """Read samples, check them and write their card.

    Args:
        options: Fields of `IngestionOptions`.

    Returns:
        samples: what the source gave, or a subset of it.
        data_card: what it is, with its sha256; `reading` says how new files of its kind are to be read.

    Raises:
        FileNotFoundError: if a file of the source is missing.
        ValueError: if an option is wrong, or what was read cannot be clustered.
    """
    ingestion = build(IngestionOptions, options, "ingestion")
    loaded = make_source(ingestion.source).load()
    _check(loaded)
    if loaded.weights is not None:
        loaded = weighted(loaded, loaded.weights)
    if ingestion.n_rows:
        loaded = _subset(loaded, ingestion.n_rows)
    card = data_card(loaded)
    # What a source found out beats what was said of it: "auto" is of no use to new files.
    stated = {name: value for name, value in ingestion.source.items() if name in _TRAVELLING}
    labels = ingestion.source.get("labels")
    if stated["kind"] == "arrays" and labels is not None and not Path(str(labels)).suffix:
        stated["besides"] = str(labels)  # an array beside the samples: new archives may have it too
    return loaded, {**card, "reading": {**stated, **card.get("reading", {})}}


def _subset(loaded: Samples, n_rows: int) -> Samples:
    total = loaded.samples.shape[0]
    if n_rows > total:
        raise ValueError(f"ingestion: n_rows must be at most the {total} rows there are, got {n_rows}")
    rows = np.sort(np.random.default_rng(0).permutation(total)[:n_rows])
    # Lists of single rows would no longer match.
    about = {name: value for name, value in loaded.about.items() if name not in ("files", "skipped_rows")}
    protocol = f"{loaded.about['protocol']}, random subset of {n_rows} of {total} rows"
    ids, skipped = select_rows(loaded, rows)
    return loaded._replace(
        samples=loaded.samples[rows],
        labels=loaded.labels[rows],
        split=loaded.split[rows],
        texts=[loaded.texts[row] for row in rows] if loaded.texts else (),
        weights=None if loaded.weights is None else loaded.weights[rows],
        about={**about, "protocol": protocol},
        ids=ids,
        skipped=skipped,
    )


def _check(loaded: Samples) -> None:
    samples = loaded.samples
    if samples.dtype == np.uint8 and not sparse.issparse(samples):
        if samples.ndim != 4 or 0 in samples.shape:
            raise ValueError(
                f"ingestion: uint8 samples must be images of shape (n, channels, height, width), got {samples.shape}"
            )
    elif samples.dtype == np.float32:
        check_rows(samples, "ingestion")
    else:
        raise ValueError(
            f"ingestion: samples must be uint8 images or float32 vectors, got {samples.dtype} {samples.shape}"
        )
    check_labels(loaded.labels, samples.shape[0], "ingestion")
