"""The notebook, from the first cell to the last, on two finished runs."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from command_line import checksums, kedro_run, params
from drawing import spare_drawing

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/explore_clusters.ipynb"
SECONDS = 300


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
    """Everything that the cells show as text, a line of which may come in several outputs."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.get("text") or f"{output.get('data', {}).get('text/plain', '')}\n" for output in outputs)


def test_it_is_committed_without_outputs():
    for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_what_it_asks_to_install_is_an_extra_that_has_it():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for page in (NOTEBOOK, ROOT / "notebooks/README.md"):
        for name in re.findall(r"pip install -e '\.\[(\w+)\]'", page.read_text(encoding="utf-8")):
            assert {"jupyterlab", "nbconvert"} <= {re.split(r"[>=<]", package)[0] for package in extras[name]}


def test_it_explores_a_finished_run_and_changes_nothing(project, tmp_path, monkeypatch):
    spare_drawing(monkeypatch)
    small = {"neural_mixture__epochs": 1, "neural_mixture__restarts": 1, "neural_mixture__start__kind": "none"}
    result = kedro_run(project, "--pipelines=neural_mixture", params(reporting__map_points=50, **small))
    assert result.exit_code == 0, result.output
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (chosen,) = (cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", []))
    chosen.source = chosen.source.replace('METHOD = "dcan"', 'METHOD = "neural_mixture"')
    # What the tables are cut from, for the assertions below.
    check = "print(len(doubtful), len(outliers), sizes['size'].sum(), agreement.to_numpy().sum(), together.sum())"
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    before = checksums(project)
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(project / "conf")}}
    )
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert checksums(project) == before

    shown = printed(notebook)
    assert not re.search(r"\b(INFO|WARNING)\b|Loading data from", shown)
    assert "200 rows of digits in 10 clusters" in shown
    assert shown.splitlines()[-1] == "20 20 200 200 200"
    pictures = [
        output for cell in code_cells(notebook) for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1
    assert "adjusted Rand index" in shown
    assert "neural_mixture has no densities" not in shown
