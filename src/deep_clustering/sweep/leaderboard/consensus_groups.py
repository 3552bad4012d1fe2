"""The groups of a sweep's runs that have a consensus, and what is said of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge

from deep_clustering.methods import label_free_score
from deep_clustering.options import check_fields, closest
from deep_clustering.scores import metrics
from deep_clustering.scores.consensus import KINDS, Consensus, make_consensus
from deep_clustering.scores.validity import validity
from deep_clustering.sweep.folder import FINISHED, read_records
from deep_clustering.sweep.leaderboard.consensus_gain import WEIGHTS, Rule, Runs, find_gain, plain, weigh_runs
from deep_clustering.sweep.leaderboard.consensus_inputs import Truth, read_features, read_responsibilities, read_truth

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
    weights: str = "score"
    """What runs weigh by, one of `consensus_gain.WEIGHTS`."""
    across: bool = False
    """Whether there is a consensus of all methods of an environment, too."""
    resamples: Annotated[int, Ge(0)] = 200
    """Subsets of the runs that say how what the consensus adds depends on them; 0 for none."""

    def __post_init__(self) -> None:
        """Refuse options out of bounds."""
        check_fields(self)


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
        ValueError: if the folder holds no sweep or too few runs, the method, kind or weights are unknown, or the runs
            of a group are not of the same rows.
    """
    if request.kind not in KINDS:
        raise ValueError(f"--kind: unknown kind '{request.kind}' ({closest(request.kind, KINDS)})")
    if request.weights not in WEIGHTS:
        raise ValueError(f"--weights: unknown weights '{request.weights}' ({closest(request.weights, WEIGHTS)})")
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
        there = ", ".join(f"one of {pipeline} {variant}".strip() for _, pipeline, variant in parts) or "none"
        raise ValueError(
            f"{request.folder}: a consensus takes at least two finished runs of a method; there is {there}"
        )
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
        request: The kind of consensus and the number of subsets.

    Returns:
        summary: plain JSON values, see docs/consensus.md.
        consensus: with the cluster and agreement of every row.

    Raises:
        ValueError: if outputs are missing, or the runs have no consensus of this kind.
    """
    responsibilities = read_responsibilities(request.folder, group.records)
    rules = [_rule(part[0]) for part in group.parts]
    scores = [_scores(part, rule) for part, rule in zip(group.parts, rules, strict=True)]
    validities = _validities(group, request, responsibilities) if request.weights == "validity" else None
    try:
        weights = weigh_runs(request.weights, scores, rules, validities)
        consensus = make_consensus(responsibilities, weights, kind=request.kind)
    except ValueError as error:
        raise ValueError(f"{group.title}: {error}") from error
    truth = read_truth(request.folder, group.records[0], len(consensus.assignments))
    runs = Runs(
        responsibilities=responsibilities,
        scores=scores,
        rules=rules,
        truth=truth,
        kind=request.kind,
        weights=request.weights,
        validity=validities,
    )
    summary = {
        **_facts(group, request),
        "label_free_score": rules[0][0] if len(rules) == 1 and rules[0] else None,
        "n_samples": len(consensus.assignments),
        "n_clusters": consensus.responsibilities.shape[1],
        "n_turns": consensus.n_turns,
        "metrics": _metrics(consensus, truth),
        "agreement": plain(consensus.agreement.mean()),
        "undecided_share": plain((consensus.agreement <= 0.5).mean()),
        "cost": _cost(group.records),
        "runs": _runs(group, runs, consensus),
        "gain": find_gain(runs, request.resamples) if truth.is_labelled and request.resamples else None,
    }
    return summary, consensus


def _validities(group: Group, request: ConsensusRequest, responsibilities: Sequence[np.ndarray]) -> np.ndarray:
    """How compact and apart the clusters of each run are among the rows, shape (n_runs, 2)."""
    rows = read_features(request.folder, group.records[0])
    try:
        return np.array([validity(rows, run.argmax(axis=1)) for run in responsibilities])
    except ValueError as error:
        raise ValueError(f"{group.title}: {error}") from error


def _facts(group: Group, request: ConsensusRequest) -> dict[str, Any]:
    word = "consensus" if request.kind == "posteriors" else "co-association"
    weights = "" if request.weights == "score" else f", weights: {request.weights}"
    return {
        "name": f"{group.method} ({word} of {len(group.records)}{weights})",
        "env": group.env,
        "method": group.method,
        "variant": group.variant,
        "across": group.method == ACROSS,
        "kind": request.kind,
        "weights": request.weights,
        **{name: group.records[0][name] for name in ("data_set", "data_sha256", "protocol")},
    }


def _runs(group: Group, runs: Runs, consensus: Consensus) -> list[dict[str, Any]]:
    """Each run with its score and weight, and how stable it is."""
    lines = zip(group.records, np.concatenate(runs.scores), runs.accuracies, strict=True)
    return [
        {
            "id": record["id"],
            "seed": record["seed"],
            "score": None if np.isnan(score) else float(score),
            "weight": plain(consensus.weights[place]),
            "nmi_with_consensus": plain(consensus.nmi[place]),
            "ari_with_consensus": plain(consensus.ari[place]),
            "acc": None if np.isnan(acc) else float(acc),
        }
        for place, (record, score, acc) in enumerate(lines)
    ]


def _rule(record: Mapping[str, Any]) -> Rule:
    """Label-free score of a run's method, and which is better; a pipeline may be another setting of a method."""
    return label_free_score(record["parameters"][record["pipeline"]]["method"])


def _scores(records: Sequence[Record], rule: Rule) -> np.ndarray:
    known = [record["metrics"].get(rule[0]) if rule else None for record in records]
    return np.array([np.nan if value is None else value for value in known], dtype=np.float64)


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
