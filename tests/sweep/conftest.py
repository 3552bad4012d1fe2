from pathlib import Path

import pytest

from pipelines.small_project import copy_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")
