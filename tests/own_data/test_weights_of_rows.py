"""`kedro new-data --weights`: from the command to the rows that are fitted."""

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
