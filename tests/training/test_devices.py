"""Trainings on a device without double precision: what is wanted in it becomes so on the host."""

import numpy as np
import pytest
import torch

from deep_clustering.methods import make_method
from devices import SinglePrecisionDevice

CPU = torch.device("cpu")
REFUSED = {
    "double": lambda tensor: tensor.double(),
    "to": lambda tensor: tensor.to(torch.float64),
    "double in front of cpu": lambda tensor: tensor.double().cpu(),
    "its own sum": lambda tensor: tensor.sum(dtype=torch.float64),
    "behind a look at it on the host": lambda tensor: (tensor.cpu(), tensor.double()),
    "made": lambda _: torch.zeros(2, dtype=torch.float64, device=CPU),
    "moved": lambda tensor: tensor.cpu().double().to(CPU),
}
ALLOWED = {
    "behind cpu": lambda tensor: tensor.cpu().double(),
    "further behind cpu": lambda tensor: tensor.cpu()[0].to(torch.float64).mean(),
    "made on the host": lambda _: torch.zeros(2, dtype=torch.float64) + 1.0,
    "moved in single precision": lambda tensor: tensor.cpu().double().float().to(CPU),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_device_refuses_double_precision(name):
    with SinglePrecisionDevice(), pytest.raises(TypeError, match="this device has no double precision"):
        REFUSED[name](torch.ones(2, 3, device=CPU))


@pytest.mark.parametrize("name", ALLOWED)
def test_the_host_has_double_precision(name):
    with SinglePrecisionDevice():
        assert ALLOWED[name](torch.ones(2, 3, device=CPU)) is not None


KMEANS = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
OVERCLUSTERING = {
    "kind": "overclustering",
    "components_per_cluster": 2.0,
    "epochs": 0.5,
    "hold": 0.5,
    "core": 0.8,
    "max_rows": 1000,
}
TRAININGS = [
    ("neural_mixture", {"n_clusters": 3, "heads": 2}),
    ("neural_mixture", {"n_clusters": {"min": 2, "max": 4}, "pair_noise": 0.1}),
    ("neural_mixture", {"n_clusters": 3, "restarts": 2, "start": OVERCLUSTERING, "mixing": "learned"}),
    ("neural_mixture", {"n_clusters": 3, "density": "sigmoid", "start": KMEANS, "auxiliary_clusters": 5}),
    ("dcan", {"n_clusters": 3, "latent_dim": 3}),
    ("dcan", {"n_clusters": 3, "latent_dim": 3, "restarts": 2, "start": KMEANS, "optimiser": "sgd"}),
    ("dcan", {"n_clusters": 3, "latent_dim": 3, "loss": "gaussian_kl", "whitening": False}),
    ("temi", {"n_clusters": 3}),
    ("turtle", {"n_clusters": 3, "spaces": [2, 3]}),
    *((method, {"n_clusters": 3}) for method in ("autoencoder", "dec", "idec", "dcn", "vade", "imsat")),
    *((method, {"n_clusters": 3}) for method in ("dcgmm", "n2d", "dac", "lsdc", "cc", "aae", "kingdra")),
]


@pytest.mark.parametrize(("method", "changes"), TRAININGS, ids=str)
def test_a_training_needs_no_double_precision_of_the_device(tiny_options, blobs, method, changes):
    options = tiny_options(method, "vectors", **changes)
    expected = make_method(options).fit(blobs)
    with SinglePrecisionDevice():
        estimator = make_method(options).fit(blobs)
        described = estimator.describe(blobs)
        again = make_method(options).set_arrays(estimator.get_arrays()).describe(blobs)
    np.testing.assert_array_equal(described.assignments, expected.predict(blobs))
    np.testing.assert_array_equal(again.assignments, described.assignments)
