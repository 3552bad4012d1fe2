"""The files of a consensus: a table of rows for each, consensus.json and consensus.md, and lines of the leaderboard."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deep_clustering.atomic import atomic_file, write_text
from deep_clustering.reporting.text_tables import markdown, number
from deep_clustering.scores.consensus import Consensus
from deep_clustering.sweep.folder import FINISHED, read_json, write_json
from deep_clustering.sweep.leaderboard.consensus_groups import ConsensusRequest, Group, describe_group, find_groups
from deep_clustering.sweep.leaderboard.consensus_inputs import cell_of

logger = logging.getLogger(__name__)

_JSON, _MARKDOWN = "consensus.json", "consensus.md"


def write_consensus(request: ConsensusRequest) -> str:
    """Make the consensuses of a sweep and write them into its folder.

    Args:
        request: What was asked for.

    Returns:
        A Markdown table of them; consensus.md has their runs as well.

    Raises:
        ValueError: if something is wrong with the request or the folder; former files stay as they were.
    """
    summaries = []
    for group in find_groups(request):
        summary, consensus = describe_group(group, request)
        weights = "" if request.weights == "score" else f"-{request.weights}"
        file = Path(group.env) / "consensus" / f"{_file_name(group)}-{request.kind}{weights}.parquet"
        _write_rows(request.folder / file, consensus)
        summaries.append({**summary, "file": file.as_posix()})
        logger.info("%s: %s", group.title, _outcome(summary))
    write_json(request.folder / _JSON, {"consensus": summaries})
    write_text(request.folder / _MARKDOWN, to_markdown(summaries))
    return to_table(summaries)


def leaderboard_lines(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The consensuses of a sweep as lines of its leaderboard.

    Args:
        folder: The sweep's folder.
        records: Its cells.

    Returns:
        One line for each consensus in consensus.json; one that is not of all the finished runs is left out.
    """
    lines = []
    for summary in (read_json(folder / _JSON) or {}).get("consensus", []):
        method, variant = summary["method"], summary["variant"]
        of_method = {
            record["id"]
            for record in records
            if record["status"] == FINISHED
            and record["env"] == summary["env"]
            and (summary["across"] or (record["pipeline"], record["variant"]) == (method, variant))
        }
        if of_method != {run["id"] for run in summary["runs"]}:
            logger.warning("%s: %s is not of all runs by now: repeat kedro consensus", folder / _JSON, summary["name"])
            continue
        facts = {name: summary[name] for name in ("env", "variant", "data_set", "data_sha256", "protocol")}
        facts |= {"method": summary["name"], "seed": None, "status": FINISHED, "consensus_of": len(of_method)}
        lines.append({**facts, **summary["metrics"], **summary["cost"]})
    return lines


def to_markdown(summaries: Sequence[Mapping[str, Any]]) -> str:
    """One table of all consensuses, and one for each with its runs."""
    parts = [_HEAD, to_table(summaries)]
    for summary in summaries:
        heading = f"{summary['env']}: {summary['name']}" + (f", {summary['variant']}" if summary["variant"] else "")
        score = summary["label_free_score"] or "score"
        head = ["run", score, "weight", "NMI with the consensus", "ARI", "ACC"]
        parts += [f"\n## {heading}\n\n", markdown([head, *(_run_row(run) for run in summary["runs"])])]
    return "".join(parts)


def to_table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with a line for each consensus."""
    return markdown([["env", "method", *_COLUMNS], *(_summary_row(summary) for summary in summaries)])


_HEAD = """# Consensus of the runs

Runs weigh by their label-free score where there is one, or as the name of the consensus says. Agreement is the mean
share of the weight that puts a row where the consensus does. What the consensus adds is its ACC minus that of the run
which the label-free score would choose, and minus the mean of the runs. Behind the semicolon stands its spread over
subsets of half of the runs, drawn without replacement: the mean and in brackets the middle 95 %. That is no confidence
interval of the gain of all.

"""
_COLUMNS = ("ACC", "NMI", "ARI", "agreement", "over the label-free choice", "over the mean run")


def _summary_row(summary: Mapping[str, Any]) -> list[str]:
    name = summary["name"] + (f", {summary['variant']}" if summary["variant"] else "")
    scores = [number(summary["metrics"].get(metric)) for metric in ("acc", "nmi", "ari")]
    gain = summary["gain"] or {}
    gains = [_gain(gain.get(name), gain.get("subsets", {})) for name in ("over_choice", "over_mean")]
    return [summary["env"], name, *scores, number(summary["agreement"]), *gains]


def _run_row(run: Mapping[str, Any]) -> list[str]:
    values = (run["score"], run["weight"], run["nmi_with_consensus"], run["ari_with_consensus"], run["acc"])
    return [run["id"], *map(number, values)]


def _gain(gain: Mapping[str, Any] | None, subsets: Mapping[str, int]) -> str:
    if gain is None:
        return ""
    if gain["mean"] is None:
        return f"{gain['value']:+.3f}"
    spread = f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return f"{gain['value']:+.3f}; {subsets['drawn']} of {subsets['of']}: {spread}"


def _outcome(summary: Mapping[str, Any]) -> str:
    acc = summary["metrics"].get("acc")
    return f"{summary['name']}, agreement {summary['agreement']:.3f}" + ("" if acc is None else f", acc {acc:.3f}")


def _file_name(group: Group) -> str:
    if len(group.parts) > 1:
        return "all-methods"
    return cell_of({**group.records[0], "seed": None}).id


def _write_rows(path: Path, consensus: Consensus) -> None:
    """One line for each row: its cluster, the weight that agrees, and the largest mean posterior."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "cluster": consensus.assignments,
            "agreement": consensus.agreement,
            "probability": consensus.responsibilities.max(axis=1),
        }
    )
    with atomic_file(path) as file:
        table.to_parquet(file, engine="pyarrow", index=False)
