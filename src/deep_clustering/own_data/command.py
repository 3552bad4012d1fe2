"""What `kedro new-data` does: look at data, write an environment that suits it, and say what to type next."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import sparse

from deep_clustering.data.feature_options import LEARNED, PATCHES
from deep_clustering.data.sources.loading import make_source
from deep_clustering.data.sources.terms import choose_analyzer, make_counter
from deep_clustering.own_data.budget import Circumstances, Plan, in_words, plan_run
from deep_clustering.own_data.environments import Environment, check_place, environment_files, write_environment
from deep_clustering.own_data.estimates import Clock, Estimate, Rows, Watch, estimate
from deep_clustering.own_data.look import look
from deep_clustering.own_data.request import Request
from deep_clustering.own_data.seen import Look
from deep_clustering.own_data.settings import Settings
from deep_clustering.own_data.trial import with_waves_if_heads_fail

# What takes part if it suits the data and there is time, in the order of the comparison.
_METHODS = ("dcan", "neural_mixture", "kmeans", "gmm", "ward", "tsne_gmm")
# Beyond it a tree or a map sees only a draw of the rows.
_ROWS_OF_TREE = 10_000
# Texts that rows are tried on.
_TRIED_TEXTS = 16

ReadParameters = Callable[[Path, str], Mapping[str, Any]]
"""Reads the parameters of an environment: a folder of environments and a name."""


def new_data(request: Request, conf: Path, read_parameters: ReadParameters) -> str:
    """Look at data and write its environment.

    Args:
        request: What the user asks for.
        conf: The folder of environments.
        read_parameters: Reads the parameters of an environment as a run does.

    Returns:
        What was seen, what was written, how long a run will take, and the command to type next.

    Raises:
        FileNotFoundError: if the data is missing.
        FileExistsError: if there is such an environment already, and it may not be replaced.
        ValueError: if the data cannot be clustered, or the request contradicts itself.
    """
    check_place(request.name, conf, replace=request.force)
    seen = look(request)
    make_source(seen.source)
    n_clusters, why = _n_clusters(request, seen)
    settings = seen.suggest(n_clusters)
    draft = Environment(
        name=request.name,
        n_clusters=n_clusters,
        source=seen.source,
        settings=settings,
        is_sparse=seen.density is not None,
        methods=_METHODS,
        map_points=5000,
    )
    budget, parameters = request.seconds, _parameters_of(draft, conf, read_parameters)
    plan, extraction = _plan(draft, seen, budget, parameters)
    if seen.rows is not None and "neural_mixture" in plan.estimates:
        settings = with_waves_if_heads_fail(settings, seen.rows, parameters)
        if settings is not draft.settings:
            draft = replace(draft, settings=settings)
            plan, extraction = _plan(draft, seen, budget, _parameters_of(draft, conf, read_parameters))
    environment = _planned(draft, plan, budget)
    written = write_environment(environment, conf, replace=request.force)
    classes = f"{seen.n_classes} classes" if seen.n_classes else "none: not needed, they only serve to score a result"
    chosen = [("labels", classes), ("clusters", f"{n_clusters} ({why})"), *settings.why]
    times = _times(plan, extraction, budget)
    lines = [*seen.preview, *chosen, *times, ("written", ", ".join(path.as_posix() for path in written))]
    return "\n".join(
        [
            *(f"{what:<16}{value}" for what, value in lines),
            "",
            "Edit these files as you like. Next, type:",
            f"kedro run --env={request.name}",
        ]
    )


def _n_clusters(request: Request, seen: Look) -> tuple[int, str]:
    if seen.n_samples < 2:
        raise ValueError(f"new-data: clustering needs at least 2 rows, got {seen.n_samples}")
    if request.n_clusters is not None:
        most = min(seen.n_samples, seen.n_different) if seen.is_whole else seen.n_samples
        if not 2 <= request.n_clusters <= most:
            what = "" if most == seen.n_samples else f", the number of different rows among {seen.n_samples}"
            raise ValueError(f"new-data: --n-clusters must be 2 to {most}{what}, got {request.n_clusters}")
        return request.n_clusters, "as asked for"
    if seen.n_classes is not None and seen.n_classes >= 2:
        return seen.n_classes, "one for each class"
    most = max(2, min(seen.n_samples // 5, seen.n_different))
    return min(10, most), "a guess: set it with --n-clusters, or in globals.yml"


def _parameters_of(draft: Environment, conf: Path, read_parameters: ReadParameters) -> Mapping[str, Any]:
    """All options that the environment gives, on the base of the project; nothing of it stays on the disk."""
    if not (conf / "base").is_dir():
        raise FileNotFoundError(f"new-data: no folder {(conf / 'base').resolve()}; run this in the project's root")
    with TemporaryDirectory() as folder:
        drafts = Path(folder) / "conf"
        for environment, texts in (
            ("base", {path.name: path.read_text(encoding="utf-8") for path in (conf / "base").glob("*.yml")}),
            (draft.name, environment_files(draft)),
        ):
            (drafts / environment).mkdir(parents=True)
            for name, text in texts.items():
                (drafts / environment / name).write_text(text, encoding="utf-8")
        return read_parameters(drafts, draft.name)


def _plan(
    draft: Environment, seen: Look, budget: float, parameters: Mapping[str, Any]
) -> tuple[Plan, tuple[str, float] | None]:
    """What fits the time, and what rows are made by and how long that takes once."""
    row_shape, density, extraction, preparation = _rows_to_come(draft.settings, seen, parameters)
    rows = Rows(
        n_samples=seen.n_samples,
        row_shape=row_shape,
        density=density,
        n_clusters=draft.n_clusters,
        n_neighbours=draft.settings.n_neighbours,
    )
    clock = Clock(rows)
    refused = _refused(rows)
    estimates: dict[str, Estimate] = {
        name: estimate(parameters[name], rows, clock) for name in _METHODS if name not in refused
    }
    recommendation = parameters["recommendation"]
    around = Circumstances(
        n_samples=seen.n_samples,
        budget=budget,
        preparation=preparation,
        refitting=recommendation["refits"] * recommendation["refit_share"],
        seconds_of_map=clock.report_map,
    )
    return plan_run(estimates, refused, around), extraction


def _refused(rows: Rows) -> dict[str, str]:
    """Methods that do not suit so many rows or clusters, and why."""
    if rows.n_samples > _ROWS_OF_TREE:
        return {"ward": f"its tree holds {_ROWS_OF_TREE} rows, there are {rows.n_samples}"}
    return {}


def _rows_to_come(
    settings: Settings, seen: Look, parameters: Mapping[str, Any]
) -> tuple[tuple[int, ...], float | None, tuple[str, float] | None, float]:
    """Shape and density of the rows that methods get, what is made for them once and how long, seconds of the rest."""
    features = settings.features
    if features.get("backbone") == PATCHES:
        from deep_clustering.own_data.backbones import try_patches

        width, seconds = try_patches(seen.row_shape, seen.n_samples)
        return (width,), None, None, seconds
    if features.get("backbone") == LEARNED:
        from deep_clustering.own_data.backbones import try_learned

        width, seconds = try_learned(seen.row_shape, seen.n_samples, parameters["features"])
        return (width,), None, ("a network that learns from the images, which is kept", seconds), 0.0
    if features.get("backbone"):
        from deep_clustering.own_data.backbones import try_backbone

        width, seconds = try_backbone(features, seen.row_shape, parameters["features"])
        return (width,), None, (f"the rows of {features['backbone']}, which are kept", seconds * seen.n_samples), 0.0
    encoder = features.get("encoder")
    if encoder == "lsa":
        return (features["lsa"],), None, None, _seconds_of_lsa(seen)
    if encoder:
        width, seconds = _try_encoder(seen, parameters["features"])
        return (width,), None, (f"the rows of {encoder}, which are kept", seconds), 0.0
    return seen.row_shape, seen.density, None, 0.0


def _seconds_of_lsa(seen: Look) -> float:
    """Terms of texts are counted three times, and rows multiplied with as many vectors as scikit-learn iterates."""
    if not seen.texts:
        rows = sparse.random(500, seen.row_shape[0], seen.density, "csr", np.float32, rng=np.random.default_rng(0))
        watch = Watch()
        rows @ np.ones((rows.shape[1], 110), dtype=np.float32)
        return 16 * watch.seconds * seen.n_samples / rows.shape[0]
    some = seen.texts[:: max(1, len(seen.texts) // 500)]
    analyzer = seen.source.get("analyzer", "word")
    if analyzer == "auto":
        analyzer = choose_analyzer(some)
    watch = Watch()
    counts = make_counter(analyzer).fit_transform(some)
    counting = watch.seconds
    watch = Watch()
    counts @ np.ones((counts.shape[1], 110), dtype=np.float32)
    product = watch.seconds
    return (3 * counting + 16 * product) * len(seen.texts) / len(some)


def _try_encoder(seen: Look, features: Mapping[str, Any]) -> tuple[int, float]:
    """Values of a row, and seconds for all texts by those of a few."""
    from deep_clustering.data.encoders.encoding import open_encoder
    from deep_clustering.data.feature_options import FeatureOptions
    from deep_clustering.options import build

    options = build(FeatureOptions, dict(features), "features")
    encoder = open_encoder(options.encoders[0], options)
    some = seen.texts[:: max(1, len(seen.texts) // _TRIED_TEXTS)][:_TRIED_TEXTS]
    next(iter(encoder.batches(some[:1])))
    watch = Watch()
    width = next(iter(encoder.batches(some)))[1].shape[1]
    return width, watch.seconds * len(seen.texts) / len(some)


def _planned(draft: Environment, plan: Plan, budget: float) -> Environment:
    """The environment with the methods, epochs and maps of the plan."""
    settings = draft.settings
    for name in ("dcan", "neural_mixture"):
        method = getattr(settings, name)
        if name in plan.estimates and plan.estimates[name].epochs != method.epochs:
            settings = replace(settings, **{name: method.with_epochs(plan.estimates[name].epochs)})
    fits = f"fit {budget:g} s"
    if plan.seconds > budget:
        fits = f"are the least that is worth a run: {in_words(plan.seconds)}, where {budget:g} s were asked for,"
    notes = [f"epochs and methods {fits} on the machine where this was written"]
    notes += [f"left out: {name} ({why})" for name, why in plan.left_out.items()]
    return replace(
        draft, settings=settings, methods=tuple(plan.estimates), map_points=plan.map_points, notes=tuple(notes)
    )


def _times(plan: Plan, extraction: tuple[str, float] | None, budget: float) -> list[tuple[str, str]]:
    """Lines about time."""
    lines = []
    for name, one in plan.estimates.items():
        epochs = f", {one.epochs} epochs" if one.per_epoch else ""
        lines.append((name, f"{in_words(one.seconds)}{epochs}"))
    lines += [(name, f"left out: {why}") for name, why in plan.left_out.items()]
    if plan.recommendation >= 1:
        lines.append(("recommendation", f"up to {in_words(plan.recommendation)}, for a fit of a part of the rows"))
    lines.append(("reports", f"{in_words(plan.reporting)}, maps of {plan.map_points} rows"))
    if extraction is not None:
        what, seconds = extraction
        lines.append(("first", f"{in_words(seconds)} once for {what}"))
    is_within = plan.seconds <= budget
    verdict = "" if is_within else f": the least that is worth a run, more than the {budget:g} s of --budget"
    lines.append(("run", f"{in_words(plan.seconds)} on this machine{verdict}"))
    return lines
