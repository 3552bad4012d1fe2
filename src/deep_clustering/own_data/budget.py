"""What fits a stated time: how many points the maps have, how long the networks train, which methods take part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from deep_clustering.own_data.estimates import Estimate

# Fewest epochs worth training, by method; of fewer that are suggested, these.
_FLOORS = {"dcan": 8, "neural_mixture": 20}
# Points of the maps of reports, the finest first.
_MAP_POINTS = (5000, 3000, 2000, 1000)
# Share of the time that maps and pages may take if something else is to be shortened for them.
_MAP_SHARE = 0.25
# Session, reading and writing of outputs; and nodes, scores and page of each method, without its map.
_SESSION_SECONDS, _METHOD_SECONDS = 8.0, 3.0
# Left out first to last where not even the fewest epochs fit; these two stay.
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
    left_out: dict[str, str] = field(default_factory=dict)
    """Methods that do not take part, and why."""

    @property
    def seconds(self) -> float:
        """All in all."""
        return self.preparation + self.reporting + sum(estimate.seconds for estimate in self.estimates.values())


def plan_run(
    estimates: Mapping[str, Estimate],
    refused: Mapping[str, str],
    preparation: float,
    seconds_of_map: Callable[[int], float],
    n_samples: int,
    budget: float,
) -> Plan:
    """Fit a run into a time.

    First the maps get fewer points, then the networks fewer epochs, all by the same share and none fewer than a floor;
    then the method that takes longest is left out, until what is left fits, or only k-means and DCAN are left.

    Args:
        estimates: Of each method with the epochs that are meant, in their order.
        refused: Methods that do not suit the data, and why.
        preparation: Seconds before the methods.
        seconds_of_map: Seconds of a map of so many points.
        n_samples: Number of rows.
        budget: Seconds that there are.

    Returns:
        The plan, whose `seconds` are above the budget if nothing helps.
    """
    chosen = {name: estimate for name, estimate in estimates.items() if name not in refused}
    left_out = dict(refused)
    while True:
        plan = _plan(chosen, left_out, preparation, seconds_of_map, n_samples, budget)
        candidates = [name for name in chosen if name not in _STAY]
        if plan.seconds <= budget or not candidates:
            return plan
        floored = plan.estimates
        longest = max(candidates, key=lambda name: floored[name].seconds)
        epochs = f" with {floored[longest].epochs} epochs" if floored[longest].per_epoch else ""
        left_out[longest] = f"about {in_words(floored[longest].seconds)}{epochs}, for which there is no time"
        del chosen[longest]


def _plan(
    chosen: Mapping[str, Estimate],
    left_out: Mapping[str, str],
    preparation: float,
    seconds_of_map: Callable[[int], float],
    n_samples: int,
    budget: float,
) -> Plan:
    """The plan for these methods: the finest maps and the most epochs that fit, or the floors."""
    preparation += _SESSION_SECONDS
    wanted = sum(estimate.seconds for estimate in chosen.values())
    useful = [points for points in _MAP_POINTS if points < n_samples]
    candidates = [min(n_samples, _MAP_POINTS[0]), *(points for points in useful if points < _MAP_POINTS[0])]
    for points in candidates:
        reporting = len(chosen) * (_METHOD_SECONDS + seconds_of_map(points))
        if preparation + reporting + wanted <= budget or reporting <= _MAP_SHARE * budget:
            break
    plan = Plan(
        estimates=dict(chosen),
        map_points=max(10, points),
        preparation=preparation,
        reporting=reporting,
        left_out=dict(left_out),
    )
    excess = plan.seconds - budget
    elastic = sum(estimate.epochs * estimate.per_epoch for estimate in chosen.values())
    if excess <= 0 or not elastic:
        return plan
    share = max(0.0, 1 - excess / elastic)
    shortened = {name: _shortened(name, estimate, share) for name, estimate in chosen.items()}
    return replace(plan, estimates=shortened)


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
        return f"{seconds:.0f} s"
    if seconds < 180:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"
