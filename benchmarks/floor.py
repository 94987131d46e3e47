"""The least a relay can cost on this server: a WSGI generator, a raw socket, bytes passed on.

It reads no event, knows no fault and keeps nothing: what is above it is what a relay does.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

_CLAUDE = urlsplit(os.environ.get("CLAUDE_URL", ""))
_READ = 65536


def app(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    """Ready, or the words."""
    if environ["PATH_INFO"] == "/healthz":
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]
    order = environ["wsgi.input"].read()
    start("200 OK", [("Content-Type", "text/event-stream")])
    return words(order)


def words(order: bytes) -> Iterator[bytes]:
    """The body of Claude's answer, each read in one piece."""
    with socket.create_connection((_CLAUDE.hostname or "", _CLAUDE.port or 80)) as claude:
        claude.sendall(
            b"POST /v1/messages HTTP/1.1\r\nHost: claude\r\nContent-Length: %d\r\n\r\n%b"
            % (len(order), order)
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(claude)
        received = received.partition(b"\r\n\r\n")[2]
        while True:
            said, received, is_over = unchunked(received)
            if said:
                yield said
            if is_over:
                return
            received += _some(claude)


def unchunked(received: bytes) -> tuple[bytes, bytes, bool]:
    """What the whole chunks hold, what is left of a part of one, and whether the last has come."""
    said: list[bytes] = []
    place = 0
    while (line := received.find(b"\r\n", place)) >= 0:
        size = int(received[place:line], 16)
        end = line + 2 + size
        if len(received) < end + 2:
            break
        if size == 0:
            return b"".join(said), b"", True
        said.append(received[line + 2 : end])
        place = end + 2
    return b"".join(said), received[place:], False


def _some(claude: socket.socket) -> bytes:
    if not (some := claude.recv(_READ)):
        raise ConnectionError("Claude hung up")
    return some
