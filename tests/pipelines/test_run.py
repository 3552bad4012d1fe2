"""Every pipeline, run as Kedro runs it: outputs, versions, repeatability, what happens without labels."""

import re
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from deep_clustering.datasets import JSONDataset, NpzDataset, NumpyDataset
from deep_clustering.pipelines.namespaces import COMPARED
from drawing import spare_drawing
from pipelines.small_project import RUN, SMALL, copy_project, run, versions


def load_last(root, dataset, name):
    return dataset(filepath=str(versions(root, name)[-1])).load()


def own_rows(project):
    """Source of the vectors in rows.npy, without labels."""
    rest = {"labels": None, "key": None, "layout": "auto", "value_range": None}
    return {"kind": "arrays", "name": "mine", "samples": str(project / "rows.npy"), **rest}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[str], Path]:
    """Function: a method to the root of a project with one run of it, from raw data to report; not to be changed."""

    @cache
    def train(method: str) -> Path:
        root = copy_project(tmp_path_factory.mktemp(method) / "project")
        run(root, method)
        return root

    return train


@pytest.mark.parametrize("method", RUN)
def test_a_method_goes_from_raw_data_to_report(trained, method):
    project = trained(method)
    scores = load_last(project, JSONDataset, "scores.json")
    assert scores["method"] == method
    assert scores["n_samples"] == 200
    assert sum(scores["occupancy"]) == 200
    assert set(scores["metrics"]) >= {"acc", "nmi", "ari", "purity", "balance", "n_occupied"}
    assert 0 <= scores["metrics"]["acc"] <= scores["metrics"]["purity"] <= 1
    for picture in ("map.png", "clusters.png", "curves.png"):
        (path,) = [path for path in versions(project, picture) if method in path.parts][-1:]
        assert Image.open(path).format == "PNG"
    assignments = load_last(project, NumpyDataset, "assignments.npy")
    assert assignments.shape == (200,)
    assert assignments.dtype == np.int64
    page = versions(project, "report.html")[-1].read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert method in page


def test_all_methods_see_the_same_features_and_are_compared(project):
    run(project, "__default__")
    assert len(versions(project, "features.npy")) == 1
    table = pd.read_csv(versions(project, "comparison.csv")[-1])
    assert set(table["method"]) == set(COMPARED)
    assert len(versions(project, "scores.json")) == len(COMPARED)
    assert "silhouette" not in table  # each method has a space of its own
    assert table["silhouette_of_features"].notna().all()
    pages = {path.parents[2].name: path for path in versions(project, "report.html")}
    assert set(pages) == {*COMPARED, "comparison"}
    for name, page in pages.items():
        targets = [page.parent / link for link in re.findall(r'<a href="(\.\./[^"]*)"', page.read_text())]
        assert {target.resolve() for target in targets} == {path for other, path in pages.items() if other != name}


def test_a_run_without_a_name_compares_what_the_configuration_names(project):
    methods = project / "conf" / "digits" / "parameters.yml"
    methods.write_text("comparison:\n  methods: [kmeans, turtle]\n")
    to_table = ["evaluation.compare_methods"]
    run(project, "__default__", env="digits", to_nodes=to_table)
    assert set(pd.read_csv(versions(project, "comparison.csv")[-1])["method"]) == {"kmeans", "turtle"}
    run(project, "__default__", env="digits", to_nodes=to_table, comparison={"methods": ["ward", "kmeans"]})
    assert set(pd.read_csv(versions(project, "comparison.csv")[-1])["method"]) == {"kmeans", "ward"}
    with pytest.raises(click.ClickException, match="'dcan_scores' has no version"):
        run(project, "compare")  # of the next session: what the one before compared is not left over


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["kmeans", "turtel"], r"comparison: methods got 'turtel' \(did you mean 'turtle'\?\)"),
        (["kmeans", "kmeans"], "comparison: methods must name each once"),
        ([], r"comparison: 'methods' got \[\]"),
        ("kmeans", "comparison: 'methods' got 'kmeans'"),
    ],
)
def test_a_comparison_of_what_there_is_not_is_refused(project, methods, message):
    with pytest.raises(click.ClickException, match=message):
        run(project, "kmeans", comparison={"methods": methods})


