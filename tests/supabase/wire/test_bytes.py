"""The bytes and headers on the wire are those of spec/wire.md, no more and no fewer."""

from tests.wire.test_bytes import *  # noqa: F403
