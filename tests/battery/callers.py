"""Who presents payments, and what they heard."""

import http.client
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.battery.money import Presented

PATH = "/@ada/haiku"


@dataclass
class Heard:
    """One presentation: status None means no reply at all; `code` is an error's before the stream.

    `began` and `first_word_at` are unix seconds.
    """

    payment: Presented
    began: float
    status: int | None = None
    code: str | None = None
    text: str = ""
    first_word_at: float | None = None
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def brief(self) -> str:
        """The status, and how the stream ended."""
        if self.status is None:
            return "nothing"
        if self.status != 200:
            return f"{self.status} {self.code}"
        ending = "done" if self.done else "error" if self.error else "cut"
        return f"200 {ending}"


def present(
    port: int,
    payment: Presented,
    *,
    wrapping: int = 0,
    as_json: bool = False,
    leave_after: int | None = None,
    topic: str | None = None,
    path: str = PATH,
    heard: Callable[[Heard], None] = lambda heard: None,
) -> Heard:
    """Present it once and hear what is said. `leave_after`: hang up after so many pieces read."""
    said = Heard(payment, time.time())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=150)
    wrap = payment.wrappings[wrapping % len(payment.wrappings)]
    body = json.dumps({"topic": topic or payment.topic})
    try:
        query = "?stream=false" if as_json else ""
        kind = {"Content-Type": "application/json"}
        connection.request("POST", path + query, body, wrap | kind)
        if leave_after == 0:
            return said
        reply = connection.getresponse()
        said.status = reply.status
        said.headers = {name.lower(): value for name, value in reply.getheaders()}
        heard(said)
        pieces = 0
        while data := reply.read1(4096):
            said.body += data
            pieces += 1
            if said.first_word_at is None and b"ext" in said.body and said.status == 200:
                said.first_word_at = time.time()
            if pieces == leave_after:
                break
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    _read(said, as_json)
    return said


def _read(said: Heard, as_json: bool) -> None:
    """Make sense of as much of the body as came."""
    if said.status == 200 and not as_json:
        for block in said.body.decode("ascii").split("\n\n")[:-1]:
            if block.startswith(":"):
                continue
            event = json.loads(block.removeprefix("data: "))
            match event["type"]:
                case "text":
                    said.text += event["content"]
                case "done":
                    said.done = event
                case "error":
                    said.error = event
        return
    try:
        document = json.loads(said.body)
    except ValueError:
        return
    if said.status == 200:
        said.text, said.done = document["response"], document
    else:
        said.code = document.get("code")
        if "receipt" in document:
            said.error = document


def insist(
    port: Callable[[], int], payment: Presented, *, seconds: float = 90, wrapping: int = 0
) -> Heard:
    """Present it again and again, as an honest client would, while it is asked to come back."""
    until = time.time() + seconds
    while True:
        said = present(port(), payment, wrapping=wrapping)
        waits = said.status is None or said.code in (
            *("IN_PROGRESS", "SETTLEMENT_UNKNOWN", "UNAVAILABLE", "FACILITATOR_UNAVAILABLE"),
            "STORE_UNAVAILABLE",
        )
        if not waits or time.time() > until:
            return said
        time.sleep(0.2)


def hang_up(connection: socket.socket, way: str) -> None:
    """FIN, RST, or half a FIN."""
    if way == "half":
        connection.shutdown(socket.SHUT_WR)
        return
    if way == "RST":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def dial(port: int, payment: Presented, *, narrow: bool = False) -> socket.socket:
    """A bare connection on which the payment has been presented and nothing read."""
    body = json.dumps({"topic": payment.topic}).encode()
    return ask(port, "POST", PATH, payment.wrappings[0], body, narrow=narrow)


def ask(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    narrow: bool = False,
) -> socket.socket:
    """A bare connection on which a request has been sent and nothing read.

    `narrow`: as over a real network, with its small segments and a small buffer at this end. Over
    loopback's own segments of 64 KB the kernels keep two megabytes for whoever does not read.
    """
    connection = socket.socket()
    if narrow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
    connection.settimeout(60)
    try:
        connection.connect(("127.0.0.1", port))
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
    except OSError:
        connection.close()
        raise
    return connection


def one_of(rng: random.Random, payment: Presented) -> int:
    """Any of its wrappings."""
    return rng.randrange(len(payment.wrappings))
