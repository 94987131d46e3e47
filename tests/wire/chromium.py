"""A real browser: Debian's Chromium without a window, spoken to over its DevTools pipe."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.tools import need

PATIENCE_SECONDS = 30
OPTIONS = (
    "--headless",
    "--no-sandbox",  # root may not have one
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-breakpad",
    "--disable-extensions",
    "--no-first-run",
    "--no-proxy-server",
    # Nobody is called but the servers of this machine.
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--ignore-certificate-errors",  # ours are signed by nobody
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes to 4. Its own words are for nobody.
START = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
LOADED = (
    'new Promise(go => document.readyState === "complete" ? go() : addEventListener("load", go))'
)

Document = dict[str, Any]


class Chromium:
    """The browser: commands and their results, and what its pages say meanwhile.

    One thread alone may use it. What a page says waits in the pipe until the next command.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None and process.stdout is not None
        self._commands, self._messages = process.stdin, process.stdout
        self._received = bytearray()
        self._last = 0
        self._events: dict[str, list[Document]] = {}

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Document:
        """The result of a command, of the browser itself or of a page's session."""
        self._last += 1
        command: Document = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        self._commands.write(json.dumps(command).encode() + b"\0")
        until = time.monotonic() + PATIENCE_SECONDS
        while (message := self._next(until)).get("id") != self._last:
            self._events.setdefault(message.get("sessionId", ""), []).append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        result: Document = message["result"]
        return result

    def events(self, session: str) -> list[Document]:
        """What a session has told so far, oldest first."""
        return self._events.get(session, [])

    @contextmanager
    def visitor(self) -> Iterator["Visitor"]:
        """Somebody with cookies of their own, who has left afterwards."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            yield Visitor(self, context)
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def end(self) -> None:
        """Let go: a browser that nobody drives ends."""
        self._commands.close()

    def _next(self, until: float) -> Document:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._messages], [], [], until - time.monotonic())
            data = os.read(self._messages.fileno(), 65536) if ready else b""
            assert data, "Chromium is gone" if ready else "Chromium does not answer"
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        document: Document = json.loads(message)
        return document


class Page:
    """A tab."""

    def __init__(self, browser: Chromium, context: str) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        self._target = target["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go there as somebody who types the address; an error's page counts as one."""
        told = self._call("Page.navigate", url=url)
        assert "errorText" not in told, f"{url}: {told['errorText']}"
        self.run(LOADED)

    def follow(self, script: str) -> None:
        """Do what takes the tab elsewhere, and be there."""
        before = len(self._told("Page.frameNavigated"))
        self.run(script)
        until = time.monotonic() + PATIENCE_SECONDS
        while len(self._told("Page.frameNavigated")) == before:
            assert time.monotonic() < until, "the tab went nowhere"
            time.sleep(0.02)
        self.run(LOADED)

    def run(self, script: str) -> Any:
        """What the script's last value is, a promise's once it is kept."""
        told = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    @property
    def console(self) -> list[list[Any]]:
        """Every call of console.log and its like so far, with what it was given."""
        return [
            [argument.get("value") for argument in said["args"]]
            for said in self._told("Runtime.consoleAPICalled")
        ]

    def close(self) -> None:
        """As somebody does who has seen enough."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def _told(self, method: str) -> list[Document]:
        self._call("Page.getFrameTree")  # what waits in the pipe comes before its result
        events = self._browser.events(self._session)
        return [event["params"] for event in events if event["method"] == method]

    def _call(self, method: str, **parameters: Any) -> Document:
        return self._browser.call(method, self._session, **parameters)


class Visitor:
    """Cookies, and the tabs that share them."""

    def __init__(self, browser: Chromium, context: str) -> None:
        self._browser = browser
        self._context = context

    def page(self, url: str) -> Page:
        """A new tab at this address."""
        page = Page(self._browser, self._context)
        page.open(url)
        return page


@contextmanager
def chromium(directory: Path) -> Iterator[Chromium]:
    """A browser that has seen nothing yet, as a process of ours; the directory is its profile."""
    with subprocess.Popen(
        ["sh", "-c", START, need("chromium"), *OPTIONS, f"--user-data-dir={directory}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "HOME": str(directory)},
        start_new_session=True,  # its many processes are ended together
    ) as process:
        browser = Chromium(process)
        try:
            yield browser
        finally:
            browser.end()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
