"""The pipelines of the project, by name."""

from collections.abc import Sequence
from functools import cache

from kedro.pipeline import Pipeline

from deep_clustering.pipelines import evaluation, features, ingestion, prediction, reporting, training, two_stage
from deep_clustering.pipelines.namespaces import (
    BASELINE_ON_TRUNK,
    COMPARED,
    HEADS_ON_TRUNK,
    NAMESPACES,
    SELF_LABELLED,
    STAGED,
)


def register_pipelines(compared: Sequence[str] = COMPARED) -> dict[str, Pipeline]:
    """Table of contents: one pipeline per method, from raw data to report, and some of them with a comparison.

    Args:
        compared: Methods of `__default__` and `compare`; a hook sets those that `comparison.methods` names.

    Returns:
        Pipeline name to pipeline; `predict` takes new rows.
    """
    return dict(_registered(tuple(compared)))


@cache  # pipelines do not change, and a run asks for them twice: Kedro, and a hook with the methods that it compares
def _registered(compared: tuple[str, ...]) -> dict[str, Pipeline]:
    prepare = ingestion.create_pipeline() + features.create_pipeline()
    whole = [name for name in NAMESPACES if name not in STAGED]
    namespaces = {name: training.create_pipeline(name) + evaluation.create_pipeline(name) for name in whole}
    beside = [namespaces[name] + reporting.create_pipeline(name, beside=compared) for name in compared]
    return {
        "__default__": sum(beside, prepare) + reporting.create_comparison(list(compared), with_reports=True),
        "prepare": prepare,
        "compare": reporting.create_comparison(list(compared), with_reports=False),
        "predict": prediction.create_pipeline(),
        **{name: prepare + pipeline + reporting.create_pipeline(name) for name, pipeline in namespaces.items()},
        **_two_stages(prepare),
    }


def _two_stages(prepare: Pipeline) -> dict[str, Pipeline]:
    """A trunk and heads on it, each by itself and all of them with what the trunk learns from the first of them."""
    first = prepare + two_stage.create_pipeline()
    heads = {name: training.create_pipeline(name, on="trunk") for name in (*HEADS_ON_TRUNK, BASELINE_ON_TRUNK)}
    teacher = HEADS_ON_TRUNK[0]
    staged = {**heads, SELF_LABELLED: training.create_pipeline(SELF_LABELLED, given=teacher)}
    shown = {
        name: pipeline
        + evaluation.create_pipeline(name)
        + reporting.create_pipeline(name, on="trunk" if name in heads else "")
        for name, pipeline in staged.items()
    }
    return {
        **{name: first + shown[name] for name in heads},
        SELF_LABELLED: first + heads[teacher] + shown[SELF_LABELLED],
        "two_stage": sum((shown[name] for name in (*HEADS_ON_TRUNK, SELF_LABELLED)), first),
    }
