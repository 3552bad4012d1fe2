"""How long methods will take here: steps of the networks and small fits of the baselines are timed, and scaled up."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy import sparse

from deep_clustering.methods import make_method
from deep_clustering.methods.tsne import tsne_needs

# Time for the steps of one network, and for all small fits, in seconds.
_STEPS_TIME = 0.5
# Rows of the small fits; no more than there are.
_ROWS, _ROWS_OF_IMAGES, _ROWS_OF_TREE, _ROWS_OF_MAP = 1024, 512, 1500, 250
# Iterations until k-means and mixtures stand still, as far as one can say beforehand, and those that are timed.
_ITERATIONS_OF_KMEANS, _ITERATIONS_OF_MIXTURE, _TIMED_ITERATIONS = 25, 40, 8
_SHORTEST_MAP = 250
_ROWS_OF_USUAL_MAP = 2000
# scikit-learn's t-SNE of a clustering, and of the maps of reports.
_ITERATIONS_OF_MAP, _ITERATIONS_OF_REPORT = 1000, 500
# Views of all rows that are looked at behind a training, in passes of the network, and plain passes of later nodes.
_PASSES_BEHIND = 12
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of a method."""

    fixed: float
    """Whatever the epochs: starts, snapshots, looks at the result."""
    per_epoch: float = 0.0
    """For each epoch; 0 for what has none."""
    epochs: int = 0
    """Epochs that are meant."""

    @property
    def seconds(self) -> float:
        """All in all."""
        return self.fixed + self.epochs * self.per_epoch

    def with_epochs(self, epochs: int) -> Self:
        """The same with other epochs."""
        return replace(self, epochs=epochs)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the rows of the methods will be like."""

    n_samples: int
    """How many."""
    row_shape: tuple[int, ...]
    """Shape of one."""
    density: float | None
    """Share of values that are not zero in sparse rows; None for dense ones."""
    n_clusters: int
    """Clusters that are looked for."""
    n_neighbours: int
    """Nearest rows of each."""

    @property
    def width(self) -> int:
        """Values of a row."""
        return math.prod(self.row_shape)

    def draw(self, n_rows: int) -> Any:  # noqa: ANN401 - dense or CSR
        """Random rows like them, at most so many."""
        n_rows, rng = min(n_rows, self.n_samples), np.random.default_rng(_SEED)
        if self.density is not None:
            drawn = sparse.random(n_rows, self.width, self.density, "csr", np.float32, rng=rng)
            return sparse.csr_matrix(drawn)
        rows = rng.random((n_rows, *self.row_shape), dtype=np.float32)
        if len(self.row_shape) == 1:  # groups, as k-means and trees meet them
            rows += (
                2
                * rng.random((self.n_clusters, *self.row_shape), dtype=np.float32)[
                    rng.integers(0, self.n_clusters, n_rows)
                ]
            )
            if self.width > 1:  # numbers of length one are all alike
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


class Watch:
    """Seconds since it was made, as if nobody else used the machine: on the wall, or of all threads if that is less."""

    def __init__(self) -> None:
        self._wall, self._threads = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Until now."""
        return min(time.perf_counter() - self._wall, time.process_time() - self._threads)


