"""The documentation site: a strict build without network, every option, equation and deviation on its page."""

import csv
import re
from dataclasses import fields
from html import unescape
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt

from deep_clustering.methods import (
    aae,
    autoencoder,
    cc,
    dac,
    dcan,
    dcgmm,
    dcn,
    dec,
    idec,
    imsat,
    kingdra,
    lsdc,
    n2d,
    neural_mixture,
    online_mixture,
    temi,
    turtle,
    vade,
)
from deep_clustering.pipelines.namespaces import NAMED_CONFIGURATIONS, STAGED
from deep_clustering.sweep.leaderboard import make_leaderboard, read_runs, to_markdown
from deep_clustering.training.networks import ENCODERS
from deep_clustering.training.views import VIEWS

pytest.importorskip("material", reason="mkdocs-material is not installed")
pytest.importorskip("latex2mathml", reason="latex2mathml is not installed")

from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Folder of the site; a warning would have stopped the build."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.fixture
def hooks(monkeypatch):
    """The modules that make the pages can be imported."""
    monkeypatch.syspath_prepend(ROOT / "docs/hooks")


def text_of(page: Path) -> str:
    """The words of a page, as a reader sees them."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))).split())


def section(page: Path, anchor: str) -> str:
    """HTML of the section whose heading has this anchor, up to the next heading."""
    _, begin, rest = page.read_text(encoding="utf-8").partition(f'id="{anchor}"')
    assert begin, f"{page.name} has no heading #{anchor}"
    return re.split(r"<h[23]", rest)[0]


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b(?=[^>]*\brel=["']?
        (?:stylesheet|preconnect|preload|icon))[^>]*\bhref=["']?(?:https?:)?//""",
        re.VERBOSE,
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []
    styles = list(site.rglob("*.css"))
    assert styles
    assert [style.name for style in styles if re.search(r"url\([\"']?(https?:)?//", style.read_text())] == []


def test_every_option_of_the_configuration_is_shown_with_its_value(site, parameters):
    groups = {name: values for name, values in parameters.items() if isinstance(values, dict)}
    assert {"dcan", "ingestion", "tracking"} <= set(groups)
    for group, values in groups.items():
        if group in (*NAMED_CONFIGURATIONS, *STAGED):  # the same options as the method's with other values
            continue
        shown = section(site / "parameters.html", group)
        for name, value in values.items():
            if name == "method":  # chooses the group itself
                continue
            assert f"<code>{name}</code>" in shown, f"{group}.{name}"
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                assert f"<code>{value}</code>" in unescape(shown), f"{group}.{name}"
        meanings = re.findall(r"<td[^>]*>((?:(?!<td).)*)</td>\s*</tr>", shown, flags=re.DOTALL)
        assert meanings
        assert all(meaning.strip() for meaning in meanings), f"{group} has an option without a docstring"


def test_options_of_a_group_within_another_are_shown(site, parameters):
    shown = section(site / "parameters.html", "featureslearned")
    for name in parameters["features"]["learned"]:
        assert f"<code>{name}</code>" in shown


@pytest.mark.parametrize(("option", "kinds"), [("views", VIEWS), ("encoder", ENCODERS)])
def test_every_kind_is_shown_with_its_options(site, option, kinds):
    for kind, cls in kinds.items():
        shown = section(site / "parameters.html", f"{option}-{kind}")
        for field in fields(cls):
            assert f"<code>{field.name}</code>" in shown, f"{option} {kind}: {field.name}"


