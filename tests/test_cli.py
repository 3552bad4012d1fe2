"""`kedro run` as a person types it: what works, what each slip is answered with, what is shown meanwhile."""

import copy
import re
from contextlib import chdir
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from command_line import checksums, command, error_of, kedro_run, params
from deep_clustering.cli import cli, run
from deep_clustering.pipelines.parameters import split_params, unread_options
from pipelines.small_project import copy_project, versions

MAX_COLUMNS = 120


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


@pytest.mark.parametrize("option", ["--pipeline=kmeans", "--pipelines=kmeans"])
def test_both_spellings_of_the_option_run_a_method(project, option, recwarn):
    result = kedro_run(project, option, "--to-nodes=kmeans.assign", params())
    assert result.exit_code == 0, result.output
    assert len(versions(project, "assignments.npy")) == 1
    assert not [warning for warning in recwarn if "--pipeline" in str(warning.message)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pipelines=kmean"], "'kmean'.*\n +kmeans$"),
        (["--pipeline=kmean"], "'kmean'.*\n +kmeans$"),
        (["--env=digit"], r"--env: no configuration in conf/digit \(did you mean 'digits'\?\)$"),
        (["--runner=ThreadRuner"], r"--runner: unknown runner 'ThreadRuner' \(did you mean 'ThreadRunner'\?\)$"),
        (["--params=sed=3"], r"--params: unknown parameter 'sed' \(did you mean 'seed'\?\)$"),
        (["--params=kmean.n_init=3"], r"--params: unknown parameter 'kmean' \(did you mean 'kmeans'\?\)$"),
        (["--params=kmeans.n_inits=3"], r"kmeans: unknown option 'n_inits' \(did you mean 'n_init'\?\)$"),
        (["--params=kmeans.n_init=many"], "kmeans: 'n_init' got 'many': .*integer"),
        (["--params=kmeans.n_init=0"], "kmeans: n_init must be at least 1, got 0$"),
        (["--params=kmeans.method=kmean"], r"unknown method 'kmean' \(did you mean 'kmeans'\?\)$"),
        (
            ["--pipelines=self_labelled", "--params=self_labelled.start.core=2"],
            r"^self_labelled: start \(given\): core must be at least 0.01 and at most 1, got 2$",
        ),
        (
            ["--pipelines=self_labelled", "--params=features.postprocess=centre_l2"],
            "^features: rows of a trunk are postprocessed behind it, got postprocess 'centre_l2'; set none$",
        ),
        (["--params=kmeans=3"], "kmeans: expected a mapping of options, got 3$"),
        (["--params=seed=one"], "kmeans: 'seed' got 'one': .*integer"),
        (["--params=n_clusters=1"], "kmeans: n_clusters must be at least 2, got 1$"),
        (
            ["--params=n_clusters.min=2,n_clusters.max=9"],
            r"^kmeans: n_clusters must be one number, got the range .*min.*2.*max.*9.*; .* by neural_mixture alone$",
        ),
        (
            ["--params=ingestion.source.kind=digit"],
            r"ingestion.source: unknown kind 'digit' \(did you mean 'digits'\?\)$",
        ),
        (["--params=features.scaling=rang"], r"features: scaling got 'rang' \(did you mean 'range'\?\)$"),
        (["--params=tracking.enable=false"], r"tracking: unknown option 'enable' \(did you mean 'enabled'\?\)$"),
        (["--params=tracking.enabled=maybe"], "tracking: 'enabled' got 'maybe': .*boolean"),
        (["--pipelines=dcan", "--params=dcan.encoder.kind=cnv"], r"unknown kind 'cnv' \(did you mean 'conv'\?\)$"),
        (["--pipelines=dcan", "--params=dcan.epohcs=3"], r"dcan: unknown option 'epohcs' \(did you mean 'epochs'\?\)$"),
        (["--pipelines=dcan", "--params=device=cud"], "device: expected 'auto', 'cpu' or a device .*, got 'cud'"),
        (["--load-versions=featurs:2026"], "featurs"),
        (["--load-versions=features:2026"], "--load-versions: this run writes 'features' itself"),
        (
            ["--nodes=kmeans.fit", "--load-versions=features:2026"],
            r"--load-versions: 'features' has no version 2026 \(known: \)\n    inputs: 'neighbours' has no version in ",
        ),
    ],
)
def test_a_slip_is_answered_with_one_message_and_leaves_nothing_behind(project, options, message):
    before = checksums(project)
    if not options[0].startswith("--pipeline"):
        options = ["--pipelines=kmeans", *options]
    found = error_of(kedro_run(project, *options))
    assert re.search(message, found), found
    assert checksums(project) == before


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("neural_mixture.start.renew=0.5", "overclustering"),
        ("neural_mixture.start.hold=0.5", None),
        ("neural_mixture.start.kind=none,neural_mixture.start.hold=0.5", "none"),
        ("neural_mixture.epochs=3", None),
    ],
)
def test_an_option_of_another_kind_is_said_to_be_read_by_nothing(parameters, option, kind):
    given, changed = {}, copy.deepcopy(parameters["neural_mixture"])
    for one in option.split(","):
        *above, name = one.partition("=")[0].split(".")
        value = yaml.safe_load(one.partition("=")[2])
        block, changed_block = given, {"neural_mixture": changed}
        for part in above:
            block, changed_block = block.setdefault(part, {}), changed_block[part]
        block[name] = changed_block[name] = value
    said = f"--params: {option.split(',')[-1].partition('=')[0]} is read by nothing: neural_mixture.start is of kind "
    assert list(unread_options(given, {"neural_mixture": changed})) == ([f"{said}'{kind}'"] if kind else [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3,kmeans.n_init=2", {"seed": 3, "kmeans": {"n_init": 2}}),
        (" seed=3 , device = cpu,", {"seed": 3, "device": "cpu"}),
        ("input=a,b/x.npy,seed=3", {"input": "a,b/x.npy", "seed": 3}),
        ("input=/a, b/x.npy", {"input": "/a, b/x.npy"}),
        ('input="a,b=c/x.npy",seed=3', {"input": "a,b=c/x.npy", "seed": 3}),
        ("input='a,b=c,d.npy'", {"input": "a,b=c,d.npy"}),
        ("input=my #1 project/x.npy", {"input": "my #1 project/x.npy"}),
        ("input=a: b.npy", {"input": "a: b.npy"}),
        ("input=*.npy", {"input": "*.npy"}),
        ("dcan.encoder.channels=[4, 8],seed=1", {"dcan": {"encoder": {"channels": [4, 8]}}, "seed": 1}),
        ('dcan.start={"kind": "kmeans", "n_init": 2}', {"dcan": {"start": {"kind": "kmeans", "n_init": 2}}}),
        ("a.rate=1e-3,b=null,c=true", {"a": {"rate": 0.001}, "b": None, "c": True}),
    ],
)
def test_values_of_params_may_hold_commas_and_what_yaml_has_a_meaning_for(text, expected):
    option = next(param for param in run.params if param.name == "params")
    assert option.callback(click.Context(run), option, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "--params: expected name=value, got 'seed'"),
        ("=3", "--params: expected name=value, got '=3'"),
        ("seed=3,input='a,b", "--params: the quote or bracket that begins the value does not end, got input='a,b"),
        ("x=[1,2", "--params: the quote or bracket that begins the value does not end, got x=[1,2"),
    ],
)
def test_params_that_cannot_be_read_are_refused(project, text, message):
    assert error_of(kedro_run(project, "--pipelines=kmeans", f"--params={text}")) == message


