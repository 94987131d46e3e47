"""A facilitator on loopback HTTP: the x402 specification's three calls, with a memory and a script.

``GET /supported``     what it supports.
``POST /verify``       whether a payment would settle now.
``POST /settle``       moves the money.
``POST /control``      a JSON list of scripts, which replaces what is still queued; an empty list
                       clears. A bad one changes nothing: 400.
``GET /control``       the calls received, oldest first (see ``Call``).

A script is for one coming call, of the kind it names with ``at``: supported, verify or settle.

``unheard``    true: the facilitator is not asked. Otherwise it does its work, whatever becomes of
               the answer: that is how an answer is lost after the money has moved.
``status``     the answer's status in place of 200.
``headers``    an object of headers to add, such as a ``location``.
``body``       a text in place of the answer.
``change``     an object whose members replace the answer's own.
``silence``    seconds before the first byte.
``drip``       seconds between one byte and the next, headers included.
``cutAt``      how many bytes of the body to send before the line is dropped.

``python -m x402jobs.devkit.facilitator_server DIRECTORY PORT`` serves the development ledger of a
data directory, for trying FACILITATOR_URL on one machine.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, fields
from http.client import responses
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self, TypedDict

from x402 import x402FacilitatorSync
from x402.schemas import PaymentPayload, PaymentRequirements

from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.loopback import Loopback

DOORS = ("supported", "verify", "settle")


class ScriptError(ValueError):
    """The script cannot be played; the sentence names the field."""


class Call(TypedDict):
    """One call as it was received. `hungUp`: its reader left before the last byte was written."""

    at: str
    body: Any
    hungUp: bool


@dataclass(frozen=True)
class Script:
    """What becomes of one call; the module says what each field means."""

    at: str
    unheard: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    change: dict[str, Any] = field(default_factory=dict)
    silence: float = 0
    drip: float = 0
    cutAt: int | None = None


_KINDS: dict[str, type | tuple[type, ...]] = {
    "at": str,
    "unheard": bool,
    "status": int,
    "headers": dict,
    "body": str,
    "change": dict,
    "silence": (int, float),
    "drip": (int, float),
    "cutAt": int,
}
assert set(_KINDS) == {each.name for each in fields(Script)}


class FacilitatorServer:
    """Runs while its ``with`` block does. Started again after a stop, it has the same address."""

    def __init__(self, facilitator: x402FacilitatorSync, port: int = 0) -> None:
        self._facilitator = facilitator
        self._address = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._scripts: list[Script] = []
        self._calls: list[Call] = []
        self._listener: Loopback[FacilitatorServer] | None = None

    def start(self) -> Self:
        self._listener = Loopback(self._address, _Handler, self)
        self._address = self._listener.start()
        return self

    def stop(self) -> None:
        """Close every connection and wait for every thread."""
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

    def script(self, *scripts: dict[str, Any]) -> None:
        """What the next calls meet, in place of what was queued. Raises ``ScriptError``."""
        checked = [_read_script(each) for each in scripts]
        with self._lock:
            self._scripts = checked

    @property
    def calls(self) -> list[Call]:
        with self._lock:
            return [call.copy() for call in self._calls]

    def asked(self, at: str) -> int:
        """How many calls of this kind have been received."""
        return [call["at"] for call in self.calls].count(at)

    def receive(self, at: str, body: Any) -> tuple[Call, Script, bytes]:
        """Write a call down, do what it asks and decide its answer."""
        call = Call(at=at, body=body, hungUp=False)
        with self._lock:
            self._calls.append(call)
            script = next((each for each in self._scripts if each.at == at), Script(at))
            if script in self._scripts:
                self._scripts.remove(script)
        answer = {} if script.unheard else self._answer(at, body)
        text = json.dumps(answer | script.change) if script.body is None else script.body
        return call, script, text.encode()

    def hang_up(self, call: Call) -> None:
        with self._lock:
            call["hungUp"] = True

    def _answer(self, at: str, body: Any) -> dict[str, Any]:
        if at == "supported":
            said: Any = self._facilitator.get_supported()
        else:
            payload = PaymentPayload.model_validate(body["paymentPayload"])
            asked = PaymentRequirements.model_validate(body["paymentRequirements"])
            act = self._facilitator.verify if at == "verify" else self._facilitator.settle
            said = act(payload, asked)
        answer: dict[str, Any] = said.model_dump(by_alias=True, exclude_none=True)
        return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Loopback[FacilitatorServer]

    def do_GET(self) -> None:
        if self.path == "/control":
            return self._send(json.dumps(self.server.owner.calls).encode())
        return self._play("supported", None) if self.path == "/supported" else self._refuse(404)

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        except (TypeError, ValueError):
            self.close_connection = True
            return self._refuse(400)
        if self.path == "/control":
            return self._take_scripts(body)
        at = self.path.removeprefix("/")
        return self._play(at, body) if at in ("verify", "settle") else self._refuse(404)

    def _take_scripts(self, body: Any) -> None:
        try:
            if not isinstance(body, list):
                raise ScriptError("scripts must be a JSON list")
            self.server.owner.script(*body)
        except ScriptError as error:
            return self._refuse(400, str(error))
        return self._send(json.dumps({"queued": len(body)}).encode())

    def _play(self, at: str, body: Any) -> None:
        facilitator = self.server.owner
        try:
            call, script, answer = facilitator.receive(at, body)
        except (KeyError, TypeError, ValueError):  # not a payment, or not such requirements
            return self._refuse(400)
        self.server.stopping.wait(script.silence)
        try:
            self._send(answer, script.status, script.headers, script.drip, script.cutAt)
        except OSError:
            self.close_connection = True
            facilitator.hang_up(call)

    def _refuse(self, status: int, why: str = "") -> None:
        self._send(json.dumps({"error": why or responses[status]}).encode(), status)

    def _send(
        self,
        body: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
        drip: float = 0,
        cut_at: int | None = None,
    ) -> None:
        named: dict[str, Any] = {
            "content-type": "application/json",
            "content-length": len(body),
        } | (headers or {})
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unnamed')}"]
        lines += [f"{name}: {value}" for name, value in named.items()]
        reply = "\r\n".join([*lines, "", ""]).encode("ascii") + body[:cut_at]
        self.close_connection |= cut_at is not None
        for place in range(len(reply)) if drip else ():
            if self.server.stopping.wait(drip):
                return
            self.connection.sendall(reply[place : place + 1])
        if not drip:
            self.connection.sendall(reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line says no more than the record of calls."""


def _read_script(source: Any) -> Script:
    if not isinstance(source, dict):
        raise ScriptError("a script must be an object")
    for name, value in source.items():
        if name not in _KINDS:
            raise ScriptError(f"{name}: there is no such field")
        if not isinstance(value, _KINDS[name]):
            raise ScriptError(f"{name}: not of its kind")
    if source.get("at") not in DOORS:
        raise ScriptError(f"at: must be one of {', '.join(DOORS)}")
    return Script(**source)


def _serve(directory: str, port: str) -> None:
    """Serve until Ctrl-C."""
    ledger = DevelopmentLedger(Path(directory) / "development-ledger.sqlite3")
    with FacilitatorServer(ledger.facilitator(), int(port)) as server, suppress(KeyboardInterrupt):
        print(f"FACILITATOR_URL={server.url} X402_NETWORKS=eip155:31337")
        while True:  # a signal that comes just before a wait without end would not end it
            time.sleep(1)
    ledger.close()


if __name__ == "__main__":
    _serve(*sys.argv[1:3])