class Clock:
    """Times small fits on random rows, each when it is asked for the first time."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: dict[str, float] = {}

    def kmeans(self, n_init: int) -> float:
        """Seconds of so many starts of k-means."""
        from sklearn.cluster import KMeans

        def fit(rows: np.ndarray) -> None:
            KMeans(self._clusters(rows), n_init=1, max_iter=_TIMED_ITERATIONS, tol=0, random_state=_SEED).fit(rows)

        share = self._time("kmeans", fit, _ROWS) * _ITERATIONS_OF_KMEANS / _TIMED_ITERATIONS
        return n_init * share * self._times(_ROWS)

    def mixture(self, n_init: int) -> float:
        """Seconds of so many starts of a diagonal Gaussian mixture."""
        from sklearn.mixture import GaussianMixture

        def fit(rows: np.ndarray) -> None:
            GaussianMixture(
                self._clusters(rows), covariance_type="diag", reg_covar=1e-3, max_iter=_TIMED_ITERATIONS, tol=0
            ).fit(rows.astype(np.float64))

        share = self._time("mixture", fit, _ROWS) * _ITERATIONS_OF_MIXTURE / _TIMED_ITERATIONS
        return n_init * share * self._times(_ROWS)

    def ward(self, max_rows: int) -> float:
        """Seconds of a tree of at most so many rows."""
        from sklearn.cluster import AgglomerativeClustering

        def fit(rows: np.ndarray) -> None:
            AgglomerativeClustering(self._clusters(rows)).fit(rows)

        n_rows = min(max_rows, self._rows.n_samples)
        seconds = self._time("ward", fit, _ROWS_OF_TREE) * (n_rows / min(_ROWS_OF_TREE, self._rows.n_samples)) ** 2
        return seconds * (1 if n_rows == self._rows.n_samples else 2)  # the others go with the nearest

    def tsne(self, n_rows: int, barnes_hut_rows: int = 10_000) -> float:
        """Seconds of a t-SNE map of at most so many rows."""
        from sklearn.manifold import TSNE

        def fit(rows: np.ndarray) -> None:
            TSNE(perplexity=min(30, (len(rows) - 1) / 3), max_iter=_SHORTEST_MAP, init="random", n_jobs=1).fit(
                rows[:, :50]
            )

        timed = min(_ROWS_OF_MAP, self._rows.n_samples)
        usual = tsne_needs(timed, 50, perplexity=30, barnes_hut_rows=barnes_hut_rows)[1]
        usual *= math.log(max(2, timed)) / math.log(_ROWS_OF_USUAL_MAP)  # the tree of few points is less deep
        speed = self._time("tsne", fit, _ROWS_OF_MAP) * _ITERATIONS_OF_MAP / _SHORTEST_MAP / usual
        n_rows = min(n_rows, self._rows.n_samples)
        return speed * tsne_needs(n_rows, self._rows.width, perplexity=30, barnes_hut_rows=barnes_hut_rows)[1]

    def report_map(self, map_points: int) -> float:
        """Seconds of the map of a report."""
        return self.tsne(map_points) * _ITERATIONS_OF_REPORT / _ITERATIONS_OF_MAP

    def start(self, options: Mapping[str, Any]) -> float:
        """Seconds of a partition of the rows that a training begins with."""
        kind = options["kind"]
        if kind in ("kmeans", "neighbour_kmeans"):
            return self.kmeans(options["n_init"])
        if kind == "ward":
            return self.ward(options["max_rows"])
        if kind == "tsne_gmm":
            return self.tsne(options["map_rows"], options["barnes_hut_rows"])
        return sum(self.start(other) for other in options.get("others", []))

    def _times(self, n_rows: int) -> float:
        return self._rows.n_samples / min(n_rows, self._rows.n_samples)

    def _clusters(self, rows: np.ndarray) -> int:
        return min(self._rows.n_clusters, len(rows) - 1)

    def _time(self, name: str, fit: Callable[[np.ndarray], None], n_rows: int) -> float:
        if name not in self._known:
            rows = self._rows.draw(n_rows)
            rows = (rows.toarray() if sparse.issparse(rows) else rows).reshape(rows.shape[0], -1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it has not converged is meant
                fit(rows[: max(2, len(rows) // 4)])  # threads and libraries wake up
                watch = Watch()
                fit(rows)
            self._known[name] = watch.seconds
        return self._known[name]


def estimate(options: Mapping[str, Any], rows: Rows, clock: Clock) -> Estimate:
    """Seconds that a method will take.

    Args:
        options: All options of the method, as a run will have them.
        rows: What its rows will be like.
        clock: Times what it needs.

    Returns:
        The estimate.
    """
    method = options["method"]
    if method == "kmeans":
        return Estimate(fixed=clock.kmeans(options["n_init"]))
    if method == "gmm":
        return Estimate(fixed=clock.mixture(options["n_init"]))
    if method == "ward":
        return Estimate(fixed=clock.ward(options["max_rows"]))
    if method == "tsne_gmm":
        return Estimate(fixed=clock.tsne(options["max_rows"], options["barnes_hut_rows"]))
    return _estimate_training(options, rows, clock)


def _estimate_training(options: Mapping[str, Any], rows: Rows, clock: Clock) -> Estimate:
    """A method that trains networks, and what its start trains before it, or each of several in turn."""
    main, start = _measure_steps(options, rows), options["start"]
    starts = start["starts"] if start["kind"] == "in_turn" else [start]
    each = [_estimate_from(one, main, options, rows, clock) for one in starts]
    times = options["restarts"] / len(each)
    fixed, per_epoch = (times * sum(seconds) for seconds in zip(*each, strict=True))
    return Estimate(fixed=fixed, per_epoch=per_epoch, epochs=options["epochs"])


def _estimate_from(
    start: Mapping[str, Any], main: "_Timed", options: Mapping[str, Any], rows: Rows, clock: Clock
) -> tuple[float, float]:
    """Seconds of one training from a start: whatever the epochs, and for each of them."""
    n_steps = max(1, rows.n_samples // options["batch_size"])
    per_epoch, fixed = n_steps * main.step, main.begin
    n_looks = options["epochs"] / options["record_every"] + _PASSES_BEHIND
    fixed += n_looks * main.row * rows.n_samples
    fixed += clock.start(start)
    if start["kind"] == "dac":  # its steps are of the same network on the same views
        per_epoch += start["trainings"] * start["epochs"] * n_steps * main.step
    before = _fitted_before(options, start, rows)
    if before is not None:
        per_epoch += start["epochs"] * n_steps * _measure_steps(before, rows).step
        fixed += _PASSES_BEHIND * main.row * rows.n_samples
    return fixed, per_epoch


def _fitted_before(options: Mapping[str, Any], start: Mapping[str, Any], rows: Rows) -> dict[str, Any] | None:
    """Options of what a start fits with the method itself."""
    if start["kind"] == "consensus":
        return {**options, "heads": start["heads"]}
    if start["kind"] == "overclustering":
        n_components = round(start["components_per_cluster"] * rows.n_clusters)
        n_components = max(rows.n_clusters, min(n_components, options["batch_size"], rows.n_samples))
        return {**options, "n_clusters": n_components, "heads": 1}
    return None


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """Seconds of a training's beginning, of a step, and of one row in a pass over all."""

    begin: float
    step: float
    row: float


