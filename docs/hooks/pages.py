"""What the pages of the site take from the code and the configuration while they are built.

A page asks for it by a comment of its own line, so that what it shows cannot drift from its source:

<!-- header: deep_clustering/methods/dcan.py -->    the opening of a method's file: symbols, equations, deviations
<!-- lengths: dec,idec -->                         lines of methods' files and equations of their headers
<!-- options -->                                    all options, with type, meaning and value in conf/base
<!-- options: basic -->                             those of them that one changes first
<!-- gallery -->                                    recipes of the gallery, with their reports if there are any
<!-- readme: leaderboard:digits -->                 what stands between two markers of README.md

Pages of methods have equations in TeX, which become MathML; reports of the gallery become files of the site.
"""

import re
from collections.abc import Callable
from pathlib import Path

from equations import with_mathml
from gallery import REPORTS, shown
from method_header import header_of, lengths_of
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from option_tables import all_options, basic_options

ROOT = Path(__file__).parents[2]

_REQUEST = re.compile(r"^<!-- (header|lengths|options|gallery|readme)(?:: (\S+))? -->$", re.MULTILINE)
_LEAVING_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what a page asks for, and keep of links to other files of the repository what they say."""
    filled = _REQUEST.sub(lambda found: _SOURCES[found[1]](found[2] or ""), markdown)
    if page.file.src_uri.startswith("methods/"):
        filled = with_mathml(filled)
    return without_leaving_links(filled, page.file.abs_src_path or "", Path(config.docs_dir))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reports that `make gallery` made."""
    for report in sorted(REPORTS.glob("*.html")):
        files.append(File.generated(config, f"gallery/{report.name}", abs_src_path=str(report)))
    return files


def without_leaving_links(markdown: str, source: str, docs: Path) -> str:
    """Replace links to files outside of the site, which has no copy of them, by their text.

    Args:
        markdown: Text of a page.
        source: Its file.
        docs: Folder of all pages.

    Returns:
        The text; links between pages are untouched.

    Raises:
        ValueError: if there is no such file.
    """

    def text_of(found: re.Match[str]) -> str:
        target = (Path(source).parent / found[2]).resolve()
        if target.is_relative_to(docs.resolve()):
            return found[0]
        if not target.exists():
            raise ValueError(f"{source}: the link to {found[2]} leads nowhere")
        return found[1]

    return _LEAVING_LINK.sub(text_of, markdown)


def part_of_readme(marker: str) -> str:
    """What stands between the lines `<!-- marker -->` and the next closing one in README.md.

    Raises:
        ValueError: if there is no such marker.
    """
    _, begin, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"<!-- {marker} -->\n")
    if not begin:
        raise ValueError(f"README.md has no marker '{marker}'")
    return rest.partition("<!-- /")[0]


_SOURCES: dict[str, Callable[[str], str]] = {
    "header": lambda name: header_of(ROOT / "src" / name),
    "lengths": lambda names: lengths_of([ROOT / f"src/deep_clustering/methods/{name}.py" for name in names.split(",")]),
    "options": lambda which: (basic_options if which == "basic" else all_options)(ROOT / "conf"),
    "gallery": lambda _: shown(REPORTS),
    "readme": part_of_readme,
}
