"""Features pipeline."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.features.nodes import extract_features


def create_pipeline() -> Pipeline:
    """`samples` to `features`.

    Returns:
        One node in the namespace `data`, whose output keeps its flat name.
    """
    nodes = [Node(extract_features, ["samples", "data_card", "params:features"], "features", name="extract_features")]
    return Pipeline(
        nodes,
        namespace="data",
        inputs={"samples", "data_card"},
        parameters={"params:features"},
        outputs={"features"},
    )
