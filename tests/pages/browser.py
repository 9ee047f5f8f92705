"""A headless Chromium, driven over a pipe by the DevTools protocol: pages from disk, keys, screenshots."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-pipe",
)
TIMEOUT = 30.0
"""Seconds that the browser may take for an answer."""


def find_browser() -> str | None:
    """The program of a Chromium, or `None`."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page of a browser.

    Attributes:
        requests: Addresses that the page has asked for, other than data and blobs.
        problems: What the page has complained about in its console, exceptions included.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        self._loaded = False
        self.requests: list[str] = []
        self.problems: list[str] = []

    def attach(self) -> None:
        """Open an empty page and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, height: int = 900, **media: str) -> None:
        """Load a file and wait until it is complete.

        Args:
            path: HTML file.
            width: Width of the window in CSS pixels.
            height: Height of the window in CSS pixels.
            **media: Media features with `_` for `-`, e.g. `prefers_color_scheme="dark"`.
        """
        self.resize(width, height)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._loaded = False
        self.call("Page.navigate", url=path.absolute().as_uri())
        end = time.monotonic() + TIMEOUT
        while not self._loaded:
            assert time.monotonic() < end, f"{path} did not load within {TIMEOUT} s"
            self._receive(end)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + TIMEOUT
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} did not become true within {TIMEOUT} s"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press and release a key, e.g. `"ArrowLeft"`, `"Tab"` or `"+"`."""
        codes = {"Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32, "Enter": 13}
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        event = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0])), **text}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def names(self) -> list[tuple[str, str]]:
        """Role and accessible name of everything in the page's accessibility tree."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(_value(node.get("role")), _value(node.get("name"))) for node in nodes if not node.get("ignored")]

    def screenshot(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page; written to `path` if one is given."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        image = base64.b64decode(answer["data"])
        if path is not None:
            path.write_bytes(image)
        return image

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + TIMEOUT
        while True:
            answer = self._receive(end)
            if answer.get("id") == message["id"]:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            received = os.read(self._read, 2**20)
            assert received, "the browser has ended"
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, parameters: Mapping[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("data:", "blob:")):
                self.requests.append(url)
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(parameters["entry"]))


def _value(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else str(entry.get("value", ""))


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """Start a browser with an empty page; it ends with the block.

    Args:
        profile: Empty folder for its files.
    """
    program = find_browser()
    assert program is not None, "check find_browser first"
    # The browser reads commands from its descriptor 3 and writes answers to 4.
    read_command, write_command = os.pipe()
    read_answer, write_answer = os.pipe()
    line = f'exec "$0" "$@" 3<&{read_command} 4>&{write_answer}'
    process = subprocess.Popen(
        ["bash", "-c", line, program, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(read_command, write_answer),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_command)
    os.close(write_answer)
    try:
        page = Page(write_command, read_answer)
        page.attach()
        yield page
    finally:
        os.close(write_command)  # the browser ends when its pipe does
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        os.close(read_answer)
