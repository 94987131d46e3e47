"""HTTP/1.1 to Claude over sockets that any thread can shut down at any moment.

The httpx2 client has a socket to show only once the response's headers are there, so a call that is
still connecting or waiting could not be ended. Here the sockets are ours, and what is said on them
is `http.client`'s business: a call costs a quarter less than over httpx2's own connections, whose
whole list is walked through for each (docs/decisions/0018).
"""

import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EINPROGRESS
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from io import BufferedReader, RawIOBase
from threading import Lock
from time import monotonic
from typing import Any
from weakref import WeakSet

import httpx2

from x402jobs.adapters.claude.call import Call, shut, speaking

KEEPALIVE_CONNECTIONS = 100
KEEPALIVE_SECONDS = 15.0
GLANCE_MILLISECONDS = 20
"""How often a call that is connecting looks whether somebody hung up.

`shutdown` ends a connect on Linux, but not one that is about to start, and not on other systems.
"""
WRITE_SECONDS = 10.0
"""Limit on each write of a request; a prompt is at most 200 KB."""
BUFFER_BYTES = 2048
"""Of each open stream. Claude's events are a tenth of it."""


class Line(RawIOBase):
    """A socket, as http.client writes on it and reads from it. It works for one call at a time.

    http.client closes what it is done with; whether the next call gets it is decided here, so that
    `close` means nothing and `end` ends it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._call = Call()
        self.free_since = 0.0

    def work_for(self, call: Call) -> None:
        """Each wait is the call's from here. Raises ConnectionAbortedError after a hang-up."""
        self._call = call
        call.hold(self._socket)

    def sendall(self, data: bytes) -> None:
        """Write it all."""
        self._socket.settimeout(self._call.within(WRITE_SECONDS))
        self._socket.sendall(data)

    def makefile(self, _: str) -> BufferedReader:
        """What one response is read from. The waits for it have no timer each: see alarms.py."""
        self._socket.settimeout(None)
        return BufferedReader(self, BUFFER_BYTES)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, into: Any) -> int:
        """Wait for some bytes; none are the end."""
        call = self._call
        call.heard()
        call.is_waiting = True
        try:
            return self._socket.recv_into(into)
        finally:
            call.is_waiting = False
            if call.late:
                raise TimeoutError

    def close(self) -> None:
        """See above."""

    def let_go(self) -> None:
        """From here on the call that it worked for does not reach it."""
        self._call.let_go()

    def end(self) -> None:
        """Close the socket; nobody waits on it any more."""
        self._call.let_go()
        shut(self._socket)
        self._socket.close()

    @property
    def is_alive(self) -> bool:
        """Whether, idle, it can be used again: Claude has neither closed it nor said anything.

        gevent's poll would cost half a call.
        """
        self._socket.settimeout(0)
        try:
            # Not SSLSocket's own, which takes no flags.
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


class Transport(httpx2.BaseTransport):
    """Requests to one address, each over a line of its own; free ones are kept for a while.

    Raises OSError and http.client's exceptions as they are; `faults.translate` is their reader.
    """

    def __init__(self, url: str, ssl_context: ssl.SSLContext) -> None:
        place = httpx2.URL(url)
        self._host = place.host
        self._port = place.port or (443 if place.scheme == "https" else 80)
        self._ssl_context = ssl_context if place.scheme == "https" else None
        self._free: deque[Line] = deque()
        self._lines: WeakSet[Line] = WeakSet()
        self._lock = Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        call = speaking.get()
        limits = request.extensions["timeout"]
        line = self._kept() or self._dial(call, limits["connect"])
        with self._lock:
            self._lines.add(line)
        try:
            line.work_for(call)
            call.listen(limits["read"])
            connection = HTTPConnection(self._host, self._port)
            connection.sock = line
            path = request.url.raw_path.decode("ascii")
            connection.request(request.method, path, request.read(), dict(request.headers))
            response = connection.getresponse()
        except BaseException:
            line.end()
            raise
        return httpx2.Response(
            response.status,
            # The client is shared: one creator's cookies must not travel with another's key.
            headers=[pair for pair in response.getheaders() if pair[0].lower() != "set-cookie"],
            stream=Body(response, line, self.keep),
        )

    def keep(self, line: Line) -> None:
        """Let the next call have it."""
        line.free_since = monotonic()
        with self._lock:
            self._free.append(line)
            self._end_old_ones()

    def close(self) -> None:
        """Hang up on everything, also on what is being said."""
        with self._lock:
            lines = list(self._lines)
            self._free.clear()
        for line in lines:
            line.end()

    def _kept(self) -> Line | None:
        """The line that has been free for the shortest time, if there is one."""
        with self._lock:
            self._end_old_ones()
            while self._free:
                line = self._free.pop()
                if line.is_alive:
                    return line
                line.end()
        return None

    def _end_old_ones(self) -> None:
        free, oldest = self._free, monotonic() - KEEPALIVE_SECONDS
        while free and (len(free) > KEEPALIVE_CONNECTIONS or free[0].free_since < oldest):
            free.popleft().end()

    def _dial(self, call: Call, seconds: float) -> Line:
        """Try each address of the host in turn, each for so many seconds.

        Looking up the name is the system's business: it alone cannot be hung up on.
        """
        *others, last = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        for address in others:
            with suppress(OSError):
                return self._secured(dial(call, address, seconds), call, seconds)
        return self._secured(dial(call, last, seconds), call, seconds)

    def _secured(self, sock: socket.socket, call: Call, seconds: float) -> Line:
        if self._ssl_context is None:
            return Line(sock)
        try:
            # The handshake comes after `hold`, and not inside `wrap_socket`: that empties the
            # socket it is given, and until it returns nobody could hang up on the new one.
            sock = self._ssl_context.wrap_socket(
                sock, server_hostname=self._host, do_handshake_on_connect=False
            )
            call.hold(sock)
            sock.settimeout(call.within(seconds))
            sock.do_handshake()
        except BaseException:
            call.let_go()
            sock.close()
            raise
        return Line(sock)


class Body(httpx2.SyncByteStream):
    """What one response says, in the pieces it comes in; `keep` gets a line that is free again."""

    def __init__(self, response: HTTPResponse, line: Line, keep: Callable[[Line], None]) -> None:
        self._response = response
        self._line: Line | None = line
        self._keep = keep

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._response.read1(BUFFER_BYTES):
            yield piece
        if self._response.length:  # http.client says so of a chunked body alone
            raise IncompleteRead(b"", self._response.length)

    def close(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        if self._is_whole:
            line.let_go()  # first: whoever gets the line may have it at once
            self._keep(line)
        else:
            line.end()

    @property
    def _is_whole(self) -> bool:
        """Whether the next response would begin here."""
        said = self._response
        return not said.will_close and (said.isclosed() if said.chunked else said.length == 0)


def dial(
    call: Call,
    address: tuple[socket.AddressFamily, socket.SocketKind, int, str, Any],
    timeout: float,
) -> socket.socket:
    """A connection that works for the call from its first moment on."""
    family, kind, protocol, _, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        until = monotonic() + call.within(timeout)
        fault = sock.connect_ex(target)
        watch = select.poll()
        watch.register(sock, select.POLLOUT)
        while fault == EINPROGRESS:
            if call.closed:
                raise ConnectionAbortedError
            if monotonic() >= until:
                raise TimeoutError
            if watch.poll(GLANCE_MILLISECONDS):
                fault = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        watch.unregister(sock)
        if fault:
            raise OSError(fault, os.strerror(fault))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        call.hold(sock)
    except BaseException:
        sock.close()
        raise
    return sock
