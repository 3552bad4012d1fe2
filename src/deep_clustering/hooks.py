"""Hooks around a run: what can be checked beforehand is, and memory is given back between nodes."""

import copy
import gc
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, CatalogProtocol
from kedro.io.core import generate_timestamp
from kedro.pipeline import Node, Pipeline

from deep_clustering.options import build, closest
from deep_clustering.pipeline_registry import register_pipelines
from deep_clustering.pipelines.namespaces import NAMESPACES, ComparisonOptions
from deep_clustering.pipelines.parameters import (
    inside_lists,
    parameter_names,
    shadowed_globals,
    unknown_parameters,
    unread_options,
    wrong_options,
)
from deep_clustering.redaction import guard_logs
from deep_clustering.training.launched import check_launch
from deep_clustering.training.parallel import ParallelOptions

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)


class Preflight:
    """Refuses a run that cannot work, before anything is computed, written or tracked."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the context, for its parameters, and let them say what a run without a name compares.

        Raises:
            click.ClickException: if what is to be compared is unknown, or an option of the command line names a part
                of a list.
        """
        guard_logs()  # also where a session runs without a command
        self._context = context
        _refuse_parts_of_lists(context)
        try:
            comparison = build(ComparisonOptions, context.params.get("comparison", {}), "comparison")
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        for name, pipeline in register_pipelines(comparison.methods).items():
            if name in ("__default__", "compare"):
                pipelines[name] = pipeline

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check parameters, load versions and output folders, and settle which versions are read.

        Raises:
            click.ClickException: with everything that is wrong.
        """
        parameters = self._context.params
        runtime_params = run_params.get("runtime_params") or {}
        problems = [
            *unknown_parameters(runtime_params),
            *shadowed_globals(parameters, {**self._context.config_loader["globals"], **runtime_params}),
            *wrong_options(parameter_names(pipeline) | (set(runtime_params) & set(NAMESPACES)), parameters),
            *_refused_modes(run_params),
            *_wrong_versions(run_params.get("load_versions") or {}, pipeline, catalog),
            *_missing_inputs(run_params.get("load_versions") or {}, pipeline, catalog),
            *_unwritable_folders(pipeline, catalog),
        ]
        if problems:
            raise click.ClickException("\n".join(dict.fromkeys(problems)))
        for sentence in unread_options(runtime_params, parameters):
            logger.warning("%s", sentence)
        _warn_of_later_versions(pipeline, catalog)
        _check_rows_and_feedback(pipeline, parameters)
        _check_clusters(pipeline, parameters)
        _settle_versions(pipeline, catalog)
        _introduce_pages(pipeline, catalog)
        self._n_clusters = _asked_clusters(pipeline, parameters)
        self._n_neighbours = int(parameters["neighbours"]["k"]) if "neighbours" in pipeline.all_outputs() else 0

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Refuse rows that are too few as soon as they are read: features of them may take hours.

        Raises:
            ValueError: if they are fewer than the clusters that every method is asked for, or than the neighbours.
        """
        if dataset_name == "split":
            _refuse_few_rows(data, self._n_clusters, self._n_neighbours)


def _asked_clusters(pipeline: Pipeline, parameters: Mapping[str, Any]) -> dict[str, int]:
    """The most clusters that each method of a run is asked for."""
    fits = {node.name for node in pipeline.nodes}
    asked = {name: parameters[name].get("n_clusters", 0) for name in NAMESPACES if f"{name}.fit" in fits}
    return {name: int(of["max"] if isinstance(of, Mapping) else of) for name, of in asked.items()}


def _refuse_few_rows(split: "np.ndarray", n_clusters: Mapping[str, int], n_neighbours: int) -> None:
    from deep_clustering.data.sources.samples import FITTED

    n_fitted = int(((split & FITTED) > 0).sum())
    if n_clusters and min(n_clusters.values()) > n_fitted:
        name, asked = min(n_clusters.items(), key=lambda item: item[1])
        raise ValueError(f"{name}: n_clusters must be at most the number of rows, got {asked} for {n_fitted} rows")
    if n_neighbours and n_neighbours >= n_fitted:
        raise ValueError(f"neighbours: k must be below the number of rows {n_fitted}, got {n_neighbours}")


