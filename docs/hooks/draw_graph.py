"""Draws docs/dag.png and docs/dag_expanded.png from the pipelines as they are, in a headless Chromium.

Usage: make viz-build && .venv/bin/python docs/hooks/draw_graph.py build
"""

import base64
import functools
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Page, browsing  # noqa: E402 - the tests are no package

# Name, what to show, and the size of the window in CSS pixels, which the graph fills.
PICTURES = (
    ("dag.png", "?pid=dcan&expandAllPipelines=false", 1100, 900),
    ("dag_expanded.png", "?pid=dcan&expandAllPipelines=true", 1200, 1500),
)
COLOURS = 64
MARGIN = 20
WAIT_SECONDS = 90
SETTINGS = {"theme": "light", "showFeatureHints": False, "visible": {"sidebar": False, "miniMap": False}}
HIDDEN = (
    ".pipeline-global-toolbar, .pipeline-sidebar, .pipeline-toolbar, .pipeline-minimap, .update-reminder-version-tag"
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """Address of a folder that is served on this machine: scripts of modules are not loaded from disk."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def open_graph(page: Page, address: str, width: int, height: int) -> None:
    """Show a graph in a window of a size in CSS pixels, and wait until its boxes stand still.

    Raises:
        TimeoutError: if no box appears.
    """
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    page.call("Page.navigate", url=address)
    places = "[...document.querySelectorAll('.pipeline-node')].map((n) => JSON.stringify(n.getBoundingClientRect()))"
    former, deadline = None, time.monotonic() + WAIT_SECONDS
    while (now := page.run(f"({places}).join()")) != former or not now:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{address}: expected a graph within {WAIT_SECONDS} s, got none that stands still")
        former = now
        time.sleep(1)


def draw(site: Path, folder: Path) -> None:
    """Write the pictures.

    Args:
        site: What `make viz-build` wrote.
        folder: Where they go.
    """
    with tempfile.TemporaryDirectory() as profile, browsing(Path(profile)) as page, serving(site) as address:
        kept = f"localStorage.setItem('KedroViz', {json.dumps(json.dumps(SETTINGS))})"
        page.call("Page.addScriptToEvaluateOnNewDocument", source=kept)
        for name, query, width, height in PICTURES:
            open_graph(page, address + query, width, height)
            page.run(f"document.head.append(Object.assign(document.createElement('style'), {{ textContent: {_CSS} }}))")
            picture = base64.b64decode(page.call("Page.captureScreenshot")["data"])
            with Image.open(io.BytesIO(picture)) as image:
                cropped(image.convert("RGB")).quantize(COLOURS).save(folder / name, optimize=True)


def cropped(image: Image.Image) -> Image.Image:
    """What differs from the colour of the upper left corner, and a margin."""
    ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
    left, top, right, bottom = ImageChops.difference(image, ground).getbbox() or (0, 0, *image.size)
    width, height = image.size
    box = (max(left - MARGIN, 0), max(top - MARGIN, 0), min(right + MARGIN, width), min(bottom + MARGIN, height))
    return image.crop(box)


_CSS = json.dumps(f"{HIDDEN} {{ display: none !important; }}")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), ROOT / "docs")
