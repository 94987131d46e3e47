"""The machine's clock."""

import time


class SystemClock:
    """ports.Clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
