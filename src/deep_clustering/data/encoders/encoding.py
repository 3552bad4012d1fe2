"""Texts to rows by one encoder or by several side by side; rows of models are kept as those of images are."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from deep_clustering.data.encoders import lsa
from deep_clustering.data.encoders.known import LSA, ONNX, split_name
from deep_clustering.data.features import WIDTHS
from deep_clustering.data.shards import fill, in_order, open_shards
from deep_clustering.data.shards_on_ray import on_cluster, on_processors

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions


class TextEncoder(Protocol):
    """A model that somebody else has trained."""

    sha256: str
    """Of everything that belongs to the model."""
    packages: tuple[str, ...]
    """What it runs on."""
    settings: dict[str, Any]
    """What else its rows depend on."""
    counts: Counter[str]
    """What `close` says of all texts; those of another process may be added."""

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places of some texts, and their rows, until all are done."""

    def close(self) -> None:
        """Say what should be known of all texts."""


class Encoded(NamedTuple):
    """Rows, and what makes them again of other texts."""

    rows: np.ndarray
    """Shape (n, n_values), float32: encoder after encoder."""
    arrays: dict[str, np.ndarray]
    """Those of latent semantic analysis, and `WIDTHS`."""
    sha256: str | None
    """Of all models; None if there is none but latent semantic analysis."""


def encode(
    samples: np.ndarray | sparse.csr_matrix,
    texts: Sequence[str],
    is_fitted: np.ndarray,
    options: "FeatureOptions",
    analyzer: str = "word",
) -> Encoded:
    """Rows of all texts.

    Args:
        samples: Rows of terms, for latent semantic analysis where there are no texts.
        texts: The texts themselves, or nothing.
        is_fitted: Which of them the directions of latent semantic analysis are found on, shape (n,), boolean.
        options: With encoders; they have been checked.
        analyzer: What the terms of latent semantic analysis are, word or char.

    Returns:
        Rows, arrays and fingerprint.

    Raises:
        ValueError: if an encoder needs texts that there are not, a text is empty, or a model is of another kind.
    """
    _check_texts(texts, options)
    # All are tried before one of them begins.
    opened = {name: open_encoder(name, options) for name in options.encoders if name != LSA}
    arrays = lsa.fit_lsa(samples, texts, is_fitted, options, analyzer) if LSA in options.encoders else {}
    parts = [
        lsa.project(samples, texts, arrays) if name == LSA else _cached(opened[name], name, texts, options)
        for name in options.encoders
    ]
    arrays[WIDTHS] = np.array([part.shape[1] for part in parts], dtype=np.int64)
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return Encoded(rows, arrays, _join([encoder.sha256 for encoder in opened.values()]))


def open_encoders(
    options: "FeatureOptions", arrays: Mapping[str, np.ndarray], sha256: str | None
) -> Callable[[Any], np.ndarray]:
    """The encoders that made rows earlier, for new texts and without a cache.

    Args:
        options: With encoders; they have been checked.
        arrays: What `encode` gave then.
        sha256: What it gave then.

    Returns:
        Texts, or rows of terms where there were no texts, to rows (n, n_values), float32.

    Raises:
        ValueError: if these are other models.
    """
    opened = {name: open_encoder(name, options) for name in options.encoders if name != LSA}
    if (found := _join([encoder.sha256 for encoder in opened.values()])) != sha256:
        raise ValueError(f"features: encoder {', '.join(opened)}: expected sha256 {sha256}, got {found}")

    def apply(given: Any) -> np.ndarray:  # noqa: ANN401
        parts = [
            lsa.project(given, given, arrays) if name == LSA else _rows(opened[name], given)
            for name in options.encoders
        ]
        return np.concatenate(parts, axis=1)

    return apply


def _check_texts(texts: Sequence[str], options: "FeatureOptions") -> None:
    models = [name for name in options.encoders if name != LSA]
    if models and not texts:
        raise ValueError(
            f"features: encoder '{models[0]}' needs the texts themselves, and the source of this data gives none; "
            "expected one with texts, such as text_table or reuters21578, or encoder: lsa for rows of terms"
        )
    empty = next((index for index, text in enumerate(texts) if not text.strip()), None)
    if empty is not None:
        raise ValueError(f"features: text {empty} is empty; expected a text in each of the {len(texts)} rows")


def open_encoder(encoder: str, options: "FeatureOptions") -> TextEncoder:
    """Open a model that somebody else has trained.

    Args:
        encoder: Its name, any but lsa; it has been checked.
        options: What its rows depend on.

    Returns:
        The model.
    """
    kind, name = split_name(encoder)
    if kind == ONNX:
        from deep_clustering.data.encoders.onnx_model import OnnxEncoder

        return OnnxEncoder(Path(name), options)
    from deep_clustering.data.encoders.packages import PackageEncoder

    return PackageEncoder(kind, name, options)


def _cached(encoder: TextEncoder, name: str, texts: Sequence[str], options: "FeatureOptions") -> np.ndarray:
    key = {
        "texts": _texts_sha256(texts),
        "encoder": split_name(name)[0],
        "model": encoder.sha256,
        **encoder.settings,
    }
    shards = open_shards(Path(options.cache), key, len(texts))
    if options.launcher == "ray":
        make = partial(_open_on_cluster, name, on_processors(options), encoder.sha256)
        pieces = on_cluster(make, texts, encoder.counts)
    else:
        pieces = in_order(lambda start, stop: encoder.batches(texts[start:stop]))
    fill(shards, pieces, "text", encoder.packages)
    encoder.close()
    return shards.read()


def _open_on_cluster(
    name: str, options: "FeatureOptions", sha256: str
) -> Callable[[Sequence[str]], tuple[np.ndarray, Counter[str]]]:
    """What a worker makes of the texts of a shard, by the same model."""
    encoder = open_encoder(name, options)
    if encoder.sha256 != sha256:
        raise ValueError(f"features: encoder {name}: expected sha256 {sha256}, got {encoder.sha256} on a worker")

    def see(texts: Sequence[str]) -> tuple[np.ndarray, Counter[str]]:
        encoder.counts.clear()
        return _put_together(encoder, texts), Counter(encoder.counts)

    return see


def _rows(encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    rows = _put_together(encoder, texts)
    encoder.close()
    return rows


def _put_together(encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    parts = list(encoder.batches(texts))
    rows = np.empty((len(texts), parts[0][1].shape[1]), dtype=np.float32)
    for places, part in parts:
        rows[places] = part
    return rows


def _texts_sha256(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _join(digests: Sequence[str]) -> str | None:
    if len(digests) < 2:
        return digests[0] if digests else None
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
