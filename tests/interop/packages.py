"""Other people's JavaScript: what the lock file names, and nothing of it kept here.

`npm ci` puts it into node_modules on first use, 130 MB; after that no network is needed. The
override leaves out wagmi, half a gigabyte that x402-fetch brings for a page it can show to people
and that no call loads. viem is older than the newest: that one asks for an ox that npm has not got.
"""

import fcntl
import functools
import subprocess
from pathlib import Path

from tests.tools import need, without

HERE = Path(__file__).parent
LOCK = HERE / "package-lock.json"
MODULES = HERE / "node_modules"
INSTALLED = MODULES / ".installed"
"""A copy of the lock file, written last: what was broken off is not there."""


def node() -> str:
    """Node's path, with the packages at hand; without either the test is skipped."""
    program = need("node")
    if not _are_here():
        npm = need("npm")
        if fault := _install(npm):
            without("node_modules", f"npm ci: {fault}")
    return program


def _are_here() -> bool:
    return INSTALLED.is_file() and INSTALLED.read_bytes() == LOCK.read_bytes()


@functools.cache  # a machine without a network is asked once
def _install(npm: str) -> str:
    """What npm complains of; empty when the packages are there."""
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs in one checkout
        if _are_here():
            return ""
        ran = subprocess.run(
            [npm, "ci"], cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if ran.returncode == 0:
            INSTALLED.write_bytes(LOCK.read_bytes())
            return ""
    complaints = [line for line in ran.stderr.splitlines() if "error" in line]
    return "; ".join(complaints[:3]) or f"exit status {ran.returncode}"
