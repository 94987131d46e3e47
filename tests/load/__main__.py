"""The load batteries: `python -m tests.load [--scale 0.1] [part …]`, a few minutes each.

Prints what was counted and measured; ends with status 1 where anything does not hold.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.load import quiet, slow, stopping, streams
from tests.load.site import Report, Site, site, timed

Size = Callable[[int], int]

PARTS: Mapping[str, tuple[dict[str, Any], Callable[[Site, Size], Report]]] = {
    "streams": ({}, lambda shop, size: streams.streams(shop, size(1000), 500, 150)),
    "gzip": ({"gzip": True}, lambda shop, size: streams.streams(shop, size(1000), 500, 150)),
    "slow": ({}, lambda shop, size: slow.slow(shop, size(2000), 30)),
    "full": (
        {"MAX_OPEN_REQUESTS": "1500"},
        lambda shop, size: slow.full(shop, 1500, size(500)),
    ),
    "drain": ({}, lambda shop, size: stopping.drain(shop, size(500), 20)),
    "past-grace": (
        {"GRACE_SECONDS": "40"},
        lambda shop, size: stopping.past_grace(shop, size(500), 40),
    ),
    "reload": ({}, lambda shop, size: stopping.reload(shop, size(500), size(20), 4)),
    "groups": (
        {"groups": ("one", "two")},
        lambda shop, size: stopping.groups(shop, size(5), 2),
    ),
}
"""What each needs to be built, and what it does there."""


def main() -> int:
    """Run what is asked for; how many parts have failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.load")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join([*PARTS, 'quiet'])}; all")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every number")
    asked = parser.parse_args()
    logging.getLogger("x402").setLevel(logging.CRITICAL)

    def size(full: int) -> int:
        return max(1, round(full * asked.scale))

    failed = 0
    with tempfile.TemporaryDirectory(prefix="x402jobs-load-") as directory:
        for name in asked.parts or [*PARTS, "quiet"]:
            at = Path(directory) / name
            if name == "quiet":
                report = timed(quiet.quiet, at, 60, 110)
            else:
                how, part = PARTS[name]
                with site(at, **how) as shop:
                    report = timed(part, shop, size)
            failed += bool(report.violations)
            print(report, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
