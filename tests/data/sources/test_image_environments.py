"""The environments of the image data sets: every option is known, and the methods fit the images.

Views and networks of all methods of all environments suit the rows.
"""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from deep_clustering.data.sources import load_source
from deep_clustering.methods import make_method
from deep_clustering.settings import CONFIG_LOADER_ARGS
from deep_clustering.training.networks import make_encoder
from deep_clustering.training.views import make_view

CONF = Path(__file__).parents[3] / "conf"
SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "usps": (1, 16, 16),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "stl10": (3, 96, 96),
}
# What the rows of a source are, and the kinds of views and of networks for such rows.
ROWS = dict.fromkeys(("digits", "mnist", "fashion_mnist", "usps"), "drawings")
ROWS |= dict.fromkeys(("cifar10", "cifar100", "stl10"), "photographs")
ROWS |= dict.fromkeys(("arrays", "reuters10k", "reuters21578"), "vectors")
SUIT = {
    "drawings": ({"affine"}, {"conv", "resnet"}),
    "photographs": ({"photo"}, {"conv", "resnet"}),
    "vectors": ({"neighbours", "dropout", "noise"}, {"mlp"}),
}


def load(env: str) -> OmegaConfigLoader:
    return OmegaConfigLoader(conf_source=str(CONF), **{**CONFIG_LOADER_ARGS, "default_run_env": env})


@pytest.mark.parametrize("env", SHAPES)
def test_each_environment_names_all_options_and_a_folder_of_its_own(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    conf = load(env)
    ingestion = conf["parameters"]["ingestion"]
    assert conf["globals"]["data_set"] == ingestion["source"]["kind"] == env
    assert ingestion["source"]["protocol"] == "train+test"
    folder = tmp_path / "data" / "01_raw" / env
    with pytest.raises(FileNotFoundError, match=r"ingestion\.source\.download=true") as caught:
        load_source(ingestion)
    assert str(folder) in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize("env", [*SHAPES, "cifar10_gpu", "cifar10_small", "cifar100_gpu", "stl10_gpu", "mnist_gpu"])
@pytest.mark.parametrize("method", ["neural_mixture", "dcan"])
def test_methods_fit_the_images(env, method):
    parameters = load(env)["parameters"]
    options, shape = parameters[method], SHAPES[parameters["ingestion"]["source"]["kind"]]
    make_method(options)
    assert options["n_clusters"] == (20 if env.startswith("cifar100") else 10)
    network = make_encoder(options["encoder"]).build(make_view(options["views"]).output_shape(shape), 10)
    assert network is not None


def rows_of(parameters):
    """What rows methods get, by where they are from and what is made of them."""
    if parameters["features"]["backbone"] or parameters["features"]["encoder"]:
        return "vectors"
    return ROWS[parameters["ingestion"]["source"]["kind"]]


@pytest.mark.parametrize("env", sorted(folder.parent.name for folder in CONF.glob("*/globals.yml")))
def test_views_and_network_of_every_method_suit_the_rows(env):
    parameters = load(env)["parameters"]
    blocks = {name: block for name, block in parameters.items() if isinstance(block, dict) and "views" in block}
    assert {"dcan", "neural_mixture", "neural_mixture_literal", "cc", "trunk", "self_labelled"} <= set(blocks)
    for name, block in blocks.items():
        # those of a trunk are vectors, and the paper that is read literally has none but the row itself
        are_vectors = name.endswith("_on_trunk") or name == "dcan_literal"
        views, networks = SUIT["vectors" if are_vectors else rows_of(parameters)]
        if "decoder" in block:  # rows are decoded as they are, of any kind, by a fully connected network
            views, networks = {*views, "same"}, {*networks, "mlp"}
        assert block["views"]["kind"] in views, name
        assert block["encoder"]["kind"] in networks, name


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("protocol", "training", "protocol got 'training'"), ("labels", "all", "labels got 'all'"), ("rot", 1, "'root'")],
)
def test_a_wrong_option_is_refused_before_anything_is_read(option, value, message):
    ingestion = load("cifar100")["parameters"]["ingestion"]
    with pytest.raises(ValueError, match=message):
        load_source({**ingestion, "source": {**ingestion["source"], option: value}})
