"""A Supabase project's database, asked through PostgREST: one SQL function a question."""

import json
import os
import re
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from typing import Any

import httpcore
import httpx
import structlog
from supabase import Client, ClientOptions, create_client

from x402jobs import metrics
from x402jobs.adapters.bounded_http import AnswerTooLong, Connections, within
from x402jobs.domain.errors import StoreUnavailable, Unauthenticated
from x402jobs.domain.secret import Secret
from x402jobs.ports import Trouble

AT_ONCE = 10
"""Questions of a worker at a time, and so connections. httpcore's pool is slow with a queue before
it (encode/httpcore #1035), so whoever has no connection waits here."""
URGENT = ("x402_beat", "x402_take_over")
"""Have a turn of their own: a worker that did not beat behind a queue would lose its rows."""
TRY_SECONDS = 5.0
QUEUE_SECONDS = 5.0
PAUSES = (0.05, 0.1, 0.3, 0.6)
"""Between the tries of one question: five in all, where a project that is turning its connections
over can break several of them."""
LAST_TRY_SECONDS = 9.0
"""No try begins later than this after the first, so that silence is met with two at most."""
KEEPALIVE_SECONDS = 30.0
"""A line that the project is just closing does no harm here: the question is asked again."""
LARGEST = 64 * 1024 * 1024
"""No page of any table is this many bytes."""

ONCE, AGAIN = False, True
CODES = (
    ("PGRST0", AGAIN, "the project's API cannot reach its database"),
    ("PGRST106", ONCE, "the schema public is not exposed: Project Settings, Data API"),
    ("PGRST202", ONCE, "the project lacks this function: run x402jobs migrate"),
    ("PGRST3", ONCE, "SUPABASE_SECRET_KEY is not taken by this project"),
    ("PGRST", ONCE, "the project's API refused what it was asked"),
    ("42501", ONCE, "SUPABASE_SECRET_KEY may not do this: is it the secret key?"),
    ("42883", ONCE, "the project lacks a function: run x402jobs migrate"),
    ("42P01", ONCE, "the project lacks a table: run x402jobs migrate"),
    ("42703", ONCE, "the project lacks a column: run x402jobs migrate"),
    ("22", ONCE, "the database refused what it was asked"),
    ("23", ONCE, "the database refused what it was asked"),
    ("25006", AGAIN, "the database is read-only: is its disk full?"),
    ("42", ONCE, "the database refused what it was asked"),
    ("53", AGAIN, "the database has no room, or no connection left"),
    ("57014", AGAIN, "the database took too long and gave the question up"),
    ("57", AGAIN, "the database is stopping or starting"),
)
"""What PostgREST's code, or the SQLSTATE, begins with: whether to ask again, and what it means to
whoever reads the log at night. The first that fits."""
STATUSES = (
    ("3", ONCE, "SUPABASE_URL leads elsewhere"),
    ("401", ONCE, "SUPABASE_SECRET_KEY is not taken by this project"),
    ("402", ONCE, "the project is restricted: see its dashboard, Billing"),
    ("403", ONCE, "SUPABASE_SECRET_KEY is not taken by this project"),
    ("404", ONCE, "no Supabase project answers at SUPABASE_URL"),
    ("4", AGAIN, "the project refused the request"),
    ("540", ONCE, "the project is paused: restore it in its dashboard"),
    ("", AGAIN, "the project failed to answer"),
)
"""The same by the status, where no code says more."""

SCHEMA = "20261121000010"
"""The migration that this version needs; a project that has later ones too does."""
MIGRATE = "run x402jobs migrate"
NOT_MIGRATED = Trouble(
    "not_migrated", f"The project lacks migrations that this version needs: {MIGRATE}."
)
READ_ONLY = Trouble("read_only", "The database is read-only: is its disk full?")

BROKE = "the connection broke"
NO_ACCOUNT = "no_account"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Handle:
    """One process's hold on the project."""

    pid: int
    connections: Connections
    client: Client
    turns: BoundedSemaphore
    urgent: BoundedSemaphore


