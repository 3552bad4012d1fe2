"""The pipelines of the project, by name."""

from kedro.pipeline import Pipeline

from deep_clustering.methods import METHODS
from deep_clustering.pipelines import evaluation, features, ingestion, reporting, training


def register_pipelines() -> dict[str, Pipeline]:
    """Table of contents: one pipeline per method, from raw data to report, and all of them with a comparison.

    Returns:
        Pipeline name to pipeline.
    """
    prepare = ingestion.create_pipeline() + features.create_pipeline()
    methods = {
        method: training.create_pipeline(method)
        + evaluation.create_pipeline(method)
        + reporting.create_pipeline(method)
        for method in METHODS
    }
    compare = reporting.create_comparison(list(METHODS))
    return {
        "__default__": sum(methods.values(), prepare) + compare,
        "prepare": prepare,
        "compare": compare,
        **{method: prepare + pipeline for method, pipeline in methods.items()},
    }
