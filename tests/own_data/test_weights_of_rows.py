"""`kedro new-data --weights`: from the command to the rows that are fitted."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deep_clustering.cli import cli
from pipelines.small_project import copy_project, run, versions

N_ROWS = 24


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = copy_project(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def new_data(*arguments, succeeds=True):
    result = CliRunner().invoke(cli, ["new-data", *map(str, arguments)])
    assert (result.exit_code == 0) is succeeds, result.output
    return result.output


def test_weights_of_a_table_reach_the_rows_that_are_fitted(project):
    lines = [f"word{row % 3} thing number{row},{row % 4}" for row in range(N_ROWS)]
    (project / "texts.csv").write_text("\n".join(["text,w", *lines]))
    new_data("mine", "--text", "texts.csv", "--column", "text", "--weights", "w", "--n-clusters", 2)
    run(project, "kmeans", env="mine", nodes=["data.load_samples"], ingestion={"n_rows": 0})
    weights = np.load(versions(project, "row_weights.npy")[-1])
    np.testing.assert_array_equal(weights, np.arange(N_ROWS) % 4)
    split = np.load(versions(project, "split.npy")[-1])
    np.testing.assert_array_equal(split, np.where(weights > 0, 3, 2))


def test_weights_of_arrays_are_a_file_and_those_of_images_are_refused(project):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(N_ROWS, 3)))
    np.save("w.npy", np.ones(N_ROWS))
    new_data("mine", "--array", "rows.npy", "--weights", "w.npy", "--n-clusters", 2)
    written = (project / "conf" / "mine" / "parameters.yml").read_text()
    assert [line for line in written.splitlines() if "weights:" in line and line.rstrip("\"'").endswith("w.npy")]
    (project / "pictures").mkdir()
    for index in range(N_ROWS):
        Image.new("RGB", (20, 20), (10 * index, 0, 0)).save(project / "pictures" / f"{index:02}.png")
    said = new_data("other", "--images", "pictures", "--weights", "w.npy", succeeds=False)
    assert "--weights belongs to --text and to a dense --array" in said


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (-np.ones(N_ROWS), "w.npy: row 0 has weight -1.0; expected a number of at least 0"),
        (np.full(N_ROWS, np.nan), "w.npy: row 0 has weight nan; expected a number of at least 0"),
        (np.zeros(N_ROWS), f"w.npy: all {N_ROWS} weights are 0"),
        (np.ones(7), f"expected a weight for each of {N_ROWS} samples, got 7"),
        (np.ones((N_ROWS, 2)), f"w.npy: weights must have shape (n,), got ({N_ROWS}, 2)"),
        (np.array([None] * N_ROWS), "w.npy: expected a .npy array of numbers, got"),
        ("pipe", "no file of weights at"),
        (None, "no file of weights at"),
    ],
)
def test_weights_that_a_run_would_refuse_are_refused_before_anything_is_written(project, weights, said):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(N_ROWS, 3)))
    if isinstance(weights, str):
        os.mkfifo("w.npy")
    elif weights is not None:
        np.save("w.npy", weights)
    found = new_data("mine", "--array", "rows.npy", "--weights", "w.npy", "--n-clusters", 2, succeeds=False)
    assert said in found.replace(f"{project}/", "")
    assert not (project / "conf/mine").exists()


@pytest.mark.parametrize(("weights", "said"), [("v", "no column 'v'"), ("text", "row 0 has weight 'word0 ")])
def test_columns_of_weights_that_a_run_would_refuse_are_refused_too(project, weights, said):
    lines = [f"word{row % 3} thing number{row},{row % 4}" for row in range(N_ROWS)]
    (project / "texts.csv").write_text("\n".join(["text,w", *lines]))
    words = ("--text", "texts.csv", "--column", "text", "--weights", weights, "--n-clusters", 2)
    assert said in new_data("mine", *words, succeeds=False)
    assert not (project / "conf/mine").exists()


def test_a_pipe_among_the_files_of_conf_is_named_and_not_waited_for(project):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(N_ROWS, 3)))
    os.mkfifo(project / "conf/base/extra.yml")
    found = new_data("mine", "--array", "rows.npy", "--n-clusters", 2, succeeds=False)
    assert "conf/base/extra.yml: expected a file, got a pipe, socket or device" in found
