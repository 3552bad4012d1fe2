"""What is wrong with the parameters of a run: each group of options has a schema, and nothing else is read."""

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Pipeline

from deep_clustering.options import build, closest

# Parameters that conf/base reads through ${runtime_params:...}, besides those that a node takes.
_RUN_LEVEL = {
    "seed",
    "n_clusters",
    "device",
    "comparison",
    "tracking",
    "data_folder",
    "output_folder",
    "model",
    "input",
    "feedback",
    "numbers_of",
}


def parameter_names(pipeline: Pipeline) -> set[str]:
    """Top-level names of the parameters a pipeline takes."""
    return {name.removeprefix("params:").split(".")[0] for name in pipeline.inputs() if name.startswith("params:")}


def unknown_parameters(runtime_params: Mapping[str, Any]) -> list[str]:
    """Parameters of the command line that nothing reads, each with the name that may have been meant."""
    if not runtime_params:
        return []
    from kedro.framework.project import pipelines

    known = _RUN_LEVEL.union(*(parameter_names(pipeline) for pipeline in pipelines.values()))
    return [
        f"--params: unknown parameter '{name}' ({closest(name, known)})" for name in runtime_params if name not in known
    ]


def shadowed_globals(parameters: Mapping[str, Any], chosen: Mapping[str, Any]) -> list[str]:
    """Values that a parameters.yml sets where the methods do not read them."""
    return [
        f"parameters: {name} is set to {parameters[name]!r}, where no method reads it; set it in globals.yml"
        for name in ("seed", "n_clusters", "device")
        if parameters[name] != chosen[name]
    ]


def option_schemas() -> dict[str, type]:
    """The schema of each group of options that a node takes and that is no method's."""
    from deep_clustering.data.feature_options import FeatureOptions
    from deep_clustering.data.neighbours import NeighbourOptions
    from deep_clustering.data.sources import IngestionOptions
    from deep_clustering.inference.prediction import PredictOptions
    from deep_clustering.inference.predictor import PredictorOptions
    from deep_clustering.pipelines.namespaces import ComparisonOptions
    from deep_clustering.pipelines.training.clusters import ClusterOptions
    from deep_clustering.reporting.options import ReportingOptions
    from deep_clustering.scores.evaluation import EvaluationOptions
    from deep_clustering.scores.recommendation import RecommendationOptions
    from deep_clustering.training.checkpoints import CheckpointOptions

    return {
        "ingestion": IngestionOptions,
        "features": FeatureOptions,
        "neighbours": NeighbourOptions,
        "checkpoints": CheckpointOptions,
        "clusters": ClusterOptions,
        "predictor": PredictorOptions,
        "predict": PredictOptions,
        "evaluation": EvaluationOptions,
        "comparison": ComparisonOptions,
        "reporting": ReportingOptions,
        "recommendation": RecommendationOptions,
    }


def wrong_options(names: set[str], parameters: Mapping[str, Any]) -> list[str]:
    """Build every named group of options, and collect what its schema says."""
    schemas = option_schemas()
    problems = []
    for name in sorted(names):
        try:
            if name in schemas:
                build(schemas[name], parameters.get(name, {}), name)
            else:
                _check_method(name, parameters.get(name))
        except ValueError as error:
            problems.append(str(error))
    return problems


def _check_method(name: str, options: Any) -> None:  # noqa: ANN401
    """Refuse options that no method can be made of, and a device that this machine does not have."""
    from deep_clustering.methods import make_method

    if not isinstance(options, Mapping):
        raise ValueError(f"{name}: expected a mapping of options, got {options!r}")
    make_method(options)
    if "device" in options:
        from deep_clustering.training.rows import resolve_device  # imports torch, as such a method has done already

        resolve_device(options["device"])
