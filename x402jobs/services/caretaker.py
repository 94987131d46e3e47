"""What every worker does beside its requests: beat, recover, purge, drain (spec/money.md)."""

from collections.abc import Callable
from threading import Event, Thread

import structlog

from x402jobs.domain.errors import StoreUnavailable
from x402jobs.ports import Clock, Ledger
from x402jobs.services.recovery import Recovery
from x402jobs.services.runs import Runs

BEAT_SECONDS = 5.0
PURGE_SECONDS = 600.0
LOOK_SECONDS = 0.5
DRAIN_MARGIN_SECONDS = 5.0
"""So long before the server's patience ends the runs that are left are ended in good order."""

log = structlog.get_logger(__name__)


class Caretaker:
    """Two threads: a recovery may wait for a facilitator, and no beat may wait for a recovery."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        recovery: Recovery,
        runs: Runs,
        clock: Clock,
        worker: str,
        check_ring: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_ring` raises StoreUnavailable where the key ring is not the store's."""
        self._ledger = ledger
        self._recovery = recovery
        self._runs = runs
        self._clock = clock
        self._worker = worker
        self._check_ring = check_ring
        self._stopped = Event()

    def start(self, is_alive: Callable[[], bool], grace_seconds: float) -> None:
        """Begin. `is_alive` says whether the server takes requests; `grace_seconds` is how long it
        waits for open ones once it does not.

        The first beat is given here, before the first request: a claim of a worker that nobody has
        ever seen would soon be anybody's.
        """
        self._try("beat", lambda: self._ledger.beat(self._worker))
        for name, tend in {
            "beat": lambda: self._beat(is_alive, grace_seconds),
            "recovery": self._recover,
        }.items():
            Thread(target=tend, name=f"caretaker-{name}", daemon=True).start()

    def stop(self) -> None:
        """End both threads, soon."""
        self._stopped.set()

    def _beat(self, is_alive: Callable[[], bool], grace_seconds: float) -> None:
        next_beat, drain_at = self._clock.monotonic() + BEAT_SECONDS, None
        while not self._stopped.wait(LOOK_SECONDS):
            now = self._clock.monotonic()
            if now >= next_beat:
                self._try("beat", lambda: self._ledger.beat(self._worker))
                next_beat = now + BEAT_SECONDS
            if drain_at is None and not is_alive():
                log.info("draining")
                self._runs.refuse_new()
                drain_at = now + max(0.0, grace_seconds - DRAIN_MARGIN_SECONDS)
            if drain_at is not None and now >= drain_at:
                self._runs.drain()

    def _recover(self) -> None:
        next_purge = self._clock.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            self._try("recovery", self._take_over)
            if self._clock.monotonic() >= next_purge:
                self._try("purge", lambda: self._ledger.purge(self._clock.now()))
                next_purge = self._clock.monotonic() + PURGE_SECONDS

    def _take_over(self) -> None:
        """A worker with another key ring than the store's could decide nothing of what it took."""
        self._check_ring()
        self._recovery.round()

    def _try(self, what: str, tend: Callable[[], object]) -> None:
        """Whatever happens, the next turn comes."""
        try:
            tend()
        except StoreUnavailable:
            log.error("caretaker_without_store", reason=what)
        except Exception:
            log.exception("caretaker_broke", reason=what)
