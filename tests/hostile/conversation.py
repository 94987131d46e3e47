"""A connection as bytes: what is sent on it in one go, and every answer that comes back."""

import json
import secrets
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 20
BODILESS = (204, 304)


@dataclass(frozen=True)
class Said:
    """One answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object it is; empty for anything else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Way:
    """One of the ways to the service: a port, with TLS or without, or a socket file."""

    port: int | None = None
    file: Path | None = None
    tls: bool = False

    def dial(self) -> socket.socket:
        if self.file is not None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(self.file))
        else:
            connection = socket.create_connection(("127.0.0.1", self.port or 0))
        connection.settimeout(PATIENCE_SECONDS)
        if not self.tls:
            return connection
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(connection)


def converse(way: Way, sent: bytes) -> bytes:
    """Everything that is answered to these bytes until the connection is closed.

    Whoever refuses may have closed it before all was sent.
    """
    received = bytearray()
    with way.dial() as connection:
        with suppress(OSError):
            connection.sendall(sent)
        with suppress(ConnectionResetError, ssl.SSLEOFError, BrokenPipeError):
            while data := connection.recv(65536):
                received += data
    return bytes(received)


def answers(received: bytes, *methods: str) -> list[Said]:
    """What was received, read as strictly as a careful client would: an answer for each method.

    Raises ValueError where that is not what it is: bytes that belong to no answer are a desync.
    """
    if received.startswith(b"{"):  # HTTP/0.9 has no status and no headers
        return [Said(9, {}, received)]
    stream, found, wanted = BytesIO(received), [], list(methods)
    while line := stream.readline():
        version, status, *_ = line.split(b" ", 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"{line[:80]!r} begins no answer")
        headers = {}
        while header := stream.readline().strip():
            name, _, value = header.decode("latin-1").partition(":")
            if name.lower() in ("content-length", "transfer-encoding") and name.lower() in headers:
                raise ValueError(f"two of {name}")
            headers[name.lower()] = value.strip()
        code = int(status)
        if 100 <= code < 200:
            found.append(Said(code, headers))
            continue
        method = wanted.pop(0) if wanted else "GET"
        found.append(Said(code, headers, _body(stream, method, code, headers)))
    return found


def _body(stream: BytesIO, method: str, status: int, headers: Mapping[str, str]) -> bytes:
    if method == "HEAD" or status in BODILESS:
        return b""
    if headers.get("transfer-encoding") == "chunked":
        pieces = []
        while size := int(stream.readline(), 16):
            pieces.append(stream.read(size))
            if stream.read(2) != b"\r\n":
                raise ValueError("a chunk that ends elsewhere")
        if stream.readline() != b"\r\n":
            raise ValueError("a last chunk that is none")
        return b"".join(pieces)
    if "content-length" in headers:
        return stream.read(int(headers["content-length"]))
    return stream.read()


def marked() -> tuple[str, bytes]:
    """A mark, and a request that is answered with 400 and the mark, and closes the connection."""
    mark = f"mark-{secrets.token_hex(6)}"
    body = json.dumps({mark: "x"}).encode()
    head = (
        "POST /@ada/haiku HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return mark, head.encode() + body
