"""Nodes of the prediction pipeline."""

from typing import Any


def assign_new(options: dict[str, Any]) -> Any:  # noqa: ANN401 - pandas is imported when it is needed
    """Assign new rows to the clusters of a logged model.

    Args:
        options: The model, the rows and how to read them, see `deep_clustering.inference.prediction.PredictOptions`.

    Returns:
        A pandas.DataFrame with a row for each: id, cluster, probability, log_density and is_outlier.
    """
    from deep_clustering.inference.prediction import predict_rows

    return predict_rows(options)
