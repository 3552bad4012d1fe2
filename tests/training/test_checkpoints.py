"""Checkpoints: what is read back is what was written, and a killed training ends as an unbroken one."""

import json
import logging
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deep_clustering.methods import make_method
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints, fingerprint, identify
from forks import run_forked

STATE = {
    "weights": {"layer.weight": torch.arange(6.0).reshape(2, 3), "flag": torch.tensor([True, False])},
    "optimiser": {0: {"step": torch.tensor(3.0)}, "groups": [{"lr": 1e-3, "betas": [0.9, 0.999], "name": None}]},
    "seed": 2**40,
}
IDENTITY = {"method": "any", "options": {"epochs": 3, "views": {"kind": "noise"}}, "rows": "abc"}


def checkpoints(folder: Path, name: str = "any", every: int = 1, resume: bool | str = True) -> Checkpoints:
    return Checkpoints(CheckpointOptions(every=every, resume=resume, folder=str(folder)), name)


def begun(folder: Path, identity: dict = IDENTITY, **options) -> Checkpoints:
    one = checkpoints(folder, **options)
    one.begin(identity)
    return one


def assert_same(one, other) -> None:
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    else:
        assert one == other


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_what_is_read_is_what_was_written(tmp_path):
    begun(tmp_path).save(1, STATE)
    assert_same(checkpoints(tmp_path).begin(IDENTITY), STATE)


def test_the_two_newest_are_kept_and_the_newest_is_read(tmp_path):
    one = begun(tmp_path)
    for epoch in (1, 2, 10):
        one.save(epoch, {"epoch": epoch})
    assert [path.name for path in files(tmp_path)] == ["epoch-000002.safetensors", "epoch-000010.safetensors"]
    assert checkpoints(tmp_path).begin(IDENTITY) == {"epoch": 10}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_checkpoint_cut_short_gives_way_to_the_one_before(tmp_path, caplog, share):
    one = begun(tmp_path)
    one.save(1, STATE)
    one.save(2, STATE)
    newest = files(tmp_path)[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[: int(share * len(content))])
    with caplog.at_level(logging.WARNING):
        assert_same(checkpoints(tmp_path).begin(IDENTITY), STATE)
    assert "epoch-000002.safetensors is cut short or damaged" in caplog.text


def test_a_checkpoint_in_which_a_bit_has_changed_gives_way_to_the_one_before(tmp_path, caplog):
    one = begun(tmp_path)
    one.save(1, STATE)
    one.save(2, {**STATE, "epoch": 2})
    newest = files(tmp_path)[-1]
    content = newest.read_bytes()
    for place in range(len(content)):  # the order of the header, and so what a place holds, differs from file to file
        changed = bytearray(content)
        changed[place] ^= 1
        newest.write_bytes(changed)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert_same(checkpoints(tmp_path).begin(IDENTITY), STATE)
        assert "epoch-000002.safetensors is cut short or damaged" in caplog.text


def test_damaged_checkpoints_do_not_push_out_those_of_a_training_begun_anew(tmp_path):
    one = begun(tmp_path)
    for epoch in (7, 8):
        one.save(epoch, STATE)
    for path in files(tmp_path):
        path.write_bytes(b"damaged")
    anew = checkpoints(tmp_path)
    assert anew.begin(IDENTITY) is None
    for epoch in (1, 2, 3):
        anew.save(epoch, {"epoch": epoch})
        assert checkpoints(tmp_path).begin(IDENTITY) == {"epoch": epoch}
    assert [path.name for path in files(tmp_path)] == ["epoch-000002.safetensors", "epoch-000003.safetensors"]


def test_without_resume_the_training_begins_anew_and_old_checkpoints_go(tmp_path):
    begun(tmp_path).save(1, STATE)
    assert checkpoints(tmp_path, resume=False).begin(IDENTITY) is None
    assert files(tmp_path) == []


