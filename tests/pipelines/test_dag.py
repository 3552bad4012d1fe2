"""Rules of the graph: what may read labels, names, layers, and that configuration and code agree."""

import shutil
import subprocess
import sys
from dataclasses import fields
from graphlib import TopologicalSorter
from importlib import import_module

import pytest
from kedro.config import OmegaConfigLoader

from deep_clustering.methods import METHODS, make_method
from deep_clustering.pipeline_registry import register_pipelines
from deep_clustering.pipelines.namespaces import (
    COMPARED,
    HEADS_ON_TRUNK,
    NAMED_CONFIGURATIONS,
    SELF_LABELLED,
    STAGED,
)
from deep_clustering.settings import CONFIG_LOADER_ARGS
from pipelines.small_project import ROOT

PIPELINES = register_pipelines()
LAYERS = ["primary", "feature", "models", "model_output", "reporting"]


def load(kind: str, env: str = "base") -> dict:
    return OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)[kind]


def test_an_environment_may_change_one_option_of_a_preset(tmp_path):
    shutil.copytree(ROOT / "conf/base", tmp_path / "base")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/globals.yml").write_text("presets:\n  drawings:\n    size: 12\n")
    views, start = (load("parameters")["dcan"][name] for name in ("views", "start"))
    changed = OmegaConfigLoader(str(tmp_path), env="mine", **CONFIG_LOADER_ARGS)["parameters"]["dcan"]
    assert views["size"] != 12
    assert changed["views"] == views | {"size": 12}
    assert changed["start"] == start


def test_every_method_and_named_configuration_has_a_pipeline_and_nothing_else_does():
    others = {"__default__", "prepare", "compare", "predict", "two_stage"}
    assert set(PIPELINES) == {*METHODS, *NAMED_CONFIGURATIONS, *STAGED, *others}


def test_the_default_pipeline_has_the_methods_that_the_configuration_names():
    trained = {node.name.removesuffix(".fit") for node in PIPELINES["__default__"].nodes if node.name.endswith(".fit")}
    assert trained == set(load("parameters")["comparison"]["methods"]) == set(COMPARED)


@pytest.mark.parametrize("name", NAMED_CONFIGURATIONS)
def test_a_named_configuration_is_its_methods_pipeline_under_another_name(name):
    method = load("parameters")[name]["method"]
    renamed = {node.name.replace(method, name) for node in PIPELINES[method].nodes}
    assert {node.name for node in PIPELINES[name].nodes} == renamed


@pytest.mark.parametrize("name", ["__default__", *METHODS, *NAMED_CONFIGURATIONS, *STAGED, "two_stage"])
def test_nothing_behind_labels_trains_or_predicts(name):
    trained = PIPELINES[name].only_nodes_with_tags("train", "predict")
    behind = {node.name for node in PIPELINES[name].from_inputs("labels").nodes}
    assert trained.nodes
    assert behind.isdisjoint(node.name for node in trained.nodes)


@pytest.mark.parametrize("method", [*METHODS, *NAMED_CONFIGURATIONS, *STAGED])
def test_labels_reach_only_evaluation(method):
    readers = {node.name for node in PIPELINES[method].nodes if "labels" in node.inputs}
    assert readers == {f"evaluation.score_{method}", f"evaluation.project_{method}"}
    writers = {node.name for node in PIPELINES[method].nodes if "labels" in node.outputs}
    assert writers == {"data.load_samples"}


def test_the_recommendation_does_not_see_labels():
    behind = {node.name for node in PIPELINES["__default__"].from_inputs("labels").nodes}
    assert "evaluation.recommend" not in behind
    readers = {node.name for node in PIPELINES["__default__"].nodes if "labels" in node.inputs}
    scored = {f"evaluation.{what}_{name}" for name in COMPARED for what in ("score", "project")}
    assert readers == scored


@pytest.mark.parametrize("name", PIPELINES)
def test_nodes_are_named_by_us(name):
    for node in PIPELINES[name].nodes:
        assert node._name, f"{node} has a generated name"


@pytest.mark.parametrize("name", PIPELINES)
def test_the_collapsed_picture_has_at_most_eight_boxes(name):
    boxes = {node.namespace or node.name for node in PIPELINES[name].nodes}
    assert len(boxes) <= 8, boxes


def test_two_stages_go_from_a_trunk_over_heads_back_to_the_whole_network():
    pipeline = PIPELINES["two_stage"]
    assert {node.namespace for node in pipeline.nodes} == {
        "data",
        "trunk",
        *HEADS_ON_TRUNK,
        SELF_LABELLED,
        "evaluation",
    }
    reads = {node.name: set(node.inputs) for node in pipeline.nodes}
    for head in HEADS_ON_TRUNK:
        assert {"trunk_features", "trunk_neighbours"} <= reads[f"{head}.fit"]
        assert "features" not in reads[f"{head}.fit"]
        assert "trunk_preparation" in reads[f"{head}.bundle"]
        assert "trunk_neighbours_card" in reads[f"evaluation.report_{head}"]
    assert {"features", "self_labelled.certain_rows", "trunk_model"} <= reads["self_labelled.fit"]
    assert "preparation" in reads["self_labelled.bundle"]
    assert "neural_mixture_on_trunk_assignments" in reads["self_labelled.choose_certain"]


