"""What leaves the process as text: nested options in one level, with everything that looks like a credential hidden."""

import json
import re
from collections.abc import Mapping
from typing import Any

from kedro.validation.utils import get_typed_fields

REDACTED = "[redacted]"

# "token" and "key" count at the end of a name only, so that `token_pattern` and `max_tokens` stay readable.
_SECRET_NAME = re.compile(r"passw(or)?d|secret|credential|(^|[._-]|api|access|private)(token|key|pwd)$", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def redact_url(text: str) -> str:
    """Hide user names and passwords inside URLs."""
    return _URL_LOGIN.sub(REDACTED, text)


def redact(value: Any, name: str = "") -> Any:  # noqa: ANN401
    """Copy nested options with everything that looks like a credential replaced.

    Args:
        value: Options: mappings, typed objects, lists and plain values.
        name: Name of the value itself.

    Returns:
        The same as plain mappings, lists and values.
    """
    fields = value if isinstance(value, Mapping) else get_typed_fields(value)
    if _SECRET_NAME.search(name):
        return REDACTED
    if fields is not None:
        return {str(key): redact(item, str(key)) for key, item in fields.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return redact_url(value) if isinstance(value, str) else value


def to_text(value: Any) -> str:  # noqa: ANN401
    """Text as it is; everything else as JSON, on one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def flatten(options: Mapping[str, Any]) -> dict[str, str]:
    """Turn nested options into one level: names joined by dots, lists as JSON, credentials redacted.

    Args:
        options: Nested options.

    Returns:
        Text for each leaf; an empty mapping is a leaf.
    """
    flat: dict[str, str] = {}

    def add(name: str, value: Any) -> None:  # noqa: ANN401
        if isinstance(value, Mapping) and (value or not name):
            for key, item in value.items():
                add(f"{name}.{key}" if name else str(key), item)
        else:
            flat[name] = to_text(value)

    add("", redact(options))
    return flat
