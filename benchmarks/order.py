"""What a prompt asks of the upstream, and the text that must then arrive."""

import re
from dataclasses import dataclass

_WRITTEN = re.compile(rb"order (\w+) (\d+) (\d+)\.")


@dataclass(frozen=True)
class Order:
    """`deltas` pieces of text, one every `interval` microseconds (0: as fast as possible).

    `name` is in every piece, so that words in the wrong stream are noticed.
    """

    name: str
    deltas: int
    interval: int

    def __str__(self) -> str:
        return f"order {self.name} {self.deltas} {self.interval}."

    @classmethod
    def find(cls, request: bytes) -> "Order":
        """The order in a request's body. Raises ValueError when there is none."""
        if (written := _WRITTEN.search(request)) is None:
            raise ValueError("no order in the prompt")
        name, deltas, interval = written.groups()
        return cls(name.decode(), int(deltas), int(interval))

    def due(self, number: int, begun: int) -> int:
        """When a piece is to be said, in microseconds of the machine's monotonic clock."""
        return begun + number * self.interval

    def piece(self, number: int, begun: int) -> str:
        """One delta's text. It holds the moment it was due, so late words are late for the reader
        whoever was to blame.
        """
        return f"{self.name}.{number}@{self.due(number, begun)} "

    def text(self, begun: int) -> str:
        """The whole answer of a stream that began then."""
        return "".join(self.piece(number, begun) for number in range(self.deltas))
