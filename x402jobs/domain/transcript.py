"""What has been said so far and how it ended; any number of followers, no queue."""

from collections.abc import Iterator
from typing import Protocol

from x402jobs.domain.events import Ending

PARTS_AT_ONCE = 256
"""What was missed is joined by so many: a follower that stands still holds a piece, not a copy."""


class Bell(Protocol):
    """What a follower is woken by: an event that is set and cleared, and its wait."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self) -> bool:
        """Until it is set, or for as long as this follower bears silence: false then."""
        ...

    def cancel(self) -> None:
        """Nobody waits any more."""
        ...


class Transcript:
    """Written by one thread, followed by any number, at any time, each from where they like.

    A follower owns one bell and an offset. A Condition costs twice as much, a queue per follower
    keeps a copy of the answer per follower (decision 0003).
    """

    def __init__(self, text: str = "", ending: Ending | None = None) -> None:
        self._parts = [text] if text else []
        self._bells: set[Bell] = set()
        self.ending = ending

    @property
    def text(self) -> str:
        """Everything said so far."""
        return "".join(self._parts)

    @property
    def pieces(self) -> int:
        """In how many pieces it has been said."""
        return len(self._parts)

    def write(self, text: str) -> None:
        """Add to what has been said."""
        self._parts.append(text)
        self._ring()

    def close(self, ending: Ending) -> None:
        """Say how it ended. Nothing is written after this."""
        self.ending = ending
        self._ring()

    def follow(self, bell: Bell, after: int = 0) -> Iterator[str | Ending | None]:
        """Yield the text as it comes, None after each silence that the bell ends, then the end.

        What was missed is joined: a late or slow follower gets few large pieces. The first `after`
        code points are left out; beyond the end of the text there is the ending alone.
        """
        read = 0
        self._bells.add(bell)
        try:
            while True:
                bell.clear()  # before looking: what comes after the look rings again
                ending, written = self.ending, min(len(self._parts), read + PARTS_AT_ONCE)
                if read < written:
                    text = "".join(self._parts[read:written])
                    if len(text) > after:
                        yield text[after:]
                    read, after = written, max(0, after - len(text))
                elif ending is not None:
                    yield ending
                    return
                elif not bell.wait():
                    yield None
        finally:
            self._bells.discard(bell)
            bell.cancel()

    def _ring(self) -> None:
        for bell in tuple(self._bells):
            bell.set()
