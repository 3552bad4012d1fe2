"""Texts of the data as labels of pictures: short, and in characters that an installed font has."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from matplotlib import font_manager

logger = logging.getLogger(__name__)

# Has a box for every character there is.
_NO_FONTS = ("Last Resort",)

# Fonts that have many characters are looked at first; there may be thousands.
_LIKELY = re.compile(
    "CJK|Noto|WenQuanYi|Hei|PingFang|Gothic|Hiragino|Meiryo|Malgun|Unicode|Droid|Unifont", re.IGNORECASE
)
_MOST_FONTS = 3

# What stands before the sound in the Unicode name of a letter, such as HIRAGANA LETTER NE and THAI CHARACTER KO KAI.
_SOUND = re.compile(r".* (?:LETTER|SYLLABLE|CHARACTER) (?:SMALL )?(.+)")


def drawable(texts: Sequence[str], width: int) -> tuple[list[str], list[str]]:
    """Texts as they can be drawn.

    Characters that no installed font has are written in Latin letters where their Unicode names tell how, else by
    their codes; a line of the log says so once.

    Args:
        texts: Of any script.
        width: Most characters of each.

    Returns:
        labels: one line each.
        families: fonts to draw them with, for `fontfamily`.
    """
    lines = ["".join(one for one in " ".join(str(text).split()) if unicodedata.category(one) not in ("Cc", "Cf", "Cs"))
             for text in texts]  # fmt: skip
    families, lacking = _fonts_for(frozenset("".join(lines)) - _own_characters())
    return [shorten(_without(line, lacking), width) for line in lines], ["sans-serif", *families]


def shorten(text: str, width: int = 14) -> str:
    """One line of at most `width` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _without(text: str, lacking: Iterable[str]) -> str:
    """A text whose characters of some are transliterated, or written as U+ and their codes."""
    parts: list[str] = []
    codes: list[str] = []
    for one in text:
        sound = _sound(one) if one in lacking else one
        if sound:
            parts += [_joined(codes), sound]
            codes = []
        else:
            codes.append(f"{ord(one):04X}")
    return "".join([*parts, _joined(codes)])


def _joined(codes: Sequence[str]) -> str:
    return f"U+{' '.join(codes)}" if codes else ""


def _sound(character: str) -> str:
    """A character in ASCII, empty if its name does not say how it sounds."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", character) if one.isascii())
    match = _SOUND.fullmatch(unicodedata.name(character, ""))
    return plain or (match[1].replace(" ", "").lower() if match else "")


@cache
def _own_characters() -> frozenset[str]:
    """What the default font has."""
    path = font_manager.findfont(font_manager.FontProperties())
    return frozenset(map(chr, font_manager.get_font(path).get_charmap()))


@cache
def _fonts_for(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Installed fonts that have characters which the default font lacks, and what none of them has."""
    chosen: list[str] = []
    left = characters
    entries = sorted(font_manager.fontManager.ttflist, key=lambda entry: (not _LIKELY.search(entry.name), entry.name))
    for entry in entries:
        if not left or len(chosen) == _MOST_FONTS:
            break
        if entry.name.startswith(_NO_FONTS) or entry.name in chosen:
            continue
        try:
            has = {chr(code) for code in font_manager.get_font(entry.fname).get_charmap()}
        except (OSError, RuntimeError):  # it has been removed, or is damaged
            continue
        if left & has:
            chosen.append(entry.name)
            left -= has
    if left:
        some = "".join(sorted(left)[:5])
        logger.warning(
            "labels of pictures: no installed font has %d of their characters, such as %s; they are transliterated, or "
            "written as U+ codes, in pictures only. A font such as Noto Sans CJK shows them",
            len(left),
            some,
        )
    return tuple(chosen), left
