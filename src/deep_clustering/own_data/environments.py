"""Environments of the configuration: how a folder conf/<name> is named, filled and replaced."""

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from deep_clustering.atomic import naming
from deep_clustering.own_data.settings import MethodSettings, Settings

logger = logging.getLogger(__name__)

_RESERVED = ("base", "local")
_FILES = ("globals.yml", "parameters.yml", "catalog.yml")

# Share of the pairs of near rows that methods are compared by.
_HELD_OUT = 0.25

_CATALOG = """\
# Sparse rows stay sparse on the disk.
samples:
  type: deep_clustering.datasets.SparseDataset
  filepath: ${runtime_params:data_folder,data}/03_primary/${globals:data_set}/samples.npz
  versioned: true
  validator: {class: deep_clustering.validators.samples, on: [load, save], skip_load_after_save: true}
  metadata: {kedro-viz: {layer: primary}}

features:
  type: deep_clustering.datasets.SparseDataset
  filepath: ${runtime_params:data_folder,data}/04_feature/${globals:data_set}/features.npz
  versioned: true
  validator: {class: deep_clustering.validators.features, on: [load, save], skip_load_after_save: true}
  metadata: {kedro-viz: {layer: feature}}
"""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What an environment of new data changes in conf/base."""

    name: str
    """Name of the folder and of the data set."""
    n_clusters: int
    """Number of clusters."""
    source: dict[str, Any]
    """Options of the source."""
    settings: Settings
    """Rows, neighbours, DCAN and NMM-EM."""
    is_sparse: bool
    """Whether the rows are CSR."""
    methods: tuple[str, ...]
    """What a run without a name trains and compares."""
    map_points: int
    """Rows that the maps of the reports place themselves."""
    notes: tuple[str, ...] = ()
    """What the reader of the files should know."""


class _Quoted(str):
    """Text that YAML shall keep as text, whatever it looks like."""


class _Dumper(yaml.SafeDumper):
    """Writes `_Quoted` in double quotes, and equal lists twice: the aliases of YAML are hard to edit."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - any value of YAML
        return True


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder of conf.

    Args:
        name: Name of the environment.

    Raises:
        ValueError: saying what it may be made of.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ValueError(
            f"new-data: the name must be 1 to 64 letters, digits, - and _, the first a letter or digit, got '{name}'"
        )
    if name.lower() in _RESERVED:
        raise ValueError(f"new-data: '{name}' is reserved; Kedro has its own use for conf/base and conf/local")


def check_place(name: str, conf: Path, *, replace: bool) -> None:
    """Refuse an environment that could not be written, before anything is looked at for it.

    Args:
        name: Its name.
        conf: The folder of environments.
        replace: Whether a folder of that name may be replaced.

    Raises:
        FileNotFoundError: if there is no conf, as outside a project.
        FileExistsError: if there is one of that name that may not be replaced.
    """
    folder = conf / name
    if not conf.is_dir():
        raise FileNotFoundError(f"new-data: no folder {conf.resolve()}; run this in the project's root")
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and replace)):
        raise FileExistsError(f"new-data: {folder} exists; choose another name, or replace it with --force")


def write_environment(environment: Environment, conf: Path, *, replace: bool) -> list[Path]:
    """Write conf/<name>: all files of it or none.

    A folder that is replaced waits in `conf/.<name>.replaced` until the new one is in its place; one that waits there
    since a former call was killed is put back first.

    Args:
        environment: What to write.
        conf: The folder of environments.
        replace: Whether a folder of that name may be replaced; files in it of other names are kept.

    Returns:
        The files.

    Raises:
        FileNotFoundError: if there is no conf, as outside a project.
        FileExistsError: if the folder exists and may not be replaced.
        OSError: if something cannot be written; everything is as it was, or the message says where the former is.
    """
    folder, former = conf / environment.name, conf / f".{environment.name}.replaced"
    if conf.is_dir():
        _put_back(former, folder)
    check_place(environment.name, conf, replace=replace)
    texts = environment_files(environment)
    new = conf / f".{environment.name}.new"
    shutil.rmtree(new, ignore_errors=True)  # what a killed call has left
    try:
        if folder.exists():
            shutil.copytree(folder, new, ignore=lambda at, _: _FILES if Path(at) == folder else ())
        else:
            new.mkdir()
        with naming(folder):
            for name, text in texts.items():
                (new / name).write_text(text, encoding="utf-8")
        _swap(new, folder, former)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return [folder / name for name in texts]


