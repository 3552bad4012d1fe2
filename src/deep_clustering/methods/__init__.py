"""The clustering library: one file per method, no Kedro and no MLflow.

A method is a keyword-only dataclass whose fields are its hyper-parameters, with

    fit(features, neighbours, checkpoints, weights) -> self  never sees ground truth
    describe(features) -> Described    all that is said of rows in one pass; predict(features) is its assignments
    history_                           a column per diagnostic with a value per epoch, and what `is_curve` tells apart

`METHODS` names the classes without importing them, so that listing methods costs nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, get_type_hints

import numpy as np

from deep_clustering.options import build, closest

if TYPE_CHECKING:
    from deep_clustering.methods.corrections import Corrected
    from deep_clustering.training.checkpoints import Checkpoints
    from deep_clustering.training.described import Described

METHODS = {
    "dcan": "deep_clustering.methods.dcan:DCAN",
    "neural_mixture": "deep_clustering.methods.neural_mixture:NeuralMixture",
    "temi": "deep_clustering.methods.temi:TEMI",
    "turtle": "deep_clustering.methods.turtle:TURTLE",
    "autoencoder": "deep_clustering.methods.autoencoder:AutoencoderClustering",
    "dec": "deep_clustering.methods.dec:DEC",
    "idec": "deep_clustering.methods.idec:IDEC",
    "dcn": "deep_clustering.methods.dcn:DCN",
    "imsat": "deep_clustering.methods.imsat:IMSAT",
    "vade": "deep_clustering.methods.vade:VaDE",
    "dcgmm": "deep_clustering.methods.dcgmm:DCGMM",
    "n2d": "deep_clustering.methods.n2d:N2D",
    "dac": "deep_clustering.methods.dac:DAC",
    "lsdc": "deep_clustering.methods.lsdc:LSDC",
    "cc": "deep_clustering.methods.cc:CC",
    "aae": "deep_clustering.methods.aae:AAE",
    "kingdra": "deep_clustering.methods.kingdra:Kingdra",
    "online_mixture": "deep_clustering.methods.online_mixture:OnlineMixture",
    "kmeans": "deep_clustering.methods.baselines:KMeansClusterer",
    "gmm": "deep_clustering.methods.baselines:GaussianMixtureClusterer",
    "ward": "deep_clustering.methods.baselines:WardClusterer",
    "tsne_gmm": "deep_clustering.methods.baselines:TSNEMixtureClusterer",
}

# Options of 0.2.0 that are gone, with the value of each that had no effect: models that were saved with it are read.
_WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "dcan": {"clustering": "kmeans", "positives": "mean", "reconstruction_weight": 0.0},
    "neural_mixture": {"calibration": "none"},
    "views": {"erase": 0.0, "reweight": 0.0, "noise": 0.0},
}

# Options that are younger than 0.2.0, with the value that does what it did: for models that were saved without them.
_YOUNGER: dict[str, dict[str, Any]] = {
    "dcan": {"compile": "off", "representation": {"kind": "none"}},
    "neural_mixture": {
        "compile": "off",
        "estimate_noise": False,
        "representation": {"kind": "none"},
        "teacher_momentum": 0.0,
        "weight_prior": 0.0,
    },
    **{
        method: {"views": {"kind": "same"}}
        for method in ("aae", "autoencoder", "dcgmm", "dcn", "dec", "idec", "n2d", "vade")
    },
}


# What names of arrays begin with that are of the rows of a fit.
_OF_ROWS = "rows/"


def is_curve(name: str) -> bool:
    """Whether an entry of a history has a value per epoch, and is no snapshot, candidate, final figure or the like."""
    return not name.startswith(("snapshot_", "candidate_", "selection_", "final_", "under_", "cost_"))


class Clusterer(Protocol):
    """What every method offers."""

    history_: dict[str, np.ndarray]

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: "Checkpoints | None" = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Learn the clusters of the rows.

        A method may use `neighbours` (n_samples, k), where -1 means none, and keep its state in `checkpoints`. A row
        of weight 2 counts as the row twice; `weights` (n_samples,) are above 0, and None are all alike.
        """

    def describe(self, features: np.ndarray) -> "Described":
        """Assignments, responsibilities, latent and log density of rows; the same for one row alone as in any batch."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row, shape (n_samples,), int64."""

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Everything `fit` learned."""

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what another instance of the same options learned."""


class Model(NamedTuple):
    """A fitted method as plain data."""

    method: str
    options: dict[str, Any]
    arrays: dict[str, np.ndarray]
    clusters: Mapping[str, Any] = {}
    """What was changed of its clusters, "steps" and "names" of `methods.corrections`, and what `note_rows` noted beside
    its arrays. Empty: nothing was, or it is older."""

    def without_rows(self) -> "Model":
        """The same without what `note_rows` noted, for new rows."""
        arrays = {name: array for name, array in self.arrays.items() if not name.startswith(_OF_ROWS)}
        return self._replace(arrays=arrays)


