"""The choice of the precision of training: by time alone, without a trace, and once for each training."""

import numpy as np
import pytest
import torch
from torch import nn

from deep_clustering.methods import dcan, make_method, neural_mixture
from deep_clustering.training import precision as half_precision
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.precision import training_precision

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def able(monkeypatch):
    """A device that computes with bf16, whatever this machine is."""
    monkeypatch.setattr(half_precision, "resolve_precision", lambda name, _: "bf16" if name == "auto" else name)


@pytest.mark.parametrize(("fp32", "bf16", "expected"), [(2.0, 1.0, "bf16"), (1.1, 1.0, "fp32"), (1.0, 2.0, "fp32")])
def test_the_faster_one_is_taken_if_it_is_much_faster(able, monkeypatch, fp32, bf16, expected):
    """The first turn, which sets things up, does not decide."""
    seconds = {"fp32": iter([9.0, fp32, fp32 + 5, fp32]), "bf16": iter([90.0, bf16 + 5, bf16, bf16])}
    monkeypatch.setattr(half_precision, "_seconds_of_a_pass", lambda _, __, precision: next(seconds[precision]))
    assert training_precision("auto", network(), (6, 4), CPU) == expected


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_named_precision_is_not_tried(monkeypatch, name):
    monkeypatch.setattr(half_precision, "_seconds_of_a_pass", None)
    assert training_precision(name, network(), (6, 4), CPU) == name


def test_a_device_without_half_precision_is_not_tried(monkeypatch):
    monkeypatch.setattr(half_precision, "resolve_precision", lambda *_: "fp32")
    monkeypatch.setattr(half_precision, "_seconds_of_a_pass", None)
    assert training_precision("auto", network(), (6, 4), CPU) == "fp32"


def test_trying_leaves_no_trace(able):
    tried = network().eval()
    before = {name: value.clone() for name, value in tried.state_dict().items()}
    state = torch.get_rng_state()
    assert training_precision("auto", tried, (6, 4), CPU) in ("fp32", "bf16")
    assert torch.equal(torch.get_rng_state(), state)
    assert not tried.training
    for name, value in tried.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in tried.parameters())


@pytest.mark.parametrize("module", [neural_mixture, dcan], ids=["neural_mixture", "dcan"])
def test_a_resumed_training_keeps_its_precision(tiny_options, blobs, monkeypatch, tmp_path, module):
    """Another choice would end in other weights: the run would not be the unbroken one."""
    name = module.__name__.rpartition(".")[2]
    options = tiny_options(name, "vectors", n_clusters=3, epochs=3, precision="auto")
    checkpoints = Checkpoints(CheckpointOptions(every=2, resume=True, folder=str(tmp_path)), name)
    monkeypatch.setattr(module, "training_precision", lambda *_: "bf16")
    unbroken = make_method(options).fit(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "clear", lambda _: None)
        make_method(options).fit(blobs, None, checkpoints)
    monkeypatch.setattr(module, "training_precision", None)
    resumed = make_method(options).fit(blobs, None, checkpoints)
    np.testing.assert_array_equal(resumed.predict_proba(blobs), unbroken.predict_proba(blobs))
