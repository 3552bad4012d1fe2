"""Texts, and options of their encoders."""

import pytest

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.options import build


@pytest.fixture
def make_options(parameters, tmp_path):
    """Function: changes to the options of conf/base, with a cache of its own."""

    def make(**changes):
        options = parameters["features"] | {"device": "cpu", "cache": str(tmp_path / "cache")} | changes
        return build(FeatureOptions, options, "features")

    return make
