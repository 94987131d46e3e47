"""Both doors again, as callers meet them, when a Supabase project is the shop's store.

The tests are those of tests/wire: each module here imports one of theirs. Those that tell the least
of the store wait for `make test-supabase`, which sets X402JOBS_TEST_SUPABASE=whole.
"""

import os

import pytest

from tests.supabase.postgres import Postgres
from tests.supabase.rig import Rig
from tests.wire.conftest import running, server

__all__ = ["running", "server"]

LATER = (
    "bytes",
    "creators_day",
    "curl",
    "doors",
    "json",
    "leaving",
    "readers",
    "resuming",
    "secrets",
)
collect_ignore = (
    [f"test_{name}.py" for name in LATER]
    if os.environ.get("X402JOBS_TEST_SUPABASE") != "whole"
    else []
)


@pytest.fixture(scope="session")
def postgres(rig: Rig) -> Postgres:
    """Where each shop gets a project of its own."""
    return rig.postgres
