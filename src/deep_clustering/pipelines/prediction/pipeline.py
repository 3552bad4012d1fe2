"""Prediction pipeline."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.prediction.nodes import assign_new


def create_pipeline() -> Pipeline:
    """A logged model and a file or folder, both named in `params:predict`, to `predictions`, also as `predictions_csv`.

    Returns:
        The node `prediction.assign_new`; it reads nothing of a training's data.
    """
    outputs = ["predictions_csv", "predictions"]
    nodes = [Node(assign_new, "params:predict", outputs, name="assign_new", tags="predict")]
    return Pipeline(nodes, namespace="prediction", parameters={"params:predict"}, outputs=set(outputs))
