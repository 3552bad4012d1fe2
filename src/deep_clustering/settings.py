"""Kedro settings of the project."""

from kedro.config import OmegaConfigLoader
from omegaconf import Container, OmegaConf

from deep_clustering.hooks import NodeProgress, Preflight, ShowResults
from deep_clustering.runs.tracking import MLflowTracking

HOOKS = (Preflight(), NodeProgress(), ShowResults(), MLflowTracking())


def _copy_of(block: Container) -> Container:
    """A block of its own: OmegaConf else hands out the same one wherever it is named, and changes it in place.

    It stays one of OmegaConf's, since options of the command line replace a plain mapping instead of merging with it.
    """
    return OmegaConf.create(OmegaConf.to_container(block, resolve=True))


CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # conf/<data set>/ holds only what that data set changes, so its parameters and presets are merged key by key.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "custom_resolvers": {"copy_of": _copy_of},
}
