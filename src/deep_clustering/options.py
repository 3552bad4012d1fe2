"""Options from YAML to dataclasses: every key known, every value of its type, every error with its place."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def closest(name: str, known: Iterable[str]) -> str:
    """Sentence that names the known spelling nearest to `name`, or all of them.

    Args:
        name: What was written.
        known: What could have been meant.

    Returns:
        For instance "did you mean 'epochs'?" or "known: a, b".
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"


def build(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a mapping that must hold exactly its fields.

    Args:
        cls: A dataclass; the annotations of its fields are the schema.
        options: Field name to value, as read from YAML.
        where: The mapping's place in the configuration, for the messages.

    Returns:
        The instance; its own `__post_init__` has checked the ranges.

    Raises:
        ValueError: naming every unknown, missing and ill-typed option at once.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}: expected a mapping of options, got {options!r}")
    hints = get_type_hints(cls, include_extras=True)
    init = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    problems = [f"unknown option '{key}' ({closest(str(key), init)})" for key in options if key not in init]
    values: dict[str, Any] = {}
    for name, field in init.items():
        if name in options:
            try:
                values[name] = TypeAdapter(hints[name]).validate_python(options[name])
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                problems.append(f"'{name}' got {options[name]!r}: {reason}")
        elif field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"missing option '{name}'")
    if problems:
        raise ValueError(f"{where}: " + "; ".join(problems))
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def build_kind(kinds: Mapping[str, type[T]], options: Mapping[str, Any], where: str) -> T:
    """Make the dataclass that the option `kind` names.

    Environments are merged key by key, so a changed `kind` finds the options of the former one beside its own: those
    that only other kinds know are left out.

    Args:
        kinds: Name of each kind and its dataclass.
        options: The option `kind` and the options of that kind.
        where: The mapping's place in the configuration, for the messages.

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
    if kind not in kinds:
        raise ValueError(f"{where}: unknown kind '{kind}' ({closest(kind, kinds)})")
    own = {field.name for field in fields(kinds[kind])}  # type: ignore[arg-type]
    foreign = {field.name for cls in kinds.values() for field in fields(cls)} - own  # type: ignore[arg-type]
    rest = {name: value for name, value in options.items() if name != "kind" and name not in foreign}
    return build(kinds[kind], rest, f"{where} ({kind})")


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
