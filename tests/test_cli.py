"""`kedro run` as a person types it: what works, what each slip is answered with, what is shown meanwhile."""

import re

import pytest

from command_line import checksums, command, error_of, kedro_run, params
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
            r"--load-versions: 'features' has no version 2026 \(known: \)\ninputs: 'neighbours' has no version in ",
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


def test_all_slips_of_the_parameters_are_named_at_once(project):
    slips = "--params=sed=3,kmeans.n_init=many,features.scaling=rang"
    lines = error_of(kedro_run(project, "--pipelines=kmeans", slips)).splitlines()
    assert [re.split(r"[ :]", line)[0] for line in lines] == ["--params", "features", "kmeans"]


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
    assert re.search(r"dcan: epoch 2 of 2, .*agreement \d\.\d+.*, 0 s left", result.stderr)
    assert re.search(r"dcan\.fit: done in .* \(\d of \d+\)", result.stderr)
    assert re.search(r"dcan on digits: acc \d\.\d+, nmi", result.stderr)
    assert "\x1b[" not in result.stderr
    assert "\r" not in result.stderr
    assert "Warning" not in result.stderr
    too_long = [line for line in result.stderr.splitlines() if len(line) > MAX_COLUMNS]
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
