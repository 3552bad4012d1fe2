"""The pipelines of the project, by name."""

from kedro.pipeline import Pipeline

from deep_clustering.methods import METHODS
from deep_clustering.pipelines import evaluation, features, ingestion, prediction, reporting, training
from deep_clustering.pipelines.namespaces import NAMESPACES


def register_pipelines() -> dict[str, Pipeline]:
    """Table of contents: one pipeline per method, from raw data to report, and all of them with a comparison.

    Returns:
        Pipeline name to pipeline; the named configurations and `predict`, which takes new rows, have no part in
        `__default__`.
    """
    prepare = ingestion.create_pipeline() + features.create_pipeline()
    namespaces = {
        name: training.create_pipeline(name) + evaluation.create_pipeline(name) + reporting.create_pipeline(name)
        for name in NAMESPACES
    }
    compare = reporting.create_comparison(list(METHODS))
    return {
        "__default__": sum((namespaces[method] for method in METHODS), prepare) + compare,
        "prepare": prepare,
        "compare": compare,
        "predict": prediction.create_pipeline(),
        **{name: prepare + pipeline for name, pipeline in namespaces.items()},
    }
