"""Captured steps: what is replayed must be all of a step. Processors have no graphs; what tests record runs again.

A graph runs no Python when it is replayed. So the recording of a test, which does run it, watches that each replay does
the operations that were recorded, on the same tensors, and that none takes the place of another behind a step: a graph
would go on with the one that it knows.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deep_clustering.methods import aae, dcan_training, estimator, make_method, mixture_training, temi, turtle
from deep_clustering.training import capture
from deep_clustering.training.capture import CapturedSteps
from deep_clustering.training.loop import Data
from deep_clustering.training.optimisers import MovingAdamW
from deep_clustering.training.rows import Batch
from waits import Waits

CPU = torch.device("cpu")
KMEANS = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
PHOTO = {"size": 8, "crop": 0.5, "flip": 0.5, "greyscale": 0.2}
PHOTO |= {"kind": "photo"} | dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.1)
PHOTO_CROPS = PHOTO | {"kind": "photo_crops", "small_views": 1, "small_size": 4, "small_crop": 0.3}
RESNET = {"kind": "resnet", "blocks": [1, 1], "width": 4, "stem_stride": 1}
INFONCE = {"kind": "infonce", "weight": 1.0, "projection": [4], "temperature": 0.2}
BYOL = {"kind": "byol", "weight": 1.0, "projection": [4], "prediction": [4], "momentum": 0.9}
FLAT = ("temi", "turtle")
PRETRAINED = ("autoencoder", "dec", "idec", "dcn", "vade", "dcgmm")  # in two stages
TRAININGS = [
    ("neural_mixture", {"heads": 3, "auxiliary_clusters": 12}),
    ("neural_mixture", {"mixing": "learned", "start": KMEANS, "views": PHOTO}),
    ("neural_mixture", {"density": "sigmoid", "objective": "single_and_consistency", "mixing": "neutral"}),
    ("neural_mixture", {"n_clusters": {"min": 2, "max": 4}, "pair_noise": 0.1}),
    ("neural_mixture", {"encoder": RESNET}),
    ("neural_mixture", {"representation": INFONCE}),
    ("neural_mixture", {"representation": BYOL, "teacher_momentum": 0.9}),
    ("neural_mixture", {"views": PHOTO_CROPS, "encoder": RESNET, "representation": INFONCE}),
    ("dcan", {"start": KMEANS}),
    ("dcan", {"representation": BYOL}),
    ("dcan", {"views": PHOTO, "conditioning": "none", "saturating": True}),
    ("dcan", {"loss": "euclidean", "optimiser": "sgd", "cross_view": False, "start": KMEANS}),
    ("dcan", {"loss": "gaussian_kl", "whitening": False}),
    ("temi", {"frozen_epochs": 2}),
    ("temi", {"frozen_epochs": 0}),
    ("turtle", {"steps": 24}),
    *((method, {"learning_rate": 1e-4}) for method in (*PRETRAINED, "imsat", "dac", "lsdc", "cc", "aae", "kingdra")),
    ("imsat", {"perturbation": "random"}),
    ("vade", {"likelihood": "gaussian"}),
]


class Operations(TorchDispatchMode):
    """Notes what is done, and on which of the tensors that live on."""

    def __init__(self, lasting: set[int]) -> None:
        super().__init__()
        self.names: list[str] = []
        self.touched: set[int] = set()
        self._lasting = lasting

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.names.append(str(func))
        self.touched |= {id(leaf) for leaf in tree_leaves((args, kwargs))} & self._lasting
        return func(*args, **kwargs or {})


class Recorder:
    """Takes the place of `capture.record`: a replay is the function once more."""

    def __init__(self) -> None:
        self.trainings: list[Any] = []
        self.n_recorded = self.n_replays = 0
        self.waits = Waits()

    def __call__(self, function: Callable[[], None], generator: torch.Generator, _: Any) -> Callable[[], None]:
        state, before = generator.get_state(), self._values()
        recorded = Operations({id(tensor) for tensor, _ in before})
        with self.waits, recorded:
            function()
        for tensor, value in before:  # a graph does not run what it records
            tensor.data.copy_(value)
        generator.set_state(state)
        self.n_recorded += 1

        def replay() -> None:
            known = {id(tensor) for tensor, _ in self._values()}
            done = Operations(known)
            with done:
                function()
            assert done.names == recorded.names
            assert done.touched == recorded.touched
            assert {id(tensor) for tensor, _ in self._values()} == known
            self.n_replays += 1

        return replay

    def _values(self) -> list[tuple[Tensor, Tensor]]:
        return [(tensor, tensor.clone()) for tensor in _tensors(self.trainings, set())]


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that live on in something, with those of its objects; gradients and random states do not."""
    if id(value) in seen or (isinstance(value, str | np.ndarray | type | Callable | Data) and not _has_state(value)):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(key, seen)  # the state of an optimiser has its parameters as keys
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)
    elif hasattr(value, "__dict__"):
        yield from _tensors(vars(value), seen)


def _has_state(value: Any) -> bool:
    return isinstance(value, torch.nn.Module)


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    """Lets the processor pass for a device with graphs."""
    recorder, init = Recorder(), CapturedSteps.__init__

    def watched(self: CapturedSteps, step: Any, carrier: Any, *rest: Any, **more: Any) -> None:
        recorder.trainings.append(carrier)
        init(self, step, carrier, *rest, **more)

    monkeypatch.setattr(CapturedSteps, "__init__", watched)
    monkeypatch.setattr(capture, "can_capture", lambda device: True)
    monkeypatch.setattr(capture, "side_stream", lambda device: None)
    monkeypatch.setattr(capture, "record", recorder)
    return recorder


