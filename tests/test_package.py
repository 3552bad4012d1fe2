"""The package as it is installed: what the wheel holds, and a folder that it makes a project."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.startup import bootstrap_project
from kedro.utils import find_kedro_project

from deep_clustering.__main__ import make_project
from deep_clustering.pipelines.parameters import packaged_conf
from deep_clustering.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
SOURCES = ("src", "conf", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Folder of an unpacked wheel, which was built as pip builds it."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        (source / name).symlink_to(ROOT / name)
    # the names of what is built lie in the source; src must be a folder of its own to keep the checkout clean
    (source / "src").unlink()
    (source / "src").mkdir()
    (source / "src/deep_clustering").symlink_to(ROOT / "src/deep_clustering")
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_holds_modules_templates_and_configuration_and_nothing_private(wheel):
    package = ROOT / "src/deep_clustering"
    expected = {name for name in files(package) if "__pycache__" not in name}
    held = files(wheel / "deep_clustering")
    assert {name for name in held if not name.startswith("conf/")} == expected
    tracked = subprocess.run(["git", "ls-files", "conf"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode == 0:  # a copy without git has no list
        assert set(tracked.stdout.split()) - {"conf/local/.gitkeep"} <= held
    assert not [name for name in held if "local" in name.split("/")[:2] or "credentials" in name]


def test_an_empty_folder_becomes_a_project_with_the_packaged_configuration(wheel, tmp_path):
    root = make_project(tmp_path, wheel / "deep_clustering/conf")
    assert find_kedro_project(root) == root
    assert bootstrap_project(root).package_name == "deep_clustering"
    made, ours = (OmegaConfigLoader(str(conf), env="digits", **CONFIG_LOADER_ARGS) for conf in (root / "conf", CONF))
    assert made["parameters"] == ours["parameters"]
    assert made["catalog"] == ours["catalog"]


def test_a_folder_that_holds_something_of_the_name_is_left_alone(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/theirs.yml").write_text("theirs")
    with pytest.raises(ValueError, match="as it holds conf: go to an empty folder"):
        make_project(tmp_path)
    assert files(tmp_path) == {"conf/theirs.yml"}


def test_a_question_outside_of_a_project_makes_nothing(tmp_path):
    code = "import sys; sys.argv = ['deep-clustering', 'runs']; from deep_clustering.__main__ import command; command()"
    asked = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert asked.stderr.startswith(f"Error: there is no project in {tmp_path}")
    assert os.listdir(tmp_path) == []


def test_a_checkout_reads_its_own_configuration():
    assert packaged_conf() == CONF
