"""JSON that somebody has changed: it is read, or refused as a ValueError."""

import pytest

from deep_clustering.data.plain_json import parse, parse_object


def test_what_is_said_is_read():
    assert parse('[1, "a", null]') == [1, "a", None]
    assert parse_object(b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[" * 100_000, '{"a": ' * 100_000])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  several kinds, each with its own words
        parse(text)


@pytest.mark.parametrize("text", ["[1]", "5", "null", '"a"'])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match=r"expected names and values, got (list|int|NoneType|str)"):
        parse_object(text)
