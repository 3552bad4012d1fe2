"""Ingestion pipeline."""

from kedro.pipeline import Node, Pipeline

from deep_clustering.pipelines.ingestion.nodes import load_samples


def create_pipeline() -> Pipeline:
    """Raw data to `samples`, `labels`, `split`, `vocabulary`, `texts`, `row_ids` and `data_card`.

    Returns:
        One node in the namespace `data`, whose outputs keep their flat names.
    """
    outputs = ["samples", "labels", "split", "vocabulary", "texts", "row_ids", "data_card"]
    nodes = [Node(load_samples, "params:ingestion", outputs, name="load_samples")]
    return Pipeline(nodes, namespace="data", parameters={"params:ingestion"}, outputs=set(outputs))
