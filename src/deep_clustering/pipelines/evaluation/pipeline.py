"""Evaluation pipeline, the same for every method."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.evaluation.nodes import score


def create_pipeline(name: str) -> Pipeline:
    """What a method says of every row, and `labels`, to its scores.

    Args:
        name: The method's namespace; its options are `params:<name>`.

    Returns:
        The node `evaluation.score_<name>`. All methods share one namespace, so that the collapsed picture shows
        labels reaching it and nothing else.
    """
    inputs = [f"{name}_assignments", f"{name}_representation", f"{name}_history", "labels", "split", "data_card"]
    parameters = [f"params:{name}", "params:evaluation"]
    scores = f"{name}_scores"
    return Pipeline(
        [Node(score, inputs + parameters, scores, name=f"score_{name}", tags="evaluate")],
        namespace="evaluation",
        inputs=set(inputs),
        outputs={scores},
        parameters=set(parameters),
    )
