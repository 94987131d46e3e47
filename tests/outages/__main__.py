"""Every outage, one after the other: `python -m tests.outages [--times N] [name …]`.

Prints a line for each; ends with status 1 where anything does not hold.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chain.evm import Evm
from tests.outages.battery import OUTAGES, outage
from tests.outages.shop import open_shop


def main() -> int:
    """How many outages have shown a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.outages")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(OUTAGES)}; all")
    parser.add_argument("--times", type=int, default=1)
    asked = parser.parse_args()
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="x402jobs-outages-") as directory,
        open_shop(Path(directory), Evm()) as shop,
    ):
        for _ in range(asked.times):
            for name in asked.names or OUTAGES:
                report = outage(shop, name)
                failed += bool(report.violations)
                print(report, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
