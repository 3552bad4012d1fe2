"""What a sweep consists of: environments, pipelines, seeds and a grid of options, and the cells that they make."""

import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deep_clustering.pipelines.namespaces import NAMESPACES, STAGED
from deep_clustering.redaction import redact

# Options that change the rows which the methods get.
OF_DATA = ("ingestion", "features", "neighbours")
# Blocks that decide what a trunk learns on those rows, and what its fit reads besides.
OF_TRUNK = (*OF_DATA, "trunk", "trunk_neighbours")
_READ_BY_TRUNK = (*OF_TRUNK, "device", "checkpoints")
_LONGEST_NAME = 80


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Everything that says which cells a sweep has."""

    envs: tuple[str, ...]
    """Environments, the folders of conf."""
    pipelines: tuple[str, ...]
    """Methods."""
    seeds: tuple[int, ...]
    """Seeds of the methods that take one."""
    options: Mapping[str, tuple[Any, ...]]
    """Dotted name of an option and its values; a name that begins with a pipeline counts for that pipeline only."""
    params: Mapping[str, Any]
    """Dotted name and value of the options that all cells share."""

    def points(self, pipeline: str) -> list[dict[str, Any]]:
        """Combinations of the grid's options that count for a pipeline."""
        names = [name for name in self.options if root_of(name) == pipeline or root_of(name) not in NAMESPACES]
        combinations = itertools.product(*(self.options[name] for name in names))
        return [dict(zip(names, values, strict=True)) for values in combinations]

    def cells(self, seedless: Collection[str]) -> list["Cell"]:
        """All cells, seed by seed, so that a sweep that is cut short has something of everything.

        Args:
            seedless: Pipelines without a seed, which are run once.

        Returns:
            The cells.

        Raises:
            ValueError: if two cells would have the same folder.
        """
        cells = [
            Cell(
                env=env, pipeline=pipeline, seed=None if pipeline in seedless else seed, point=point, params=self.params
            )
            for index, seed in enumerate(self.seeds)
            for env in self.envs
            for pipeline in self.pipelines
            for point in self.points(pipeline)
            if index == 0 or pipeline not in seedless
        ]
        refuse_repeated("--grid: these cells cannot be told apart", [f"{cell.env}/{cell.id}" for cell in cells])
        return cells

    def plain(self) -> dict[str, Any]:
        """The same as JSON values, without credentials."""
        return redact(json.loads(json.dumps(asdict(self), default=str)))

    def name(self) -> str:
        """A readable name, the same for the same grid."""
        words = [*self.envs, *self.pipelines, *(name.split(".")[-1] for name in self.options)]
        digest = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:8]
        return f"{'-'.join(words)[:_LONGEST_NAME].rstrip('-')}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fit: a method with one seed and one combination of the grid's options, on one environment."""

    env: str
    """Environment."""
    pipeline: str
    """Method."""
    seed: int | None
    """Seed, None for a method without one."""
    point: Mapping[str, Any]
    """Dotted name and value of the grid's options."""
    params: Mapping[str, Any]
    """Dotted name and value of the options that all cells share."""

    @property
    def variant(self) -> str:
        """The grid's options as text, for instance "noise=0.5"; empty without any."""
        short = {name: name.removeprefix(f"{self.pipeline}.") for name in self.point}
        return ", ".join(f"{short[name]}={shown(value, name)}" for name, value in self.point.items())

    @property
    def id(self) -> str:
        """Name of the cell's folder within its environment."""
        words = [self.pipeline, *([_as_file_name(self.variant)] if self.point else [])]
        return "-".join([*words, *([] if self.seed is None else [f"seed{self.seed}"])])

    @property
    def runtime_params(self) -> dict[str, Any]:
        """Nested options of the Kedro run."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return nest({**self.params, **self.point, **seed})

    @property
    def data_params(self) -> dict[str, Any]:
        """The dotted options among them that change the rows."""
        return _under(OF_DATA, {**self.params, **self.point})

    @property
    def data_name(self) -> str:
        """Name of the folder of the prepared data within the environment."""
        text = _as_text(_under(OF_DATA, self.point))
        return f"prepared-{_as_file_name(text)}" if text else "prepared"

    @property
    def trunk_params(self) -> dict[str, Any]:
        """The dotted options that the fit of a trunk reads, the seed among them."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return _under(_READ_BY_TRUNK, {**self.params, **self.point}) | seed

    @property
    def trunk_variant(self) -> str:
        """The grid's options that the fit of a trunk reads, as text; empty without any."""
        return _as_text(_under(_READ_BY_TRUNK, self.point))

    @property
    def trunk_name(self) -> str | None:
        """Name of the folder of the trunk within the environment; None for a cell that is on none."""
        if self.pipeline not in STAGED:
            return None
        words = ["trunk", *([_as_file_name(self.trunk_variant)] if self.trunk_variant else [])]
        return "-".join([*words, *([] if self.seed is None else [f"seed{self.seed}"])])


def shown(value: Any, name: str) -> str:  # noqa: ANN401 - any value of YAML
    """An option's value as it is written on the command line, without credentials."""
    plain = redact(value, name)
    return plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"), default=str)


def nest(options: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names to nested mappings: {"a.b": 1} becomes {"a": {"b": 1}}.

    Raises:
        ValueError: if an option is set both as a whole and in part.
    """
    nested: dict[str, Any] = {}
    for name, value in options.items():
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ValueError(f"'{name}' is part of an option that is set as a whole; set one of them")
        if last in place:
            raise ValueError(f"'{name}' is set as a whole and in part; set one of them")
        place[last] = value
    return nested


def refuse_repeated(option: str, values: Iterable[Any]) -> None:
    """Refuse a value that is there twice."""
    values = list(values)
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{option}: given twice: {', '.join(repeated)}")


def root_of(name: str) -> str:
    """First part of a dotted name."""
    return name.split(".")[0]


def _under(roots: Collection[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted options that are these or lie in these blocks."""
    return {name: value for name, value in options.items() if root_of(name) in roots}


def _as_text(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={shown(value, name)}" for name, value in options.items())


def _as_file_name(text: str) -> str:
    """The text as a short name of a folder; one that loses more than brackets gets a hash of itself."""
    plain = text.replace(", ", "-").translate({ord("["): None, ord("]"): None, ord(","): "x"})
    name = re.sub(r"[^\w.=+-]", "_", plain)
    if name == plain and len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
