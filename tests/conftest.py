"""What all tests share: small data, and the options of each method as the project's YAML has them, made small."""

import copy
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from kedro.config import OmegaConfigLoader
from sklearn.datasets import load_digits, make_blobs

from configuration import remember_configurations
from deep_clustering.methods import METHODS
from deep_clustering.settings import CONFIG_LOADER_ARGS
from drawing import spare_drawing
from repeated_work import spare_migrations, spare_repeated_work

remember_configurations()
spare_repeated_work()
settings.register_profile("project", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("project")
os.environ["DO_NOT_TRACK"] = "true"

CONF = Path(__file__).parents[1] / "conf"

# What makes a run short, wherever the YAML has such an option; everything else stays as configured.
SMALL = {
    "device": "cpu",
    "epochs": 2,
    "batch_size": 64,
    "record_every": 1,
    "start": {"kind": "none"},
    "restarts": 1,
    "queue_size": 600,
    "discriminator_hidden": [16],
    "encoder": {"kind": "conv", "channels": [4, 8], "hidden": [16]},
    "n_init": 1,
    "max_iterations": 20,
    "perplexity": 10.0,
    "decoder": [16],
    "projection": [8, 4],
    "discriminators": [8],
    "members": 2,
    "round_epochs": 1,
}
# The same for options that mean something else, or nothing, in other methods.
SMALL_OF = {
    "temi": {"n_neighbours": 5, "heads": 2, "hidden": 16, "bottleneck": 8},
    "turtle": {"heads": 2, "steps": 6},
    "n2d": {"max_rows": 80},
}
# Files that take longest: none of them is to be left to the end, when the other processes have nothing to do.
LONGEST = (
    "test_kills",
    "test_run",
    "test_resumption",
    "test_sweep",
    "test_trunks",
    "test_notebook",
    "test_mlflow_model",
    "test_viz",
)
VECTORS = {
    "views": {"kind": "noise", "scale": 0.1},
    "encoder": {"kind": "mlp", "hidden": [16]},
    "likelihood": "gaussian",
}


def pytest_runtest_setup() -> None:
    """Give the test one thread, and take all that is loaded by now out of the sight of the garbage collector.

    A command that repeats a run in this process leaves that run's number of threads behind, and sums of another number
    of threads have other last digits. Each node of a run ends with a full collection, which else walks every object of
    every library: more than half of the time of a small run.
    """
    spare_migrations()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, begin with the files that take longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow") or item.path.stem in LONGEST}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def parameters() -> dict[str, Any]:
    """Everything in conf/base/parameters*.yml, resolved as Kedro does."""
    return dict(
        OmegaConfigLoader(conf_source=str(CONF), **{**CONFIG_LOADER_ARGS, "default_run_env": "base"})["parameters"]
    )


@pytest.fixture(scope="session")
def tiny_options(parameters: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Function (method, rows, **changes) that gives small options of a method for "images" or "vectors"."""

    def make(method: str, rows: str = "images", **changes: Any) -> dict[str, Any]:
        options = copy.deepcopy(parameters[method])
        small = SMALL | (VECTORS if rows == "vectors" else {}) | SMALL_OF.get(method, {})
        options.update({key: copy.deepcopy(value) for key, value in small.items() if key in options})
        if "size" in options.get("views", {}):
            options["views"]["size"] = 8
        unknown = set(changes) - set(options)
        assert not unknown, f"{method} has no option {unknown}"
        return options | changes

    return make


@pytest.fixture(scope="session")
def method_names() -> list[str]:
    """Every key of METHODS."""
    return sorted(METHODS)


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """200 images (200, 1, 8, 8) in [0, 1], read-only."""
    images = (load_digits().images[:200, None] / 16).astype(np.float32)
    images.setflags(write=False)
    return images


@pytest.fixture(scope="session")
def digit_labels() -> np.ndarray:
    """Class of each of the digits, (200,) int64."""
    return load_digits().target[:200].astype(np.int64)


@pytest.fixture(scope="session")
def _blobs() -> tuple[np.ndarray, np.ndarray]:
    centres = 6 * np.eye(3, 5)  # far apart compared with the spread of 0.5
    features, labels = make_blobs([40, 40, 40], centers=centres, cluster_std=0.5, random_state=0)
    features = features.astype(np.float32)
    features.setflags(write=False)
    return features, labels.astype(np.int64)


@pytest.fixture(scope="session")
def blobs(_blobs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Three well separated groups of 40 vectors, (120, 5) float32, read-only."""
    return _blobs[0]


@pytest.fixture(scope="session")
def blob_labels(_blobs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Group of each blob, (120,) int64."""
    return _blobs[1]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine: this process is on one without room, workers are on the other."""
    pytest.importorskip("ray", reason="Ray is not installed, the extra 'ray'")
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        # Workers import what a test lets them do.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with pytest.MonkeyPatch.context() as uncounted:
            # Counting slows the start of Ray's own processes, and it gives up a node where that takes some seconds.
            uncounted.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
            cluster.add_node(num_cpus=os.cpu_count(), **small)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def plain_pages() -> Iterator[None]:
    """Pages and pictures without a drawing, for files about what is around them."""
    with pytest.MonkeyPatch.context() as patch:
        spare_drawing(patch)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a project with one finished run of k-means; not to be changed."""
    from command_line import kedro_run, params
    from pipelines.small_project import copy_project

    root = copy_project(tmp_path_factory.mktemp("finished") / "project")
    result = kedro_run(root, "--pipelines=kmeans", params())
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Root of a copy of it, to be broken."""
    return shutil.copytree(finished, tmp_path / "project")
