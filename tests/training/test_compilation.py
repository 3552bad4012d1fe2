"""Compiling a network: only for a long training, only if passes are faster, and never to the harm of a training."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from deep_clustering.methods import make_method
from deep_clustering.training import compilation
from deep_clustering.training.compilation import compile_if_it_pays, in_use

CPU = torch.device("cpu")
SHAPE = (8, 3)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Clock:
    """Takes the place of the time a pass takes: plain first, compiled next."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def __call__(self, *_: object) -> float:
        return self._seconds.pop(0)


@pytest.fixture
def compiles(monkeypatch) -> list:
    """Lets the processor pass for a device with a compiler, which changes nothing."""
    made: list = []

    def compile_(forward):
        made.append(forward)
        return lambda *arguments: forward(*arguments)

    monkeypatch.setattr(compilation, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", compile_)
    return made


@pytest.mark.parametrize(
    ("plain", "compiled", "n_steps", "is_tried", "is_kept"),
    [(1.0, 0.5, 241, True, True), (1.0, 0.97, 1000, True, False), (1.0, 2.0, 1000, True, False), (1.0, 0.5, 239, 0, 0)],
)
def test_a_network_is_compiled_if_a_long_training_is_faster_with_it(
    monkeypatch, compiles, plain, compiled, n_steps, is_tried, is_kept
):
    monkeypatch.setattr(compilation, "_seconds_of_a_pass", Clock(plain, compiled))
    found = compile_if_it_pays(network(), SHAPE, "fp32", n_steps, CPU)
    assert len(compiles) == is_tried
    assert (found is not None) == is_kept


def test_a_processor_compiles_nothing(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda _: pytest.fail("compiled"))
    assert compile_if_it_pays(network(), SHAPE, "fp32", 10**9, CPU) is None


def test_a_trial_leaves_weights_statistics_and_mode_as_they_are(monkeypatch, compiles):
    monkeypatch.setattr(compilation, "_WORTH_SECONDS", 0.0)
    layers = network().eval()
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    compile_if_it_pays(layers, SHAPE, "fp32", 1000, CPU)
    assert len(compiles) == 1
    assert not layers.training
    for name, value in layers.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in layers.parameters())


def test_a_compiler_that_refuses_is_named_in_the_log(monkeypatch, compiles, caplog):
    def refuse(*_):
        raise RuntimeError("no C compiler\nat all")

    monkeypatch.setattr(torch, "compile", lambda _: refuse)
    monkeypatch.setattr(compilation, "_WORTH_SECONDS", 0.0)
    layers = network()
    with caplog.at_level(logging.WARNING):
        assert compile_if_it_pays(layers, SHAPE, "fp32", 1000, CPU) is None
    assert caplog.messages == ["the network cannot be compiled and runs as it is: no C compiler"]
    assert layers(torch.zeros(SHAPE)).shape == (8, 2)


def test_the_compiled_form_is_used_only_where_it_is_asked_for():
    layers = network().eval()
    calls, plain = [], layers.forward
    with in_use(layers, lambda views: calls.append(1) or plain(views)):
        inside = layers(torch.ones(SHAPE))
    assert torch.equal(layers(torch.ones(SHAPE)), inside)
    assert calls == [1]


@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
@pytest.mark.parametrize(("option", "is_tried"), [("auto", True), ("off", False)])
def test_only_training_steps_run_compiled(tiny_options, blobs, monkeypatch, compiles, method, option, is_tried):
    options = tiny_options(method, "vectors", n_clusters=3, compile=option)
    expected = make_method(options | {"compile": "off"}).fit(blobs)
    sizes: list[int] = []

    def compile_(forward):
        compiles.append(forward)
        return lambda views: sizes.append(len(views)) or forward(views)

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(compilation, "_seconds_of_a_pass", Clock(1000.0, 1.0))
    found = make_method(options).fit(blobs)
    assert len(compiles) == is_tried
    assert sizes == [2 * options["batch_size"]] * (options["epochs"] * (len(blobs) // options["batch_size"]) * is_tried)
    np.testing.assert_array_equal(found.predict_proba(blobs), expected.predict_proba(blobs))
