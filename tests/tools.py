"""Programs of this machine that some tests drive: a missing one is told, never hidden."""

import os
import shutil
import sysconfig
from typing import NoReturn

import pytest

WHOLE = os.environ.get("X402JOBS_TEST_WHOLE") == "1"
"""Whether what goes over many like cases goes over all of them, as `make test-whole` does."""

missing: dict[str, set[str]] = {}
"""Each tool that was looked for in vain, and the tests that did not run for it."""


def need(program: str) -> str:
    """The program's path: the machine's own, else the one that a wheel brought."""
    ours = sysconfig.get_path("scripts")
    return (
        shutil.which(program)
        or shutil.which(program, path=ours)
        or without(program, f"{program} is not on this machine")
    )


def without(tool: str, reason: str) -> NoReturn:
    """Skip the test, and let the last line of the run say so.

    With X402JOBS_REQUIRE_TOOLS=1, as in CI, it fails instead.
    """
    test = os.environ.get("PYTEST_CURRENT_TEST", "?").rpartition(" ")[0]
    missing.setdefault(tool, set()).add(test)
    if os.environ.get("X402JOBS_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{reason}, and X402JOBS_REQUIRE_TOOLS=1 asks for it")
    pytest.skip(reason)


def what_was_missing() -> str:
    """One line for the end of a run; empty when everything was there."""
    return "; ".join(
        f"{tool} is missing, not run: {', '.join(sorted(tests))}"
        for tool, tests in sorted(missing.items())
    )
