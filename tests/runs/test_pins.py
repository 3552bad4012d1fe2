"""The lock of the packages as a run notes it and `kedro reproduce` names it."""

import hashlib
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from deep_clustering.runs.repeating import describe_lock_of
from deep_clustering.runs.tracking.pins import describe_lock

PINS = f"""\
numpy=={version("numpy")} \\
    --hash=sha256:0
pandas==0.0.1 ; python_full_version < '3.12' \\
    --hash=sha256:0
pandas==0.0.2 ; python_full_version >= '3.12' \\
    --hash=sha256:0
a-package-that-nobody-has==1.0 \\
    --hash=sha256:0
"""


@pytest.fixture
def locked(tmp_path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/run.txt").write_text(PINS)
    return tmp_path


def test_the_lock_is_noted_with_what_is_installed_beside_it(locked):
    assert describe_lock(locked) == {
        "packages.lock": hashlib.sha256(PINS.encode()).hexdigest(),
        "packages.beside_lock": f"pandas=={version('pandas')}",
    }


def test_a_project_without_a_lock_notes_none(tmp_path):
    assert describe_lock(tmp_path) == {}
    assert describe_lock_of(SimpleNamespace(tags={}), tmp_path) == "lock of the packages: none"


def test_the_lock_then_and_now_are_named(locked):
    now = hashlib.sha256(PINS.encode()).hexdigest()
    beside = f"(sha256 of requirements/run.txt); installed beside it: pandas=={version('pandas')}"
    same, other = (SimpleNamespace(tags={"packages.lock": sha256}) for sha256 in (now, "f" * 64))
    assert describe_lock_of(same, locked) == f"lock of the packages: {now[:12]} {beside}"
    assert describe_lock_of(other, locked) == f"lock of the packages: {'f' * 12}, now {now[:12]} {beside}"
