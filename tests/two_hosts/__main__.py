"""The whole run: `python -m tests.two_hosts [--seed N] [--scale 0.1] [part …]`.

Prints a line for each part, its counts and its seed; ends with status 1 where anything does not
hold. `--scale` multiplies every size.
"""

import argparse
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.battery.house import Report, Site, timed
from tests.supabase.postgres import postgres
from tests.two_hosts import parts
from tests.two_hosts.parts import Hosts, two_hosts

Part = Callable[[Hosts, Callable[[int], int]], Report]

PARTS: Mapping[str, Part] = {
    "limits": lambda hosts, size: parts.common_limits(hosts, size(400)),
    "one-account": lambda hosts, size: parts.one_account(hosts),
    "one-run": lambda hosts, size: parts.one_run(hosts, size(20), 40),
    "redis-goes": lambda hosts, size: parts.redis_goes(hosts),
    "one-dies": lambda hosts, size: parts.one_dies(hosts, size(40)),
}
"""In this order, in one house; who is dead in the end stays dead."""


def main() -> int:
    """Run what is asked for; how many parts have failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.two_hosts")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join([*PARTS, 'bug'])}; all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    logging.getLogger("x402").setLevel(logging.CRITICAL)  # its refusals are what we ask for

    def size(full: int) -> int:
        return max(2, round(full * asked.scale))

    failed = 0
    names = asked.parts or [*PARTS, "bug"]
    with tempfile.TemporaryDirectory(prefix="x402jobs-hosts-") as directory, postgres() as server:
        with two_hosts(Site(Path(directory) / "hosts", server), asked.seed) as hosts:
            for name in (name for name in PARTS if name in names):
                report = timed(PARTS[name], hosts, size)
                failed += bool(report.violations)
                print(report, flush=True)
        if "bug" in names:
            failed += not _is_caught(Site(Path(directory) / "bug", server), asked.seed)
    return failed


def _is_caught(site: Site, seed: int) -> bool:
    """Without a Redis each worker counts for itself: more must pass, and the check must say so."""
    with two_hosts(site, seed, has_redis=False) as hosts:
        report = timed(parts.common_limits, hosts, 100)
    print(f"planted: no Redis: {report}", flush=True)
    return any(each.startswith("exactly 20 of 100") for each in report.violations)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
