"""What suits data of a kind: image size, value range, rows, views, networks, starts and epochs to begin with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from deep_clustering.data.feature_options import LEARNED, PATCHES
from deep_clustering.data.row_keys import row_keys
from deep_clustering.data.sources.terms import make_counter
from deep_clustering.own_data.settings import MethodSettings, Settings, record_every

# Images of many sizes are brought to at most this side, which a CPU can train on.
_SIDE = 32
# Sides up to this one are kept if all images share them.
_KEPT_SIDE = 64
# What backbones were trained on, and how many images of that size are held in memory.
_BACKBONE_SIDE, _BACKBONE_BYTES = 224, 3 * 2**30

# Latent semantic analysis: what it takes, and what it gives.
_FEWEST_TEXTS, _FEWEST_TERMS, _DIRECTIONS = 200, 50, 100
_MAX_DF, _MIN_DF = 0.3, 2

# Nearest rows of a row, of which a quarter is held out and the others are its views; of few rows a share, lest they be
# of every kind.
_NEIGHBOURS, _FEWEST_NEIGHBOURS = 27, 5
# From so many columns of like scales on, rows are taken for embeddings.
_EMBEDDING_COLUMNS = 50

# Passes over single rows that suit small networks, and the epochs that may come of them.
_PASSES = 200_000
_EPOCHS = (10, 200)
# From a partition and on rows whose neighbours share their kind, half of the passes will do.
_FEWEST_HELD_EPOCHS = 10
# Passes of heads over rows of length one: as many as 10,000 rows get, and of few rows enough to learn their shares.
_FEWEST_PASSES, _MOST_PASSES, _ROWS_SEEN = 40, 200, 150_000
# The densities of NMM-EM are of a batch: beyond so many clusters that of the preset has too few rows of each, and gets
# so many, within reason; and k-means, whose time grows with the clusters, gets fewer starts.
_MANY_CLUSTERS, _ROWS_OF_CLUSTER, _LARGEST_BATCH = 32, 50, 8192
_FEW_STARTS = 4
_FEW_BEGINNINGS = [{"kind": "neighbour_kmeans", "n_init": _FEW_STARTS, "rounds": 1}, {"kind": "kmeans", "n_init": 2}]
# Smaller sets get smaller batches, so that an epoch has several steps.
_BATCHES = ((1000, 64), (5000, 128), (10**12, 256))
# Of drawings: passes over single images and the epochs that may come of them, and fewer of which get smaller batches.
_DRAWINGS_SEEN, _FEWEST_DRAWN_EPOCHS, _MOST_DRAWN_EPOCHS, _FEW_DRAWINGS = 150_000, 15, 40, 1000
# A view has this share of the side, which networks see in less time than all of it, and at least so many pixels.
_VIEWED_SHARE, _LEAST_VIEW = 0.7, 16
# A whitened latent has about as many dimensions as there are clusters, within reason.
_LATENT = 64


# Sizes and ranges


def image_shape(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Size to bring images to.

    Args:
        sizes: Height and width of each image.

    Returns:
        Height and width: the images' own if small and shared; their proportions if shared and not extreme; else a
        square.
    """
    heights, widths = np.array(sizes).T
    height, width = int(np.median(heights)), int(np.median(widths))
    is_shared = len(set(sizes)) == 1
    if is_shared and max(height, width) <= _KEPT_SIDE:
        return height, width
    if is_shared:
        scale = _SIDE / min(height, width)
        if max(height, width) * scale <= 2 * _SIDE:
            return round(height * scale), round(width * scale)
    side = max(8, min(_SIDE, height, width))
    return side, side


def backbone_shape(sizes: Sequence[tuple[int, int]], n_images: int) -> tuple[int, int]:
    """Size to bring images to that a backbone will see.

    Args:
        sizes: Height and width of some images.
        n_images: Number of all.

    Returns:
        Height and width of a square: what a backbone sees, less if the images are smaller or too many for memory.
    """
    affordable = int((_BACKBONE_BYTES / (3 * n_images)) ** 0.5)
    side = max(8, min(_BACKBONE_SIDE, int(np.median(np.min(sizes, axis=1))), affordable))
    return side, side


