"""`kedro new-data`: what it writes for each kind of data, what it shows, what it refuses, and that the result runs."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from kedro.config import OmegaConfigLoader
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from PIL import Image
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

from deep_clustering.cli import cli
from deep_clustering.data.feature_options import LEARNED, PATCHES
from deep_clustering.datasets import JSONDataset
from deep_clustering.methods import make_method
from deep_clustering.methods.trunk import Trunk
from deep_clustering.options import build
from deep_clustering.own_data import suggestions, trial
from deep_clustering.own_data.environments import Environment, check_name, write_environment
from deep_clustering.own_data.suggestions import feature_settings, term_settings
from deep_clustering.pipelines.namespaces import NAMESPACES
from deep_clustering.pipelines.parameters import option_schemas, wrong_options
from deep_clustering.settings import CONFIG_LOADER_ARGS
from forks import run_forked
from pipelines.small_project import copy_project, run, versions

N_ROWS = 24


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    root = copy_project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setattr("deep_clustering.own_data.estimates._STEPS_TIME", 0.01)
    return root


def new_data(*arguments: object, succeeds: bool = True) -> str:
    result = CliRunner().invoke(cli, ["new-data", *map(str, arguments)])
    assert (result.exit_code == 0) is succeeds, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def parameters(root: Path, env: str) -> dict:
    return OmegaConfigLoader(str(root / "conf"), env=env, **CONFIG_LOADER_ARGS)["parameters"]


def paint_folder(folder: Path, mode: str = "RGB") -> None:
    rng = np.random.default_rng(0)
    for index in range(N_ROWS):
        kind = folder / ("bright" if index % 2 else "dark")
        kind.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (20 + index, 30, 3)) + 150 * (index % 2)
        Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(kind / f"{index:02}.png")


def write_table(file: Path, n_rows: int = N_ROWS) -> None:
    kinds = (("goal match team player", "sport"), ("bank market price stock", "money"))
    lines = [f'"{kinds[index % 2][0]} number{index % 5}",{kinds[index % 2][1]}' for index in range(n_rows)]
    file.write_text("\n".join(["words,topic", *lines]) + "\n")


SMALL = {"epochs": 2, "batch_size": 16, "record_every": 1}


def assign(root: Path, env: str, method: str) -> np.ndarray:
    """Assignments of a method on an environment, with two epochs and the networks that were written."""
    bootstrap_project(root)
    changes = {"tracking": {"enabled": False}, method: SMALL}
    with KedroSession.create(project_path=root, env=env, runtime_params=changes) as session:
        session.run(pipeline_names=[method], to_nodes=[f"{method}.assign"])
    return np.load(versions(root, "assignments.npy")[-1])


# From data to clusters


def test_a_folder_of_images_becomes_an_environment_that_runs(project):
    paint_folder(project / "data/01_raw/pets")
    (project / "data/01_raw/pets/dark/empty.png").write_bytes(b"")
    (project / "data/01_raw/pets/list.txt").write_text("x")
    shown = new_data("pets", "--images", "data/01_raw/pets", "--labels", "folders")
    assert shown.splitlines()[-1] == "kedro run --env=pets"
    for seen in ("25 files", "bright/01.png", "1 of 25", "dark/empty.png (not an image)", "list.txt", "3 x 30 x 30"):
        assert seen in shown
    source = parameters(project, "pets")["ingestion"]["source"]
    assert source["path"] == "data/01_raw/pets"
    assert (source["channels"], source["size"], source["labels"]) == (3, [30, 30], "folders")
    run(project, "dcan", env="pets", ingestion={"n_rows": 0}, dcan=SMALL)
    scores = JSONDataset(filepath=str(versions(project, "scores.json")[-1])).load()
    assert (scores["data_set"], scores["n_samples"], scores["n_clusters"]) == ("pets", N_ROWS, 2)
    assert "acc" in scores["metrics"]


def test_an_array_becomes_an_environment_that_runs(project):
    rows = np.random.default_rng(0).normal(size=(N_ROWS, 6))
    np.savez("data.npz", vectors=rows, kinds=np.array(["a", "b", "c"]).repeat(8))
    shown = new_data("mine", "--array", "data.npz", "--key", "vectors", "--labels", "kinds")
    for seen in ("float64 24 x 6", "layout vectors", f"{rows.min():g} to {rows.max():g}", "3 classes", "neighbours"):
        assert seen in shown
    assignments = assign(project, "mine", "neural_mixture")
    assert assignments.shape == (N_ROWS,)
    assert assignments.max() < 3


@pytest.mark.parametrize(
    ("name", "n_rows", "are_corners", "is_tried"),
    [("line", 240, False, True), ("corners", 240, True, True), ("short_line", 180, False, False)],
)
def test_heads_get_waves_where_they_say_less_than_kmeans(project, monkeypatch, name, n_rows, are_corners, is_tried):
    """The middle ones of four groups in a line are what heads on the values cannot tell apart; of corners none is."""
    trials = []
    find = trial.search_neighbours
    monkeypatch.setattr(suggestions, "_MOST_PASSES", 60)
    monkeypatch.setattr(trial, "search_neighbours", lambda *given: trials.append(1) or find(*given))
    rng = np.random.default_rng(0)
    places = np.eye(4) if are_corners else np.arange(4)[:, None] * np.ones(4)
    rows = np.repeat(places, n_rows // 4, axis=0) + rng.normal(scale=0.15, size=(n_rows, 4))
    pd.DataFrame(rows, columns=list("abcd")).to_csv("points.csv", index=False)
    shown = new_data(name, "--array", "points.csv", "--n-clusters", "4")
    encoder = parameters(project, name)["neural_mixture"]["encoder"]
    assert (encoder["kind"] == "fourier") is ("waves" in shown) is (name == "line")
    assert bool(trials) is is_tried


def test_a_trial_that_fails_leaves_the_heads_as_they_are(project, monkeypatch, caplog):
    caplog.set_level("INFO")

    def make(options: dict) -> None:
        raise ValueError(f"{options['method']} takes no such rows")

    monkeypatch.setattr(trial, "make_method", make)
    pd.DataFrame(np.random.default_rng(0).normal(size=(220, 3)), columns=list("abc")).to_csv("points.csv", index=False)
    new_data("points", "--array", "points.csv", "--n-clusters", "3")
    assert parameters(project, "points")["neural_mixture"]["encoder"]["kind"] == "mlp"
    assert "kmeans cannot be tried on 220 rows, its options stay as they are: kmeans takes no such rows" in caplog.text


def test_a_table_of_texts_becomes_an_environment_that_runs(project):
    write_table(project / "notes.csv")
    shown = new_data("notes", "--text", "notes.csv", "--column", "words", "--n-clusters", "2")
    for seen in (
        "24 rows of 13 values",
        "goal",
        "0 rows without text",
        "none: not needed",
        "terms, as there are few texts",
        "catalog.yml",
    ):
        assert seen in shown
    assignments = assign(project, "notes", "dcan")
    assert assignments.shape == (N_ROWS,)
    assert assignments.max() < 2
    assert versions(project, "features.npz")


def test_texts_without_a_word_in_common_are_pointed_out(project):
    first, second = "\u65e5\u6708\u706b\u6c34\u6728", "\u91d1\u571f\u5929\u5730\u4eba"
    lines = [one + other for one in first for other in second]  # no spaces: each line is one word
    (project / "notes.csv").write_text("\n".join(["words", *lines, lines[0]]) + "\n", encoding="utf-8")
    shown = new_data("notes", "--text", "notes.csv", "--column", "words", "--n-clusters", "2")
    assert "runs of one to three characters" in shown
    write_table(project / "usual.csv")
    assert "attention" not in new_data("usual", "--text", "usual.csv", "--column", "words", "--n-clusters", "2")


@pytest.mark.parametrize("method", ["dcan", "neural_mixture"])
def test_many_texts_are_clustered_on_latent_semantic_analysis(project, method):
    rng = np.random.default_rng(0)
    words = [[f"word{number + 60 * kind}" for number in range(60)] for kind in (0, 1)]
    lines = [" ".join(rng.choice(words[index % 2], 8)) for index in range(240)]
    (project / "notes.csv").write_text("\n".join(["words", *lines]) + "\n")
    shown = new_data("notes", "--text", "notes.csv", "--column", "words", "--n-clusters", "2")
    assert "neighbours: a row and one of the 27 nearest" in shown
    written = parameters(project, "notes")
    assert (written["features"]["encoder"], written["features"]["postprocess"]) == ("lsa", "centre_l2")
    assert written["features"]["lsa"] == 60  # half of the 120 terms
    assert written["neighbours"]["k"] == 27
    assert written[method]["views"]["kind"] == "neighbours"
    assignments = assign(project, "notes", method)
    assert set(np.unique(assignments)) <= {0, 1}
    with np.load(versions(project, "features.npz")[-1]) as archive:
        np.testing.assert_allclose(np.linalg.norm(archive["dense"], axis=1), 1, rtol=1e-5)


def test_a_sparse_matrix_becomes_an_environment_that_keeps_it_sparse(project):
    matrix = sparse.random(N_ROWS, 40, 0.2, "csr", rng=np.random.default_rng(0))
    sparse.save_npz("counts.npz", matrix)
    np.save("labels.npy", np.arange(N_ROWS) % 4)
    shown = new_data("counts", "--array", "counts.npz", "--labels", "labels.npy")
    for seen in ("24 rows of 40 values, 8.0 of them not zero", "4 classes"):
        assert seen in shown
    assert parameters(project, "counts")["n_clusters"] == 4
    run(project, "prepare", env="counts", ingestion={"n_rows": 0})
    features = sparse.load_npz(versions(project, "features.npz")[-1])
    np.testing.assert_array_equal(features.toarray(), matrix.astype(np.float32).toarray())


@pytest.mark.parametrize("form", ["csr", "coo"])
def test_weighted_terms_are_clustered_on_latent_semantic_analysis_and_counts_are_pointed_out(project, form):
    counts = sparse.random(300, 80, 0.2, form, rng=np.random.default_rng(0), data_rvs=lambda n: 1 + np.arange(n) % 3)
    sparse.save_npz("counts.npz", counts)
    assert "all values are whole numbers; if they count terms, TF-IDF says more" in new_data(
        "counts", "--array", "counts.npz"
    )
    assert parameters(project, "counts")["features"]["encoder"] is None
    weighted = TfidfTransformer().fit_transform(counts)
    sparse.save_npz("weighted.npz", weighted.asformat(form))
    assert "latent semantic analysis, 40 directions" in new_data("weighted", "--array", "weighted.npz")
    run(project, "prepare", env="weighted", ingestion={"n_rows": 0})
    with np.load(versions(project, "features.npz")[-1]) as archive:
        assert archive["dense"].shape == (300, 40)
        np.testing.assert_allclose(np.linalg.norm(archive["dense"], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_all_methods_run_on_the_rows_of_a_new_environment(project, kind):
    """Those whose views, network and likelihood conf/base has for images; others have their own settings."""
    rows = np.random.default_rng(0).normal(size=(N_ROWS, 6)).astype(np.float32)
    settings = term_settings(N_ROWS, 2) if kind == "sparse" else feature_settings({}, N_ROWS, 2)
    environment = Environment(
        name="x",
        n_clusters=2,
        source={"kind": "digits"},
        settings=settings,
        is_sparse=kind == "sparse",
        methods=("kmeans",),
        map_points=50,
    )
    write_environment(environment, project / "conf", replace=False)
    features = sparse.csr_matrix(rows) if kind == "sparse" else rows
    neighbours = (np.arange(N_ROWS)[:, None] + [1, 2]) % N_ROWS
    written = parameters(project, "x")
    for name in ("dac", "lsdc", "vade", "dcgmm", "neural_mixture_literal"):
        options = written[name] | {"epochs": 1, "batch_size": 12, "restarts": 1}
        assert make_method(options).fit(features, neighbours).predict(features).shape == (N_ROWS,)
    trunk = build(Trunk, written["trunk"] | {"epochs": 1, "batch_size": 12}, "trunk")
    assert len(trunk.fit(features).embed(features)) == N_ROWS
    assert written["self_labelled"]["views"] == written["trunk"]["views"]


def test_one_command_compares_what_the_environment_names(project):
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(6 * place, 1, size=(40, 4)) for place in range(3)])
    np.savez("rows.npz", rows=rows, kinds=np.arange(3).repeat(40))
    shown = new_data("mine", "--array", "rows.npz", "--key", "rows", "--labels", "kinds")
    command = shown.splitlines()[-1]
    assert command == "kedro run --env=mine"
    written = parameters(project, "mine")
    assert {"kmeans", "dcan"} <= set(written["comparison"]["methods"])
    small = {"ingestion": {"n_rows": 0}, "dcan": SMALL, "neural_mixture": SMALL}
    run(project, "__default__", env="mine", to_nodes=["evaluation.compare_methods"], **small)
    scored = {path.parts[-4] for path in versions(project, "scores.json")}
    assert scored == set(written["comparison"]["methods"])
    table = pd.read_csv(versions(project, "comparison.csv")[-1])
    assert set(table["method"]) == scored


# What is written


@pytest.mark.parametrize(
    "kind", ["images", "drawings", "array", "grey_array", "drawn_array", "one_column", "text", "many_texts", "sparse"]
)
def test_what_is_written_passes_every_schema(project, kind):
    rng = np.random.default_rng(0)
    rows = {"array": rng.random((30, 5)), "grey_array": rng.random((30, 9, 9)), "one_column": rng.random((30, 1))}
    arguments = ["--array", "rows.npy"]
    drawn = ["--drawings"] if kind.startswith("draw") else []
    if kind in rows or kind == "drawn_array":
        np.save("rows.npy", rows["grey_array" if drawn else kind])
        arguments += drawn
    elif kind in ("images", "drawings"):
        paint_folder(project / "pets")
        arguments = ["--images", "pets", *drawn]
    elif kind == "sparse":
        sparse.save_npz("rows.npz", sparse.random(30, 40, 0.2, "csr", rng=rng))
        arguments = ["--array", "rows.npz"]
    else:
        write_table(project / "notes.csv", 300 if kind == "many_texts" else N_ROWS)
        arguments = ["--text", "notes.csv", "--column", "words"]
    new_data("written", *arguments, "--n-clusters", "2")
    written = parameters(project, "written")
    names = {*option_schemas(), *NAMESPACES} - {"predict"}  # which needs new rows
    assert wrong_options(names, written) == []


def test_the_time_is_said_for_each_method_and_in_all(project):
    np.save("rows.npy", np.random.default_rng(0).random((60, 5)))
    lines = dict(line.split(maxsplit=1) for line in new_data("mine", "--array", "rows.npy").splitlines() if line)
    for method in parameters(project, "mine")["comparison"]["methods"]:
        assert re.match(r"(about \d+|under 1) (s|minutes)", lines[method])
    assert re.match(r"about \d+ s on this machine$", lines["run"])


def test_a_short_time_leaves_methods_out_and_says_so(project):
    np.save("rows.npy", np.random.default_rng(0).random((60, 5)))
    shown = new_data("mine", "--array", "rows.npy", "--budget", "1s")
    assert "for which there is no time" in shown
    assert "the least that is worth a run, more than the 1 s of --budget" in shown
    written = (project / "conf/mine/parameters.yml").read_text()
    assert parameters(project, "mine")["comparison"]["methods"] == ["dcan", "kmeans"]
    assert "# left out: ward (" in written


def test_the_guess_of_clusters_is_no_more_than_the_rows_that_differ(project):
    np.save("rows.npy", np.tile(np.eye(3), (20, 1)))
    assert re.search(r"^clusters +3 \(a guess", new_data("mine", "--array", "rows.npy"), re.MULTILINE)


def test_a_tree_is_not_grown_of_more_rows_than_it_holds(project):
    np.save("rows.npy", np.random.default_rng(0).random((10_001, 2), dtype=np.float32))
    shown = new_data("mine", "--array", "rows.npy", "--budget", "2h")
    assert "left out: its tree holds 10000 rows, there are 10001" in shown
    assert "ward" not in parameters(project, "mine")["comparison"]["methods"]


def test_a_wild_cell_far_down_is_pointed_out_and_keeps_the_range_of_the_others(project):
    rows = np.random.default_rng(0).random((5000, 3))
    rows[4500, 1] = 1e9
    np.save("rows.npy", rows)
    assert "1e+09 in row 4500, column 1" in new_data("mine", "--array", "rows.npy")
    low, high = parameters(project, "mine")["ingestion"]["source"]["value_range"]
    assert 0 <= low < high <= 1


def test_a_table_of_numbers_is_an_array(project):
    rows = np.random.default_rng(0).random((N_ROWS, 3))
    pd.DataFrame(rows, columns=["width", "height", "weight"]).assign(kind=["a", "b"] * 12).to_csv(
        "rows.csv", index=False
    )
    shown = new_data("mine", "--array", "rows.csv", "--labels", "kind")
    for seen in ("width, height, weight", "24 rows of 3", "2 classes"):
        assert seen in shown
    assert parameters(project, "mine")["ingestion"]["source"]["samples"] == "rows.csv"


def customers(n_rows: int = N_ROWS) -> pd.DataFrame:
    rows = np.random.default_rng(0).random((n_rows, 2))
    ids = [f"{7 * number:04}" for number in range(n_rows)]
    return pd.DataFrame(rows, columns=["age", "income"]).assign(customer_id=ids, mail=[f"{i}@x.org" for i in ids])


def test_the_ids_of_a_table_go_from_its_column_to_the_tables_of_results(project):
    customers().to_csv("customers.csv", index=False)
    shown = new_data("mine", "--array", "customers.csv", "--n-clusters", "2")
    for seen in ("age, income", "customer_id (ids), mail (texts)", "column customer_id"):
        assert seen in shown
    assert parameters(project, "mine")["ingestion"]["source"]["id_column"] == "customer_id"
    run(project, "kmeans", env="mine", to_nodes=["kmeans.tabulate"], ingestion={"n_rows": 0})
    table = pd.read_csv(versions(project, "assignments.csv")[-1], dtype=str)
    assert table["id"].tolist() == customers()["customer_id"].tolist()


@pytest.mark.parametrize("kind", [["--array"], ["--column", "mail", "--text"]])
def test_the_column_of_ids_may_be_named_and_is_none_where_none_is_plain(project, kind):
    customers().drop(columns="customer_id").assign(who=range(N_ROWS)).to_csv("customers.csv", index=False)
    new_data("mine", *kind, "customers.csv", "--n-clusters", "2")
    assert parameters(project, "mine")["ingestion"]["source"]["id_column"] is None
    shown = new_data("mine", *kind, "customers.csv", "--n-clusters", "2", "--id-column", "who", "--force")
    assert "column who" in shown
    assert parameters(project, "mine")["ingestion"]["source"]["id_column"] == "who"
    said = new_data("other", *kind, "customers.csv", "--id-column", "wo", succeeds=False)
    assert "no column 'wo' (did you mean 'who'?)" in said


def test_the_ids_of_texts_are_found(project):
    customers().to_csv("customers.csv", index=False)
    new_data("mine", "--text", "customers.csv", "--column", "mail", "--n-clusters", "2")
    assert parameters(project, "mine")["ingestion"]["source"]["id_column"] == "customer_id"


def test_a_table_without_a_head_is_read_as_it_is_told(project):
    write_table(project / "notes.csv")
    lines = (project / "notes.csv").read_text().splitlines()[1:]
    (project / "bare.csv").write_text("\n".join(line.replace(",", "|") for line in lines) + "\n")
    shown = new_data(
        "bare", "--text", "bare.csv", "--column", "0", "--labels", "1", "--separator", "|", "--no-header",
        "--analyzer", "char",
    )  # fmt: skip
    for seen in (f"{N_ROWS} rows", "2 classes", "runs of one to three characters"):
        assert seen in shown
    source = parameters(project, "bare")["ingestion"]["source"]
    assert (source["separator"], source["header"], source["analyzer"]) == ("|", False, "char")


def test_what_was_found_of_a_table_is_written(project):
    (project / "notes.csv").write_text("words;topic\n" + "red apple;a\ngreen pear;b\n" * 12)
    new_data("found", "--text", "notes.csv", "--column", "words", "--n-clusters", "2")
    source = parameters(project, "found")["ingestion"]["source"]
    assert (source["separator"], source["header"], source["analyzer"]) == (";", True, "word")


def test_a_backbone_sees_photographs_with_neighbours_as_views(project):
    paint_folder(project / "pets")
    shown = new_data("seen", "--images", "pets", "--backbone", "resnet18", "--backbone-weights", "random")
    assert "once for the rows of resnet18, which are kept" in shown
    written = parameters(project, "seen")
    assert (written["features"]["backbone"], written["features"]["layer"]) == ("resnet18", "avgpool")
    assert written["features"]["postprocess"] == "centre_l2"
    assert written["dcan"]["views"]["kind"] == written["neural_mixture"]["views"]["kind"] == "neighbours"
    assert written["neighbours"]["k"] == 5


def test_drawings_are_seen_by_their_pixels_and_trainings_take_turns_with_starts(project):
    np.save("signs.npy", np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8))
    arguments = ("--array", "signs.npy", "--n-clusters", 3, "--drawings")
    lines = dict(line.split(maxsplit=1) for line in new_data("signs", *arguments).splitlines() if line)
    written = parameters(project, "signs")
    method = written["neural_mixture"]
    assert (written["features"]["backbone"], written["features"]["postprocess"]) == (None, "none")
    assert [start["kind"] for start in method["start"]["starts"]] == ["tsne_gmm", "overclustering", "dac"]
    assert (method["start"]["kind"], method["restarts"], method["epochs"]) == ("in_turn", 3, 40)
    assert (written["dcan"]["start"]["kind"], written["dcan"]["restarts"]) == ("in_turn", 2)
    assert {written[name]["views"]["size"] for name in ("neural_mixture", "dcan", "dac", "trunk")} == {20}
    assert lines["neural_mixture"].endswith("40 epochs")
    assert "fit 600 s" in (project / "conf/signs/parameters.yml").read_text()
    assignments = assign(project, "signs", "dcan")
    assert assignments.shape == (60,)


def test_weights_that_are_not_here_are_named(project, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    paint_folder(project / "pets")
    message = new_data("seen", "--images", "pets", "--backbone", "resnet18", succeeds=False)
    for part in ("https://download.pytorch.org/models/resnet18-", "data/01_raw/weights/resnet18.pth"):
        assert part in message
    (project / "damaged.pth").write_bytes(b"x")
    arguments = ("--images", "pets", "--backbone", "resnet18", "--backbone-weights", "damaged.pth")
    assert "expected named tensors" in new_data("seen", *arguments, succeeds=False)
    assert not (project / "conf/seen").exists()


def test_coloured_images_are_learned_from_and_grey_ones_have_patches(project):
    rng = np.random.default_rng(0)
    for name, shape in (("coloured", (N_ROWS, 3, 9, 9)), ("grey", (N_ROWS, 1, 9, 9))):
        np.save(f"{name}.npy", rng.integers(0, 256, shape, dtype=np.uint8))
        shown = new_data(name, "--array", f"{name}.npy")
        features = parameters(project, name)["features"]
        assert (features["backbone"], features["beside_gradients"]) == (
            LEARNED if name == "coloured" else PATCHES,
            True,
        )
        assert ("once for a network that learns from the images, which is kept" in shown) is (name == "coloured")


def test_grey_images_get_one_channel_and_a_folder_outside_its_whole_path(project, tmp_path):
    paint_folder(tmp_path / "scans", "L")
    shown = new_data("scans", "--images", tmp_path / "scans")
    source = parameters(project, "scans")["ingestion"]["source"]
    assert (source["channels"], source["labels"]) == (1, "none")
    assert parameters(project, "scans")["features"]["backbone"] == "patches"
    assert source["path"] == str(tmp_path / "scans")
    assert "--labels folders would score" in shown


def test_the_size_of_images_can_be_asked_for(project):
    paint_folder(project / "pets")
    new_data("pets", "--images", "pets", "--size", "12")
    changed = parameters(project, "pets")
    assert changed["ingestion"]["source"]["size"] == [12, 12]
    assert changed["dcan"]["views"] == {"kind": "neighbours"}


def test_images_of_one_colour_are_counted_and_images_that_are_all_alike_refused(project):
    paint_folder(project / "pets")
    for name in ("blank.png", "black.png"):
        Image.new("RGB", (20, 20), (90, 0, 30) if name == "blank.png" else 0).save(project / "pets" / name)
    assert f"2 of {N_ROWS + 2} images looked at show one colour and nothing else" in new_data(
        "pets", "--images", "pets"
    )
    for index in range(N_ROWS):
        (project / "same").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (90, 0, 30)).save(project / "same" / f"{index}.png")
    message = new_data("same", "--images", "same", succeeds=False)
    assert f"all {N_ROWS} images looked at" in message
    assert "are alike; expected images that differ" in message
    assert not (project / "conf/same").exists()


@pytest.mark.parametrize("kind", ["images", "array", "text"])
def test_more_clusters_than_different_rows_are_refused_and_not_guessed(project, kind):
    rng = np.random.default_rng(0)
    if kind == "images":
        (project / "rows").mkdir()
        for index, image in enumerate(np.tile(rng.integers(0, 255, (3, 16, 16, 3), dtype=np.uint8), (10, 1, 1, 1))):
            Image.fromarray(image).save(project / "rows" / f"{index}.png")
        given = ["--images", "rows"]
    elif kind == "array":
        np.save("rows.npy", np.tile(rng.normal(size=(3, 6)), (10, 1)))
        given = ["--array", "rows.npy"]
    else:
        Path("rows.csv").write_text("text\n" + "red apple\ngreen pear\nblue plum\n" * 10)
        given = ["--text", "rows.csv", "--column", "text"]
    message = new_data("few", *given, "--n-clusters", "4", succeeds=False)
    assert "--n-clusters must be 2 to 3, the number of different rows among 30, got 4" in message
    new_data("few", *given)
    assert parameters(project, "few")["dcan"]["n_clusters"] == 3


def test_small_grey_levels_of_an_array_get_their_range(project):
    images = np.random.default_rng(0).integers(0, 17, (N_ROWS, 8, 8), dtype=np.uint8)
    images[0, 0, 0] = 16
    np.save("images.npy", images)
    new_data("small", "--array", "images.npy")
    source = parameters(project, "small")["ingestion"]["source"]
    assert (source["layout"], source["value_range"]) == ("nhw", [0.0, 16.0])


def test_a_column_and_a_path_of_strange_names_survive_yaml(project):
    folder = project / 'a "b" ${oops} #1'
    folder.mkdir()
    (folder / "1e5.csv").write_text("1e5\nred apple\ngreen pear\n")
    new_data("strange", "--text", folder / "1e5.csv", "--column", "1e5")
    source = parameters(project, "strange")["ingestion"]["source"]
    assert source["path"] == 'a "b" ${oops} #1/1e5.csv'
    assert source["column"] == "1e5"


def test_what_looks_like_a_number_is_a_name(project):
    np.save("rows.npy", np.eye(5))
    new_data("007", "--array", "rows.npy")
    assert yaml.safe_load((project / "conf/007/globals.yml").read_text())["data_set"] == "007"
    assert parameters(project, "007")["ingestion"]["source"]["name"] == "007"


def test_an_environment_is_replaced_only_by_force_and_other_files_stay(project):
    write_table(project / "notes.csv")
    np.save("rows.npy", np.eye(5))
    new_data("mine", "--text", "notes.csv", "--column", "words")
    (project / "conf/mine/mlflow.yml").write_text("mine: 1\n")
    before = {path.name: path.read_text() for path in (project / "conf/mine").iterdir()}
    assert "conf/mine exists; choose another name, or replace it with --force" in new_data(
        "mine", "--array", "rows.npy", succeeds=False
    )
    assert {path.name: path.read_text() for path in (project / "conf/mine").iterdir()} == before
    new_data("mine", "--array", "rows.npy", "--force")
    # The catalog of sparse rows would not fit the array.
    assert sorted(path.name for path in (project / "conf/mine").iterdir()) == [
        "globals.yml",
        "mlflow.yml",
        "parameters.yml",
    ]
    assert (project / "conf/mine/mlflow.yml").read_text() == "mine: 1\n"


def test_a_write_that_fails_leaves_everything_as_it_was(project, monkeypatch):
    np.save("rows.npy", np.eye(5))
    new_data("mine", "--array", "rows.npy")
    before = sorted((path, path.is_file() and path.read_text()) for path in (project / "conf").rglob("*"))
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    for name in ("mine", "other"):
        assert "No space left" in new_data(name, "--array", "rows.npy", "--force", succeeds=False)
    assert sorted((path, path.is_file() and path.read_text()) for path in (project / "conf").rglob("*")) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below it."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def break_renames(monkeypatch, *broken: int) -> None:
    """Let renamings of folders fail, counted from 1."""
    rename, calls = Path.rename, itertools.count(1)

    def fail_sometimes(path, target):
        if next(calls) in broken:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_sometimes)


@pytest.mark.parametrize("broken", [1, 2])
def test_a_renaming_that_fails_leaves_everything_as_it_was(project, monkeypatch, broken):
    np.save("rows.npy", np.eye(5))
    new_data("mine", "--array", "rows.npy", "--n-clusters", "3")
    before = contents(project / "conf")
    with monkeypatch.context() as patch:
        break_renames(patch, broken)
        assert "Input/output error" in new_data("mine", "--array", "rows.npy", "--force", succeeds=False)
    assert contents(project / "conf") == before


def test_an_environment_that_cannot_be_put_back_is_named_and_comes_back_later(project, monkeypatch):
    np.save("rows.npy", np.eye(5))
    new_data("mine", "--array", "rows.npy", "--n-clusters", "3")
    before = contents(project / "conf/mine")
    with monkeypatch.context() as patch:
        break_renames(patch, 2, 3)
        message = new_data("mine", "--array", "rows.npy", "--force", succeeds=False)
    assert "it is in conf/.mine.replaced" in message
    assert contents(project / "conf/.mine.replaced") == before
    assert "conf/mine exists" in new_data("mine", "--array", "rows.npy", succeeds=False)
    assert contents(project / "conf/mine") == before
    assert not list((project / "conf").glob(".mine*"))


KILL_AT_RENAMING = """
import itertools, os, signal, sys
from pathlib import Path
from deep_clustering.cli import cli
from deep_clustering.own_data import estimates

