"""The versioned catalog on Kedro's command line."""

import numpy as np
import pytest

from command_line import checksums, command, error_of, kedro_run, params
from pipelines.small_project import copy_project, versions

pytestmark = pytest.mark.usefixtures("plain_pages")


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """A project with a DCAN model of 5 clusters and a later one of 6."""
    root = copy_project(tmp_path_factory.mktemp("versions") / "project")
    for n_clusters in (5, 6):
        result = kedro_run(root, "--pipelines=dcan", "--to-nodes=dcan.assign", params(n_clusters=n_clusters))
        assert result.exit_code == 0, result.output
    return root


@pytest.mark.parametrize("selection", ["--nodes=dcan.assign", "--from-nodes=dcan.assign"])
def test_a_version_of_a_patterned_entry_can_be_loaded(two_models, selection):
    old = versions(two_models, "model.safetensors")[0].parent.name
    pinned = f"--load-versions=dcan.model:{old},dcan_history:{old}"
    if selection.startswith("--nodes"):
        pinned = f"--load-versions=dcan.model:{old}"
    result = kedro_run(two_models, "--pipelines=dcan", selection, pinned, params(n_clusters=5))
    assert result.exit_code == 0, result.output
    representation = np.load(versions(two_models, "representation.npz")[-1])
    assert representation["responsibilities"].shape == (200, 5)


def test_outputs_of_a_run_carry_one_version(two_models):
    written = {
        path.parent.name for name in ("features.npy", "model.safetensors") for path in versions(two_models, name)
    }
    assert len(written) == 2


def test_an_input_that_nobody_has_written_is_named_with_its_file(tmp_path):
    project = copy_project(tmp_path / "project")
    before = checksums(project)
    found = error_of(kedro_run(project, "--pipelines=dcan", "--nodes=dcan.assign", params()))
    for name, file in (("dcan.model", "06_models/digits/dcan/model.safetensors"), ("features", "features.npy")):
        assert f"inputs: '{name}' has no version in {project}/data/" in found
        assert file in found
    assert checksums(project) == before


def test_only_missing_outputs_is_refused_for_it_takes_results_of_other_parameters(two_models):
    before = checksums(two_models)
    found = error_of(kedro_run(two_models, "--pipelines=dcan", "--only-missing-outputs", params(n_clusters=7)))
    assert found.startswith("--only-missing-outputs: ")
    assert "kedro resume" in found
    assert checksums(two_models) == before


def test_the_catalog_is_described_without_a_warning(tmp_path):
    project = copy_project(tmp_path / "project")
    result = command(project, "-m", "kedro", "catalog", "describe-datasets", "--pipeline=dcan")
    assert (result.returncode, result.stderr) == (0, "")
    assert "dcan.model" in result.stdout
