"""Whether the facilitator may be asked: what it supports, and whether it has been answering."""

from collections.abc import Callable, Iterable
from threading import Lock

import structlog

from x402jobs import metrics
from x402jobs.ports import Clock

log = structlog.get_logger(__name__)

FAILURES = 3
"""So many in a row and the facilitator is down (spec/money.md)."""
PAUSE_SECONDS = 5.0
"""Between two questions of what it supports, and from going down to the first of them."""


class Availability:
    """Kept by whoever comes, and by who watches in the background, where somebody does. Any thread
    may come.

    `ask` returns the ids of the networks the facilitator supports, or raises whatever happens.
    """

    def __init__(self, ask: Callable[[], Iterable[str]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._supported: frozenset[str] = frozenset()
        self._failures = 0
        self._is_heard = False
        """Whether the last question of what it supports was answered."""
        self._ask_at: float | None = None
        self._asking = Lock()
        self._counting = Lock()

    def covers(self, network: str) -> bool:
        """Whether payments on the network can be taken now. May ask, once; never raises."""
        if not self._is_known_to_cover(network):
            self._ask_again()
        return self._is_known_to_cover(network)

    def watch(self) -> frozenset[str] | None:
        """What the facilitator supports, as it says now; None where it does not answer.

        For one who comes every few seconds, whatever happens: from then on nobody who wants to pay
        waits for this question, and a facilitator that is back is asked to take payments at once.
        While it is well it is asked no more often than by those who would come for it; in between
        the answer is what it said last.
        """
        is_well = self._is_heard and self._failures < FAILURES
        if is_well and self._ask_at is not None and self._clock.monotonic() < self._ask_at:
            return self._supported
        return self._ask_now()

    def answered(self) -> None:
        """Note an answer. Once it is down, only saying what it supports brings it back."""
        with self._counting:
            if self._failures < FAILURES:
                self._failures = 0

    def failed(self) -> None:
        """Note that there was no answer, or one that means nothing."""
        with self._counting:
            self._failures += 1
            if self._failures != FAILURES:
                return
            self._ask_at = self._clock.monotonic() + PAUSE_SECONDS
        metrics.FACILITATOR_DOWN.set(1)
        log.error("facilitator_down")

    def _is_known_to_cover(self, network: str) -> bool:
        return self._failures < FAILURES and network in self._supported

    def _ask_again(self) -> None:
        # The first who come wait for the first of all to be told; later on nobody waits for anybody
        # else's question, which may take as long as its time limit.
        if not self._asking.acquire(blocking=self._ask_at is None):
            return
        try:
            if self._ask_at is not None and self._clock.monotonic() < self._ask_at:
                return
            self._ask_now()
        finally:
            self._asking.release()

    def _ask_now(self) -> frozenset[str] | None:
        try:
            supported, kind = frozenset(self._ask()), ""
        except Exception as error:
            supported, kind = None, type(error).__name__
        if supported is None:
            log.warning("supported_unanswered", exception_type=kind)
            self._is_heard = False
            self.failed()
        else:
            self._know(supported)
        self._ask_at = self._clock.monotonic() + PAUSE_SECONDS
        return supported

    def _know(self, supported: frozenset[str]) -> None:
        with self._counting:
            was_down = self._failures >= FAILURES
            # Whoever goes on answering this, and verifies nothing, is to go down all the same.
            if was_down or not self._is_heard:
                self._failures = 0
            self._supported, self._is_heard = supported, True
        metrics.FACILITATOR_DOWN.set(0)
        if was_down:
            log.warning("facilitator_back")
