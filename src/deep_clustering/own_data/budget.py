"""What fits a stated time: how many points the maps have, how long the networks train, which methods take part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from deep_clustering.methods import is_baseline
from deep_clustering.own_data.estimates import Estimate

# Fewest epochs worth training, by method; of fewer that are suggested, these.
_FLOORS = {"dcan": 8, "neural_mixture": 20}
# Points of the maps of reports, the finest first.
_MAP_POINTS = (5000, 3000, 2000, 1000)
# Share of the time that maps and pages may take if something else is to be shortened for them.
_MAP_SHARE = 0.25
# Session, reading and writing of outputs; and nodes, scores and page of each method, without its map. By whole runs on
# two cores, in CPU seconds: 28 for wine, 31 for iris, 37 for breast cancer.
_SESSION_SECONDS, _METHOD_SECONDS = 8.0, 3.0
# Shares of the epochs that are tried.
_SHARES = [step / 40 for step in range(40, -1, -1)]
# What stays where not even the fewest epochs of all methods fit.
_STAY = ("kmeans", "dcan")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of the environment will do."""

    estimates: dict[str, Estimate]
    """Of the methods that take part, in their order, with the epochs that fit."""
    map_points: int
    """Rows on the maps of the reports."""
    preparation: float
    """Seconds before the methods."""
    reporting: float
    """Seconds of scores, maps and pages."""
    refitting: float
    """Share of the longest fit that its repetition takes at most, which says how repeatable it is."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Methods that do not take part, and why."""

    @property
    def seconds(self) -> float:
        """All in all."""
        return self.preparation + self.reporting + self.recommendation + sum(self._each)

    @property
    def recommendation(self) -> float:
        """Seconds of the recommendation, if it is of the method that takes longest."""
        return self.refitting * max(self._each)

    @property
    def _each(self) -> list[float]:
        return [estimate.seconds for estimate in self.estimates.values()]


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a run takes besides its methods, and what it may take."""

    n_samples: int
    """Number of rows."""
    budget: float
    """Seconds that there are."""
    preparation: float
    """Seconds of the rows that methods get."""
    refitting: float
    """As in `Plan`."""
    seconds_of_map: Callable[[int], float]
    """Seconds of a map of so many points."""


def plan_run(estimates: Mapping[str, Estimate], refused: Mapping[str, str], around: Circumstances) -> Plan:
    """Fit a run into a time.

    First the maps get fewer points, then the networks fewer epochs, all by the same share and none fewer than a floor;
    then the baseline that takes longest is left out, at last NMM-EM, until what is left fits, or only k-means and DCAN
    are left.

    Args:
        estimates: Of each method with the epochs that are meant, in their order.
        refused: Methods that do not suit the data, and why.
        around: What else there is.

    Returns:
        The plan, whose `seconds` are above the budget if nothing helps.
    """
    chosen = {name: estimate for name, estimate in estimates.items() if name not in refused}
    left_out = dict(refused)
    while True:
        plan = _plan(chosen, left_out, around)
        candidates = [name for name in chosen if name not in _STAY]
        if plan.seconds <= around.budget or not candidates:
            return plan
        longest = max(candidates, key=lambda name: (is_baseline(name), plan.estimates[name].seconds))
        estimate = plan.estimates[longest]
        epochs = f" with {estimate.epochs} epochs" if estimate.per_epoch else ""
        left_out[longest] = f"{in_words(estimate.seconds)}{epochs}, for which there is no time"
        del chosen[longest]


def _plan(chosen: Mapping[str, Estimate], left_out: Mapping[str, str], around: Circumstances) -> Plan:
    """The plan for these methods: the finest maps and the most epochs that fit, or the floors."""
    finest = min(around.n_samples, _MAP_POINTS[0])
    for points in (finest, *(coarser for coarser in _MAP_POINTS if coarser < finest)):
        plan = Plan(
            estimates=dict(chosen),
            map_points=max(10, points),
            preparation=_SESSION_SECONDS + around.preparation,
            reporting=len(chosen) * (_METHOD_SECONDS + around.seconds_of_map(points)),
            refitting=around.refitting,
            left_out=dict(left_out),
        )
        if plan.seconds <= around.budget or plan.reporting <= _MAP_SHARE * around.budget:
            break
    for share in _SHARES:
        shortened = {name: _shortened(name, estimate, share) for name, estimate in chosen.items()}
        plan = replace(plan, estimates=shortened)
        if plan.seconds <= around.budget:
            break
    return plan


def _shortened(name: str, estimate: Estimate, share: float) -> Estimate:
    if not estimate.per_epoch:
        return estimate
    floor = min(estimate.epochs, _FLOORS.get(name, 1))
    return estimate.with_epochs(max(floor, int(share * estimate.epochs)))


def in_words(seconds: float) -> str:
    """A time that is not known exactly: 4 s, 70 s, 4 minutes, 3 hours."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 10:
        return f"about {seconds:.0f} s"
    if seconds < 180:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 7200:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"
