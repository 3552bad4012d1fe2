"""Losses of representation learning against their definitions, written with loops in double precision."""

import math

import numpy as np
import pytest
import torch

from deep_clustering.training.representations import make_representation
from deep_clustering.training.representations.byol import byol
from deep_clustering.training.representations.coding_rate import coding_rate, total_coding_rate
from deep_clustering.training.representations.infonce import info_nce
from deep_clustering.training.representations.vicreg import vicreg

INFONCE = {"kind": "infonce", "weight": 1.0, "projection": [8, 4], "temperature": 0.2}
VICREG = {"kind": "vicreg", "weight": 0.5, "projection": [6], "invariance": 25.0, "variance": 25.0, "covariance": 1.0}

CODING_RATE = {"kind": "coding_rate", "weight": 1.0, "projection": [8, 4], "invariance": 200.0, "distortion": 0.2}
BYOL = {"kind": "byol", "weight": 1.0, "projection": [8, 4], "prediction": [6, 4], "momentum": 0.99}


def projections(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2 * n, d))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_infonce_is_the_log_share_of_the_other_view(n, temperature):
    z = projections(n, 5)
    cosine = [[a @ b / math.sqrt((a @ a) * (b @ b)) for b in z] for a in z]
    terms = []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = sum(math.exp(cosine[i][k] / temperature) for k in range(2 * n) if k != i)
        terms.append(-math.log(math.exp(cosine[i][partner] / temperature) / others))
    assert float(info_nce(torch.tensor(z), temperature)) == pytest.approx(np.mean(terms), rel=1e-5, abs=1e-6)


def test_infonce_of_equal_projections_is_that_of_a_guess():
    assert float(info_nce(torch.ones(20, 3), 0.2)) == pytest.approx(math.log(19), rel=1e-5)


def test_infonce_does_not_depend_on_the_lengths_or_on_a_rotation():
    z = torch.tensor(projections(6, 4), dtype=torch.float32)
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    lengths = torch.linspace(0.1, 9, 12).unsqueeze(1)
    assert float(info_nce(z @ turned * lengths, 0.3)) == pytest.approx(float(info_nce(z, 0.3)), rel=1e-4)


def test_infonce_has_finite_gradients():
    z = torch.tensor(projections(3, 4), dtype=torch.float32, requires_grad=True)
    info_nce(z, 0.2).backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().sum() > 0


def test_vicreg_is_the_sum_of_its_three_terms():
    n, d = 7, 4
    z = projections(n, d)
    a, b = z[:n], z[n:]
    alike = sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    spread = together = 0.0
    for view in (a, b):
        covariance = np.cov(view, rowvar=False)
        spread += np.mean([max(0, 1 - math.sqrt(covariance[j, j] + 1e-4)) for j in range(d)]) / 2
        together += sum(covariance[j, k] ** 2 for j in range(d) for k in range(d) if j != k) / d
    for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (25, 24, 3)):
        expected = np.dot(weights, [alike, spread, together])
        assert float(vicreg(torch.tensor(z), *map(float, weights))) == pytest.approx(expected, rel=1e-4)


