"""Limits in this process's memory: each worker counts for itself."""

from collections.abc import Mapping

from limits.storage import MemoryStorage

from x402jobs.adapters.limits.windows import Windows
from x402jobs.ports import Clock


class MemoryLimits:
    """ports.Limits of a single process."""

    def __init__(self, rules: Mapping[str, str], clock: Clock) -> None:
        self._windows = Windows(rules, clock, MemoryStorage)

    def hit(self, limit: str, key: str) -> float | None:
        return self._windows.hit(limit, key)

    def check(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """It holds nothing."""