@pytest.mark.parametrize(
    ("page", "module", "letter", "n_deviations"),
    [
        ("dcan", dcan, "D", 11),
        ("neural_mixture", neural_mixture, "N", 11),
        ("temi", temi, "M", 5),
        ("turtle", turtle, "T", 4),
        ("autoencoder", autoencoder, "A", 8),
        ("dec", dec, "E", 6),
        ("idec", idec, "I", 5),
        ("dcn", dcn, "C", 5),
        ("imsat", imsat, "S", 4),
        ("vade", vade, "V", 8),
        ("dcgmm", dcgmm, "Z", 5),
        ("n2d", n2d, "U", 6),
        ("dac", dac, "G", 4),
        ("lsdc", lsdc, "L", 4),
        ("cc", cc, "K", 3),
        ("aae", aae, "B", 6),
        ("kingdra", kingdra, "P", 7),
        ("online_mixture", online_mixture, "O", 4),
    ],
)
def test_a_method_is_shown_with_all_its_equations_and_deviations(site, page, module, letter, n_deviations):
    shown = text_of(site / f"methods/{page}.html")
    rows = re.findall(r"<td>(\w+)</td>", (site / f"methods/{page}.html").read_text(encoding="utf-8"))
    numbers = re.findall(rf"^    ({letter}\d+)\s", module.__doc__, flags=re.MULTILINE)
    assert len(numbers) >= n_deviations
    assert rows == numbers
    equations = [line.strip() for line in module.__doc__.splitlines() if re.match(r"    \(\d+\)", line)]
    assert len(equations) >= 3
    for equation in equations:
        assert " ".join(equation.split()) in shown


def test_the_length_of_a_method_is_that_of_its_file(site):
    table = re.findall(r"<td>(.*?)</td>", section(site / "methods/index.html", "how-long-they-are"))
    rows = {unescape(re.sub("<.*?>", "", table[at])): table[at + 1 : at + 4] for at in range(0, len(table), 4)}
    assert len(rows) == 14
    assert rows["dec"][2] == "3"  # assignment, loss, target
    lines = Path(dec.__file__).read_text(encoding="utf-8").splitlines()
    assert rows["dec"][:2] == [str(len(lines)), str(len(dec.__doc__.splitlines()))]


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("dcan", dcan),
        ("neural_mixture", neural_mixture),
        ("temi", temi),
        ("turtle", turtle),
        ("autoencoder", autoencoder),
        ("dec", dec),
        ("idec", idec),
        ("dcn", dcn),
        ("imsat", imsat),
        ("vade", vade),
        ("dcgmm", dcgmm),
        ("n2d", n2d),
        ("dac", dac),
        ("lsdc", lsdc),
        ("cc", cc),
        ("aae", aae),
        ("kingdra", kingdra),
        ("online_mixture", online_mixture),
    ],
)
def test_the_equations_that_open_a_method_are_typeset(site, page, module):
    shown = (site / f"methods/{page}.html").read_text(encoding="utf-8")
    numbers = re.findall(r"^    \((\d+)\)", module.__doc__, flags=re.MULTILINE)
    assert re.findall(r'class="equation" id="equation-(\d+)"', shown) == numbers
    equations = re.findall(r"<math.*?</math>", shown, flags=re.DOTALL)
    assert len(equations) > len(numbers)
    assert not any("\\" in equation for equation in equations)
    assert not re.search(r"</p>\s*(<span>)?<math", shown)  # within its sentence


def test_tex_that_is_not_known_stops_the_build(hooks):
    from equations import with_mathml

    assert with_mathml("of $x_i$ costs").startswith("of <span><math")
    assert with_mathml("$$\na \\tag{7}\n$$").endswith('<span class="number">(7)</span></div>')
    assert with_mathml("kedro run # costs $5") == "kedro run # costs $5"
    with pytest.raises(ValueError, match=r"'\\nosuch' cannot be typeset"):
        with_mathml(r"$\nosuch x$")


def test_search_works_without_a_server(site):
    assert (site / "search/search_index.js").is_file()  # a script may be read from disk, JSON may not
    assert (site / "iframe-worker.js").is_file()  # nor may a worker
    assert '<script src="../iframe-worker.js">' in (site / "methods/dcan.html").read_text(encoding="utf-8")


def test_the_first_page_leads_to_every_other(site):
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/index.md").read_text())}
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {"index.md"} <= linked


def test_figures_of_the_comparison_are_those_of_the_runs():
    page = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    row = r"^\| (\w+) \| (\w+) \| (\.\d{3}) \| (\.\d{3}) \| (\d+) \| \[\w+\]\((results/\w+\.csv)\) \|$"
    rows = re.findall(row, page, flags=re.MULTILINE)
    assert len(rows) == page.count("](results/") - page.count("](results/index.md")
    for env, method, acc, nmi, n_runs, name in rows:
        with (ROOT / "docs" / name).open(encoding="utf-8") as file:
            runs = [run for run in csv.DictReader(file) if (run["env"], run["method"]) == (env, method)]
        assert len(runs) == int(n_runs), (env, method)
        for shown, metric in ((acc, "acc"), (nmi, "nmi")):
            mean = sum(float(run[metric]) for run in runs) / len(runs)
            assert f"{mean:.3f}".removeprefix("0") == shown, (env, method, metric)


