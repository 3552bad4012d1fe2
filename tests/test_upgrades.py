"""What version 0.2.0 has left: a predictor, a checkpoint, a sweep and an environment, as that version wrote them.

`v0_2_0/` has them, of 100 digits: a DCAN of two epochs with networks of four units, and the clusters that it gave to
its rows; two cells of k-means; what `kedro new-data` made of 60 rows of five numbers. Only that version can make them:
they stay as they are, and what this version no longer reads must be refused by name. 38 kB.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from kedro.config import OmegaConfigLoader

from deep_clustering import __version__
from deep_clustering.inference.predictor import Assigner
from deep_clustering.inference.stored import read_predictor
from deep_clustering.pipelines.parameters import wrong_options
from deep_clustering.settings import CONFIG_LOADER_ARGS
from deep_clustering.sweep import leaderboard
from deep_clustering.sweep.folder import check_grid_of, read_records
from deep_clustering.sweep.grid import Grid
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

OLD = Path(__file__).parent / "v0_2_0"
CONF = Path(__file__).parents[1] / "conf"


def test_a_predictor_gives_the_clusters_that_its_version_gave(tmp_path):
    predictor, _ = read_predictor(tmp_path, str(OLD / "predictor.safetensors"))
    with np.load(OLD / "assigned.npz") as kept:
        np.testing.assert_array_equal(Assigner(predictor).assign(kept["samples"])["cluster"], kept["assignments"])


def test_a_checkpoint_is_refused_with_its_version_and_what_to_do(tmp_path):
    folder = tmp_path / "dcan" / "182eaadfe65d"
    folder.mkdir(parents=True)
    shutil.copy(OLD / "epoch-000002.safetensors", folder)
    found = Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(tmp_path)), "dcan")
    with pytest.raises(
        ValueError, match=rf"deep_clustering was '0\.2\.0', is '{__version__}'.*checkpoints\.resume=false"
    ):
        found.begin({"method": "dcan"})


def test_a_sweep_is_read_and_goes_on(tmp_path):
    folder = shutil.copytree(OLD / "sweep", tmp_path / "sweep")
    grid = Grid(
        envs=("digits",),
        pipelines=("kmeans",),
        seeds=(0, 1, 2),
        options={},
        params={"ingestion.n_rows": 100, "n_clusters": 3, "tracking.enabled": False},
    )
    assert check_grid_of(folder, grid)
    assert [record["status"] for record in read_records(folder)] == ["finished"] * 2
    table = leaderboard.make_leaderboard(leaderboard.read_runs(folder / "runs.csv"), None)
    acc = [record["metrics"]["acc"] for record in read_records(folder)]
    assert table["acc_mean"].tolist() == pytest.approx([np.mean(acc)])


def test_an_environment_is_read_as_it_is(tmp_path):
    conf = shutil.copytree(CONF, tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(OLD / "environment", conf / "mine")
    parameters = OmegaConfigLoader(str(conf), env="mine", **CONFIG_LOADER_ARGS)["parameters"]
    assert parameters["ingestion"]["source"]["name"] == "mine"
    assert wrong_options({"ingestion", "features", "neighbours", "dcan", "neural_mixture"}, parameters) == []
