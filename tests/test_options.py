"""Options from mappings to dataclasses: what is taken, and that each refusal says what, where and what was meant."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.options import build, build_kind, check_choice, check_fields, check_range, closest


@dataclass(frozen=True, kw_only=True)
class Example:
    """One field of each sort."""

    epochs: int
    rate: float
    name: str
    hidden: list[int]
    extra: dict[str, Any]
    note: str | None
    learned: int = field(default=7, init=False)

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 1)


@dataclass(frozen=True, kw_only=True)
class WithDefault:
    """A field that may be left out."""

    size: int = 3
    parts: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class OfKind:
    """What is not any value of a type."""

    runs: Annotated[int, Ge(1), Le(9)]
    way: Literal["a", "b"]


GOOD = {"epochs": 3, "rate": 0.5, "name": "x", "hidden": [4, 8], "extra": {"a": 1}, "note": None}

WANTED = {
    "epochs": "int",
    "rate": "float",
    "name": "str",
    "hidden": "list[int]",
    "extra": "dict[str, Any]",
    "note": "str | None",
}


@given(st.integers(1, 1000), st.floats(allow_nan=False), st.text(), st.lists(st.integers()), st.none() | st.text())
def test_every_field_arrives_as_given(epochs, rate, name, hidden, note):
    options = {"epochs": epochs, "rate": rate, "name": name, "hidden": hidden, "extra": {}, "note": note}
    example = build(Example, options, "here")
    assert {key: getattr(example, key) for key in options} == options
    assert example.learned == 7


def test_true_and_false_are_no_numbers_and_stay_what_they_are_elsewhere():
    @dataclass(frozen=True, kw_only=True)
    class Several:
        runs: Annotated[int, Ge(0), Le(9)]
        shares: dict[str, float]
        way: bool | int
        extra: dict[str, Any]

    good = {"runs": 1, "shares": {"a": 1}, "way": True, "extra": {"is": True, "parts": [False]}}
    made = build(Several, good, "here")
    assert made.way is True
    assert made.extra == good["extra"]
    with pytest.raises(
        ValueError, match=r"^here: 'runs' got True: expected int, at least 0 and at most 9; 'shares' got"
    ):
        build(Several, good | {"runs": True, "shares": {"a": True}}, "here")


def test_an_integer_is_a_float_where_one_is_wanted():
    rate = build(Example, GOOD | {"rate": 2}, "here").rate
    assert rate == 2.0
    assert type(rate) is float


def test_defaults_are_taken_and_the_mapping_is_untouched():
    options: dict[str, Any] = {}
    assert build(WithDefault, options, "here") == WithDefault(size=3, parts=[])
    assert options == {}


@pytest.mark.parametrize("missing", GOOD)
def test_each_missing_option_is_named(missing):
    options = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(ValueError, match=f"^model: missing option '{missing}' \\({re.escape(WANTED[missing])}\\)$"):
        build(Example, options, "model")


def test_what_a_kind_lacks_is_said_with_its_bounds_and_its_place():
    kinds = {"none": WithDefault, "some": OfKind}
    expected = (
        "start (some): missing option 'runs' (int, at least 1 and at most 9); set what kind 'some' needs beside "
        "'kind', as start.runs=..."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        build_kind(kinds, {"kind": "some", "way": "a"}, "start")
    with pytest.raises(ValueError, match=r"missing option 'way' \(one of a, b\)"):
        build_kind(kinds, {"kind": "some", "runs": 1}, "start")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r"unknown option 'epoch' \(did you mean 'epochs'\?\)"),
        ({"zzz": 3}, r"unknown option 'zzz' \(known: epochs, extra, hidden, name, note, rate\)"),
        ({"learned": 3}, "unknown option 'learned'"),
        ({3: 3}, "unknown option '3'"),
        ({"epochs": "three"}, "'epochs' got 'three': .*integer"),
        ({"epochs": 2.5}, "'epochs' got 2.5: .*integer"),
        ({"epochs": None}, "'epochs' got None: .*integer"),
        ({"rate": "fast"}, "'rate' got 'fast': .*number"),
        ({"name": 3}, "'name' got 3: .*string"),
        ({"hidden": 3}, "'hidden' got 3: .*list"),
        ({"hidden": [1, "x"]}, "'hidden' got .*integer"),
        ({"extra": []}, "'extra' got .*dict"),
        ({"epochs": 0}, "^model: epochs must be at least 1, got 0$"),
        ({"epochs": True}, "^model: 'epochs' got True: expected int$"),
        ({"rate": False}, "^model: 'rate' got False: expected float$"),
        ({"hidden": [4, True]}, r"^model: 'hidden' got \[4, True\]: expected list\[int\]$"),
    ],
)
def test_each_wrong_option_is_named_with_its_place(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(Example, GOOD | changes, "model")
    assert str(caught.value).startswith("model: ")


def test_all_problems_are_told_at_once():
    options = GOOD | {"epoch": 1, "rate": "fast"}
    del options["name"]
    with pytest.raises(ValueError, match=r"model: .*'epoch'.*'rate' got 'fast'.*missing option 'name'"):
        build(Example, options, "model")


@pytest.mark.parametrize("options", [None, 3, "text", ["epochs"]])
def test_options_that_are_no_mapping_are_refused(options):
    with pytest.raises(ValueError, match=r"^model: expected a mapping of options, got "):
        build(Example, options, "model")


# Kinds


KINDS = {"example": Example, "default": WithDefault}


def test_a_kind_is_built_and_its_options_are_untouched():
    options = {"kind": "example", **GOOD}
    copy = dict(options)
    assert build_kind(KINDS, options, "views") == Example(**GOOD)
    assert options == copy


def test_options_that_only_another_kind_knows_are_left_out():
    """Environments are merged key by key, so a changed kind finds the former kind's options beside its own."""
    merged = {"kind": "default", "size": 5, **GOOD}
    assert build_kind(KINDS, merged, "views") == WithDefault(size=5)
    with pytest.raises(ValueError, match=r"^views \(default\): unknown option 'colour'"):
        build_kind(KINDS, merged | {"colour": 1}, "views")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, r"^views: expected a mapping with 'kind' \(known: default, example\), got None"),
        ({}, "^views: expected a mapping with 'kind'"),
        ({"size": 3}, "^views: expected a mapping with 'kind'"),
        ({"kind": "exampel"}, r"^views: unknown kind 'exampel' \(did you mean 'example'\?\)"),
        ({"kind": None}, r"^views: unknown kind 'None'"),
        ({"kind": "default", "siz": 1}, r"^views \(default\): unknown option 'siz' \(did you mean 'size'\?\)"),
    ],
)
def test_wrong_kinds_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_kind(KINDS, options, "views")


