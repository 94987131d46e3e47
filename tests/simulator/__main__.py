"""python -m tests.simulator: tell a million histories, replay one, or plant the bugs."""

import argparse
import os
import sys
from time import monotonic

from tests.simulator.mutants import MUTANTS
from tests.simulator.pairs import TABLE
from tests.simulator.run import Shown, replay, tell, tell_all

ENOUGH = 20_000
"""Histories in which a planted bug must have been caught."""


def main() -> int:
    """The exit status: 1 where a check failed, a pair was missed or a bug was not caught."""
    parser = argparse.ArgumentParser(prog="tests.simulator", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every-pair", action="store_true", help="fail where a pair is missed")
    parser.add_argument("--replay", metavar="SEED:N", help="one history, step by step")
    parser.add_argument("--mutant", choices=MUTANTS, help="plant this bug into the replay")
    parser.add_argument("--mutants", action="store_true", help="plant each bug until it is caught")
    asked = parser.parse_args()
    if asked.replay:
        seed, _, number = asked.replay.rpartition(":")
        trace, broken = replay(seed, int(number), asked.mutant)
        print("\n".join(trace))
        return report_breaks(broken)
    if asked.mutants:
        return plant(asked.seed)
    return tell_them(asked)


def tell_them(asked: argparse.Namespace) -> int:
    """All histories, and their figures."""
    shown, began = Shown(), monotonic()
    for part in tell_all(asked.seed, asked.histories, asked.workers):
        shown.add(part)
        if shown.histories % 50_000 == 0:
            print(f"{shown.histories} told, {len(shown.breaks)} broken", file=sys.stderr)
    took, missed = monotonic() - began, sorted(TABLE - shown.pairs)
    for name, count in sorted(shown.counts.items()):
        print(f"{count:>12,}  {name}")
    print(f"seed {asked.seed}: {shown.histories:,} histories in {took:.0f} s,", end=" ")
    print(f"{shown.histories / shown.seconds:,.0f} a second of each processor")
    print(f"{len(TABLE) - len(missed)} of {len(TABLE)} pairs visited", end=" ")
    print(f"({len(shown.pairs - TABLE)} more beyond the table)")
    for state, event in missed:
        print(f"  not visited: {state}, {event}")
    if shown.breaks:
        shortest = min(shown.breaks, key=lambda each: each.turns)
        for name in sorted({each.name for each in shown.breaks}):
            some = [each for each in shown.breaks if each.name == name]
            least = min(some, key=lambda each: each.turns)
            print(f"  BROKEN {len(some)} times: {name}, {asked.seed}:{least.number} ({least.how})")
        print(f"\nThe shortest, {asked.seed}:{shortest.number}:")
        print("\n".join(replay(asked.seed, shortest.number)[0]))
    else:
        bound = 3 / shown.histories
        print(f"0 broken; with 95 % confidence fewer than {bound:.1e} of such histories are")
    return 1 if shown.breaks or (asked.every_pair and missed) else 0


def plant(seed: str) -> int:
    """Each bug in turn: after how many histories which check has caught it."""
    missed = 0
    for name in MUTANTS:
        shown = tell(seed, range(ENOUGH), name, until_broken=True)
        caught = ", ".join(sorted({each.name for each in shown.breaks}))
        print(f"{name}: {caught or 'NOT CAUGHT'} ({shown.histories} histories)", flush=True)
        missed += not caught
    return 1 if missed else 0


def report_breaks(broken: list[str]) -> int:
    """What failed in a replay."""
    print(*broken or ["nothing broken"], sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
