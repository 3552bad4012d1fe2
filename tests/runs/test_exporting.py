"""Clusters as folders: every row once, names that any file system takes, and nothing half done."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from command_line import error_of, kedro
from deep_clustering.datasets import JSONDataset
from deep_clustering.runs import cluster_folders
from pipelines.small_project import versions
from tracked_project import client_of, make_project, tracked_run, write_parameters

pytestmark = pytest.mark.usefixtures("plain_pages")

TABLE = pd.DataFrame(
    {
        "row": pd.array([0, None, 1, 2], dtype="Int64"),
        "id": ["a/x.png", "a/y.png", "b/x.png", "=z.png"],
        "cluster": pd.array([1, None, 0, 1], dtype="Int64"),
        "skipped": ["", "empty file", "", ""],
    }
)
NAMES = ["red, or: so", "猫"]


def tree(folder) -> dict[str, str]:
    """Content of each file below a folder but the table."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and path.name != "assignments.csv"
    }


@pytest.fixture
def files(tmp_path):
    (tmp_path / "source").mkdir()
    paths = {row: tmp_path / f"source/{row}" for row in range(3)}
    for row, path in paths.items():
        path.write_text(f"image {row}")
    return paths


def export(files, target, copy=False, write=None):
    write = write or cluster_folders.linker(files, target, copy=copy)
    return cluster_folders.write_files(target, TABLE, NAMES, write, lambda name: name.replace("/", "__"))


EXPECTED = {"00_red__or__so/b__x.png": "image 1", "01_猫/a__x.png": "image 0", "01_猫/z.png": "image 2"}


def test_each_image_is_linked_in_the_folder_of_its_cluster(tmp_path, files):
    export(files, tmp_path / "deep/out")
    assert tree(tmp_path / "deep/out") == EXPECTED
    assert (tmp_path / "deep/out/01_猫/a__x.png").is_symlink()
    shown = pd.read_csv(tmp_path / "deep/out/assignments.csv", keep_default_na=False, dtype=str)
    assert shown["id"].tolist() == ["a/x.png", "a/y.png", "b/x.png", "'=z.png"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_links_are_relative_and_move_with_what_they_lead_to(tmp_path, files):
    (tmp_path / "whole").mkdir()
    shutil.move(tmp_path / "source", tmp_path / "whole/source")
    moved = {row: tmp_path / "whole/source" / path.name for row, path in files.items()}
    export(moved, tmp_path / "whole/out")
    (tmp_path / "whole").rename(tmp_path / "elsewhere")
    assert tree(tmp_path / "elsewhere/out") == EXPECTED


def test_links_are_right_where_the_way_to_the_folder_is_a_link_itself(tmp_path, files):
    (tmp_path / "very/deep").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "very/deep")
    export(files, tmp_path / "short/out")
    assert tree(tmp_path / "very/deep/out") == EXPECTED


def test_copies_do_not_need_what_they_are_copies_of(tmp_path, files):
    export(files, tmp_path / "out", copy=True)
    shutil.rmtree(tmp_path / "source")
    assert tree(tmp_path / "out") == EXPECTED


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_system_without_links_gets_other_ones_or_copies(tmp_path, files, monkeypatch, hard_links):
    def refuse(*_, **__):
        raise OSError("no such links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    export(files, tmp_path / "out")
    assert tree(tmp_path / "out") == EXPECTED
    assert os.path.samefile(files[0], tmp_path / "out/01_猫/a__x.png") == hard_links


def test_an_empty_folder_is_filled_and_another_is_never_touched(tmp_path, files):
    (tmp_path / "out").mkdir()
    export(files, tmp_path / "out")
    with pytest.raises(FileExistsError, match="out is not empty; choose another folder"):
        export(files, tmp_path / "out")
    assert tree(tmp_path / "out") == EXPECTED
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        export(files, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


class Killed(BaseException):
    """A process that is no more, or Ctrl-C."""


@pytest.mark.parametrize("error", [Killed, OSError])
def test_what_breaks_off_leaves_nothing_that_looks_finished(tmp_path, files, error):
    def write(row, path):
        path.write_text("")
        if row == 1:
            raise error

    with pytest.raises(error):
        export(files, tmp_path / "out", write=write)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_a_killed_export_has_left_goes_with_the_next_but_young_ones_and_those_of_others_stay(tmp_path, files):
    names = [f".out.{letter * 32}.part" for letter in "ab"] + [f".other.{'a' * 32}.part"]
    for name in names:
        (tmp_path / name).mkdir()
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (0, 0))
    export(files, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out", *names[1:]}


@given(st.text(max_size=300))
def test_a_safe_name_is_one_that_every_file_system_takes(text):
    name = cluster_folders.safe_name(text)
    assert len(name.encode("utf-8", "surrogatepass")) <= 210
    assert not set(name) & set('/\\:*?"<>|\0\n\r\t')
    assert not name.startswith((".", " "))
    assert cluster_folders.folder_name(3, text, 10).startswith("03")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("red, apple", "red__apple"),
        ("नमस्ते, किताब", "नमस्ते__किताब"),
        ("../../etc/passwd", "etc_passwd"),
        ("con", "con_"),
        ("NUL.txt", "NUL_.txt"),
        ("機器.png", "機器.png"),
        ("a" * 300 + ".jpeg", "a" * 60 + ".jpeg"),
        (".hidden", "hidden"),
        ("", ""),
    ],
)
def test_safe_names(text, name):
    assert cluster_folders.safe_name(text) == name


