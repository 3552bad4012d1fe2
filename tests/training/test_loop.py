"""The one training loop, by a training that counts what is asked of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.loop import Data, Plan, train
from deep_clustering.training.optimisers import OneCycle
from deep_clustering.training.rows import Rows
from deep_clustering.training.views import make_view

N_ROWS, BATCH = 10, 4
CPU = torch.device("cpu")


class KilledError(Exception):
    """Stands for a kill of the process."""


class Counting:
    """A training of one weight; notes every call."""

    def __init__(self, *, fails_from: int | None = None, killed_behind: int | None = None) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.networks = {"encoder": self.network}
        self.optimisers = {"encoder": torch.optim.AdamW(self.network.parameters(), lr=0.1)}
        self.schedules = {"encoder": OneCycle(self.optimisers["encoder"], 0.1, 6)}
        self.precision = ""
        self.calls: list[str] = []
        self.held: list[bool] = []
        self.modes: list[bool] = []
        self.n_steps = torch.zeros((), dtype=torch.int64)
        self.fails_from, self.killed_behind = fails_from, killed_behind

    def begin(self, partition):
        self.calls.append("begin")
        return torch.zeros(N_ROWS, dtype=torch.int64)

    def step(self, views, index, held):
        self.held.append(held is not None)
        self.modes.append(self.network.training)
        loss = (self.network(views[:, :1]) - 1).square().mean()
        self.optimisers["encoder"].zero_grad()
        loss.backward()
        self.optimisers["encoder"].step()
        self.n_steps += 1
        return {"loss": loss}

    def close_epoch(self, epoch):
        self.calls.append(f"close {epoch}")
        return {"steps": self.n_steps.float()}

    def assign(self):
        self.calls.append("assign")
        self.network.eval()
        return torch.full((N_ROWS,), 1)

    def has_failed(self, history):
        if history.n_epochs == self.killed_behind:
            raise KilledError
        return self.fails_from is not None and history.n_epochs >= self.fails_from

    def finish(self, history):
        self.calls.append("finish")
        history.final(weight=self.network.weight.detach().squeeze())
        return torch.full((N_ROWS,), 2)

    def tensors(self):
        return {"n_steps": self.n_steps}

    def take(self, tensors):
        self.n_steps = tensors["n_steps"]


def data_of(seed: int = 0) -> Data:
    rows = np.random.default_rng(0).normal(size=(N_ROWS, 2)).astype(np.float32)
    view = make_view({"kind": "noise", "scale": 0.1})
    generator = torch.Generator().manual_seed(seed)
    return Data(rows=Rows(rows, CPU), view=view, neighbours=None, view_shape=(2,), generator=generator)


def plan_of(**changes) -> Plan:
    plan = {
        "name": "counting",
        "epochs": 3,
        "held_epochs": 0,
        "batch_size": BATCH,
        "precision": "fp32",
        "record_every": 1,
        "ends_early": False,
        "shown": ("loss",),
    }
    return Plan(**(plan | changes))


def kept(folder: Path, *, resume: bool, every: int = 1) -> Checkpoints:
    return Checkpoints(CheckpointOptions(every=every, resume=resume, folder=str(folder)), "counting")


def run(training: Counting, checkpoints: Checkpoints | None = None, partition=None, **changes):
    return train(training, data_of(), plan_of(**changes), lambda precision: partition, checkpoints, {"of": "a test"})


def test_a_training_begins_steps_closes_and_finishes_once():
    training = Counting()
    history = run(training, record_every=2).arrays()
    assert training.calls == ["begin", "close 1", "close 2", "assign", "close 3", "finish"]
    assert int(training.n_steps) == 3 * (N_ROWS // BATCH)
    np.testing.assert_array_equal(history["epoch"], [1, 2, 3])
    np.testing.assert_array_equal(history["steps"], [2, 4, 6])


def test_the_last_snapshot_is_what_the_training_finished_with():
    history = run(Counting()).arrays()
    np.testing.assert_array_equal(history["snapshot_epoch"], [0, 1, 2, 3])
    np.testing.assert_array_equal(history["snapshot_assignments"][:, 0], [0, 1, 1, 2])


def test_networks_are_in_training_mode_behind_a_snapshot():
    training = Counting()
    run(training)
    assert all(training.modes)


@pytest.mark.parametrize("held_epochs", [0, 1, 3])
def test_a_partition_is_held_for_its_epochs(held_epochs):
    training = Counting()
    run(training, partition=torch.zeros(N_ROWS, dtype=torch.int64), held_epochs=held_epochs)
    assert training.held == [epoch < held_epochs for epoch in range(3) for _ in range(N_ROWS // BATCH)]


def test_the_precision_is_settled_before_the_start_and_noted():
    seen = []
    training = Counting()
    found = train(training, data_of(), plan_of(precision="bf16"), seen.append, None, {})
    assert seen == [training.precision] == ["bf16"]
    assert str(found.arrays()["under_precision"]) == "bf16"
    assert str(found.arrays()["under_device"]) == "cpu"


@pytest.mark.parametrize("ends_early", [True, False])
def test_a_failure_ends_a_training_where_there_are_others(ends_early):
    training = Counting(fails_from=2)
    history = run(training, ends_early=ends_early)
    assert history.n_epochs == (2 if ends_early else 3)
    assert history.ended_early == ends_early
    assert training.calls[-1] == "finish"


def test_schedules_move_behind_every_step():
    training = Counting()
    rates = []
    step = training.step
    training.step = lambda *args: rates.append(training.optimisers["encoder"].param_groups[0]["lr"]) or step(*args)
    run(training)
    fresh = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.1)
    cycle = torch.optim.lr_scheduler.OneCycleLR(fresh, 0.1, total_steps=6)
    expected = []
    for _ in range(6):
        expected.append(fresh.param_groups[0]["lr"])
        fresh.step()
        cycle.step()
    np.testing.assert_allclose(rates, expected)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_killed_training_continues_to_the_end_of_an_unbroken_one(tmp_path, epoch):
    """The kill comes before the checkpoint of its epoch, so that the last one is of the epoch before."""
    unbroken = Counting()
    expected = run(unbroken).arrays()
    partition = torch.zeros(N_ROWS, dtype=torch.int64)
    with pytest.raises(KilledError):
        run(Counting(killed_behind=epoch), kept(tmp_path, resume=False), partition)
    resumed = Counting()
    found = run(resumed, kept(tmp_path, resume=True), partition).arrays()
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert torch.equal(resumed.network.weight, unbroken.network.weight)
    assert "begin" not in resumed.calls


def test_a_training_resumed_behind_its_last_epoch_is_finished(tmp_path):
    killed = Counting()
    killed.finish = lambda history: (_ for _ in ()).throw(KilledError)
    with pytest.raises(KilledError):
        run(killed, kept(tmp_path, resume=False))
    resumed = Counting()
    found = run(resumed, kept(tmp_path, resume=True)).arrays()
    assert resumed.calls == ["finish"]
    expected = run(Counting()).arrays()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_fresh_pairs_are_of_every_row_in_order_and_leave_the_training_alone():
    data = data_of()
    before = data.generator.get_state()
    pairs = list(data.fresh_pairs(torch.Generator().manual_seed(3)))
    assert sum(len(views) for views in pairs) == 2 * N_ROWS
    plain = data.rows[torch.arange(N_ROWS)]
    np.testing.assert_allclose(torch.cat(pairs)[:N_ROWS], plain, atol=1.0)
    assert torch.equal(before, data.generator.get_state())
