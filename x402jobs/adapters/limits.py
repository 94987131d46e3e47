"""Rate limits in this process's memory, counted by the `limits` library."""

from functools import cached_property

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from x402jobs.ports import Clock

LIMITS = {
    "owner_test": "10 per minute; 100 per day",
    "free_template": "30 per minute",
    "failed_credential": "20 per minute",
    "task": "10 per 5 minutes",
    "session": "20 per minute",
    "api_key": "20 per hour",
}
"""The numbers of spec/identity.md where it has one."""


class MemoryLimits:
    """ports.Limits for a single process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: dict[str, list[RateLimitItem]] = {
            name: parse_many(rule) for name, rule in LIMITS.items()
        }

    @cached_property
    def _limiter(self) -> FixedWindowRateLimiter:
        """Made on first use, in whichever process that is: its storage starts a thread."""
        return FixedWindowRateLimiter(MemoryStorage())

    def hit(self, limit: str, key: str) -> float | None:
        for item in self._items[limit]:
            if not self._limiter.hit(item, limit, key):
                opens = self._limiter.get_window_stats(item, limit, key).reset_time
                return max(1.0, opens - self._clock.now())
        return None