@given(st.lists(st.sampled_from(["a.png", "A.png", "a_2.png", "a", "", "row"]), max_size=9))
def test_names_of_files_are_distinct_on_every_file_system(names):
    result = cluster_folders.distinct_names(iter(names))
    assert len({name.casefold() for name in result}) == len(names)
    assert all(result)
    assert [os.path.splitext(name)[1] for name in result] == [os.path.splitext(name)[1] for name in names]


@pytest.mark.parametrize("n_channels", [1, 3])
def test_arrays_of_images_become_pictures(tmp_path, n_channels):
    images = np.arange(2 * n_channels * 16, dtype=np.uint8).reshape(2, n_channels, 4, 4)
    cluster_folders.picture_writer(images, (0.0, 255.0))(1, tmp_path / "one")
    with Image.open(tmp_path / "one") as read:
        assert read.format == "PNG"
        pixels = np.asarray(read)
    np.testing.assert_array_equal(pixels if n_channels == 3 else pixels[..., None], images[1].transpose(1, 2, 0))


def test_a_range_of_values_is_stretched_to_black_and_white(tmp_path):
    images = np.array([[[[0, 8], [16, 16]]]], dtype=np.uint8)
    cluster_folders.picture_writer(images, (0.0, 16.0))(0, tmp_path / "one")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "one")), [[0, 128], [255, 255]])


def test_vectors_become_a_table_for_each_cluster(tmp_path):
    samples = np.float32([[0.5, 1], [2, 3], [4, 5]])
    cluster_folders.write_tables(tmp_path / "out", TABLE, NAMES, samples, [])
    first, second = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("00_red__or__so", "01_猫"))
    assert first[["id", "x0", "x1"]].values.tolist() == [["b/x.png", 2, 3]]
    assert second[["id", "x0", "x1"]].values.tolist() == [["a/x.png", 0.5, 1], ["'=z.png", 4, 5]]


def test_columns_of_a_table_keep_their_names_but_for_formulas(tmp_path):
    samples = np.float32([[0.5, 1], [2, 3], [4, 5]])
    cluster_folders.write_tables(tmp_path / "out", TABLE, NAMES, samples, [], ["width", "=height"])
    first = pd.read_csv(tmp_path / "out/00_red__or__so.csv")
    assert first[["id", "width", "'=height"]].values.tolist() == [["b/x.png", 2, 3]]


def test_sparse_rows_show_their_strongest_terms(tmp_path):
    samples = sparse.csr_matrix(np.float32([[0, 1, 2], [3, 0, 0], [0, 0, 0]]))
    cluster_folders.write_tables(tmp_path / "out", TABLE, NAMES, samples, ["a", "b", "=c"])
    assert pd.read_csv(tmp_path / "out/01_猫.csv", keep_default_na=False)["terms"].tolist() == ["'=c, b", ""]


# The command


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


def output(root, *words):
    result = kedro(root, "export-clusters", *words)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_of_images_in_an_array_is_exported(project):
    run = tracked_run(project, "--pipelines=kmeans")
    said = output(project, run.run_id[:8], "--to", "out")
    assert "out: 200 rows in 10 clusters" in said
    shown = pd.read_csv(project / "out/assignments.csv")
    for cluster, members in shown.groupby("cluster"):
        (folder,) = (project / "out").glob(f"{cluster:02}_*")
        assert sorted(int(path.stem) for path in folder.iterdir()) == sorted(members["id"])
    message = error_of(kedro(project, "export-clusters", "--to", "out"))
    assert "is not empty" in message


