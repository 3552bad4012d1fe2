"""The documentation site: a strict build without network, every option and every deviation on its page."""

import re
from html import unescape
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt

from deep_clustering.methods import dcan, neural_mixture, temi, turtle
from deep_clustering.pipelines.namespaces import NAMED_CONFIGURATIONS
from deep_clustering.training.networks import ENCODERS
from deep_clustering.training.views import VIEWS

pytest.importorskip("material", reason="mkdocs-material is not installed")

from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Folder of the site; a warning would have stopped the build."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


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
        if group in NAMED_CONFIGURATIONS:  # the same options as the method's with other values
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


@pytest.mark.parametrize(("option", "kinds"), [("views", VIEWS), ("encoder", ENCODERS)])
def test_every_kind_is_shown_with_its_options(site, option, kinds):
    for kind, cls in kinds.items():
        shown = section(site / "parameters.html", f"{option}-{kind}")
        for name in cls.__annotations__:
            assert f"<code>{name}</code>" in shown, f"{option} {kind}: {name}"


@pytest.mark.parametrize(
    ("page", "module", "letter", "n_deviations"),
    [
        ("dcan", dcan, "D", 11),
        ("neural_mixture", neural_mixture, "N", 11),
        ("temi", temi, "M", 5),
        ("turtle", turtle, "T", 4),
    ],
)
def test_a_method_is_shown_with_all_its_equations_and_deviations(site, page, module, letter, n_deviations):
    shown = text_of(site / f"methods/{page}.html")
    rows = re.findall(r"<td>(\w+)</td>", (site / f"methods/{page}.html").read_text(encoding="utf-8"))
    numbers = re.findall(rf"^    ({letter}\d+)\s", module.__doc__, flags=re.MULTILINE)
    assert len(numbers) >= n_deviations
    assert rows == numbers
    equations = [line.strip() for line in module.__doc__.splitlines() if re.match(r"    \(\d+\)", line)]
    assert len(equations) >= 5
    for equation in equations:
        assert " ".join(equation.split()) in shown


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
