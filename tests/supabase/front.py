"""The edge of a Supabase project on loopback, which fails in every way a network can."""

import json
import secrets
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO

from tests.supabase import jwks

RPC = "/rest/v1/rpc/"
STALE_SECONDS = 3.0
"""lite hangs up after 5 s of silence."""
BEHIND_SECONDS = 20.0
"""Longer than anybody waits for an answer."""


@dataclass(frozen=True)
class Request:
    """One request as it came; `name` is the function's, or the path without a leading slash."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return self.path.removeprefix(RPC) if self.path.startswith(RPC) else self.path[1:]

    @property
    def arguments(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Fault:
    """What happens to one request, by default nothing unusual.

    `seconds` pass before it is carried out, `late_seconds` before it is answered. `says` is an
    answer in the database's place; of any answer at most `length` bytes are sent. A connection that
    did not bring the whole answer is closed, or `reset`. With `pace` an answer comes byte by byte,
    so many seconds apart. With `again` the request is delivered once more after so many seconds.
    """

    carried_out: bool = True
    seconds: float = 0.0
    late_seconds: float = 0.0
    says: bytes | None = None
    length: int | None = None
    reset: bool = False
    pace: float = 0.0
    again: float | None = None


LOST = Fault(length=0)
"""The write is carried out, and its answer never comes."""
LOST_BY_RESET = Fault(length=0, reset=True)
NEVER_CAME = Fault(carried_out=False, length=0)
HALF = Fault(length=200)
"""Less than the head and the body of any answer of lite's."""

Rule = Callable[[Request], Fault | None]


