"""Every command in a document is one that its parser takes, with pipelines, environments and options that there are."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import chdir, suppress
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from kedro.config import OmegaConfigLoader

from deep_clustering.cli import cli
from deep_clustering.pipeline_registry import register_pipelines
from deep_clustering.pipelines.parameters import _RUN_LEVEL
from deep_clustering.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Kedro's own, and those of kedro-viz.
OF_KEDRO = {"viz", "catalog", "registry", "ipython", "jupyter", "package"}
spec = importlib.util.spec_from_file_location("commands", ROOT / "docs/commands.py")
commands = importlib.util.module_from_spec(spec)
spec.loader.exec_module(commands)
PROGRAM, WRONG, typed = commands.PROGRAM, commands.WRONG, commands.typed


def mentioned(text: str) -> Iterator[str]:
    """Commands between backquotes; some are only a name."""
    for found in re.finditer(rf"(?<!`)`({PROGRAM})`", text):
        yield " ".join(found[1].partition(" && ")[0].split())


def every(program: str) -> set[str]:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return {line for text in texts for line in (*typed(text), *mentioned(text)) if line.startswith(program)}


def parse(name: str, words: list[str]) -> click.Context:
    """What a command would be asked for, without doing it."""
    with chdir(ROOT):
        return cli.commands[name].make_context(name, list(words))


def alternatives(words: list[str]) -> Iterator[list[str]]:
    """Words before a bar, and those of each alternative behind one in the place of the option before it."""
    while "|" in words:
        bar = words.index("|")
        yield words[:bar]
        words = words[: bar - 2] + words[bar + 1 :]
    yield words


def leaves(params: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name)


def has(configured: Any, path: tuple[str, ...]) -> bool:
    """Whether the configuration has an option, or a block of a kind that may have it."""
    for name in path:
        if not isinstance(configured, Mapping):
            return False
        if name not in configured:
            return "kind" in configured
        configured = configured[name]
    return True


@pytest.fixture(scope="module")
def pipelines() -> set[str]:
    return set(register_pipelines()) | {"all"}


@pytest.fixture(scope="module")
def made() -> set[str]:
    """Environments that a command of a document makes, and words that stand for one."""
    return {shlex.split(line)[2] for line in every("kedro new-data ") if len(line.split()) > 2} | {
        "NAME",
        "ENV",
        "…",
        "gnad",
    }


@cache
def options_of(env: str | None) -> dict[str, Any]:
    known = env if env and (ROOT / "conf" / env).is_dir() else "base"
    return OmegaConfigLoader(str(ROOT / "conf"), env=known, **CONFIG_LOADER_ARGS)["parameters"]


def check(line: str, pipelines: set[str], made: set[str]) -> None:
    """Refuse a command that would be refused."""
    name, *words = shlex.split(re.sub(r"[\[\]]", "", line))[1:]
    if name in OF_KEDRO:
        return
    assert name in cli.commands, line
    for chosen in alternatives(words):
        params = parse(name, chosen).params
        asked = params.get("pipelines") or []
        assert set(asked.split(",") if isinstance(asked, str) else asked) <= pipelines, line
        envs = [env for env in (params.get("env") or params.get("envs") or "").split(",") if env]
        assert [env for env in envs if not (ROOT / "conf" / env).is_dir() and env not in made] == [], line
        if isinstance(params.get("params"), dict):
            configured = options_of(next(iter(envs), None)) | {name: {"kind": "any"} for name in _RUN_LEVEL}
            assert [path for path in leaves(params["params"]) if not has(configured, path)] == [], line


def test_there_are_commands_to_look_at():
    assert len(every("kedro ")) > 80
    assert len(every("make ")) >= 8


@pytest.mark.parametrize(
    "line",
    [
        *WRONG,
        "kedro run --pipelines=dcam",
        "kedro run --env=mnist2",
        "kedro run --params=dcan.epochz=3",
        "kedro leaderboard docs/results/digits.csv --briefly",
    ],
)
def test_a_command_that_would_be_refused_is_found(line, pipelines, made):
    with pytest.raises((AssertionError, click.ClickException)):
        check(line, pipelines, made)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_are_taken(page, pipelines, made):
    text = page.read_text(encoding="utf-8")
    for line in sorted({*typed(text)} - every("make ")):
        if " ... " not in line and line not in WRONG:
            check(line, pipelines, made)
    for line in sorted({*mentioned(text)} - every("make ")):
        if line in WRONG:
            continue
        if len(line.split()) == 2 or "..." in line or "--" not in line:
            assert line.split()[1] in {*cli.commands, *OF_KEDRO}, line
        else:
            with suppress(click.MissingParameter):  # a sentence may leave out what stands in the one before
                check(line, pipelines, made)


def test_the_targets_of_every_page_are_in_the_makefile():
    known = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    targets = {word for line in every("make ") for word in shlex.split(line)[1:] if "=" not in word}
    assert targets - {"-m", "-x"} <= known


def test_what_is_not_run_for_its_page_has_a_reason():
    """`make commands` runs three quarters of the lines; each pattern of the others still holds one."""
    lines = commands.commands(ROOT)
    left_out = {line for line in lines for pattern in commands.NOT_RUN if re.search(pattern, line)}
    assert len(left_out) < len(lines) / 4
    assert [pattern for pattern in commands.NOT_RUN if not any(re.search(pattern, line) for line in lines)] == []


def test_the_table_is_made_of_the_runs_that_the_page_tells_of():
    """`make results` asks for the methods, seeds and comparison that the published table has."""
    steps = subprocess.run(["make", "-n", "results"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [shlex.split(line.partition("bin/kedro ")[2]) for line in steps.splitlines() if "bin/kedro " in line]
    sweep, brief, full = (parse(name, words).params for name, *words in lines)
    methods = "dcan,dcan_literal,neural_mixture,neural_mixture_literal,kmeans,gmm,ward,tsne_gmm"
    assert (sweep["pipelines"], sweep["seeds"], sweep["threads"]) == (methods, "0-9", 1)
    assert (brief["brief"], brief["baseline"], full["brief"]) == (True, "tsne_gmm", False)