class _Fault(Exception):
    """No answer, in our own words: a vendor's may quote a key."""

    def __init__(
        self, reason: str, again: bool = AGAIN, *, status: int | None = None, code: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.told = {"status": status, "code": code or None}

    @property
    def trouble(self) -> Trouble:
        """The same, for whoever asks whether the project can be relied on."""
        if MIGRATE in self.reason:
            return NOT_MIGRATED
        if self.told["code"] == "25006":
            return READ_ONLY
        kind = "no_answer" if self.told["status"] is None else "refused"
        return Trouble(kind, f"{self.reason[0].upper()}{self.reason[1:]}.")


def stored(said: Any) -> Any:
    """What a function has said that was to store something for an account.

    Raises Unauthenticated where there is none: its user has been deleted meanwhile, and the token
    that speaks for them has not run out.
    """
    if said == NO_ACCOUNT:
        raise Unauthenticated()
    return said


class Database:
    """One client a process, made on first use and so after any fork.

    Rows travel as JSON text, both ways: a number that is read as JSON on the way may be rounded to
    a double. Every fault of the project, or of the way to it, becomes StoreUnavailable.
    """

    def __init__(self, url: str, secret_key: Secret) -> None:
        self._url = url
        self._key = secret_key
        self._handle: _Handle | None = None
        self._lock = Lock()

    def call(self, function: str, *, patience: float | None = None, **arguments: Any) -> Any:
        """What the function returns; asked again when its answer was lost.

        For functions that may run twice: those that read, and whose writing is the same again.
        `patience` is the time limit of one try in seconds, where it is not the usual one.
        """
        with metrics.waiting("store"):
            return self._ask(function, lambda _: arguments, patience)

    def write(self, function: str, **arguments: Any) -> Any:
        """The same, for a function that has to know whether it is asked again.

        Its argument `again` says that an earlier try may have been carried out already: it then
        answers as that one has.
        """
        with metrics.waiting("store"):
            return self._ask(function, lambda tries: arguments | {"again": tries > 0})

    def trouble(self) -> Trouble | None:
        """ports.Database's: one question, which waits behind no other."""
        try:
            said = self._ready()
            schema, writable = str(said["schema"]), said["writable"] is True
        except _Fault as fault:
            return fault.trouble
        except (TypeError, KeyError):
            return NOT_MIGRATED
        if schema < SCHEMA:
            return NOT_MIGRATED
        return None if writable else READ_ONLY

    def _ready(self) -> Any:
        """Asked once more where the line broke: the project may just have been closing it."""
        handle = self._hold()
        try:
            return _asked(handle.client, "x402_ready", {}, TRY_SECONDS)
        except _Fault as fault:
            if fault.reason != BROKE:
                raise
        return _asked(handle.client, "x402_ready", {}, TRY_SECONDS)

    def close(self) -> None:
        """Hang up; the next use connects again."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            _let_go(handle)

    def _ask(
        self,
        function: str,
        arguments: Callable[[int], dict[str, Any]],
        patience: float | None = None,
    ) -> Any:
        handle = self._hold()
        turns = handle.urgent if function in URGENT else handle.turns
        seconds = patience or TRY_SECONDS
        if not turns.acquire(timeout=QUEUE_SECONDS):
            log.warning("store_unavailable", function=function, reason="too many questions wait")
            raise StoreUnavailable()
        last_try = time.monotonic() + LAST_TRY_SECONDS
        try:
            for tries, pause in enumerate((*PAUSES, None)):
                try:
                    return _asked(handle.client, function, arguments(tries), seconds)
                except _Fault as error:
                    fault = error
                if pause is None or not fault.again or time.monotonic() > last_try:
                    break
                log.info("store_asked_again", function=function, reason=fault.reason, **fault.told)
                time.sleep(pause)
        finally:
            turns.release()
        log.warning("store_unavailable", function=function, reason=fault.reason, **fault.told)
        raise StoreUnavailable()

    def _hold(self) -> _Handle:
        with self._lock:
            if self._handle is None or self._handle.pid != os.getpid():
                self._handle = _connect(self._url, self._key)
                # Whoever has only looked, as a command does, goes without a word.
                weakref.finalize(self, _let_go, self._handle).atexit = False
            return self._handle


def _connect(url: str, key: Secret) -> _Handle:
    """HTTP/1.1: over HTTP/2 a connection's turnover reports writes as failed that have happened.

    Nobody signs in on this client, which would put the user's token in the place of our key for
    everybody.
    """
    connections = Connections(LARGEST, keepalive=KEEPALIVE_SECONDS)
    http = connections.client()
    http.event_hooks = {"response": [_refuse]}  # a status is lost in postgrest's own exception
    options = ClientOptions(
        httpx_client=http,
        auto_refresh_token=False,
        persist_session=False,
        postgrest_client_retry=False,
    )
    client = create_client(url, key.reveal(), options)
    return _Handle(os.getpid(), connections, client, BoundedSemaphore(AT_ONCE), BoundedSemaphore(1))


def _let_go(handle: _Handle) -> None:
    """A process that was forked off leaves the lines of the other one alone."""
    if handle.pid == os.getpid():
        handle.connections.close()


def _asked(client: Client, function: str, arguments: dict[str, Any], seconds: float) -> Any:
    """One try. Raises _Fault."""
    try:
        with within(seconds):
            said = client.rpc(function, arguments).execute().data
    except httpcore.TimeoutException:
        raise _Fault("no answer in time") from None
    except httpcore.ConnectError:
        raise _Fault("nobody takes connections at SUPABASE_URL") from None
    except (httpcore.NetworkError, httpcore.ProtocolError):
        raise _Fault(BROKE) from None
    except AnswerTooLong:
        raise _Fault("the answer is too long", ONCE) from None
    if said is None:
        return None
    try:
        return json.loads(said)  # type: ignore[arg-type]  # TypeError for what is no text
    except (ValueError, TypeError):
        raise _Fault("what answered is no function of ours") from None


def _refuse(response: httpx.Response) -> None:
    """Raises _Fault for every status but success."""
    if response.is_success:
        return
    try:
        code = str(json.loads(response.read())["code"])
    except (ValueError, TypeError, KeyError):
        code = ""  # a page of somebody else's, between the project and us
    if re.fullmatch(r"[0-9A-Z]{3,12}", code) is None:
        code = ""
    status = str(response.status_code)
    known = [each for each in CODES if code.startswith(each[0])]
    known += [each for each in STATUSES if status.startswith(each[0])]
    _, again, reason = known[0]
    raise _Fault(reason, again, status=response.status_code, code=code)
