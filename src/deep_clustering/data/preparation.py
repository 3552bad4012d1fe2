"""How raw samples became features, as plain data, so that new rows are prepared as the training rows were."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, TypeAlias

import numpy as np
from pydantic import InstanceOf
from scipy import sparse

from deep_clustering.data.feature_options import HOG, LEARNED, PATCHES, FeatureOptions, check_before_trunk
from deep_clustering.data.features import WIDTHS, fit_statistics, postprocess_rows, scale_samples
from deep_clustering.data.sources.samples import FITTED
from deep_clustering.options import build

RowArray: TypeAlias = np.ndarray | sparse.csr_matrix

# Options that files of versions before 0.3.0 lack, and what they did.
_LACKING: Mapping[str, Any] = {
    "launcher": "local",
    "beside_gradients": False,
    "learned": {},
    "encoder": None,
    "pooling": "cls",
    "max_tokens": 512,
    "lsa": 100,
    "max_terms": 20000,
    "max_df": 0.3,
    "min_df": 2,
}


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
    """sha256 of the weights of the backbone or the encoder; None without one."""
    terms: tuple[str, ...]
    """Term of each column of a text's rows; empty for other data."""
    arrays: dict[str, InstanceOf[np.ndarray]]
    """mean, deviation: of the training rows, for `features.postprocess`; idf: weight of each term; and those of the
    encoders."""
    reads_texts: bool
    """Whether features are made of the texts themselves, and not of their terms."""
    reading: dict[str, Any] = field(default_factory=dict)
    """How the source was read, of the data card: what new files of its kind are read by."""
    trunk: dict[str, Any] | None = None
    """Options of the trunk that embeds the rows, whose weights are among the arrays; None without one."""

    @property
    def takes_texts(self) -> bool:
        """Whether raw texts can become rows."""
        return self.reads_texts or "idf" in self.arrays

    def to_plain(self) -> dict[str, Any]:
        """All fields but the arrays, as JSON values."""
        return {name: value for name, value in asdict(replace(self, arrays={})).items() if name != "arrays"}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Put together what `to_plain` gave and the arrays.

        Args:
            plain: All other fields; of a version before 0.3.0 some.
            arrays: By name.

        Raises:
            ValueError: if a field is missing, unknown or of another type.
        """
        found = build(cls, {"reads_texts": False, **plain, "arrays": dict(arrays)}, "preparation")
        if found.dtype not in ("uint8", "float32"):
            raise ValueError(f"preparation: dtype: expected uint8 or float32, got {found.dtype!r}")
        return found


# What names of arrays begin with that are weights of a trunk.
_OF_TRUNK = "trunk/"


def prepare(
    samples: RowArray,
    split: np.ndarray,
    card: Mapping[str, Any],
    vocabulary: Mapping[str, Any],
    options: Mapping[str, Any],
    texts: Sequence[str] = (),
) -> tuple[RowArray, Preparation]:
    """Samples to the rows that every method gets, and how new samples become such rows.

    Args:
        samples: Images (n, channels, height, width), uint8, or vectors (n, n_features), float32, dense or CSR.
        split: What each sample is for, shape (n,): statistics are those of the fitted rows.
        card: The data card.
        vocabulary: "terms" of a text's columns and "idf", their weights or None.
        options: Fields of `FeatureOptions`.
        texts: The texts themselves, one for each sample; nothing for other data.

    Returns:
        rows: float32, of the shape of the samples, or (n, n_features) with a backbone or an encoder.
        preparation: what was done.

    Raises:
        ConnectionError: if weights cannot be downloaded.
        ValueError: if an option is wrong, or does not fit the samples.
    """
    chosen = build(FeatureOptions, options, "features")
    is_fitted = (split & FITTED) != 0
    rows, arrays, weights_sha256, resolved = _see(samples, texts, is_fitted, card, chosen)
    arrays |= fit_statistics(rows, is_fitted, chosen.postprocess)
    preparation = Preparation(
        data_set=card["name"],
        data_sha256=card["sha256"]["samples"],
        row_shape=tuple(samples.shape[1:]),
        dtype=str(samples.dtype),
        is_sparse=sparse.issparse(samples),
        value_range=(float(card["value_range"][0]), float(card["value_range"][1])),
        fit=card.get("fit", "crop"),
        options={**asdict(chosen), **resolved, "cache": "", "launcher": "local"},  # new rows are few
        weights_sha256=weights_sha256,
        terms=tuple(vocabulary["terms"]),
        arrays=arrays if vocabulary["idf"] is None else {**arrays, "idf": np.array(vocabulary["idf"])},
        reads_texts=chosen.encoder is not None and bool(texts),
        reading=dict(card.get("reading", {})),
    )
    return postprocess_rows(rows, arrays, chosen.postprocess), preparation


def _see(
    samples: RowArray, texts: Sequence[str], is_fitted: np.ndarray, card: Mapping[str, Any], options: FeatureOptions
) -> tuple[RowArray, dict[str, np.ndarray], str | None, dict[str, Any]]:
    """Rows before they are postprocessed; arrays and sha256 of what they were seen by; options as they came out."""
    if options.backbone is not None:
        return _see_images(samples, is_fitted, card, options)
    if options.encoder is not None:
        from deep_clustering.data.encoders.encoding import encode

        return *encode(samples, texts, is_fitted, options, card.get("reading", {}).get("analyzer", "word")), {}
    changes = options.postprocess != "none"  # in place, which samples must not be
    return scale_samples(samples, card["value_range"], options.scaling, copy=changes), {}, None, {}


def _see_images(
    images: RowArray, is_fitted: np.ndarray, card: Mapping[str, Any], options: FeatureOptions
) -> tuple[RowArray, dict[str, np.ndarray], str | None, dict[str, Any]]:
    """As `_see`, by gradients, by patches or a network, or by both."""
    from deep_clustering.data.gradients import gradient_rows
    from deep_clustering.data.spaces import say_more_together

    if options.backbone == HOG:
        return gradient_rows(images, card["value_range"]), {}, None, {}
    rows, arrays, weights_sha256, resolved = _see_by_backbone(images, is_fitted, card, options)
    if not options.beside_gradients:
        return rows, arrays, weights_sha256, resolved
    gradients = gradient_rows(images, card["value_range"])
    if not say_more_together(rows[is_fitted], gradients[is_fitted]):
        return rows, arrays, weights_sha256, {**resolved, "beside_gradients": False}
    arrays[WIDTHS] = np.array([rows.shape[1], gradients.shape[1]])
    return np.concatenate([rows, gradients], axis=1), arrays, weights_sha256, resolved


def _see_by_backbone(
    images: RowArray, is_fitted: np.ndarray, card: Mapping[str, Any], options: FeatureOptions
) -> tuple[np.ndarray, dict[str, np.ndarray], str | None, dict[str, Any]]:
    """As `_see`, by patches or a network alone, be it a pretrained one or one that learns from the images."""
    if options.backbone == PATCHES:
        from deep_clustering.data.patches import learn_patches, patch_rows

        arrays = learn_patches(images, is_fitted, card["value_range"])
        return patch_rows(images, card["value_range"], arrays), arrays, None, {}
    if options.backbone == LEARNED:
        from deep_clustering.data.learned import learn, open_learned

        arrays, precision = learn(images, is_fitted, card["value_range"], options, card["sha256"]["samples"])
        see = open_learned(arrays, card["value_range"], options.learned_options)
        return see(images), arrays, None, {"precision": precision}
    from deep_clustering.data.pretrained import extract_rows, identify

    rows = extract_rows(images, card["value_range"], card["sha256"]["samples"], options)
    weights_sha256, precision = identify(options)
    return rows, {}, weights_sha256, {"precision": precision}


def open_preparation(preparation: Preparation, weights: str | None = None) -> Callable[[Any], RowArray]:
    """Make the function that repeats a preparation; a backbone or an encoder is built once.

    Args:
        preparation: What was done to the training samples.
        weights: Where the backbone's weights, or the folder of its ONNX encoder, are now, if not where they were.

    Returns:
        Samples of the preparation's shape and type, or texts if it reads them, to rows of float32, one alone as in any
        batch.

    Raises:
        ConnectionError: if weights cannot be downloaded.
        ValueError: if they are missing, or not those of the training.
    """
    see = open_eyes(preparation, weights)
    return lambda samples: finish_rows(preparation, see(samples))


def finish_rows(preparation: Preparation, rows: RowArray) -> RowArray:
    """Postprocess, in place, what the function of `open_eyes` gave."""
    return postprocess_rows(rows, preparation.arrays, preparation.options["postprocess"])


def has_no_terms(preparation: Preparation, rows: RowArray) -> np.ndarray:
    """Which rows say nothing of their texts, as those without a single known term.

    Args:
        preparation: How rows are made.
        rows: What the function of `open_eyes` gave, shape (n, n_features).

    Returns:
        Shape (n,), boolean: texts whose rows are zero. False for all that are no texts.
    """
    if not (preparation.terms or preparation.takes_texts):
        return np.zeros(rows.shape[0], dtype=bool)
    n_values = rows.getnnz(axis=1) if isinstance(rows, sparse.csr_matrix) else np.count_nonzero(rows, axis=1)
    return np.asarray(n_values == 0)


def embed_rows(
    rows: np.ndarray, split: np.ndarray, preparation: Preparation, options: Mapping[str, Any], trunk: Mapping[str, Any]
) -> tuple[np.ndarray, Preparation]:
    """Prepared rows to those that a trunk makes of them, centred and of length one, and how samples become such rows.

    Args:
        rows: Shape (n, ...), float32.
        split: What each row is for, shape (n,): the mean is that of the fitted rows.
        preparation: How samples became these rows.
        options: Of the trunk, see `deep_clustering.methods.trunk`.
        trunk: Its arrays.

    Returns:
        rows: float32, shape (n, n_latent).
        preparation: what was done in all.

    Raises:
        ValueError: if the rows were centred or scaled before, which is done once.
    """
    check_before_trunk(preparation.options["postprocess"])
    embedded = _open_trunk(options, trunk)(rows)
    arrays = fit_statistics(embedded, (split & FITTED) != 0, "centre_l2")
    whole = replace(
        preparation,
        options={**preparation.options, "postprocess": "centre_l2"},
        arrays={**preparation.arrays, **arrays, **{f"{_OF_TRUNK}{name}": array for name, array in trunk.items()}},
        trunk=dict(options),
    )
    return postprocess_rows(embedded, arrays, "centre_l2"), whole


def _open_trunk(options: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The function from prepared rows to embedded ones, on the device that this machine has."""
    from deep_clustering.methods.trunk import make_trunk

    return make_trunk({**options, "device": "auto"}).set_arrays(arrays).embed