def note_rows(model: Model, *, sha256: str, keys: np.ndarray, clusters: np.ndarray, n_numbers: int) -> Model:
    """A model with the rows that it was fitted to, by which the numbers of its clusters are found again.

    Args:
        model: The fitted method.
        sha256: Fingerprint of the rows.
        keys: Key of each of them, shape (n_fitted,), uint64.
        clusters: Cluster of each of them, shape (n_fitted,).
        n_numbers: Numbers that clusters have had, from 0.

    Returns:
        The model with arrays "rows/keys" and "rows/clusters", int32, and "rows_sha256" and "n_numbers".
    """
    noted = {f"{_OF_ROWS}keys": keys, f"{_OF_ROWS}clusters": clusters.astype(np.int32)}
    about = {"rows_sha256": sha256, "n_numbers": n_numbers}
    return model._replace(arrays=model.arrays | noted, clusters={**model.clusters, **about})


def cluster_names(model: Model) -> dict[int, str]:
    """Names that a person gave clusters, by their number."""
    return {int(number): name for number, name in model.clusters.get("names", {}).items()}


def make_method(options: Mapping[str, Any], where: str | None = None) -> Clusterer:
    """Make an unfitted method from its options.

    Args:
        options: `method`, a key of `METHODS`, and every hyper-parameter of that method; none has a default.
        where: Their place in the configuration, for the messages; the method's name by default.

    Returns:
        The estimator.

    Raises:
        ValueError: if the method or an option is unknown, missing or out of range, or the number of clusters is a
            range and the method takes none.
    """
    rest = dict(options)
    name = str(rest.pop("method", "(none)"))
    if name not in METHODS:
        raise ValueError(f"{f'{where}: ' if where else ''}unknown method '{name}' ({closest(name, METHODS)})")
    if isinstance(rest.get("n_clusters"), Mapping) and not _takes_range(name):
        takers = ", ".join(filter(_takes_range, METHODS))
        raise ValueError(
            f"{where or name}: n_clusters must be one number, got the range {dict(rest['n_clusters'])}; the number is "
            f"suggested in a range by {takers} alone"
        )
    return build(_class_of(name), rest, where or name)


def _takes_range(name: str) -> bool:
    """Whether a method suggests a number of clusters in a range."""
    return get_type_hints(_class_of(name))["n_clusters"] is not int


def is_baseline(name: str) -> bool:
    """Whether a method, a key of `METHODS`, says of itself that it is a baseline: what others have to exceed."""
    return getattr(_class_of(name), "baseline", False)


def label_free_score(name: str) -> tuple[str, Literal["max", "min"]] | None:
    """The score by which a method's runs can be compared without labels.

    Args:
        name: A key of `METHODS`.

    Returns:
        Name of the score and whether more or less is better, as the class declares it; None if it declares none.
    """
    return getattr(_class_of(name), "label_free_score", None)


def label_free_score_among(name: str, known: Collection[str]) -> tuple[str, Literal["max", "min"]] | None:
    """The score by which runs on file can be compared, which may be older than the score that the method declares now.

    Args:
        name: A key of `METHODS`.
        known: Names of the scores that the runs have.

    Returns:
        As `label_free_score`, or the method's former score if the runs have only that; None if they have neither.
    """
    rules = (label_free_score(name), getattr(_class_of(name), "former_label_free_score", None))
    return next((rule for rule in rules if rule is not None and rule[0] in known), None)


def _class_of(name: str) -> type[Clusterer]:
    module, _, cls = METHODS[name].partition(":")
    return getattr(import_module(module), cls)


def save_method(estimator: "Clusterer | Corrected") -> Model:
    """Turn a fitted estimator into plain data.

    Args:
        estimator: The fitted estimator of any method in `METHODS`, perhaps with what was changed of its clusters.

    Returns:
        Its name, options and learned arrays.
    """
    from deep_clustering.methods.corrections import Corrected

    if isinstance(estimator, Corrected):
        model = save_method(estimator.method)
        return model._replace(arrays=model.arrays | estimator.arrays(), clusters=estimator.to_plain())
    place = f"{type(estimator).__module__}:{type(estimator).__qualname__}"
    name = next(name for name, known in METHODS.items() if known == place)
    options = {item.name: getattr(estimator, item.name) for item in fields(estimator) if item.init}  # type: ignore[arg-type]
    return Model(name, options, estimator.get_arrays())


def load_method(model: Model) -> "Clusterer | Corrected":
    """Turn plain data into a fitted estimator.

    Args:
        model: What `save_method` returned.

    Returns:
        An estimator that predicts as the saved one did.

    Raises:
        ValueError: if the method or its options are unknown to this version.
    """
    own = {name: array for name, array in model.arrays.items() if "/" not in name}
    estimator = make_method({"method": model.method, **_of_this_version(model)}).set_arrays(own)
    if "steps" not in model.clusters:
        return estimator
    from deep_clustering.methods.corrections import corrected_from

    return corrected_from(estimator, model.clusters, model.arrays)


def _of_this_version(model: Model) -> dict[str, Any]:
    """Options of a saved method with those that are younger, without those that are gone and had no effect."""
    kept = {name: value for name, value in model.options.items() if not _had_no_effect(model.method, name, value)}
    options = _YOUNGER.get(model.method, {}) | kept
    if model.method == "dcan" and "reconstruction_weight" not in options:
        options.pop("decoder_hidden", None)
    if "views" in options:
        views = options["views"].items()
        options["views"] = {name: value for name, value in views if not _had_no_effect("views", name, value)}
    return options


def _had_no_effect(group: str, name: str, value: Any) -> bool:  # noqa: ANN401 - any value of an option
    known = _WITHOUT_EFFECT.get(group, {})
    return name in known and known[name] == value
