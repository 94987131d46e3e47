"""Callers that only listen: bytes and arrival times are kept now and judged after the clock."""

import asyncio
import json
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from benchmarks.order import Order

_END = b"\r\n0\r\n\r\n"
_BEGUN = re.compile(r"\w+\.0@(\d+) ")
_DUE = re.compile(r"@(\d+) ")


class WrongStream(Exception):
    """A stream was not what had been ordered."""


@dataclass
class Recording:
    """Everything one caller received, and when (byte count so far, microseconds)."""

    order: Order
    received: bytearray = field(default_factory=bytearray)
    sizes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Heard:
    """A stream found right: how many text events it came in, and each delta's delay in ms."""

    events: int
    delays: Sequence[float]


class _Caller(asyncio.Protocol):
    def __init__(self, request: bytes, recording: Recording) -> None:
        self._request = request
        self._recording = recording
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        recording = self._recording
        recording.times.append(time.monotonic_ns() // 1000)
        recording.received += data
        recording.sizes.append(len(recording.received))
        if recording.received.endswith(_END):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _itself(caller: _Caller) -> _Caller:
    return caller


async def play(
    port: int, requests: Sequence[tuple[Order, bytes]], ramp: float, patience: float
) -> list[Recording]:
    """Send every request, evenly over `ramp` seconds, and listen to all until they have ended.

    What has not ended `patience` seconds after the last request is given back as it is.
    """
    loop = asyncio.get_running_loop()
    recordings = [Recording(order) for order, _ in requests]
    begun, ends = loop.time(), []
    transports: list[asyncio.Transport] = []
    try:
        for number, (recording, (_, request)) in enumerate(zip(recordings, requests, strict=True)):
            await asyncio.sleep(begun + ramp * number / len(requests) - loop.time())
            caller = _Caller(request, recording)
            transport, _ = await loop.create_connection(partial(_itself, caller), "127.0.0.1", port)
            transports.append(transport)
            ends.append(caller.ended)
        await asyncio.wait(ends, timeout=patience)
    finally:
        for transport in transports:
            transport.close()
    return recordings


Dialect = Callable[[Any], str | None]
"""The text in an event, "" for none, None for the end of the answer."""


def relayed(event: Any) -> str | None:
    """What the product and the naive relay say."""
    match event["type"]:
        case "text":
            return str(event["content"])
        case "done":
            return None
    raise WrongStream(f"a {event['type']} event: {event.get('code')}")


def upstream(event: Any) -> str | None:
    """What Claude says."""
    match event["type"]:
        case "content_block_delta":
            return str(event["delta"]["text"])
        case "message_stop":
            return None
    return ""


def judge(recording: Recording, dialect: Dialect) -> Heard:
    """Compare a stream with its order, byte for byte. Raises WrongStream."""
    order, text, delays, events, done = recording.order, "", list[float](), 0, False
    for arrived, event in _events(recording):
        if done:
            raise WrongStream(f"{order.name}: words after the end")
        said = dialect(event)
        done = said is None
        if said:
            text += said
            events += 1
            delays += [(arrived - int(due)) / 1000 for due in _DUE.findall(said)]
    begun = _BEGUN.match(text)
    if begun is None or text != order.text(int(begun[1])):
        raise WrongStream(f"{order.name}: the text differs after {len(text)} characters")
    if not done:
        raise WrongStream(f"{order.name}: no end of the answer")
    return Heard(events, delays)


def _events(recording: Recording) -> Iterator[tuple[int, Any]]:
    """Each event's data, and when the chunk it ended in was there."""
    rest = b""
    for end, payload in chunks(recording):
        *events, rest = (rest + payload).split(b"\n\n")
        arrived = recording.times[bisect_left(recording.sizes, end)]
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(b"data: "):
                    yield arrived, json.loads(line[6:])
    if rest:
        raise WrongStream(f"{recording.order.name}: ends inside an event")


def chunks(recording: Recording) -> Iterator[tuple[int, bytes]]:
    """Each chunk of the body, and where it ends in what was received."""
    name, received = recording.order.name, bytes(recording.received)
    head, _, _ = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise WrongStream(f"{name}: {received[:400]!r}")
    place = len(head) + 4
    while True:
        digits, newline, _ = received[place : place + 20].partition(b"\r\n")
        if not newline:
            raise WrongStream(f"{name}: cut off after {len(received)} bytes")
        size, place = int(digits, 16), place + len(digits) + 2
        if size == 0:
            return
        end = place + size
        if received[end : end + 2] != b"\r\n":
            raise WrongStream(f"{name}: cut off after {len(received)} bytes")
        yield end, received[place:end]
        place = end + 2
