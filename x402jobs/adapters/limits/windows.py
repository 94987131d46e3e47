"""Fixed windows of time, as the `limits` library counts them, wherever it keeps the counts."""

from collections.abc import Callable, Mapping
from functools import cached_property

from limits import RateLimitItem, parse_many
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from x402jobs import metrics
from x402jobs.ports import Clock

OFF = "off"


class Windows:
    """Each limit by its name, with its rules; one that is off counts nothing."""

    def __init__(
        self, rules: Mapping[str, str], clock: Clock, storage: Callable[[], Storage]
    ) -> None:
        self._clock = clock
        self._storage = storage
        self._items: dict[str, list[RateLimitItem]] = {
            name: parse_many(rule) if rule != OFF else [] for name, rule in rules.items()
        }

    @cached_property
    def _limiter(self) -> FixedWindowRateLimiter:
        """Made on first use, in whichever process that is: a storage starts a thread, or dials."""
        return FixedWindowRateLimiter(self._storage())

    def hit(self, limit: str, key: str) -> float | None:
        """Count one, as ports.Limits says. Raises whatever the storage does."""
        for item in self._items[limit]:
            if not self._limiter.hit(item, limit, key):
                metrics.LIMITED.labels(limit).inc()
                opens = self._limiter.get_window_stats(item, limit, key).reset_time
                return max(1.0, opens - self._clock.now())
        return None
