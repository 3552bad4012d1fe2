"""Headless Chromium for tests, driven over its own debugging pipe, without a driver or a network."""

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)
WAIT_SECONDS = 180


def find_chromium() -> str | None:
    """The browser on this machine, None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A tab, with what it has requested and complained about since it was opened."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reader, self._writer = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self._number, self._left, self._session = 0, b"", None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        (target,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, file: Path, width: int = 1280, height: int = 900) -> None:
        """Show a file in a window of a size in CSS pixels, and wait until it has loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self._loaded = False
        self.call("Page.navigate", url=file.as_uri())
        while not self._loaded:
            self._take()

    def run(self, expression: str) -> Any:
        """Value of an expression of JavaScript on the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def point(self, x: float, y: float) -> None:
        """Move the mouse there, in CSS pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Press and release a key, for instance "ArrowRight"."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Save a picture of the page, or of the window alone."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        self._writer.flush()
        while True:
            answer = self._take()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _take(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._reader.fileno(), 1 << 16)
            assert part, "the browser has ended"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        event = json.loads(message)
        self._note(event.get("method"), event.get("params", {}))
        return event

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Page.loadEventFired":
            self._loaded = True


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A page of a browser of its own, whose profile is in the folder; it ends with the block."""
    chromium = find_chromium()
    assert chromium is not None
    to_browser, from_browser = os.pipe(), os.pipe()

    def give_pipes() -> None:  # the browser reads from 3 and writes to 4
        reading, writing = os.dup(to_browser[0]), os.dup(from_browser[1])
        high = os.dup(reading), os.dup(writing)
        while min(high) < 5:
            high = os.dup(high[0]), os.dup(high[1])
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(
        command,
        preexec_fn=give_pipes,
        close_fds=False,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    former = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(WAIT_SECONDS)
    try:
        yield Page(from_browser[0], to_browser[1])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _give_up(*_: object) -> None:
    raise TimeoutError(f"the browser did not answer within {WAIT_SECONDS} s")