def _put_back(former: Path, folder: Path) -> None:
    """End what a killed call has begun: its former environment returns, unless the new one is there already."""
    if former.is_dir() and not os.path.lexists(folder):
        former.rename(folder)
        logger.warning("%s: an earlier new-data was killed while it replaced this environment, which is back", folder)
    shutil.rmtree(former, ignore_errors=True)


def _swap(new: Path, folder: Path, former: Path) -> None:
    """Put a folder in the place of another, or leave that where it is."""
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(former)
    try:
        new.rename(folder)
    except BaseException as error:  # an interruption must not lose it either
        try:
            former.rename(folder)
        except OSError as second:
            raise OSError(
                f"new-data: {folder} could be neither replaced ({error}) nor put back ({second}); it is in {former}, "
                "whence the next new-data of this name puts it back"
            ) from error
        raise
    shutil.rmtree(former, ignore_errors=True)


def environment_files(environment: Environment) -> dict[str, str]:
    """The files of an environment.

    Args:
        environment: What it changes.

    Returns:
        Name to text, globals.yml first.
    """
    texts = {"globals.yml": _globals(environment), "parameters.yml": _parameters(environment)}
    if environment.is_sparse:
        texts["catalog.yml"] = _CATALOG
    return texts


def _globals(environment: Environment) -> str:
    values: dict[str, Any] = {"data_set": _Quoted(environment.name), "n_clusters": environment.n_clusters}
    settings = environment.settings
    values |= settings.others
    presets = {method.preset: method.changes for method in (settings.dcan, settings.neural_mixture) if method.preset}
    if presets:
        values["presets"] = presets
    return "# Written by kedro new-data; edit it as you like.\n" + _dump(values)


def _parameters(environment: Environment) -> str:
    settings = environment.settings
    parts = [
        "# Written by kedro new-data; edit it as you like. Everything else is in conf/base.",
        "# The classes in src/deep_clustering/data/sources say what each option of a source is.",
        _dump({"ingestion": {"source": _quoted(environment.source)}}),
        *_comment_on(settings.features),
        _dump({"features": _quoted(settings.features)}),
        "# held_out: what methods do not train on, to compare them by",
        _dump({"neighbours": {"k": settings.n_neighbours, "metric": settings.metric, "held_out": _HELD_OUT}}),
        *(f"# {note}" for note in environment.notes),
        _dump({"comparison": {"methods": list(environment.methods)}}),
        "# rows that t-SNE places itself on the maps of the reports",
        _dump({"reporting": {"map_points": environment.map_points}}),
        _method("dcan", settings.dcan),
        _method("neural_mixture", settings.neural_mixture),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _comment_on(features: dict[str, Any]) -> list[str]:
    if features.get("encoder") == "lsa":
        return ["# A sentence encoder, better on short texts: encoder: onnx:<folder of model.onnx and tokenizer.json>"]
    if "scaling" in features:
        return ["# range: the value range of the data becomes [0, 1]; none keeps the values"]
    return []


def _method(name: str, settings: MethodSettings) -> str:
    if settings.preset is None:
        return _dump({name: settings.changes})
    block = f"${{copy_of:${{globals:presets.{settings.preset}}}}}"
    return f"# the preset, with what globals.yml changes in it\n{name}: {block}\n"


def _quoted(value: Any) -> Any:  # noqa: ANN401 - any value of YAML
    """The same value with its texts quoted, and `${`, which OmegaConf would resolve, escaped."""
    if isinstance(value, dict):
        return {key: item if key == "kind" else _quoted(item) for key, item in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[a-z_]+", value) is None:
        return _Quoted(value.replace("${", "\\${"))
    return value


def _dump(values: dict[str, Any]) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True)
