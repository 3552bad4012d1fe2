"""Nodes of the prediction pipeline."""

from typing import Any


def assign_new(options: dict[str, Any]) -> tuple[Any, Any]:
    """Assign new rows to the clusters of a logged model.

    Args:
        options: The model, the rows and how to read them, see `deep_clustering.inference.prediction.PredictOptions`.

    Returns:
        shown: a pandas.DataFrame for a CSV file, safe to open in a spreadsheet.
        table: the same with all digits, a row for each: id, cluster, probability, log_density, is_outlier and skipped.
    """
    from deep_clustering.inference.prediction import predict_rows
    from deep_clustering.reporting import assignment_table

    table = predict_rows(options)
    return assignment_table.for_spreadsheets(table), table