# Single checks


def test_closest_names_the_nearest_or_all():
    assert closest("epoch", ["rate", "epochs"]) == "did you mean 'epochs'?"
    assert closest("zzz", {"b": 1, "a": 2}) == "known: a, b"


def test_of_very_many_names_the_first_are_listed():
    said = closest("zzz", [f"{number:04}" for number in range(5000)])
    assert said.startswith("known: 0000, 0001, ")
    assert said.endswith(", ... (5000 in all)")
    assert len(said) < 500


@given(st.floats(allow_nan=False), st.floats(-100, 100), st.floats(0, 100))
def test_range_accepts_exactly_the_closed_interval(value, low, width):
    if low <= value <= low + width:
        check_range("x", value, low, low + width)
    else:
        with pytest.raises(ValueError, match=r"x must be at least .* and at most .*, got"):
            check_range("x", value, low, low + width)


@pytest.mark.parametrize(
    ("value", "low", "high", "message"),
    [
        (0, 1, None, "^x must be at least 1, got 0$"),
        (2, None, 1, "^x must be at most 1, got 2$"),
        (float("nan"), 0, None, "^x must be at least 0, got nan$"),
        (float("nan"), None, 1, "^x must be at most 1, got nan$"),
        (3, 0, 1, "^x must be at least 0 and at most 1, got 3$"),
    ],
)
def test_range_says_its_bounds(value, low, high, message):
    with pytest.raises(ValueError, match=message):
        check_range("x", value, low, high)


