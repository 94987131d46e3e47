"""What every worker does beside its requests: beat, recover, purge, drain (spec/money.md)."""

from collections.abc import Callable
from threading import Event, Thread

import structlog

from x402jobs import metrics
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.ports import Clock, Ledger
from x402jobs.services.recovery import Recovery
from x402jobs.services.runs import Runs

BEAT_SECONDS = 5.0
PURGE_SECONDS = 600.0
MATTERS_SECONDS = 30.0
"""Between two looks at what the gauges tell of the ledger."""
LOOK_SECONDS = 0.5
DRAIN_MARGIN_SECONDS = 5.0
DRAIN_SECONDS_A_RUN = 0.03
"""So long before the server's patience ends the runs that are left are ended in good order: each of
them has a row to be written and a last event to be said, and with hundreds that takes its time.
"""

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
        next_beat, ends_at = self._clock.monotonic() + BEAT_SECONDS, None
        while not self._stopped.wait(LOOK_SECONDS):
            now = self._clock.monotonic()
            if now >= next_beat:
                self._try("beat", lambda: self._ledger.beat(self._worker))
                next_beat = now + BEAT_SECONDS
            if ends_at is None and not is_alive():
                log.info("draining")
                metrics.DRAINING.set(1)
                self._runs.refuse_new()
                ends_at = now + grace_seconds
            margin = DRAIN_MARGIN_SECONDS + DRAIN_SECONDS_A_RUN * self._runs.left
            if ends_at is not None and now >= ends_at - margin:
                self._runs.drain()

    def _recover(self) -> None:
        next_purge = next_matters = self._clock.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            self._try("recovery", self._take_over)
            if self._clock.monotonic() >= next_matters:
                self._try("open matters", self._tell_matters)
                next_matters = self._clock.monotonic() + MATTERS_SECONDS
            if self._clock.monotonic() >= next_purge:
                self._try("purge", lambda: self._ledger.purge(self._clock.now()))
                next_purge = self._clock.monotonic() + PURGE_SECONDS

    def _take_over(self) -> None:
        """A worker with another key ring than the store's could decide nothing of what it took."""
        self._check_ring()
        self._recovery.round()

    def _tell_matters(self) -> None:
        """Every worker tells the same, and who looks hears whoever was last."""
        matters = self._ledger.open_matters()
        metrics.REFUNDS_DUE.set(matters.refund_due)
        metrics.UNKNOWN_SETTLEMENTS.set(matters.settling)
        metrics.OLDEST_UNKNOWN_SETTLEMENT.set(matters.oldest_settling_seconds)
        metrics.LEDGER_SEEN.set(self._clock.now())

    def _try(self, what: str, tend: Callable[[], object]) -> None:
        """Whatever happens, the next turn comes."""
        try:
            tend()
        except StoreUnavailable:
            log.error("caretaker_without_store", reason=what)
        except Exception:
            log.exception("caretaker_broke", reason=what)
