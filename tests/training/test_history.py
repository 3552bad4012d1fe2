"""The training history: means per epoch, snapshots, and the stop at values that are not finite."""

import numpy as np
import pytest
import torch

from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.history import History, Terms


def add(history: History, **terms: torch.Tensor) -> None:
    history.add(Terms(terms))


def test_columns_are_the_means_of_each_epochs_batches():
    history = History("x")
    terms = np.random.default_rng(0).normal(size=(3, 4, 2))  # epochs, batches, terms
    for epoch, batches in enumerate(terms):
        for loss, share in batches:
            add(history, loss=torch.tensor(loss), share=torch.tensor(share))
        history.close_epoch(epoch + 1)
    arrays = history.arrays()
    np.testing.assert_array_equal(arrays["epoch"], [1, 2, 3])
    np.testing.assert_allclose(arrays["loss"], terms[:, :, 0].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(arrays["share"], terms[:, :, 1].mean(axis=1), rtol=1e-5)
    assert arrays["loss"].dtype == np.float64


def test_terms_of_the_whole_epoch_stand_beside_the_means_of_its_batches():
    history = History("x")
    for epoch, share in enumerate([0.25, 0.75]):
        for loss in (1.0, 2.0):
            add(history, loss=torch.tensor(loss + epoch))
        history.close_epoch(epoch + 1, share=torch.tensor(share), count=torch.tensor(3))
    assert history.column("loss") == [1.5, 2.5]
    assert history.column("share") == [0.25, 0.75]
    np.testing.assert_array_equal(history.arrays()["count"], [3, 3])
    add(history, loss=torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match="x: 'share' became nan in epoch 3"):
        history.close_epoch(3, share=torch.tensor(float("nan")), count=torch.tensor(3))


@pytest.mark.parametrize("n_batches", [1, 255, 256, 257, 1000])
def test_an_epoch_may_have_any_number_of_batches(n_batches):
    history = History("x")
    values = torch.rand(2, n_batches, generator=torch.Generator().manual_seed(0))
    for epoch, batches in enumerate(values):
        for value in batches:
            add(history, value=value)
        history.close_epoch(epoch + 1)
    np.testing.assert_allclose(history.column("value"), values.double().mean(dim=1), rtol=1e-6)


def test_an_epoch_may_have_other_terms_than_the_one_before():
    history = History("x")
    add(history, loss=torch.tensor(1.0), share=torch.tensor(2.0))
    history.close_epoch(1)
    add(history, loss=torch.tensor(3.0))
    history.close_epoch(2)
    assert history.last("loss") == "loss 3.000"


def test_the_terms_of_a_batch_are_copied():
    """Those of a replayed step lie where those of the next one will be."""
    history, terms = History("x"), Terms({"loss": torch.tensor(1.0)})
    for value in (1.0, 3.0):
        terms.values.fill_(value)
        history.add(terms)
    history.close_epoch(1)
    assert history.column("loss") == [2.0]


def test_snapshots_keep_epoch_and_clusters():
    history = History("x")
    history.snapshot(0, torch.tensor([0, 1, 2]))
    history.snapshot(5, torch.tensor([2, 1, 2]))
    np.testing.assert_array_equal(history.newest_snapshot(), [2, 1, 2])
    arrays = history.arrays()
    np.testing.assert_array_equal(arrays["snapshot_epoch"], [0, 5])
    np.testing.assert_array_equal(arrays["snapshot_assignments"], [[0, 1, 2], [2, 1, 2]])
    assert arrays["snapshot_epoch"].dtype == np.int64
    assert arrays["snapshot_assignments"].dtype == np.int16


def test_an_empty_history_has_empty_columns():
    arrays = History("x").arrays()
    assert set(arrays) == {"epoch", "snapshot_epoch", "snapshot_assignments"}
    assert all(len(column) == 0 for column in arrays.values())
    assert History("x").last("loss") == ""


def test_last_shows_the_last_epoch_only():
    history = History("x")
    for epoch, loss in enumerate([2.0, 0.5]):
        add(history, loss=torch.tensor(loss), share=torch.tensor(1.0))
        history.close_epoch(epoch + 1)
    assert history.last("loss", "share") == "loss 0.500, share 1.000"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_stops_with_method_term_and_epoch(value):
    history = History("some_method")
    add(history, fine=torch.tensor(1.0), broken=torch.tensor(value))
    add(history, fine=torch.tensor(1.0), broken=torch.tensor(1.0))
    with pytest.raises(FloatingPointError, match=r"some_method: 'broken' became (nan|inf|-inf) in epoch 7"):
        history.close_epoch(7)


def test_noted_terms_hold_no_graph():
    history = History("x")
    weight = torch.ones(1, requires_grad=True)
    term = (2 * weight).sum()
    add(history, loss=term)
    assert not history._table.requires_grad
    assert term.requires_grad


def test_final_figures_of_each_kind_stand_beside_the_curves():
    history = History("x")
    history.circumstances(precision="bf16", device="cpu")
    history.final(share=torch.tensor(0.25))
    history.candidates([torch.tensor([0, 1]), torch.tensor([1, 1])], torch.tensor([0.5, 0.75]))
    history.selection(n_clusters=torch.tensor([2, 3]), probability=torch.tensor([0.25, 0.75]))
    arrays = history.arrays()
    assert (str(arrays["under_precision"]), str(arrays["under_device"])) == ("bf16", "cpu")
    assert arrays["final_share"] == history.newest_final("share") == 0.25
    np.testing.assert_array_equal(arrays["candidate_assignments"], [[0, 1], [1, 1]])
    np.testing.assert_array_equal(arrays["candidate_scores"], [0.5, 0.75])
    np.testing.assert_array_equal(arrays["selection_n_clusters"], [2, 3])
    assert {arrays[name].dtype for name in ("candidate_scores", "selection_n_clusters", "final_share")} == {
        np.dtype(np.float64)
    }


def test_candidates_have_origins_where_there_are_some():
    history, candidates, scores = History("x"), [torch.tensor([0, 1]), torch.tensor([1, 1])], torch.tensor([0.5, 0.75])
    history.candidates(candidates, scores)
    assert "candidate_origins" not in history.arrays()
    history.candidates(candidates, scores, ["best head", "consensus"])
    assert str(history.arrays()["candidate_origins"]).split("\n") == ["best head", "consensus"]


@pytest.mark.filterwarnings("error")
def test_a_restored_history_is_the_one_that_was_saved(tmp_path):
    history = History("x")
    history.circumstances(precision="bf16")
    history.snapshot(0, torch.tensor([0, 1, 2]))
    add(history, loss=torch.tensor(1.5))
    history.close_epoch(1, share=torch.tensor(0.5))
    history.final(share=torch.tensor(0.25))
    history.candidates([torch.tensor([0, 1, 2])], torch.tensor([0.5]), ["best head"])
    checkpoints = Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(tmp_path)), "x")
    checkpoints.begin({})
    checkpoints.save(1, {"history": history.state()})
    restored = History("x")
    restored.restore(checkpoints.begin({})["history"])
    assert restored.n_epochs == 1
    expected, found = history.arrays(), restored.arrays()
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype
