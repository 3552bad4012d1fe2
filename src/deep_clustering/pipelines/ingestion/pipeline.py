"""Ingestion pipeline."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.ingestion.nodes import key_rows, load_samples


def create_pipeline() -> Pipeline:
    """Raw data to `samples`, `labels`, `split`, `vocabulary`, `texts`, `data_card`, and what is known of each row.

    Returns:
        Two nodes in the namespace `data`, whose outputs keep their flat names.
    """
    outputs = ["samples", "labels", "split", "vocabulary", "texts", "row_ids", "row_weights", "data_card"]
    nodes = [
        Node(load_samples, "params:ingestion", outputs, name="load_samples"),
        Node(key_rows, ["samples", "texts"], "row_keys", name="key_rows"),
    ]
    return Pipeline(nodes, namespace="data", parameters={"params:ingestion"}, outputs={*outputs, "row_keys"})
