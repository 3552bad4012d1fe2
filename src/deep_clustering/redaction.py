"""What leaves the process as text: what looks like a credential is hidden, what steers a terminal is spelled out."""

import base64
import binascii
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from kedro.validation.utils import get_typed_fields

REDACTED = "[redacted]"

# The short names count at the end only, so that `token_pattern`, `max_tokens` and `path` stay readable.
_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|credential|bearer|authorization|cookie"
    r"|connection[_-]?strings?(?![a-z])|(?<![a-z])conn(ection)?[_-]?str(ing)?s?(?![a-z])"
    r"|session_?id|(^|[._-]|api|access|private|account|auth)(token|key|pwd|pw|pass|auth|sas|pat|sig|signature|jwt|otp|dsn)$",
    re.IGNORECASE,
)
# All lengths are bounded, so that no long text takes long. A login ends at the last @, as a password may hold any other
# mark; one slash is what paths leave of two. What stands behind models:/ is a name and its alias.
_URL_LOGIN = re.compile(
    r"(?<![a-z0-9+.-])(?!models:)([a-z][a-z0-9+.-]+:/{1,2})(?:[^\s/@:?#]{0,300}:\S{0,300}|[^\s/@?#]{1,300})@",
    re.IGNORECASE,
)
_NAMELESS_LOGIN = re.compile(
    r"((?<![\w:/.])//|%3A%2F%2F)[^\s/@:%]{1,100}(?::|%3A)[^\s/@]{1,300}?(?=@|%40)", re.IGNORECASE
)
# Without a scheme a login is one only before what no address of mail, version or name ends in: `localhost`, a number of
# a host, or its name with dots and a port or a path.
_HOST = (
    r"(?:localhost\b|\d{1,3}(?:\.\d{1,3}){3}(?![\w.-])|\[[\da-f:.]{2,45}\]|(?:[\w-]{1,63}\.){1,9}[a-z]{2,20}(?::\d|/))"
)
_BARE_LOGIN = re.compile(
    r"(?<![\w:/.@%-])((?!mailto:)[\w.+-]{1,100}:)(?=[^\s@]{0,300}\d)(?=[^\s@]{0,300}[a-z])"
    rf"[^\s/:@,;<>()\[\]{{}}\"']{{8,300}}(?=@{_HOST})",
    re.IGNORECASE,
)
# `code=3` is one of an answer; what a login hands on is longer.
_CODE = re.compile(r"(?<=[?&#])(code=)(?!\[redacted\])[^&;#\s\"']{8,}", re.IGNORECASE)
_QUERY = re.compile(r"(?<=[?&;])([\w.-]+)=(?!\[redacted\])[^&;#\s\"']+")
_VALUE = r"\"[^\"]*\"|'[^']*'|[^\s\"'&;,<>]+"
_ASSIGNED = re.compile(
    r"(passw(?:or)?d|passphrase|\bpwd|secret|(?:api|access|private|account)[_-]?key|(?:access|auth|api)[_-]?token"
    rf"|connection[_-]?string|shared_?access_?(?:key|signature))([\"']?\s*[=:]>?\s*)(?!\[redacted\])({_VALUE})",
    re.IGNORECASE,
)
# Words that other texts have, too, so that only what is long and stands close to one counts.
_CLOSE = re.compile(
    r"((?<![\w.-])[\w.-]{0,60}(?<![a-z])(?:token|pass|auth|sas|sig|pat|jwt)(?:=|\"\s*:\s*|'\s*:\s*)"
    r"|(?<![\w-])--[\w-]{0,40}(?:token|password|passwd|secret|api-key)\s+)(?!\[redacted\])"
    r"(\"[^\"]{8,}\"|'[^']{8,}'|[^\s\"'&;,<>()]{8,})",
    re.IGNORECASE,
)
_QUOTED = r"(?:\"[^\"\n]{1,300}\"|'[^'\n]{1,300}')"
_PAIR = re.compile(
    rf"(\b(?:(?:\w{{0,20}}_)?(?:http|basic|proxy)?auth[\"']?\s{{0,9}}[=:]\s{{0,9}}[(\[]|\w{{0,20}}BasicAuth\()\s{{0,9}}{_QUOTED}\s{{0,9}},\s{{0,9}})"
    rf"(?![\"']\[redacted\]){_QUOTED}",
    re.IGNORECASE,
)
# A word and a value apart. Parsers and vocabularies have tokens, too, so that one counts only if it begins with many
# letters and digits on end, and `word2vec-google-news` does not.
_APART = re.compile(
    r"((?<![\w.-])[\w.-]{0,60}(?<![a-z])(?:auth|token|jwt)\s?:\s{1,9}[\"']?"
    r"(?=[a-z\d]{16})(?=(?:[a-z]{0,99}\d){3})(?=\d{0,99}[a-z])"
    r"|\b(?:password|passphrase)\s[\"'](?=[^\s\"']{0,300}\d)(?=[^\s\"']{0,300}[a-z]))[^\s\"'&;,<>()\[\]]{8,}",
    re.IGNORECASE,
)
_BASIC = re.compile(r"(\bbasic(?:\s+|%20))([a-z0-9+/]{8,8000}={0,2})(?![\w+/=])", re.IGNORECASE)
_COOKIE = re.compile(r"(\b(?:set-)?cookie[\"']?\s*:\s*[\"']?)(?!\[redacted\])[^\s\"'][^\n\"']*", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(?!\[redacted\]).*?(?=-----END|\Z)", re.DOTALL)
_AUTHORIZATION = re.compile(
    r"(\bauthorization[\"']?\s*[=:]\s*[\"']?)(?!\[redacted\])(?:(?:basic|bearer|digest|token)\s+)?[^\s\"',]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
# Tokens that are known by their own form: of GitHub, GitLab, Hugging Face, OpenAI, Stripe, DigitalOcean, Slack,
# AWS, Google, npm and PyPI, and JSON web tokens, which begin behind no hyphen, as each would be a new beginning of one.
_TOKEN = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|glpat-[\w-]{16,}|[rs]k_(?:live|test)_\w{16,}|dop_v1_\w{16,}|xapp-[\w-]{10,}|AIza[\w-]{30,}|npm_\w{30,}|pypi-[\w-]{20,}"
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)

# Escapes, controls and marks that turn the direction of writing; line breaks and tabs are apart, texts have them.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# In Markdown: backslashes that take the next mark literally, and marks that begin a tag, end the text of a link or
# image, or make a link of a bare address. As entities they are the same to the eye.
_ESCAPING = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
_ALIVE = re.compile(r"<(?=[a-z/!?])|\](?=\s*[(\[:])|:(?=//)|(?<=www)\.", re.IGNORECASE)
_FURTHER_LINE = re.compile(r"\n(?!    )")

# What spreadsheets take for a formula, but no number; in some languages also the wide forms of its first mark.
_FORMULA = re.compile(r"[=@\x00-\x1f\uff1d\uff0b\uff0d\uff20]|[+-](?!\d*\.?\d+$)")


def redact_text(text: str) -> str:
    """Hide what looks like a credential in a text: logins and signatures in URLs, passwords, tokens."""
    text = _URL_LOGIN.sub(rf"\1{REDACTED}@", text)
    text = _NAMELESS_LOGIN.sub(rf"\1{REDACTED}", text)
    text = _BARE_LOGIN.sub(rf"\1{REDACTED}", text)
    text = _CODE.sub(rf"\1{REDACTED}", text)
    text = _QUERY.sub(lambda pair: f"{pair[1]}={REDACTED}" if _SECRET_NAME.search(pair[1]) else pair[0], text)
    text = _AUTHORIZATION.sub(rf"\1{REDACTED}", text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _BASIC.sub(lambda pair: f"{pair[1]}{REDACTED}" if _is_login(pair[2]) else pair[0], text)
    text = _PAIR.sub(rf"\1'{REDACTED}'", text)
    text = _ASSIGNED.sub(rf"\1\2{REDACTED}", text)
    text = _APART.sub(rf"\1{REDACTED}", _CLOSE.sub(rf"\1{REDACTED}", text))
    text = _PRIVATE_KEY.sub(rf"\1{REDACTED}", _COOKIE.sub(rf"\1{REDACTED}", text))
    return _TOKEN.sub(REDACTED, text)


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
    return redact_text(value) if isinstance(value, str) else value


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


def printable(text: str) -> str:
    """A text that no terminal takes for orders: controls are spelled out, line breaks and tabs stay."""
    return _CONTROL.sub(_spelled, text)


def one_line(text: str) -> str:
    """A text on one line, such as the name of a file, with controls, line breaks and tabs spelled out."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def message(text: str) -> str:
    """What a person is told: without credentials and controls, and with further lines set in.

    Args:
        text: A message, perhaps with names that strangers gave to files.

    Returns:
        The message; no line of it but the first begins where one of the log does.
    """
    return _FURTHER_LINE.sub("\n    ", printable(redact_text(text)))


def markdown_cell(text: str) -> str:
    """A cell or heading in Markdown: bars and line breaks do not split it, and no tag, image or link in it is alive."""
    cell = _ESCAPING.sub(r"\\\\", one_line(text)).replace("|", r"\|")
    return _ALIVE.sub(lambda found: "&lt;" if found[0] == "<" else f"&#{ord(found[0])};", cell)


def csv_cell(cell: Any) -> Any:  # noqa: ANN401
    """A cell of a CSV file that people open: what a spreadsheet would run as a formula begins with an apostrophe.

    Args:
        cell: A text, or anything else, which stays as it is.

    Returns:
        The cell.
    """
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def guard_logs() -> None:
    """Let every record of this process be logged as `message` tells it, whoever logs and wherever it is shown."""
    make = logging.getLogRecordFactory()
    if getattr(make, "is_guarded", False):
        return

    def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401
        record = make(*args, **kwargs)
        try:
            raw = record.getMessage()
        except (TypeError, ValueError):  # the handler reports arguments that do not fit
            return record
        if (told := message(raw)) != raw:
            record.msg, record.args = told, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = message(logging.Formatter().formatException(record.exc_info))
        return record

    guarded.is_guarded = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(guarded)


def _is_login(encoded: str) -> bool:
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        return False
    texts = raw.decode(errors="surrogateescape"), raw.decode("latin-1")
    return any(":" in text and text.isprintable() for text in texts)


def _spelled(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
