"""Disks that are full or cannot be written: one error, nothing lost, and the next run works."""

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from command_line import checksums, error_of, kedro_run, params
from drawing import spare_drawing

resource = pytest.importorskip("resource")

RUN = ("--pipelines=kmeans", params())


def load_all(root) -> dict[str, list[str]]:
    """Load every version of every entry that the pipeline `kmeans` writes; returns the versions of each."""
    bootstrap_project(root)
    with KedroSession.create(project_path=root, runtime_params={"tracking": {"enabled": False}}) as session:
        catalog = session.load_context().catalog
    from kedro.framework.project import pipelines

    found = {}
    for name in sorted(pipelines["kmeans"].all_outputs()):
        found[name] = catalog[name].list_versions(full_path=False)
        for version in found[name]:
            catalog.load(name, version=version)
    return found


@contextmanager
def largest_file(n_bytes):
    """Let no file of this process grow beyond `n_bytes`, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_failed_run(project, before, found, message):
    assert message in found
    after = checksums(project / "data")
    assert before.items() <= after.items()
    assert not list(project.rglob("*.part"))
    first = load_all(project)
    result = kedro_run(project, *RUN)
    assert result.exit_code == 0, result.output
    assert all(len(versions) == len(first[name]) + 1 for name, versions in load_all(project).items())


@pytest.mark.parametrize(("place", "file"), [("03_primary", "samples"), ("08_reporting", "kmeans_report")])
def test_a_file_that_does_not_fit_any_more_is_named_and_nothing_is_lost(project, place, file):
    """The limit is just below the size of the first file and of the largest, which the finished run tells."""
    stem = file.removeprefix("kmeans_")
    (path,) = (path for path in (project / "data" / place).rglob(f"{stem}.*/*/{stem}.*") if path.is_file())
    before = checksums(project / "data")
    with largest_file(path.stat().st_size - 1000):
        found = error_of(kedro_run(project, *RUN))
    assert file in found
    check_failed_run(project, before, found, os.strerror(errno.EFBIG))


@pytest.fixture
def small_disk(project):
    """The folder of the outputs as a file system of its own; yields a function that mounts it again otherwise."""
    outputs = project / "outputs"
    outputs.mkdir()

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(outputs)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting needs rights: {done.stderr.strip()}")

    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting needs rights")
    mount("size=16k")
    yield lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(outputs)], check=True)


def test_a_full_disk_is_named_and_the_next_run_works(project, small_disk, monkeypatch):
    spare_drawing(monkeypatch)
    run = ("--pipelines=kmeans", params(output_folder="outputs"))
    before = checksums(project / "data")
    found = error_of(kedro_run(project, *run))
    assert "No space left on device" in found
    assert before.items() <= checksums(project / "data").items()
    saved = checksums(project / "outputs")
    assert not [name for name in saved if name.endswith(".part")]
    small_disk("size=64m")
    result = kedro_run(project, *run)
    assert result.exit_code == 0, result.output
    assert saved.items() <= checksums(project / "outputs").items()


def test_a_disk_that_is_read_only_is_named_before_anything_runs(project, small_disk, monkeypatch):
    spare_drawing(monkeypatch)
    small_disk("ro")
    before = checksums(project)
    found = error_of(kedro_run(project, "--pipelines=kmeans", params(output_folder="outputs")))
    assert f"{project / 'outputs'} is not writable; change its rights or mount" in found
    assert checksums(project) == before
    small_disk("rw,size=64m")
    result = kedro_run(project, "--pipelines=kmeans", params(output_folder="outputs"))
    assert result.exit_code == 0, result.output
