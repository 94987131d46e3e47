"""A Supabase project's database, asked through PostgREST: one SQL function a question."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

import httpx
import structlog
from postgrest import APIError
from supabase import Client, ClientOptions, create_client

from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.secret import Secret

AT_ONCE = 10
"""Connections of a worker, and questions at a time. httpcore's pool is slow with a queue before it
(encode/httpcore #1035), so whoever has no connection waits here."""
TRY_SECONDS = 5.0
CONNECT_SECONDS = 3.0
QUEUE_SECONDS = 5.0
PAUSES = (0.1, 0.4)
"""Between the tries of one question: three in all."""
HOPELESS = ("22", "23", "42", "PGRST1", "PGRST2", "PGRST3", "400", "401", "403", "404")
"""What an answer's code begins with that would be the same again: what was asked is wrong, the
function is not there (x402jobs migrate has not run), the key does not open the door."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Handle:
    """One process's hold on the project."""

    client: Client
    http: httpx.Client
    pid: int


class Database:
    """One client a process, made on first use and so after any fork.

    Rows travel as JSON text, both ways: a number that is read as JSON on the way may be rounded to
    a double. Every fault becomes StoreUnavailable, whose text is ours: a vendor's may quote a key.
    """

    def __init__(self, url: str, secret_key: Secret) -> None:
        self._url = url
        self._key = secret_key
        self._handle: _Handle | None = None
        self._turns = BoundedSemaphore(AT_ONCE)

    def call(self, function: str, **arguments: Any) -> Any:
        """What the function returns; asked again when its answer was lost.

        For functions that may run twice: those that read, and whose writing is the same again.
        """
        return self._ask(function, lambda _: arguments)

    def write(self, function: str, **arguments: Any) -> Any:
        """The same, for a function that has to know whether it is asked again.

        Its argument `again` says that an earlier try may have been carried out already: it then
        answers as that one has.
        """
        return self._ask(function, lambda tries: arguments | {"again": tries > 0})

    def close(self) -> None:
        """Hang up; the next use connects again."""
        handle, self._handle = self._handle, None
        if handle is not None and handle.pid == os.getpid():
            handle.http.close()

    def _ask(self, function: str, arguments: Callable[[int], dict[str, Any]]) -> Any:
        if not self._turns.acquire(timeout=QUEUE_SECONDS):
            log.warning("store_unavailable", reason="queue", function=function)
            raise StoreUnavailable()
        try:
            for tries, pause in enumerate((*PAUSES, None)):
                try:
                    reply = self._client().rpc(function, arguments(tries)).execute()
                    return _read(reply.data)
                except (APIError, httpx.HTTPError, ValueError, TypeError) as error:
                    reason = _reason(error)
                    if pause is None or reason.startswith(HOPELESS):
                        break
                    time.sleep(pause)  # gevent has patched it
        finally:
            self._turns.release()
        log.warning("store_unavailable", reason=reason, function=function)
        raise StoreUnavailable()

    def _client(self) -> Client:
        handle = self._handle
        if handle is None or handle.pid != os.getpid():
            handle = self._handle = _connect(self._url, self._key)
        return handle.client


def _connect(url: str, key: Secret) -> _Handle:
    """HTTP/1.1: over HTTP/2 a connection's turnover reports writes as failed that have happened.

    No proxy of the environment is between. Nobody signs in on this client, which would put the
    user's token in the place of our key for everybody.
    """
    http = httpx.Client(
        http2=False,
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(TRY_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=30),
    )
    options = ClientOptions(
        httpx_client=http,
        auto_refresh_token=False,
        persist_session=False,
        postgrest_client_retry=False,
    )
    return _Handle(create_client(url, key.reveal(), options), http, os.getpid())


def _read(said: Any) -> Any:
    """Raises ValueError or TypeError for what no function of ours has said."""
    return json.loads(said) if said is not None else None


def _reason(error: Exception) -> str:
    """An SQLSTATE, a code of PostgREST's, a status, or the name of what went wrong on the way."""
    if isinstance(error, APIError):
        return str(error.code or "no_code")
    return type(error).__name__
