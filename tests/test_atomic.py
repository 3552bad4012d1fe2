"""Files that are there whole or not at all, in every room that writes any."""

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import deep_clustering
from deep_clustering import atomic
from deep_clustering.atomic import ABANDONED_SECONDS, TakenError, atomic_file, atomic_path, remove_abandoned, write_text
from deep_clustering.data.neighbours import find_neighbours
from deep_clustering.data.shards import Shards
from deep_clustering.data.sources import downloads
from deep_clustering.sweep.folder import write_json
from deep_clustering.sweep.leaderboard.markdown import replace_in_readme
from deep_clustering.sweep.leaderboard.runs import write_runs


def leave_part(folder: Path, seconds: float, front: str = "") -> Path:
    """What a process that was killed so many seconds ago has left."""
    part = folder / f"{front}.{uuid.uuid4().hex}.part"
    part.write_bytes(b"half")
    os.utime(part, (time.time() - seconds,) * 2)
    return part


OLD, YOUNG = ABANDONED_SECONDS + 60, ABANDONED_SECONDS - 60


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The writer itself


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    target = tmp_path / "a" / "b" / "value.bin"
    with atomic_file(target) as file:
        file.write(b"one")
        assert not target.exists()
        file.write(b" two")
    assert target.read_bytes() == b"one two"
    assert names_in(target.parent) == ["value.bin"]


def test_a_writer_of_paths_gets_one_in_the_same_folder(tmp_path):
    with atomic_path(tmp_path / "value.bin") as part:
        assert part.parent == tmp_path
        part.write_bytes(b"whole")
    assert (tmp_path / "value.bin").read_bytes() == b"whole"
    assert names_in(tmp_path) == ["value.bin"]


@pytest.mark.parametrize("former", [None, b"former"])
@pytest.mark.parametrize("where", ["content", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), RuntimeError("of the writer")])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, former, where, error):
    def refuse(*_):
        raise error

    target = tmp_path / "value.bin"
    if former is not None:
        target.write_bytes(former)
    if where != "content":
        monkeypatch.setattr(atomic.os, where, refuse)
    with pytest.raises(type(error)), atomic_file(target) as file:  # noqa: PT012 - the block is what fails
        file.write(b"half")
        if where == "content":
            raise error
    assert (target.read_bytes() if target.exists() else None) == former
    assert names_in(tmp_path) == ([] if former is None else ["value.bin"])


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    """What a write raises knows of no name; what opening raises does, and keeps it."""
    target = tmp_path / "value.bin"
    with pytest.raises(OSError, match=r"No space left on device: '.*value\.bin'"), atomic_file(target):
        raise OSError(errno.ENOSPC, "of a library")
    with pytest.raises(FileNotFoundError, match=r"'.*missing'"), atomic_file(target):
        (tmp_path / "missing").read_bytes()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda file: (done.append(os.fstat(file).st_size), fsync(file)))
    monkeypatch.setattr(atomic.os, "replace", lambda *names: (done.append("named"), replace(*names)))
    with atomic_file(tmp_path / "value.bin") as file:
        file.write(b"seven b")
    assert done == [7, "named"]