def test_an_option_inside_a_list_is_refused_with_the_list_to_give(project):
    (project / "conf/local").mkdir(exist_ok=True)
    (project / "conf/local/parameters.yml").write_text(
        "neural_mixture: ${copy_of:${globals:presets.neural_mixture_on_features}}"
    )
    before = checksums(project)
    option = "--params=neural_mixture.start.others.0.n_init=3"
    found = error_of(kedro_run(project, "--pipelines=neural_mixture", option))
    assert found.startswith(
        "--params: 'neural_mixture.start.others.0' names a part of the list 'neural_mixture.start.others'; expected "
        "the whole list, quoted for the shell: --params='neural_mixture.start.others=[{"
    )
    assert checksums(project) == before
    given = found.partition("--params='")[2].partition("' with")[0]
    assert split_params(given) == [given]  # what it tells to type is read as one option


def test_a_run_in_a_sub_folder_is_that_of_the_project(project):
    there, data = project / "data/01_raw", np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    for folder in (there / "mine", project / "notes/deep"):
        folder.mkdir(parents=True)
    np.save(there / "mine/samples.npy", data)
    (project / "conf/local").mkdir(exist_ok=True)
    (project / "conf/local/parameters.yml").write_text(
        "ingestion: {source: {kind: arrays, name: mine, samples: data/01_raw/mine/samples.npy, labels: null, key: null,"
        " layout: auto, value_range: null}}"
    )
    small = params(ingestion__n_rows=0, n_clusters=3, neighbours__k=3)
    with chdir(project):
        bootstrap_project(project)
    with chdir(project / "notes/deep"):
        result = CliRunner().invoke(cli, ["run", "--pipelines=dcan", "--to-nodes=dcan.assign", small])
        assert "images of shape" in error_of(result)  # the samples were found
        result = CliRunner().invoke(cli, ["run", "--pipelines=kmeans", "--to-nodes=kmeans.assign", small])
        assert result.exit_code == 0, result.output
        assert Path.cwd() == project / "notes/deep"
        assert not list(Path.cwd().iterdir())
        # what is typed is of the place where it is typed
        np.save("own.npy", data[:30])
        typed = small + ",ingestion.source.samples=own.npy,output_folder=results"
        result = CliRunner().invoke(cli, ["run", "--pipelines=kmeans", "--to-nodes=kmeans.assign", typed])
        assert result.exit_code == 0, result.output
    shapes = sorted(np.load(path).shape for path in versions(project, "assignments.npy"))
    assert shapes == [(60,)]
    (own,) = (project / "notes/deep/results").glob("**/assignments.npy/*/assignments.npy")
    assert np.load(own).shape == (30,)


