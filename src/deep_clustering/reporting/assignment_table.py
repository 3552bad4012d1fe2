"""The table of a result: a line for each row of the source, with its cluster or why it has none."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deep_clustering.redaction import csv_cell

# Texts that are looked at together, each a Python object meanwhile.
_CELLS = 2**17
# Digits behind the point in a table for people; the other table has all of them.
_DIGITS = 6


def tabulate(
    row_ids: pd.DataFrame,
    assignments: np.ndarray,
    responsibilities: np.ndarray,
    *,
    names: Sequence[str],
    log_density: np.ndarray | None = None,
    threshold: float | None = None,
    is_blank: np.ndarray | None = None,
) -> pd.DataFrame:
    """Put what a method says of each row beside what the row is.

    Args:
        row_ids: `sample`, `id` and `skipped` of each row of the source, see `data.sources.row_ids`.
        assignments: Cluster of each sample, shape (n_samples,).
        responsibilities: Shape (n_samples, n_clusters).
        names: Name of each cluster.
        log_density: How likely each sample is, shape (n_samples,), in nats; None for a method without densities.
        threshold: Log density below which a sample is an outlier; None for none.
        is_blank: Which samples say nothing, as texts without a known term, shape (n_samples,); None for none. They are
            outliers and as likely of any cluster, as where new rows are predicted.

    Returns:
        A line for each row of the source, in its order: `row`, the number of the sample; `id`, its file, id or number
        in the source; `cluster` and `cluster_name`; `probability`, its largest responsibility; `log_density`;
        `is_outlier`; `skipped`, why there is none of these, else empty. Whole numbers and truths are pandas' nullable
        types, so that a gap makes no number of another kind.

    Raises:
        ValueError: if the rows and the assignments do not describe the same samples.
    """
    samples = row_ids["sample"].to_numpy()
    is_sample = samples >= 0
    if not np.array_equal(samples[is_sample], np.arange(len(assignments))):
        raise ValueError(
            f"tabulate: row_ids name {int(is_sample.sum())} samples, expected the {len(assignments)} that are assigned"
        )

    def spread(values: np.ndarray, dtype: str) -> pd.Series:
        column = pd.Series(pd.NA, index=row_ids.index, dtype=dtype)
        column[is_sample] = values
        return column

    blank = np.zeros(len(assignments), dtype=bool) if is_blank is None else is_blank
    probability = np.where(blank, 1 / responsibilities.shape[1], responsibilities.max(axis=1)).astype(np.float64)
    density = np.full(len(assignments), np.nan) if log_density is None else log_density.astype(np.float64)
    return pd.DataFrame(
        {
            "row": spread(samples[is_sample], "Int64"),
            "id": row_ids["id"].astype(str),
            "cluster": spread(assignments, "Int64"),
            "cluster_name": ["" if sample < 0 else names[assignments[sample]] for sample in samples],
            "probability": spread(probability, "Float64").astype("float64"),
            "log_density": spread(density, "Float64").astype("float64"),
            "is_outlier": spread((density < (-np.inf if threshold is None else threshold)) | blank, "boolean"),
            "skipped": row_ids["skipped"].astype(str),
        }
    )


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """The same table for a CSV file that people open.

    Args:
        table: What `tabulate` gave, or another table of texts and numbers.

    Returns:
        A copy with rounded numbers, in which a text or a name of a column that a spreadsheet would run as a formula
        begins with an apostrophe.
    """
    shown = table.copy()
    for name, column in table.items():
        if pd.api.types.is_float_dtype(column):
            shown[name] = column.round(_DIGITS)
        elif column.dtype == object or pd.api.types.is_string_dtype(column):
            shown[name] = _guarded(column)
    return shown.rename(columns=csv_cell)


def _guarded(column: pd.Series) -> pd.Series:
    """The cells of a column as `csv_cell` has them, of the type that the column has."""
    parts = [column.iloc[start : start + _CELLS] for start in range(0, max(1, len(column)), _CELLS)]
    return pd.concat([part.map(csv_cell).astype(column.dtype) for part in parts])
