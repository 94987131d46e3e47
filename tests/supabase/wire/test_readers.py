"""Everybody's reader gets the same text and the same ending off the wire."""

from tests.wire.test_readers import *  # noqa: F403
