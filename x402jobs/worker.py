"""gunicorn's gevent worker, which waits for no dripping body and stays until all is told."""

import json
import os
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import (  # type: ignore[import-untyped]
    ChunkMissingTerminator,
    InvalidChunkExtension,
    InvalidChunkSize,
)
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

BODY_SECONDS = 15.0
"""From the moment a body is waited for to its end, however it comes."""
WRITE_SECONDS = 10
"""A caller who does not take one event, or any other piece of an answer, in this time is left."""
LOOK_SECONDS = 0.5


class Body:
    """The socket of one request, as gunicorn reads its body from it: with one limit for all of it.

    A limit for each read would wait for ever on who sends a byte now and then. This costs nothing
    where the body has come with the head, and neither timer nor thread where it has not.
    """

    def __init__(self, sock: socket.socket, request: Any) -> None:
        self._sock = sock
        self._request = request
        self._until: float | None = None

    def recv(self, size: int) -> bytes:
        """Raises TimeoutError when the time is up. Where the next request would begin is unknown
        then: the connection ends with this one's answer.
        """
        patience, now = self._sock.gettimeout(), time.monotonic()
        self._until = self._until or now + BODY_SECONDS
        left = self._until - now
        try:
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            return self._sock.recv(size)
        except TimeoutError:
            self._request.force_close()
            raise
        finally:
            self._sock.settimeout(patience)


class Outlet:
    """The caller's socket, as gunicorn writes its answer on it: what fits goes out in one `send`.

    gevent's `sendall` first asks the system for the size of its buffer, and looks at the clock
    twice: a twentieth of the CPU that an event takes.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def sendall(self, data: bytes) -> None:
        """Raises TimeoutError for a caller who does not take it in time."""
        try:
            sent = self._sock.send(data, 0, 0.0)  # gevent's third: wait for nothing
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._sock.sendall(data[sent:])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


SENTENCES = {
    414: "The address is too long. Send the values in the body of a POST.",
    431: "The request has too many headers, or one that is too long.",
    500: "Execution failed. Please try again.",
    501: "A body is taken as it is or chunked, in no other transfer coding.",
}
AFTERWARDS = (ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize)
MALFORMED = "The request is not well-formed HTTP/1.1."


class Overheard:
    """The socket of a request that gunicorn refuses: what it would say to it is kept here."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.said = b""

    def sendall(self, data: bytes) -> None:
        """Keep it."""
        self.said += data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Worker(GeventWorker):  # type: ignore[misc]
    """Of ours it may import nothing else: see gunicorn.conf.py."""

    asked_to_end: float | None = None

    @property
    def closing_seconds(self) -> float:
        """gunicorn lets callers in for up to a second after it was asked to end. Until then, and
        until their request has come, they are served like any other; of a short grace period that
        is a quarter.
        """
        return float(min(2.0, self.cfg.graceful_timeout / 4))

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM, from an operator or from a master that has started another worker."""
        super().handle_exit(sig, frame)
        self.asked_to_end = self.asked_to_end or time.monotonic()

    @property
    def takes_requests(self) -> bool:
        """Whether somebody may have just been let in, who has to be served."""
        if self.alive or self.asked_to_end is None:
            return bool(self.alive)
        return time.monotonic() - self.asked_to_end < self.closing_seconds

    def handle_request(
        self, listener_name: Any, req: Any, sock: socket.socket, addr: Any
    ) -> object:
        """Answer one request. What of its body nobody has read is read, and thrown away, by
        gunicorn afterwards, for as long as `keepalive` at most.
        """
        sock.settimeout(WRITE_SECONDS)
        req.unreader.sock = Body(sock, req)
        try:
            return super().handle_request(listener_name, req, Outlet(sock), addr)
        finally:
            req.unreader.sock = sock

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Say gunicorn's own refusals in the shape of ours: its HTML would quote the request.

        What is malformed in a body nobody has read is found after the answer: the connection ends.
        """
        if isinstance(exc, AFTERWARDS):
            return
        overheard = Overheard(client)
        super().handle_error(req, overheard, addr, exc)
        if not overheard.said:
            return
        line = overheard.said.partition(b"\r\n")[0]
        status, request_id = int(line.split()[1]), f"req_{os.urandom(12).hex()}"
        code = "UNKNOWN" if status == 500 else "INVALID_REQUEST"
        body = {"error": SENTENCES.get(status, MALFORMED), "code": code, "requestId": request_id}
        said = json.dumps(body).encode() + b"\n"
        head = (
            f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(said)}"
            f"\r\nCache-Control: no-store\r\nX-Request-Id: {request_id}\r\n\r\n"
        )
        self.log.warning("Refused with %d: %s", status, request_id)
        with suppress(OSError):
            client.settimeout(1)  # who does not take this line is not waited for
            client.sendall(line + b"\r\n" + head.encode() + said)

    def run(self) -> None:
        """Serve. gunicorn's own returns, once asked to end, when the last connection has gone.

        A paid run goes on without any, as long as the grace period lasts; the caretaker ends those
        that do not get ready in time.
        """
        super().run()
        runs = self.wsgi.extensions["x402jobs"].runs
        until = time.monotonic() + self.cfg.graceful_timeout
        while not runs.are_over and time.monotonic() < until:
            self.notify()
            time.sleep(LOOK_SECONDS)  # gevent has patched it
