"""Evaluation pipeline, the same for every method."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.evaluation.nodes import score


def create_pipeline(name: str) -> Pipeline:
    """What a method says of every row, and `labels`, to its scores.

    Args:
        name: The method's namespace; its options are `params:<name>`.

    Returns:
        The node `<name>.score`, with the flat output `<name>_scores`.
    """
    inputs = ["assignments", "representation", "history", "labels", "data_card", "params:options", "params:evaluation"]
    return Pipeline(
        [Node(score, inputs, "scores", name="score", tags="evaluate")],
        namespace=name,
        inputs={"labels", "data_card"},
        outputs={"scores": f"{name}_scores"},
        parameters={"params:options": f"params:{name}", "params:evaluation": "params:evaluation"},
    )
