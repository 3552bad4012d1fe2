"""Spaces in which rows are near each other, for tests that call what reads their options."""

ROWS = {
    "metric": "euclidean",
    "centre": False,
    "projection": 0,
    "exact_rows": 99999,
    "held_out": 0.0,
    "k": 0,
    "cache": "none",
}
"""The rows as they are, without a table of neighbours."""
