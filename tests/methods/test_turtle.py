"""TURTLE against its paper's equations, written once more in numpy, and against torch's own layers and Adam."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods import make_method
from deep_clustering.methods.turtle import TaskEncoder, cross_entropy, draw_linear, fit_inner, linear, outer_objective
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data
from waits import Waits

HEADS, N, K, D = 2, 8, 3, 5


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def objective_by_row(logits: list[np.ndarray], of_spaces: list[np.ndarray], gamma: float) -> np.ndarray:
    """Equation (3) by rows and clusters, for each head."""
    labels = sum(of_spaces) / len(of_spaces)
    found = []
    for h in range(HEADS):
        value = 0.0
        for one, tau in zip(logits, of_spaces, strict=True):
            predicted = softmax(one)
            value -= sum(labels[i, h, k] * np.log(predicted[i, h, k]) for i in range(N) for k in range(K)) / N
            shares = tau[:, h].mean(axis=0)
            value -= gamma * -sum(share * np.log(share) for share in shares)
        found.append(value)
    return np.array(found)


@pytest.mark.parametrize("n_spaces", [1, 2])
def test_the_objective_is_that_of_the_paper(rng, n_spaces):
    logits = [rng.normal(size=(N, HEADS, K)) for _ in range(n_spaces)]
    of_spaces = [softmax(rng.normal(size=(N, HEADS, K))) for _ in range(n_spaces)]
    found, fit_of_labels, entropy = outer_objective(
        [torch.from_numpy(one) for one in logits], [torch.from_numpy(one) for one in of_spaces], 10.0
    )
    np.testing.assert_allclose(found, objective_by_row(logits, of_spaces, 10.0), rtol=1e-9)
    np.testing.assert_allclose(fit_of_labels, objective_by_row(logits, of_spaces, 0.0), rtol=1e-9)
    np.testing.assert_allclose(fit_of_labels - 10 * n_spaces * entropy, found, rtol=1e-9)


def test_gradients_reach_the_labels_alone_and_are_those_of_the_paper_by_differences(rng):
    logits, given = ([rng.normal(size=(N, HEADS, K)) for _ in range(2)] for _ in range(2))
    encoded = [torch.from_numpy(one).requires_grad_() for one in given]
    inner = [torch.from_numpy(one).requires_grad_() for one in logits]
    outer_objective(inner, [torch.softmax(one, dim=2) for one in encoded], 10.0)[0].sum().backward()
    assert all(one.grad is None for one in inner)
    for place in [(0, 0, 0), (3, 1, 2), (N - 1, 0, 1)]:
        moved = []
        for step in (1e-5, -1e-5):
            changed = given[0].copy()
            changed[place] += step
            moved.append(objective_by_row(logits, [softmax(changed), softmax(given[1])], 10.0).sum())
        np.testing.assert_allclose(encoded[0].grad[place], (moved[0] - moved[1]) / 2e-5, rtol=1e-5)


def test_the_objective_has_the_entropys_bound_as_its_own():
    hard = torch.eye(K).unsqueeze(1).expand(K, HEADS, K)
    objective, fit_of_labels, entropy = outer_objective([hard * 50], [hard], 10.0)
    np.testing.assert_allclose(entropy, np.log(K), rtol=1e-6)
    np.testing.assert_allclose(fit_of_labels, 0, atol=1e-6)
    np.testing.assert_allclose(objective, -10 * np.log(K), rtol=1e-6)


@pytest.mark.parametrize("n_steps", [1, 10])
def test_the_inner_problem_is_what_torchs_adam_makes_of_it(n_steps):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(N, D, generator=generator)
    labels = torch.softmax(torch.randn(N, HEADS, K, generator=generator), dim=2)
    start = draw_linear(HEADS, K, D, generator)
    kept = [part.clone() for part in start]
    weights, biases = fit_inner(rows, labels, start, n_steps, 0.01)
    assert all(map(torch.equal, kept, start))
    for head in range(HEADS):
        layer = nn.Linear(D, K)
        with torch.no_grad():
            layer.weight.copy_(start[0][head])
            layer.bias.copy_(start[1][head])
        optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)
        for _ in range(n_steps):
            optimiser.zero_grad()
            F.cross_entropy(layer(rows), labels[:, head]).backward()
            optimiser.step()
        torch.testing.assert_close(weights[head], layer.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(biases[head], layer.bias, rtol=1e-4, atol=1e-6)


def test_the_cross_entropy_is_torchs():
    logits, labels = torch.randn(N, HEADS, K), torch.softmax(torch.randn(N, HEADS, K), dim=2)
    expected = torch.stack([F.cross_entropy(logits[:, h], labels[:, h]) for h in range(HEADS)])
    torch.testing.assert_close(cross_entropy(logits, labels), expected)


def test_a_random_start_is_that_of_torchs_linear_layers():
    weights, biases = draw_linear(2, 50, 400, torch.Generator().manual_seed(0))
    for part in (weights, biases):
        assert part.abs().max() <= 0.05  # 1 / sqrt(400)
        assert abs(float(part.std()) - 0.05 / 3**0.5) < 0.004
    assert weights.shape == (2, 50, 400)


def test_a_task_encoder_is_a_weight_normalised_layer_in_each_space():
    torch.manual_seed(0)
    encoder = TaskEncoder([2, 3], HEADS, K)
    rows = torch.randn(N, 5)
    start = encoder(rows)
    for space, part in enumerate(rows.split([2, 3], dim=1)):  # at first the gain is the direction's own length
        expected = linear(part, encoder.directions[space], encoder.biases[space])
        torch.testing.assert_close(start[:, space], expected)
    with torch.no_grad():
        encoder.gains[1].mul_(1 + torch.rand_like(encoder.gains[1]))
    found = encoder(rows)
    assert found.shape == (N, 2, HEADS, K)
    for head in range(HEADS):
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, K))
        with torch.no_grad():
            layer.parametrizations.weight.original0.copy_(encoder.gains[1][head])
            layer.parametrizations.weight.original1.copy_(encoder.directions[1][head])
            layer.bias.copy_(encoder.biases[1][head])
        torch.testing.assert_close(found[:, 1, head], layer(rows[:, 2:]))


def test_labels_are_the_mean_over_the_spaces(tiny_options, blobs):
    fitted = make_method(tiny_options("turtle", "vectors", n_clusters=3, spaces=[2, 3])).fit(blobs)
    logits = fitted.transform(blobs).reshape(-1, 2, 3)
    np.testing.assert_allclose(fitted.predict_proba(blobs), softmax(logits).mean(axis=1), rtol=1e-5)


def test_spaces_that_are_not_all_columns_are_refused(tiny_options, blobs):
    options = tiny_options("turtle", "vectors", n_clusters=3, spaces=[2, 2])
    message = r"turtle: the widths in spaces must sum to the 5 values of a row, got \[2, 2\] with sum 4"
    with pytest.raises(ValueError, match=message):
        make_method(options).fit(blobs)


@pytest.mark.parametrize(("steps", "batch_size", "n_epochs"), [(7, 120, 7), (7, 1000, 7), (7, 50, 4), (6, 60, 3)])
def test_passes_are_as_many_as_the_steps_need(tiny_options, blobs, steps, batch_size, n_epochs):
    options = tiny_options("turtle", "vectors", n_clusters=3, steps=steps, batch_size=batch_size)
    assert len(make_method(options).fit(blobs).history_["epoch"]) == n_epochs


def test_a_head_of_several_is_trained_as_if_it_were_alone():
    """Their problems share nothing but the rows."""
    generator = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(N, D, generator=generator), torch.rand(N, HEADS, K, generator=generator)
    labels /= labels.sum(dim=2, keepdim=True)
    start = draw_linear(HEADS, K, D, generator)
    together = fit_inner(rows, labels, start, 5, 0.01)
    for head in range(HEADS):
        one = slice(head, head + 1)
        alone = fit_inner(rows, labels[:, one], (start[0][one], start[1][one]), 5, 0.01)
        for part, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(part, whole[one])


def test_a_step_waits_for_no_device(tiny_options, blobs):
    model = make_method(tiny_options("turtle", "vectors", n_clusters=3, spaces=[2, 3]))
    model.device_ = torch.device("cpu")
    model.build((5,))
    training = model.training(make_data(model, blobs, None))
    # Adam counts its steps on the device only where there is one.
    training.optimisers = {"encoder": torch.optim.SGD(model.encoder_.parameters(), lr=0.1)}
    waits = Waits()
    with waits:
        training.step(torch.from_numpy(blobs.copy()), torch.arange(len(blobs)), None)
    assert waits.found == []


def test_the_head_of_least_objective_is_kept(tiny_options, blobs):
    fitted = make_method(tiny_options("turtle", "vectors", n_clusters=3, heads=4, steps=20)).fit(blobs)
    scores = fitted.history_["candidate_scores"]
    assert scores.shape == (4,)
    np.testing.assert_allclose(fitted.history_["final_objective"], -scores.max())
    np.testing.assert_array_equal(fitted.history_["candidate_assignments"][scores.argmax()], fitted.predict(blobs))
    # Weighted means of what one head had lie between its least and its greatest.
    one = make_method(tiny_options("turtle", "vectors", n_clusters=3, heads=1, steps=20)).fit(blobs).history_
    assert one["objective"].min() <= one["final_objective"] <= one["objective"].max()


@pytest.mark.parametrize("spaces", [[], [2, 3]])
@pytest.mark.parametrize("seed", range(3))
def test_separated_groups_are_found(tiny_options, blobs, blob_labels, seed, spaces):
    changes = {"steps": 500, "batch_size": 120, "learning_rate": 0.01, "inner_learning_rate": 0.1, "heads": 4}
    options = tiny_options("turtle", "vectors", n_clusters=3, seed=seed, spaces=spaces, record_every=1000)
    assignments = make_method(options | changes).fit(blobs).predict(blobs)
    assert accuracy(contingency(assignments, blob_labels, 3, 3)) == 1
