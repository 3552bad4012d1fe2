"""How raw samples became features, as plain data, so that new rows are prepared as the training rows were."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np
from scipy import sparse

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.features import fit_statistics, postprocess_rows, scale_samples
from deep_clustering.data.sources.samples import FITTED
from deep_clustering.options import build

RowArray: TypeAlias = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Everything that the preparation of one row depends on, besides the row."""

    data_set: str
    """Name of the training data."""
    data_sha256: str
    """sha256 of the training samples."""
    row_shape: tuple[int, ...]
    """Shape of one sample: (channels, height, width) or (n_features,)."""
    dtype: str
    """uint8 for images, else float32."""
    is_sparse: bool
    """Whether samples are CSR rows."""
    value_range: tuple[float, float]
    """Lowest and highest possible value; of vectors without known ones, what occurred."""
    fit: str
    """How images of other proportions are made to fit: crop, pad or stretch."""
    options: dict[str, Any]
    """The block `features`, see `FeatureOptions`."""
    weights_sha256: str | None
    """sha256 of the backbone's weights; None without a backbone."""
    terms: tuple[str, ...]
    """Term of each column of a text's rows; empty for other data."""
    arrays: dict[str, np.ndarray]
    """mean, deviation: of the training rows, for `features.postprocess`; idf: weight of each term."""

    @property
    def takes_texts(self) -> bool:
        """Whether raw texts can become rows."""
        return "idf" in self.arrays

    def to_plain(self) -> dict[str, Any]:
        """All fields but the arrays, as JSON values."""
        return {name: value for name, value in asdict(replace(self, arrays={})).items() if name != "arrays"}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Put together what `to_plain` gave and the arrays."""
        tuples = {name: tuple(plain[name]) for name in ("row_shape", "value_range", "terms")}
        return cls(**{**plain, **tuples, "arrays": dict(arrays)})


def prepare(
    samples: RowArray,
    split: np.ndarray,
    card: Mapping[str, Any],
    vocabulary: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[RowArray, Preparation]:
    """Samples to the rows that every method gets, and how new samples become such rows.

    Args:
        samples: Images (n, channels, height, width), uint8, or vectors (n, n_features), float32, dense or CSR.
        split: What each sample is for, shape (n,): statistics are those of the fitted rows.
        card: The data card.
        vocabulary: "terms" of a text's columns and "idf", their weights or None.
        options: Fields of `FeatureOptions`.

    Returns:
        rows: float32, of the shape of the samples, or (n, n_features) with a backbone.
        preparation: what was done.

    Raises:
        ConnectionError: if weights cannot be downloaded.
        ValueError: if an option is wrong, or does not fit the samples.
    """
    chosen = build(FeatureOptions, options, "features")
    weights_sha256, resolved = None, {}
    if chosen.backbone is None:
        rows = scale_samples(samples, card["value_range"], chosen.scaling)
    else:
        from deep_clustering.data.pretrained import extract_rows, identify

        rows = extract_rows(samples, card["value_range"], card["sha256"]["samples"], chosen)
        weights_sha256, precision = identify(chosen)
        resolved = {"precision": precision}
    arrays = fit_statistics(rows, (split & FITTED) != 0, chosen.postprocess)
    preparation = Preparation(
        data_set=card["name"],
        data_sha256=card["sha256"]["samples"],
        row_shape=tuple(samples.shape[1:]),
        dtype=str(samples.dtype),
        is_sparse=sparse.issparse(samples),
        value_range=(float(card["value_range"][0]), float(card["value_range"][1])),
        fit=card.get("fit", "crop"),
        options={**asdict(chosen), **resolved, "cache": ""},  # new rows are not worth one
        weights_sha256=weights_sha256,
        terms=tuple(vocabulary["terms"]),
        arrays=arrays if vocabulary["idf"] is None else {**arrays, "idf": np.array(vocabulary["idf"])},
    )
    return postprocess_rows(rows, arrays, chosen.postprocess), preparation


def open_preparation(preparation: Preparation, weights: str | None = None) -> Callable[[RowArray], RowArray]:
    """Make the function that repeats a preparation; a backbone is built once.

    Args:
        preparation: What was done to the training samples.
        weights: Where the backbone's weights are now, if not where they were.

    Returns:
        Samples of the preparation's shape and type to rows of float32, one alone as in any batch.

    Raises:
        ConnectionError: if weights cannot be downloaded.
        ValueError: if they are missing, or not those of the training.
    """
    moved = {} if weights is None else {"weights": weights}
    options = build(FeatureOptions, {**preparation.options, "device": "auto", **moved}, "features")
    scale: Callable[[RowArray], RowArray]
    if options.backbone is None:

        def scale(samples: RowArray) -> RowArray:
            return scale_samples(samples, preparation.value_range, options.scaling)
    else:
        from deep_clustering.data.pretrained import open_extractor

        scale = open_extractor(options, preparation.value_range, str(preparation.weights_sha256))
    return lambda samples: postprocess_rows(scale(samples), preparation.arrays, options.postprocess)