def _check_rows_and_feedback(pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Look at what rows are to go through, and at what feedback is about, before anything is computed.

    Raises:
        FileNotFoundError: if there is no input.
        TrackingError: if there is no such model.
        ValueError: if rows or clusters are not those of the model.
    """
    names = pipeline.inputs()
    if "params:features" in names and "trunk_features" in pipeline.all_outputs():
        from deep_clustering.data.feature_options import check_before_trunk

        check_before_trunk(parameters["features"]["postprocess"])
    if "params:predict" in names:
        from deep_clustering.inference.prediction import check_first_row

        check_first_row(parameters["predict"])
    if "params:clusters" in names:
        from deep_clustering.pipelines.training.clusters import check_feedback

        fits = {node.name for node in pipeline.nodes}
        methods = [parameters[name]["method"] for name in NAMESPACES if f"{name}.fit" in fits]
        check_feedback(parameters["clusters"], methods)


def _check_clusters(pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Look for the workers that are to train together, and for those that are to extract features.

    Raises:
        ValueError: if there is no Ray, or they cannot do it.
        TimeoutError: if a process that torchrun started does not answer.
    """
    check_launch(build(ParallelOptions, parameters.get("parallel", {"workers": 1, "launcher": "local"}), "parallel"))
    if "params:features" in pipeline.inputs():
        from deep_clustering.data.feature_options import FeatureOptions
        from deep_clustering.data.shards_on_ray import check_cluster

        check_cluster(build(FeatureOptions, parameters["features"], "features"))


def _introduce_pages(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Tell the pages of a run of each other: a run of some nodes does not write all that a page may lead to."""
    from deep_clustering.data.datasets import PageDataset

    pages = [page for name in pipeline.all_outputs() if isinstance(page := catalog.get(name), PageDataset)]
    for page in pages:
        page.beside = frozenset(one.file for one in pages)


def _refuse_parts_of_lists(context: KedroContext) -> None:
    """Refuse options that reach into a list, which OmegaConf cannot merge and says nothing of the place of."""
    loader = context.config_loader
    try:
        if loader.runtime_params:
            loader["parameters"]
    except TypeError:  # only then: without the options all files are read a second time
        configured = copy.copy(loader)
        configured.runtime_params = {}
        if problems := list(inside_lists(loader.runtime_params, configured["parameters"])):
            raise click.ClickException("\n".join(problems)) from None
        raise


def _refused_modes(run_params: Mapping[str, Any]) -> list[str]:
    """Kedro would skip a node as soon as any version of its outputs exists, also one of other parameters or data."""
    if not run_params.get("only_missing_outputs"):
        return []
    return [
        "--only-missing-outputs: it takes any version of an output, also of other parameters, for the one that is "
        "missing; to finish an unfinished run, use `kedro resume`"
    ]


def _missing_inputs(load_versions: Mapping[str, str], pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Inputs that nothing has written yet; a version that was asked for is checked apart."""
    return [
        f"inputs: '{name}' has no version in {_folder(catalog, name) or name}; run the pipeline that writes it first, "
        "or check --env"
        for name in sorted(pipeline.inputs() - set(load_versions))
        if isinstance(catalog.get(name), AbstractVersionedDataset) and not catalog.exists(name)
    ]


def _wrong_versions(load_versions: Mapping[str, str], pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Versions to load that are not there, or that the run would write before it reads them."""
    problems = []
    for name, version in load_versions.items():
        if name in pipeline.all_outputs():
            problems.append(f"--load-versions: this run writes '{name}' itself; choose the nodes behind it by --nodes")
        elif not catalog.exists(name):
            folder = _folder(catalog, name)
            known = [path.parent.name for path in folder.glob(f"*/{folder.name}")] if folder else []
            problems.append(f"--load-versions: '{name}' has no version {version} ({closest(version, known)})")
    return problems


def _settle_versions(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Choose the version of each free input now: one that another process saves during the run is not seen."""
    for name in sorted(pipeline.inputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, AbstractVersionedDataset):
            dataset.resolve_load_version()


def _warn_of_later_versions(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Say where the clock has gone back: versions are named by it, and the latest is read unless one is asked for."""
    now = generate_timestamp()
    for name in sorted(pipeline.all_outputs()):
        folder = _folder(catalog, name)
        saved = [path.parent.name for path in folder.glob(f"*/{folder.name}")] if folder else []
        if later := max((version for version in saved if _is_time(version) and version > now), default=None):
            logger.warning(
                "the clock says %s, but '%s' has the version %s: what reads it without --load-versions gets that one, "
                "not what this run writes; set the clock, or remove the version",
                now,
                name,
                later,
            )
            return


def _is_time(version: str) -> bool:
    """Whether a version is named by the clock, and not by somebody."""
    return version[:4].isdigit() and version[4:5] == "-" and version.endswith("Z")


def _unwritable_folders(pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Places that outputs of the pipeline would go to and cannot, each named once."""
    problems: dict[Path, str] = {}
    for folder in sorted({_folder(catalog, name) for name in pipeline.all_outputs()} - {None}, key=str):
        assert folder is not None
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            problems.setdefault(existing, f"outputs go to {folder}, but {existing} is a file; expected a folder")
        elif not os.access(existing, os.W_OK | os.X_OK):
            reason = f"{existing} is not writable; change its rights or mount"
            problems.setdefault(existing, f"outputs go to {folder}, but {reason}")
    return list(problems.values())


def _folder(catalog: CatalogProtocol, name: str) -> Path | None:
    """Folder of a local file dataset; None for a dataset that is kept elsewhere."""
    dataset = catalog.get(name)
    path = getattr(dataset, "_filepath", None)
    return Path(path) if path is not None and getattr(dataset, "_protocol", "file") == "file" else None


class NodeProgress:
    """One log line for each finished node, and memory given back, so that the peak is one node's and not their sum."""

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Count the nodes, and let collections pass over what was there before them.

        That is half a million objects of imported packages: to walk them behind each node took half of a short run.
        """
        self._n_nodes, self._n_done = len(pipeline.nodes), 0
        self._started: dict[str, float] = {}
        gc.collect()
        gc.freeze()

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Let collections see all objects again."""
        gc.unfreeze()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Likewise."""
        gc.unfreeze()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Start the clock of a node."""
        self._started[node.name] = time.monotonic()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Log the node, collect garbage, and empty the CUDA cache if torch has been used at all."""
        self._n_done += 1
        seconds = time.monotonic() - self._started.pop(node.name)
        logger.info("%s: done in %.1f s (%d of %d)", node.name, seconds, self._n_done, self._n_nodes)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