def fit(tiny_options, method: str, changes: dict, rows: np.ndarray) -> Any:
    own = {"dcan": {"latent_dim": 3, "epochs": 4}, "turtle": {}}.get(method, {"epochs": 4})
    options = tiny_options(
        method, "vectors" if method in FLAT else "images", **{"n_clusters": 3, "batch_size": 30, **own, **changes}
    )
    return make_method(options).fit(rows.reshape(len(rows), -1) if method in FLAT else rows)


def assert_equal(found: Any, expected: Any) -> None:
    for of_found, of_expected in ((found.history_, expected.history_), (found.get_arrays(), expected.get_arrays())):
        assert set(of_found) == set(of_expected)
        for name, array in of_expected.items():
            np.testing.assert_array_equal(of_found[name], array, err_msg=name)


@pytest.mark.parametrize(("method", "changes"), TRAININGS, ids=str)
def test_a_training_of_replays_is_that_of_steps(tiny_options, digits, monkeypatch, recorder, method, changes):
    found = fit(tiny_options, method, changes, digits)
    monkeypatch.undo()
    assert_equal(found, fit(tiny_options, method, changes, digits))
    has_two_kinds = "start" in changes or changes.get("frozen_epochs", 0) > 0 or method in PRETRAINED
    assert recorder.n_recorded == 1 + has_two_kinds
    assert recorder.n_replays == 4 * (len(digits) // 30) - 3 * (1 + has_two_kinds)


@pytest.mark.parametrize(("method", "changes"), TRAININGS, ids=str)
def test_what_is_recorded_neither_waits_nor_has_shapes_that_depend_on_values(
    tiny_options, digits, monkeypatch, recorder, method, changes
):
    """With the optimisers of CUDA as far as a processor has them: its Adam keeps a step count on the host."""

    def on_device(kind, parameters, rate, *_, **options):
        is_moving = options.pop("is_fused", True) is False
        if is_moving:
            return MovingAdamW(parameters, lr=torch.tensor(rate), **options)
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9)

    for module in (mixture_training, dcan_training, estimator, aae, temi, turtle):
        monkeypatch.setattr(module, "make_optimiser", on_device)
    fit(tiny_options, method, changes, digits)
    found = recorder.waits.found
    assert found == []
    assert recorder.n_recorded > 0


@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
def test_a_step_that_cannot_be_recorded_runs_as_it_is(tiny_options, digits, monkeypatch, recorder, caplog, method):
    calls = []

    def broken(function: Callable[[], None], *_: Any) -> Callable[[], None]:
        calls.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(capture, "record", broken)
    with caplog.at_level(logging.WARNING):
        found = fit(tiny_options, method, {"start": KMEANS}, digits)
    monkeypatch.undo()
    assert_equal(found, fit(tiny_options, method, {"start": KMEANS}, digits))
    assert calls == [1]
    (line,) = [record.message for record in caplog.records if record.name == capture.__name__]
    assert line == (
        "the training step cannot be captured in a CUDA graph and runs as it is: operation not permitted when stream "
        "is capturing"
    )


def test_steps_on_a_processor_are_never_captured(tiny_options, digits, monkeypatch):
    monkeypatch.setattr(capture, "record", lambda *_: pytest.fail("recorded"))
    fit(tiny_options, "neural_mixture", {}, digits)


class Counter:
    """Carries a count from step to step, in a new tensor each time."""

    def __init__(self) -> None:
        self.count = torch.zeros(())

    def tensors(self) -> dict[str, Tensor]:
        return {"count": self.count}

    def take(self, tensors: dict[str, Tensor]) -> None:
        self.count = tensors["count"]

    def step(self, batch: Batch, held: Tensor | None) -> dict[str, Tensor]:
        self.count = self.count + batch.index.sum() + (0 if held is None else held.sum())
        return {"count": self.count}


def test_state_set_between_epochs_reaches_the_replays(recorder):
    counter = Counter()
    steps = CapturedSteps(counter.step, counter, torch.Generator(), rows_are_near=True)
    batches = [Batch(index, index) for index in torch.arange(10).view(10, 1)]
    for first in (0.0, 100.0):
        counter.count = torch.tensor(first)
        steps.begin_epoch(0, None)
        values = [float(steps(batch).values) for batch in batches]
        assert values == [first + total for total in np.cumsum(range(10))]
    assert (recorder.n_recorded, recorder.n_replays) == (1, 17)


def test_another_held_partition_is_another_step(recorder):
    counter = Counter()
    steps = CapturedSteps(counter.step, counter, torch.Generator(), rows_are_near=True)
    batch = Batch(torch.ones(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64))
    for n_epochs, held in enumerate([torch.ones(3), torch.ones(5), None]):
        counter.count = torch.zeros(())
        steps.begin_epoch(0, held)
        share = 1 + (0 if held is None else len(held))
        assert [float(steps(batch).values) for _ in range(6)] == [share * n for n in range(1, 7)]
        assert recorder.n_recorded == n_epochs + 1


def test_steps_that_read_rows_of_the_host_are_not_captured(recorder, caplog):
    counter = Counter()
    with caplog.at_level(logging.INFO):
        steps = CapturedSteps(counter.step, counter, torch.Generator(), rows_are_near=False)
        steps.begin_epoch(0, None)
        batch = Batch(torch.ones(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64))
        assert [float(steps(batch).values) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert recorder.n_recorded == 0
    assert caplog.messages == ["training steps are not captured in a CUDA graph: the rows are on the host"]
