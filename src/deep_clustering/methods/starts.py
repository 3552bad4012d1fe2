"""Where training starts from: nothing, or a partition that is held for the first epochs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from annotated_types import Ge, Le
from scipy.cluster.hierarchy import cut_tree, ward
from sklearn.metrics import pairwise_distances_argmin

from deep_clustering.methods.consensus import Consensus
from deep_clustering.methods.dac_start import DACStart
from deep_clustering.methods.nearest_rows import draw_rows
from deep_clustering.methods.partitions import STARTS_OF_ROWS, StartOfRows, most_certain
from deep_clustering.options import build_kind
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.progress import phase

# What methods say of overclustering that no longer know it.
_DROPPED = "dropped in 0.3.0 for this method; use tsne_gmm, ward or kmeans"

# The dataclass of a method that has a start.
Fitted = TypeVar("Fitted", bound=Any)


@dataclass(frozen=True, kw_only=True)
class NoStart:
    """The untrained network's own clusters."""

    hold: ClassVar[float] = 0.0


@dataclass(frozen=True, kw_only=True)
class Overclustering:
    """More clusters than asked for are fitted first, then merged by Ward's agglomeration of what they say of the rows.

    A cluster that two groups share, or a group that two clusters share, is a local optimum that training does not
    leave. With several clusters for each group neither is needed, and which belong together is seen afterwards.
    """

    components_per_cluster: Annotated[float, Ge(1), Le(1000)]
    """Clusters that are fitted first, for each one asked for; at most as many as rows in a batch."""
    epochs: Annotated[float, Ge(0), Le(100)]
    """Passes over the rows for them, as a share of the fit's epochs."""
    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the fit's epochs in which the merged partition stands in for the assignments."""
    core: Annotated[float, Ge(0.01), Le(1)]
    """Share of each cluster's rows, those nearest to its mean, of which the partition is held: in the doubtful rest
    of the tree are whole components that went with the wrong cluster."""
    max_rows: Annotated[int, Ge(2)]
    """Rows in Ward's tree, as in `WardStart`."""

    def n_components(self, n_clusters: int, batch_size: int) -> int:
        """Number of clusters that are fitted first."""
        return min(max(n_clusters, round(self.components_per_cluster * n_clusters)), batch_size)

    def merge(self, points: np.ndarray, n_clusters: Sequence[int], seed: int) -> np.ndarray:
        """Merge components into clusters by Ward's agglomeration of what they say of the rows.

        Args:
            points: One for each row, shape (n_samples, n_dimensions), near to each other where components share rows.
            n_clusters: Numbers of clusters at which the tree is cut.
            seed: Seed of the draw, if there are more rows than `max_rows`.

        Returns:
            Cluster of each row at each cut, shape (n_samples, len(n_clusters)), int64; -1 outside the core.
        """
        drawn = draw_rows(len(points), self.max_rows, seed)
        cuts = cut_tree(ward(points[drawn]), n_clusters=list(n_clusters)).astype(np.int64)
        if len(drawn) < len(points):
            cuts = cuts[pairwise_distances_argmin(points, points[drawn])]
        return np.stack([keep_core(points, cut, self.core) for cut in cuts.T], axis=1)


def fit_before(
    start: Overclustering | Consensus,
    estimator: Fitted,
    features: np.ndarray,
    neighbours: np.ndarray | None,
    checkpoints: Checkpoints | None,
) -> Fitted:
    """Fit what a start merges or finds agreement in.

    Args:
        start: The start.
        estimator: The method with its options and number of clusters or heads; it is not changed.
        features: The rows.
        neighbours: Nearest rows of each row, or None.
        checkpoints: Those of the fit that this is the start of, or None.

    Returns:
        A copy of it, fitted once without a start, for the start's share of its epochs, at least one.
    """
    n_epochs = epochs_before(start, estimator.epochs)
    once = replace(estimator, epochs=n_epochs, record_every=n_epochs, restarts=1, start={"kind": "none"})
    # With more clusters than are asked for, the likelihood has another bound than theirs.
    many = isinstance(start, Overclustering)
    named = f"start of {estimator.n_clusters} clusters" if many else f"start of {estimator.heads} heads"
    bound = f", log-likelihood at most {math.log(estimator.n_clusters):.3f}" if many else ""
    with phase(named + bound):
        return once.fit(features, neighbours, checkpoints.within("components") if checkpoints else None)


