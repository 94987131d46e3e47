"""The caller's socket: still there? too slow?"""

import select
import socket
from typing import Any

from x402jobs.domain.errors import CallerLeft

WRITE_SECONDS = 10
"""A caller who does not take one event in this time is not followed any longer."""


class SocketLine:
    """ports.Line over the connection a request came in on.

    gunicorn offers the socket as `gunicorn.socket`. A server that does not leaves callers
    unwatched: `gone` is then always false.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._socket: socket.socket | None = environ.get("gunicorn.socket")
        if self._socket is not None:
            self._socket.settimeout(WRITE_SECONDS)

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
