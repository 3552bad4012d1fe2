"""Features pipeline."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.features.nodes import extract_features, nearest


def create_pipeline() -> Pipeline:
    """`samples` to `features` and how they were made, and the nearest neighbours of each row if they are asked for.

    Returns:
        Two nodes in the namespace `data`, whose outputs keep their flat names.
    """
    inputs = ["samples", "split", "data_card", "vocabulary", "texts", "params:features"]
    nodes = [
        Node(extract_features, inputs, ["features", "preparation"], name="extract_features"),
        Node(nearest, ["features", "split", "params:neighbours"], ["neighbours", "neighbours_card"], name="nearest"),
    ]
    return Pipeline(
        nodes,
        namespace="data",
        inputs={"samples", "split", "data_card", "vocabulary", "texts"},
        parameters={"params:features", "params:neighbours"},
        outputs={"features", "preparation", "neighbours", "neighbours_card"},
    )
