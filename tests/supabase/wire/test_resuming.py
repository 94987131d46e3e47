"""Connections that break in the middle of an answer, and what programs do about it."""

from tests.wire.test_resuming import *  # noqa: F403
