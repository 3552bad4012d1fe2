"""The one loop: a training that was killed at any moment and resumed ends as the unbroken one, for every method."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from deep_clustering.methods import (
    aae,
    autoencoder,
    cc,
    dac,
    dcgmm,
    dcn,
    dec,
    idec,
    imsat,
    kingdra,
    lsdc,
    make_method,
    n2d,
    temi,
    turtle,
    vade,
)
from deep_clustering.methods.dcan_training import GameTraining
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.training import loop
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

EPOCHS = 3
KMEANS = {"kind": "kmeans", "hold": 0.4, "n_init": 1}
OVERCLUSTERING = {
    "kind": "overclustering",
    "components_per_cluster": 2.0,
    "epochs": 0.67,
    "hold": 0.4,
    "core": 0.8,
    "max_rows": 1000,
}
CONSENSUS = {
    "kind": "consensus",
    "heads": 4,
    "epochs": 0.67,
    "hold": 0.4,
    "others": [{"kind": "kmeans", "n_init": 1}],
}
BYOL = {"kind": "byol", "weight": 1.0, "projection": [4], "prediction": [4], "momentum": 0.9}
BEHIND_COMPONENTS = ("/components@1", "/components@2", "/components@clear", "@0")
# Each with what its state is made of: held partitions, learned weights, several heads, momentum, a queue.
TRAININGS = {
    "neural_mixture": ("neural_mixture", {"n_clusters": 3, "heads": 3, "mixing": "learned", "start": KMEANS}),
    "neural_mixture with averages": (
        "neural_mixture",
        {"n_clusters": 3, "representation": BYOL, "teacher_momentum": 0.9},
    ),
    "neural_mixture in a range": (
        "neural_mixture",
        {"n_clusters": {"min": 2, "max": 4}, "auxiliary_clusters": 6, "pair_noise": 0.1},
    ),
    "neural_mixture beside a representation": (
        "neural_mixture",
        {"n_clusters": 3, "representation": {"kind": "infonce", "weight": 1.0, "projection": [4], "temperature": 0.2}},
    ),
    "components": ("neural_mixture", {"n_clusters": 3, "start": OVERCLUSTERING}),
    "consensus": (
        "neural_mixture",
        {
            "n_clusters": 3,
            "heads": 3,
            "mixing": "learned",
            "mixing_momentum": 0.5,
            "pair_noise": 0.1,
            "estimate_noise": True,
            "start": CONSENSUS,
        },
    ),
    "linear heads": (
        "neural_mixture",
        {"n_clusters": 3, "heads": 2, "encoder": {"kind": "mlp", "hidden": []}, "weight_prior": 0.01},
    ),
    "dcan": ("dcan", {"n_clusters": 3, "latent_dim": 3, "start": KMEANS}),
    "dcan by descent": ("dcan", {"n_clusters": 3, "latent_dim": 3, "optimiser": "sgd", "loss": "euclidean"}),
    "temi": ("temi", {"n_clusters": 3, "epochs": EPOCHS}),
    "turtle": ("turtle", {"n_clusters": 3, "steps": 2 * EPOCHS, "batch_size": 60}),  # two steps in an epoch
    **{
        method: (method, {"n_clusters": 3, "batch_size": 60})
        for method in ("autoencoder", "dec", "idec", "dcn", "vade")
    },
    **{
        method: (method, {"n_clusters": 3, "batch_size": 60})
        for method in ("imsat", "dcgmm", "n2d", "dac", "lsdc", "cc", "aae", "kingdra")
    },
}
MODULES = {"autoencoder": autoencoder, "dec": dec, "idec": idec, "dcn": dcn, "vade": vade, "imsat": imsat}
MODULES |= {
    "temi": temi,
    "turtle": turtle,
    "dcgmm": dcgmm,
    "n2d": n2d,
    "dac": dac,
    "lsdc": lsdc,
    "cc": cc,
    "aae": aae,
    "kingdra": kingdra,
}
CLASSES = {name: module._Training for name, module in MODULES.items()}
CLASSES |= {"neural_mixture": MixtureTraining, "dcan": GameTraining}


class Killed(Exception):  # noqa: N818
    """The end of a process, as far as a test can."""


class Mortal(Checkpoints):
    """Checkpoints of a training that is killed right behind one of them, or when they are cleared."""

    def __init__(self, options: CheckpointOptions, name: str, moment: str) -> None:
        super().__init__(options, name)
        self._moment = moment

    def within(self, name: str) -> "Mortal":
        return Mortal(self._options, f"{self._name}/{name}", self._moment)

    def save(self, epoch: int, state: dict) -> None:
        super().save(epoch, state)
        if self._moment == f"{self._name}@{epoch}":
            raise Killed

    def clear(self) -> None:
        if self._moment == f"{self._name}@clear":
            raise Killed
        super().clear()


def checkpoints(folder: Path, moment: str | None = None, every: int = 1) -> Checkpoints:
    options = CheckpointOptions(every=every, resume=True, folder=str(folder))
    return Checkpoints(options, "one") if moment is None else Mortal(options, "one", moment)


def options_of(tiny_options, training: str, **changes) -> dict:
    method, own = TRAININGS[training]
    length = {} if method == "turtle" else {"epochs": EPOCHS}
    return tiny_options(method, "vectors", **length | own | changes)


def assert_equal_ends(resumed, unbroken, features) -> None:
    np.testing.assert_array_equal(resumed.predict(features), unbroken.predict(features))
    for of_resumed, of_unbroken in (
        (resumed.history_, unbroken.history_),
        (resumed.get_arrays(), unbroken.get_arrays()),
    ):
        assert set(of_resumed) == set(of_unbroken)
        for name, array in of_unbroken.items():
            np.testing.assert_array_equal(of_resumed[name], array, err_msg=name)


@pytest.mark.parametrize("moment", ["one@1", f"one@{EPOCHS - 1}", f"one@{EPOCHS}", "one@clear"])
@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_killed_before_at_or_behind_its_last_epoch_ends_as_an_unbroken_one(
    tiny_options, blobs, tmp_path, training, moment
):
    options = options_of(tiny_options, training)
    unbroken = make_method(options).fit(blobs)
    with pytest.raises(Killed):
        make_method(options).fit(blobs, None, checkpoints(tmp_path, moment))
    assert list(tmp_path.rglob("*.safetensors"))
    resumed = make_method(options).fit(blobs, None, checkpoints(tmp_path))
    assert_equal_ends(resumed, unbroken, blobs)
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("training", "moment"),
    [
        ("neural_mixture", "one@0"),
        ("dcan", "one@0"),
        *((training, f"one{place}") for training in ("components", "consensus") for place in BEHIND_COMPONENTS),
    ],
)
def test_a_training_killed_behind_its_start_ends_as_an_unbroken_one(tiny_options, blobs, tmp_path, training, moment):
    options = options_of(tiny_options, training)
    unbroken = make_method(options).fit(blobs)
    with pytest.raises(Killed):
        make_method(options).fit(blobs, None, checkpoints(tmp_path, moment))
    resumed = make_method(options).fit(blobs, None, checkpoints(tmp_path))
    assert_equal_ends(resumed, unbroken, blobs)
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_killed_while_it_settles_ends_as_an_unbroken_one(
    tiny_options, blobs, tmp_path, monkeypatch, training, every
):
    options = options_of(tiny_options, training)
    unbroken = make_method(options).fit(blobs)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CLASSES[options["method"]], "finish", killed)
        with pytest.raises(Killed):
            make_method(options).fit(blobs, None, checkpoints(tmp_path, every=every))
    resumed = make_method(options).fit(blobs, None, checkpoints(tmp_path, every=every))
    assert_equal_ends(resumed, unbroken, blobs)


@pytest.mark.parametrize(
    "moment", ["one@0", "one@1", f"one/restart_1@{EPOCHS}", "one/restart_1@clear", "one@2", "one@clear"]
)
@pytest.mark.parametrize("training", ["neural_mixture", "dcan"])
def test_restarts_killed_within_or_between_them_end_as_unbroken_ones(tiny_options, blobs, tmp_path, training, moment):
    options = options_of(tiny_options, training, restarts=2)
    unbroken = make_method(options).fit(blobs)
    with pytest.raises(Killed):
        make_method(options).fit(blobs, None, checkpoints(tmp_path, moment))
    resumed = make_method(options).fit(blobs, None, checkpoints(tmp_path))
    assert_equal_ends(resumed, unbroken, blobs)
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize("training", TRAININGS)
def test_checkpoints_change_nothing(tiny_options, blobs, tmp_path, training):
    options = options_of(tiny_options, training)
    assert_equal_ends(
        make_method(options).fit(blobs, None, checkpoints(tmp_path)), make_method(options).fit(blobs), blobs
    )


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
def test_a_checkpoint_of_other_neighbours_is_refused(tiny_options, blobs, tmp_path, method, restarts):
    """Views of a row and its neighbours are another training with other neighbours."""
    views = {"kind": "neighbours"}
    options = tiny_options(method, "vectors", n_clusters=3, epochs=EPOCHS, views=views, restarts=restarts)
    near, far = (np.roll(np.arange(len(blobs)), shift)[:, None] for shift in (1, 60))
    with pytest.raises(Killed):
        make_method(options).fit(blobs, near, checkpoints(tmp_path, "one@1"))
    with pytest.raises(ValueError, match=r"is of another training: neighbours was '\w+', is '\w+'\. Restore"):
        make_method(options).fit(blobs, far, checkpoints(tmp_path))
    unbroken = make_method(options).fit(blobs, near)
    assert_equal_ends(make_method(options).fit(blobs, near, checkpoints(tmp_path)), unbroken, blobs)


@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
def test_what_others_left_of_a_restart_does_not_keep_a_training_from_being_resumed(
    tiny_options, blobs, tmp_path, method
):
    given_up = tiny_options(method, "vectors", n_clusters=3, epochs=EPOCHS, restarts=2, seed=7)
    with pytest.raises(Killed):
        make_method(given_up).fit(blobs, None, checkpoints(tmp_path, "one/restart_1@1"))
    options = given_up | {"seed": 8}
    with pytest.raises(ValueError, match=r"is of another training: options\.seed was 7, is 8"):
        make_method(options).fit(blobs, None, checkpoints(tmp_path))
    anew = Mortal(CheckpointOptions(every=1, resume=False, folder=str(tmp_path)), "one", "one/restart_0@1")
    with pytest.raises(Killed):
        make_method(options).fit(blobs, None, anew)
    resumed = make_method(options).fit(blobs, None, checkpoints(tmp_path))
    assert_equal_ends(resumed, make_method(options).fit(blobs), blobs)


@pytest.mark.parametrize("training", ["neural_mixture", "dcan"])
def test_a_resumed_training_does_not_repeat_finished_epochs(tiny_options, blobs, tmp_path, monkeypatch, training):
    options, steps = options_of(tiny_options, training), []
    with pytest.raises(Killed):
        make_method(options).fit(blobs, None, checkpoints(tmp_path, f"one@{EPOCHS - 1}"))
    cls = CLASSES[options["method"]]
    original = cls.step
    monkeypatch.setattr(cls, "step", lambda *arguments: steps.append(1) or original(*arguments))
    make_method(options).fit(blobs, None, checkpoints(tmp_path))
    assert len(steps) == len(blobs) // options["batch_size"]  # those of one epoch


@pytest.mark.parametrize("training", ["neural_mixture", "dcan"])
def test_a_training_goes_on_on_another_kind_of_device(tiny_options, blobs, tmp_path, monkeypatch, caplog, training):
    """A generator of CUDA keeps 16 bytes, which none of a processor takes."""
    options, states = options_of(tiny_options, training), []

    def on_cuda(generator):
        states.append(torch.arange(16, dtype=torch.uint8))
        return {"torch": torch.get_rng_state(), "training": states[-1], "device": "cuda"}

    with monkeypatch.context() as patch:
        patch.setattr(loop, "random_state", on_cuda)
        with pytest.raises(Killed):
            make_method(options).fit(blobs, None, checkpoints(tmp_path, "one@1"))
    with caplog.at_level(logging.INFO):
        resumed = make_method(options | {"device": "auto", "compile": "off"}).fit(blobs, None, checkpoints(tmp_path))
    assert "the training goes on with other draws: it was on cuda, and is on cpu" in caplog.text
    assert len(resumed.history_["epoch"]) == EPOCHS
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize(("restarts", "n_epochs"), [(1, EPOCHS), (2, 1)])
def test_a_failure_ends_one_training_of_several_and_no_other(tiny_options, blobs, monkeypatch, restarts, n_epochs):
    """Of several the next one may do better; behind the only one there would be nothing."""
    monkeypatch.setattr(GameTraining, "has_failed", lambda *_: True)
    fitted = make_method(options_of(tiny_options, "dcan") | {"restarts": restarts}).fit(blobs)
    assert len(fitted.history_["epoch"]) == n_epochs
