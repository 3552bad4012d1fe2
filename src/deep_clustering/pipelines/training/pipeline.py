"""Training pipeline, the same for every method."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.training.nodes import assign, bundle, fit, name_clusters, tabulate


def create_pipeline(name: str) -> Pipeline:
    """`features` to a fitted model, what it says of every row, and a table of that.

    Args:
        name: Namespace of the nodes; `params:<name>` names the method and holds its options.

    Returns:
        The nodes `<name>.fit`, `<name>.assign`, `<name>.bundle`, `<name>.name_clusters` and `<name>.tabulate`, which
        never see labels. What evaluation or the user reads leaves the namespace under a flat name, as
        `<name>_assignments`.
    """
    inputs = ["features", "split", "neighbours", "row_keys", "row_weights"]
    parameters = ["params:options", "params:checkpoints", "params:clusters"]
    said = ["assignments", "representation"]
    tables = ["assignments_csv", "assignments_parquet"]
    shown = [*said, "cluster_names", "row_ids", "predictor", "features"]
    fitted = ["model", "preparation", "history", "representation", "split", "params:predictor"]
    nodes = [
        Node(fit, [*inputs, *parameters], ["model", "history"], name="fit", tags="train"),
        Node(assign, ["model", "features", "split", "params:space"], said, name="assign", tags="predict"),
        Node(bundle, fitted, "predictor", name="bundle", tags="predict"),
        Node(
            name_clusters,
            [*said, "samples", "vocabulary", "row_ids", "preparation"],
            "cluster_names",
            name="name_clusters",
            tags="predict",
        ),
        Node(tabulate, shown, tables, name="tabulate", tags="predict"),
    ]
    return Pipeline(
        nodes,
        namespace=name,
        inputs={*inputs, "preparation", "samples", "vocabulary", "row_ids"},
        outputs={output: f"{name}_{output}" for output in ("history", *said, "cluster_names", *tables)},
        parameters={
            "params:options": f"params:{name}",
            "params:checkpoints": "params:checkpoints",
            "params:clusters": "params:clusters",
            "params:predictor": "params:predictor",
            "params:space": "params:neighbours",
        },
    )
