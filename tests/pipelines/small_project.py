"""A copy of the project in a temporary folder: the real configuration and code, its own data and tracking store."""

import shutil
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[2]

# Methods of which each is run from raw data to report. Of those that share a base class one is enough: what tells them
# apart is in the library, and tested there; the graph is the same.
RUN = ("dcan", "neural_mixture", "temi", "turtle", "imsat", "vade", "kmeans", "gmm", "ward", "tsne_gmm")

NETWORK = {"batch_size": 64, "encoder": {"kind": "conv", "channels": [4, 8], "hidden": [16]}}
# Small enough for a second or two per method, on the real embedded data.
SMALL = {
    "ingestion": {"n_rows": 200},
    "dcan": {
        "epochs": 2,
        "batch_size": 64,
        "encoder": {"kind": "conv", "channels": [4, 8], "hidden": [16]},
        "restarts": 1,
    },
    "neural_mixture": {
        "epochs": 2,
        "batch_size": 64,
        "encoder": {"kind": "conv", "channels": [4, 8], "hidden": [16]},
        "start": {"kind": "none"},
        "restarts": 1,
    },
    "temi": {"epochs": 2, "batch_size": 64, "n_neighbours": 5, "heads": 2, "hidden": 16, "bottleneck": 8},
    "turtle": {"steps": 4, "batch_size": 64},
    "vade": {"epochs": 2, "decoder": [16], **NETWORK},
    "imsat": {"epochs": 2, **NETWORK},
    "kmeans": {"n_init": 2},
    "reporting": {"map_points": 50},
    "tracking": {"enabled": False},
}


def copy_project(root: Path) -> Path:
    """Make the root of a fresh project without any data."""
    (root / "src").mkdir(parents=True)
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, root)
    # `mine` is what tests call new data, and so may whoever tried the command here
    shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("mine"))
    return root


def run(root: Path, pipeline: str, env=None, load_versions=None, nodes=None, to_nodes=None, **params: Any):
    """Run a pipeline, or some of its nodes, or what leads to some of them, in this process with the small options."""
    bootstrap_project(root)
    merged = {**SMALL, **params}
    with KedroSession.create(project_path=root, env=env, runtime_params=merged) as session:
        return session.run(pipeline_names=[pipeline], load_versions=load_versions, node_names=nodes, to_nodes=to_nodes)


def versions(root: Path, name: str) -> list[Path]:
    """Saved versions of a file below data/, oldest first."""
    return sorted(path for path in (root / "data").glob(f"**/{name}/*/{name}"))
