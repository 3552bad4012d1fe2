"""What trainings of methods have in common."""

import pytest

from deep_clustering.methods import make_method
from deep_clustering.methods.estimator import Steps
from deep_clustering.training.fitting import make_data
from deep_clustering.training.rows import resolve_device


def test_networks_are_in_their_mode_again_behind_an_evaluation_also_where_it_fails(tiny_options, blobs):
    model = make_method(tiny_options("autoencoder", "vectors", n_clusters=3))
    model.device_ = resolve_device("cpu")
    model.build(blobs.shape[1:])
    steps = Steps(model, make_data(model, blobs, None))
    steps.networks["decoder"].eval()
    before = {name: network.training for name, network in steps.networks.items()}

    def fail():
        with steps.evaluation():
            assert not any(network.training for network in steps.networks.values())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {name: network.training for name, network in steps.networks.items()} == before
