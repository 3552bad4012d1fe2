"""Lines of a look at texts, for the user: how they were read, and what words they have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

Preview = list[tuple[str, str]]


def readings(reading: Mapping[str, Any]) -> Preview:
    """How a table was read, where that is not as usual, and what names its rows."""
    found = [] if reading.get("id_column") is None else [("ids", f"column {reading['id_column']}")]
    if reading.get("separator", ",") not in (",", "\t"):
        found.append(("separator", repr(reading["separator"])))
    if not reading.get("header", True):
        found.append(("header", "none: columns have numbers, from 0"))
    if reading["analyzer"] == "char":
        found.append(("terms", "runs of one to three characters: most words stand in one text only"))
    return found


def heaviest_words(rows: sparse.csr_matrix, vocabulary: Sequence[str]) -> Preview:
    """The heaviest terms."""
    weights = np.asarray(rows.sum(axis=0)).ravel()
    return [("words", ", ".join(vocabulary[index] for index in np.argsort(-weights, kind="stable")[:8]))]


def lonely_texts(rows: Any) -> Preview:  # noqa: ANN401 - CSR
    """What the user should know where most texts have no word in common with another."""
    n_texts = rows.getnnz(axis=0)
    n_lonely = rows.shape[0] - np.count_nonzero(rows[:, np.flatnonzero(n_texts > 1)].getnnz(axis=1))
    if 2 * n_lonely <= rows.shape[0]:
        return []
    advice = "words are what spaces part, which some scripts do without; a sentence encoder needs none"
    return [("attention", f"{n_lonely} of {rows.shape[0]} texts share no word with another: {advice}")]
