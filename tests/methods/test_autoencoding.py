"""ABC, DEC, IDEC and DCN against their papers' equations, written once more by rows and clusters."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from sklearn.cluster import MiniBatchKMeans

from deep_clustering.methods import make_method
from deep_clustering.methods.autoencoder import cluster_means, near_rows, pull_loss, soft_neighbour_loss
from deep_clustering.methods.autoencoding import reconstruction_error, root_mean_square, squared_distances
from deep_clustering.methods.dcn import moved_centroids
from deep_clustering.methods.dec import divergence, log_soft_assignments, target_distribution
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data
from deep_clustering.training.rows import Rows
from still_views import STILL

N, K, D = 12, 3, 4
PULLING = ("autoencoder", "dec", "idec", "dcn")
AUTOENCODERS = (*PULLING, "vade", "dcgmm")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def soft_assignments_by_row(latent: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Student's t of one degree of freedom at the distance, which scipy knows."""
    density = np.array([[student.pdf(np.linalg.norm(z - m), df=1) for m in centroids] for z in latent])
    return density / density.sum(axis=1, keepdims=True)


def target_by_row(q: np.ndarray) -> np.ndarray:
    target = np.zeros_like(q)
    for i in range(len(q)):
        for k in range(q.shape[1]):
            target[i, k] = q[i, k] ** 2 / q[:, k].sum()
        target[i] /= target[i].sum()
    return target


def test_soft_assignments_are_students_t(rng):
    latent, centroids = rng.normal(size=(N, D)), rng.normal(size=(K, D))
    found = log_soft_assignments(torch.from_numpy(latent), torch.from_numpy(centroids)).exp()
    np.testing.assert_allclose(found, soft_assignments_by_row(latent, centroids), rtol=1e-9)


def test_the_target_and_the_divergence_are_those_of_the_paper(rng):
    q = rng.dirichlet(np.ones(K), size=N)
    log_q = torch.from_numpy(np.log(q))
    target = target_distribution(log_q, torch.logsumexp(log_q, dim=0))
    expected = target_by_row(q)
    np.testing.assert_allclose(target, expected, rtol=1e-9)
    by_rows = sum(expected[i, k] * np.log(expected[i, k] / q[i, k]) for i in range(N) for k in range(K)) / N
    np.testing.assert_allclose(divergence(target, log_q), by_rows, rtol=1e-9)


def test_the_target_of_a_cluster_that_no_row_is_near_is_a_distribution():
    latent = torch.zeros(5, 2)
    centroids = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3e30, 0.0]], requires_grad=True)
    log_q = log_soft_assignments(latent, centroids)
    target = target_distribution(log_q, torch.logsumexp(log_q, dim=0)).detach()
    np.testing.assert_allclose(target.sum(dim=1), 1, rtol=1e-6)
    divergence(target, log_q).backward()
    assert torch.isfinite(centroids.grad).all()


def test_distances_are_numbers_also_where_squares_overflow(rng):
    latent, centroids = rng.normal(size=(N, D)), rng.normal(size=(K, D))
    expected = [[((z - m) ** 2).sum() for m in centroids] for z in latent]
    np.testing.assert_allclose(squared_distances(*map(torch.from_numpy, (latent, centroids))), expected, rtol=1e-9)
    assert torch.isfinite(squared_distances(torch.full((2, D), 1e30), torch.zeros(K, D))).all()


def test_the_soft_nearest_neighbour_loss_is_that_of_its_definition(rng):
    rows, latent = rng.normal(size=(N, 2, 3)), rng.normal(size=(N, D))
    flat = rows.reshape(N, -1)
    squares = np.array([[((a - b) ** 2).sum() for b in latent] for a in latent])
    temperature = 0.3 * squares.sum() / (N * (N - 1))
    expected = 0.0
    for i in range(N):
        others = [j for j in range(N) if j != i]
        near = sorted(others, key=lambda j: ((flat[i] - flat[j]) ** 2).sum())[:4]
        similar = {j: np.exp(-squares[i, j] / temperature) for j in others}
        expected -= np.log(sum(similar[j] for j in near) / sum(similar.values())) / N
    is_near = near_rows(torch.from_numpy(rows), 4)
    np.testing.assert_allclose(soft_neighbour_loss(torch.from_numpy(latent), is_near, 0.3), expected, rtol=1e-9)
    np.testing.assert_allclose(soft_neighbour_loss(torch.from_numpy(1e3 * latent), is_near, 0.3), expected, rtol=1e-9)


@pytest.mark.parametrize("latent", [torch.zeros(4, 2), torch.full((4, 2), 1e30), torch.eye(4) * 1e30])
def test_the_soft_nearest_neighbour_loss_is_finite_where_latents_are_equal_or_far(latent):
    latent.requires_grad_()
    loss = soft_neighbour_loss(latent, near_rows(torch.zeros(4, 3), 9), 0.1)
    loss.backward()
    assert loss.item() == 0  # all others are near
    assert torch.isfinite(latent.grad).all()


