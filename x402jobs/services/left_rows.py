"""Rows this worker has begun and could not bring to an end."""

from dataclasses import dataclass
from threading import Lock

from x402jobs.domain.execution import Execution
from x402jobs.ports import Clock


@dataclass(frozen=True)
class _Left:
    attempt: int
    at: float


class LeftRows:
    """Whoever has to give a row up says so here; Recovery comes for it.

    In memory: should this process end, its rows are found because it no longer beats.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, _Left] = {}
        self._unasked: dict[str, int] = {}
        self._lock = Lock()

    def leave(self, execution: Execution, pause: float = 0.0) -> None:
        """Give up a row at this attempt, to be looked at after so many seconds.

        Said of an older attempt than is known here it changes nothing: whoever was overtaken by
        this worker's own recovery must not hide the row that it has left since.
        """
        with self._lock:
            known = self._rows.get(execution.id)
            if known is None or known.attempt <= execution.attempt:
                at = self._clock.monotonic() + pause
                self._rows[execution.id] = _Left(execution.attempt, at)

    def leave_unasked(self, execution: Execution, pause: float = 0.0) -> None:
        """Give up a row that may be `settling` by now, and whose money nobody has been asked for.

        Only whoever would have asked can know that: another worker has to take it for a settlement
        whose outcome was lost.
        """
        with self._lock:
            self._unasked[execution.id] = execution.attempt
        self.leave(execution, pause)

    def is_unasked(self, taken: Execution) -> bool:
        """Whether this is such a row, taken since and by nobody else in between."""
        with self._lock:
            return self._unasked.get(taken.id) == taken.attempt - 1

    def ended(self, execution_id: str) -> None:
        """The row has come to its end: should its payer come again, it is another matter."""
        with self._lock:
            self._unasked.pop(execution_id, None)

    def due(self) -> dict[str, int]:
        """Attempts by id of the rows whose time has come."""
        now = self._clock.monotonic()
        with self._lock:
            return {id: left.attempt for id, left in self._rows.items() if left.at <= now}

    def forget(self, taken: dict[str, int]) -> None:
        """These have been taken, or were nobody's to take."""
        with self._lock:
            for id, attempt in taken.items():
                if id in self._rows and self._rows[id].attempt == attempt:
                    del self._rows[id]
