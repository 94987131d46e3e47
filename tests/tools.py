"""Programs of this machine that some tests drive: a missing one is told, never hidden."""

import os
import shutil

import pytest

missing: dict[str, set[str]] = {}
"""Each program that was looked for in vain, and the tests that did not run for it."""


def need(program: str) -> str:
    """The program's path. Without it the test is skipped and the last line of the run says so.

    With X402JOBS_REQUIRE_TOOLS=1, as in CI, it fails instead.
    """
    path = shutil.which(program)
    if path is not None:
        return path
    test = os.environ.get("PYTEST_CURRENT_TEST", "?").rpartition(" ")[0]
    missing.setdefault(program, set()).add(test)
    reason = f"{program} is not on this machine"
    if os.environ.get("X402JOBS_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{reason}, and X402JOBS_REQUIRE_TOOLS=1 asks for it")
    pytest.skip(reason)


def what_was_missing() -> str:
    """One line for the end of a run; empty when everything was there."""
    return "; ".join(
        f"{program} is missing, not run: {', '.join(sorted(tests))}"
        for program, tests in sorted(missing.items())
    )