@pytest.mark.parametrize("method", ["dcan", "neural_mixture"])
def test_one_seed_gives_the_same_assignments_twice_and_another_its_own(project, method):
    for seed in (0, 0, 1):
        run(project, method, to_nodes=[f"evaluation.score_{method}"], seed=seed)
    first, second, other = (np.load(path) for path in versions(project, "assignments.npy"))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    seeds = [JSONDataset(filepath=str(path)).load()["seed"] for path in versions(project, "scores.json")]
    assert seeds == [0, 0, 1]


def test_an_older_version_can_be_loaded(project):
    for n_clusters in (5, 6):
        run(project, "kmeans", to_nodes=["kmeans.fit"], n_clusters=n_clusters)
    old = versions(project, "model.safetensors")[0].parent.name
    run(project, "kmeans", load_versions={"kmeans.model": old}, nodes=["kmeans.assign"])
    assert np.load(versions(project, "assignments.npy")[-1]).max() == 4


def test_labels_are_optional(project):
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    np.save(project / "rows.npy", rows)
    source = own_rows(project)
    to_scores = ["evaluation.score_kmeans"]
    run(project, "kmeans", to_nodes=to_scores, ingestion={"n_rows": 0, "source": source}, n_clusters=3)
    scores = load_last(project, JSONDataset, "scores.json")
    assert scores["contingency"] is None
    assert not {"acc", "nmi", "ari", "purity"} & set(scores["metrics"])
    assert "silhouette" in scores["metrics"]
    assert "acc" not in scores["curves"]["snapshots"]


def test_a_collapse_is_logged_and_flagged(project, caplog):
    np.save(project / "rows.npy", np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32))
    deafening = {"views": {"kind": "noise", "scale": 1000.0}, "encoder": {"kind": "mlp", "hidden": [16]}}
    ingestion = {"n_rows": 0, "source": own_rows(project)}
    to_scores = ["evaluation.score_dcan"]
    run(project, "dcan", to_nodes=to_scores, ingestion=ingestion, n_clusters=2, dcan=SMALL["dcan"] | deafening)
    scores = load_last(project, JSONDataset, "scores.json")
    assert scores["collapsed"] is True
    assert "no more than by chance" in scores["warnings"][-1]
    assert any(r.levelname == "WARNING" and scores["warnings"][-1] in r.getMessage() for r in caplog.records)


def test_a_large_cluster_is_not_flagged(project):
    rows = np.repeat(np.float32([[0, 0], [9, 9]]), [180, 20], axis=0)
    rows += np.random.default_rng(0).normal(scale=1e-3, size=rows.shape).astype(np.float32)
    np.save(project / "rows.npy", rows)
    to_scores = ["evaluation.score_ward"]
    run(project, "ward", to_nodes=to_scores, ingestion={"n_rows": 0, "source": own_rows(project)}, n_clusters=2)
    scores = load_last(project, JSONDataset, "scores.json")
    assert sorted(scores["occupancy"]) == [20, 180]
    assert (scores["collapsed"], scores["warnings"]) == (False, [])


def test_a_range_of_numbers_of_clusters_goes_all_the_way(project):
    run(project, "neural_mixture", neural_mixture=SMALL["neural_mixture"] | {"n_clusters": {"min": 2, "max": 5}})
    scores = load_last(project, JSONDataset, "scores.json")
    selection = scores["selection"]
    assert selection["n_clusters"] == [2, 3, 4, 5]
    assert selection["suggested"] == scores["n_clusters"] == len(scores["occupancy"])
    assert selection["difference"] == selection["suggested"] - 10
    assert selection["interval"][0] <= selection["interval"][1]
    shares = np.array(selection["log_likelihood"]) / np.log(selection["n_clusters"])
    assert selection["n_clusters"][int(shares.argmax())] == selection["suggested"]
    assert {"oracle_gap", "candidate_acc_mean", "ece"} <= set(scores["metrics"])
    assert "Number of clusters</h2>" in versions(project, "report.html")[-1].read_text(encoding="utf-8")


def test_history_holds_diagnostics_of_every_epoch(trained):
    project = trained("dcan")
    history = load_last(project, NpzDataset, "history.npz")
    assert history["epoch"].tolist() == [1, 2]
    for name in ("loss_encoder", "loss_discriminator", "js_divergence", "discriminator_accuracy_positive"):
        assert history[name].shape == (2,)
        assert np.isfinite(history[name]).all()
    assert history["snapshot_epoch"].tolist() == [0, 2]
    assert history["snapshot_assignments"].shape == (2, 200)


