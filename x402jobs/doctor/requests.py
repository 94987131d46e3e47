"""A caller's own request: what came back, and when each piece of it did."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SECONDS = 10.0
"""Limit on connecting, and on each silence."""
LARGEST = 1024 * 1024
FAULTS = (OSError, http.client.HTTPException)
"""What `ask` raises."""


@dataclass(frozen=True)
class Reply:
    """A response; `arrivals` are the seconds from its head to each piece, names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    arrivals: tuple[float, ...]


def ask(
    url: str,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] = {},
    body: bytes | Iterable[bytes] | None = None,
) -> Reply:
    """The whole answer. Several bytes make a chunked body. Raises OSError or HTTPException.

    Follows no redirect and asks none of the environment's proxies.
    """
    with closing(_connection(url)) as connection:
        chunked = body is not None and not isinstance(body, bytes)
        coding = {"Transfer-Encoding": "chunked"} if chunked else {}
        sent: Any = body
        connection.request(method, path, sent, {**headers, **coding}, encode_chunked=chunked)
        response = connection.getresponse()
        began, arrivals, received = time.monotonic(), [], b""
        while len(received) < LARGEST and (piece := response.read1(65536)):
            received += piece
            arrivals.append(time.monotonic() - began)
        said = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, said, received, tuple(arrivals))


def certificate_ends(url: str) -> float:
    """When the certificate of an https URL ends, in unix seconds; it was checked as callers do.

    Raises OSError, of which ssl.SSLCertVerificationError is one.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 443)
    context = ssl.create_default_context()
    with (
        socket.create_connection(address, SECONDS) as bare,
        context.wrap_socket(bare, server_hostname=parts.hostname) as line,
    ):
        ends: Any = (line.getpeercert() or {})["notAfter"]
    return ssl.cert_time_to_seconds(ends)


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(host, parts.port, timeout=SECONDS, context=context)
