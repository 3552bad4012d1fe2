"""What the terms of a text are: words, or in languages that write without spaces runs of one to three characters."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from deep_clustering.options import check_choice

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

Analyzer = Literal["word", "char"]
ANALYZERS = get_args(Analyzer)

_LENGTHS = (1, 2, 3)
# Words of scikit-learn's counters; and the end of the Unicode planes that have the marks of scripts.
_PLAIN_WORD = re.compile(r"\b\w\w+\b")
_PLANES = 0x20000
# Scripts whose words no space parts: Thai, Lao, Myanmar, Khmer, kana, Chinese characters.
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
# How much is looked at to choose.
_TEXTS, _CHARACTERS = 2000, 2000
# Share of the running words that no other text has, from which on they are no words. Words parted by spaces stay below
# the second even in short titles, and runs of these scripts lie above the first unless somebody has parted their words.
_LONELY, _LONELY_ANYWHERE = 0.3, 0.85
# Fewer texts in a script with spaces have little in common whatever they are.
_FEWEST_TEXTS = 50


def choose_analyzer(texts: Sequence[str]) -> Analyzer:
    """What the terms of these texts should be.

    Args:
        texts: All of them; evenly spaced ones are looked at.

    Returns:
        char if most running words stand in one text only, which says that spaces do not part words; else word. In the
        scripts that are known to have none it takes fewer such words.
    """
    part = [text[:_CHARACTERS] for text in texts[:: max(1, -(-len(texts) // _TEXTS))]]
    if len(part) < 2:
        return "word"
    limit = _LONELY if _has_no_spaces(part) else _LONELY_ANYWHERE if len(part) >= _FEWEST_TEXTS else 1.0
    return "char" if _lonely_share(part) > limit else "word"


def make_counter(analyzer: str, **options: Any) -> "CountVectorizer":  # noqa: ANN401
    """A counter of terms.

    Args:
        analyzer: word, of at least two letters, digits and the marks set on them; or char, runs of one to three
            characters.
        options: Any others of scikit-learn's `CountVectorizer`.

    Returns:
        The counter, not fitted.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=term_function(analyzer), **options)


def term_function(analyzer: str) -> Callable[[str], Iterable[str]]:
    """What scikit-learn's counters take as `analyzer`."""
    check_choice("analyzer", analyzer, ANALYZERS)
    return _words if analyzer == "word" else _character_runs


def plain_words(text: str) -> list[str]:
    """Words as scikit-learn and earlier versions part them, which end before vowel signs and combining accents."""
    return _PLAIN_WORD.findall(text.lower())


def _words(text: str) -> list[str]:
    """Words of at least two letters, digits and marks, in small letters; a mark belongs to the letter before it."""
    small = text.lower()
    is_plain = small.isascii() or _marks().isdisjoint(small)
    return plain_words(small) if is_plain else _word().findall(small)


@cache
def _marks() -> frozenset[str]:
    """What is set on the letter before: a vowel sign of Hindi, a point of Arabic, an accent that stands by itself."""
    every = map(chr, range(_PLANES))
    return frozenset(mark for mark in every if unicodedata.category(mark) in ("Mn", "Mc"))


@cache
def _word() -> re.Pattern[str]:
    return re.compile(rf"\w[\w{''.join(sorted(_marks()))}]+")


def _character_runs(text: str) -> Iterator[str]:
    """All runs of one to three characters, in small letters, without spaces, punctuation and symbols."""
    text = text.lower()
    parting = {ord(character): " " for character in set(text) if unicodedata.category(character)[0] in "CPSZ"}
    for run in text.translate(parting).split():
        for length in _LENGTHS:
            for start in range(len(run) - length + 1):
                yield run[start : start + length]


def _has_no_spaces(texts: Sequence[str]) -> bool:
    """Whether at least half of the letters are of a script that is written without spaces."""
    letters = np.array([ord(character) for text in texts for character in text if character.isalpha()], dtype=np.int64)
    n_such = sum(int(np.count_nonzero((letters >= low) & (letters <= high))) for low, high in _WITHOUT_SPACES)
    return bool(len(letters)) and 2 * n_such >= len(letters)


def _lonely_share(texts: Sequence[str]) -> float:
    """Share of all running words that stand in one text only; 0 where there are none."""
    try:
        counts = make_counter("word").fit_transform(texts)
    except ValueError:  # no word at all
        return 0.0
    is_lonely = counts.getnnz(axis=0) == 1
    n_times = np.asarray(counts.sum(axis=0)).ravel()
    return float(n_times[is_lonely].sum() / n_times.sum())
