"""The project's configuration as the runs of a sweep will read it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deep_clustering.redaction import flatten, redact


def load_parameters(root: Path, env: str, runtime_params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read parameters and globals as a run would.

    Args:
        root: Root of the project.
        env: Environment.
        runtime_params: Nested options of the run.

    Returns:
        Parameters and globals.
    """
    from kedro.framework.project import settings

    source = str(root / settings.CONF_SOURCE)
    arguments = settings.CONFIG_LOADER_ARGS
    loader = settings.CONFIG_LOADER_CLASS(source, env=env, runtime_params=dict(runtime_params), **arguments)
    return dict(loader["parameters"]), dict(loader["globals"])


def options_read(root: Path, env: str, runtime_params: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Some groups of options, without credentials.

    Args:
        root: Root of the project.
        env: Environment.
        runtime_params: Nested options of the run.
        names: Names of the groups.

    Returns:
        Each group as JSON values.
    """
    parameters, _ = load_parameters(root, env, runtime_params)
    return redact({name: parameters[name] for name in names})


def changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Options that have another value now, as "dcan.epochs was 60, is 40"."""
    old, new = flatten(before), flatten(now)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"{name} was {old.get(name, 'not there')}, is {new.get(name, 'not there')}" for name in names]
