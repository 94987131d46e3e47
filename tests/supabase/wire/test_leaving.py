"""Callers who hang up, and callers who do not read."""

from tests.wire.test_leaving import *  # noqa: F403
