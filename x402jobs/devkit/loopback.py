"""A listener for stand-ins on loopback, which can end every conversation at once."""

import socket
import socketserver
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Generic, TypeVar

Owner = TypeVar("Owner")


class Loopback(socketserver.ThreadingTCPServer, Generic[Owner]):
    """A thread for each connection. Handlers find whom they answer for as `server.owner`."""

    allow_reuse_address = True
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 1024

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], owner: Owner
    ) -> None:
        self.owner = owner
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler)
        self._accepting = threading.Thread(target=self.serve_forever, args=(0.01,))

    def start(self) -> tuple[str, int]:
        """Begin to answer; the address, whose port may have been any free one."""
        self._accepting.start()
        host, port = self.server_address[:2]
        return str(host), port

    def stop(self) -> None:
        """Close every connection and wait for every thread."""
        self.stopping.set()
        self.shutdown()
        self._accepting.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # its reader was faster
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a reset between two requests
            super().handle_error(request, client_address)