def test_range_without_bounds_accepts_everything():
    check_range("x", float("-inf"))


def test_choice():
    check_choice("padding", "zeros", ("zeros", "border"))
    with pytest.raises(ValueError, match=r"^padding got 'zero' \(did you mean 'zeros'\?\)$"):
        check_choice("padding", "zero", ("zeros", "border"))
    with pytest.raises(ValueError, match=r"^padding got 'x' \(known: border, zeros\)$"):
        check_choice("padding", "x", (word for word in ("zeros", "border")))


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """Bounds and choices in the annotations, and options that are gone."""

    dropped: ClassVar[dict[str, str]] = {
        "erase": "dropped in 0.3.0; use more rotation",
        "mode: slow": "dropped in 0.3.0; use fast",
    }

    heads: Annotated[int, Ge(1), Lt(100)]
    rate: Annotated[float, Gt(0), Le(1)]
    mode: Literal["fast", "exact"]
    hidden: list[Annotated[int, Ge(1)]]


INSIDE = {"heads": 2, "rate": 0.5, "mode": "fast", "hidden": [4]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 0}, "here: heads must be at least 1 and below 100, got 0"),
        ({"heads": 100}, "here: heads must be at least 1 and below 100, got 100"),
        ({"rate": 0.0}, "here: rate must be above 0 and at most 1, got 0.0"),
        ({"rate": 1.5}, "here: rate must be above 0 and at most 1, got 1.5"),
        ({"rate": float("nan")}, "here: rate must be .*, got nan"),
        ({"mode": "fsat"}, r"here: mode got 'fsat' \(did you mean 'fast'\?\)"),
        ({"hidden": [3, 0]}, "here: hidden must be at least 1, got 0"),
        (
            {"heads": 0, "rate": 2.0},
            "heads must be at least 1 and below 100, got 0; rate must be above 0 and at most 1, got 2.0",
        ),
    ],
)
def test_a_value_outside_of_its_annotation_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(Bounded, INSIDE | wrong, "here")


@pytest.mark.parametrize("edge", [{"heads": 1}, {"heads": 99}, {"rate": 1.0}, {"mode": "exact"}, {"hidden": [1]}])
def test_the_edges_are_inside(edge):
    options = INSIDE | edge
    made = build(Bounded, options, "here")
    assert {name: getattr(made, name) for name in options} == options
    check_fields(made)


def test_an_instance_made_without_build_is_checked_the_same():
    with pytest.raises(ValueError, match="heads must be at least 1 and below 100, got 0"):
        check_fields(Bounded(heads=0, rate=0.5, mode="fast", hidden=[]))


def test_an_option_that_a_version_dropped_is_named_with_what_to_use():
    with pytest.raises(ValueError, match=r"here: option 'erase' was dropped in 0.3.0; use more rotation"):
        build(Bounded, INSIDE | {"erase": 0.1}, "here")
    with pytest.raises(ValueError, match=r"here: mode: slow was dropped in 0.3.0; use fast"):
        build(Bounded, INSIDE | {"mode": "slow"}, "here")
    with pytest.raises(ValueError, match=r"here: kind 'old' was dropped in 0.3.0; use new"):
        build_kind({"new": Bounded}, {"kind": "old"}, "here", {"old": "dropped in 0.3.0; use new"})


def test_an_instance_made_without_build_has_values_of_its_types():
    given = {"heads": 2.0, "rate": np.float64(1), "mode": "fast", "hidden": (np.int64(4),)}
    made = Bounded(**given)
    check_fields(made)
    for name, value in {"heads": 2, "rate": 1.0, "hidden": [4]}.items():
        assert getattr(made, name) == value
        assert type(getattr(made, name)) is type(value)
    assert type(made.hidden[0]) is int
    with pytest.raises(ValueError, match=r"'heads' got 2\.5"):
        check_fields(Bounded(**given | {"heads": 2.5}))
