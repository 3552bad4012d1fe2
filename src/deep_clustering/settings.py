"""Kedro settings of the project."""

from kedro.config import OmegaConfigLoader

from deep_clustering.hooks import NodeProgress, Preflight, ShowResults
from deep_clustering.runs.tracking import MLflowTracking

HOOKS = (Preflight(), NodeProgress(), ShowResults(), MLflowTracking())

CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # conf/<data set>/ holds only what that data set changes, so its parameters and presets are merged key by key.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
