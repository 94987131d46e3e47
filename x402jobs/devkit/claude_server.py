"""A stand-in Claude on loopback: the real Messages API, with a memory and a script.

``POST /v1/messages``  answers as Claude would, streamed or whole, with any non-empty key.
``GET /v1/models``     lists one model, with any non-empty key and an ``anthropic-version``.
``POST /control``      a JSON list of scripts, one for each coming well-formed call of either kind.
                       It replaces what is still queued; an empty list clears. A bad one changes
                       nothing: 400.
``GET /control``       the calls received, oldest first (see ``Call``), refused ones among them.
``DELETE /control``    forgets those calls.

What a script can ask for is told in ``claude_script``; what is then said, in ``claude_reply``.

A reader has hung up when it closes its connection (or its sending half) before the last byte. That
is noticed within milliseconds, in the middle of a silence too. ``finishedAt`` is when the last byte
was written, whole answer or cut; it stays null for a call whose reader hung up.
"""

from __future__ import annotations

import json
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from http.client import responses
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from typing import Any, Self, TypedDict

from x402jobs.devkit.claude_reply import (
    Reply,
    compose,
    compose_models,
    json_reply,
    objection,
    recorded_stream,
    refuse,
)
from x402jobs.devkit.claude_script import Script, ScriptError, read_scripts
from x402jobs.devkit.loopback import Loopback

__all__ = ["Call", "ClaudeServer", "ScriptError", "recorded_stream"]

MESSAGES, MODELS = "/v1/messages", "/v1/models"
_LAST_CHUNK = b"0\r\n\r\n"


class Call(TypedDict):
    """One call as it was received, and what became of it. Times are unix seconds.

    A call without a body, such as the one for the list of models, has None for it.
    """

    path: str
    body: Any
    key: str | None
    headers: dict[str, str]
    startedAt: float
    finishedAt: float | None
    hungUp: bool
    hungUpAt: float | None


