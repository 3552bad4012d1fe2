"""Options from YAML to dataclasses: every key known, every value of its type, every error with its place."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

T = TypeVar("T")

# Names that a message lists, such as those of all columns of a wide table.
_LISTED = 50

# What pydantic calls a value outside of the bounds of its annotation, and how the bounds are said here.
_OUTSIDE = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}


def closest(name: str, known: Iterable[str]) -> str:
    """Sentence that names the known spelling nearest to `name`, or all of them, or the first of very many.

    Args:
        name: What was written.
        known: What could have been meant.

    Returns:
        For instance "did you mean 'epochs'?" or "known: a, b".
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    more = f", ... ({len(known)} in all)" if len(known) > _LISTED else ""
    return f"known: {', '.join(known[:_LISTED])}{more}"


def nearest_file(path: Path) -> str:
    """What may have been meant by a path that leads nowhere, as the end of a message; empty if nothing is like it.

    Args:
        path: A file or folder that is not there.

    Returns:
        For instance "; did you mean 'data/rows.npy'?".
    """
    folder, rest = path.parent, [path.name]
    while not folder.is_dir() and folder != folder.parent:
        folder, rest = folder.parent, [folder.name, *rest]
    try:
        there = sorted(set(os.listdir(folder)) - {rest[0]})
    except OSError:
        return ""
    near = get_close_matches(rest[0], there, n=1, cutoff=0.6)
    return f"; did you mean '{folder.joinpath(near[0], *rest[1:])}'?" if near else ""


def build(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a mapping that must hold exactly its fields.

    Args:
        cls: A dataclass; the annotations of its fields are the schema: types, bounds (`Annotated[int, Ge(1)]`) and
            choices (`Literal["a", "b"]`). A class variable `dropped` may hold options that a version has dropped, each
            with a sentence that names the version and what to use instead; a value that was dropped is under
            "option: value".
        options: Field name to value, as read from YAML.
        where: The mapping's place in the configuration, for the messages.

    Returns:
        The instance; its own `__post_init__` has checked what no annotation can say.

    Raises:
        ValueError: naming every unknown, missing and ill-typed option at once.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}: expected a mapping of options, got {options!r}")
    init = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    dropped: Mapping[str, str] = getattr(cls, "dropped", {})
    problems = [_unknown(str(key), init, dropped) for key in options if key not in init]
    values: dict[str, Any] = {}
    for name, field in init.items():
        if f"{name}: {options.get(name)}" in dropped:
            problems.append(f"{name}: {options[name]} was {dropped[f'{name}: {options[name]}']}")
        elif name in options:
            values[name], found = _validated(cls, name, options[name])
            problems += found
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"missing option '{name}' ({_wanted(_hint(cls, name))})")
    if problems:
        raise ValueError(f"{where}: " + "; ".join(problems))
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def check_fields(instance: Any) -> None:  # noqa: ANN401
    """Refuse a dataclass with a value that its annotations exclude; for those that are made without `build`.

    As in `build` a value becomes what its annotation says: 5.0 or numpy's 5 the number 5 where one is wanted.

    Args:
        instance: The dataclass; also a frozen one, in its `__post_init__`.

    Raises:
        ValueError: naming every option that is ill-typed or out of its bounds.
    """
    values: dict[str, Any] = {}
    problems = []
    for name in (field.name for field in fields(instance) if field.init):
        values[name], found = _validated(type(instance), name, getattr(instance, name))
        problems += found
    if problems:
        raise ValueError("; ".join(problems))
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _unknown(name: str, known: Iterable[str], dropped: Mapping[str, str]) -> str:
    if name in dropped:
        return f"option '{name}' was {dropped[name]}"
    return f"unknown option '{name}' ({closest(name, known)})"


def _validated(cls: type, name: str, value: Any) -> tuple[Any, list[str]]:  # noqa: ANN401
    """A value as the annotation of its field wants it, and what is wrong with it."""
    try:
        made = _adapter(cls, name).validate_python(value)
    except ValidationError as error:
        return None, [_sentence(name, value, _hint(cls, name), error.errors()[0])]
    if _became_number(value, made):
        return None, [f"'{name}' got {value!r}: expected {_wanted(_hint(cls, name))}"]
    return made, []


