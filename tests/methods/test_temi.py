"""TEMI against its paper's equations, written once more in numpy, and against torch's own layers."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from deep_clustering.methods import load_method, make_method, save_method
from deep_clustering.methods.temi import (
    TEMI,
    Heads,
    cosine_neighbours,
    log_probabilities,
    pair_weights,
    temi_loss,
    update_shares,
)
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data
from waits import Waits

HEADS, N, K, BETA = 3, 6, 4, 0.6


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of student and teacher, (HEADS, 2 N, K), and shares (HEADS, K)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(HEADS, 2 * N, K)), rng.normal(size=(HEADS, 2 * N, K)), softmax(rng.normal(size=(HEADS, K)))


def loss_by_row(student: np.ndarray, teacher: np.ndarray, shares: np.ndarray, beta: float) -> np.ndarray:
    """Equations (3) and (4) row by row and cluster by cluster, for each head."""
    weights = [
        np.mean([sum(teacher[h, i, k] * teacher[h, N + i, k] for k in range(K)) for h in range(HEADS)])
        for i in range(N)
    ]
    losses = []
    for h in range(HEADS):
        total = 0.0
        for i in range(N):
            one = np.log(sum((student[h, i, k] * teacher[h, N + i, k]) ** beta / shares[h, k] for k in range(K)))
            other = np.log(sum((student[h, N + i, k] * teacher[h, i, k]) ** beta / shares[h, k] for k in range(K)))
            total += weights[i] * (one + other) / 2
        losses.append(-total / N)
    return np.array(losses)


def test_probabilities_are_the_softmax_of_the_divided_logits(drawn):
    found = log_probabilities(torch.from_numpy(drawn[0]), 0.1).exp()
    np.testing.assert_allclose(found, softmax(drawn[0] / 0.1), rtol=1e-9, atol=1e-12)


def test_the_loss_is_that_of_the_paper(drawn):
    student, teacher, shares = softmax(drawn[0]), softmax(drawn[1]), drawn[2]
    log_teacher = torch.from_numpy(teacher).log()
    found = temi_loss(
        torch.from_numpy(student).log(), log_teacher, torch.from_numpy(shares), pair_weights(log_teacher), BETA
    )
    np.testing.assert_allclose(found, loss_by_row(student, teacher, shares, BETA), rtol=1e-9)


def test_the_gradient_is_that_of_the_paper_by_differences(drawn):
    logits, teacher, shares = drawn[0], softmax(drawn[1]), drawn[2]
    given = torch.from_numpy(logits).requires_grad_()
    log_teacher = torch.from_numpy(teacher).log()
    loss = temi_loss(
        torch.log_softmax(given, dim=2), log_teacher, torch.from_numpy(shares), pair_weights(log_teacher), BETA
    )
    loss.mean().backward()
    for place in [(0, 0, 0), (1, 3, 2), (2, 2 * N - 1, K - 1)]:
        moved = [logits.copy(), logits.copy()]
        moved[0][place] += 1e-5
        moved[1][place] -= 1e-5
        ahead, behind = (loss_by_row(softmax(one), teacher, shares, BETA).mean() for one in moved)
        np.testing.assert_allclose(given.grad[place], (ahead - behind) / 2e-5, rtol=1e-5)


def test_shares_move_towards_the_mean_of_both_views(drawn):
    teacher, shares = softmax(drawn[1]), drawn[2]
    found = update_shares(torch.from_numpy(shares), torch.from_numpy(teacher).log(), 0.9)
    np.testing.assert_allclose(found, 0.9 * shares + 0.1 * teacher.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.sum(dim=1), 1, rtol=1e-9)


def test_balanced_hard_clusters_that_both_views_agree_on_have_the_least_loss_of_all():
    hard = torch.eye(K).repeat(2, 1).unsqueeze(0).clamp_min(1e-30).log()  # both views of K rows, a cluster each
    shares = torch.full((1, K), 1 / K)
    loss = temi_loss(hard, hard, shares, pair_weights(hard), 1.0)
    np.testing.assert_allclose(loss, -np.log(K), rtol=1e-6)
    uniform = torch.full_like(hard, 1 / K).log()
    loss = temi_loss(uniform, uniform, shares, pair_weights(uniform), 1.0)  # log of 1, at any weight
    np.testing.assert_allclose(loss, 0, atol=1e-6)


def test_a_head_is_what_layers_of_torch_make_of_it():
    torch.manual_seed(0)
    network = Heads(heads=3, hidden=7, bottleneck=5).build((2, 3), 4)
    rows = torch.randn(6, 2, 3)
    found = network(rows)
    assert found.shape == (3, 6, 4)
    first, second, last = network[1], network[3], network[4]
    with torch.no_grad():
        last.gain.mul_(1 + torch.rand_like(last.gain))
    found = network(rows)
    for head in range(3):
        one, two, three = (
            nn.Linear(6, 7),
            nn.Linear(7, 5),
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 4, False)),
        )
        with torch.no_grad():
            for layer, made in ((one, first), (two, second)):
                layer.weight.copy_(made.weight[head])
                layer.bias.copy_(made.bias[head, 0])
            three.parametrizations.weight.original0.copy_(last.gain[head])
            three.parametrizations.weight.original1.copy_(last.direction[head])
        hidden = two(nn.functional.gelu(one(rows.flatten(1))))
        torch.testing.assert_close(found[head], three(hidden / hidden.norm(dim=1, keepdim=True)))


def test_heads_start_as_the_authors_do():
    torch.manual_seed(0)
    network = Heads(heads=2, hidden=200, bottleneck=100).build((300,), 10)
    for layer in (network[1], network[3]):
        assert abs(layer.weight.std().item() / 0.02 - 1) < 0.05
        assert not layer.bias.any()
    assert (network[4].gain == 1).all()
    assert network[4].direction.abs().max() <= 0.1  # 1 / sqrt(100)
    assert (network[1].weight[0] != network[1].weight[1]).any()


def test_neighbours_are_the_nearest_by_cosine_and_never_the_row_itself():
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    expected = np.argsort(-similarity, axis=1)[:, :5]
    np.testing.assert_array_equal(cosine_neighbours(rows, 5), expected)
    np.testing.assert_array_equal(cosine_neighbours(sparse.csr_matrix(rows), 5), expected)
    np.testing.assert_array_equal(cosine_neighbours(rows.reshape(40, 1, 2, 3), 5), expected)
    np.testing.assert_array_equal(cosine_neighbours(rows * np.float32(1e30), 5), expected)


def test_more_neighbours_than_other_rows_are_all_of_them(tiny_options, blobs, caplog):
    few, all_others = (
        make_method(tiny_options("temi", "vectors", n_clusters=3, n_neighbours=n)).fit(blobs[:40]) for n in (50, 39)
    )
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["temi: n_neighbours is 50, there are 39 other rows: all are taken"]
    np.testing.assert_array_equal(few.predict(blobs), all_others.predict(blobs))


@pytest.fixture
def begun(tiny_options, blobs):
    """Function that gives a model and its training, ready for a first step, and the views of one."""

    def begin(**changes):
        model = make_method(tiny_options("temi", "vectors", n_clusters=3, batch_size=40, epochs=10, **changes))
        assert isinstance(model, TEMI)
        model.device_ = torch.device("cpu")
        torch.manual_seed(0)
        model.build((5,))
        data = make_data(model, blobs, cosine_neighbours(blobs, 5))
        return model, model.training(data), data.pairs(torch.arange(40))

    return begin


def weights_of(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_the_teacher_follows_the_student_and_has_no_gradient(begun):
    model, training, views = begun(teacher_momentum=0.75, warmup=0.0)
    before = weights_of(model.student_)
    assert all(map(torch.equal, before, weights_of(model.encoder_)))
    training.step(views, torch.arange(40), None)
    for was, student, teacher in zip(before, weights_of(model.student_), weights_of(model.encoder_), strict=True):
        torch.testing.assert_close(teacher, 0.75 * was + 0.25 * student)
    assert all(parameter.grad is None for parameter in model.encoder_.parameters())


def test_the_last_layer_rests_in_the_first_epochs(begun):
    model, training, views = begun(frozen_epochs=2, warmup=0.0)
    stages = []
    for epoch in range(3):
        before = weights_of(model.student_[-1])
        stages.append(training.stage(epoch, None))
        training.step(views, torch.arange(40), None)
        moved = [not torch.equal(was, now) for was, now in zip(before, weights_of(model.student_[-1]), strict=True)]
        assert moved == [epoch == 2] * 2
    assert stages[0] == stages[1] != stages[2]  # a captured step goes on doing what it did


def test_the_rate_rises_with_the_batch_and_over_the_warm_up(begun):
    _, training, _ = begun(warmup=0.2, learning_rate=1e-3)  # 2 epochs of 3 batches
    peak, rates = 1e-3 * 40 / 256, []
    for _ in range(8):
        rates.append([group["lr"] for made in training.optimisers.values() for group in made.param_groups])
        for schedule in training.schedules.values():
            schedule.step()
    expected = np.append(np.linspace(0, peak, 6), [peak, peak])
    np.testing.assert_allclose(rates, np.stack([expected, expected], axis=1), rtol=1e-6)


def test_weights_decay_and_biases_do_not(begun):
    model, training, _ = begun(weight_decay=0.3)
    of_biases = {id(p) for name, p in model.student_.named_parameters() if name.endswith("bias")}
    decays = {
        id(parameter): group["weight_decay"]
        for optimiser in training.optimisers.values()
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    assert decays == {id(p): 0.0 if id(p) in of_biases else 0.3 for p in model.student_.parameters()}
    assert len(of_biases) == 2


def test_a_step_waits_for_no_device(begun):
    _, training, views = begun()
    training.optimisers = {  # Adam counts its steps on the device only where there is one
        name: torch.optim.SGD([parameter for group in made.param_groups for parameter in group["params"]], lr=0.1)
        for name, made in training.optimisers.items()
    }
    waits = Waits()
    with waits:
        training.step(views, torch.arange(40), None)
    assert waits.found == []


def test_the_head_of_least_loss_is_kept(tiny_options, blobs):
    fitted = make_method(tiny_options("temi", "vectors", n_clusters=3, heads=4, epochs=3)).fit(blobs)
    scores = fitted.history_["candidate_scores"]
    assert scores.shape == (4,)
    np.testing.assert_allclose(fitted.history_["final_pair_loss"], -scores.max())
    np.testing.assert_array_equal(fitted.history_["candidate_assignments"][scores.argmax()], fitted.predict(blobs))
    assert {len(array) for name, array in fitted.get_arrays().items() if name.startswith("encoder")} == {1}


def test_a_model_with_another_width_is_refused(tiny_options, blobs):
    model = save_method(make_method(tiny_options("temi", "vectors", n_clusters=3)).fit(blobs))
    with pytest.raises(ValueError, match="encoder: the saved weights do not fit the network"):
        load_method(model._replace(options=model.options | {"hidden": 17}))


@pytest.mark.parametrize("seed", range(3))
def test_separated_groups_are_found(tiny_options, blobs, blob_labels, seed):
    changes = {"heads": 8, "hidden": 64, "bottleneck": 32, "n_neighbours": 10, "epochs": 100, "learning_rate": 1e-3}
    options = tiny_options("temi", "vectors", n_clusters=3, seed=seed, teacher_momentum=0.9, **changes)
    assignments = make_method(options).fit(blobs).predict(blobs)
    assert accuracy(contingency(assignments, blob_labels, 3, 3)) == 1