@pytest.mark.parametrize("name", PIPELINES)
def test_every_dataset_is_in_the_catalog(name):
    from kedro.io import DataCatalog

    catalog = DataCatalog.from_config(load("catalog"))
    for dataset in PIPELINES[name].datasets():
        if not dataset.startswith(("params:", "parameters")):
            assert dataset in catalog, dataset


def test_every_entry_is_versioned_and_has_a_layer():
    for name, entry in load("catalog").items():
        assert entry.get("versioned") is True, name
        assert entry["metadata"]["kedro-viz"]["layer"] in LAYERS, name


@pytest.mark.parametrize("pipeline", ["__default__", "two_stage"])
def test_layers_go_one_way(pipeline):
    from kedro.io import DataCatalog

    catalog = DataCatalog.from_config(load("catalog"))
    layer = {
        name: LAYERS.index(catalog.get(name).metadata["kedro-viz"]["layer"])
        for name in PIPELINES[pipeline].datasets()
        if not name.startswith("params:")
    }
    before = {name: set() for name in range(len(LAYERS))}
    for node in PIPELINES[pipeline].nodes:
        for source in node.inputs:
            for target in node.outputs:
                if source in layer and layer[source] != layer[target]:
                    before[layer[target]].add(layer[source])
    assert list(TopologicalSorter(before).static_order()) == list(range(len(LAYERS)))


@pytest.mark.parametrize("name", [*METHODS, *NAMED_CONFIGURATIONS, *STAGED])
def test_yaml_spells_out_exactly_the_fields(name):
    options = load("parameters")[name]
    module, _, cls = METHODS[options["method"]].partition(":")
    names = {field.name for field in fields(getattr(import_module(module), cls)) if field.init}
    assert set(options) == names | {"method"}


@pytest.mark.parametrize("env", sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir()))
def test_every_environment_builds_every_method(env):
    from deep_clustering.methods import make_method
    from deep_clustering.methods.trunk import make_trunk

    parameters = load("parameters", env)
    for name in (*METHODS, *NAMED_CONFIGURATIONS, *STAGED):
        make_method(parameters[name])
    make_trunk(parameters["trunk"])
    for name in ("encoder", "views"):
        assert parameters["self_labelled"][name] == parameters["trunk"][name]


def test_the_library_imports_no_framework_and_a_training_no_compiler():
    modules = ", ".join(sorted({place.partition(":")[0] for place in METHODS.values()}))
    code = f"""
import sys, {modules}
import torch
from deep_clustering.training.optimisers import make_optimiser
weights = torch.nn.Parameter(torch.ones(2))
optimiser = make_optimiser(torch.optim.Adam, [weights], 0.1, weights.device)
optimiser.zero_grad()
weights.sum().backward()
optimiser.step()
optimiser.load_state_dict(optimiser.state_dict())
sys.exit(','.join({{'kedro', 'mlflow', 'torch._dynamo'}} & set(sys.modules)) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_registry_imports_nothing_heavy():
    code = (
        "import sys, deep_clustering.pipeline_registry as r; r.register_pipelines();"
        "sys.exit(','.join({'torch', 'mlflow', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def merged(one, other):
    """A nested mapping with what another one says, key by key."""
    both = {name: merged(one[name], other[name]) for name in one if name in other and isinstance(one[name], dict)}
    return {**one, **other, **both}


@pytest.mark.parametrize("env", ["digits", "mnist", "cifar10", "cifar10_gpu", "cifar10_mobilenet", "fashion_mnist"])
def test_options_of_the_command_line_change_what_they_name_and_nothing_that_shares_its_preset(env):
    """OmegaConf merges options into the one block that all interpolations of a preset hand out, unless it is copied."""
    changes = {
        "dcan": {"views": {"size": 9}, "encoder": {"hidden": [7]}, "start": {"hold": 0.01}, "epochs": 3},
        "neural_mixture": {"views": {"size": 11}, "start": {"hold": 0.5}},
        "features": {"learned": {"views": {"crop": 0.3}}},
    }
    plain = OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)["parameters"]
    loader = OmegaConfigLoader(str(ROOT / "conf"), env=env, runtime_params=changes, **CONFIG_LOADER_ARGS)
    assert dict(loader["parameters"]) == merged(dict(plain), changes)


@pytest.mark.parametrize("env", ["digits", "mnist", "cifar10_lite2", "reuters10k"])
def test_starts_in_turn_need_no_more_than_their_name_and_restarts(env):
    changes = {"neural_mixture": {"start": {"kind": "in_turn"}, "restarts": 3}}
    loader = OmegaConfigLoader(str(ROOT / "conf"), env=env, runtime_params=changes, **CONFIG_LOADER_ARGS)
    model = make_method(loader["parameters"]["neural_mixture"])
    assert [changed["start"]["kind"] for changed in model.turns] == ["tsne_gmm", "overclustering", "dac"]
