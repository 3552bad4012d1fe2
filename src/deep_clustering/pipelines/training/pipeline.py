"""Training pipeline, the same for every method."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.training.nodes import assign, bundle, fit


def create_pipeline(name: str) -> Pipeline:
    """`features` to a fitted model and what it says of every row.

    Args:
        name: Namespace of the nodes; `params:<name>` names the method and holds its options.

    Returns:
        The nodes `<name>.fit`, `<name>.assign` and `<name>.bundle`, which never see labels. What evaluation reads
        leaves the namespace under a flat name: `<name>_history`, `<name>_assignments` and `<name>_representation`.
    """
    inputs = ["features", "split", "neighbours"]
    fitted = ["model", "preparation", "history", "features", "split", "params:predictor"]
    nodes = [
        Node(fit, [*inputs, "params:options", "params:checkpoints"], ["model", "history"], name="fit", tags="train"),
        Node(assign, ["model", "features"], ["assignments", "representation"], name="assign", tags="predict"),
        Node(bundle, fitted, "predictor", name="bundle", tags="predict"),
    ]
    return Pipeline(
        nodes,
        namespace=name,
        inputs={*inputs, "preparation"},
        outputs={output: f"{name}_{output}" for output in ("history", "assignments", "representation")},
        parameters={
            "params:options": f"params:{name}",
            "params:checkpoints": "params:checkpoints",
            "params:predictor": "params:predictor",
        },
    )
