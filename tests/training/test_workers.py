"""Several processes take the steps of one: the same model comes out, and what goes wrong is said."""

import os
import signal

import numpy as np
import pytest

from deep_clustering.methods import make_method
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.training import parallel
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.parallel import check_workers, fit_together

STILL = {"kind": "noise", "scale": 0.0}


@pytest.fixture(scope="module")
def rows():
    """Three groups of 2,560 rows in all: ten steps of 256 an epoch."""
    random = np.random.default_rng(0)
    return (random.normal(size=(2560, 4)) + 4 * random.integers(0, 3, size=(2560, 1))).astype(np.float32)


@pytest.fixture
def options(tiny_options):
    """A network with batch normalisation, a prior, and mixing weights that are learned, on views that stand still."""
    return tiny_options(
        "neural_mixture",
        "vectors",
        n_clusters=3,
        encoder={"kind": "mlp", "hidden": [8]},
        views=STILL,
        batch_size=256,
        epochs=1,
        weight_prior=0.01,
        mixing="learned",
    )


def checkpoints(folder, resume=False):
    return Checkpoints(CheckpointOptions(every=1, resume=resume, folder=str(folder)), "together")


def test_two_workers_of_128_rows_are_one_of_256(options, rows, tmp_path):
    """Ten steps, and what is found in all rows behind them.

    Densities are blind to the last layer's bias: the rounding that its gradient is becomes steps, and what
    scores are normalised by goes with them.
    """
    alone = make_method(options).fit(rows)
    together = fit_together(2, make_method(options), rows, None, checkpoints(tmp_path), None)
    arrays = alone.get_arrays()
    blind = {max(name for name in arrays if name.endswith("bias")), "score_mean", "log_normaliser"}
    for name in arrays.keys() - blind:
        np.testing.assert_allclose(together.get_arrays()[name], arrays[name], atol=1e-5, err_msg=name)
    for one, other in zip(together.describe(rows), alone.describe(rows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for name in ("loss", "log_likelihood", "agreement"):
        np.testing.assert_allclose(together.history_[name], alone.history_[name], atol=1e-5, err_msg=name)


def test_a_worker_that_is_killed_ends_the_fit_and_it_can_go_on(options, rows, tmp_path, monkeypatch):
    """The first of three epochs is kept; in the second, the other worker is killed."""
    options = {**options, "epochs": 3}
    others, steps, step = [], [], MixtureTraining.step
    monkeypatch.setattr(parallel, "_ids", lambda found: others.extend(found) or "")

    def watched(self, *arguments, **more):
        steps.append(1)
        if len(steps) == 15:
            os.kill(others[0].pid, signal.SIGKILL)
        return step(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(MixtureTraining, "step", watched)
        with pytest.raises(ChildProcessError, match=r"exit code -9; `kedro resume` goes on from the newest checkpoint"):
            fit_together(2, make_method(options), rows, None, checkpoints(tmp_path), None)
    assert not others[0].is_alive()
    resumed = make_method(options).fit(rows, None, checkpoints(tmp_path, resume=True))
    np.testing.assert_array_equal(resumed.history_["epoch"], [1, 2, 3])


@pytest.mark.parametrize(
    ("changed", "n_workers", "message"),
    [
        ({"batch_size": 4}, 5, "at most one worker for each row of a batch, got 5 for 4 rows"),
        ({"batch_size": 5}, 2, "2 workers need batches of a multiple of 2 rows, got 5"),
        ({"precision": "auto", "device": "cuda"}, 2, "need precision = fp32 or bf16, got auto; device = cpu, got cuda"),
    ],
)
def test_what_several_workers_cannot_train_is_refused(options, rows, changed, n_workers, message):
    with pytest.raises(ValueError, match=f"parallel: .*{message}"):
        check_workers(make_method({**options, **changed}), rows, n_workers)


def test_another_method_trains_on_one_worker(tiny_options, rows):
    method = make_method(tiny_options("dcan", "vectors", n_clusters=3))
    with pytest.raises(ValueError, match="parallel: dcan trains on one worker; expected workers = 1, got 2"):
        fit_together(2, method, rows, None, None, None)
