"""A facilitator behind a URL: the SDK's HTTP client, on connections we can rely on to end."""

import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from time import monotonic
from typing import Any

import httpcore
import httpx
from x402.http.facilitator_client import FacilitatorConfig, HTTPFacilitatorClientSync
from x402.schemas import (
    PaymentPayload,
    PaymentRequirements,
    SettleResponse,
    SupportedResponse,
    VerifyResponse,
)

CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 256 * 1024
"""In bytes. Answers have a few hundred; what a large facilitator supports, some thousands."""
KEEPALIVE_SECONDS = 4.0
"""Less than servers commonly allow (5 s): settling must not meet a line that is being closed."""

_ANSWERS: dict[str, type[SupportedResponse | VerifyResponse | SettleResponse]] = {
    "supported": SupportedResponse,
    "verify": VerifyResponse,
    "settle": SettleResponse,
}

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
    """Nothing a facilitator has to say is this long."""


class RemoteFacilitator:
    """The SDK's client, over one shared set of connections per process. To be used `within`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = Lock()
        self._http: httpx.Client | None = None
        self._process = 0

    def get_supported(self) -> SupportedResponse:
        return self._client().get_supported()

    def verify(self, payload: PaymentPayload, requirements: PaymentRequirements) -> VerifyResponse:
        return self._client().verify(payload, requirements)

    def settle(self, payload: PaymentPayload, requirements: PaymentRequirements) -> SettleResponse:
        return self._client().settle(payload, requirements)

    def close(self) -> None:
        """Hang up and forget the connections; the next question makes new ones."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def _client(self) -> HTTPFacilitatorClientSync:
        """The SDK's client, on the process's own connections, made on their first use.

        Not made in the constructor: a forked worker must not share its parent's sockets. The SDK
        is not left to make them: its own follow redirects and the environment's proxies.
        """
        with self._lock:
            if self._http is None or self._process != os.getpid():
                self._http, self._process = _connections(), os.getpid()
            http = self._http
        return HTTPFacilitatorClientSync(FacilitatorConfig(url=self._url, http_client=http))


def _connections() -> httpx.Client:
    context = httpx.create_ssl_context(trust_env=False)
    return httpx.Client(
        transport=_Transport(context),
        trust_env=False,
        follow_redirects=False,  # a signed payment goes where the operator said, and nowhere else
        headers={"accept-encoding": "identity"},
    )


class _Transport(httpx.BaseTransport):
    """HTTP/1.1; whole answers, and only those that are short, in time and of the right shape.

    Raises httpcore's exceptions as they are: to whoever asks, each of them means no answer.
    """

    def __init__(self, ssl_context: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,  # the server limits its own work; waiting here would be hidden
            keepalive_expiry=KEEPALIVE_SECONDS,
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
            body = _whole(response.iter_stream())
        if response.status == 200:
            # The SDK would read "yes" as true and 0 as false.
            _ANSWERS[url.path.rpartition("/")[2]].model_validate_json(body, strict=True)
        # Without its headers: no cookie is kept and nothing is unpacked, however small it was.
        return httpx.Response(response.status, content=body)

    def close(self) -> None:
        self._pool.close()


def _whole(parts: Iterable[bytes]) -> bytes:
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > LARGEST_ANSWER:
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