def test_vicreg_of_equal_projections_is_the_lack_of_variance():
    z = torch.ones(8, 3, requires_grad=True)
    loss = vicreg(z, 25.0, 10.0, 1.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(10 * (1 - 1e-2), rel=1e-5)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("n", [1, 5])
def test_byol_is_the_squared_distance_of_unit_vectors_of_both_directions(n):
    p, t = projections(n, 4), projections(n, 4, seed=1)
    unit = [v / math.sqrt(v @ v) for v in p], [v / math.sqrt(v @ v) for v in t]
    per_row = [sum((unit[0][i] - unit[1][i + n]) ** 2) + sum((unit[0][i + n] - unit[1][i]) ** 2) for i in range(n)]
    assert float(byol(torch.tensor(p), torch.tensor(t))) == pytest.approx(np.mean(per_row), rel=1e-5)


def test_byol_is_least_where_each_view_foretells_the_other():
    t = torch.tensor(projections(4, 3), dtype=torch.float32)
    assert float(byol(3 * t.roll(4, 0), t)) == pytest.approx(0, abs=1e-5)
    assert float(byol(-t.roll(4, 0), t)) == pytest.approx(8, abs=1e-5)


@pytest.mark.parametrize(("n", "d"), [(3, 5), (5, 5), (9, 4), (1, 3)])
@pytest.mark.parametrize("distortion", [0.05, 0.5])
def test_coding_rate_is_the_log_determinant(n, d, distortion):
    z = np.random.default_rng(n).normal(size=(n, d))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    expected = np.linalg.slogdet(np.eye(d) + d / (n * distortion) * z.T @ z)[1] / 2
    assert float(coding_rate(torch.tensor(z), distortion)) == pytest.approx(expected, rel=1e-9)


def test_coding_rate_is_greatest_for_rows_at_right_angles():
    axes, n = torch.eye(4, dtype=torch.float64), 4
    expected = n / 2 * math.log(1 + 1 / 0.2)  # d / (n distortion) for each of the four
    assert float(coding_rate(axes, 0.2)) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = torch.nn.functional.normalize(torch.tensor(rng.normal(size=(4, 4))), dim=1)
        assert float(coding_rate(other, 0.2)) < expected


@pytest.mark.parametrize("n_views", [2, 3, 7])
def test_total_coding_rate_is_that_of_each_view_and_the_cosine_to_the_mean(n_views):
    n, d, invariance, distortion = 5, 4, 7.0, 0.2
    z = np.random.default_rng(n_views).normal(size=(n_views, n, d))
    unit = z / np.linalg.norm(z, axis=2, keepdims=True)
    rates = [np.linalg.slogdet(np.eye(d) + d / (n * distortion) * v.T @ v)[1] / 2 for v in unit]
    cosines = []
    for i in range(n):
        mean = sum(unit[v, i] for v in range(n_views)) / n_views
        cosines += [unit[v, i] @ mean / math.sqrt(mean @ mean) for v in range(n_views)]
    expected = -np.mean(rates) - invariance * np.mean(cosines)
    found = total_coding_rate(torch.tensor(z).flatten(0, 1), n_views, invariance, distortion)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    options = CODING_RATE | {"invariance": invariance}
    rows = torch.tensor(z, dtype=torch.float32).flatten(0, 1)
    torch.testing.assert_close(make_representation(options).loss_of_views(rows, None, n_views), found)


def test_total_coding_rate_has_finite_gradients_where_all_projections_are_the_same():
    z = torch.ones(6, 4, requires_grad=True)
    loss = total_coding_rate(z, 3, 200.0, 0.2)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-200 - math.log(1 + 4 / 0.2) / 2, rel=1e-5)
    assert torch.isfinite(z.grad).all()


def test_the_options_reach_the_loss_and_the_projector():
    z = torch.tensor(projections(5, 6), dtype=torch.float32)
    assert torch.equal(make_representation(INFONCE).loss(z), info_nce(z, 0.2))
    assert torch.equal(make_representation(VICREG).loss(z), vicreg(z, 25.0, 25.0, 1.0))
    assert torch.equal(make_representation(CODING_RATE).loss(z), total_coding_rate(z, 2, 200.0, 0.2))
    assert make_representation(INFONCE).projector(7)(torch.ones(3, 7)).shape == (3, 4)
    assert make_representation(VICREG).projector(7)(torch.ones(3, 7)).shape == (3, 6)
    assert make_representation(VICREG).share == 0.5
    assert make_representation({"kind": "none"}).share == 0
    assert make_representation(BYOL).target_momentum == 0.99
    projector = make_representation(BYOL).projector(7)
    assert projector(torch.ones(3, 7)).shape == (3, 4)
    assert make_representation(BYOL).averaged_part(projector) is projector[0]
    assert torch.equal(make_representation(BYOL).loss(z, 2 * z), byol(z, z))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "simclr"}, "unknown kind 'simclr'"),
        ({"temperature": 0.0}, "temperature"),
        ({"projection": []}, "projection"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_representation(INFONCE | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": [6, 5]}, r"prediction must end in the 4 values of a projection, got \[6, 5\]"),
        ({"momentum": 1.0}, "momentum"),
    ],
)
def test_wrong_options_of_byol_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_representation(BYOL | changes)
