"""What may be under way at once in this worker, so that nobody's payments hold up all the others.

Counted here and nowhere else: a paid call asks no Redis (research/reliability.md, P10).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from x402jobs import metrics
from x402jobs.domain.errors import FacilitatorUnavailable, TooManyRequests

BUSY = (
    "Too many payments are being settled right now. Nothing was charged. Please try again shortly, "
    "with the same payment: do not sign a new one."
)
SETTLED_SOON_SECONDS = 2
PAID_SOON_SECONDS = 1


class InFlight:
    """The claims whose money has not moved yet, by payer, and the settlements that move it."""

    def __init__(self, payer_calls: int, settlements: int) -> None:
        self._payer_calls = payer_calls
        self._most_settlements = settlements
        self._claims: dict[str, Counter[str]] = {}
        self._settlements = 0
        self._lock = Lock()

    @contextmanager
    def claim(self, payer: str, claim_key: str) -> Iterator[None]:
        """One call of this payer's, from before its claim until it is paid for, or let go.

        A payment that is presented several times at once is one: the ledger tells them apart.
        Raises TooManyRequests, and FacilitatorUnavailable where no payment could be settled now:
        it is not worth a call of Claude's.
        """
        with self._lock:
            self._check_settlements()
            open_ = self._claims.setdefault(payer, Counter())
            if claim_key not in open_ and len(open_) >= self._payer_calls:
                metrics.LIMITED.labels("payer_calls").inc()
                raise TooManyRequests(
                    f"This payer has {len(open_)} calls open that are not paid yet. Nothing was "
                    "charged. Try again with the same payment when one of them is answered.",
                    retry_after=PAID_SOON_SECONDS,
                )
            open_[claim_key] += 1
        try:
            yield
        finally:
            with self._lock:
                open_[claim_key] -= 1
                if not open_[claim_key]:
                    del open_[claim_key]
                if not open_:
                    del self._claims[payer]

    @contextmanager
    def settlement(self) -> Iterator[None]:
        """One question to the facilitator. Raises FacilitatorUnavailable; nothing has moved."""
        with self._lock:
            self._check_settlements()
            self._settlements += 1
        try:
            yield
        finally:
            with self._lock:
                self._settlements -= 1

    def _check_settlements(self) -> None:
        if self._settlements >= self._most_settlements:
            metrics.LIMITED.labels("settlements").inc()
            raise FacilitatorUnavailable(BUSY, retry_after=SETTLED_SOON_SECONDS)
