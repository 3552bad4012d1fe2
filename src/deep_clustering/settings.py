"""Kedro settings of the project."""

import copy
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import Container, OmegaConf

from deep_clustering.hooks import NodeProgress, Preflight
from deep_clustering.options import closest
from deep_clustering.pipelines.parameters import packaged_conf
from deep_clustering.pipelines.yaml_shape import misshapen
from deep_clustering.runs.last_lines import ShowResults
from deep_clustering.runs.tracking import MLflowTracking

HOOKS = (Preflight(), NodeProgress(), ShowResults(), MLflowTracking())


def _copy_of(block: Container) -> Container:
    """A block of its own: OmegaConf else hands out the same one wherever it is named, and changes it in place.

    It stays one of OmegaConf's, since options of the command line replace a plain mapping instead of merging with it.
    """
    return OmegaConf.create(OmegaConf.to_container(block, resolve=True))


class ConfigLoader(OmegaConfigLoader):
    """Kedro's loader, which reads and resolves each kind of file once for each set of runtime parameters.

    Kedro's own does so whenever it is asked, several times a run: most of the time of a run of few rows.
    """

    def __init__(self, conf_source: str, env: str | None = None, **arguments: Any) -> None:  # noqa: ANN401
        """Look at the form of all files before Kedro reads any.

        Args:
            conf_source: A folder of environments, or an archive of one.
            env: The environment.
            arguments: The others of Kedro's loader.

        Raises:
            ValueError: if the source is a pipe, socket or device, or files are of another form than configuration has.
        """
        place = Path(conf_source)
        if place.exists() and not (place.is_dir() or place.is_file()):
            raise ValueError(f"--conf-source: expected a folder or an archive, got a pipe, socket or device: {place}")
        names = dict.fromkeys([CONFIG_LOADER_ARGS["base_env"], env or CONFIG_LOADER_ARGS["default_run_env"]])
        if problems := misshapen(place / name for name in names):
            raise ValueError("\n".join(problems))
        super().__init__(conf_source, env, **arguments)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """A copy of what all files of a kind say together, as Kedro's loader merges and resolves it.

        Raises:
            KeyError: if there is no such kind of files.
            MissingConfigException: if there are no files of this kind.
        """
        if key in self:  # set by hand
            return super().__getitem__(key)
        resolved: dict[tuple[str, str], dict[str, Any]] = self.__dict__.setdefault("_resolved", {})
        asked = key, repr(self.runtime_params)
        if asked not in resolved:
            resolved[asked] = super().__getitem__(key)
        return copy.deepcopy(resolved[asked])


CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    # conf/<data set>/ holds only what that data set changes, so its parameters and presets are merged key by key.
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "custom_resolvers": {"copy_of": _copy_of},
}


def read_options(method: str, env: str = "base", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Options of a method as the packaged configuration has them, for its use without Kedro.

    Args:
        method: A configuration of a method, such as "dcan".
        env: Folder of conf/ whose changes are taken.
        changes: Values of options that are to be others.

    Returns:
        What the constructor of the method takes.

    Raises:
        ValueError: if there is no configuration of this name, or the method has none of these options.
    """
    known: dict[str, Any] = OmegaConfigLoader(str(packaged_conf()), env=env, **CONFIG_LOADER_ARGS)["parameters"]
    methods = {name for name, options in known.items() if isinstance(options, dict) and "method" in options}
    if method not in methods:
        raise ValueError(f"unknown method '{method}' ({closest(method, methods)})")
    options = {name: value for name, value in known[method].items() if name != "method"}
    for name in changes:
        if name not in options:
            raise ValueError(f"{method} has no option '{name}' ({closest(name, options)})")
    return options | changes