def keep_core(points: np.ndarray, partition: np.ndarray, share: float) -> np.ndarray:
    """The partition of the rows that are nearest to the mean of their cluster.

    Args:
        points: One for each row, shape (n_samples, n_dimensions).
        partition: Cluster of each row, shape (n_samples,), int64.
        share: Share of each cluster's rows to keep; at least one row is kept.

    Returns:
        The partition with -1 for the rows that are not kept, shape (n_samples,), int64.
    """
    distances = np.zeros(len(points))
    for cluster in np.unique(partition):
        members = np.flatnonzero(partition == cluster)
        distances[members] = np.square(points[members] - points[members].mean(axis=0)).sum(axis=1)
    return most_certain(partition, -distances, share)


@dataclass(frozen=True, kw_only=True)
class GivenStart:
    """A partition that was found on the trunk of another network, with that trunk: see `methods.trunk`."""

    core: Annotated[float, Ge(0.01), Le(1)]
    """Share of each cluster's rows, those that are most certain, of which the partition is held."""
    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs in which it is held as it was found."""
    renew: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs behind these in which, in front of each, the clusters that the network itself sees in rows
    without random views take its place, of the rows that are most certain by now; a share of few epochs may be none."""
    renewed_core: Annotated[float, Ge(0.01), Le(1)]
    """Share of each cluster's rows of which these are held in the last such epoch, to which it grows from `core`."""

    def __post_init__(self) -> None:
        if self.hold + self.renew > 1:
            raise ValueError(f"hold and renew are shares of the same epochs, got {self.hold} and {self.renew}")
        if self.renew and not self.hold:
            raise ValueError(
                "hold must be above 0 where renew is: with no epoch before them the first clusters that are held would "
                f"be those of a last layer that has learned nothing; got hold = {self.hold} and renew = {self.renew}"
            )
        if self.renew and self.renewed_core < self.core:
            raise ValueError(
                f"core must be at most renewed_core, the share that it grows to, got core = {self.core} and "
                f"renewed_core = {self.renewed_core}"
            )

    def n_renewed(self, epochs: int) -> int:
        """Number of epochs, of so many, in front of which what is held is renewed."""
        return held_epochs(self, epochs) - held_for(self.hold, epochs)

    def core_of_epoch(self, epoch: int, epochs: int) -> float | None:
        """Share of each cluster's rows in an epoch of so many; None if what was found is held, or nothing."""
        first, n_renewed = held_for(self.hold, epochs), self.n_renewed(epochs)
        if not first <= epoch < first + n_renewed:
            return None
        return self.core + (self.renewed_core - self.core) * (epoch - first + 1) / n_renewed


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """Each training of several begins with another start; the score by which they compare decides between these too.

    Which start suits rows cannot be seen beforehand: a t-SNE map of few images joins groups that merged components
    keep apart, and of many it does not.
    """

    hold: ClassVar[float] = 0.0
    starts: list[dict[str, Any]]
    """Starts, of which each training takes the next one, and behind the last the first again: kind and its options."""

    def __post_init__(self) -> None:
        if len(self.made()) < 2:
            raise ValueError(f"expected at least 2 starts, got {len(self.starts)}")

    def made(self) -> list["Start"]:
        """All of them, made of their options; raises ValueError as `make_start`."""
        return [
            make_start(options, [kind for kind in STARTS if kind not in ("given", "in_turn")])
            for options in self.starts
        ]


class Given(NamedTuple):
    """What a start of kind given begins with."""

    partition: np.ndarray
    """Cluster of each row, shape (n_samples,), int64; -1: it is not held."""
    trunk: Mapping[str, np.ndarray]
    """Weights of all layers but the last, as `module_arrays` names them under "trunk"."""


STARTS: dict[str, type] = {
    "none": NoStart,
    **STARTS_OF_ROWS,
    "overclustering": Overclustering,
    "consensus": Consensus,
    "dac": DACStart,
    "given": GivenStart,
    "in_turn": InTurn,
}

Start = NoStart | StartOfRows | Overclustering | Consensus | DACStart | GivenStart | InTurn


