"""The whole battery: `python -m tests.battery [--seed N] [--scale 0.1] [--store supabase]
[part …]`.

Prints a line for each part, its counts and its seed; ends with status 1 where anything does not
hold. `--scale` multiplies every size.
"""

import argparse
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.battery import changes, kills, leavers, liars, replays, resuming, steps, stopping
from tests.battery.house import HURRIED, Report, Site, timed
from tests.supabase.postgres import postgres

Part = Callable[[Site, int, Callable[[int], int]], Report]

PARTS: Mapping[str, Part] = {
    "replays": lambda at, seed, size: replays.replays(at, seed, size(200), 100, 3),
    "steps": lambda at, seed, size: steps.deaths(at, seed, size(20), workers=4),
    "freezes": lambda at, seed, size: steps.freezes(at, seed, size(10)),
    "liars": lambda at, seed, size: liars.liars(at, seed, size(100)),
    "expires": lambda at, seed, size: liars.expires(at, seed, size(100)),
    "drained": lambda at, seed, size: liars.drained(at, seed, size(200)),
    "changes": lambda at, seed, size: changes.changes(at, seed, size(10)),
    "leavers": lambda at, seed, size: leavers.leavers(at, seed, size(1000)),
    "never-read": lambda at, seed, size: leavers.never_read(at, seed, size(200)),
    "resuming": lambda at, seed, size: resuming.resuming(at, seed, size(2000)),
    "drains": lambda at, seed, size: stopping.drains(at, seed, size(200)),
    "past-grace": lambda at, seed, size: stopping.past_grace(at, seed, size(200)),
    "reloads": lambda at, seed, size: stopping.reloads(at, seed, size(200)),
    "kills": lambda at, seed, size: kills.kills(at, seed, size(300), size(10_000)),
}

CAUGHT_BY: Mapping[str, tuple[Part, str]] = {
    "no take-over": (
        lambda at, seed, size: kills.kills(at, seed, 6, 60, hurry=HURRIED, bug="no take-over"),
        "nothing is left open",
    ),
    "claim not unique": (
        lambda at, seed, size: replays.replays(at, seed, 1, 20, 0, bug="claim not unique"),
        "one row a claim",
    ),
    "lost answer is failure": (
        lambda at, seed, size: liars.liars(at, seed, 1, bug="lost answer is failure"),
        "paid is answered or owed",
    ),
    "no fence": (
        lambda at, seed, size: steps.freezes(at, seed, 1, ("speaking",), bug="no fence"),
        "frozen at speaking",
    ),
    "offset off by one": (
        lambda at, seed, size: resuming.resuming(at, seed, 40, 10, bug="offset off by one"),
        "no gap, no repeat",
    ),
    "follower stays": (
        lambda at, seed, size: leavers.leavers(at, seed, 30, bug="follower stays"),
        "nothing leaks",
    ),
    "no write limit": (
        lambda at, seed, size: leavers.never_read(at, seed, 3, bug="no write limit"),
        "cut in time",
    ),
}
"""Bugs planted in the product, and the check that has to speak of each."""


def main() -> int:
    """Run what is asked for; how many parts have failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.battery")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join([*PARTS, 'bugs'])}; all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--store", choices=("embedded", "supabase"), default="embedded")
    asked = parser.parse_args()
    logging.getLogger("x402").setLevel(logging.CRITICAL)  # its refusals are what we ask for

    def size(full: int) -> int:
        return max(1, round(full * asked.scale))

    failed = 0
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="x402jobs-battery-"))
        )
        server = stack.enter_context(postgres()) if asked.store == "supabase" else None
        for name in asked.parts or [*PARTS, "bugs"]:
            if name == "bugs":
                failed += sum(
                    not _is_caught(bug, Site(directory / f"bug {bug}", server), asked.seed)
                    for bug in CAUGHT_BY
                )
                continue
            report = timed(PARTS[name], Site(directory / name, server), asked.seed, size)
            failed += bool(report.violations)
            print(report, flush=True)
    return failed


def _is_caught(bug: str, site: Site, seed: int) -> bool:
    part, check = CAUGHT_BY[bug]
    report = timed(part, site, seed, lambda full: full)
    speaks = [each for each in report.violations if each.startswith(check)]
    told = f"{len(speaks)} of its {len(report.violations)} violations are of {check!r}"
    print(f"planted: {bug} (seed {seed}, {report.seconds:.0f} s): {told}", flush=True)
    return bool(speaks)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
