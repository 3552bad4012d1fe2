"""The files of a leaderboard: runs.csv, leaderboard.csv, leaderboard.md and leaderboard.html."""

from pathlib import Path

import pandas as pd

from deep_clustering.atomic import write_text
from deep_clustering.sweep.leaderboard.markdown import to_markdown
from deep_clustering.sweep.leaderboard.runs import collect_runs, write_runs
from deep_clustering.sweep.leaderboard.table import DEFAULT_BASELINE, make_leaderboard, notes


def write_files(folder: Path, baseline: str | None = None) -> tuple[pd.DataFrame, list[Path]]:
    """Write the leaderboard of a sweep into its folder.

    Args:
        folder: The sweep's folder.
        baseline: Method that the others are compared with; None for k-means if it is there.

    Returns:
        The leaderboard and the files.

    Raises:
        ValueError: if no cell has ended, or the baseline is not among the methods.
    """
    from deep_clustering.reporting.leaderboard import write_leaderboard

    runs = collect_runs(folder)
    table = make_leaderboard(runs, baseline)
    name = baseline or (DEFAULT_BASELINE if DEFAULT_BASELINE in set(runs["method"]) else None)
    page = write_leaderboard(table=table, runs=runs, baseline=name, notes=notes(runs))
    paths = [folder / file for file in ("runs.csv", "leaderboard.csv", "leaderboard.md", "leaderboard.html")]
    write_runs(runs, paths[0])
    write_runs(table, paths[1])
    write_text(paths[2], _document(table, name, notes(runs)))
    write_text(paths[3], page)
    return table, paths


def _document(table: pd.DataFrame, baseline: str | None, remarks: list[str]) -> str:
    compared = (
        f" The baseline is {baseline}; differences pair the runs of equal seeds, and p is by the exact sign-flip test "
        "of the pairs; where seeds differ, both are Welch's."
    )
    head = (
        "# Leaderboard\n\nMean ± standard deviation over seeds, with 95 % intervals of the mean (Student's t); fewer "
        "than five seeds have no interval but their values. A method without a seed is run once: its result is a "
        "constant."
    )
    text = head + (compared if baseline else "") + f"\n\n{to_markdown(table)}"
    return text + "".join(f"\n{remark}\n" for remark in remarks)
