"""Lines of a look at a table of numbers, for the user: which columns are taken, and which are not."""

from deep_clustering.data.sources.number_tables import NumberTable
from deep_clustering.data.sources.table_columns import is_called_id
from deep_clustering.own_data.text_preview import Preview

_NAMED = 8


def columns_in_words(table: NumberTable) -> Preview:
    """The columns that hold the numbers, those that are left out and why, and the one that names the rows."""
    left_out = [f"{name} ({why})" for name, why in table.columns.left_out.items()]
    doubtful = [name for name in table.columns.taken if is_called_id(name)]
    return [
        ("columns", _some(table.columns.taken)),
        *([("left out", _some(left_out))] if left_out else []),
        ("ids", _ids_in_words(table)),
        *(
            [
                (
                    "beware",
                    f"{_some(doubtful)}: called an id, but not another one in each row, so it is taken for a number; "
                    "--id-column takes it for the ids, else leave it out of the file",
                )
            ]
            if doubtful
            else []
        ),
    ]


def _ids_in_words(table: NumberTable) -> str:
    if table.id_column is None:
        return "none: rows have their numbers"
    known = [name for name in table.ids if name]
    lacking = [] if len(known) == len(table.ids) else [f"{len(table.ids) - len(known)} rows have none"]
    shared = len(known) - len({*known})
    return "; ".join([f"column {table.id_column}", *lacking, *([f"{shared} rows repeat another's"] if shared else [])])


def _some(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
