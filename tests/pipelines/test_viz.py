"""The static site of Kedro-Viz: built without a network, complete, its layers on, and nothing of the machine in it.

It opens on eight boxes that can be read, asks no other server, and shows no tour.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from browser import browsing, find_chromium
from deep_clustering.methods import METHODS
from deep_clustering.pipeline_registry import register_pipelines
from deep_clustering.pipelines.namespaces import COMPARED
from pipelines.small_project import ROOT, copy_project

pytest.importorskip("kedro_viz", reason="kedro-viz is not installed")

LAYERS = ["primary", "feature", "models", "model_output", "reporting"]
PIPELINES = register_pipelines()
NO_NETWORK = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")


def load_script(name):
    """A script of docs/hooks, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Project root and what `kedro viz build` printed."""
    root = copy_project(tmp_path_factory.mktemp("viz") / "project")
    shutil.copytree(ROOT / "src/deep_clustering", root / "src/deep_clustering")
    result = subprocess.run(
        [sys.executable, "-m", "kedro", "viz", "build"],
        cwd=root,
        env=os.environ | NO_NETWORK | {"DO_NOT_TRACK": "true", "PYTHONPATH": str(root / "src")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    load_script("graph_site").quiet(root / "build")
    return root, result.stdout + result.stderr


@pytest.fixture(scope="module")
def load(build):
    """Function that reads a file below build/api; they are JSON without an ending."""
    return lambda name: json.loads((build[0] / "build/api" / name).read_text())


def names_of(graph):
    return {node["id"]: node["name"] for node in graph["nodes"]}


def targets(graph, source):
    """Names of what the edges of a node lead to; a modular pipeline is its own name."""
    names = names_of(graph)
    return {
        names.get(edge["target"], edge["target"])
        for edge in graph["edges"]
        if names.get(edge["source"], edge["source"]) == source
    }


def sources(graph, target):
    names = names_of(graph)
    return {
        names.get(edge["source"], edge["source"])
        for edge in graph["edges"]
        if names.get(edge["target"], edge["target"]) == target
    }


def test_the_build_reports_no_trouble_with_the_graph(build):
    printed = build[1].lower()
    for word in ("circular", "cycle", "disabled", "interrupt", "error", "traceback"):
        assert word not in printed, build[1]


def test_every_registered_pipeline_can_be_chosen(load):
    main = load("main")
    assert [entry["id"] for entry in main["pipelines"]] == list(PIPELINES)
    assert main["selected_pipeline"] == "__default__"
    for name in PIPELINES:
        assert load(f"pipelines/{name}")["selected_pipeline"] == name


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_shows_its_nodes_and_data_sets(load, name):
    graph = load(f"pipelines/{name}")
    tasks = {node["full_name"] for node in graph["nodes"] if node["type"] == "task"}
    assert tasks == {node.name for node in PIPELINES[name].nodes}
    shown = {node["name"] for node in graph["nodes"] if node["type"] in ("data", "parameters")}
    assert shown == PIPELINES[name].datasets()


@pytest.mark.parametrize("name", ["__default__", *METHODS])
def test_layers_are_on_and_in_order(load, name):
    graph = load(f"pipelines/{name}")
    assert graph["layers"] == LAYERS
    for node in graph["nodes"]:
        if node["type"] == "data":
            assert node["layer"] in LAYERS, node["name"]


@pytest.mark.parametrize("method", METHODS)
def test_labels_reach_only_evaluation(load, method):
    graph = load(f"pipelines/{method}")
    assert sources(graph, "labels") == {"load_samples", "data"}
    assert targets(graph, "labels") == {"evaluation", f"score_{method}", f"project_{method}"}


@pytest.mark.parametrize("method", METHODS)
def test_a_collapsed_method_stands_between_features_and_evaluation(load, method):
    graph = load(f"pipelines/{method}")
    outputs = {f"{method}_{output}" for output in ("assignments", "representation", "history")}
    assert {"features", f"params:{method}"} <= sources(graph, method)
    assert "labels" not in sources(graph, method)
    shown = {f"{method}_{output}" for output in ("cluster_names", "assignments_csv", "assignments_parquet")}
    assert targets(graph, method) == {*outputs, *shown}
    for output in outputs:
        assert "evaluation" in targets(graph, output)


def test_the_collapsed_picture_has_at_most_eight_boxes(load):
    children = load("main")["modular_pipelines"]["__root__"]["children"]
    boxes = {child["id"] for child in children if child["type"] in ("modularPipeline", "task")}
    assert boxes == {"data", *COMPARED, "evaluation"}
    assert len(boxes) <= 8


def test_no_file_names_a_folder_of_the_machine(build):
    root = build[0]
    files = [path for path in (root / "build/api").rglob("*") if path.is_file()]
    assert files
    for file in files:
        text = file.read_text()
        for folder in (str(root), str(ROOT), sys.prefix, os.path.expanduser("~") + "/"):
            assert folder not in text, file.name


def test_what_is_quiet_already_stays_as_it_is(build):
    page = build[0] / "build/index.html"
    before = page.read_text()
    load_script("graph_site").quiet(build[0] / "build")
    assert page.read_text() == before


def test_a_page_of_an_unknown_version_is_refused(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text("<html><head></head></html>")
    with pytest.raises(ValueError, match="expected a module script, got none"):
        load_script("graph_site").quiet(tmp_path)


def test_a_page_that_still_asks_another_server_is_refused(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "index.html").write_text('<link href="//else.org/a.css"><script type="module" src="./a.js"></script>')
    with pytest.raises(ValueError, match="expected nothing from other servers, got 'href="):
        load_script("graph_site").quiet(tmp_path)


@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
def test_the_site_opens_on_its_collapsed_pipelines_without_a_tour_or_another_server(build, tmp_path):
    drawing = load_script("draw_graph")
    with browsing(tmp_path) as page, drawing.serving(build[0] / "build") as address:
        drawing.open_graph(page, address, 1280, 800)
        boxes = page.run("[...document.querySelectorAll('.pipeline-node')].map((node) => node.textContent).sort()")
        assert boxes == sorted(["data", *COMPARED, "evaluation"])
        assert not page.run("!!document.querySelector('[class*=feature-hints]')")
        assert [url for url in page.requests if not url.startswith((address, "data:", "blob:"))] == []
        assert page.complaints == []
