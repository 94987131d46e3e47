"""CPU per relayed delta: the product and a naive relay, in turns, over one fast upstream.

`python -m benchmarks.quick`; benchmarks/README.md tells what the figures mean.
"""

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Dialect, WrongStream, judge, play, relayed, upstream
from benchmarks.order import Order
from benchmarks.processes import (
    ProcessFailed,
    Service,
    Usage,
    free_port,
    gunicorn,
    usage,
)
from benchmarks.shop import Shop, post

GOAL = 0.65
INTERVAL = 20_000
"""Microseconds from one delta of a stream to its next: 50 a second."""
RAMP = 2.0
"""Seconds over which the streams of one measurement begin."""
LEAST_ROUNDS = 3
WAITED = 0.25
"""The rule for dropping a round, fixed beforehand: in one of its two streaming measurements the
server or the callers were ready to run for more than this part of the time while somebody else had
their core. The kernel counts it; being slow oneself is not waiting.
"""
LATE = 1.25
"""How many times nominal the upstream alone may take before its load proves nothing."""
LEAST_HEADROOM = 3.0
"""How many times the paced rate the upstream must reach unpaced; below, it could be the limit."""

Requests = Callable[[Sequence[Order]], Sequence[tuple[Order, bytes]]]


@dataclass(frozen=True)
class Contestant:
    """A relay, and how it is asked."""

    name: str
    service: Service
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
    delay: float

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
        """The part of the time in which server or callers waited for their core."""
        return max(self.server.waited, self.load.waited) / self.wall


@dataclass(frozen=True)
class Round:
    """Both relays, one after the other: whole answers, and answers of one delta."""

    product: Figures
    naive: Figures
    product_call: Figures
    naive_call: Figures

    @property
    def ratio(self) -> float:
        return self.product.per_delta / self.naive.per_delta

    @property
    def starved(self) -> bool:
        """Whether somebody else had a core that was needed (WAITED)."""
        return max(self.product.waited, self.naive.waited) > WAITED


def measure(contestant: Contestant, orders: Sequence[Order], ramp: float) -> Figures:
    """Play the orders; CPU is read just before the first request and just after the last byte.

    Raises WrongStream when one byte of one answer is not what was ordered.
    """
    requests = contestant.requests(orders)
    nominal = max(
        ramp * number / len(orders) + order.due(order.deltas - 1, 0) / 1e6
        for number, order in enumerate(orders)
    )
    before, load, begun = contestant.service.usage(), usage([os.getpid()]), time.monotonic()
    port = contestant.service.port
    recordings = asyncio.run(play(port, requests, ramp, patience=20 + 5 * nominal))
    server = contestant.service.usage().since(before)
    load = usage([os.getpid()]).since(load)
    heard = [judge(recording, contestant.dialect) for recording in recordings]
    return Figures(
        deltas=sum(order.deltas for order in orders),
        events=sum(each.events for each in heard),
        streams=len(orders),
        wall=max(each.times[-1] for each in recordings) / 1e6 - begun,
        nominal=nominal,
        server=server,
        load=load,
        delay=median(delay for each in heard for delay in each.delays),
    )


def orders_of(streams: int, deltas: int, interval: int = INTERVAL) -> list[Order]:
    """One order a stream, each under its own name."""
    return [Order(f"s{number:04}", deltas, interval) for number in range(streams)]


def check_upstream(fake: Service, streams: int, deltas: int) -> bool:
    """Show what the upstream and the callers can do with nothing between them."""

    def ask(orders: Sequence[Order]) -> list[tuple[Order, bytes]]:
        return [(order, post("/v1/messages", order)) for order in orders]

    direct = Contestant("direct", fake, ask, upstream)
    paced = measure(direct, orders_of(streams, deltas), RAMP)
    burst = measure(direct, orders_of(streams, 10 * deltas, 0), 0.0)
    rate, needed = burst.deltas / burst.wall, streams * 1e6 / INTERVAL
    busy = (paced.server.cpu + paced.load.cpu) / paced.wall
    print(
        f"direct, paced: {paced.wall:.1f} s of {paced.nominal:.1f} nominal, p50 delay "
        f"{paced.delay:.2f} ms, upstream and callers {busy:.0%} of a core\n"
        f"direct, unpaced: {rate:,.0f} deltas/s, {rate / needed:.0f} times the {needed:,.0f} needed"
    )
    return rate >= LEAST_HEADROOM * needed and paced.wall < LATE * paced.nominal


