"""Other people's paying clients in JavaScript, 130 MB.

The override in package.json leaves out wagmi, half a gigabyte that x402-fetch brings for a page it
can show to people and that no call loads. viem is older than the newest: that one asks for an ox
that npm has not got.
"""

from pathlib import Path

from tests.node_packages import packages
from tests.tools import need

HERE = Path(__file__).parent


def node() -> str:
    """Node's path, with the packages at hand; without either the test is skipped."""
    program = need("node")
    packages(HERE)
    return program
