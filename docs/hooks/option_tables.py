"""All options as tables: name, type and meaning from the schemas, values from conf/base."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kedro.config import OmegaConfigLoader

from deep_clustering.data.learned_options import LearnedOptions
from deep_clustering.data.sources.loading import SOURCES
from deep_clustering.methods import METHODS
from deep_clustering.methods.trunk import Trunk
from deep_clustering.pipelines.parameters import option_schemas
from deep_clustering.runs.tracking.hook import TrackingOptions
from deep_clustering.settings import CONFIG_LOADER_ARGS

# Option whose `kind` chooses further options, and where its kinds are listed.
KINDS: dict[str, str | Mapping[str, str]] = {
    "ingestion.source": SOURCES,
    "views": "deep_clustering.training.views:VIEWS",
    "encoder": "deep_clustering.training.networks:ENCODERS",
    "representation": "deep_clustering.training.representations:REPRESENTATIONS",
    "start": "deep_clustering.methods.starts:STARTS",
}

# Groups within another one.
NESTED: dict[tuple[str, str], type] = {("features", "learned"): LearnedOptions}

# What one changes first; everything else is for those who know the method.
BASIC: dict[str, tuple[str, ...]] = {
    "ingestion": ("n_rows",),
    "features": ("scaling", "postprocess", "backbone", "encoder"),
    "neighbours": ("k",),
    "comparison": ("methods",),
    "dcan": ("epochs", "batch_size", "restarts", "loss", "instance_noise", "start", "precision"),
    "neural_mixture": ("epochs", "batch_size", "restarts", "mixing", "pair_noise", "start", "precision"),
    "kmeans": ("n_init",),
    "gmm": ("covariance",),
    "ward": ("max_rows",),
    "tsne_gmm": ("perplexity",),
    "checkpoints": ("resume",),
    "reporting": ("map_points", "members"),
    "tracking": ("enabled", "on_error"),
}


def basic_options(conf: Path) -> str:
    """Markdown of one table of what one changes first, by the name that `--params` takes.

    Args:
        conf: Folder of the configuration.

    Returns:
        The table.

    Raises:
        KeyError: if an option of the list is none.
    """
    values = load_base(conf)
    rows = []
    for group, names in BASIC.items():
        cls = _schemas()[group]
        types, meanings = {field.name: field.type for field in fields(cls)}, _meanings(cls)
        rows += [
            f"| [`{group}.{name}`](#{group}) | {_code(_type(types[name]))} | {_code(_shown(values[group], name))} | "
            f"{_cell(meanings[name])} |"
            for name in names
        ]
    return "\n".join(["| option | type | in conf/base | meaning |", "|---|---|---|---|", *rows])


def all_options(conf: Path) -> str:
    """Markdown of every group of options and of every kind.

    Args:
        conf: Folder of the configuration.

    Returns:
        A heading and a table for each.
    """
    values = load_base(conf)
    parts = [_group(name, cls, values[name]) for name, cls in _schemas().items()]
    parts += [_group(f"{outer}.{inner}", cls, values[outer][inner]) for (outer, inner), cls in NESTED.items()]
    for option, kinds in KINDS.items():
        listed = _load(kinds) if isinstance(kinds, str) else {kind: _load(place) for kind, place in kinds.items()}
        parts.append(f"## `{option}`: kinds\n\nThe option `kind` names one of these and brings its options.")
        parts += [_group(f"{option}: {kind}", cls, {}, level=3) for kind, cls in listed.items()]
    return "\n\n".join(parts)


def _schemas() -> dict[str, type]:
    """The class of each group of options: methods, then the pipelines', then tracking."""
    methods = {name: _load(place) for name, place in METHODS.items()}
    return {**methods, **option_schemas(), "trunk": Trunk, "tracking": TrackingOptions}


def load_base(conf: Path) -> dict[str, Any]:
    """Everything that the parameters of conf/base set, resolved as Kedro does."""
    return dict(
        OmegaConfigLoader(conf_source=str(conf), **{**CONFIG_LOADER_ARGS, "default_run_env": "base"})["parameters"]
    )


def _load(place: str) -> Any:  # noqa: ANN401 - a class, or a table of classes
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _group(name: str, cls: type, values: Mapping[str, Any], level: int = 2) -> str:
    head = f"{'#' * level} `{name}`\n\n{(inspect.getdoc(cls) or '').splitlines()[0]}"
    meanings = _meanings(cls)
    rows = [
        f"| `{field.name}` | {_code(_type(field.type))} | {_code(_shown(values, field.name))} | "
        f"{_cell(meanings.get(field.name, ''))} |"
        for field in fields(cls)
        if field.init
    ]
    if not rows:
        return f"{head} It has no options."
    return "\n".join([head, "", "| option | type | in conf/base | meaning |", "|---|---|---|---|", *rows])


def _meanings(cls: type) -> dict[str, str]:
    """The docstring under each field, of the class and what it inherits."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        (tree,) = ast.parse(dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, after in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(after):
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(after.value))  # type: ignore[attr-defined]
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _type(annotation: Any) -> str:  # noqa: ANN401 - whatever stands behind a colon
    """The type in words: choices one by one, bounds behind it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return ", ".join([_type(inside[0]), *map(_bound, inside[1:])])
    if origin is Literal:
        return " | ".join(map(str, inside))
    if origin in (Union, UnionType):
        return " | ".join("None" if part is NoneType else _type(part) for part in inside)
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _bound(bound: Any) -> str:  # noqa: ANN401 - of annotated_types
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return next(f"{word} {getattr(bound, name)}" for name, word in words.items() if hasattr(bound, name))


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) or "{}"
    return _plain(value)


def _plain(value: Any) -> str:  # noqa: ANN401 - whatever YAML holds
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""  # a bar between backticks splits no cell


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