def test_without_any_checkpoint_the_training_begins_anew(tmp_path):
    assert checkpoints(tmp_path).begin(IDENTITY) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": {"epochs": 4, "views": {"kind": "noise"}}}, "options.epochs was 3, is 4"),
        ({"options": {"epochs": 3, "views": {"kind": "dropout"}}}, "options.views.kind was 'noise', is 'dropout'"),
        ({"rows": "xyz"}, "rows was 'abc', is 'xyz'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_what_differs(tmp_path, changed, message):
    begun(tmp_path).save(1, STATE)
    with pytest.raises(ValueError, match=message):
        checkpoints(tmp_path).begin(IDENTITY | changed)
    assert len(files(tmp_path)) == 1  # what was saved stays


def test_a_checkpoint_of_another_version_of_the_code_is_refused(tmp_path, monkeypatch):
    begun(tmp_path).save(1, STATE)
    monkeypatch.setattr("deep_clustering.training.checkpoints.__version__", "99")
    with pytest.raises(ValueError, match=r"deep_clustering was '.*', is '99'"):
        checkpoints(tmp_path).begin(IDENTITY)


def test_auto_passes_over_a_checkpoint_of_another_training(tmp_path):
    begun(tmp_path).save(1, STATE)
    assert checkpoints(tmp_path, resume="auto").begin(IDENTITY | {"rows": "xyz"}) is None
    assert_same(checkpoints(tmp_path, resume="auto").begin(IDENTITY), STATE)


def test_two_trainings_do_not_see_each_other(tmp_path):
    one, other = begun(tmp_path), begun(tmp_path, IDENTITY | {"rows": "xyz"}, resume=False)
    one.save(1, {"epoch": 1})
    other.save(2, {"epoch": 2})
    other.clear()
    assert checkpoints(tmp_path).begin(IDENTITY) == {"epoch": 1}


@pytest.mark.parametrize(("every", "due"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4])])
def test_a_checkpoint_is_due_every_so_many_epochs(tmp_path, every, due):
    one = checkpoints(tmp_path, every=every)
    assert [epoch for epoch in range(5) if one.is_due(epoch)] == due


def test_fingerprint_tells_rows_apart(digits):
    assert fingerprint(digits) == fingerprint(digits.copy())
    changed = digits.copy()
    changed[7, 0, 0, 0] += 1
    assert fingerprint(changed) != fingerprint(digits)
    assert fingerprint(digits[:100]) != fingerprint(digits)


def test_identity_tells_neighbours_apart(digits):
    near, far = np.arange(200)[:, None], np.arange(200)[::-1, None]
    found = [identify("any", {"epochs": 3}, digits, neighbours) for neighbours in (None, near, far)]
    assert len({one["neighbours"] for one in found}) == 3
    assert all(one["rows"] == fingerprint(digits) and one["options"] == {"epochs": 3} for one in found)
    assert identify("any", {"epochs": 3}, digits, near.copy()) == found[1]


# What was given up


def set_age(folder: Path, days: float) -> None:
    for path in files(folder):
        os.utime(path, (time.time() - days * 86400,) * 2)


@pytest.mark.parametrize("resume", [True, False, "auto"])
def test_what_nobody_has_continued_for_two_weeks_goes_when_another_training_begins(tmp_path, caplog, resume):
    begun(tmp_path).save(1, STATE)
    set_age(tmp_path, 15)
    with caplog.at_level(logging.INFO):
        assert checkpoints(tmp_path, resume=resume).begin(IDENTITY | {"rows": "xyz"}) is None
    assert files(tmp_path) == []
    assert list((tmp_path / "any").iterdir()) == []
    assert "which nobody has continued for two weeks" in caplog.text


@pytest.mark.parametrize("resume", [True, False, "auto"])
def test_what_another_process_has_just_removed_is_of_no_matter(tmp_path, resume):
    """Trainings side by side remove their older checkpoints while others look through the folder."""
    other = tmp_path / "any/of_another_training"
    other.mkdir(parents=True)
    (other / "epoch-000001.safetensors").symlink_to(tmp_path / "gone")  # listed, and not there when it is looked at
    assert checkpoints(tmp_path, resume=resume).begin(IDENTITY) is None
    assert other.exists()


