"""A headless browser that a test drives: it opens pages, types, clicks, and notes complaints.

Speaks the browser's own debugging protocol over a pair of pipes; needs nothing but the browser.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.browser import FLAGS, browser_program

_WAIT_S = 20.0


class Browser:
    """One page of one browser, without a history or cookies of before."""

    def __init__(self, profile: Path) -> None:
        """profile: a folder of its own; the test skips where there is no browser."""
        child_in, self._out = os.pipe()
        self._in, child_out = os.pipe()
        command = [browser_program(), *FLAGS, "--remote-debugging-pipe",
                   f"--user-data-dir={profile}", "about:blank"]  # fmt: skip
        words = " ".join(f"'{each}'" for each in command)
        self._process = subprocess.Popen(
            ["sh", "-c", f"exec {words} 3</proc/self/fd/{child_in} 4>/proc/self/fd/{child_out}"],
            pass_fds=(child_in, child_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(child_in)
        os.close(child_out)
        self._number, self._rest, self._session = 0, b"", ""
        self.complaints: list[str] = []
        """Errors of scripts, refused resources and broken policies, in order."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until:
            for answer in self._messages():
                if answer.get("id") == self._number:
                    if "error" in answer:
                        raise AssertionError(f"{method}: {answer['error']}")
                    result: dict[str, Any] = answer["result"]
                    return result
                self._note(answer)
        raise AssertionError(f"{method}: no answer in {_WAIT_S:.0f} s")

    def run(self, script: str) -> Any:
        """What an expression in the page comes to."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression in the page is true; what it comes to then. Between two pages it
        may raise."""
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until:
            with suppress(AssertionError):
                if value := self.run(script):
                    return value
            time.sleep(0.03)
        raise AssertionError(f"never true: {script}; the page is {self.text()[:500]!r}")

    def go(self, address: str) -> None:
        """Open an address and wait for the page."""
        self.run("window.__old = true")
        self.call("Page.navigate", url=address)
        self.until("!window.__old && document.readyState === 'complete'")

    def text(self) -> str:
        """What a reader sees."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def click(self, selector: str) -> None:
        """Click the first element that fits."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """Write into a field, as keys would."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def key(self, key: str) -> None:
        """Press one key."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else ""
            )

    def look(self, path: Path, wide: int, *, dark: bool = False, whole: bool = True) -> None:
        """A picture of the page."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=wide, height=900, mobile=wide < 600,
                  deviceScaleFactor=1)  # fmt: skip
        time.sleep(0.4)
        made = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))

    def _messages(self) -> Iterator[dict[str, Any]]:
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 20)
            if not more:
                raise AssertionError("the browser ended")
            self._rest += more
        *whole, self._rest = self._rest.split(b"\0")
        yield from (json.loads(each) for each in whole)

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"])[:400])
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(told["entry"]["text"][:400])
