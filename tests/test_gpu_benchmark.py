"""benchmarks/gpu.py, which runs where neither Kedro nor the project is installed: tried here at tiny sizes."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kedro.config import OmegaConfigLoader

from deep_clustering.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
FILE = ROOT / "benchmarks" / "gpu.py"
FORBIDDEN = ("kedro", "mlflow", "omegaconf", "matplotlib")


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("environment", ["digits", "mnist", "cifar10_gpu", "cifar10_mobilenet"])
@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
def test_its_options_are_those_of_kedro(gpu, environment, method):
    loader = OmegaConfigLoader(conf_source=str(ROOT / "conf"), env=environment, **CONFIG_LOADER_ARGS)
    assert gpu.options(environment, method) == loader["parameters"][method]


def test_changes_reach_nested_options(gpu):
    views = gpu.options("mnist", "neural_mixture")["views"]
    assert gpu.options("mnist", "neural_mixture", views={"size": 9})["views"] == views | {"size": 9}


def test_neighbour_accuracy_is_the_vote_of_the_nearest_rows(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "NEIGHBOURS", 3)
    angles = torch.tensor([0.0, 0.1, 0.2, 3.1, 3.2, 3.3, 0.05, 3.25])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels, is_test = np.array([0, 0, 1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 0, 0, 1, 1]).astype(bool)
    assert gpu.neighbour_accuracy(features, labels, is_test) == 0.5  # the second test row lies among ones


def test_all_sections_run_without_kedro(tmp_path):
    rng = np.random.default_rng(0)
    photos = {"images": rng.integers(0, 256, (200, 3, 32, 32)).astype(np.uint8), "labels": np.arange(200) % 10}
    np.savez(tmp_path / "photos.npz", **photos, is_test=np.arange(200) % 5 == 0)
    drawings = rng.integers(0, 256, (300, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "drawings.npz", images=drawings, labels=np.arange(300) % 10)
    given = f"--device cpu --small --cifar10 {tmp_path}/photos.npz --mnist {tmp_path}/drawings.npz --out {tmp_path}/all"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({FORBIDDEN!r})); sys.argv = ['gpu', *{given.split()!r}]\n"
        f"import runpy; runpy.run_path({str(FILE)!r}, run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=600)
    found = json.loads((tmp_path / "all").read_text())
    assert set(found) == {"parity", "peak", "steps", "mnist", "cifar10"}
    assert {line["method"] for line in found["parity"]} == {"neural_mixture", "dcan"}
    for line in found["parity"]:
        assert (line["same_on_cpu"], line["replays_as_steps"], line["waiting_steps_as_steps"]) == (1, 1, 1)
    assert len(found["steps"]) == 3
    assert all(line["eager_ms"] > 0 for line in found["steps"])
    assert len(found["mnist"]) == 4
    stages = {line.get("stage"): line for line in found["cifar10"]}
    assert {"learning", "learned", "neighbours"} < set(stages)
    clustered = [stages[name] for name in ("kmeans", "neural_mixture_on_trunk", "self_labelled")]
    assert all(math.isfinite(line["acc"]) for line in found["mnist"] + clustered)
