"""Limits on waits that come again for every delta, without a timer for every wait.

A timer is started and stopped around each timed wait: gevent's cost a fifth of the CPU that a delta
takes (docs/decisions/0018). An alarm is set once, for all waits of a stream; each wait only puts it
off, which is an assignment. One thread looks at the one that is due next.
"""

import os
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from threading import Event, Lock, RLock, Thread
from time import monotonic

import structlog

SHORTEST_SECONDS = 0.01
"""One that rang for ever at once would leave no time for anybody else."""
FEW = 100
"""Cancelled alarms that may lie about until it is their time, however few wait beside them."""

log = structlog.get_logger(__name__)


class Alarm:
    """Rings when so many seconds have passed since it was last put off, and after as many again."""

    __slots__ = ("_alarms", "_seconds", "due", "ring")

    def __init__(self, alarms: "Alarms", seconds: float, ring: Callable[[], object]) -> None:
        self._alarms = alarms
        self._seconds = max(seconds, SHORTEST_SECONDS)
        self.ring: Callable[[], object] | None = ring
        self.put_off()

    def put_off(self) -> None:
        """Count from now."""
        self.due = monotonic() + self._seconds

    def cancel(self) -> None:
        """It does not ring any more, and has not half rung when this returns."""
        self._alarms.cancel(self)


class Alarms:
    """All of a process. Any thread may set one.

    `ring` is called in a thread of theirs, one at a time, and returns at once. What it raises is
    logged.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._next: list[tuple[float, int, Alarm]] = []
        """A heap, by when to look. What was put off since is looked at too early, once."""
        self._set = 0
        self._cancelled = 0
        self._ringing = RLock()
        self._sooner = Event()
        self._is_watched = False

    def set(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        """An alarm that rings in so many seconds unless it is put off or cancelled."""
        alarm = Alarm(self, seconds, ring)
        with self._lock:
            self._push(alarm)
            if not self._is_watched:
                self._is_watched = True
                Thread(target=self._watch, name="alarms", daemon=True).start()
            elif self._next[0][2] is alarm:
                self._sooner.set()
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """See Alarm. When more than half of all are cancelled, those are thrown away."""
        if alarm.ring is None:
            return
        with self._ringing:
            alarm.ring = None
        with self._lock:
            self._cancelled += 1
            if self._cancelled > max(FEW, len(self._next) // 2):
                self._next = [each for each in self._next if each[2].ring is not None]
                heapify(self._next)
                self._cancelled = 0

    def _push(self, alarm: Alarm) -> None:
        self._set += 1
        heappush(self._next, (alarm.due, self._set, alarm))

    def _watch(self) -> None:
        """Look at each in its time, until there are none."""
        while True:
            self._sooner.clear()
            with self._lock:
                if not self._next:
                    self._is_watched = False
                    return
                at, _, alarm = self._next[0]
                if (left := at - monotonic()) <= 0:
                    heappop(self._next)
            if left > 0:
                self._sooner.wait(left)
                continue
            with self._ringing:
                if alarm.ring is not None and alarm.due <= monotonic():
                    _let(alarm.ring)
                    alarm.put_off()
            with self._lock:
                if alarm.ring is None:
                    self._cancelled = max(0, self._cancelled - 1)
                else:
                    self._push(alarm)


def _let(ring: Callable[[], object]) -> None:
    try:
        ring()
    except Exception:  # the others' waits would never end
        log.exception("alarm_broke")


ALARMS = Alarms()

# A child has neither the thread nor anybody who waits; its lock may have been taken in the parent.
# Emptied in its place, by the name everybody has imported: mypy warns of `__init__` on an instance.
os.register_at_fork(after_in_child=ALARMS.__init__)  # type: ignore[misc]


class Bell:
    """A threading.Event whose wait also ends after a silence of so many seconds."""

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._rung = Event()
        self._is_silent = False
        self._alarm: Alarm | None = None

    def set(self) -> None:
        """End the wait, or the next one."""
        self._rung.set()

    def clear(self) -> None:
        """What has rung until now does not count."""
        self._rung.clear()

    def wait(self) -> bool:
        """Wait for `set`: true, or false after the silence."""
        self._is_silent = False
        if self._alarm is None:
            self._alarm = ALARMS.set(self._silence, self._end_wait)
        else:
            self._alarm.put_off()
        self._rung.wait()
        return not self._is_silent

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _end_wait(self) -> None:
        self._is_silent = True
        self._rung.set()
