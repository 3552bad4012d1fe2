"""Several processes take the steps of one: the same model comes out, and what goes wrong is said."""

import json
import logging
import operator
import os
import re
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse

import first_finders
import shared_norms
from deep_clustering.methods import dac_start, make_method
from deep_clustering.methods.dac_start import DACStart
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.methods.neural_mixture import NeuralMixture
from deep_clustering.training import fitting, parallel, workers
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.on_ray import fit_on_ray
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


@pytest.fixture
def of_dcan(tiny_options):
    """The same of DCAN, with a queue that is longer than a batch."""
    return tiny_options(
        "dcan",
        "vectors",
        n_clusters=3,
        latent_dim=3,
        encoder={"kind": "mlp", "hidden": [8]},
        views=STILL,
        batch_size=256,
        queue_size=1500,
        epochs=1,
    )


def checkpoints(folder, resume=False):
    return Checkpoints(CheckpointOptions(every=1, resume=resume, folder=str(folder)), "together")


@pytest.fixture(params=["local", "ray"])
def fit_by_two(request):
    """Function of the arguments of a fit, by two processes of this machine or of the nodes of a Ray cluster."""
    if request.param == "ray":
        request.getfixturevalue("two_nodes")
    return partial({"local": fit_together, "ray": fit_on_ray}[request.param], 2)


@pytest.fixture
def exchanges(monkeypatch):
    """Names of the collectives that this process takes part in."""
    names = []
    for name in ("all_reduce", "all_gather"):
        exchange = getattr(workers.distributed, name)

        def noted(*arguments, name=name, exchange=exchange):
            names.append(name)
            exchange(*arguments)

        monkeypatch.setattr(workers.distributed, name, noted)
    return names