def test_the_table_of_the_tutorial_is_that_of_the_published_runs():
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    runs = read_runs(ROOT / "docs/results/digits.csv")
    chosen = runs[runs["method"].isin(["kmeans", "gmm", "ward"]) & (runs["seed"] < 5)]
    expected = [line for line in to_markdown(make_leaderboard(chosen, None)).splitlines() if line.startswith("| ")]
    shown = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(shown) == 5
    measured = re.compile(r" \| [\d.,]+ \| [\d.,]+ \| (\d+) \|$")  # seconds and megabytes are the machine's
    assert [measured.sub("", line) for line in shown] == [measured.sub("", line) for line in expected]


def test_recipes_of_the_gallery_have_their_data_and_their_commands_are_shown(site, hooks, tmp_path):
    from gallery import RECIPES, shown

    page = text_of(site / "gallery.html")
    for recipe in RECIPES:
        assert all(command in page for command in recipe.commands)
        if recipe.write:
            recipe.write(tmp_path)
            (file,) = re.findall(r"\S+\.(?:npz|csv)\b", recipe.commands[0])
            assert (tmp_path / file).stat().st_size > 1_000
    assert "make gallery" in shown(tmp_path)
    (tmp_path / "wine.html").touch()
    assert "[Open the report](gallery/wine.html)" in shown(tmp_path)


def test_basic_options_are_a_part_of_all(site, hooks):
    from option_tables import BASIC

    shown = section(site / "parameters.html", "basic")
    for group, names in BASIC.items():
        for name in names:
            assert f"<code>{group}.{name}</code>" in shown
    assert len(re.findall("<tr>", shown)) < 50


def test_the_leaderboard_is_that_of_the_readme(site):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- leaderboard:digits -->")[2].partition("<!-- /leaderboard -->")[0]
    cells = [cell.strip() for line in table.splitlines()[3:] for cell in line.strip("|").split("|")]
    shown = text_of(site / "results/index.html")
    assert len(cells) > 20
    assert all(cell in shown for cell in cells)


def test_links_that_leave_the_site_become_text_and_must_lead_somewhere(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs/hooks")
    from pages import without_leaving_links

    (tmp_path / "docs/methods").mkdir(parents=True)
    (tmp_path / "README.md").touch()
    (tmp_path / "docs/data.md").touch()
    page = str(tmp_path / "docs/methods/dcan.md")
    text = "[start](../../README.md#map), [data](../data.md#views), [site](https://kedro.org)"
    expected = "start, [data](../data.md#views), [site](https://kedro.org)"
    assert without_leaving_links(text, page, tmp_path / "docs") == expected
    with pytest.raises(ValueError, match=r"dcan\.md: the link to \.\./\.\./READ\.md leads nowhere"):
        without_leaving_links("[start](../../READ.md)", page, tmp_path / "docs")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (list[int], "list[int]"),
        (str | None, "str | None"),
        (Annotated[float, Ge(0), Lt(1)], "float, at least 0, below 1"),
        (Annotated[int, Gt(0), Le(9)] | None, "int, above 0, at most 9 | None"),
        (Literal["all", "train", "test"], "all | train | test"),
    ],
)
def test_types_stand_in_words(monkeypatch, annotation, words):
    monkeypatch.syspath_prepend(ROOT / "docs/hooks")
    from option_tables import _type

    assert _type(annotation) == words


def test_the_report_explains_certainty_as_its_page_does():
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    report = (ROOT / "src/deep_clustering/reporting/report.html.jinja").read_text(encoding="utf-8")
    assert "log odds of a row's cluster over the" in page
    assert "Certainty comes from the log odds of a sample's cluster over the likeliest other one" in report
    assert "Certainty is the largest responsibility" not in report