def test_the_losses_of_the_autoencoder_are_means_over_rows(rng):
    rows, decoded = rng.normal(size=(N, 1, 2, 3)), rng.normal(size=(N, 6))
    latent, centroids, own = rng.normal(size=(N, D)), rng.normal(size=(K, D)), rng.integers(K, size=N)
    error = sum((rows[i].ravel()[j] - decoded[i, j]) ** 2 for i in range(N) for j in range(6)) / N / 6
    pull = sum(((latent[i] - centroids[own[i]]) ** 2).sum() for i in range(N)) / N
    found = reconstruction_error(torch.from_numpy(rows), torch.from_numpy(decoded))
    np.testing.assert_allclose(found, error, rtol=1e-6)
    np.testing.assert_allclose(pull_loss(*map(torch.from_numpy, (latent, centroids, own))), pull, rtol=1e-9)


def test_centres_are_means_and_one_without_rows_stays(rng):
    latent, centroids, own = rng.normal(size=(N, D)), rng.normal(size=(K, D)), np.arange(N) % 2
    found = cluster_means(*map(torch.from_numpy, (latent, own, centroids)))
    expected = [latent[own == 0].mean(axis=0), latent[own == 1].mean(axis=0), centroids[2]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("first", [0, 5])
def test_centres_move_as_row_by_row(rng, first):
    latent, own = rng.normal(size=(N, D)), np.arange(N) % 2  # the third has no rows
    centroids, counts = rng.normal(size=(K, D)), np.full(K, float(first))
    found = moved_centroids(*map(torch.from_numpy, (centroids, counts, latent, own)))
    for z, k in zip(latent, own, strict=True):
        counts[k] += 1
        centroids[k] -= (centroids[k] - z) / counts[k]
    np.testing.assert_allclose(found[0], centroids, rtol=1e-9)
    np.testing.assert_allclose(found[1], counts)


def test_centres_move_as_those_of_scikit_learn(rng):
    latent, start = rng.normal(size=(40, D)), rng.normal(size=(K, D))
    oracle = MiniBatchKMeans(K, init=start, n_init=1, reassignment_ratio=0.0)
    centroids, counts = torch.from_numpy(start), torch.zeros(K, dtype=torch.float64)
    for batch in latent.reshape(4, 10, D):
        points = torch.from_numpy(batch)
        own = squared_distances(points, centroids).argmin(dim=1)
        centroids, counts = moved_centroids(centroids, counts, points, own)
        oracle.partial_fit(batch)
    np.testing.assert_allclose(centroids, oracle.cluster_centers_, rtol=1e-9)


def test_the_unit_of_rows_is_the_root_mean_square_of_their_values(rng):
    values = rng.normal(1, 2, size=(5000, 1, 2, 3)).astype(np.float32)
    weights = rng.uniform(0.5, 2.0, size=len(values))
    rows = Rows(values, torch.device("cpu"))
    assert root_mean_square(rows) == pytest.approx(np.sqrt((values.astype(float) ** 2).sum() / 30000), rel=1e-9)
    weighted = Rows(values, torch.device("cpu"), weights=weights)
    counted = weighted.in_proportion(torch.arange(len(values))).numpy()
    assert root_mean_square(weighted) == pytest.approx(np.sqrt((values[counted].astype(float) ** 2).mean()), rel=1e-9)
    assert root_mean_square(Rows(np.zeros((4, 2), np.float32), torch.device("cpu"))) > 0


@pytest.mark.parametrize("method", [*PULLING, "n2d"])
def test_in_their_own_unit_rows_of_any_size_train_alike(tiny_options, blobs, method):
    """Smaller by a power of two, by which no number is rounded otherwise."""

    def fitted_to(rows, row_unit):
        changes = {"n_clusters": 3, "epochs": 6, "views": {"kind": "same"}, "row_unit": row_unit}
        return make_method(tiny_options(method, "vectors", **changes)).fit(rows)

    small = np.ldexp(blobs, -9)
    usual, other = fitted_to(blobs, "root_mean_square"), fitted_to(small, "root_mean_square")
    np.testing.assert_array_equal(other.history_["loss"], usual.history_["loss"])
    saved = make_method(tiny_options(method, "vectors", n_clusters=3)).set_arrays(other.get_arrays())
    np.testing.assert_array_equal(saved.describe(small).latent, usual.describe(blobs).latent)
    assert not np.allclose(fitted_to(small, "one").history_["loss"], fitted_to(blobs, "one").history_["loss"])


@pytest.mark.parametrize("power", [-9, 60])
@pytest.mark.parametrize("method", ["vade", "dcgmm"])
def test_under_gaussian_noise_rows_of_any_size_train_alike(tiny_options, blobs, method, power):
    """Times a power of two, by which no number is rounded otherwise: of a density only the volume is another."""
    changes = {"n_clusters": 3, "epochs": 6, "views": {"kind": "same"}, "likelihood": "gaussian"}
    scaled = np.ldexp(blobs, power)
    usual, other = (make_method(tiny_options(method, "vectors", **changes)).fit(rows) for rows in (blobs, scaled))
    np.testing.assert_array_equal(other.describe(scaled).latent, usual.describe(blobs).latent)
    np.testing.assert_array_equal(other.predict(scaled), usual.predict(blobs))
    volume = blobs.shape[1] * power * np.log(2)
    np.testing.assert_allclose(other.history_["loss"], usual.history_["loss"] + volume, rtol=1e-4)


@pytest.mark.parametrize("method", AUTOENCODERS)
@pytest.mark.parametrize("pretraining", [0.0, 0.5, 1.0])
def test_the_first_epochs_reconstruct_alone(tiny_options, blobs, method, pretraining):
    options = tiny_options(method, "vectors", n_clusters=3, epochs=4, pretraining=pretraining)
    history = make_method(options).fit(blobs).history_
    n_alone = round(4 * pretraining)
    assert (history["clustering"][:n_alone] == 0).all()
    assert (history["clustering"][n_alone:] != 0).all()
    np.testing.assert_array_equal(history["loss"][:n_alone], history["reconstruction"][:n_alone])


@pytest.mark.parametrize("method", [*AUTOENCODERS, "n2d", "aae"])
@pytest.mark.parametrize("kind", ["mlp", "plain_mlp"])
def test_views_are_encoded_and_decoded_in_their_own_size(tiny_options, digits, method, kind):
    """Both coders are normalised, or neither."""
    views = {"kind": "affine", **STILL, "size": 6, "rotation": 10.0}
    fitted = make_method(tiny_options(method, encoder={"kind": kind, "hidden": [16]}, views=views)).fit(digits)
    for coder in ("encoder", "decoder"):
        is_normalised = any(isinstance(layer, torch.nn.BatchNorm1d) for layer in fitted.networks_[coder])
        assert is_normalised == (kind == "mlp")
    assert fitted.networks_["encoder"][1].in_features == 36
    assert fitted.networks_["decoder"][-1].out_features == 36
    assert fitted.predict(digits[:5]).shape == (5,)


@pytest.mark.parametrize("method", ["autoencoder", "dec", "idec"])
def test_views_that_are_the_rows_train_as_the_rows(tiny_options, digits, method):
    """Two of each: means over a batch, its moments and what is said of each row are the same."""
    size = {"batch_size": len(digits), "epochs": 6, "encoder": {"kind": "mlp", "hidden": [16]}}
    alone = make_method(tiny_options(method, views={"kind": "same"}, **size)).fit(digits)
    twice = make_method(tiny_options(method, views={"kind": "affine", **STILL}, **size)).fit(digits)
    for term in ("loss", "reconstruction", "clustering"):
        np.testing.assert_allclose(twice.history_[term], alone.history_[term], rtol=1e-3, atol=1e-6)
    assert twice.history_["clustering"][-1] > 0


def test_the_rows_of_views_are_those_of_the_batch_for_each_of_a_kind(tiny_options, digits):
    model = make_method(tiny_options("dec", views={"kind": "affine", **STILL}))
    model.device_ = torch.device("cpu")
    model.build(digits.shape[1:])
    steps = model.training(make_data(model, digits, None))
    index = torch.tensor([5, 3])
    views = steps.data.pairs(index)
    rows = torch.tensor(digits)[steps.of_views(index)]
    np.testing.assert_allclose(views, rows, atol=1e-6)


def test_pretraining_of_all_methods_is_the_same(tiny_options, blobs):
    ends = [
        make_method(tiny_options(method, "vectors", n_clusters=3, pretraining=1.0)).fit(blobs).predict(blobs)
        for method in ("autoencoder", "idec", "dcn")
    ]
    for other in ends[1:]:
        np.testing.assert_array_equal(other, ends[0])


@pytest.mark.parametrize("method", AUTOENCODERS)
def test_well_separated_groups_are_found(tiny_options, blobs, blob_labels, method):
    options = tiny_options(method, "vectors", n_clusters=3, epochs=60, batch_size=40, latent_dim=3, n_init=5)
    found = make_method(options).fit(blobs).predict(blobs)
    assert accuracy(contingency(found, blob_labels, 3, 3)) == 1


def test_an_autoencoder_keeps_near_rows_near_if_asked_to(blobs, tiny_options):
    def ends_at(weight):
        changes = {"n_clusters": 3, "epochs": 60, "batch_size": 40, "neighbour_weight": weight}
        return make_method(tiny_options("autoencoder", "vectors", **changes)).fit(blobs).history_["neighbours"][-1]

    assert ends_at(10.0) < ends_at(1e-9)
