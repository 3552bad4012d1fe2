"""The consensus of a sweep's runs: what they say together, and what that adds to the run one would choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deep_clustering.methods import label_free_score
from deep_clustering.options import closest
from deep_clustering.scores import metrics
from deep_clustering.scores.consensus import KINDS, Consensus, combine, make_consensus, weigh
from deep_clustering.sweep.folder import FINISHED, read_records
from deep_clustering.sweep.leaderboard.consensus_inputs import Truth, read_responsibilities, read_truth
from deep_clustering.sweep.leaderboard.statistics import CONFIDENCE

ACROSS = "all methods"

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ConsensusRequest:
    """The options of `kedro consensus`."""

    folder: Path
    """The sweep's folder."""
    method: str | None = None
    """Only this method; None for all."""
    kind: str = "posteriors"
    """How runs are combined, one of `KINDS`."""
    across: bool = False
    """Whether there is a consensus of all methods of an environment, too."""
    resamples: int = 200
    """Resamplings of the runs that say what the consensus adds; 0 for none."""


class Group(NamedTuple):
    """The runs of one consensus, in one or, across methods, several parts whose scores do not compare."""

    env: str
    method: str
    variant: str
    parts: list[list[Record]]

    @property
    def records(self) -> list[Record]:
        """All runs."""
        return [record for part in self.parts for record in part]

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.env}/{self.method}" + (f" ({self.variant})" if self.variant else "")


def find_groups(request: ConsensusRequest) -> list[Group]:
    """The consensuses that a sweep's finished runs permit.

    Args:
        request: What was asked for.

    Returns:
        One group for each environment, method and variant with at least two runs, and across methods if asked for.

    Raises:
        ValueError: if the folder holds no sweep or too few runs, the method or kind is unknown, or the runs of a
            group are not of the same rows.
    """
    if request.kind not in KINDS:
        raise ValueError(f"--kind: unknown kind '{request.kind}' ({closest(request.kind, KINDS)})")
    if not (request.folder / "sweep.json").is_file():
        raise ValueError(f"{request.folder}: expected the folder of a sweep, but there is no sweep.json")
    finished = [record for record in read_records(request.folder) if record["status"] == FINISHED]
    methods = {record["pipeline"] for record in finished}
    if request.method is not None and request.method not in methods:
        raise ValueError(f"--method: no finished run of '{request.method}' ({closest(request.method, methods)})")
    parts: dict[tuple[str, str, str], list[Record]] = {}
    for record in finished:
        if request.method in (None, record["pipeline"]):
            parts.setdefault((record["env"], record["pipeline"], record["variant"]), []).append(record)
    groups = [Group(*key, [part]) for key, part in parts.items()]
    if request.across:
        for env in dict.fromkeys(key[0] for key in parts):
            of_env = [part for key, part in parts.items() if key[0] == env]
            groups += [Group(env, ACROSS, "", of_env)] if len(of_env) > 1 else []
    groups = [group for group in groups if len(group.records) >= 2]
    if not groups:
        raise ValueError(f"{request.folder}: a consensus takes at least two finished runs of a method; there are none")
    for group in groups:
        _refuse_other_rows(group)
    return groups


def _refuse_other_rows(group: Group) -> None:
    first = group.records[0]
    for record in group.records[1:]:
        if record["data_sha256"] != first["data_sha256"]:
            raise ValueError(
                f"{group.title}: the runs {first['id']} and {record['id']} are not of the same rows (sha256 "
                f"{first['data_sha256'][:12]} and {record['data_sha256'][:12]}), so they have no consensus"
            )


def describe_group(group: Group, request: ConsensusRequest) -> tuple[dict[str, Any], Consensus]:
    """Make the consensus of a group and score it.

    Labels reach only the scores: the consensus is made before they are read.

    Args:
        group: The runs.
        request: The kind of consensus and the number of resamplings.

    Returns:
        summary: plain JSON values, see docs/consensus.md.
        consensus: with the cluster and agreement of every row.

    Raises:
        ValueError: if outputs are missing, or the runs have no consensus of this kind.
    """
    responsibilities = read_responsibilities(request.folder, group.records)
    rules = [_rule(part[0]) for part in group.parts]
    scores = [_scores(part, rule) for part, rule in zip(group.parts, rules, strict=True)]
    try:
        consensus = make_consensus(responsibilities, _weights(scores, rules), kind=request.kind)
    except ValueError as error:
        raise ValueError(f"{group.title}: {error}") from error
    truth = read_truth(request.folder, group.records[0], len(consensus.assignments))
    accuracies = [truth.accuracy(run.argmax(axis=1), run.shape[1]) for run in responsibilities]
    word = "consensus" if request.kind == "posteriors" else "co-association"
    summary = {
        "name": f"{group.method} ({word} of {len(responsibilities)})",
        "env": group.env,
        "method": group.method,
        "variant": group.variant,
        "across": group.method == ACROSS,
        "kind": request.kind,
        "label_free_score": rules[0][0] if len(rules) == 1 and rules[0] else None,
        **{name: group.records[0][name] for name in ("data_set", "data_sha256", "protocol")},
        "n_samples": len(consensus.assignments),
        "n_clusters": consensus.responsibilities.shape[1],
        "n_turns": consensus.n_turns,
        "metrics": _metrics(consensus, truth),
        "agreement": _plain(consensus.agreement.mean()),
        "undecided_share": _plain((consensus.agreement <= 0.5).mean()),
        "cost": _cost(group.records),
        "runs": [
            {
                "id": record["id"],
                "seed": record["seed"],
                "score": None if np.isnan(score) else float(score),
                "weight": _plain(consensus.weights[place]),
                "nmi_with_consensus": _plain(consensus.nmi[place]),
                "ari_with_consensus": _plain(consensus.ari[place]),
                "acc": accuracies[place],
            }
            for place, (record, score) in enumerate(zip(group.records, np.concatenate(scores), strict=True))
        ],
        "gain": None,
    }
    if truth.is_labelled and request.resamples:
        summary["gain"] = resample_gain(responsibilities, scores, rules, truth, request.kind, request.resamples)
    return summary, consensus


