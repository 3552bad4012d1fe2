"""The choice of the precision of training: by time alone, without a trace, and once for each training."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from deep_clustering.methods import make_method
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.training import fitting, loop
from deep_clustering.training import precision as half_precision
from deep_clustering.training import rows as rows_module
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.precision import training_precision

CPU = torch.device("cpu")
METHODS = ["neural_mixture", "dcan"]
OVERCLUSTERING = {
    "kind": "overclustering",
    "components_per_cluster": 2.0,
    "epochs": 1.0,
    "hold": 0.5,
    "core": 0.8,
    "max_rows": 1000,
}


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


def asked_by_clock(monkeypatch, *answers: str) -> list[str]:
    """Names that are asked for from now on; auto gets one answer after the other."""
    asked, left = [], iter(answers)

    def decide(name, *_):
        asked.append(name)
        return next(left) if name == "auto" else name

    monkeypatch.setattr(fitting, "training_precision", decide)
    monkeypatch.setattr(loop, "training_precision", decide)
    return asked


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("restarts", [1, 3])
def test_the_precision_is_decided_once_and_recorded(tiny_options, blobs, monkeypatch, name, restarts):
    options = tiny_options(name, "vectors", n_clusters=3, precision="auto", restarts=restarts)
    asked = asked_by_clock(monkeypatch, "bf16")
    chosen = make_method(options).fit(blobs)
    assert asked.count("auto") == 1
    asked_by_clock(monkeypatch)
    named = make_method(options | {"precision": "bf16"}).fit(blobs)
    np.testing.assert_array_equal(chosen.predict_proba(blobs), named.predict_proba(blobs))
    assert (str(chosen.history_["under_precision"]), str(chosen.history_["under_device"])) == ("bf16", "cpu")


@pytest.mark.parametrize(
    ("name", "views", "n_views"), [("dcan", {}, 2), ("imsat", {}, 2), ("dec", {}, 2), ("dec", {"kind": "same"}, 1)]
)
def test_the_precision_is_measured_on_as_many_rows_as_a_step_has(
    tiny_options, blobs, monkeypatch, name, views, n_views
):
    shapes, changes = [], {"views": views} if views else {}
    for module in (fitting, loop):
        monkeypatch.setattr(module, "training_precision", lambda _, __, shape, ___: shapes.append(shape) or "fp32")
    for restarts in (1, 2):
        changes |= {"n_clusters": 3, "batch_size": 20, "restarts": restarts, "epochs": 1}
        make_method(tiny_options(name, "vectors", **changes)).fit(blobs)
    assert set(shapes) == {(n_views * 20, 5)}


def test_the_components_of_a_start_are_fitted_in_the_precision_of_the_training(tiny_options, blobs, monkeypatch):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, precision="auto", start=OVERCLUSTERING)
    asked = asked_by_clock(monkeypatch, "bf16")
    make_method(options).fit(blobs)
    assert asked == ["auto", "bf16"]


def test_a_training_killed_in_its_start_is_not_asked_again(tiny_options, blobs, monkeypatch, tmp_path):
    """Another answer would refuse the checkpoints of the components, as those of another training."""
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, precision="auto", start=OVERCLUSTERING)
    checkpoints = Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(tmp_path)), "killed")
    asked_by_clock(monkeypatch, "bf16", "bf16")
    unbroken = make_method(options).fit(blobs)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MixtureTraining, "finish", killed)  # of the components
        with pytest.raises(KeyboardInterrupt):
            make_method(options).fit(blobs, None, checkpoints)
    asked_by_clock(monkeypatch, "fp32")
    resumed = make_method(options).fit(blobs, None, checkpoints)
    np.testing.assert_array_equal(resumed.predict_proba(blobs), unbroken.predict_proba(blobs))
    assert str(resumed.history_["under_precision"]) == "bf16"
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_named_precision_is_recorded(tiny_options, blobs, method, name):
    history = make_method(tiny_options(method, "vectors", n_clusters=3, precision=name)).fit(blobs).history_
    assert (str(history["under_precision"]), str(history["under_device"])) == (name, "cpu")


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_training_keeps_its_precision(tiny_options, blobs, monkeypatch, tmp_path, name, restarts):
    """Another choice would end in other weights: the run would not be the unbroken one."""
    options = tiny_options(name, "vectors", n_clusters=3, epochs=3, precision="auto", restarts=restarts)
    checkpoints = Checkpoints(CheckpointOptions(every=2, resume=True, folder=str(tmp_path)), name)
    asked_by_clock(monkeypatch, "bf16", "bf16")
    unbroken = make_method(options).fit(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "clear", lambda _: None)
        make_method(options).fit(blobs, None, checkpoints)
    asked_by_clock(monkeypatch)  # has no more answers
    resumed = make_method(options).fit(blobs, None, checkpoints)
    np.testing.assert_array_equal(resumed.predict_proba(blobs), unbroken.predict_proba(blobs))


@pytest.mark.parametrize(
    ("name", "device", "able", "expected"),
    [
        ("fp32", "cuda", True, "fp32"),
        ("bf16", "cpu", {}, "bf16"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp32"),
        ("auto", "cpu", {"avx512_bf16": True}, "bf16"),
        ("auto", "cpu", {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ("auto", "cpu", {}, "fp32"),
        ("auto", "mps", None, "fp32"),
    ],
)
def test_half_precision_is_taken_where_the_device_computes_with_it(monkeypatch, name, device, able, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able and not including_emulation)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert half_precision.resolve_precision(name, torch.device(device)) == expected


TF32 = (torch.backends.cuda.matmul, torch.backends.cudnn)


def allowed() -> list[bool]:
    return [place.allow_tf32 for place in TF32]


def allow(values: list[bool]) -> None:
    for place, value in zip(TF32, values, strict=True):
        place.allow_tf32 = value


@pytest.fixture(params=[[True, False], [False, True]])
def before(request):
    """What is allowed before a fit."""
    usual = allowed()
    allow(request.param)
    yield request.param
    allow(usual)


def test_elsewhere_than_on_cuda_nothing_is_set(before):
    with half_precision.full_single_precision(CPU):
        assert allowed() == before


def test_on_cuda_single_precision_is_single_and_what_was_set_comes_back_after_an_error_too(before):
    within = []

    def fail() -> None:
        with half_precision.full_single_precision(torch.device("cuda")):
            within.extend(allowed())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert within == [False, False]
    assert allowed() == before


def test_rows_are_described_and_embedded_in_the_precision_of_a_trainings_last_look(monkeypatch):
    """A row at a border would else be in another cluster on CUDA than the training said; here the switch is watched."""
    entered = []

    @contextmanager
    def watched(device):
        entered.append("in")
        yield
        entered.append("out")

    monkeypatch.setattr(rows_module, "full_single_precision", watched)
    rows = rows_module.Rows(np.ones((3, 2), np.float32), CPU)
    rows_module.apply_in_chunks(lambda batch: entered.append("embedded") or batch, rows)
    told = (torch.zeros(3, dtype=torch.int64), torch.ones(3, 1), torch.ones(3, 2), torch.zeros(3), torch.zeros(3, 1))
    rows_module.describe_in_chunks(lambda _: entered.append("described") or told, rows)
    assert entered == ["in", "embedded", "out", "in", "described", "out"]
