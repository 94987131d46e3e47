"""Who drips, and who is one too many: everybody else is served, and they are told."""

import socket
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from threading import Event, Thread
from typing import Self

from benchmarks.shop import PATH
from tests.load.crowd import Crowd, Reply, Traffic, ask, percentiles
from tests.load.site import Report, Site
from tests.waiting import eventually

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\nX-Slow: ".encode()
HEAD_AND_NO_BODY = HEAD + b"\r\n\r\n"
FULL_SECONDS = 0.2
WAVE = 500


class Drippers:
    """So many sockets of which each sends one byte a second, half of them of a head, half of a
    body. Who is cut off comes back.
    """

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._number = number
        self._over = Event()
        self._thread = Thread(target=self._go, daemon=True)
        self.open = 0
        self.cut = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert eventually(lambda: self.open >= self._number * 0.9, 60), self.open
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _go(self) -> None:
        slots: list[socket.socket | None] = [None] * self._number
        while not self._over.is_set():
            began = time.monotonic()
            for number, each in enumerate(slots):
                if each is None:
                    slots[number] = self._open(HEAD if number % 2 else HEAD_AND_NO_BODY)
                elif not _dripped(each):
                    self.cut += 1
                    each.close()
                    slots[number] = None
            self.open = sum(each is not None for each in slots)
            self._over.wait(max(0.05, began + 1 - time.monotonic()))
        for each in slots:
            if each is not None:
                each.close()

    def _open(self, begins: bytes) -> socket.socket | None:
        opened = socket.socket()
        try:
            opened.settimeout(5)
            opened.connect(("127.0.0.1", self._port))
            opened.sendall(begins)
            opened.setblocking(False)
        except OSError:
            opened.close()
            return None
        return opened


def _dripped(caller: socket.socket) -> bool:
    """Send one byte more. False where the server has had enough."""
    try:
        caller.send(b"x")
        caller.recv(4096)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def slow(shop: Site, number: int, seconds: float) -> Report:
    """Slow sockets through nginx, then past it, while others call as ever."""
    report = Report(f"{number} slow sockets")
    calls = [shop.unpaid, shop.paid, lambda: ask(shop.port, "GET", "/healthz")]
    with Traffic(calls) as quiet:
        time.sleep(seconds / 2)
    _told(report, "without any", quiet.replies)
    for name, port in (("through nginx", shop.port), ("past nginx", shop.direct)):
        with Drippers(port, number) as drippers, Traffic(calls) as traffic:
            time.sleep(seconds)
            held = drippers.open
        _told(report, name, traffic.replies)
        report.counts[name] += f"; {held} open, {drippers.cut} cut off meanwhile"
    return report


def _told(report: Report, name: str, replies: list[Reply]) -> None:
    heard = Counter(str(each) for each in replies)
    expected = {"402 PAYMENT_REQUIRED", "200 done", "200"}
    report.expect(f"{name}, nobody else notices", set(heard) <= expected, dict(heard))
    report.counts[name] = f"{dict(heard)}, {percentiles([each.seconds for each in replies])}"


def _has_begun(crowd: Crowd) -> bool:
    return crowd.begun == len(crowd.recordings)


def full(shop: Site, cap: int, asked: int) -> Report:
    """A worker that holds as many streams as it may; others ask all the same."""
    report = Report(f"over a cap of {cap}")
    with ExitStack() as stack:
        crowds = []
        for wave in range(0, cap, WAVE):  # a payment that is signed too long before lapses
            requests = shop.requests(shop.orders(min(WAVE, cap - wave), 20, 600))
            crowd = stack.enter_context(Crowd(shop.port, requests, ramp=len(requests) / 20))
            eventually(partial(_has_begun, crowd), 100)
            crowds.append(crowd)
        held = sum(crowd.begun for crowd in crowds)
        report.expect("every place is taken", held == cap, held)
        over = [shop.unpaid() for _ in range(asked)]
        health = [ask(shop.port, "GET", "/healthz") for _ in range(asked // 4)]
        paid = shop.paid() if shop.quote else over[0]
    heard = Counter(str(each) for each in over)
    report.expect(
        "each is told when to come back",
        all(each.is_deliberate for each in [*over, paid]),
        heard,
    )
    slowest = max(each.seconds for each in over)
    report.expect("within 200 ms", slowest < FULL_SECONDS, f"{slowest:.3f} s")
    report.expect(
        "health is answered",
        all(each.status == 200 for each in health),
        Counter(map(str, health)),
    )
    report.counts = {
        "open": held,
        "refused": f"{dict(heard)}, {percentiles([each.seconds for each in over])}",
        "health": percentiles([each.seconds for each in health]),
    }
    back = eventually(lambda: shop.unpaid().status == 402, 20)
    report.expect("places are free again", bool(back))
    return report
