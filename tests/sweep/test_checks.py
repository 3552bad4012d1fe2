"""What a sweep looks at before anything runs."""

import pytest
from kedro.framework.startup import bootstrap_project

from deep_clustering.sweep.checks import check_grid
from deep_clustering.sweep.grid import Grid


@pytest.fixture
def warnings_about(project, caplog):
    """Those of a sweep of the digits."""
    bootstrap_project(project)

    def check(**given):
        parts = {"options": {}, "params": {}, **given}
        check_grid(Grid(envs=("digits",), pipelines=("neural_mixture",), seeds=(0, 1), **parts), project)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    return check


@pytest.mark.parametrize("given", [{"options": (10, 20)}, {"params": 10}], ids=["grid", "params"])
def test_options_that_nothing_reads_are_warned_of_once(warnings_about, given):
    """Affine views drop nothing: all cells of such a grid would be alike."""
    ((part, value),) = given.items()
    said = warnings_about(**{part: {"neural_mixture.views.rate": value}})
    why = "neural_mixture.views.rate is read by nothing: neural_mixture.views is of kind 'affine'"
    assert said == [f"digits: {why}"]


def test_options_that_are_read_are_not(warnings_about):
    assert warnings_about(params={"neural_mixture.views.rotation": 5.0}) == []
