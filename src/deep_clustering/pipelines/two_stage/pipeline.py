"""Two-stage pipeline: its first stage, and what a row of its second one starts from."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.features.nodes import nearest
from deep_clustering.pipelines.two_stage.nodes import embed, learn


def create_pipeline() -> Pipeline:
    """`features` to a trunk, the rows that it makes of them, how, and the nearest neighbours of each.

    Returns:
        Three nodes in the namespace `trunk`, which never see labels; what methods read has names as `trunk_features`.
    """
    rows = ["features", "split"]
    nodes = [
        Node(
            learn,
            [*rows, "row_weights", "params:trunk", "params:checkpoints"],
            ["trunk_model", "trunk_history"],
            name="learn",
            tags="train",
        ),
        Node(
            embed,
            [*rows, "preparation", "trunk_model"],
            ["trunk_features", "trunk_preparation"],
            name="embed",
            tags="train",
        ),
        Node(
            nearest,
            ["trunk_features", "split", "params:trunk_neighbours"],
            ["trunk_neighbours", "trunk_neighbours_card"],
            name="nearest",
            tags="train",
        ),
    ]
    made = {"trunk_model", "trunk_history", "trunk_features", "trunk_preparation"}
    made |= {"trunk_neighbours", "trunk_neighbours_card"}
    return Pipeline(
        nodes,
        namespace="trunk",
        inputs={*rows, "row_weights", "preparation"},
        outputs=made,
        parameters={"params:trunk", "params:checkpoints", "params:trunk_neighbours"},
    )
