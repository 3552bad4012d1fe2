"""Mean and standard deviation over seeds of every method's scores, from the versions a project has saved.

    python benchmarks/collect_scores.py digits docs/results/digits.csv

reads data/08_reporting/digits/*/scores.json/*/scores.json, keeps the newest version of each (method, seed), writes one
line per run to the CSV and prints the table for the README.
"""

import sys
from pathlib import Path

import pandas as pd

from deep_clustering.datasets import JSONDataset

METRICS = ["acc", "nmi", "ari"]


def collect(folder: Path) -> pd.DataFrame:
    """One row per method and seed: the newest run of each.

    Args:
        folder: Reporting layer of one data set.

    Returns:
        Columns method, seed, data_sha256, version and the metrics.
    """
    rows: dict[tuple[str, object], dict[str, object]] = {}
    for path in sorted(folder.glob("*/scores.json/*/scores.json"), key=lambda path: path.parent.name):
        scores = JSONDataset(filepath=str(path)).load()
        rows[scores["method"], scores["seed"]] = {
            "method": scores["method"],
            "seed": scores["seed"],
            "data_sha256": scores["data_sha256"],
            "version": path.parent.name,
            **{name: scores["metrics"].get(name) for name in METRICS},
        }
    runs = pd.DataFrame(rows.values()).astype({"seed": "Int64"})  # a method without randomness has no seed
    return runs.sort_values(["method", "seed"]).reset_index(drop=True)


def as_markdown(runs: pd.DataFrame) -> str:
    """Table of mean and standard deviation, best ACC first.

    Args:
        runs: What `collect` returned.

    Returns:
        A Markdown table.
    """
    lines = ["| method | ACC | NMI | ARI | runs |", "|---|---|---|---|---|"]
    for method, group in sorted(runs.groupby("method"), key=lambda item: -item[1]["acc"].mean()):
        cells = [
            f"{group[name].mean():.3f}" + (f" ± {group[name].std():.3f}" if len(group) > 1 else "") for name in METRICS
        ]
        lines.append(f"| {method} | {' | '.join(cells)} | {len(group)} |")
    return "\n".join(lines)


def main(data_set: str, target: str) -> None:
    """Write the CSV and print the table."""
    runs = collect(Path("data/08_reporting") / data_set)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    runs.to_csv(target, index=False, float_format="%.6f")
    print(as_markdown(runs))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