def _became_number(value: Any, made: Any) -> bool:  # noqa: ANN401
    """Whether true or false, or one in a list or mapping, was taken for 1 or 0, as pydantic does."""
    if isinstance(value, bool):
        return isinstance(made, int | float) and not isinstance(made, bool)
    if isinstance(value, Mapping) and isinstance(made, Mapping):
        return any(_became_number(value[key], made[key]) for key in value.keys() & made.keys())
    if isinstance(value, list | tuple) and isinstance(made, list | tuple):
        return any(map(_became_number, value, made))
    return False


@cache
def _adapter(cls: type, name: str) -> TypeAdapter:
    return TypeAdapter(_hint(cls, name))


def _hint(cls: type, name: str) -> Any:  # noqa: ANN401
    return get_type_hints(cls, include_extras=True)[name]


def _bounds(hint: Any) -> list[str]:  # noqa: ANN401
    """All bounds in an annotation, in words."""
    if type(hint) in _BOUNDS:
        key, words = _BOUNDS[type(hint)]
        return [f"{words} {getattr(hint, key):.15g}"]
    return [text for part in get_args(hint) for text in _bounds(part)]


def _wanted(hint: Any) -> str:  # noqa: ANN401
    """What an annotation asks for, in words."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    name = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    name = re.sub(r"Annotated\[(\w+),[^]]*\]", r"\1", name.replace("typing.", ""))
    return ", ".join([name, *([" and ".join(_bounds(hint))] if _bounds(hint) else [])])


def _sentence(name: str, value: Any, hint: Any, error: ErrorDetails) -> str:  # noqa: ANN401
    """What pydantic found, in this project's words."""
    if error["type"] in _OUTSIDE:
        return f"{name} must be {' and '.join(_bounds(hint))}, got {error['input']}"
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"{name} got '{error['input']}' ({closest(error['input'], known)})"
    return f"'{name}' got {value!r}: {error['msg']}"


def build_kind(
    kinds: Mapping[str, type[T]], options: Mapping[str, Any], where: str, dropped: Mapping[str, str] | None = None
) -> T:
    """Make the dataclass that the option `kind` names.

    Environments are merged key by key, so a changed `kind` finds the options of the former one beside its own: those
    that only other kinds know are left out.

    Args:
        kinds: Name of each kind and its dataclass.
        options: The option `kind` and the options of that kind.
        where: The mapping's place in the configuration, for the messages.
        dropped: Kinds that a version has dropped, each with a sentence as in `build`.

    Returns:
        The instance of the named kind.

    Raises:
        ValueError: if the kind is missing or unknown, or its options are wrong.
    """
    if not isinstance(options, Mapping) or "kind" not in options:
        raise ValueError(
            f"{where}: expected a mapping with 'kind' (known: {', '.join(sorted(kinds))}), got {options!r}"
        )
    kind = str(options["kind"])
    if kind in (dropped or {}):
        raise ValueError(f"{where}: kind '{kind}' was {(dropped or {})[kind]}")
    if kind not in kinds:
        raise ValueError(f"{where}: unknown kind '{kind}' ({closest(kind, kinds)})")
    own = {field.name for field in fields(kinds[kind])}  # type: ignore[arg-type]
    foreign = {field.name for cls in kinds.values() for field in fields(cls)} - own  # type: ignore[arg-type]
    rest = {name: value for name, value in options.items() if name != "kind" and name not in foreign}
    missing = [name for name in _required(kinds[kind]) if name not in rest]
    try:
        return build(kinds[kind], rest, f"{where} ({kind})")
    except ValueError as error:
        if not missing:
            raise
        example = ", ".join(f"{where}.{name}=..." for name in missing)
        raise ValueError(f"{error}; set what kind '{kind}' needs beside 'kind', as {example}") from error


def _required(cls: type) -> list[str]:
    """Fields of a dataclass without a default."""
    return [
        field.name
        for field in fields(cls)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]


def check_range(name: str, value: float, low: float | None = None, high: float | None = None) -> None:
    """Refuse a number outside a closed interval.

    Args:
        name: Name of the option.
        value: Its value.
        low: Smallest allowed value, or None.
        high: Largest allowed value, or None.

    Raises:
        ValueError: if the value lies outside, or is not a number at all (NaN).
    """
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = " and ".join(
            text for bound, text in ((low, f"at least {low}"), (high, f"at most {high}")) if bound is not None
        )
        raise ValueError(f"{name} must be {bounds}, got {value}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Refuse a word that is not among the known ones.

    Args:
        name: Name of the option.
        value: Its value.
        known: The allowed words.

    Raises:
        ValueError: naming the nearest known word.
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{name} got '{value}' ({closest(value, known)})")