@pytest.mark.parametrize("method", RUN)
def test_sparse_rows_go_all_the_way(project, method):
    rows = sparse.random(90, 40, density=0.2, format="csr", dtype=np.float32, random_state=0)
    sparse.save_npz(project / "rows.npz", rows)
    (project / "conf" / "mine").mkdir()
    shutil.copy(project / "conf" / "reuters10k" / "catalog.yml", project / "conf" / "mine")
    source = {"kind": "sparse_arrays", "samples": str(project / "rows.npz"), "labels": None, "vocabulary": None}
    vectors = {"encoder": {"kind": "mlp", "hidden": [16]}, "epochs": 1, "batch_size": 32}
    views = {"views": {"kind": "dropout", "rate": 0.5}}
    changes = {"dcan": vectors | views, "neural_mixture": vectors | views, "imsat": vectors, "vade": vectors}
    # what a page makes of sparse rows is the same for every method: one of each kind goes on to it
    to_nodes = None if method in ("dcan", "kmeans") else [f"evaluation.score_{method}"]
    run(
        project,
        method,
        env="mine",
        to_nodes=to_nodes,
        ingestion={"n_rows": 0, "source": {"name": "mine", **source}},
        features={"scaling": "none"},
        n_clusters=3,
        **({method: changes[method]} if method in changes else {}),
    )
    assert load_last(project, NumpyDataset, "assignments.npy").shape == (90,)


@pytest.mark.parametrize(("method", "n_rows"), [("dcan", 600), ("neural_mixture", 1000)])
def test_training_beats_the_untrained_start(project, method, n_rows):
    longer = {"epochs": 12, "record_every": 12, "restarts": 1}
    run(project, method, to_nodes=[f"evaluation.score_{method}"], ingestion={"n_rows": n_rows}, **{method: longer})
    acc = load_last(project, JSONDataset, "scores.json")["curves"]["snapshots"]["acc"]
    assert acc[-1] > acc[0] + 0.2, acc


def test_rows_that_are_only_assigned_are_scored_and_not_fitted(project):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), rng.integers(0, 10, 60).astype(np.uint8)
    root = project / "raw"
    root.mkdir()
    for part, lines in (("train", slice(0, 40)), ("t10k", slice(40, 60))):
        n = len(labels[lines])
        header = struct.pack(">IIII", 2051, n, 28, 28)
        (root / f"{part}-images-idx3-ubyte").write_bytes(header + images[lines].tobytes())
        (root / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, n) + labels[lines].tobytes())
    source = {"kind": "mnist", "root": str(root), "protocol": "train->test", "download": False}
    to_scores = ["evaluation.score_neural_mixture"]
    run(project, "neural_mixture", to_nodes=to_scores, ingestion={"n_rows": 0, "source": source}, n_clusters=3)
    scores = load_last(project, JSONDataset, "scores.json")
    assert scores["n_samples"] == 20
    assert sum(scores["occupancy"]) == 20
    assert load_last(project, NpzDataset, "history.npz")["snapshot_assignments"].shape[1] == 40
    assert load_last(project, NumpyDataset, "assignments.npy").shape == (60,)


def check_tables(project, method):
    """Both tables agree with the array and with each other; returns the one for people, as text."""
    assignments = load_last(project, NumpyDataset, "assignments.npy")
    table = pd.read_parquet(versions(project, "assignments.parquet")[-1])
    shown = pd.read_csv(versions(project, "assignments.csv")[-1], dtype=str, keep_default_na=False)
    assigned = table[table["skipped"] == ""]
    np.testing.assert_array_equal(assigned["cluster"].astype(np.int64), assignments)
    np.testing.assert_array_equal(assigned["row"].astype(np.int64), np.arange(len(assignments)))
    assert [int(cell) for cell in shown["cluster"] if cell] == assignments.tolist()
    assert [bool(why) for why in shown["skipped"]] == [cell == "" for cell in shown["cluster"]]
    names = load_last(project, JSONDataset, "cluster_names.json")
    assert len(set(names)) == len(names)
    assert assigned["cluster_name"].tolist() == [names[cluster] for cluster in assignments]
    assert assigned["probability"].between(0, 1).all()
    return shown


@pytest.mark.parametrize("method", RUN)
def test_every_method_leaves_tables_that_agree_with_its_array(trained, method):
    project = trained(method)
    shown = check_tables(project, method)
    representation = load_last(project, NpzDataset, "representation.npz")
    n_outliers = (shown["is_outlier"] == "True").sum()
    assert n_outliers == (2 if "log_density" in representation else 0)  # the quantile .01 of 200 rows