def test_the_first_to_finish_has_a_name_that_is_not_replaced(tmp_path):
    target = tmp_path / "value.bin"
    with pytest.raises(TakenError, match=re.escape(str(target))), atomic_file(target, replace=False) as second:  # noqa: PT012
        second.write(b"second")
        with atomic_file(target, replace=False) as first:
            first.write(b"first")
    assert target.read_bytes() == b"first"
    assert names_in(tmp_path) == ["value.bin"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links_will_do(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, "link", refuse)
    with atomic_file(tmp_path / "value.bin", replace=False) as file:
        file.write(b"whole")
    assert names_in(tmp_path) == ["value.bin"]


def test_texts_are_utf_8_with_the_lines_they_came_with(tmp_path):
    write_text(tmp_path / "value.txt", "Grüße\r\n你好\n")
    assert (tmp_path / "value.txt").read_bytes() == "Grüße\r\n你好\n".encode()


# What killed processes leave


KILLED = """
import os, signal, sys
from pathlib import Path
from deep_clustering.atomic import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_the_former_file_and_a_part_that_is_removed_once_it_is_old(tmp_path):
    target = tmp_path / "value.txt"
    write_text(target, "former")
    result = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert target.read_text() == "former"
    (part,) = tmp_path.glob("*.part")
    write_text(tmp_path / "other.txt", "at once")
    assert part.exists(), "it may belong to a process that is writing now"
    os.utime(part, (0, 0))
    write_text(tmp_path / "other.txt", "later")
    assert names_in(tmp_path) == ["other.txt", "value.txt"]


def test_only_parts_of_this_package_that_have_not_grown_are_removed(tmp_path):
    (tmp_path / "inside").mkdir()
    kept = [leave_part(tmp_path, YOUNG), leave_part(tmp_path / "inside", OLD)]
    for stranger in ("thesis.pdf.part", ".part", f"{uuid.uuid4().hex}.part", f".{uuid.uuid4().hex}.part.txt"):
        (tmp_path / stranger).touch()
        os.utime(tmp_path / stranger, (0, 0))
        kept.append(tmp_path / stranger)
    # Names of this version, and of the downloads and caches before it.
    gone = [leave_part(tmp_path, OLD, front) for front in ("", ".mnist.gz", "rows_0_9.npy")]
    remove_abandoned(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def test_they_are_removed_before_anything_is_written_since_they_may_fill_the_disk(tmp_path):
    part = leave_part(tmp_path, OLD)
    with atomic_file(tmp_path / "value.bin"):
        assert not part.exists()


def test_a_folder_that_is_not_there_has_none(tmp_path):
    remove_abandoned(tmp_path / "missing")


# Everything that writes


def write_neighbours(folder):
    options = {
        "k": 1,
        "metric": "cosine",
        "centre": False,
        "projection": 0,
        "exact_rows": 9,
        "held_out": 0.0,
        "cache": str(folder),
    }
    find_neighbours(np.eye(4, dtype=np.float32), options)


def write_shard(folder):
    shards = Shards(folder, {}, 2)
    shards.begin(3, ("numpy",))
    shards.write((0, 2), np.zeros((2, 3), dtype=np.float32))


def write_readme(folder):
    readme = folder / "README.md"
    readme.write_text("<!-- leaderboard:digits -->\n<!-- /leaderboard -->\n")
    replace_in_readme(readme, "digits", "| a |\n")


def download(folder):
    source = folder.parent / "source.bin"
    source.write_bytes(b"content")
    remote = downloads.Remote(urls=(source.as_uri(),), md5=hashlib.md5(b"content").hexdigest())
    downloads.fetch(remote, folder / "file.bin")


WRITERS = {
    "a sweep's record": lambda folder: write_json(folder / "cell.json", {"status": "finished"}),
    "a leaderboard": lambda folder: write_runs(pd.DataFrame({"acc": [0.5]}), folder / "runs.csv"),
    "a README": write_readme,
    "neighbours": write_neighbours,
    "a shard of extracted rows": write_shard,
    "a download": download,
}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def write(request):
    return request.param


def test_every_writer_leaves_no_part_when_the_disk_is_full(tmp_path, monkeypatch, write):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setattr(atomic.os, "fsync", refuse)
    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        write(folder)
    assert [path for path in folder.iterdir() if path.name != "README.md"] == []


def test_every_writer_removes_what_killed_processes_left(tmp_path, write):
    folder = tmp_path / "folder"
    folder.mkdir()
    old, young = leave_part(folder, OLD), leave_part(folder, YOUNG)
    write(folder)
    assert not old.exists()
    assert young.exists()


def test_a_readme_that_is_a_link_stays_one(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- leaderboard:digits -->\n<!-- /leaderboard -->\n")
    (tmp_path / "link.md").symlink_to(readme)
    assert replace_in_readme(tmp_path / "link.md", "digits", "| a |\n")
    assert (tmp_path / "link.md").is_symlink()
    assert "| a |" in readme.read_text()


def test_nothing_else_in_the_package_names_its_own_parts():
    package = Path(deep_clustering.__file__).parent
    own = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if '.part"' in path.read_text()}
    # The store's part is a database with a journal beside it, made by MLflow under a lock.
    # What `kedro export-clusters` names at the end is a whole folder, which a writer of files cannot.
    assert own <= {"atomic.py", "runs/tracking/store.py", "runs/cluster_folders.py"}
