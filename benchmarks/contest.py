"""One measurement: a relay is asked for streams, all are compared, and its CPU is read."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import uvloop

from benchmarks.load import Dialect, judge, play, relayed, upstream
from benchmarks.order import Order
from benchmarks.processes import Service, Usage, usage
from benchmarks.shop import post

INTERVAL = 20_000
"""Microseconds from one delta of a stream to its next: 50 a second."""
RAMP = 2.02
"""Seconds over which the streams of one measurement begin. Not a hundred intervals: the deltas of a
hundred streams would all be due at the same moment, and wait for each other."""
WAITED = 0.25
"""The rule for dropping a round, fixed beforehand: in one of its measurements the server or the
callers were ready to run for more than this part of the time while somebody else had their core.
The kernel counts it; being slow oneself is not waiting.
"""
LATE = 1.25
"""How many times nominal the upstream alone may take before its load proves nothing."""
LEAST_HEADROOM = 2.0
"""How many times the paced rate the upstream must reach unpaced; below, it could be the limit."""

BURST = 100_000
"""Deltas that the upstream says as fast as it can, all streams together, to show that rate."""

Requests = Callable[[Sequence[Order]], Sequence[tuple[Order, bytes]]]


@dataclass(frozen=True)
class Contestant:
    """A relay, and how it is asked."""

    name: str
    service: Service
    fake: Service
    requests: Requests
    dialect: Dialect = relayed


@dataclass(frozen=True)
class Figures:
    """One measurement, every stream of it complete and right."""

    deltas: int
    events: int
    streams: int
    wall: float
    nominal: float
    server: Usage
    load: Usage
    fake: Usage
    delay: float
    """Of the middle delta, in ms after it was due."""
    slowest: float
    """The same of the 99th in a hundred."""

    @property
    def per_delta(self) -> float:
        """Microseconds of server CPU for each delta delivered, the calls' own cost included."""
        return self.server.cpu / self.deltas * 1e6

    @property
    def per_call(self) -> float:
        """Milliseconds of server CPU for each call."""
        return self.server.cpu / self.streams * 1e3

    @property
    def waited(self) -> float:
        """The part of the time in which server or callers waited for their core.

        The callers share theirs with the upstream; what they wait for that is our own doing.
        """
        return max(self.server.waited, self.load.waited - self.fake.cpu) / self.wall

    def __str__(self) -> str:
        return (
            f"{self.wall:5.1f} s of {self.nominal:5.1f}{self.server.cpu / self.wall:6.0%} of a core"
            f"{self.waited:5.0%} waited{self.delay:7.1f} ms p50{self.slowest:7.1f} p99"
            f"{self.per_delta:9.1f} us/delta{self.per_call:8.2f} ms/call"
            f"{self.events / self.deltas:7.3f} events/delta"
        )


def measure(contestant: Contestant, orders: Sequence[Order], ramp: float) -> Figures:
    """Play the orders; CPU is read just before the first request and just after the last byte.

    Raises WrongStream when one byte of one answer is not what was ordered.
    """
    requests = contestant.requests(orders)
    nominal = max(
        ramp * number / len(orders) + order.due(order.deltas - 1, 0) / 1e6
        for number, order in enumerate(orders)
    )
    service, fake = contestant.service, contestant.fake
    before = service.usage(), usage([os.getpid()]), fake.usage()
    begun = time.monotonic()
    recordings = uvloop.run(play(service.port, requests, ramp, patience=20 + 5 * nominal))
    after = service.usage(), usage([os.getpid()]), fake.usage()
    heard = [judge(recording, contestant.dialect) for recording in recordings]
    delays = sorted(delay for each in heard for delay in each.delays)
    return Figures(
        deltas=sum(order.deltas for order in orders),
        events=sum(each.events for each in heard),
        streams=len(orders),
        wall=max(each.times[-1] for each in recordings) / 1e6 - begun,
        nominal=nominal,
        server=after[0].since(before[0]),
        load=after[1].since(before[1]),
        fake=after[2].since(before[2]),
        delay=median(delays),
        slowest=delays[len(delays) * 99 // 100],
    )


def orders_of(streams: int, deltas: int, interval: int = INTERVAL) -> list[Order]:
    """One order a stream, each under its own name."""
    return [Order(f"s{number:04}", deltas, interval) for number in range(streams)]


def direct(fake: Service) -> Contestant:
    """The upstream with nothing between it and the callers."""
    return Contestant(
        "direct",
        fake,
        fake,
        lambda orders: [(order, post("/v1/messages", order)) for order in orders],
        upstream,
    )


def check_upstream(
    fake: Service, streams: int, deltas: int, ramp: float = RAMP, burst: int = BURST
) -> bool:
    """Show what the upstream and the callers can do with nothing between them."""
    paced = measure(direct(fake), orders_of(streams, deltas), ramp)
    at_once = measure(direct(fake), orders_of(streams, burst // streams, 0), 0.0)
    rate, needed = at_once.deltas / at_once.wall, streams * 1e6 / INTERVAL
    busy = (paced.server.cpu + paced.load.cpu) / paced.wall
    print(
        f"direct, paced: {paced.wall:.1f} s of {paced.nominal:.1f} nominal, p50 delay "
        f"{paced.delay:.2f} ms, p99 {paced.slowest:.1f} ms, upstream and callers {busy:.0%} of a "
        f"core\ndirect, unpaced: {rate:,.0f} deltas/s, {rate / needed:.1f} times the "
        f"{needed:,.0f} needed",
        flush=True,
    )
    return rate >= LEAST_HEADROOM * needed and paced.wall < LATE * paced.nominal


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    middle, low, high = median(values), min(values), max(values)
    return f"{middle:,.{digits}f} [{low:,.{digits}f}-{high:,.{digits}f}]"