class ClaudeServer:
    """Runs while its ``with`` block does. Started again after a stop, it has the same address."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1", delta_ms: float = 25) -> None:
        if not IPv4Address(host).is_loopback:
            raise ValueError("the stand-in Claude listens on loopback addresses only")
        self._address = (host, port)
        self._delta_ms = delta_ms
        self._lock = threading.Lock()
        self._scripts: deque[Script] = deque()
        self._calls: list[Call] = []
        self._listener: Loopback[ClaudeServer] | None = None

    def start(self) -> Self:
        self._listener = Loopback(self._address, _Handler, self)
        self._address = self._listener.start()
        return self

    def stop(self) -> None:
        """Close every connection and wait for every thread. Readers cut off so did not hang up."""
        if self._listener:
            self._listener.stop()
            self._listener = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def control_url(self) -> str:
        return f"{self.url}/control"

    def script(self, *scripts: dict[str, Any]) -> None:
        """What the next calls get, in place of what was queued. Raises ``ScriptError``."""
        checked = read_scripts(list(scripts))
        with self._lock:
            self._scripts = deque(checked)

    @property
    def calls(self) -> list[Call]:
        with self._lock:
            return [call.copy() for call in self._calls]

    def forget(self) -> None:
        with self._lock:
            self._calls = []

    def receive(
        self, path: str, body: Any, key: str | None, headers: dict[str, str]
    ) -> tuple[Call, Reply]:
        """Write a call down and decide its reply. Only a well-formed call uses up a script."""
        call = Call(
            path=path,
            body=body,
            key=key,
            headers=headers,
            startedAt=time.time(),
            finishedAt=None,
            hungUp=False,
            hungUpAt=None,
        )
        problem = _unversioned(headers) if path == MODELS else objection(body)
        script = Script()
        with self._lock:
            self._calls.append(call)
            if key and not problem and self._scripts:
                script = self._scripts.popleft()
        if not key:
            return call, refuse(401, "x-api-key: a key is required", about=body)
        if problem:
            return call, refuse(400, problem, about=body)
        if path == MODELS:
            return call, compose_models(script)
        return call, compose(script, body, self._delta_ms)

    def finish(self, call: Call) -> None:
        with self._lock:
            call["finishedAt"] = time.time()

    def hang_up(self, call: Call) -> None:
        with self._lock:
            call.update({"finishedAt": None, "hungUp": True, "hungUpAt": time.time()})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Loopback[ClaudeServer]

    def do_POST(self) -> None:
        size = self.headers.get("content-length", "")
        if not size.isdecimal():
            self.close_connection = True  # where the next request begins cannot be known
            return self._send(refuse(400, "content-length: a body of known length is required"))
        raw = self.rfile.read(int(size))
        if len(raw) < int(size):
            self.close_connection = True
            return None
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        match self._path():
            case "/v1/messages":
                self._answer(MESSAGES, body)
            case "/control":
                self._take_scripts(body)
            case _:
                self._send(refuse(404, "Not found"))

    def do_GET(self) -> None:
        match self._path():
            case "/v1/models":
                self._answer(MODELS, None)
            case "/control":
                self._send(json_reply(self.server.owner.calls))
            case _:
                self._send(refuse(404, "Not found"))

    def do_DELETE(self) -> None:
        if self._path() != "/control":
            return self._send(refuse(404, "Not found"))
        self.server.owner.forget()
        return self._send(json_reply([]))

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _answer(self, path: str, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        scheme, _, bearer = headers.pop("authorization", "").partition(" ")
        key = headers.pop("x-api-key", "") or (bearer.strip() if scheme.lower() == "bearer" else "")
        call, reply = self.server.owner.receive(path, body, key or None, headers)
        self._send(reply, call)

    def _take_scripts(self, body: Any) -> None:
        try:
            if not isinstance(body, list):
                raise ScriptError("scripts must be a JSON list")
            self.server.owner.script(*body)
        except ScriptError as error:
            return self._send(refuse(400, str(error)))
        return self._send(json_reply({"queued": len(body)}))

    def _send(self, reply: Reply, call: Call | None = None) -> None:
        """Play a reply, writing down in ``call`` how it ended."""
        claude, writes = self.server.owner, list(_writes(reply))
        self.close_connection |= reply.dropped
        try:
            for number, (pause, data) in enumerate(writes, start=1):
                if _closes(self.connection, within=pause):
                    raise ConnectionError
                if call and number == len(writes):
                    claude.finish(call)  # first, so that whoever has read the end finds it noted
                self.connection.sendall(data)
        except OSError:
            self.close_connection = True
            if call and not self.server.stopping.is_set():
                claude.hang_up(call)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line says no more than the record of calls."""


def _unversioned(headers: Mapping[str, str]) -> str | None:
    return None if headers.get("anthropic-version") else "anthropic-version: header is required"


def _writes(reply: Reply) -> Iterator[tuple[float, bytes]]:
    """What to give the socket, each after its pause: the headers, then a chunk for each step.

    The end of the body rides along with the last write. Sent apart, a reader that leaves at
    ``message_stop`` would seem to have left too early.
    """
    lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, 'Unnamed')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    head = "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode("ascii")
    writes = [(reply.silence, head)]
    writes += [(step.pause, b"%x\r\n%b\r\n" % (len(step.data), step.data)) for step in reply.steps]
    pause, last = writes.pop()
    yield from writes
    yield pause, last if reply.dropped else last + _LAST_CHUNK


def _closes(connection: socket.socket, within: float) -> bool:
    """Wait ``within`` seconds, or less if the other end closes: then True, at once."""
    until = time.monotonic() + within
    poll = select.poll()  # select.select() cannot watch descriptors above 1023
    poll.register(connection, select.POLLIN)
    while True:
        left = min(max(0.0, until - time.monotonic()), 60)
        if poll.poll(math.ceil(left * 1000)):
            try:
                if not connection.recv(1, socket.MSG_PEEK):
                    return True
            except ConnectionError:
                return True
            # The next request is here already, and hides a close behind it until it is read.
            time.sleep(min(left, 0.05))
        if time.monotonic() >= until:
            return False
