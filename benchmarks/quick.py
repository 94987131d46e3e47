"""CPU per relayed delta: the product and a naive relay, in turns, over one fast upstream.

`python -m benchmarks.quick`; benchmarks/README.md tells what the figures mean.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contest import (
    INTERVAL,
    RAMP,
    WAITED,
    Contestant,
    Figures,
    check_upstream,
    measure,
    orders_of,
    spread,
)
from benchmarks.load import WrongStream
from benchmarks.processes import ProcessFailed
from benchmarks.stage import stage

GOAL = 0.65
LEAST_ROUNDS = 3


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
    cores = len(os.sched_getaffinity(0))
    print(
        f"{cores} cores, Python {platform.python_version()}, load average "
        f"{os.getloadavg()[0]:.2f} before the start\n"
        f"{streams} streams of {deltas} deltas, {1e6 / INTERVAL:.0f} a second each, "
        f"begun over {RAMP:.0f} s; servers on one core, upstream and callers on "
        f"{'another' if cores > 1 else 'the same: expect noise'}"
    )
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="x402jobs-bench-"))
        here = stack.enter_context(stage(Path(directory)))
        if not check_upstream(here.fake, streams, deltas):
            print("no result: the upstream alone is too slow for this load")
            return False

        shop = here.shop()
        product = here.selling("product", stack.enter_context(here.product(shop)), shop)
        naive = here.asking("naive", stack.enter_context(here.relay("naive")))
        for contestant in (product, naive):
            measure(contestant, orders_of(streams, 5), 1.0)  # imports, connections, tables

        print(f"\nround  server   wall s    core  waited   p50 ms  events  us/delta{'':4}")
        played = [play_round(each + 1, product, naive, streams, deltas) for each in range(rounds)]
    print(f"{shop.signed} calls paid, every stream complete; load average {os.getloadavg()[0]:.2f}")
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
