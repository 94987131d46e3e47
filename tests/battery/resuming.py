"""Connections cut anywhere, by the thousand, and callers who come back each time another way."""

import json
import math
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any

from tests.battery import callers
from tests.battery.callers import PATH
from tests.battery.house import House, Report, Site, house
from tests.battery.money import Presented
from tests.waiting import eventually

WAYS_BACK = (
    "the payment again",
    "?after= and the token",
    "Last-Event-ID and the payment",
    "Last-Event-ID and the token",
    "Last-Event-ID at the events",
)
"""docs/streaming.md, Coming back. The first asks for the whole answer, the others for its rest."""
LETTERS = 'etaoin SHRDLU"\\é\u0301\n\x00\x85\u2028\ufeff字\U0001f327\U00020000'
"""Of one byte on the line or of twelve, and what splits lines: offsets are code points."""
ROOMS = (0, 400, 900, 2500, 8000)
"""A cut comes after at most so many bytes: at once, in the head, in the first events, late."""
COMES_LATER = ("IN_PROGRESS", "UNAVAILABLE")
NOBODY = "found nobody"
PATIENCE_SECONDS = 240


def resuming(
    site: Site,
    seed: int,
    times: int,
    at_once: int = 50,
    slowest: float = 40,
    bug: str | None = None,
) -> Report:
    """So many cuts, the group restarted among them: no gap, no repeat, no second model call.

    `slowest` is the most milliseconds that Claude takes for a piece of an answer's 200 or so.

    A first connection is not cut before its reply's head has come: until the money has moved, who
    leaves has bought nothing (`leavers`). A later one is cut anywhere, before its first byte too.
    """
    report, tally = Report("callers who come back", seed), Tally(times)
    with house(site, seed, workers=1, bug=bug, LOG_LEVEL="ERROR") as shop:
        shop.claude.play = lambda topic: {
            "text": answer_to(topic),
            "deltaMs": random.Random(f"{seed} {topic}").choice((0, slowest / 4, slowest)),
        }

        def live(number: int) -> None:
            rng = random.Random(f"reader {seed} {number}")
            while tally.has_cuts_left:
                Reader(shop, shop.purse.next(), rng, tally, report).read_all()

        with ThreadPoolExecutor(at_once) as crowd:
            lives = [crowd.submit(live, number) for number in range(at_once)]
            try:
                eventually(lambda: tally.counts["cuts"] >= times // 2, 300)
                _restart(shop, tally, report)
            except BaseException:
                tally.close()  # else the crowd goes on before a closed door
                raise
        for each in lives:
            each.result()
        shop.settle_down()
        _judge(shop, report)
        report.violations += shop.violations()
        report.counts = {
            "answers": len(shop.purse.taken),
            **dict(sorted(tally.counts.items())),
            "model calls": sum(shop.claude.asked.values()),
            "transfers": len(shop.transfers()),
        }
    return report


@cache
def answer_to(topic: str) -> str:
    """What Claude says to it, and to no other: letters of all kinds, more than one event holds."""
    rng = random.Random(topic)
    words = ("".join(rng.choices(LETTERS, k=rng.randint(1, 12))) for _ in range(220))
    return f"To {topic}: " + " ".join(words)


class Tally:
    """What has been done so far, by whomever."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._lock = Lock()
        self.counts: Counter[str] = Counter()
        self.starts = 1

    def add(self, *names: str) -> None:
        with self._lock:
            self.counts.update(names)

    def close(self) -> None:
        """No cuts are left."""
        self._times = 0

    @property
    def has_cuts_left(self) -> bool:
        return self.counts["cuts"] < self._times


@dataclass(frozen=True)
class Visit:
    """A connection to be: how many code points it leaves out, whether its events have ids."""

    way: str
    after: int
    ids: bool
    request: tuple[str, str, dict[str, str], bytes | None]


@dataclass
class Reader:
    """Reads one answer to its end, over as many connections as it takes.

    `started` holds which starts of the group it has met.
    """

    shop: House
    payment: Presented
    rng: random.Random
    tally: Tally
    report: Report
    text: str = ""
    execution_id: str | None = None
    token: str = ""
    is_over: bool = False
    started: set[int] = field(default_factory=set)

    def read_all(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.is_over:
            if time.monotonic() > until:
                self._object("every answer has an end: none came")
            else:
                self._come()
        if len(self.started) > 1:
            self.tally.add("over the restart")

    def _come(self) -> None:
        """One connection: read some bytes, and cut it unless the end comes first."""
        visit = self._way_back() if self.execution_id else self._first()
        room = self.rng.randint(0, self.rng.choice(ROOMS)) if self.tally.has_cuts_left else math.inf
        calls = self.shop.claude.calls_of.get(self.payment.topic)
        place = "from the store" if calls and calls[0]["finishedAt"] else "live"
        try:
            connection = callers.ask(self.shop.port, *visit.request)
        except OSError:
            return self._come_later(NOBODY)
        with connection:
            try:
                raw, is_cut = _read(connection, room, whole_head=self.execution_id is None)
            except TimeoutError:
                return self._object(f"nobody is kept waiting: {visit.way}, {place}")
            if is_cut:
                how = self.rng.choice(("FIN", "RST"))
                callers.hang_up(connection, how)
                self.tally.add("cuts", how)
        self.started.add(self.tally.starts)
        if not (raw or is_cut):
            return self._come_later(NOBODY)
        if self.execution_id:
            self.tally.add(visit.way, place)
        return self._hear(visit, raw, is_cut)

    def _first(self) -> Visit:
        ids = self.rng.random() < 0.5
        return Visit("first", 0, ids, self._paid(ids, self.rng.choice(self.payment.wrappings)))

    def _way_back(self) -> Visit:
        way, ids, here = self.rng.choice(WAYS_BACK), self.rng.random() < 0.5, len(self.text)
        events = f"/executions/{self.execution_id}/events"
        token = {"X-Resume-Token": self.token, "Connection": "close"}
        mark = {"Last-Event-ID": f"{self.execution_id}.{here}"}
        payment = self.rng.choice(self.payment.wrappings)
        match WAYS_BACK.index(way):
            case 0:
                return Visit(way, 0, ids, self._paid(ids, payment))
            case 1:
                query = f"?after={here}&sse=ids" if ids else f"?after={here}"
                return Visit(way, here, ids, ("GET", events + query, token, None))
            case 2:
                return Visit(way, here, True, self._paid(ids, payment | mark))
            case 3:
                return Visit(way, here, True, self._paid(ids, token | mark))
            case _:
                return Visit(way, here, True, ("GET", events, token | mark, None))

    def _paid(self, ids: bool, headers: dict[str, str]) -> tuple[str, str, dict[str, str], bytes]:
        path = f"{PATH}?sse=ids" if ids else PATH
        body = json.dumps({"topic": self.payment.topic}).encode()
        return "POST", path, headers | {"Connection": "close"}, body

    def _hear(self, visit: Visit, raw: bytes, is_cut: bool) -> None:
        """Put what has come to what was there."""
        head, complete, body = raw.partition(b"\r\n\r\n")
        if not complete:
            return None if is_cut else self._object(f"heard out: hung up on, {visit.way}")
        status, headers = _head(head)
        if status != 200:
            code = json.loads(body).get("code") if body and not is_cut else None
            if status in (409, 503) and (is_cut or code in COMES_LATER):
                return self._come_later(f"heard {status}")
            return self._object(f"who paid is let in: {status} {code}, {visit.way}")
        if self.execution_id is None:
            self.execution_id, self.token = headers["x-execution-id"], headers["x-resume-token"]
        if headers["x-execution-id"] != self.execution_id:
            return self._object(f"the execution stays the same: another, {visit.way}")
        told = self._listen(visit, body)
        if not answer_to(self.payment.topic).startswith(told):
            return self._object(f"no gap, no repeat: after {visit.after}, {visit.way}")
        self.text = max(self.text, told, key=len)
        if self.is_over and told != answer_to(self.payment.topic):
            return self._object(f"no gap, no repeat: done at {len(told)}, {visit.way}")
        if not (self.is_over or is_cut):
            return self._object(f"heard out: hung up on, {visit.way}")
        return None

    def _listen(self, visit: Visit, body: bytes) -> str:
        """The answer from its beginning to where this connection has told it."""
        told = self.text[: visit.after]
        for name, event in _events(body):
            if self.is_over:
                self._object(f"the end is the end: {event['type']} after it, {visit.way}")
            told += event.get("content", "")
            if name != (f"{self.execution_id}.{len(told)}" if visit.ids else None):
                self._object(f"ids tell the place: {name} at {len(told)}, {visit.way}")
            if event["type"] == "error":
                self._object(f"no debt comes of it: {event['code']}, {visit.way}")
            self.is_over = self.is_over or event["type"] == "done"
        return told

    def _come_later(self, why: str) -> None:
        self.tally.add(why)
        time.sleep(0.1)

    def _object(self, what: str) -> None:
        """A violation; this answer is given up."""
        self.report.violations.append(what)
        self.is_over = True


def _read(connection: socket.socket, room: float, whole_head: bool) -> tuple[bytes, bool]:
    """The bytes that come; True where `room` of them, beyond a whole head, were not all."""
    raw = b""
    while len(raw) < (limit := room + (_end_of_head(raw) if whole_head else 0)):
        try:
            data = connection.recv(1024)
        except ConnectionError:
            data = b""
        if not data:
            return raw, False
        raw += data
    return raw[: int(limit)], True


def _end_of_head(raw: bytes) -> float:
    found = raw.find(b"\r\n\r\n")
    return found + 4 if found >= 0 else math.inf


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (each.partition(": ") for each in lines)
    return int(line.split(" ")[1]), {name.lower(): value for name, _, value in pairs}


def _events(chunks: bytes) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """The whole events among the chunks, each with its id."""
    body = b""
    while size := chunks.partition(b"\r\n")[0]:
        begin, length = len(size) + 2, int(size, 16)
        body += chunks[begin : begin + length]
        chunks = chunks[begin + length + 2 :]
    for block in body.decode("ascii").split("\n\n")[:-1]:
        lines = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        yield fields.get("id"), json.loads(fields["data"])


def _restart(shop: House, tally: Tally, report: Report) -> None:
    """SIGTERM, and a new group: what was being told is told to its end first."""
    process = shop.process
    shop.stop(60)
    if process is None or process.returncode != 0:
        report.violations.append("it ends by itself: it did not")
    shop.start()
    tally.starts += 1


def _judge(shop: House, report: Report) -> None:
    """Bought once, told once by Claude, whatever became of the connections."""
    moved = Counter(transfer.nonce for transfer in shop.transfers())
    for payment in shop.purse.taken:
        calls = shop.claude.asked[payment.topic]
        if (calls, moved[payment.nonce]) != (1, 1):
            report.violations.append(
                f"one model call, one transfer: {calls} calls, {moved[payment.nonce]} transfers"
            )
    for row in shop.rows():
        if (row["state"], row["attempt"], row["reruns"]) != ("completed", 1, 0):
            report.violations.append(f"every run completes: {row['state']}, {row['code']}")