def test_images_of_a_folder_are_linked_and_what_is_gone_is_said(project):
    for number in range(8):
        (project / "images/deep").mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 200 * (number % 2), dtype=np.uint8)
        pixels[number] = 99
        Image.fromarray(pixels).save(project / f"images/deep/{number}.png")
    (project / "images/broken.png").touch()
    write_parameters(
        project,
        """\
ingestion:
  n_rows: 0
  source: {kind: image_folder, name: mine, path: images, size: 8, channels: 1, fit: crop, labels: none,
           on_error: skip, extensions: [png]}
kmeans: {n_init: 2, n_clusters: 2}
tracking: {log_model: false}
""",
    )
    run = tracked_run(project, "--pipelines=kmeans")
    assert run.status == "FINISHED"
    said = output(project, "latest", "--to", str(project / "out"))
    assert "8 rows in 2 clusters; 1 that were skipped are in assignments.csv only" in said
    links = list((project / "out").glob("*/*"))
    assert sorted(path.name for path in links) == [f"deep__{number}.png" for number in range(8)]
    assert all(path.is_symlink() and path.resolve().parent == project / "images/deep" for path in links)
    assert {len(list(folder.iterdir())) for folder in (project / "out").iterdir() if folder.is_dir()} == {4}
    message = error_of(kedro(project, "export-clusters", "--to", "copies", "--env", "digit"))
    assert "no tracked run in environment 'digit' (did you mean 'digits'?) has clusters" in message
    output(project, "--to", "copies", "--copy", "--env", run.data_set)
    assert not any(path.is_symlink() for path in (project / "copies").rglob("*"))
    (project / "images/deep/3.png").unlink()
    message = error_of(kedro(project, "export-clusters", "--to", "third"))
    assert "1 of 8 images are no longer below" in message
    assert "the first is deep/3.png" in message
    assert not (project / "third").exists()


def test_texts_become_files_and_several_methods_need_a_choice(project):
    texts = [f"{colour} {noun} no {number}\r\nline" for number in range(6) for colour, noun in
             (("red", "apple"), ("blue", "whale"))]  # fmt: skip
    pd.DataFrame({"text": texts, "key": [f"k{number}/a" for number in range(12)]}).to_csv(project / "t.csv")
    shutil.copy(project / "conf/reuters10k/catalog.yml", project / "conf/local")
    write_parameters(
        project,
        """\
ingestion:
  n_rows: 0
  source: {kind: text_table, name: mine, path: t.csv, column: text, labels_column: null, encoding: utf-8,
           max_terms: 50, on_empty: skip, id_column: key}
features: {scaling: none}
comparison: {methods: [kmeans, ward]}
kmeans: {n_init: 2, n_clusters: 2}
ward: {n_clusters: 2}
tracking: {log_model: false}
""",
    )
    run = tracked_run(project)
    assert run.status == "FINISHED"
    recommended = JSONDataset(filepath=str(versions(project, "recommendation.json")[-1])).load()["method"]
    assert f"exporting {recommended} of run {run.run_id[:8]}" in output(project, "--to", "best")
    tracked_run(project, "--pipelines=kmeans,ward")
    message = error_of(kedro(project, "export-clusters", "--to", "out"))
    assert message.endswith("choose by --method: kmeans, ward")
    message = error_of(kedro(project, "export-clusters", "--to", "out", "--method", "wart"))
    assert "has no 'wart' (did you mean 'ward'?)" in message
    output(project, "--to", "out", "--method", "ward")
    written = {path.name: path.read_bytes().decode() for path in (project / "out").glob("*/*.txt")}
    assert written == {f"k{number}_a.txt": text for number, text in enumerate(texts)}
    assert sum("whale" in folder.name for folder in (project / "out").iterdir()) == 1


def test_without_a_run_there_is_nothing_to_export(project):
    assert "no tracked run has clusters" in error_of(kedro(project, "export-clusters", "--to", "out"))
    assert "there is no run 'abcdef0'" in error_of(kedro(project, "export-clusters", "abcdef0", "--to", "out"))
    run = tracked_run(project, "--pipelines=prepare")
    message = error_of(kedro(project, "export-clusters", run.run_id, "--to", "out"))
    assert "has left no table of clusters" in message


def test_cells_of_sweeps_are_passed_over_and_say_that_they_write_no_tables(project):
    whole = tracked_run(project, "--pipelines=kmeans")
    cell = tracked_run(project, "--pipelines=kmeans")
    client_of(project).set_tag(cell.run_id, "mlflow.parentRunId", "0" * 32)
    for table in project.glob(f"data/07_model_output/**/assignments.parquet/{cell.save_version}"):
        shutil.rmtree(table)
    assert f"of run {whole.run_id[:8]}" in output(project, "--to", "out")
    message = error_of(kedro(project, "export-clusters", cell.run_id, "--to", "other"))
    assert "is a cell of a sweep, and these write no tables of clusters" in message
    assert "`kedro run" in message