estimates._STEPS_TIME = 0.01
rename, calls = Path.rename, itertools.count(1)

def die_sometimes(path, target):
    if next(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)

Path.rename = die_sometimes
cli(["new-data", "mine", "--array", "rows.npy", "--force", "--n-clusters", "4"])
"""


@pytest.mark.parametrize("moment", [1, 2])
def test_an_environment_survives_a_kill_while_it_is_replaced(project, moment):
    np.save("rows.npy", np.eye(5))
    new_data("mine", "--array", "rows.npy", "--n-clusters", "3")
    (project / "conf/mine/notes.txt").write_text("by hand")
    before = contents(project / "conf/mine")
    assert run_forked(KILL_AT_RENAMING, moment) == -9
    assert "conf/mine exists" in new_data("mine", "--array", "rows.npy", succeeds=False)
    assert contents(project / "conf/mine") == before
    new_data("mine", "--array", "rows.npy", "--force", "--n-clusters", "4")
    assert not list((project / "conf").glob(".mine*")), "nothing is left of the killed call"


def test_columns_of_different_scales_are_standardised(project):
    rows = np.random.default_rng(0).normal(size=(N_ROWS, 5))
    rows[:, 3] *= 1000
    np.save("rows.npy", rows)
    assert "column 3 varies most" in new_data("mixed", "--array", "rows.npy")
    changed = parameters(project, "mixed")
    assert changed["features"]["postprocess"] == "standardise"


def test_files_are_listed_in_the_order_they_are_read(tmp_path):
    environment = Environment(
        name="x",
        n_clusters=100,
        source={"kind": "digits"},
        settings=term_settings(10, 100),
        is_sparse=True,
        methods=("kmeans", "dcan"),
        map_points=50,
    )
    files = write_environment(environment, tmp_path, replace=False)
    assert [file.name for file in files] == ["globals.yml", "parameters.yml", "catalog.yml"]
    written = [yaml.safe_load(file.read_text()) for file in files]
    assert written[0] == {"data_set": "x", "n_clusters": 100, **term_settings(10, 100).others}
    assert written[1]["dcan"]["latent_dim"] == 64
    assert written[1]["comparison"] == {"methods": ["kmeans", "dcan"]}
    assert written[1]["reporting"] == {"map_points": 50}
    assert set(written[2]) == {"samples", "features"}


# What is refused


@pytest.mark.parametrize("name", ["base", "local", "Base", "", "a b", "../x", "-x", ".x", "a/b", "é", "x" * 65])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(ValueError, match=r"^new-data: "):
        check_name(name)


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True))
def test_letters_digits_and_lines_make_a_name(name):
    if name.lower() not in ("base", "local"):
        check_name(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --images, --array and --text, got none"),
        (["--images", ".", "--array", "x.npy"], "got --images and --array"),
        (["--text", "x.csv"], "--text needs --column, the name of the column of texts, or its number from 0"),
        (["--text", "x.csv", "--column", "a", "--id-column", "a"], "--id-column and --column both got 'a'"),
        (["--array", "x.csv", "--labels", "a", "--id-column", "a"], "--id-column and --labels both got 'a'"),
        (["--text", "x.csv", "--column", "a", "--labels", "a"], "--column and --labels both got 'a'"),
        (["--array", "x.npz", "--key", "a", "--weights", "a"], "--key and --weights both got 'a'"),
        (
            ["--array", "x.npy", "--key", "a"],
            "--key names an array of a .npz or a column of a table, got it with x.npy",
        ),
        (["--array", "x.npy", "--column", "c"], "--column belongs to --text"),
        (["--array", "eye.npy", "--id-column", "c"], "--id-column belongs to --text and to a table of --array"),
        (["--images", "conf", "--id-column", "c"], "--id-column belongs to --text and to a table of --array"),
        (["--array", "x.npy", "--no-header"], "--no-header belongs to --text"),
        (["--array", "x.npy", "--backbone", "resnet18"], "--backbone belongs to --images"),
        (["--images", "conf", "--backbone-weights", "x.pth"], "--backbone-weights needs --backbone"),
        (["--images", "conf", "--backbone", "resnet18", "--drawings"], "by their pixels, got it with --backbone"),
        (["--text", "notes.csv", "--column", "words", "--drawings"], "by their pixels, got it with --text"),
        (["--array", "eye.npy", "--drawings"], "--drawings needs images, got rows of shape (5,)"),
        (["--images", "conf", "--encoder", "lsa"], "--encoder belongs to --text"),
        (["--text", "notes.csv", "--column", "words", "--encoder", "onnx:nowhere"], "no such folder"),
        (["--text", "notes.csv", "--column", "words", "--analyzer", "chars"], "did you mean 'char'"),
        (["--array", "eye.npy", "--budget", "soon"], "--budget must be a time such as"),
        (["--images", ".", "--labels", "x.npy"], "must be folders or none"),
        (["--images", "nowhere"], "ingestion: no folder of images"),
        (["--images", "conf"], "no readable images"),
        (["--images", "notes.csv"], "notes.csv is one file; expected the folder"),
        (["--array", "eyes.npy"], "eye.npy'?"),
        (["--text", "notes.csv", "--column", "body"], "no header: --no-header --column 0, which has the longest cells"),
        (["--array", "nowhere.npy"], "no file of samples"),
        (["--array", "nan.npy"], "got NaN or infinity first in row 1"),
        (["--array", "one.npy"], "at least 2 rows, got 1"),
        (["--array", "none.npy"], "is empty, got shape (0, 3)"),
        (["--array", "eye.npy", "--n-clusters", "6"], "--n-clusters must be 2 to 5, got 6"),
        (["--array", "eye.npy", "--layout", "vector"], "did you mean 'vectors'"),
        (["--array", "eye.npy", "--labels", "one.npy"], "ingestion: "),
        (["--text", "notes.csv", "--column", "word"], "did you mean 'words'"),
    ],
)
def test_a_request_that_cannot_work_is_told_and_writes_nothing(project, arguments, message):
    np.save("eye.npy", np.eye(5))
    np.save("nan.npy", np.array([[1.0], [np.nan]], dtype=np.float32))
    np.save("one.npy", np.ones((1, 3)))
    np.save("none.npy", np.ones((0, 3)))
    write_table(project / "notes.csv")
    output = new_data("mine", *arguments, succeeds=False)
    assert output.startswith("Error: ")
    assert message in output
    assert "Traceback" not in output
    assert not (project / "conf/mine").exists()


def test_outside_a_project_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("eye.npy", np.eye(5))
    assert "run this in the project's root" in new_data("mine", "--array", "eye.npy", succeeds=False)
    assert [path.name for path in tmp_path.iterdir()] == ["eye.npy"]


def test_a_name_that_is_taken_is_told_before_the_data_is_looked_at(project):
    (project / "conf/mine").mkdir()
    output = new_data("mine", "--array", "nowhere.npy", succeeds=False)
    assert "conf/mine exists" in output


def test_values_that_are_all_the_same_are_refused(project):
    np.save("same.npy", np.full((30, 4), 2.5))
    assert "all values of same.npy are 2.5" in new_data("mine", "--array", "same.npy", succeeds=False)


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_rows_that_are_all_alike_are_refused_before_anything_is_written(project, kind):
    if kind == "csv":
        Path("rows.csv").write_text("a,b\n" + "1,2\n" * 30)
    else:
        sparse.save_npz("rows.npz", sparse.csr_matrix(np.tile([0.0, 2.0, 1.0], (30, 1))))
    message = new_data("mine", "--array", f"rows.{kind}", succeeds=False)
    assert "all 30 rows" in message
    assert "are alike; expected rows that differ" in message
    assert not (project / "conf/mine").exists()


def test_grey_images_without_an_edge_are_refused_with_what_takes_them(project):
    np.save("blank.npy", np.arange(0, 240, 10, dtype=np.uint8)[:, None, None])
    Path("blank").mkdir()
    for index in range(N_ROWS):
        Image.new("L", (9, 9), 10 * index).save(f"blank/{index}.png")
    for option, place in (("--array", "blank.npy"), ("--images", "blank")):
        message = new_data("mine", option, place, succeeds=False)
        assert f"all {N_ROWS} images looked at show one grey and nothing else; --drawings takes" in message
    new_data("mine", "--images", "blank", "--drawings", "--n-clusters", "2", "--budget", "1s")


def test_classes_by_folders_need_folders(project):
    Path("flat").mkdir()
    for index in range(4):
        Image.linear_gradient("L").rotate(90 * index).save(f"flat/{index}.png")
    message = new_data("mine", "--images", "flat", "--labels", "folders", succeeds=False)
    assert "--labels folders needs a sub-folder for each class" in message
    assert "flat is a folder; --array takes one file" in new_data("mine", "--array", "flat", succeeds=False)


def test_a_refusal_needs_no_torch(project):
    np.save("nan.npy", np.full((5, 2), np.nan))
    code = (
        "import sys; from deep_clustering.cli import cli;"
        "from click.testing import CliRunner;"
        "result = CliRunner().invoke(cli, ['new-data', 'mine', '--array', 'nan.npy']);"
        "sys.exit(','.join({'torch', 'mlflow', 'matplotlib'} & set(sys.modules)) or result.exit_code - 1)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
