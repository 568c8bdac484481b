# SPDX-License-Identifier: MIT
"""A headless Chromium for tests of pages: real input events, what the page logs, what it requests, screenshots.

It is driven over the DevTools protocol on two pipes, which Chromium expects as file descriptors 3 and 4; messages are
JSON and end with a null character. The browser has a profile of its own and reaches no network.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
# Puts the pipes where Chromium expects them; both are copied first, since either may be number 3 or 4 now.
START = """\
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(pipes[0], 3)
os.dup2(pipes[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
LIMIT = 30.0  # seconds for whatever is waited for


def find_program() -> str:
    """The browser's path; the test fails without one."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.fail(f"found none of {', '.join(PROGRAMS)}: install Debian's package chromium-headless-shell")
    return found


class Chromium:
    """A browser, for the length of a ``with`` block."""

    def __enter__(self) -> Chromium:
        self._profile = tempfile.TemporaryDirectory(prefix="freewire-chromium-")
        from_us, self._out = os.pipe()
        self._in, to_us = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",  # which cannot be had by root, in CI
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--force-color-profile=srgb",
            f"--user-data-dir={self._profile.name}",
            "about:blank",
        ]
        command = [sys.executable, "-c", START, str(from_us), str(to_us), find_program(), *options]
        try:
            self._log = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                command,
                pass_fds=(from_us, to_us),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        finally:
            os.close(from_us)
            os.close(to_us)
        self._number, self._buffer, self._answers = 0, b"", dict[int, dict[str, Any]]()
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            os.write(self._out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what is left of the session that `__enter__` began
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._log.close()
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        text = json.dumps(message | ({"sessionId": session} if session else {}))
        os.write(self._out, text.encode() + b"\0")
        end = time.monotonic() + LIMIT
        while self._number not in self._answers:
            self._receive(end, method)
        answer = self._answers.pop(self._number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _receive(self, end: float, what: str) -> None:
        if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError(f"{what}: no answer within {LIMIT} s")
        if not (part := os.read(self._in, 1 << 20)):
            self._log.seek(0)
            raise AssertionError(f"the browser has ended: {self._log.read().decode(errors='replace')[-2000:]}")
        *texts, self._buffer = (self._buffer + part).split(b"\0")
        for message in map(json.loads, texts):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)

    def open(self, path: Path, width: int = 1280, height: int = 800, **emulated: str) -> Page:
        """Open a file in a new tab of this size; ``emulated`` are media features, such as prefers_color_scheme."""
        page = Page(self, width, height)
        page.emulate(**emulated)
        page.navigate(path.as_uri())
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Chromium, width: int, height: int) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of the events that have these names so far."""
        self.evaluate("0")  # events of what happened before come before its answer
        events = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [event["params"] for event in events if event["method"] in methods]

    def problems(self) -> list[str]:
        """What the page threw, logged as an error or was refused by its security policy."""
        thrown = [event["exceptionDetails"]["text"] for event in self.events("Runtime.exceptionThrown")]
        logged = [event["type"] for event in self.events("Runtime.consoleAPICalled")]
        return thrown + logged + [event["entry"]["text"] for event in self.events("Log.entryAdded")]

    def requests(self) -> list[str]:
        """All URLs that the page requested, its own first."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def navigate(self, url: str) -> None:
        assert "errorText" not in self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def emulate(self, **features: str) -> None:
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or what its promise resolves to."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, limit: float = LIMIT) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + limit
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} did not become true within {limit} s"
            time.sleep(0.01)
        return value

    def text(self, selector: str) -> str:
        """The text that is seen of an element; empty if it is hidden."""
        element = f"document.querySelector({json.dumps(selector)})"
        return self.evaluate(f"{element}.checkVisibility() ? {element}.innerText : ''")

    # ------------------------------------------------------------------ input

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        self.mouse("Moved", x, y)
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def click_on(self, selector: str) -> None:
        """Click the middle of an element."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        self.click(*self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})"))

    def drag(self, start: tuple[float, float], to: tuple[float, float], steps: int = 8) -> None:
        self.mouse("Moved", *start)
        self.mouse("Pressed", *start, button="left", clickCount=1)
        for i in range(1, steps + 1):
            x, y = (a + (b - a) * i / steps for a, b in zip(start, to, strict=True))
            self.mouse("Moved", x, y, button="left", buttons=1)
        self.mouse("Released", *to, button="left", clickCount=1)

    def wheel(self, x: float, y: float, by: float) -> None:
        self.mouse("Wheel", x, y, deltaX=0, deltaY=by)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        named = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=named)

    def key(self, key: str, text: str | None = None) -> None:
        code = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
        number = code.get(key, ord(key.upper()[0]))
        text = key if len(key) == 1 else text
        more = {"key": key, "windowsVirtualKeyCode": number} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=number)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path | None = None) -> bytes:
        """The page as PNG."""
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path:
            path.write_bytes(content)
        return content