def play_round(
    number: int, product: Contestant, naive: Contestant, streams: int, deltas: int
) -> Round:
    """One round, told line by line."""
    whole, short = orders_of(streams, deltas), orders_of(streams, 1)
    found: list[Figures] = []
    for orders in (whole, short):
        for contestant in (product, naive):
            figures = measure(contestant, orders, RAMP)
            found.append(figures)
            if orders is whole:
                print(
                    f"{number:5}  {contestant.name:8}{figures.wall:7.1f}"
                    f"{figures.server.cpu / figures.wall:8.0%}"
                    f"{figures.waited:8.0%}{figures.delay:9.1f}"
                    f"{figures.events / figures.deltas:8.2f}{figures.per_delta:10.0f}",
                    flush=True,
                )
    done = Round(found[0], found[1], found[2], found[3])
    verdict = "dropped: kept waiting for a core" if done.starved else f"ratio {done.ratio:.2f}"
    print(
        f"{'':7}one delta a call: product {done.product_call.per_call:.1f} ms, "
        f"naive {done.naive_call.per_call:.1f} ms; {verdict}",
        flush=True,
    )
    return done


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    middle, low, high = median(values), min(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def further(whole: Figures, call: Figures) -> float:
    """Microseconds for each delta after a call's first."""
    return (whole.server.cpu - call.server.cpu) / (whole.deltas - call.deltas) * 1e6


def conclude(rounds: Sequence[Round]) -> bool:
    """The table and the last line; whether there were enough rounds to say anything."""
    valid = [each for each in rounds if not each.starved]
    dropped = len(rounds) - len(valid)
    if len(valid) < LEAST_ROUNDS:
        print(
            f"\nno result: {len(valid)} valid rounds, {LEAST_ROUNDS} needed; {dropped} dropped, "
            "because somebody else had the core"
        )
        return False
    rows: list[tuple[str, int, list[float], list[float]]] = [
        (
            "CPU per delta, whole calls, us",
            0,
            [each.product.per_delta for each in valid],
            [each.naive.per_delta for each in valid],
        ),
        (
            "CPU of a call with one delta, ms",
            1,
            [each.product_call.per_call for each in valid],
            [each.naive_call.per_call for each in valid],
        ),
        (
            "CPU of each further delta, us",
            0,
            [further(each.product, each.product_call) for each in valid],
            [further(each.naive, each.naive_call) for each in valid],
        ),
        (
            "p50 delay of a delta, ms",
            1,
            [each.product.delay for each in valid],
            [each.naive.delay for each in valid],
        ),
    ]
    print(f"\n{'median [range]':34}{'product':>18}{'naive':>18}{'ratio':>19}")
    for title, digits, ours, theirs in rows:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{title:34}{spread(ours, digits):>18}{spread(theirs, digits):>18}"
            f"{spread(ratios, 2):>19}"
        )
    ratios = [each.ratio for each in valid]
    print(
        f"\nratio product / naive  median {median(ratios):.2f} "
        f"[{min(ratios):.2f}-{max(ratios):.2f}] over {len(valid)} rounds ({dropped} dropped); "
        f"goal <= {GOAL}: {'met' if median(ratios) <= GOAL else 'MISSED'}"
    )
    return True


def run(rounds: int, streams: int, deltas: int) -> bool:
    """Start everything, measure, end everything."""
    cores = sorted(os.sched_getaffinity(0))
    server_cores, load_cores = (cores[:1], cores[1:2]) if len(cores) > 1 else (cores, cores)
    os.sched_setaffinity(0, load_cores)
    print(
        f"{len(cores)} cores, Python {platform.python_version()}, load average "
        f"{os.getloadavg()[0]:.2f} before the start\n"
        f"server on core {server_cores[0]}, upstream and callers on core {load_cores[0]}"
        f"{'' if len(cores) > 1 else ' (the same one: expect noise)'}\n"
        f"{streams} streams of {deltas} deltas, {1e6 / INTERVAL:.0f} a second each, "
        f"begun over {RAMP:.0f} s"
    )
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="x402jobs-bench-")))
        port = free_port()
        fake = stack.enter_context(
            Service(
                "upstream",
                ["benchmarks.upstream", str(port)],
                port,
                load_cores,
                directory / "upstream.log",
            )
        )
        if not check_upstream(fake, streams, deltas):
            print("no result: the upstream alone is too slow for this load")
            return False

        shop = Shop.open(directory)
        claude = {
            "CLAUDE_URL": f"http://127.0.0.1:{port}",
            "X402JOBS_DATA": str(shop.data),
            "PAYER_CALLS_AT_ONCE": "100000",  # one wallet is the whole crowd's
        }
        ours = gunicorn(
            "product", ["-c", "gunicorn.conf.py", "wsgi:app"], server_cores, directory, claude
        )
        theirs = gunicorn(
            "naive",
            ["-c", "gunicorn.conf.py", "benchmarks.naive:app"],
            server_cores,
            directory,
            claude,
        )
        for service in (ours, theirs):
            stack.enter_context(service).await_health()
        product = Contestant("product", ours, lambda orders: shop.requests(ours.port, orders))
        naive = Contestant(
            "naive", theirs, lambda orders: [(order, post("/relay", order)) for order in orders]
        )
        for contestant in (product, naive):
            measure(contestant, orders_of(streams, 5), 1.0)  # imports, connections, tables

        print(f"\nround  server   wall s    core  waited   p50 ms  events  us/delta{'':4}")
        played = [play_round(each + 1, product, naive, streams, deltas) for each in range(rounds)]
        paid = (1 + 2 * rounds) * streams
        if (moved := shop.transfers()) != paid:
            print(f"no result: {paid} calls were answered and money moved {moved} times")
            return False
    print(f"{paid} calls paid, every stream complete; load average {os.getloadavg()[0]:.2f}")
    return conclude(played)


def main() -> int:
    """0 when there is a result, whatever it is; 1 when a stream was wrong or a process failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--deltas", type=int, default=200)
    asked = parser.parse_args()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)  # so that every process is ended
    try:
        return 0 if run(asked.rounds, asked.streams, asked.deltas) else 1
    except (WrongStream, ProcessFailed, OSError) as error:
        print(f"\nfailed: {type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted")
    return 1


if __name__ == "__main__":
    sys.exit(main())