def test_the_other_commands_in_a_sub_folder_are_those_of_the_project(project):
    (project / "notes").mkdir()
    with chdir(project):
        bootstrap_project(project)
    with chdir(project / "notes"):
        np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32))
        result = CliRunner().invoke(cli, ["new-data", "own_rows", "--array=rows.npy", "--n-clusters=3"])
        assert result.exit_code == 0, result.output
        written = yaml.safe_load((project / "conf/own_rows/parameters.yml").read_text())
        assert written["ingestion"]["source"]["samples"] == "notes/rows.npy"
        words = ["sweep", "--envs=digits", "--pipelines=kmeans", "--launcher=local", "--folder=here"]
        result = CliRunner().invoke(cli, [*words, "--params=ingestion.n_rows=100,tracking.enabled=false"])
        assert result.exit_code == 0, result.output
        result = CliRunner().invoke(cli, ["leaderboard", "here"])
        assert result.exit_code == 0, result.output
        assert sorted(path.name for path in Path.cwd().iterdir()) == ["here", "rows.npy"]


def test_all_slips_of_the_parameters_are_named_at_once(project):
    slips = "--params=sed=3,kmeans.n_init=many,features.scaling=rang"
    lines = error_of(kedro_run(project, "--pipelines=kmeans", slips)).splitlines()
    assert [re.split(r"[ :]", line.strip())[0] for line in lines] == ["--params", "features", "kmeans"]


def test_a_version_is_chosen_by_its_name_and_the_nearest_one_is_offered(project):
    kedro_run(project, "--pipelines=prepare", params())
    version = versions(project, "features.npy")[0].parent.name
    refused = kedro_run(project, "--pipelines=kmeans", "--nodes=kmeans.fit", f"--load-versions=features:{version[:-2]}")
    assert f"did you mean '{version}'?" in error_of(refused)
    chosen = kedro_run(
        project, "--pipelines=kmeans", "--nodes=kmeans.fit", f"--load-versions=features:{version}", params()
    )
    assert chosen.exit_code == 0, chosen.output
    assert len(versions(project, "model.safetensors")) == 1


def test_a_defect_keeps_its_traceback(project):
    code = (
        "import deep_clustering.scores.evaluation as library\n"
        "def broken(*arguments): raise RuntimeError('a defect')\n"
        "library.score_clustering = broken\n"
        "from deep_clustering.__main__ import main\n"
        f"main(['--pipelines=kmeans', '--to-nodes=evaluation.score_kmeans', '{params()}'])\n"
    )
    result = command(project, "-c", code)
    assert result.returncode != 0
    assert "Traceback (most recent call last)" in result.stderr
    assert "in broken" in result.stderr
    assert result.stderr.splitlines()[-1] == "RuntimeError: a defect"


def test_the_module_runs_and_shows_progress_in_short_lines_without_a_terminal(project):
    result = command(project, "-m", "deep_clustering", "--pipelines=dcan", params())
    assert result.returncode == 0, result.stderr
    assert len(versions(project, "report.html")) == 1
    assert re.search(r"dcan: epoch 2 of 2, .*agreement \d\.\d+", result.stderr)
    assert re.search(r"dcan\.fit: done in .* \(\d of \d+\)", result.stderr)
    assert re.search(r"dcan on digits: acc \d\.\d+, nmi", result.stderr)
    assert "\x1b[" not in result.stderr
    assert "\r" not in result.stderr
    assert "Warning" not in result.stderr
    # the path of a file is as long as it is
    too_long = [line for line in result.stderr.splitlines() if len(line) > MAX_COLUMNS and "data/" not in line]
    assert not too_long


def test_the_module_answers_a_slip_without_a_traceback(project):
    result = command(project, "-m", "deep_clustering", "--pipelines=kmeans", "--params=sed=3")
    assert result.returncode == 1
    assert result.stderr.strip() == "Error: --params: unknown parameter 'sed' (did you mean 'seed'?)"


@pytest.mark.parametrize("words", [["--version"], ["run", "--help"]])
def test_kedro_answers_without_loading_the_heavy_libraries(project, words):
    code = (
        "import sys\n"
        "from kedro.framework.cli.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    loaded = sorted({'torch', 'mlflow', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules))\n"
        "    print('loaded', loaded)\n"
    )
    result = command(project, "-c", code, *words)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "loaded []"
