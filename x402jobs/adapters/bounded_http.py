"""HTTP to peers that need not be trusted: whole answers, short ones, and in time."""

import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from time import monotonic
from typing import Any

import httpcore
import httpx

CONNECT_SECONDS = 5.0
KEEPALIVE_SECONDS = 4.0
"""Less than servers commonly allow (5 s): settling must not meet a line that is being closed."""

_until: ContextVar[float] = ContextVar("until")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Every question asked in this block, put together, is given up after so many seconds."""
    token = _until.set(monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


class AnswerTooLong(Exception):
    """Nothing the peer has to say is this long."""


Check = Callable[[str, bytes], object]
"""Looks at an answer of status 200, given the path it came from; raises to have it thrown away."""


def _nothing(_: str, __: bytes) -> None:
    return


class Connections:
    """One shared set of connections per process. To be used `within`.

    An answer of more than `largest` bytes is not read to its end.
    """

    def __init__(
        self, largest: int, check: Check = _nothing, keepalive: float = KEEPALIVE_SECONDS
    ) -> None:
        self._largest = largest
        self._check = check
        self._keepalive = keepalive
        self._lock = Lock()
        self._http: httpx.Client | None = None
        self._process = 0

    def client(self) -> httpx.Client:
        """The process's own client, made on its first use.

        Not made in the constructor: a forked worker must not share its parent's sockets. It follows
        no redirect, asks none of the environment's proxies, and adds no credentials of its own.
        """
        with self._lock:
            if self._http is None or self._process != os.getpid():
                self._http, self._process = self._connect(), os.getpid()
            return self._http

    def close(self) -> None:
        """Hang up and forget the connections; the next question makes new ones."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def _connect(self) -> httpx.Client:
        context = httpx.create_ssl_context(trust_env=False)
        return httpx.Client(
            transport=_Transport(context, self._largest, self._check, self._keepalive),
            trust_env=False,
            follow_redirects=False,  # a question goes where the operator said, and nowhere else
            headers={"accept-encoding": "identity"},
        )


class _Transport(httpx.BaseTransport):
    """HTTP/1.1; whole answers, and only those that are short, in time and of the right shape.

    Raises httpcore's exceptions as they are: to whoever asks, each of them means no answer.
    """

    def __init__(
        self, ssl_context: ssl.SSLContext, largest: int, check: Check, keepalive: float
    ) -> None:
        self._largest = largest
        self._check = check
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,  # the server limits its own work; waiting here would be hidden
            keepalive_expiry=keepalive,
            network_backend=_Exchange(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        with self._pool.stream(
            request.method, target, headers=request.headers.raw, content=request.read()
        ) as response:
            body = self._whole(response.iter_stream())
        if response.status == 200:
            self._check(url.path, body)
        # Without its headers: no cookie is kept and nothing is unpacked, however small it was.
        return httpx.Response(response.status, content=body)

    def close(self) -> None:
        self._pool.close()

    def _whole(self, parts: Iterable[bytes]) -> bytes:
        body = bytearray()
        for part in parts:
            body += part
            if len(body) > self._largest:
                raise AnswerTooLong
        return bytes(body)


class _Exchange(httpcore.NetworkBackend):
    """Connections whose every wait ends with the time that is left for the whole question.

    httpx has a limit for each read alone: an answer that drips would last for ever.
    """

    def __init__(self) -> None:
        self._system = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        limit = min(CONNECT_SECONDS, _left(httpcore.ConnectTimeout))
        return _Line(self._system.connect_tcp(host, port, limit, local_address, socket_options))


class _Line(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        limit = min(CONNECT_SECONDS, _left(httpcore.ConnectTimeout))
        return _Line(self._stream.start_tls(ssl_context, server_hostname, limit))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(late: type[Exception]) -> float:
    """Seconds that are left. Raises `late` when there are none."""
    left = _until.get() - monotonic()
    if left <= 0:
        raise late
    return left
