"""The pipelines of the project, by name."""

from collections.abc import Sequence

from kedro.pipeline import Pipeline

from deep_clustering.pipelines import evaluation, features, ingestion, prediction, reporting, training
from deep_clustering.pipelines.namespaces import COMPARED, NAMESPACES


def register_pipelines(compared: Sequence[str] = COMPARED) -> dict[str, Pipeline]:
    """Table of contents: one pipeline per method, from raw data to report, and some of them with a comparison.

    Args:
        compared: Methods of `__default__` and `compare`; a hook sets those that `comparison.methods` names.

    Returns:
        Pipeline name to pipeline; `predict` takes new rows.
    """
    prepare = ingestion.create_pipeline() + features.create_pipeline()
    namespaces = {name: training.create_pipeline(name) + evaluation.create_pipeline(name) for name in NAMESPACES}
    beside = [namespaces[name] + reporting.create_pipeline(name, beside=compared) for name in compared]
    return {
        "__default__": sum(beside, prepare) + reporting.create_comparison(list(compared), with_reports=True),
        "prepare": prepare,
        "compare": reporting.create_comparison(list(compared), with_reports=False),
        "predict": prediction.create_pipeline(),
        **{name: prepare + pipeline + reporting.create_pipeline(name) for name, pipeline in namespaces.items()},
    }