def test_images_that_cannot_be_read_are_in_the_tables(project, caplog):
    for number in range(12):
        pixels = np.full((8, 8), 255 * (number % 2), dtype=np.uint8)
        pixels[number % 8] = 99
        (project / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(project / f"images/{'=' if number == 3 else ''}{number:02}.png")
    (project / "images/05b.png").write_text("nothing")
    options = {"name": "mine", "path": str(project / "images"), "size": 8, "channels": 1, "fit": "crop"}
    source = {"kind": "image_folder", **options, "labels": "none", "on_error": "skip", "extensions": ["png"]}
    to_table = ["kmeans.tabulate"]
    run(project, "kmeans", to_nodes=to_table, ingestion={"n_rows": 0, "source": source}, n_clusters=2)
    shown = check_tables(project, "kmeans").set_index("id")
    assert len(shown) == 13
    assert shown.loc["05b.png", "skipped"] == "not an image, or of a kind that is not read"
    assert shown.loc["'=03.png", "cluster"] != shown.loc["04.png", "cluster"]
    assert set(shown["cluster_name"]) - {""} == set(load_last(project, JSONDataset, "cluster_names.json"))
    assert any("clusters: 0: " in record.getMessage() for record in caplog.records)


def test_empty_texts_are_in_the_tables_with_the_numbers_of_the_file(project):
    texts = ["", *["red apple pie", "blue whale sea"] * 10, "a", " "]  # "a" is no term
    pd.DataFrame({"text": texts, "of": "me"}).to_csv(project / "texts.csv", index=False)
    (project / "conf" / "mine").mkdir()
    shutil.copy(project / "conf" / "reuters10k" / "catalog.yml", project / "conf" / "mine")
    options = {"name": "mine", "path": str(project / "texts.csv"), "column": "text", "labels_column": None}
    source = {"kind": "text_table", **options, "encoding": "utf-8", "max_terms": 50, "on_empty": "skip"}
    run(
        project,
        "kmeans",
        env="mine",
        to_nodes=["kmeans.tabulate"],
        ingestion={"n_rows": 0, "source": source},
        features={"scaling": "none"},
        n_clusters=2,
    )
    shown = check_tables(project, "kmeans")
    assert shown["id"].tolist() == [str(number) for number in range(23)]
    assert [number for number, why in enumerate(shown["skipped"]) if why] == [0, 22]
    assert [number for number, text in enumerate(shown["is_outlier"]) if text == "True"] == [21]
    assert shown["probability"][21] == "0.5"
    names = load_last(project, JSONDataset, "cluster_names.json")
    assert {frozenset(name.split(", ")) for name in names} == {
        frozenset({"red", "apple", "pie"}),
        frozenset({"blue", "whale", "sea"}),
    }


def test_one_column_is_compared_by_all_methods(project):
    generator = np.random.default_rng(0)
    column = np.concatenate([generator.normal(place, 1, size=40) for place in (-20, 0, 20)])
    np.save(project / "rows.npy", column[:, None].astype(np.float32))
    networks = {"encoder": {"kind": "mlp", "hidden": [8]}, "views": {"kind": "noise", "scale": 0.1}}
    small = {name: SMALL[name] | networks for name in ("dcan", "neural_mixture")}
    small["dcan"] = small["dcan"] | {"start": {"kind": "tsne_gmm", "n_init": 2}}
    options = {"ingestion": {"n_rows": 0, "source": own_rows(project)}, "n_clusters": 3}
    with pytest.MonkeyPatch.context() as patch:
        spare_drawing(patch)
        run(project, "__default__", **options, **small)
    # what a page makes of one column is the same for every method
    run(project, "dcan", nodes=["evaluation.report_dcan"], **options, **small)
    recommendation = load_last(project, JSONDataset, "recommendation.json")
    assert set(recommendation["scores"]) == set(COMPARED)
    clusters = np.load(versions(project, "assignments.npy")[-1])
    assert clusters.shape == (120,)
    for name in ("kmeans", "gmm", "ward", "tsne_gmm"):
        (path,) = [path for path in versions(project, "assignments.npy") if name in path.parts]
        np.testing.assert_array_equal(np.load(path), np.repeat(np.load(path)[[0, 40, 80]], 40))
