"""Headless Chromium over its DevTools protocol, for tests of pages; skips with the reason where it cannot."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from promptopt.web.server import LocalServer

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PROBLEMS = ("Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """One tab. `problems` collects uncaught errors and what the console would show in red."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self.problems: list[str] = []
        self._served: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("method") in _PROBLEMS or _is_console_error(said):
                self.problems.append(json.dumps(said["params"])[:2000])
            if said.get("id") == self._number:
                if "error" in said:
                    raise AssertionError(f"{method}: {said['error']}")
                found: dict[str, Any] = said["result"]
                return found

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def open(self, page: Path | str, *, width: int = 1400, height: int = 900) -> None:
        """Load a file, or the page at an address (which may lead on below it), until its scripts have run.

        A page of a server of ours only within `visiting`.
        """
        url = page if isinstance(page, str) else page.resolve().as_uri()
        assert not url.startswith("http") or url.startswith(tuple(self._served)), f"{url}: see `visiting`"
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=url)
        loaded = f"location.href.startsWith({json.dumps(url)}) && document.readyState == 'complete'"
        self.wait(loaded, seconds=120)

    @contextlib.contextmanager
    def visiting(self, server: LocalServer) -> Iterator[LocalServer]:
        """Start a server whose pages are opened here, and leave them before it ends.

        A page that is open may ask for an image, an icon or news at any moment; once its server is gone, that
        is an error in the console.
        """
        self._served.append(server.start().url)
        try:
            yield server
        finally:
            self._served.remove(server.url)
            self.open("about:blank")

    def prefer(self, scheme: str) -> None:
        """Ask pages for "light" or "dark" colors, from the next one on."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def wait(self, condition: str, *, seconds: float = 30) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"not within {seconds:g} s: {condition}"
            time.sleep(0.05)

    def axe(self, within: str = "document", *, without: str = "") -> list[list[Any]]:
        """What axe-core finds against accessibility: [rule, elements]; skips where it is not installed."""
        package = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
        source = (resources.files(package) / "axe.min.js").read_text(encoding="utf-8")
        self.call("Runtime.evaluate", expression=source)
        where = json.dumps({"exclude": [without]}) if without else within
        read = "r => r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])"
        found: list[list[Any]] = self.run(f"axe.run({where}).then({read})")
        return found

    def press(self, key: str, *, code: int, text: str = "") -> None:
        """One key, down and up; `code` is its Windows virtual key code."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)


def _is_console_error(said: dict[str, Any]) -> bool:
    return said.get("method") == "Runtime.consoleAPICalled" and said["params"]["type"] in ("error", "assert")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium of one's own, with an empty profile; pytest.skip where there is none."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed: pip install it")
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(_NAMES)})")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile), process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)
            try:
                yield Browser(socket)
            finally:
                socket.close()
        finally:
            process.terminate()
            process.wait(timeout=30)


def _port(profile: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 60
    file = profile / "DevToolsActivePort"
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.skip(f"Chromium ends at once here (status {process.returncode})")
        if file.exists() and (lines := file.read_text().splitlines()):
            return lines[0]
        time.sleep(0.05)
    raise AssertionError("Chromium opened no port within 60 s")
