"""The static site of Kedro-Viz, without what it asks of other servers and of whoever opens it.

Usage: python docs/hooks/graph_site.py build
"""

import json
import re
import sys
from pathlib import Path

_FONT_LINK = re.compile(r"""\s*<link\b[^>]*https://fonts\.(?:googleapis|gstatic)\.com[^>]*>""")
_FONT_IMPORT = re.compile(r"""@import url\(https://fonts\.googleapis\.com[^)]*\);?""")
_ELSEWHERE = re.compile(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""")

# What the page asks its server for, and `kedro viz build` does not write: whether it could send the site to a cloud.
_METADATA = {
    "has_missing_dependencies": False,
    "package_compatibilities": [{"package_name": "fsspec", "package_version": "", "is_compatible": True}],
}

# The page keeps its settings in the browser: somebody who turns the tour on has it. All data sets of all methods at
# once would make every box too small to read, so that the site opens on the pipelines, and "Datasets" shows the rest.
_OPENING = """<script>
  {
    if (!location.search) history.replaceState(null, "", "?types=nodes");
    const kept = JSON.parse(localStorage.getItem("KedroViz") || "{}");
    localStorage.setItem("KedroViz", JSON.stringify({ showFeatureHints: false, ...kept }));
  }
</script>
"""


def quiet(site: Path) -> None:
    """Take the fonts of another server and the tour on opening out of a built site; a second time changes nothing.

    Args:
        site: The folder that `kedro viz build` wrote.

    Raises:
        ValueError: if the page is not made as expected, or still asks another server.
    """
    for page in site.glob("*.html"):
        page.write_text(_FONT_LINK.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    page = site / "index.html"
    text = page.read_text(encoding="utf-8")
    if _OPENING not in text:
        before, module, after = text.partition('<script type="module"')
        if not module:
            raise ValueError(f"{page}: expected a module script, got none; this version of Kedro-Viz is unknown")
        text = before + _OPENING + module + after
    if left := _ELSEWHERE.search(text):
        raise ValueError(f"{page}: expected nothing from other servers, got {text[left.start() : left.start() + 80]!r}")
    page.write_text(text, encoding="utf-8")
    (site / "api/metadata").write_text(json.dumps(_METADATA), encoding="utf-8")
    for script in (site / "assets").glob("*.js"):
        code = script.read_text(encoding="utf-8")
        if _FONT_IMPORT.search(code):  # in pictures that somebody exports
            script.write_text(_FONT_IMPORT.sub("", code), encoding="utf-8")


if __name__ == "__main__":
    quiet(Path(sys.argv[1]))
