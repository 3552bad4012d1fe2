"""Training pipeline, the same for every method."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.training.nodes import assign, bundle, fit, name_clusters, tabulate
from deep_clustering.pipelines.two_stage.nodes import choose_certain


def create_pipeline(name: str, on: str = "", given: str = "") -> Pipeline:
    """`features` to a fitted model, what it says of every row, and a table of that.

    Args:
        name: Namespace of the nodes; `params:<name>` names the method and holds its options.
        on: Where the rows and their neighbours come from, as `trunk` for `trunk_features`; else they have flat names.
        given: Namespace of heads on the trunk from whose most certain rows, and from the trunk, the fit starts.

    Returns:
        The nodes `<name>.fit`, `<name>.assign`, `<name>.bundle`, `<name>.name_clusters` and `<name>.tabulate`, which
        never see labels. What evaluation or the user reads leaves the namespace under a flat name, as
        `<name>_assignments`. With `given` also the node `<name>.choose_certain`.
    """
    inputs = ["features", "split", "neighbours", "row_keys", "row_weights"]
    parameters = ["params:options", "params:checkpoints", "params:clusters", "params:parallel"]
    said = ["assignments", "representation"]
    tables = ["assignments_csv", "assignments_parquet"]
    shown = [*said, "cluster_names", "row_ids", "predictor", "features"]
    fitted = ["model", "preparation", "history", "representation", "split", "params:predictor"]
    nodes = [
        *_fit(inputs, parameters, given),
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
    rows = ["features", "neighbours", "preparation"]
    free = {*inputs, "preparation", "samples", "vocabulary", "row_ids"} - set(rows)
    begins = {f"given_{output}": f"{given}_{output}" for output in said} | {"trunk_model": "trunk_model"}
    return Pipeline(
        nodes,
        namespace=name,
        inputs={
            **{data: data for data in free},
            **{data: f"{on}_{data}" if on else data for data in rows},
            **(begins if given else {}),
        },
        outputs={output: f"{name}_{output}" for output in ("history", *said, "cluster_names", *tables)},
        parameters={
            "params:options": f"params:{name}",
            "params:checkpoints": "params:checkpoints",
            "params:clusters": "params:clusters",
            "params:parallel": "params:parallel",
            "params:predictor": "params:predictor",
            "params:space": f"params:{on}_neighbours" if on else "params:neighbours",
        },
    )


def _fit(inputs: list[str], parameters: list[str], given: str) -> list[Node]:
    """The node that fits, and the one that says what it begins with if that is given."""
    outputs = ["model", "history"]
    if not given:
        return [Node(fit, [*inputs, *parameters], outputs, name="fit", tags="train")]
    chosen = ["given_assignments", "given_representation", "params:options"]
    return [
        Node(choose_certain, chosen, "certain_rows", name="choose_certain", tags="train"),
        Node(fit, [*inputs, *parameters, "certain_rows", "trunk_model"], outputs, name="fit", tags="train"),
    ]
