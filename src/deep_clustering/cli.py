"""Command line of the project: Kedro's own commands, with errors a person can read."""

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
import kedro.runner
import yaml  # type: ignore[import-untyped]
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import LOGGING
from kedro.io import DatasetError
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf

from deep_clustering.options import closest
from deep_clustering.pipelines.parameters import from_here, path_from_here, split_params
from deep_clustering.pipelines.yaml_shape import misshapen
from deep_clustering.redaction import csv_cell, guard_logs, message
from deep_clustering.runs.comparing import ComparingRunner, is_comparison
from deep_clustering.training.launched import check_command, follow, follows

logger = logging.getLogger(__name__)

# What a wrong input, file or machine raises; anything else is a defect and keeps its traceback.
_EXPECTED = (ValueError, DatasetError, FloatingPointError, OSError, MissingConfigException, MemoryError, RecursionError)

# Modules in whose name Kedro's runners log.
_RUNNERS = ("kedro.runner.sequential_runner", "kedro.runner.thread_runner", ComparingRunner.__module__)

# What shells give for a command that Ctrl-C has ended: 128 and the number of SIGINT.
_INTERRUPTED = 130


@click.group()
def cli() -> None:
    """Commands of the project."""


def _check_environment(env: str | None) -> None:
    """Refuse an environment without a folder in conf."""
    folder = Path("conf")
    if env and folder.is_dir() and not (folder / env).is_dir():
        known = {path.name for path in folder.iterdir() if path.is_dir()}
        raise click.ClickException(f"--env: no configuration in conf/{env} ({closest(env, known)})")


def _check_runner(runner: str | None) -> None:
    """Refuse a runner that Kedro does not have; a dotted name is a class of somebody else."""
    known = [name for name in kedro.runner.__all__ if name.endswith("Runner") and name != "AbstractRunner"]
    if runner and "." not in runner and runner not in known:
        raise click.ClickException(f"--runner: unknown runner '{runner}' ({closest(runner, known)})")


def _project_root() -> Path:
    """Root of the project that the user stands in; the folder itself if it is in none."""
    return find_kedro_project(Path.cwd()) or Path.cwd()


class _Typed(click.Path):
    """A path as the user types it, and from the project's root, where commands work, as a command gets it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Read a path from where the user stands."""
        return super().convert(path_from_here(os.fspath(value), Path.cwd(), _project_root()), param, ctx)


