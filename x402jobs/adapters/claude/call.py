"""A call to Claude, on which any thread can hang up at any moment."""

import socket
from contextlib import suppress
from contextvars import ContextVar
from threading import Lock
from time import monotonic

from x402jobs.alarms import ALARMS, Alarm


class Call:
    """One call, which may be hung up on and has a limit on its whole length.

    Holds a socket while the socket works for it, and no longer: a connection that has gone back to
    the pool belongs to the next call. While it does, every wait on the socket ends with the limits,
    as if somebody had hung up; `late` tells the two apart.
    """

    def __init__(self) -> None:
        self.closed = False
        self.late = False
        self.is_waiting = False
        """Whether a read has begun and not ended: only then is Claude's silence counted."""
        self._until = float("inf")
        self._silence: Alarm | None = None
        self._end: Alarm | None = None
        self._socket: socket.socket | None = None
        self._lock = Lock()

    def limit(self, seconds: float) -> None:
        """End in `seconds` from now, unless an earlier end is set already."""
        until = monotonic() + seconds
        if until < self._until:
            self._until = until
            if self._end is not None:
                self._end.cancel()
                self._end = ALARMS.set(seconds, self._run_out)

    def within(self, seconds: float) -> float:
        """`seconds`, or less if the call ends sooner. Raises TimeoutError when it has ended."""
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, seconds)

    def hold(self, sock: socket.socket) -> None:
        """Let `sock` work for this call. Raises ConnectionAbortedError after a hang-up."""
        with self._lock:
            if self.closed:
                raise ConnectionAbortedError
            self._socket = sock

    def listen(self, silence: float) -> None:
        """From here on no wait lasts longer than `silence` seconds, nor beyond the call's end."""
        self._silence = ALARMS.set(silence, self._break_silence)
        if self._until < float("inf"):
            self._end = ALARMS.set(self._until - monotonic(), self._run_out)

    def heard(self) -> None:
        """Another wait begins. Raises TimeoutError where the last one took too long."""
        if self.late:
            raise TimeoutError
        if self._silence is not None:
            self._silence.put_off()

    def let_go(self) -> None:
        """From here on a hang-up touches no socket."""
        with self._lock:
            self._socket = None
        for alarm in (self._silence, self._end):
            if alarm is not None:
                alarm.cancel()
        self._silence = self._end = None

    def hang_up(self) -> None:
        """End whatever the call waits for, in any thread."""
        with self._lock:
            self.closed = True
            if self._socket is not None:
                shut(self._socket)

    def _break_silence(self) -> None:
        """While nobody reads, a settlement being waited for, Claude may have said anything."""
        if self.is_waiting:
            self._run_out()

    def _run_out(self) -> None:
        """End the wait that takes too long."""
        with self._lock:
            if self._socket is not None:
                self.late = True
                shut(self._socket)


speaking: ContextVar[Call] = ContextVar("speaking")
"""The call in whose name this thread or greenlet uses the transport."""


def shut(sock: socket.socket) -> None:
    """End every wait on the socket, in any thread. Closing alone would leave a read where it is."""
    with suppress(OSError):  # not connected any more
        # Not SSLSocket's own: it first drops its TLS state, under the feet of a blocked reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
