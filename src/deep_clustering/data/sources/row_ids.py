"""Which row of the source each sample is, and which rows were left out: what results are looked up by."""

from typing import TYPE_CHECKING

import numpy as np

from deep_clustering.data.sources.samples import Samples, Skipped

if TYPE_CHECKING:
    import pandas as pd


def row_ids(loaded: Samples) -> "pd.DataFrame":
    """A line for each row of the source, in its order.

    Args:
        loaded: The samples, with what was left out.

    Returns:
        Columns `sample`, int64, the number of the sample, -1 for a row that was left out; `id`, its file or id, or
        else its number among all rows of the source, from 0, which beside ids is no id: `row 4`; `skipped`, why it was
        left out, empty for a sample.

    Raises:
        ValueError: if there is not one id for each sample.
    """
    import pandas as pd

    n_samples, n_rows = loaded.samples.shape[0], loaded.samples.shape[0] + len(loaded.skipped)
    if loaded.ids and len(loaded.ids) != n_samples:
        raise ValueError(f"ingestion: got {len(loaded.ids)} ids for {n_samples} samples")
    samples, reasons = np.full(n_rows, -1, dtype=np.int64), [""] * n_rows
    places = sample_places(loaded)
    samples[places] = np.arange(n_samples)
    ids = [str(place) for place in range(n_rows)]
    for place, name in zip(places, loaded.ids, strict=False):
        ids[place] = name or numbered(place)
    for row in loaded.skipped:
        unnamed = numbered(row.place) if loaded.ids else str(row.place)
        ids[row.place], reasons[row.place] = row.name or unnamed, row.reason
    return pd.DataFrame({"sample": samples, "id": ids, "skipped": reasons})


def numbered(row: int) -> str:
    """What a row without an id is called among others that have one, so that it is not taken for another's id."""
    return f"row {row}"


def ids_of(cells: "pd.Series") -> list[str]:
    """What a column of ids says of each row.

    Args:
        cells: Texts or numbers; whole numbers that came as floats, as beside empty cells, have no point.

    Returns:
        One text each, empty where there is none: the row has its number then, see `row_ids`.
    """
    whole = cells.dtype.kind == "f" and bool((cells.dropna() % 1 == 0).all())
    known = zip(cells, cells.isna(), strict=True)
    return ["" if gone else str(int(cell)) if whole else str(cell).strip() for cell, gone in known]


def given_ids(rows: "pd.DataFrame") -> list[str]:
    """File or id of each sample, as tables of results have it.

    Args:
        rows: What `row_ids` gave.

    Returns:
        One text each; nothing where they all are the samples' own numbers.
    """
    samples = rows.loc[rows["sample"] >= 0]
    ids = samples["id"].astype(str).tolist()
    return [] if ids == samples["sample"].astype(str).tolist() else ids


def sample_places(loaded: Samples) -> np.ndarray:
    """Number of each sample among all rows of the source, shape (n_samples,), int64."""
    n_rows = loaded.samples.shape[0] + len(loaded.skipped)
    return np.setdiff1d(np.arange(n_rows), [row.place for row in loaded.skipped])


def select_rows(loaded: Samples, rows: np.ndarray) -> tuple[list[str], list[Skipped]]:
    """Ids and skipped rows of a selection of samples, which keep the numbers that they had in the source.

    Args:
        loaded: All samples.
        rows: Numbers of those that are selected, ascending.

    Returns:
        ids: one for each of them.
        skipped: all rows that were left out, at their places among what is kept.
    """
    places = sample_places(loaded)[rows]
    names = [loaded.ids[row] for row in rows] if loaded.ids else [""] * len(rows)
    ids = [name or str(place) for name, place in zip(names, places, strict=True)]
    skipped = [
        Skipped(index + int(np.searchsorted(places, row.place)), row.name or str(row.place), row.reason)
        for index, row in enumerate(loaded.skipped)
    ]
    return ids, skipped