def _measure_steps(options: Mapping[str, Any], rows: Rows) -> _Timed:
    """Real training steps of the network that the options describe, on random rows."""
    from deep_clustering.training.fitting import make_data
    from deep_clustering.training.rows import resolve_device
    from deep_clustering.training.streams import seeded

    model: Any = make_method({**options, "start": {"kind": "none"}, "restarts": 1})
    # At least a batch: a step of fewer rows takes less.
    drawn = rows.draw(max(options["batch_size"], _ROWS if len(rows.row_shape) == 1 else _ROWS_OF_IMAGES))
    n_rows = drawn.shape[0]
    rng = np.random.default_rng(_SEED)
    neighbours = rng.integers(0, n_rows, (n_rows, max(1, rows.n_neighbours)), dtype=np.int32)
    model.device_ = resolve_device(model.device)
    with seeded(model.seed, model.device_):
        model.build(rows.row_shape)
        data = make_data(model, drawn, neighbours)
        training = model.training(data)
        watch = Watch()
        training.begin(None)
        begin = watch.seconds
        for network in training.networks.values():
            network.train()
        step = _time_steps(training, data, options["batch_size"])
        watch = Watch()
        training.assign()
        return _Timed(begin=begin, step=step, row=watch.seconds / n_rows)


def _time_steps(training: Any, data: Any, batch_size: int) -> float:  # noqa: ANN401 - a Training and its Data
    """Median of the seconds of steps, without the first, which warms up."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < _STEPS_TIME:
        for batch in data.rows.batches(batch_size, data.generator):
            watch = Watch()
            terms = training.step(data.pairs(batch.place), batch.index, None)
            next(iter(terms.values())).item()  # waits for the device
            times.append(watch.seconds)
            if len(times) >= 3 and time.perf_counter() - began > _STEPS_TIME:
                break
    return float(np.median(times[1:]))
