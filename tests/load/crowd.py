"""Callers, many at once: bytes and arrival times are kept now and judged afterwards."""

import asyncio
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from benchmarks.load import Recording, WrongStream, chunks, judge, relayed
from benchmarks.order import Order

_END = b"\r\n0\r\n\r\n"
_FIRST = b"data: "


class _Caller(asyncio.Protocol):
    def __init__(self, request: bytes, recording: Recording) -> None:
        self._request = request
        self._recording = recording
        self._ended = asyncio.Event()

    async def listen(self) -> None:
        await self._ended.wait()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        recording = self._recording
        recording.times.append(time.monotonic_ns() // 1000)
        recording.received += data
        recording.sizes.append(len(recording.received))
        if recording.received.endswith(_END):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


class Crowd:
    """Callers in a thread of their own, who begin evenly over `ramp` seconds.

    Whoever has not ended `patience` seconds after the last one began is left as they are.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[tuple[Order, bytes]],
        ramp: float = 0.0,
        patience: float = 600.0,
    ) -> None:
        self.recordings = [Recording(order) for order, _ in requests]
        self._port = port
        self._requests = [request for _, request in requests]
        self._ramp = ramp
        self._patience = patience
        self._thread = Thread(target=lambda: asyncio.run(self._play()), daemon=True)
        self.unconnected = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Hang up, all who are left."""
        self._patience = 0
        self._thread.join(60)

    def end(self) -> list[Recording]:
        """What was received, when everybody has ended."""
        self._thread.join()
        return self.recordings

    @property
    def begun(self) -> int:
        """How many have heard their first event."""
        return sum(_FIRST in each.received[:4096] for each in self.recordings)

    async def _play(self) -> None:
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        waits: list[asyncio.Task[None]] = []
        transports: list[asyncio.BaseTransport] = []
        for number, (recording, request) in enumerate(
            zip(self.recordings, self._requests, strict=True)
        ):
            due = begun + self._ramp * number / len(self._requests)
            await asyncio.sleep(due - time.monotonic())
            caller = _Caller(request, recording)
            try:
                transport, _ = await loop.create_connection(
                    lambda caller=caller: caller, "127.0.0.1", self._port
                )
            except OSError:
                self.unconnected += 1
                continue
            transports.append(transport)
            waits.append(asyncio.create_task(caller.listen()))
        last = time.monotonic()
        while waits and time.monotonic() - last < self._patience:
            _, pending = await asyncio.wait(waits, timeout=0.2)
            waits = list(pending)
        for transport in transports:
            transport.abort()  # type: ignore[attr-defined]
        for wait in waits:
            wait.cancel()


@dataclass(frozen=True)
class Verdict:
    """How a stream ended: `done`, the code of its terminal error, or what was wrong with it."""

    ending: str
    delays: Sequence[float] = ()
    events: int = 0

    @property
    def is_whole(self) -> bool:
        return self.ending == "done"


def verdict(recording: Recording) -> Verdict:
    """Byte for byte what was ordered, or one terminal error after the beginning of that."""
    try:
        heard = judge(recording, relayed)
        return Verdict("done", heard.delays, heard.events)
    except WrongStream as wrong:
        last = _last_event(recording)
        if last.get("type") == "error" and _is_beginning(recording):
            return Verdict(str(last.get("code")))
        return Verdict(f"wrong: {str(wrong).partition(': ')[2].rstrip('0123456789')}"[:100])


def _last_event(recording: Recording) -> dict[str, Any]:
    events = _events(recording)
    errors = [each for each in events if each["type"] == "error"]
    return events[-1] if events and len(errors) == 1 else {}


def _events(recording: Recording) -> list[dict[str, Any]]:
    """Every whole event; none where the body has no proper end."""
    try:
        body = b"".join(payload for _, payload in chunks(recording))
    except WrongStream:
        return []
    blocks = [each for each in body.split(b"\n\n") if each.startswith(b"data: ")]
    return [json.loads(each.removeprefix(b"data: ")) for each in blocks]


def _is_beginning(recording: Recording) -> bool:
    said = "".join(each["content"] for each in _events(recording) if each["type"] == "text")
    begun = int(said.partition("@")[2].partition(" ")[0] or 0)
    return recording.order.text(begun).startswith(said)


def digest(recordings: Sequence[Recording]) -> str:
    """SHA-256 over the SHA-256 of every whole stream's text, as Claude said it."""
    whole = hashlib.sha256()
    for recording in recordings:
        said = "".join(each["content"] for each in _events(recording) if each["type"] == "text")
        begun = int(said.partition("@")[2].partition(" ")[0] or 0)
        heard, told = (
            hashlib.sha256(each.encode()).digest() for each in (said, recording.order.text(begun))
        )
        whole.update(heard if heard == told else b"")
    return whole.hexdigest()


def unzipped(recording: Recording) -> Recording:
    """The same stream as its reader sees it, who undoes the compression as it comes."""
    head, _, _ = bytes(recording.received).partition(b"\r\n\r\n")
    if b"\r\ncontent-encoding: gzip" not in head.lower():
        return recording
    plain, inflate = Recording(recording.order), zlib.decompressobj(31)
    plain.received += head + b"\r\n\r\n"
    for end, payload in chunks(recording):
        arrived = next(
            time for size, time in zip(recording.sizes, recording.times, strict=True) if size >= end
        )
        text = inflate.decompress(payload)
        if text:
            plain.received += b"%x\r\n%b\r\n" % (len(text), text)
            plain.sizes.append(len(plain.received))
            plain.times.append(arrived)
    plain.received += b"0\r\n\r\n"
    return plain


@dataclass(frozen=True)
class Reply:
    """A whole reply, and how long it took in seconds; status 0 is none at all."""

    status: int
    code: str
    retry_after: str | None
    seconds: float

    @property
    def is_deliberate(self) -> bool:
        """Whether a program knows what it means and when to come back."""
        return self.status == 503 and self.code == "UNAVAILABLE" and self.retry_after is not None

    def __str__(self) -> str:
        return f"{self.status} {self.code}".strip()


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """One call on a connection of its own."""
    began = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        said = reply.read()
    except (OSError, HTTPException) as error:
        return Reply(0, type(error).__name__, None, time.monotonic() - began)
    finally:
        connection.close()
    code = ""
    with suppress(ValueError, AttributeError):
        code = json.loads(said).get("code", "")
    seconds = time.monotonic() - began
    if reply.status == 200 and b"data: " in said:
        code = "done" if b'"type":"done"' in said else "cut"
    return Reply(reply.status, code, reply.getheader("Retry-After"), seconds)


class Traffic:
    """Calls in turn, one after the other in each of several threads, until it is left."""

    def __init__(self, calls: Sequence[Callable[[], Reply]], hands: int = 2, pause: float = 0.05):
        self.replies: list[Reply] = []
        self._calls = calls
        self._pause = pause
        self._over = Event()
        self._threads = [Thread(target=self._go, args=[n], daemon=True) for n in range(hands)]

    def _go(self, number: int) -> None:
        while not self._over.wait(self._pause):
            self.replies.append(self._calls[number % len(self._calls)]())
            number += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(70)


def percentiles(seconds: Sequence[float]) -> str:
    """p50, p99 and the longest, in milliseconds."""
    ranked = sorted(seconds)
    if not ranked:
        return "none"
    p50, p99 = (ranked[min(len(ranked) - 1, int(len(ranked) * part))] for part in (0.5, 0.99))
    return f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {ranked[-1] * 1e3:.0f} ms"
