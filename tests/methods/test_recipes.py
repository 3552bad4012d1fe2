"""The recipes of the environments for graphics processors, with their options at tiny sizes on a processor."""

from pathlib import Path

import numpy as np
import pytest
from kedro.config import OmegaConfigLoader

from deep_clustering.methods import make_method
from deep_clustering.methods.starts import Given
from deep_clustering.methods.trunk import make_trunk
from deep_clustering.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[2] / "conf"
SHAPES = {"cifar10_gpu": (3, 32, 32), "cifar100_gpu": (3, 32, 32), "stl10_gpu": (3, 96, 96), "mnist_gpu": (1, 28, 28)}
# Networks of a few channels; all else of them is as it is configured.
NARROW = {"resnet": {"blocks": [1, 1], "width": 2}, "conv": {"channels": [2, 4], "hidden": [6]}}
TINY = {"epochs": 2, "batch_size": 24, "restarts": 1, "heads": 2, "auxiliary_clusters": 22, "device": "cpu"}
TINY |= {"precision": "fp32", "record_every": 2}


@pytest.fixture(params=SHAPES)
def recipe(request):
    """Parameters of an environment, and a few images of its shape."""
    loader = OmegaConfigLoader(conf_source=str(CONF), env=request.param, **CONFIG_LOADER_ARGS)
    images = np.random.default_rng(0).random((48, *SHAPES[request.param]), dtype=np.float32)
    return loader["parameters"], images


def tiny(options):
    found = options | {name: value for name, value in TINY.items() if name in options}
    views = options["views"] | {"size": max(8, options["views"]["size"] // 4)}
    return found | {"encoder": options["encoder"] | NARROW[options["encoder"]["kind"]], "views": views}


@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
def test_a_recipe_trains(recipe, method):
    parameters, images = recipe
    fitted = make_method(tiny(parameters[method])).fit(images)
    assert fitted.predict(images).shape == (48,)
    has_loss = parameters[method]["representation"]["kind"] != "none"
    assert ("representation_loss" in fitted.history_) == has_loss


def test_a_recipe_of_two_stages_trains(recipe):
    parameters, images = recipe
    trunk = make_trunk(tiny(parameters["trunk"])).fit(images)
    assert np.isfinite(trunk.embed(images)).all()
    given = Given(np.arange(48) % parameters["self_labelled"]["n_clusters"], trunk.get_arrays())
    labelled = make_method(tiny(parameters["self_labelled"]) | {"auxiliary_clusters": 0}).fit(images, given=given)
    assert labelled.predict(images).shape == (48,)
