"""Live on a terminal: curl prints each event while Claude is still writing."""

from tests.wire.test_curl import *  # noqa: F403