def _read_params(ctx: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ANN401
    """Read `--params` as Kedro does, but for commas in values, and files from where the user stands."""
    if not isinstance(value, str):
        return value
    conf = OmegaConf.create()
    try:
        for item in split_params(value):
            name, found, text = item.partition("=")
            if not found or not name.strip():
                raise ValueError(f"--params: expected name=value, got '{item}'")
            conf.merge_with_dotlist([f"{name.strip()}={text}"])
    except (ValueError, yaml.YAMLError) as error:
        raise click.UsageError(message(str(error).splitlines()[0]), ctx) from error
    params = OmegaConf.to_container(conf)
    return from_here(params, Path.cwd(), _project_root())  # type: ignore[arg-type]


@wraps(kedro_run.callback)  # type: ignore[arg-type]
def _run(**options: Any) -> Any:  # noqa: ANN401
    """Run the pipeline; an expected error becomes one message without a traceback."""
    if follows():
        with _one_message("run"):
            return follow()
    with _in_project():
        return _run_here(options)


def _run_here(options: dict[str, Any]) -> Any:  # noqa: ANN401
    _check_environment(options["env"])
    _check_runner(options["runner"])
    names = [*(options["pipelines"] or []), *filter(None, [options["pipeline"]])]
    if options["runner"] is None and is_comparison(names):
        options["runner"] = f"{ComparingRunner.__module__}.{ComparingRunner.__name__}"
    # The project documents --pipeline as well as --pipelines; the warning would be the first thing a user reads.
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    for name in _RUNNERS:
        logging.getLogger(name).addFilter(_is_advice)
    try:
        return kedro_run.callback(**options)  # type: ignore[misc]
    except click.ClickException as error:  # of a hook
        _tell_safely(error)
        raise
    except _EXPECTED as error:
        logger.debug("the run failed", exc_info=True)
        raise click.ClickException(_root_message(error)) from error


def _is_advice(record: logging.LogRecord) -> bool:
    """Leave out that a run whose first node fails is to be repeated as it was: the error says what helps."""
    return not record.getMessage().startswith("No nodes ran")


def _tell_safely(error: click.ClickException) -> None:
    vars(error)["message"] = message(error.message)  # its class declares it final; how it is shown is the class's too


def _root_message(error: BaseException) -> str:
    """The message of an error; one that the project raised says all, another is told by its kind as well."""
    text = str(error).strip() or type(error).__name__
    is_ours = isinstance(error, ValueError | DatasetError | FloatingPointError) or (
        isinstance(error, OSError) and error.errno is None
    )
    return message(text if is_ours else f"{type(error).__name__}: {text}")


run = copy.copy(kedro_run)
run.callback = _run
run.params = [copy.copy(param) for param in kedro_run.params]
next(param for param in run.params if param.name == "params").callback = _read_params
cli.add_command(run)


@contextmanager
def _in_project() -> Iterator[Path]:
    """Work in the project's root, from which configured paths start, wherever in it the user stands."""
    guard_logs()
    root = _project_root()
    logging_file = root / "conf" / "logging.yml"
    if root != Path.cwd() and logging_file.is_file() and "KEDRO_LOGGING_CONFIG" not in os.environ:
        LOGGING.configure(yaml.safe_load(logging_file.read_text(encoding="utf-8")))  # Kedro looked for it in vain
    with chdir(root):
        yield root


@contextmanager
def _one_message(command: str) -> Iterator[Path]:
    """Let a command work in the project's root; an expected error becomes one message without a traceback."""
    try:
        check_command(command)
        with _in_project() as root:
            yield root
    except click.ClickException as error:
        _tell_safely(error)
        raise
    except _EXPECTED as error:
        logger.debug("%s failed", command, exc_info=True)
        raise click.ClickException(_root_message(error)) from error


@cli.command("new-data")
@click.argument("name")
@click.option("--images", type=_Typed(path_type=Path), help="Folder of images; sub-folders are searched too.")
@click.option(
    "--array",
    type=_Typed(path_type=Path),
    help="Images or vectors in .npy or .npz, a sparse .npz, or a table of numbers.",
)
@click.option("--text", type=_Typed(path_type=Path), help="Table of texts: .csv, .tsv, .parquet or .jsonl.")
@click.option("--column", help="Of --text: column of the texts.")
@click.option("--id-column", help="Column of a table that names its rows.  [default: one that plainly does, if any]")
@click.option("--weights", help="How much each row counts: a column of --text, a .npy file or array of the .npz.")
@click.option("--labels", help="Classes, only for scores: 'folders', a .npy file or array of the .npz, a column.")
@click.option("--key", help="Of --array: name of the array in a .npz with several, or of a column of lists.")
@click.option("--layout", default="auto", show_default=True, help="Of --array: auto, nchw, nhwc, nhw or vectors.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of --text: encoding of the characters.")
@click.option("--separator", default="auto", show_default=True, help="Of --text: character between the cells.")
@click.option("--no-header", is_flag=True, help="Of --text: the first line is data; --column is a number, from 0.")
@click.option("--analyzer", default="auto", show_default=True, help="Of --text: terms are word or char, or auto.")
@click.option(
    "--encoder", help="Of --text: lsa, onnx:FOLDER, sentence-transformers:NAME or model2vec:NAME.  [default: lsa]"
)
@click.option("--backbone", help="Of --images: pretrained network: resnet50, timm:tf_efficientnet_lite2, ...")
@click.option(
    "--backbone-weights",
    type=_Typed(),
    help="Of --backbone: file of the weights.  [default: as data/01_raw/weights has]",
)
@click.option("--drawings", is_flag=True, help="Images of figures, letters or signs: by their pixels.")
@click.option("--size", type=click.IntRange(8, 512), help="Of --images: side in pixels to bring them to.")
@click.option("--n-clusters", type=click.IntRange(2), help="Number of clusters.")
@click.option("--budget", help="Time that a run may take here: seconds, or 2m, 1h.  [default: 2m, with --drawings 10m]")
@click.option("--force", is_flag=True, help="Replace conf/NAME.")
def new_data_command(no_header: bool, **options: Any) -> None:  # noqa: ANN401
    """Look at your own data and write its environment conf/NAME."""
    from deep_clustering.own_data.command import new_data
    from deep_clustering.own_data.request import Request

    for name in ("labels", "weights"):  # a file, if there is one of that name
        if Path(options[name] or "").suffix and Path(options[name]).exists():
            options[name] = path_from_here(options[name], Path.cwd(), _project_root())
    with _one_message("new-data"):
        if problems := misshapen([Path("conf/base")]):  # which are copied before they are read
            raise ValueError("\n".join(problems))
        click.echo(new_data(Request(header=False if no_header else "auto", **options), Path("conf"), _read_parameters))


def _read_parameters(conf: Path, env: str) -> dict[str, Any]:
    """Parameters of an environment in a folder of environments, as a run reads them."""
    from kedro.config import OmegaConfigLoader

    from deep_clustering.settings import CONFIG_LOADER_ARGS

    arguments: dict[str, Any] = dict(CONFIG_LOADER_ARGS)
    return dict(OmegaConfigLoader(str(conf), env=env, **arguments)["parameters"])


@cli.command("sweep")
@click.option("--envs", required=True, help="Environments, for instance digits,mnist.")
@click.option("--pipelines", required=True, help="Methods, for instance dcan,kmeans, or all.")
@click.option("--seeds", default="0", show_default=True, help="Seeds and ranges of seeds, for instance 0-4,7.")
@click.option(
    "--grid", multiple=True, help="An option and its values, dcan.instance_noise=0.25,0.5; can be given repeatedly."
)
@click.option("--params", default="", help="Options of all cells, for instance dcan.epochs=20,ingestion.n_rows=500.")
@click.option("--folder", type=_Typed(path_type=Path), help="Where it goes; default: data/sweeps/ and a name.")
@click.option("--launcher", default="processes", show_default=True, help="processes, local, ray, or module:Class.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Cells at a time.")
@click.option("--threads", type=int, help="Threads of each cell; default: cores divided by jobs.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that a cell may take.")
def sweep_command(**options: Any) -> None:  # noqa: ANN401
    """Run methods with many seeds and options; call it again to run what is missing or failed."""
    from deep_clustering.sweep import leaderboard
    from deep_clustering.sweep.command import SweepRequest, sweep

    request = SweepRequest(**options, here=Path.cwd())
    try:
        with _one_message("sweep") as project_path:
            failed = sweep(request, project_path, leaderboard.write_files)
    except KeyboardInterrupt:
        click.echo("Interrupted. What has finished is kept; the same command runs only what is missing.", err=True)
        raise SystemExit(_INTERRUPTED) from None
    if failed:
        lines = [f"    {cell['env']}/{cell['id']}: {cell['reason']}" for cell in failed]
        head = f"{len(failed)} cell{'s' if len(failed) > 1 else ''} failed; the same command tries again:"
        raise click.ClickException("\n".join([head, *lines]))


@cli.command("leaderboard")
@click.argument("source", type=_Typed(path_type=Path))
@click.option(
    "--baseline", help="Method that the others are compared with, or METHOD@VARIANT.  [default: kmeans, if it is there]"
)
@click.option("--format", "form", type=click.Choice(["md", "csv"]), default="md", show_default=True)
@click.option("--readme", type=_Typed(path_type=Path), help="Put the table between the markers in this file.")
@click.option("--brief", is_flag=True, help="Four columns: method, ACC, its difference to --baseline, CPU seconds.")
def leaderboard_command(source: Path, baseline: str | None, form: str, readme: Path | None, brief: bool) -> None:
    """Summarise the runs of SOURCE, a sweep's folder or its runs.csv, with 95 % intervals."""
    from deep_clustering.sweep import leaderboard

    with _one_message("leaderboard"):
        if source.is_dir():
            table, _ = leaderboard.write_files(source, baseline)
        else:
            table = leaderboard.make_leaderboard(leaderboard.read_runs(source), baseline)
        text = leaderboard.to_brief_markdown(table, baseline or "kmeans") if brief else leaderboard.to_markdown(table)
        if readme is not None:
            leaderboard.replace_in_readme(readme, source.stem, text)
        else:
            click.echo(text if form == "md" else table.map(csv_cell).to_csv(index=False), nl=False)


@cli.command("consensus")
@click.argument("folder", type=_Typed(path_type=Path))
@click.option("--method", help="Only runs of this method.")
@click.option("--kind", default="posteriors", show_default=True, help="posteriors or coassociation.")
@click.option("--weights", default="score", show_default=True, help="Of runs: by label-free score, equal or validity.")
@click.option("--across", is_flag=True, help="One of all methods of an environment, too.")
@click.option(
    "--resamples", type=click.IntRange(0), default=200, show_default=True, help="Subsets of the runs, for spreads."
)
def consensus_command(**options: Any) -> None:  # noqa: ANN401
    """Combine the runs of a sweep in FOLDER to one partition per method, and add it to the leaderboard."""
    from deep_clustering.sweep import leaderboard

    with _one_message("consensus"):
        text = leaderboard.write_consensus(leaderboard.ConsensusRequest(**options))
        leaderboard.write_files(options["folder"])
        click.echo(text, nl=False)


@cli.command("runs")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@click.option("--data-set", help="Only runs on this data set.")
@click.option("--method", help="Only runs that fit or score this method.")
@click.option("--status", help="Only runs of this status: finished, failed, killed, running or died.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def runs_command(**options: Any) -> None:  # noqa: ANN401
    """List the tracked runs with their scores."""
    from deep_clustering.runs.run_table import show_runs

    with _one_message("runs") as project_path:
        click.echo(show_runs(project_path, **options))


@cli.command("reproduce")
@click.argument("run_id")
@click.option("--tolerance", type=click.FloatRange(0), default=0.01, show_default=True, help="Of a metric, absolute.")
@click.option("--output-folder", type=_Typed(), help="Where the new outputs go; default: beside those of the run.")
def reproduce_command(run_id: str, tolerance: float, output_folder: str | None) -> None:
    """Repeat the tracked run RUN_ID and compare the results; exit code 1 if they differ."""
    from deep_clustering.runs.reproduction import Verdict, reproduce

    with _one_message("reproduce") as project_path:
        verdict = reproduce(project_path, run_id, tolerance, output_folder, click.echo)
    if verdict == Verdict.DIFFERENT:
        raise SystemExit(1)


@cli.command("resume")
@click.argument("run_id", required=False)
def resume_command(run_id: str | None) -> None:
    """Finish the tracked run RUN_ID, by default the newest unfinished one, without repeating what it has done."""
    from deep_clustering.runs.resumption import resume

    with _one_message("resume") as project_path:
        if follows():
            return follow()
        resume(project_path, run_id, click.echo)


@cli.command("export-clusters")
@click.argument("run", required=False)
@click.option("--method", help="Which method; default: the only one, or the recommended one.")
@click.option("--to", required=True, type=_Typed(path_type=Path), help="Folder; it must not exist or be empty.")
@click.option("--copy/--link", default=False, show_default=True, help="Copies of images, or links to them.")
@click.option("--env", help="Without RUN: environment or data set of the newest run to take.")
def export_clusters_command(**options: Any) -> None:  # noqa: ANN401
    """Sort what the tracked run RUN, by default the newest, has clustered into a folder for each cluster."""
    from deep_clustering.runs.exporting import ExportRequest, export_clusters

    with _one_message("export-clusters") as project_path:
        export_clusters(project_path, ExportRequest(**options), click.echo)


@cli.command("predict")
@click.argument("model", type=_Typed())
@click.argument("rows", type=_Typed())
@click.option(
    "--to",
    required=True,
    type=_Typed(path_type=Path),
    help="Folder of the Parquet files; called again, it goes on with them.",
)
@click.option("--workers", type=int, default=1, show_default=True, help="Processes that assign.")
@click.option("--shard-rows", type=int, default=2**17, show_default=True, help="Rows of a Parquet file.")
@click.option("--params", default="", callback=_read_params, help="How the rows are read: predict.column=body,...")
def predict_command(model: str, rows: str, to: Path, params: Any, **options: Any) -> None:  # noqa: ANN401
    """Assign any number of ROWS, a file or folder, to the clusters of MODEL, such as models:/digits-dcan@champion."""
    from deep_clustering.inference.bulk import BulkOptions, predict_in_bulk

    with _one_message("predict"):
        block = {**_read_parameters(Path("conf"), "local")["predict"], "model": model, "input": rows}
        if unknown := [name for name in params or {} if name != "predict"]:
            raise ValueError(f"predict: --params: unknown option '{unknown[0]}'; expected predict.<option>=value")
        block |= (params or {}).get("predict", {})
        made = predict_in_bulk(block, BulkOptions(folder=to, **options))
    click.echo(f"{made['rows']} rows, {made['skipped']} of them skipped, in {len(made['shards'])} files in {to}")


@cli.command("serve")
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; it asks for no password.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that answer.")
@click.option(
    "--max-bytes", type=click.IntRange(1), default=2**25, show_default=True, help="Most bytes of a request's body."
)
@click.option("--weights", type=_Typed(), help="Where a backbone's weights are, if not where they were.")
def serve_command(model: str, **options: Any) -> None:  # noqa: ANN401
    """Answer requests for clusters of rows over HTTP by MODEL, such as models:/digits-dcan@champion."""
    from deep_clustering.inference.server import serve

    with _one_message("serve") as project_path:
        serve(project_path, model, **options)
