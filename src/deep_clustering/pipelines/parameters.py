"""What is wrong with the parameters of a run: each group of options has a schema, and nothing else is read."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
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
    "trunk_folder",
    "model",
    "input",
    "feedback",
    "numbers_of",
}

# Options of a command line that name a file or folder of the user's.
_READ = {"input", "model", "path", "samples", "labels", "root", "weights", "feedback"}
_WRITTEN = {"data_folder", "output_folder", "trunk_folder", "folder", "cache"}

# What YAML would take for a comment, a mapping, an alias or the like, and a person means as it stands.
_NOT_PLAIN = re.compile(r"""^[*&!|>%@`]|\s#|:\s|:$""")


def packaged_conf() -> Path:
    """The configuration that came with the package; of an editable installation, that of the checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"


def split_params(text: str) -> list[str]:
    """Split "name=value,name=value" at the commas that end a value.

    A comma belongs to the value if no `name=` follows it, or within quotes, brackets and braces, so that a path with a
    comma and a list can be given.

    Args:
        text: What `--params` got.

    Returns:
        The items, for instance ["input=a,b.npy", "seed=3"].

    Raises:
        ValueError: if a quote or bracket that begins a value does not end.
    """
    items: list[str] = []
    for piece in text.split(","):
        if items and (_is_open(items[-1]) or (piece.strip() and "=" not in piece)):
            items[-1] += f",{piece}"
        else:
            items.append(piece)
    if items and _is_open(items[-1]):
        raise ValueError(f"--params: the quote or bracket that begins the value does not end, got {items[-1].strip()}")
    return [_as_yaml(item.strip()) for item in items if item.strip()]


def _is_open(item: str) -> bool:
    """Whether an item's value begins with a quote or bracket that is still open."""
    value = item.partition("=")[2].strip()
    if value[:1] in ("'", '"'):
        return len(value) < 2 or value[-1] != value[0]
    opened, closed = (sum(map(value.count, brackets)) for brackets in ("[{", "]}"))
    return value[:1] in ("[", "{") and opened > closed


def _as_yaml(item: str) -> str:
    """An item whose value YAML reads as it stands."""
    name, _, value = item.partition("=")
    is_quoted = value.strip()[:1] in ("'", '"', "[", "{")
    return f"{name}={json.dumps(value, ensure_ascii=False)}" if not is_quoted and _NOT_PLAIN.search(value) else item


def from_here(params: Mapping[str, Any], here: Path, root: Path) -> dict[str, Any]:
    """Let files on a command line be those of the folder that its user stands in, not of the project's root.

    Args:
        params: Nested or dotted parameters of a command line.
        here: Where the user stands.
        root: Root of the project, from which parameters are read.

    Returns:
        The parameters, with paths from the root: of what is there, and of the folders that are written to.
    """
    moved: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            value = from_here(value, here, root)
        elif isinstance(value, str) and _is_of_here(name.rpartition(".")[2], value, here):
            value = path_from_here(value, here, root)
        moved[name] = value
    return moved


def _is_of_here(option: str, value: str, here: Path) -> bool:
    """Whether a value is a file or folder in the place where the user stands."""
    try:
        return option in _WRITTEN or (option in _READ and bool(value) and (here / value).exists())
    except OSError:  # longer than any path may be
        return False


def path_from_here(path: str, here: Path, root: Path) -> str:
    """A path of a user who stands somewhere as one from the project's root; absolute if it lies outside.

    Args:
        path: What the user typed; a home directory as `~`, or absolute, stays.
        here: Where the user stands.
        root: Root of the project.

    Returns:
        The path.
    """
    if here == root or os.path.isabs(path) or path.startswith("~"):
        return path
    there = Path(os.path.normpath(here / path))
    return (there.relative_to(root) if there.is_relative_to(root) else there).as_posix()


def inside_lists(params: Mapping[str, Any], configured: Any, above: str = "") -> Iterator[str]:  # noqa: ANN401
    """What is wrong with parameters of a command line that reach into a list of the configuration.

    Args:
        params: Nested parameters of the command line.
        configured: What the configuration has in this place.
        above: Dotted name of the place.

    Yields:
        A sentence for each list.
    """
    for name, value in params.items():
        place = f"{above}.{name}".lstrip(".")
        if isinstance(configured, list):
            shown = json.dumps(configured, ensure_ascii=False)
            yield (
                f"--params: '{place}' names a part of the list '{above}'; expected the whole list, quoted for the "
                f"shell: --params='{above}={shown}' with what is to be changed"
            )
            return
        if isinstance(value, Mapping) and isinstance(configured, Mapping):
            yield from inside_lists(value, configured.get(name), place)


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
    from deep_clustering.training.parallel import ParallelOptions

    return {
        "ingestion": IngestionOptions,
        "features": FeatureOptions,
        "neighbours": NeighbourOptions,
        "trunk_neighbours": NeighbourOptions,
        "checkpoints": CheckpointOptions,
        "clusters": ClusterOptions,
        "parallel": ParallelOptions,
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


def unread_options(runtime_params: Mapping[str, Any], parameters: Mapping[str, Any]) -> Iterator[str]:
    """Options of the command line that nothing reads, as another kind than theirs is in use, or none.

    In files they are left from a kind that another file has changed; on a command line they are meant.

    Args:
        runtime_params: Nested parameters of the command line.
        parameters: All parameters, nothing of which is wrong.

    Yields:
        A sentence for each.
    """
    for path in _leaves(runtime_params):
        *above, option = path
        owner = _at(parameters, above)
        if not isinstance(owner, Mapping) or "kind" not in owner or option == "kind":
            continue
        if not _is_read(path, parameters):
            is_in_use = _is_read((*above, "kind"), parameters)
            why = f"is of kind '{owner['kind']}'" if is_in_use else "is not in use"
            yield f"--params: {'.'.join(path)} is read by nothing: {'.'.join(above)} {why}"


def _is_read(path: tuple[str, ...], parameters: Mapping[str, Any]) -> bool:
    """Whether an option is refused if it is spoilt: whatever reads it has an annotation that excludes this."""
    spoilt = {**parameters, path[0]: _with(parameters[path[0]], path[1:], object())}
    return bool(wrong_options({path[0]}, spoilt))


def _leaves(params: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in params.items():
        place = (*above, name)
        yield from _leaves(value, place) if isinstance(value, Mapping) else [place]


def _at(parameters: Any, path: list[str]) -> Any:  # noqa: ANN401
    for name in path:
        parameters = parameters.get(name) if isinstance(parameters, Mapping) else None
    return parameters


def _with(options: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:  # noqa: ANN401
    """Options of which one is another."""
    name, *rest = path
    return {**options, name: _with(options[name], tuple(rest), value) if rest else value}


def _check_method(name: str, options: Any) -> None:  # noqa: ANN401
    """Refuse options that no method can be made of, and a device that this machine does not have."""
    if not isinstance(options, Mapping):
        raise ValueError(f"{name}: expected a mapping of options, got {options!r}")
    if name == "trunk":
        from deep_clustering.methods.trunk import make_trunk

        make_trunk(options)
    else:
        from deep_clustering.methods import make_method

        make_method(options, name)
    if "device" in options:
        from deep_clustering.training.rows import resolve_device  # imports torch, as such a method has done already

        resolve_device(options["device"])
