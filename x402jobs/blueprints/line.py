"""The caller's socket: still there? too slow?"""

import select
import socket
from typing import Any

from x402jobs.domain.errors import CallerLeft


class SocketLine:
    """ports.Line over the connection a request came in on.

    gunicorn offers the socket as `gunicorn.socket`. A server that does not leaves callers
    unwatched: `gone` is then always false.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._socket: socket.socket | None = environ.get("gunicorn.socket")

    def gone(self) -> bool:
        """Whether the caller has hung up; half a hang-up counts, as it does for nginx."""
        if self._socket is None:
            return False
        try:
            poll = select.poll()  # select.select fails beyond a thousand open connections
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0)) and self._socket.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True

    def still_there(self) -> None:
        """Raises CallerLeft. The last look before the money moves."""
        if self.gone():
            raise CallerLeft()