def value_range_of(samples: np.ndarray, low: float, high: float) -> list[float] | None:
    """The range that values were surely meant to have.

    Args:
        samples: Images or vectors.
        low: Their lowest value.
        high: Their highest value.

    Returns:
        Lowest and highest possible value; None leaves it to the source.
    """
    if samples.dtype == np.uint8 and high < 128:
        return [0.0, max(high, 1.0)]  # bits, or grey levels of a small number
    if samples.dtype != np.uint8 and samples.ndim == 4 and low >= 0:
        return next(([0.0, top] for top in (1.0, 255.0) if top / 2 < high <= top), None)
    return None


# Settings of each kind of data


def image_settings(n_channels: int, n_samples: int, n_clusters: int) -> Settings:
    """Images without a pretrained network: of photographs a small one that learns from them, of grey images patches.

    Args:
        n_channels: 3 of coloured images, which are taken for photographs, or 1.
        n_samples: Number of images.
        n_clusters: Number of clusters.

    Returns:
        Settings of dense rows, see `feature_settings`.
    """
    is_photo = n_channels == 3
    features = {"backbone": LEARNED if is_photo else PATCHES, "beside_gradients": True, "postprocess": "centre_l2"}
    seen = "a small network that learns from these images" if is_photo else "patches by what occurs beside them"
    why = [
        ("rows", f"{seen}, and directions of edges, centred, of length one; --backbone takes another network instead")
    ]
    return feature_settings(features, n_samples, n_clusters, why)


