"""What hooks do around the nodes of a run."""

import gc
import weakref

import pytest
from kedro.pipeline import Pipeline, node

from deep_clustering import hooks


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> hooks.NodeProgress:
    """With the collector of a user, which the tests of whole runs replace."""
    monkeypatch.setattr(hooks, "gc", gc)
    return hooks.NodeProgress()


class _Cycle:
    """What is left behind is found by collections alone."""

    def __init__(self) -> None:
        self.itself = self


def test_a_collection_behind_a_node_finds_what_the_node_left_and_walks_nothing_older(
    progress: hooks.NodeProgress,
) -> None:
    """What the process held in front of the run is passed over until the run ends."""
    step = node(lambda: 1, None, "one", name="step")
    older = [_Cycle()]
    progress.before_pipeline_run(Pipeline([step]))
    assert gc.get_freeze_count() > 0
    assert not any(seen is older for seen in gc.get_objects())
    progress.before_node_run(step)
    left = weakref.ref(_Cycle())
    assert left() is not None
    progress.after_node_run(step)
    assert left() is None
    progress.after_pipeline_run()
    assert gc.get_freeze_count() == 0


def test_a_run_that_fails_lets_collections_see_everything_again(progress: hooks.NodeProgress) -> None:
    """A process that goes on, such as a notebook's, can give back what the run held."""
    progress.before_pipeline_run(Pipeline([]))
    left = weakref.ref(_Cycle())
    progress.on_pipeline_error()
    gc.collect()
    assert left() is None
    assert gc.get_freeze_count() == 0