def assert_same(together, alone, rows, terms, blind):
    """What was learned, noted and is said of all rows, up to rounding, but for arrays that no loss depends on.

    Log densities far from a cluster are squares over small variances, and carry more of the rounding of either.
    """
    arrays = alone.get_arrays()
    for name in arrays.keys() - blind:
        np.testing.assert_allclose(together.get_arrays()[name], arrays[name], atol=1e-5, err_msg=name)
    for one, other in zip(together.describe(rows), alone.describe(rows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=3e-5)
    for name in terms:
        np.testing.assert_allclose(together.history_[name], alone.history_[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("teacher_momentum", [0.0, 0.9])
def test_two_workers_of_128_rows_are_one_of_256(options, rows, tmp_path, exchanges, fit_by_two, teacher_momentum):
    """Ten steps, and what is found in all rows behind them; a step has an exchange of outputs, and one of gradients.

    A batch normalisation has one on either way. Densities are blind to the last layer's bias: the rounding that its
    gradient is becomes steps, and what scores are normalised by goes with them.
    """
    options = {**options, "teacher_momentum": teacher_momentum}
    alone = make_method(options).fit(rows)
    assert not exchanges
    together = fit_by_two(make_method(options), rows, None, checkpoints(tmp_path), None)
    of_norms, of_teacher = ["all_gather", "all_reduce"], ["all_gather"] if teacher_momentum else []
    assert sorted(exchanges) == sorted(10 * [*of_norms, *of_teacher, "all_gather", "all_reduce"])
    blind = {max(name for name in alone.get_arrays() if name.endswith("bias")), "score_mean", "log_normaliser"}
    assert_same(together, alone, rows, ("loss", "log_likelihood", "agreement"), blind)


@pytest.mark.parametrize("loss", ["adversarial", "gaussian_kl", "euclidean"])
def test_two_workers_train_dcan_as_one_does(of_dcan, rows, tmp_path, monkeypatch, exchanges, fit_by_two, loss):
    """Ten steps; of the one, views that stand still must leave the other draws what they are with two.

    The latent is centred, and so blind to the last layer's bias and to what goes with it.
    """
    options = {**of_dcan, "loss": loss}
    with monkeypatch.context() as patch:
        made = fitting.make_data
        patch.setattr(fitting, "make_data", lambda *of: replace(made(*of), draws=torch.Generator()))
        alone = make_method(options).fit(rows)
    together = fit_by_two(make_method(options), rows, None, checkpoints(tmp_path), None)
    of_game = ["all_gather", "all_reduce"] if loss == "adversarial" else []
    assert sorted(exchanges) == sorted(10 * [*of_game, *2 * ["all_gather", "all_reduce"]])
    blind = {max(name for name in alone.get_arrays() if name.startswith("encoder") and name.endswith("bias"))}
    terms = [name for name in alone.history_ if not name.startswith(("snapshot", "under"))]
    assert_same(together, alone, rows, terms, blind | {"code_mean"})


def test_a_worker_that_is_killed_ends_the_fit_and_it_can_go_on(
    options, rows, tmp_path, monkeypatch, caplog, fit_by_two
):
    """The first of three epochs is kept; in the second, the other worker is killed, whose number the log has said."""
    options = {**options, "epochs": 3}
    steps, step = [], MixtureTraining.step

    def watched(self, *arguments, **more):
        steps.append(1)
        if len(steps) == 15:
            os.kill(int(re.search(r"process(?:es)? (\d+)", caplog.text)[1]), signal.SIGKILL)
        return step(self, *arguments, **more)

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(MixtureTraining, "step", watched)
        message = r"a worker ended before the fit did: .*\d+.*; `kedro resume` goes on from the newest checkpoint"
        with pytest.raises(ChildProcessError, match=message):
            fit_by_two(make_method(options), rows, None, checkpoints(tmp_path), None)
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


def test_sparse_rows_and_views_of_a_representation_are_refused_to_several_workers(options, rows):
    model = make_method(options)
    model.representation = {"kind": "byol"}
    message = "parallel: 2 workers need dense rows, got sparse ones; representation = none, got byol"
    with pytest.raises(ValueError, match=message):
        check_workers(model, sparse.csr_matrix(rows), 2)


@pytest.mark.parametrize("kind", ["dac", "in_turn"])
def test_a_start_that_dac_trains_is_found_by_the_first_worker_for_all(
    parameters, options, of_dcan, rows, tmp_path, monkeypatch, fit_by_two, kind
):
    """One that starts from the same partition learns the same: with one of its own, the other worker would not.

    Of two starts in turn the latter is DAC's.
    """
    dac = next(start for start in parameters["neural_mixture"]["start"]["starts"] if start["kind"] == "dac")
    start = dac if kind == "dac" else {"kind": "in_turn", "starts": [{"kind": "kmeans", "n_init": 1, "hold": 1.0}, dac]}
    given = of_dcan | {"loss": "gaussian_kl"} if kind == "dac" else options
    given = {**given, "start": start, "restarts": 1 if kind == "dac" else 2}
    found, of_first = [], dac_start.of_first

    def noted(find):
        return of_first(lambda: found.append(find()) or found[-1])

    with monkeypatch.context() as patch:
        patch.setattr(dac_start, "of_first", noted)
        together = fit_by_two(make_method(given), rows, None, checkpoints(tmp_path), None)
    (partition,) = found
    assert len(np.unique(partition[partition >= 0])) == 3
    with monkeypatch.context() as patch:
        made = fitting.make_data
        patch.setattr(fitting, "make_data", lambda *of: replace(made(*of), draws=torch.Generator()))
        patch.setattr(DACStart, "find", lambda *_: partition)
        alone = make_method(given).fit(rows)
    blind = {max(name for name in alone.get_arrays() if name.startswith("encoder") and name.endswith("bias"))}
    terms = [name for name in alone.history_ if not name.startswith(("snapshot", "under"))]
    assert_same(together, alone, rows, terms, blind | {"code_mean", "score_mean", "log_normaliser"})


@pytest.mark.parametrize("fails", [False, True])
def test_the_others_wait_for_the_first_longer_than_for_an_exchange(tmp_path, fails):
    """And have its error if it fails."""
    torch.multiprocessing.spawn(first_finders.find, (str(tmp_path), 2 * first_finders.SECONDS, fails), nprocs=2)
    for rank in (0, 1):
        said = json.loads((tmp_path / f"{rank}.json").read_text())
        assert said == ("not to be found" if fails else {"by": 0})


@pytest.mark.parametrize("kind", shared_norms.SHAPES)
def test_norms_of_two_workers_are_one_of_the_whole_batch(tmp_path, kind):
    """Values, gradients and the moments that are kept, by torch's own; gradients of weights are of a worker's half."""
    norm, rows, gradient = shared_norms.norm_and_batch(kind)
    normalised, of_rows, of_weight, of_bias = shared_norms.passed(norm, rows, gradient)
    torch.multiprocessing.spawn(shared_norms.normalise, (str(tmp_path), kind), nprocs=2)
    of_workers = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)), strict=True)
    values, grown, weights, biases, means, variances = of_workers
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(torch.cat(values), normalised)
    close(torch.cat(grown), of_rows)
    close(sum(weights), of_weight)
    close(sum(biases), of_bias)
    for mean, variance in zip(means, variances, strict=True):
        close(mean, norm.running_mean)
        close(variance, norm.running_var)


