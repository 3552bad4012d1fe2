"""JSON that anybody may have changed: whatever is wrong with it is a ValueError."""

import json
from typing import Any


def parse(text: str | bytes) -> Any:  # noqa: ANN401
    """What a text in JSON says.

    Args:
        text: The text.

    Raises:
        ValueError: if it is no JSON, or is nested deeper than Python goes.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The names and values of an object in JSON.

    Args:
        text: The text.

    Raises:
        ValueError: if it is no JSON, too deep, or something else.
    """
    value = parse(text)
    if not isinstance(value, dict):
        raise ValueError(f"expected names and values, got {type(value).__name__}")
    return value