def open_eyes(preparation: Preparation, weights: str | None = None) -> Callable[[Any], RowArray]:
    """The function of `open_preparation` without what is last: its rows are not postprocessed yet."""
    see = _open_first_eyes(preparation, weights)
    if preparation.trunk is None:
        return see
    arrays = {
        name.removeprefix(_OF_TRUNK): array for name, array in preparation.arrays.items() if name.startswith(_OF_TRUNK)
    }
    embed = _open_trunk(preparation.trunk, arrays)
    return lambda samples: embed(see(samples))


def _open_first_eyes(preparation: Preparation, weights: str | None) -> Callable[[Any], RowArray]:
    """The function of `open_eyes` up to a trunk."""
    earlier = {**_LACKING, **preparation.options, "device": "auto"}
    options = build(FeatureOptions, earlier if weights is None else _moved(earlier, weights), "features")
    if options.backbone is not None:
        return _open_image_eyes(preparation, options)
    if options.encoder is not None:
        from deep_clustering.data.encoders.encoding import open_encoders

        return open_encoders(options, preparation.arrays, preparation.weights_sha256)
    return lambda samples: scale_samples(samples, preparation.value_range, options.scaling)


def _open_image_eyes(preparation: Preparation, options: FeatureOptions) -> Callable[[Any], RowArray]:
    """The function of `open_eyes` for images that gradients, patches or a network, or both see."""
    from deep_clustering.data.gradients import gradient_rows

    if options.backbone == HOG:
        return lambda images: gradient_rows(images, preparation.value_range)
    see = _open_backbone(preparation, options)
    if not options.beside_gradients:
        return see
    return lambda images: np.concatenate([see(images), gradient_rows(images, preparation.value_range)], axis=1)


def _open_backbone(preparation: Preparation, options: FeatureOptions) -> Callable[[Any], np.ndarray]:
    """The function of `open_eyes` for images that patches or a network see."""
    if options.backbone == PATCHES:
        from deep_clustering.data.patches import patch_rows

        return lambda images: patch_rows(images, preparation.value_range, preparation.arrays)
    if options.backbone == LEARNED:
        from deep_clustering.data.learned import open_learned

        return open_learned(preparation.arrays, preparation.value_range, options.learned_options)
    from deep_clustering.data.pretrained import open_extractor

    return open_extractor(options, preparation.value_range, str(preparation.weights_sha256))


def _moved(options: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Options that find weights in their new place."""
    encoder = options["encoder"]
    if encoder is None:
        return {**options, "weights": weights}
    names = [encoder] if isinstance(encoder, str) else list(encoder)
    moved = [name for name in names if name.startswith("onnx:")]
    if len(moved) != 1:
        raise ValueError(
            f"features: weights got '{weights}' for encoder {encoder!r}, expected one that is onnx:<folder>"
        )
    return {**options, "encoder": [f"onnx:{weights}" if name in moved else name for name in names]}