def test_an_error_of_the_first_process_is_not_laid_on_the_others(options, rows, tmp_path, monkeypatch, fit_by_two):
    """Which die of it, since they miss the first."""

    def fail(*_, **__):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(MixtureTraining, "step", fail)  # of this process alone: the others are made anew
    with pytest.raises(RuntimeError, match=r"^not enough memory$"):
        fit_by_two(make_method(options), rows, None, checkpoints(tmp_path), None)


class _Foreign(NeuralMixture):
    """A method that no other process can take over, as one whose module is not there."""

    def __reduce__(self):
        return operator.truediv, (1, 0)


def test_a_worker_that_cannot_begin_is_not_waited_for(options, rows, tmp_path):
    method = make_method(options)
    method.__class__ = _Foreign
    with pytest.raises(ChildProcessError, match=r"a worker ended before the fit did: process \d+ with exit code 1;"):
        fit_together(2, method, rows, None, checkpoints(tmp_path), None)


def test_two_workers_read_mapped_rows_from_their_file(options, rows, tmp_path, monkeypatch):
    """Of which no scratch copy is made; a part of a map is no file that another process could open."""
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    copied, save = [], np.save
    monkeypatch.setattr(np, "save", lambda file, array: copied.append(len(array)) or save(file, array))
    together = fit_together(2, make_method(options), mapped, None, checkpoints(tmp_path), None)
    assert not copied
    part = fit_together(2, make_method(options), mapped[:512], None, checkpoints(tmp_path / "part"), None)
    assert copied == [512]
    assert len(part.predict(rows)) == len(together.predict(rows)) == len(rows)
    alone = make_method(options).fit(rows)
    np.testing.assert_allclose(together.predict_proba(rows), alone.predict_proba(rows), atol=1e-5)


class _Dying:
    """A process that is there for some looks, and then dies of a signal."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    @property
    def exitcode(self):
        self._looks -= 1
        return None if self._looks >= 0 else -9


def test_a_process_that_is_about_to_die_is_waited_for():
    living, dying = _Dying(10**9), _Dying(3)
    assert parallel._dead([living, dying], 600) == [dying]
    assert parallel._dead([living, _Dying(10**9)], 0) == []


def test_one_that_trains_alone_finds_itself_what_the_first_finds():
    assert workers.of_first(lambda: {"by": workers.current().n}) == {"by": 1}


def test_another_method_trains_on_one_worker(tiny_options, rows):
    method = make_method(tiny_options("imsat", "vectors", n_clusters=3))
    with pytest.raises(ValueError, match="parallel: imsat trains on one worker; expected workers = 1, got 2"):
        fit_together(2, method, rows, None, None, None)
    with pytest.raises(ValueError, match="parallel: imsat trains on one worker; expected workers = 1, got 2"):
        fit_on_ray(2, method, rows, None, None, None)
