"""A sweep on a Ray cluster of two nodes of one processor each on this machine, against `--launcher=processes`.

    python benchmarks/launchers.py --cells 16 --pairs 3

The two take turns in folders of their own. Said is the time on the wall of each, but for the start of the cluster, and
whether all scores are the same. Nothing is tracked: a file of one machine cannot take cells of two nodes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 100 * 2**20}


def swept(launcher: str, address: str, chosen: argparse.Namespace, folder: Path) -> float:
    """Seconds that a sweep takes."""
    call = [sys.executable, "-m", "kedro", "sweep", "--envs=digits", f"--pipelines={chosen.pipeline}"]
    call += [f"--seeds=0-{chosen.cells - 1}", "--jobs=2", "--threads=1", f"--launcher={launcher}"]
    call += [f"--folder={folder}", f"--params={','.join(['tracking.enabled=false', *chosen.params])}"]
    began = time.perf_counter()
    subprocess.run(call, check=True, env={**os.environ, "RAY_ADDRESS": address}, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def scores(folder: Path) -> dict[str, dict]:
    """Those of each cell."""
    records = {file.parent.name: json.loads(file.read_text()) for file in folder.glob("digits/cells/*/cell.json")}
    return {cell: record["metrics"] for cell, record in records.items()}


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="kmeans")
    parser.add_argument("--params", nargs="*", default=[])
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **SMALL})
    cluster.add_node(num_cpus=1, **SMALL)
    ratios = []
    with tempfile.TemporaryDirectory() as root:
        for pair in range(chosen.pairs):
            folders = [Path(root) / f"{name}{pair}" for name in ("processes", "ray")]
            here, there = (swept(folder.name[:-1], cluster.address, chosen, folder) for folder in folders)
            equal = scores(folders[0]) == scores(folders[1]) and len(scores(folders[0])) == chosen.cells
            ratios.append(there / here)
            print(f"processes {here:.1f} s, Ray {there:.1f}, scores {'equal' if equal else 'DIFFERENT'}", flush=True)
    print(f"Ray / processes: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    cluster.shutdown()


if __name__ == "__main__":
    main()
