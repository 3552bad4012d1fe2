"""A project with one finished run, and a copy of it for each test to break."""

import shutil

import pytest

from command_line import kedro_run, params
from pipelines.small_project import copy_project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    root = copy_project(tmp_path_factory.mktemp("finished") / "project")
    result = kedro_run(root, "--pipelines=kmeans", params())
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def project(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "project")
