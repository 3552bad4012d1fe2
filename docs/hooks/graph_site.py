"""The static site of Kedro-Viz without what it asks of other servers and of whoever opens it.

Usage: python docs/hooks/graph_site.py build
"""

import re
import sys
from pathlib import Path

_FONT_LINK = re.compile(r"""\s*<link\b[^>]*https://fonts\.(?:googleapis|gstatic)\.com[^>]*>""")
_FONT_IMPORT = re.compile(r"""@import url\(https://fonts\.googleapis\.com[^)]*\);?""")
_ELSEWHERE = re.compile(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""")

# Where Kedro-Viz keeps its settings. Somebody who turns the tour on in the settings of the page has it.
_NO_TOUR = """<script>
  {
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
    page = site / "index.html"
    text = _FONT_LINK.sub("", page.read_text(encoding="utf-8"))
    if _NO_TOUR not in text:
        before, module, after = text.partition('<script type="module"')
        if not module:
            raise ValueError(f"{page}: expected a module script, got none; this version of Kedro-Viz is unknown")
        text = before + _NO_TOUR + module + after
    if left := _ELSEWHERE.search(text):
        raise ValueError(f"{page}: expected nothing from other servers, got {text[left.start() : left.start() + 80]!r}")
    page.write_text(text, encoding="utf-8")
    for script in (site / "assets").glob("*.js"):
        code = script.read_text(encoding="utf-8")
        if _FONT_IMPORT.search(code):  # in pictures that somebody exports
            script.write_text(_FONT_IMPORT.sub("", code), encoding="utf-8")


if __name__ == "__main__":
    quiet(Path(sys.argv[1]))
