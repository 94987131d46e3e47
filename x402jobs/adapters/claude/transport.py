"""Connections to Claude on which any thread can hang up at any moment.

The httpx2 client shows a connection's socket only once the response's headers are there, so a call
that is still connecting or waiting could not be ended. httpcore2 lets us bring the sockets
ourselves; everything else about HTTP stays its business.
"""

import os
import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from errno import EINPROGRESS
from threading import Lock
from time import monotonic
from typing import Any, Protocol

import httpcore2
import httpx2

KEEPALIVE_CONNECTIONS = 100
KEEPALIVE_SECONDS = 15.0
GLANCE_MILLISECONDS = 20
"""How often a call that is connecting looks whether somebody hung up.

`shutdown` ends a connect on Linux, but not one that is about to start, and not on other systems.
"""


class Call:
    """One call, which may be hung up on and has a limit on its whole length.

    Holds a socket while the socket works for it, and no longer: a connection that has gone back to
    the pool belongs to the next call.
    """

    def __init__(self) -> None:
        self.closed = False
        self._until = float("inf")
        self._socket: socket.socket | None = None
        self._lock = Lock()

    def limit(self, seconds: float) -> None:
        """End in `seconds` from now, unless an earlier end is set already."""
        self._until = min(self._until, monotonic() + seconds)

    def within(self, seconds: float | None) -> float:
        """`seconds`, or less if the call ends sooner. Raises TimeoutError when it has ended."""
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError
        return left if seconds is None else min(left, seconds)

    def hold(self, sock: socket.socket) -> None:
        """Let `sock` work for this call. Raises ConnectionAbortedError after a hang-up."""
        with self._lock:
            if self.closed:
                raise ConnectionAbortedError
            self._socket = sock

    def let_go(self) -> None:
        """From here on a hang-up touches no socket."""
        with self._lock:
            self._socket = None

    def hang_up(self) -> None:
        """End whatever the call waits for, in any thread."""
        with self._lock:
            self.closed = True
            if self._socket is not None:
                _shut(self._socket)


speaking: ContextVar[Call] = ContextVar("speaking")
"""The call in whose name this thread or greenlet uses the transport."""


class Line(httpcore2.NetworkStream):
    """A connection. It works for whichever call last wrote on it."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._socket = sock
        self._call = call

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _said_as(httpcore2.ReadTimeout, httpcore2.ReadError):
            self._socket.settimeout(self._call.within(timeout))
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._call = speaking.get()
        # httpcore2 forgives a WriteError and waits for a response all the same; to a call that was
        # hung up on before it wrote, none would come.
        with _said_as(httpcore2.WriteTimeout, httpcore2.NetworkError):
            self._call.hold(self._socket)
        with _said_as(httpcore2.WriteTimeout, httpcore2.WriteError):
            self._socket.settimeout(self._call.within(timeout))
            self._socket.sendall(buffer)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "Line":
        sock = self._socket
        try:
            with _said_as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                # The handshake comes after `hold`, and not inside `wrap_socket`: that empties the
                # socket it is given, and until it returns nobody could hang up on the new one.
                sock = ssl_context.wrap_socket(
                    sock, server_hostname=server_hostname, do_handshake_on_connect=False
                )
                self._call.hold(sock)
                sock.settimeout(self._call.within(timeout))
                sock.do_handshake()
        except BaseException:
            self._call.let_go()
            sock.close()
            raise
        return Line(sock, self._call)

    def close(self) -> None:
        self._call.let_go()
        _shut(self._socket)  # closing alone would leave a read in another thread where it is
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                # httpcore2 asks it which protocol was negotiated; the socket knows that too.
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "is_readable":  # on an idle connection: Claude has closed it
                return self._is_readable()
        return None

    def _is_readable(self) -> bool:
        """Asked of every idle connection at every call: gevent's poll would cost half a call."""
        self._socket.settimeout(0)
        try:
            # Not SSLSocket's own, which takes no flags.
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


class Exchange(httpcore2.NetworkBackend):
    """Makes connections for the call that is speaking."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> Line:
        """Try each address of `host` in turn, each for `timeout` seconds.

        Looking up the name is the system's business: it alone cannot be hung up on.
        """
        call = speaking.get()
        with _said_as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            *others, last = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            for address in others:
                with suppress(OSError):
                    return Line(_dial(call, address, timeout), call)
            return Line(_dial(call, last, timeout), call)


class Transport(httpx2.BaseTransport):
    """HTTP/1.1 over `Line`s.

    Raises httpcore2's exceptions as they are; `faults.translate` is their only reader.
    """

    def __init__(self, ssl_context: ssl.SSLContext) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,  # the server limits its own work; waiting here would be hidden
            max_keepalive_connections=KEEPALIVE_CONNECTIONS,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=Exchange(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        response = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            status_code=response.status,
            # The client is shared: one creator's cookies must not travel with another's key.
            headers=[pair for pair in response.headers if pair[0].lower() != b"set-cookie"],
            stream=_Body(response.stream, speaking.get()),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Parts(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class _Body(httpx2.SyncByteStream):
    def __init__(self, parts: Any, call: Call) -> None:
        self._parts: _Parts = parts
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def close(self) -> None:
        # In this order: closing the parts may hand the connection to the next call at once.
        self._call.let_go()
        self._parts.close()


def _dial(
    call: Call,
    address: tuple[socket.AddressFamily, socket.SocketKind, int, str, Any],
    timeout: float | None,
) -> socket.socket:
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


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # not connected any more
        # Not SSLSocket's own: it first drops its TLS state, under the feet of a blocked reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


@contextmanager
def _said_as(timeout: type[Exception], broken: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout from error
    except OSError as error:
        raise broken from error
