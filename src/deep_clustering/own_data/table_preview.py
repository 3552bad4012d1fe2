"""Lines of a look at a table of numbers, for the user: which columns are taken, and which are not."""

from deep_clustering.data.sources.number_tables import NumberTable
from deep_clustering.own_data.text_preview import Preview

_NAMED = 8


def columns_in_words(table: NumberTable) -> Preview:
    """The columns that hold the numbers, those that are left out and why, and the one that names the rows."""
    left_out = [f"{name} ({why})" for name, why in table.columns.left_out.items()]
    return [
        ("columns", _some(table.columns.taken)),
        *([("left out", _some(left_out))] if left_out else []),
        ("ids", "none: rows have their numbers" if table.id_column is None else f"column {table.id_column}"),
    ]


def _some(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