def test_what_may_still_be_continued_stays(tmp_path):
    """Another training's of a day less; another's whose newest is young; this one's own; another method's."""
    young, growing, other = (IDENTITY | {"rows": rows} for rows in ("young", "growing", "other"))
    begun(tmp_path, young, resume="auto").save(1, {"of": "young"})
    set_age(tmp_path, 13)
    begun(tmp_path, resume="auto").save(1, {"of": "this"})
    begun(tmp_path, other, name="another").save(1, {"of": "another"})
    one = begun(tmp_path, growing, resume="auto")
    one.save(1, {"of": "growing"})
    for path in files(tmp_path):
        if path.stat().st_mtime > time.time() - 86400:
            os.utime(path, (time.time() - 30 * 86400,) * 2)
    one.save(2, {"of": "growing"})
    assert checkpoints(tmp_path).begin(IDENTITY) == {"of": "this"}
    assert len(files(tmp_path)) == 5
    assert checkpoints(tmp_path).begin(young) == {"of": "young"}
    assert checkpoints(tmp_path, name="another").begin(other) == {"of": "another"}


# The methods

# A process that is killed for good, a few times; every other moment is in `test_loop`, within one process.
KILLED = """
import json, os, signal, sys
import numpy as np
from deep_clustering.methods import make_method
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

class Killed(Checkpoints):
    def within(self, name):
        return Killed(self._options, f"{self._name}/{name}")

    def save(self, epoch, state):
        super().save(epoch, state)
        if sys.argv[4] in self._name + "@" + str(epoch):
            os.kill(os.getpid(), signal.SIGKILL)

options = CheckpointOptions(every=1, resume=True, folder=sys.argv[3])
make_method(json.loads(sys.argv[1])).fit(np.load(sys.argv[2]), None, Killed(options, "training"))
"""


STARTS = {
    "neural_mixture": {
        "kind": "overclustering",
        "components_per_cluster": 1.2,
        "epochs": 0.67,
        "hold": 0.33,
        "core": 0.8,
        "max_rows": 1000,
    },
    "dcan": {"kind": "kmeans", "hold": 0.33, "n_init": 1},
}
SWITCHED_ON = {"neural_mixture": {"mixing": "learned", "heads": 2}, "dcan": {"loss": "adversarial"}}


@pytest.mark.parametrize(
    ("method", "changes", "moment"),
    [
        ("neural_mixture", {}, "training/components@1"),
        ("neural_mixture", {}, "training@2"),
        ("dcan", {}, "training@3"),
        ("dcan", {"restarts": 2}, "training/restart_1@2"),
    ],
)
def test_a_killed_training_ends_with_the_same_weights_as_an_unbroken_one(
    tiny_options, digits, tmp_path, method, changes, moment
):
    options = tiny_options(method, epochs=3, start=STARTS[method], **SWITCHED_ON[method], **changes)
    np.save(tmp_path / "rows.npy", digits)
    arguments = json.dumps(options), tmp_path / "rows.npy", tmp_path / "checkpoints", moment
    assert run_forked(KILLED, *arguments) == -signal.SIGKILL
    assert files(tmp_path / "checkpoints")
    unbroken = make_method(options).fit(digits)
    resumed = make_method(options).fit(digits, None, checkpoints(tmp_path / "checkpoints", "training"))
    for name, array in unbroken.get_arrays().items():
        np.testing.assert_array_equal(resumed.get_arrays()[name], array, err_msg=name)
    for name, array in unbroken.history_.items():
        np.testing.assert_array_equal(resumed.history_[name], array, err_msg=name)
    assert files(tmp_path / "checkpoints") == []  # a finished training leaves none