def drawing_settings(shape: tuple[int, int], n_samples: int, n_clusters: int) -> Settings:
    """Figures, letters and signs: their pixels as they are, and views that are turned, moved, scaled and sheared.

    Args:
        shape: Height and width of the images.
        n_samples: Number of images.
        n_clusters: Number of clusters.

    Returns:
        Settings in which trainings take turns with two starts or three.
    """
    epochs = min(_MOST_DRAWN_EPOCHS, max(_FEWEST_DRAWN_EPOCHS, _DRAWINGS_SEEN // n_samples))
    method = {
        "epochs": epochs,
        "batch_size": 64 if n_samples < _FEW_DRAWINGS else 256,
        "record_every": record_every(epochs),
    }
    in_turn = {"start": {"kind": "in_turn"}}
    size, latent = _view_size(shape), _latent_dim(n_clusters)
    return Settings(
        features={"scaling": "range"},
        n_neighbours=n_neighbours(n_samples),
        metric="euclidean",
        dcan=MethodSettings(preset=None, changes={**in_turn, "restarts": 2, "latent_dim": latent, **method}),
        neural_mixture=MethodSettings(preset=None, changes={**in_turn, "restarts": 3, **method}),
        others={"presets": {"drawings": {"size": size}}},
        why=[
            ("rows", "pixels"),
            ("views", f"images turned, moved, scaled and sheared a little; their side is {size or 'as it was'}"),
            ("starts", "a t-SNE map, merged components (neural_mixture), DAC; the likelihood of views chooses"),
        ],
    )


def _view_size(shape: tuple[int, int]) -> int:
    """Side of square views of drawings, as small as shapes allow, or 0 for the size of oblong ones."""
    height, width = shape
    if height != width and min(shape) >= _LEAST_VIEW:
        return 0
    return max(_LEAST_VIEW, min(_SIDE, 4 * round(_VIEWED_SHARE * max(shape) / 4)))


def vector_settings(rows: np.ndarray, deviations: np.ndarray, n_samples: int, n_clusters: int) -> Settings:
    """Arrays of vectors: tables, embeddings, anything that lies in columns.

    Args:
        rows: Some of them as they come, shape (n, n_features).
        deviations: Standard deviation of each column over all rows, shape (n_features,).
        n_samples: Number of all rows.
        n_clusters: Number of clusters.

    Returns:
        Settings of dense rows, see `feature_settings`, with the scales that suit the columns.
    """
    postprocess, reason = vector_scaling(rows, deviations)
    features = {"scaling": "range", "postprocess": postprocess}
    metric = "cosine" if postprocess == "centre_l2" else "euclidean"
    return feature_settings(features, n_samples, n_clusters, [("rows", reason)], metric)


def vector_scaling(rows: np.ndarray, deviations: np.ndarray) -> tuple[str, str]:
    """How the columns of vectors are brought to scale.

    Args:
        rows: Some rows as they come, shape (n, n_features).
        deviations: Standard deviation of each column over all rows, shape (n_features,).

    Returns:
        Value of `features.postprocess`, and the reason.
    """
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if rows.shape[1] > 1 and np.all(np.abs(lengths - 1) < 0.01):
        return "centre_l2", "rows have length one: centred, and brought back to it"
    if uneven_columns(deviations):
        widest = int(deviations.argmax())
        return "standardise", f"columns have unequal scales (column {widest} varies most): all are standardised"
    if rows.shape[1] >= _EMBEDDING_COLUMNS:
        return "centre_l2", f"{rows.shape[1]} columns of like scales are taken for an embedding: centred, of length one"
    return "standardise", "few columns: all are standardised"


def uneven_columns(deviations: np.ndarray) -> bool:
    """Whether some columns would decide the clusters before others are heard.

    Args:
        deviations: Standard deviation of each column, shape (n_features,).

    Returns:
        Whether, constant columns aside, the upper decile of the deviations, or of fewer than ten columns the largest,
        is more than three times the median one, or the largest of all is more than 20 times.
    """
    varying = deviations[deviations > 0]
    if not len(varying):
        return False
    upper, median = float(np.quantile(varying, 0.9, method="higher")), float(np.median(varying))
    return upper > 3 * median or float(varying.max()) > 20 * median


def feature_settings(
    features: dict[str, Any],
    n_samples: int,
    n_clusters: int,
    why: Sequence[tuple[str, str]] = (),
    metric: str = "cosine",
) -> Settings:
    """Dense rows: neighbours are views, and a partition of k-means is a good start.

    Args:
        features: Options of the features.
        n_samples: Number of rows.
        n_clusters: Number of clusters.
        why: What was chosen, and why.
        metric: By what rows are near.

    Returns:
        Settings with the presets for features.
    """
    plan = schedule(n_samples)
    epochs = max(_FEWEST_HELD_EPOCHS, plan["epochs"] // 2)
    dcan: dict[str, Any] = {
        "latent_dim": _latent_dim(n_clusters),
        "batch_size": plan["batch_size"],
        "epochs": epochs,
        "record_every": record_every(epochs),
    }
    passes = min(_MOST_PASSES, max(_FEWEST_PASSES, _ROWS_SEEN // n_samples))
    mixture: dict[str, Any] = {"epochs": passes, "record_every": record_every(passes)}
    if n_clusters > _MANY_CLUSTERS:
        dcan |= {"start": {"n_init": _FEW_STARTS}}
        mixture |= {"batch_size": min(_LARGEST_BATCH, _ROWS_OF_CLUSTER * n_clusters, n_samples)}
        mixture |= {"start": {"others": _FEW_BEGINNINGS}}
    k = n_neighbours(n_samples)
    return Settings(
        features=features,
        n_neighbours=k,
        metric=metric,
        dcan=MethodSettings(preset="dcan_on_features", changes=dcan),
        neural_mixture=MethodSettings(preset="neural_mixture_on_features", changes=mixture),
        why=[*why, ("views", f"neighbours: a row and one of the {k} nearest")],
    )


def text_features(texts: Sequence[str], analyzer: str = "word") -> dict[str, Any] | None:
    """Features that suit texts: latent semantic analysis, centred and of length one.

    Args:
        texts: All of them.
        analyzer: What terms are, word or char.

    Returns:
        Options of the features; None for few different texts or words, whose terms are better taken as they are.
    """
    n_distinct = len(set(texts))  # copies of a text have no direction of their own
    if n_distinct < _FEWEST_TEXTS:
        return None
    try:
        n_terms = len(make_counter(analyzer, max_df=_MAX_DF, min_df=_MIN_DF, binary=True).fit(texts).vocabulary_)
    except ValueError:  # no term is left
        return None
    if n_terms < _FEWEST_TERMS:
        return None
    # Half of what there may be: similar texts and words that go together leave fewer.
    directions = min(_DIRECTIONS, min(n_distinct, n_terms) // 2)
    return {"encoder": "lsa", "lsa": directions, "max_df": _MAX_DF, "min_df": _MIN_DF, "postprocess": "centre_l2"}


def are_counts(rows: sparse.csr_matrix) -> bool:
    """Whether the values of sparse rows are whole numbers, some above one: how often a term stands in a text."""
    return rows.nnz > 0 and bool(np.all(rows.data == np.round(rows.data))) and rows.data.max() > 1


def sparse_features(rows: sparse.csr_matrix) -> dict[str, Any] | None:
    """Features that suit weighted terms: the latent semantic analysis that texts get.

    Args:
        rows: CSR, for instance TF-IDF.

    Returns:
        Options of the features; None for few different rows or columns, for counts, whose most frequent terms would be
        all that it shows, and for values below zero, which are no weights of terms.
    """
    n_terms = int(np.count_nonzero(rows.getnnz(axis=0)))
    n_distinct = len(np.unique(row_keys(rows, ())))
    if n_distinct < _FEWEST_TEXTS or n_terms < _FEWEST_TERMS or rows.data.min() < 0 or are_counts(rows):
        return None
    directions = min(_DIRECTIONS, min(n_distinct, n_terms) // 2)
    return {"encoder": "lsa", "lsa": directions, "postprocess": "centre_l2"}


def text_settings(n_samples: int, n_clusters: int) -> Settings:
    """Texts that `text_features` leaves as rows of terms.

    Args:
        n_samples: Number of texts.
        n_clusters: Number of clusters.

    Returns:
        Of few texts the settings of `feature_settings`: views with half of the terms would be learned by heart, row by
        row. Of many with few different ones, whose nearest are their copies, those of `term_settings`.
    """
    if n_samples >= _FEWEST_TEXTS:
        return term_settings(n_samples, n_clusters)
    return feature_settings({"scaling": "none"}, n_samples, n_clusters, [("rows", "terms, as there are few texts")])


def term_settings(n_samples: int, n_clusters: int) -> Settings:
    """Rows of terms: views and encoder as of the Reuters collections; DCAN begins with the partition of k-means."""
    views, encoder = {"kind": "dropout", "rate": 0.5}, {"kind": "mlp", "hidden": [512, 256]}
    method = {"views": views, "encoder": encoder, **schedule(n_samples)}
    start = {"start": {"kind": "kmeans", "hold": 0.3, "n_init": 20}, "restarts": 1}
    return Settings(
        features={"scaling": "none"},
        n_neighbours=n_neighbours(n_samples),
        metric="cosine",
        dcan=MethodSettings(preset=None, changes={"latent_dim": _latent_dim(n_clusters), **start, **method}),
        neural_mixture=MethodSettings(preset=None, changes=method),
        why=[("views", _in_words(views)), ("encoder", _in_words(encoder))],
    )


def n_neighbours(n_samples: int) -> int:
    """Nearest rows to find of each row: an eighth of few rows."""
    return min(_NEIGHBOURS, max(_FEWEST_NEIGHBOURS, n_samples // 8), n_samples - 1)


def schedule(n_samples: int) -> dict[str, int]:
    """Epochs, batches and snapshots: fewer epochs for more rows, so that a run takes about as long.

    Args:
        n_samples: Number of rows.

    Returns:
        The options epochs, batch_size and record_every.
    """
    low, high = _EPOCHS
    epochs = min(high, max(low, _PASSES // n_samples))
    batch_size = next(size for limit, size in _BATCHES if n_samples < limit)
    return {"epochs": epochs, "batch_size": batch_size, "record_every": record_every(epochs)}


def _latent_dim(n_clusters: int) -> int:
    return max(2, min(_LATENT, n_clusters))


def _in_words(options: dict[str, Any]) -> str:
    return ", ".join([options["kind"], *(f"{name} {value}" for name, value in options.items() if name != "kind")])