def answer(status: int, body: bytes | str, content_type: str = "application/json") -> bytes:
    """A whole HTTP answer."""
    body = body.encode() if isinstance(body, str) else body
    head = (
        f"HTTP/1.1 {status} {_phrase(status)}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def page(status: int, carried_out: bool = False) -> Fault:
    """What somebody between us and the project has to say, in HTML."""
    html = f"<html><body><h1>{status} {_phrase(status)}</h1></body></html>"
    return Fault(carried_out=carried_out, says=answer(status, html, "text/html; charset=UTF-8"))


def refusal(status: int, **said: Any) -> Fault:
    """What PostgREST has to say, in JSON."""
    return Fault(carried_out=False, says=answer(status, json.dumps(said)))


class Accounts:
    """Who has signed up, and the key whose tokens speak for them: what lite's own Auth cannot.

    Its tokens are HS256 without an issuer, and the set of keys it publishes is empty.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[str, tuple[str, str]] = {}
        self.signer = jwks.es256()

    def token(self, user_id: str, **changes: Any) -> str:
        """A good access token, with claims changed."""
        return self.signer.sign(jwks.claims(self._url, user_id, **changes))

    def answer(self, request: Request) -> bytes | None:
        """None for what is not asked of Auth."""
        match request.method, request.path:
            case "GET", jwks.PATH:
                return answer(200, jwks.document(self.signer))
            case "POST", "/auth/v1/signup":
                email, password = request.arguments["email"], request.arguments["password"]
                if email in self._known:
                    return answer(422, json.dumps({"error_code": "user_already_exists"}))
                self._known[email] = password, str(uuid.uuid4())
                return self._session(email)
            case "POST", "/auth/v1/token?grant_type=password":
                email, password = request.arguments["email"], request.arguments["password"]
                if self._known.get(email, ("", ""))[0] != password:
                    return answer(400, json.dumps({"error_code": "invalid_credentials"}))
                return self._session(email)
        return None

    def _session(self, email: str) -> bytes:
        user_id = self._known[email][1]
        session = {
            "access_token": self.token(user_id, email=email),
            "token_type": "bearer",
            "expires_in": 3600,
            "refresh_token": secrets.token_urlsafe(9),
            "user": {"id": user_id, "aud": "authenticated", "email": email},
        }
        return answer(200, json.dumps(session))


class Front:
    """One HTTP/1.1 door before the project at this port, with a memory and with bad days.

    A thread for each connection, which has one of its own to the project behind.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._open: set[socket.socket] = set()
        self._waiting: set[socket.socket] = set()
        self._hung_up = 0
        self._stopped = threading.Event()
        self._port = 0
        self._accept()
        self.url = f"http://127.0.0.1:{self._port}"
        self.accounts = Accounts(self.url)
        self.forget()

    def forget(self) -> None:
        """Well again, and nothing is remembered."""
        self.rule: Rule = lambda _: None
        self.turnover: int | None = None
        """A connection is closed after so many answers, without a word of warning."""
        self.asked: list[str] = []
        self.connections = 0
        self.at_once = self.most_at_once = 0

    @property
    def lines(self) -> int:
        """How many connections there are now."""
        return len(self._open)

    def meet(self, *faults: Fault, of: str | None = None) -> None:
        """The next requests meet these, one each; with `of`, the next for this function."""
        left = list(faults)
        self.rule = lambda request: left.pop(0) if left and of in (None, request.name) else None

    def always(self, fault: Fault) -> None:
        self.rule = lambda _: fault

    def hang_up(self) -> None:
        """Close every connection that waits for its next request, or will when it is answered."""
        with self._lock:
            self._hung_up += 1
            for each in self._waiting:
                _shut(each)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody gets a connection, and those who have one lose it."""
        self._listener.close()
        self._accepting.join()
        with self._lock:
            for each in self._open:
                _shut(each)
        try:
            yield
        finally:
            self._accept()

    def close(self) -> None:
        self._stopped.set()
        with self.refusing():
            while self._threads:
                self._threads.pop().join()
        self._listener.close()
        self._accepting.join()

    def _accept(self) -> None:
        self._listener = _Listener(self._port)
        self._port = self._listener.port
        self._accepting = threading.Thread(target=self._take, args=(self._listener,), daemon=True)
        self._accepting.start()

    def _take(self, listener: "_Listener") -> None:
        while (caller := listener.accept()) is not None:
            thread = threading.Thread(target=self._serve, args=(caller,), daemon=True)
            with self._lock:
                self.connections += 1
                self._open.add(caller)
                self._threads = {each for each in self._threads if each.is_alive()} | {thread}
                thread.start()

    def _serve(self, caller: socket.socket) -> None:
        behind = _Behind(self._behind)
        try:
            with caller.makefile("rb") as said, suppress(OSError):
                served, before = 0, self._hung_up
                while served != self.turnover and (request := self._next(caller, said, before)):
                    with self._lock:
                        before = self._hung_up
                        self.asked.append(request.name)
                        self.at_once += 1
                        self.most_at_once = max(self.most_at_once, self.at_once)
                        fault = self.rule(request) or Fault()
                    try:
                        if not self._answer(caller, behind, request, fault):
                            return
                    finally:
                        with self._lock:
                            self.at_once -= 1
                    served += 1
        finally:
            behind.close()
            with self._lock:
                self._open.discard(caller)
                caller.close()

    def _next(self, caller: socket.socket, said: BinaryIO, before: int) -> Request | None:
        with self._lock:
            if self._hung_up != before:
                return None
            self._waiting.add(caller)
        try:
            first = said.readline()
        finally:
            with self._lock:
                self._waiting.discard(caller)
        return _read_request(first, said) if first else None

    def _answer(
        self, caller: socket.socket, behind: "_Behind", request: Request, fault: Fault
    ) -> bool:
        """Whether the connection goes on."""
        self._stopped.wait(fault.seconds)
        said = fault.says
        if fault.carried_out:
            done = self.accounts.answer(request) or behind.ask(request.raw)
            said = said or done
        if fault.again is not None:
            threading.Timer(fault.again, self._deliver, (request.raw,)).start()
        self._stopped.wait(fault.late_seconds)
        whole = said or b""
        if fault.reset:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault.pace:
            for place in range(len(whole)):
                caller.sendall(whole[place : place + 1])
                if self._stopped.wait(fault.pace):
                    break
            return True
        caller.sendall(whole[: fault.length])
        return fault.length is None

    def _deliver(self, raw: bytes) -> None:
        behind = _Behind(self._behind)
        try:
            behind.ask(raw)
        finally:
            behind.close()


class _Listener:
    """A listening socket whose accept ends when it is closed."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port: int = self._socket.getsockname()[1]

    def accept(self) -> socket.socket | None:
        try:
            caller, _ = self._socket.accept()
        except OSError:
            return None
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return caller

    def close(self) -> None:
        _shut(self._socket)
        self._socket.close()


class _Behind:
    """A connection to the project itself, made when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._used_at = 0.0

    def ask(self, raw: bytes) -> bytes:
        """The project's whole answer; 502 where it gives none."""
        try:
            line = self._line()
            line.sendall(raw)
            with line.makefile("rb") as said:
                whole = _read_answer(said)
            self._used_at = time.monotonic()
        except OSError:
            self.close()
            return answer(502, "")
        return whole

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _line(self) -> socket.socket:
        if self._socket is not None and time.monotonic() - self._used_at > STALE_SECONDS:
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), BEHIND_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket


def _read_request(first: bytes, said: BinaryIO) -> Request:
    """Raises ConnectionError where it ends too early: its caller was killed in the middle."""
    head, headers = _read_head(first, said)
    length = int(headers.get("content-length", 0))
    body = said.read(length)
    if len(body) < length:
        raise ConnectionError  # lite would wait five minutes for the rest
    method, path, _ = first.decode().split(" ", 2)
    return Request(method, path, headers, body, head + body)


def _read_answer(said: BinaryIO) -> bytes:
    """As it came, chunks and all."""
    first = said.readline()
    head, headers = _read_head(first, said)
    if first.split()[1] in (b"204", b"304"):
        return head
    if headers.get("transfer-encoding") != "chunked":
        if "content-length" not in headers:
            raise ConnectionError  # lite lost its own way to the database
        return head + said.read(int(headers["content-length"]))
    parts = [head]
    while True:
        parts.append(size := said.readline())
        parts.append(said.read(int(size, 16) + 2))
        if int(size, 16) == 0:
            return b"".join(parts)


def _read_head(first: bytes, said: BinaryIO) -> tuple[bytes, dict[str, str]]:
    """Raises ConnectionError where it ends too early."""
    lines = [first]
    while lines[-1] != b"\r\n":
        if not lines[-1].endswith(b"\r\n"):
            raise ConnectionError
        lines.append(said.readline())
    pairs = (line.decode("latin-1").strip().split(": ", 1) for line in lines[1:-1])
    return b"".join(lines), {name.lower(): value for name, value in pairs}


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Unknown"