def resample_gain(
    responsibilities: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    rules: Sequence[tuple[str, str] | None],
    truth: Truth,
    kind: str,
    n_resamples: int,
) -> dict[str, Any]:
    """What the consensus adds in accuracy, with its uncertainty over the draw of the runs (bootstrap).

    As many runs are drawn with replacement as there are, within each part; a run that is drawn twice counts twice.

    Args:
        responsibilities: Of every run, part after part.
        scores: Label-free scores of each part, NaN for unknown.
        rules: For each part name of its score and which is better; None without any.
        truth: The labels.
        kind: One of `KINDS`.
        n_resamples: Number of resamplings.

    Returns:
        "n_resamples"; "over_mean" (consensus minus the runs' mean accuracy, what a blind draw would get) and, of one
        method with a label-free score, "over_choice" (minus that of the run of the best score), each with "value" on
        the runs themselves, "mean", "low" and "high" (95 %) over the resamplings.
    """
    accuracies = np.array([truth.accuracy(run.argmax(axis=1), run.shape[1]) for run in responsibilities], dtype=float)
    has_choice = len(rules) == 1 and rules[0] is not None and not np.isnan(scores[0]).all()

    def gains(drawn: Sequence[np.ndarray]) -> tuple[float, ...]:
        parts = [part[rows] for part, rows in zip(scores, drawn, strict=True)]
        starts = np.cumsum([0, *map(len, scores)])[:-1]
        places = np.concatenate([start + rows for start, rows in zip(starts, drawn, strict=True)])
        weights = np.bincount(places, weights=_weights(parts, rules), minlength=len(accuracies))
        used = np.flatnonzero(weights)
        mean, _ = combine([responsibilities[int(place)] for place in used], weights[used], kind=kind)
        acc = truth.accuracy(mean.argmax(axis=1), mean.shape[1])
        assert acc is not None  # of labelled rows
        blind = [accuracies[start + rows].mean() for start, rows in zip(starts, drawn, strict=True)]
        over_mean = acc - float(np.mean(blind))
        return (over_mean, acc - accuracies[places[_best(parts[0], rules[0])]]) if has_choice else (over_mean,)

    rng = np.random.default_rng(0)
    sizes = [len(part) for part in scores]
    observed = gains([np.arange(size) for size in sizes])
    resampled = np.array([gains([rng.integers(size, size=size) for size in sizes]) for _ in range(n_resamples)])
    tails = 50 * (1 - CONFIDENCE), 100 - 50 * (1 - CONFIDENCE)
    result: dict[str, Any] = {"n_resamples": n_resamples}
    for name, value, column in zip(("over_mean", "over_choice"), observed, resampled.T, strict=False):
        low, high = np.percentile(column, tails)
        result[name] = {"value": _plain(value), "mean": _plain(column.mean()), "low": _plain(low), "high": _plain(high)}
    return result


def _rule(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Label-free score of a run's method, and which is better; a pipeline may be another setting of a method."""
    return label_free_score(record["parameters"][record["pipeline"]]["method"])


def _scores(records: Sequence[Record], rule: tuple[str, str] | None) -> np.ndarray:
    known = [record["metrics"].get(rule[0]) if rule else None for record in records]
    return np.array([np.nan if value is None else value for value in known], dtype=np.float64)


def _weights(scores: Sequence[np.ndarray], rules: Sequence[tuple[str, str] | None]) -> np.ndarray:
    """Within a part by the score; every part counts the same, since scores of different methods do not compare."""
    parts = [weigh(part, rule[1] if rule else "max") for part, rule in zip(scores, rules, strict=True)]
    return np.concatenate(parts) / len(parts)


def _best(scores: np.ndarray, rule: tuple[str, str] | None) -> int:
    return int(np.nanargmax(scores) if rule is None or rule[1] == "max" else np.nanargmin(scores))


def _metrics(consensus: Consensus, truth: Truth) -> dict[str, float]:
    n_clusters = consensus.responsibilities.shape[1]
    counts = metrics.occupancy(consensus.assignments[truth.is_assigned], n_clusters)
    return truth.scores(consensus.assignments, n_clusters) | metrics.occupancy_scores(counts)


def _cost(records: Sequence[Record]) -> dict[str, float]:
    """What all runs took together: times add up, the peak of memory is that of the largest."""
    known = [record.get("cost", {}) for record in records]
    total = {name: [cost[name] for cost in known if name in cost] for name in ("wall_seconds", "cpu_seconds")}
    peaks = [cost["peak_memory_mb"] for cost in known if "peak_memory_mb" in cost]
    return {name: sum(values) for name, values in total.items() if values} | (
        {"peak_memory_mb": max(peaks)} if peaks else {}
    )


def _plain(value: float) -> float:
    return round(float(value), 6) + 0.0  # no -0.0
