"""Callers who have heard their first words and wait: streams that are open and say nothing."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.load import WrongStream
from benchmarks.order import Order

SILENCE = 300_000_000
"""Microseconds to the second delta: longer than anything that is measured meanwhile."""
PATIENCE = 30.0


def silent(first: int, number: int) -> list[Order]:
    """Orders of one word now and one much later, under names of their own."""
    return [Order(f"h{each:05}", 2, SILENCE) for each in range(first, first + number)]


@contextmanager
def held(port: int, requests: Sequence[tuple[Order, bytes]]) -> Iterator[list[bytes]]:
    """Each call has brought its first words, which are yielded, and is hung up on after the block.

    Raises WrongStream where they are not what was ordered.
    """
    heard = []
    with ExitStack() as stack:
        for order, request in requests:
            caller = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            stack.enter_context(caller)
            caller.sendall(request)
            received = b""
            while f"{order.name}.0@".encode() not in received:
                if not (some := caller.recv(65536)):
                    raise WrongStream(f"{order.name}: {received[:400]!r}")
                received += some
            heard.append(received)
        yield heard