def check_given(start: Start, given: Given | None, n_samples: int, n_clusters: int) -> None:
    """Refuse a start of kind given without what it begins with, or with what does not fit.

    Args:
        start: The options of the start.
        given: What there is.
        n_samples: Rows of the fit.
        n_clusters: Clusters that are asked for.

    Raises:
        ValueError: if it is missing, is not wanted, or is of other rows or of more clusters.
    """
    if isinstance(start, GivenStart) != (given is not None):
        found = "nothing" if given is None else "a partition"
        raise ValueError(f"start: kind given, and no other, begins with a partition of its own, got {found}")
    if given is None:
        return
    if given.partition.shape != (n_samples,) or given.partition.max() >= n_clusters:
        raise ValueError(
            f"start (given): expected clusters below {n_clusters} of {n_samples} rows, got "
            f"{given.partition.max()} at most and shape {given.partition.shape}"
        )


def make_start(options: Mapping[str, Any], kinds: Sequence[str]) -> Start:
    """Make the options of a start.

    Args:
        options: `kind` and the options of that kind.
        kinds: Those of `STARTS` that the method knows.

    Returns:
        The options.

    Raises:
        ValueError: if the kind or an option is unknown, missing or out of range.
    """
    known = {kind: STARTS[kind] for kind in kinds}
    # What configurations merged key by key have left of a kind that this method does not know.
    foreign = _names_of(STARTS.values()) - _names_of(known.values())
    if isinstance(options, Mapping):
        options = {name: value for name, value in options.items() if name not in foreign}
    dropped = {} if "overclustering" in known else {"overclustering": _DROPPED}
    return build_kind(known, options, "start", dropped)


def _names_of(kinds: Iterable[type]) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


def check_drawn_rows(start: Start, n_clusters: int, where: str = "start") -> None:
    """Refuse a start that would look for clusters among fewer rows, or has such a one beside it.

    Args:
        start: The options of the start.
        n_clusters: The most clusters that are asked for.
        where: Its place in the configuration.

    Raises:
        ValueError: if the rows in the tree or on the map are fewer.
    """
    for name in ("max_rows", "map_rows"):
        n_rows = getattr(start, name, n_clusters)
        if n_rows < n_clusters:
            raise ValueError(f"{where}: {name} must be at least n_clusters, got {n_rows} for {n_clusters} clusters")
    if isinstance(start, Consensus):
        for other in start.other_starts():
            check_drawn_rows(other, n_clusters, f"{where}.others")
    if isinstance(start, InTurn):
        for one in start.made():
            check_drawn_rows(one, n_clusters, f"{where}.starts")


def check_turns(start: Start, restarts: int, kinds: Sequence[str]) -> None:
    """Refuse starts in turn of which some would never have one, or that the method does not know.

    Args:
        start: The options of the start.
        restarts: Trainings of the fit.
        kinds: Those of `STARTS` that the method knows.

    Raises:
        ValueError: if there are fewer trainings than starts, or one is of another kind.
    """
    if not isinstance(start, InTurn):
        return
    for options in start.starts:
        make_start(options, kinds)
    if restarts < len(start.starts):
        raise ValueError(
            f"start (in_turn): {len(start.starts)} starts need as many restarts, got {restarts}; raise restarts, or "
            "name one of the starts"
        )


def origins(start: Start, n_partitions: int) -> list[str]:
    """What each of so many heads begins with; nothing where one start is that of all."""
    return start.origins(n_partitions) if isinstance(start, Consensus) else []


def turns_of(start: Start) -> list[dict[str, Any]]:
    """Options that the trainings of a fit take turns with; one set without any where all have the same start."""
    return [{"start": options} for options in start.starts] if isinstance(start, InTurn) else [{}]


def epochs_before(start: Start, epochs: int) -> int:
    """Number of epochs of the fit that a start is made of; 0 for one of the rows, the most of several in turn."""
    if isinstance(start, InTurn):
        return max(epochs_before(one, epochs) for one in start.made())
    if isinstance(start, DACStart):
        return start.trainings * start.n_epochs(epochs)
    return max(1, round(start.epochs * epochs)) if isinstance(start, Overclustering | Consensus) else 0


def held_epochs(start: Start, epochs: int) -> int:
    """Number of first epochs in which the partition of a start stands in for the assignments; 0 for several in turn."""
    return held_for(start.hold + (start.renew if isinstance(start, GivenStart) else 0.0), epochs)


def held_for(share: float, epochs: int) -> int:
    """Number of epochs that a share of them is, at least one unless it is 0."""
    return max(1, round(share * epochs)) if share else 0
