"""The last lines of a run: what came out, which partition is recommended, and where all of it lies."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, CatalogProtocol
from kedro.pipeline import Pipeline

from deep_clustering.runs.comparing import failures_of

logger = logging.getLogger(__name__)

# Scores that a run ends with, and their names there: each method has a space of its own.
_SHOWN = {
    **{name: name for name in ("acc", "nmi", "ari", "log_likelihood")},
    "silhouette": "silhouette in its own space",
    **{name: name for name in ("balance", "oracle_gap")},
}
# Files of a method, in the order in which they are named.
_OF_METHODS = ("_assignments_csv", "_report", "_scores")
_OF_RUNS = ("comparison_report", "predictions", "predictions_csv")
_RECOMMENDED = ("recommended_clusters_csv", "recommended_assignments", "recommendation")
# In the place of the name of a method in what is said of several.
_METHOD = "METHOD"


class ShowResults:
    """Says at the end of a run what came out and where it lies."""

    @hook_impl(trylast=True)
    def after_pipeline_run(
        self, run_params: dict[str, Any], run_result: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Log the main scores, the files of scores and reports, and what a comparison recommends."""
        made = sorted(pipeline.all_outputs() - failures_of(run_result).lost)
        _show_scores(catalog, [name for name in made if name.endswith("_scores")])
        for line in _places(catalog, made):
            logger.info("%s", line)
        if Path("Makefile").is_file():
            logger.info("the pipelines: make viz; the tracked runs: make ui")
        else:  # a project that the installed package made
            logger.info("the pipelines: kedro viz run; the tracked runs: kedro runs")
        if "recommendation" in made:
            _show_recommendation(catalog, made)
        elif "params:clusters" in pipeline.inputs() and catalog.load("params:clusters")["feedback"] is not None:
            _show_what_is_former(catalog, made, run_params.get("env"))


def _show_scores(catalog: CatalogProtocol, names: Sequence[str]) -> None:
    """A line of scores for each method, and once for several what rows they are of."""
    said: set[tuple[str, str]] = set()
    for name in names:
        scores = catalog.load(name)
        metrics = scores["metrics"]
        shown = ", ".join(f"{_SHOWN[key]} {metrics[key]:.3f}" for key in _SHOWN if key in metrics)
        logger.info("%s on %s: %s", name.removesuffix("_scores"), scores["data_set"], shown)
        rows = scores["protocol"], scores["data_sha256"][:12]
        if rows not in said:
            logger.info("of %s, rows sha256 %s", *rows)
        said.add(rows)
        if selection := scores["selection"]:
            low, high = selection["interval"]
            logger.info("%d clusters suggested, 95 %% interval %d to %d", selection["suggested"], low, high)


def _places(catalog: CatalogProtocol, made: Sequence[str]) -> Iterator[str]:
    """Where the files of each method lie: said once where they lie alike for several."""
    for kind in _OF_METHODS:
        found = {
            name.removesuffix(kind): _latest_file(catalog, name)
            for name in made
            if name.endswith(kind) and name != f"comparison{kind}"
        }
        alike = [_with_placeholder(method, path) for method, path in found.items()]
        if len(alike) > 1 and len({*alike}) == 1:
            yield f"{_METHOD}{kind}: {alike[0]}"
        else:
            yield from (f"{method}{kind}: {path}" for method, path in found.items())
    yield from _named(catalog, [name for name in _OF_RUNS if name in made and "recommendation" not in made])


def _with_placeholder(method: str, path: str) -> str:
    return str(Path(*(_METHOD if part == method else part for part in Path(path).parts)))


def _show_recommendation(catalog: CatalogProtocol, made: Sequence[str]) -> None:
    """Log what failed, what is recommended, whether it is found again, and where the results of it lie."""
    recommendation = catalog.load("recommendation")
    for method, message in recommendation["failures"].items():
        logger.warning("%s failed and was left out: %s", method, message)
    logger.info("%s", recommendation["sentence"])
    if recommendation["certainty"]:
        logger.info("%s", recommendation["certainty"])
    names = (*_RECOMMENDED, f"{recommendation['method']}_report", "comparison_report")
    for line in _named(catalog, [name for name in names if name in made]):
        logger.info("%s", line)


def _named(catalog: CatalogProtocol, names: Iterable[str]) -> Iterator[str]:
    return (f"{name}: {_latest_file(catalog, name)}" for name in names)


def _show_what_is_former(catalog: CatalogProtocol, made: Sequence[str], env: str | None) -> None:
    """Say how the table of the recommended method gets the clusters that feedback has changed."""
    if not catalog.exists("recommendation"):
        return
    method = catalog.load("recommendation")["method"]
    if f"{method}_assignments_csv" in made:
        where = f" --env={env}" if env else ""
        logger.info("%s is the recommended method; recommended/ has its former clusters, which this renews:", method)
        logger.info("kedro run%s --nodes=evaluation.pick_table", where)


def _latest_file(catalog: CatalogProtocol, name: str) -> str:
    dataset = catalog.get(name)
    path = Path(dataset._get_load_path()) if isinstance(dataset, AbstractVersionedDataset) else Path(name)
    return os.path.relpath(path)
