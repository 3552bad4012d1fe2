"""The words of the command line that describe a sweep."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from deep_clustering.methods import METHODS
from deep_clustering.options import closest
from deep_clustering.pipelines.namespaces import NAMESPACES
from deep_clustering.pipelines.parameters import split_params
from deep_clustering.sweep.grid import refuse_repeated, root_of

# More than anybody waits for, and few enough to be counted at once.
_MOST_SEEDS = 100_000
# What the sweep sets itself, and how to ask for it.
_OWN = {
    "seed": "--seeds",
    "data_folder": "--folder",
    "output_folder": "--folder",
    "trunk_folder": "--folder",
    "tracking.parent": "nothing: a sweep has one parent run",
    "tracking.log_model": "nothing: a sweep stores no models in MLflow",
    "tracking.register": "nothing: a sweep stores no models in MLflow",
}


def split_outside(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets, and of quotes that begin a value.

    Args:
        text: For instance "[64],[128,128]".

    Returns:
        For instance ["[64]", "[128,128]"]; an empty text gives an empty list.
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if character == quote:
            quote = ""
        elif not quote and character in "'\"" and parts[-1].rstrip()[-1:] in ("", "=", ",", ":", "[", "{"):
            quote = character
        elif not quote:
            depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts] if text.strip() else []


def parse_names(option: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Parse a list of known names.

    Args:
        option: The command's option, for the message.
        text: Names with commas between.
        known: What can be named.

    Returns:
        The names in the order given.

    Raises:
        ValueError: if there is none, one twice, or an unknown one.
    """
    names, known = split_outside(text), set(known)
    if not names:
        raise ValueError(f"{option}: expected at least one name, got none (known: {', '.join(sorted(known))})")
    for name in names:
        if name not in known:
            raise ValueError(f"{option}: unknown name '{name}' ({closest(name, known)})")
    refuse_repeated(option, names)
    return tuple(names)


def parse_pipelines(text: str) -> tuple[str, ...]:
    """Parse a list of methods and named configurations; "all" is every method.

    Raises:
        ValueError: if there is none, one twice, or an unknown one.
    """
    return tuple(METHODS) if text.strip() == "all" else parse_names("--pipelines", text, NAMESPACES)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds: numbers and ranges that include both ends, as in "0-4,7".

    Raises:
        ValueError: if there is none, one twice, far too many, a range backwards, or something else than a number.
    """
    seeds: list[int] = []
    for part in split_outside(text):
        match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", part)
        if match is None:
            raise ValueError(f"--seeds: expected whole numbers and ranges such as 0-4,7, got '{part}'")
        if max(map(len, match.groups(default=""))) > len(str(2**32)):
            raise ValueError(f"--seeds: a seed must be at most {2**32 - 1}, got {part[:80]}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"--seeds: the range {part} runs backwards; write {last}-{first}")
        if last >= 2**32:
            raise ValueError(f"--seeds: a seed must be at most {2**32 - 1}, got {last}")
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise ValueError(f"--seeds: expected at most {_MOST_SEEDS} seeds, got {part}")
        seeds.extend(range(first, last + 1))
    if not seeds:
        raise ValueError("--seeds: expected at least one seed, got none")
    refuse_repeated("--seeds", seeds)
    return tuple(seeds)


def parse_grid(items: Iterable[str], pipelines: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Parse the grid's options, each "name=value,value".

    Args:
        items: One text for each option.
        pipelines: Pipelines of the sweep.

    Returns:
        Dotted name to values, parsed as YAML.

    Raises:
        ValueError: if an option has no values, the same one twice, comes twice, or belongs to no pipeline of the sweep.
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for item in items:
        name, text = _name_and_text("--grid", item)
        texts = split_outside(text)
        if "" in texts:
            raise ValueError(f"--grid: expected name=value,value without an empty value, got '{item}'")
        if name in grid:
            raise ValueError(f"--grid: '{name}' is given twice; put all its values into one list")
        _refuse_foreign("--grid", name, pipelines)
        values = [_value("--grid", name, text) for text in texts]
        refuse_repeated(f"--grid: {name}", [json.dumps(value, default=str) for value in values])
        grid[name] = tuple(values)
    return grid


def parse_params(text: str, pipelines: Iterable[str], grid: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the options that all cells share, "name=value,name=value", split as those of a run.

    Args:
        text: The options.
        pipelines: Pipelines of the sweep.
        grid: The grid's options, which cannot be set here as well.

    Returns:
        Dotted name to value, parsed as YAML.

    Raises:
        ValueError: if an item is no name and value, comes twice, is in the grid too, or belongs to no pipeline of the
            sweep; or if a quote or bracket does not end.
    """
    params: dict[str, Any] = {}
    for item in split_params(text):
        name, value = _name_and_text("--params", item)
        if name in params or name in grid:
            raise ValueError(f"--params: '{name}' is given twice" + (", here and in --grid" if name in grid else ""))
        _refuse_foreign("--params", name, pipelines)
        params[name] = _value("--params", name, value)
    return params


def _name_and_text(option: str, item: str) -> tuple[str, str]:
    name, found, text = (part.strip() for part in item.partition("="))
    if not found or not text or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)*", name):
        raise ValueError(f"{option}: expected name=value, for instance dcan.instance_noise=0.25, got '{item}'")
    if name in _OWN or name.split(".")[-1] == "seed":
        raise ValueError(f"{option}: '{name}' is set by the sweep; use {_OWN.get(name, '--seeds')}")
    return name, text


def _value(option: str, name: str, text: str) -> Any:  # noqa: ANN401 - any value of YAML
    if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", text):
        return float(text)  # YAML 1.1 takes 1e-3 for text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError of a date such as 2024-13-45
        reason = str(error).splitlines()[0]
        raise ValueError(f"{option}: {name}: '{text}' is no value of YAML: {reason}") from error


def _refuse_foreign(option: str, name: str, pipelines: Iterable[str]) -> None:
    root = root_of(name)
    if root in NAMESPACES and root not in set(pipelines):
        raise ValueError(f"{option}: '{name}' is an option of '{root}', which is not among --pipelines")
