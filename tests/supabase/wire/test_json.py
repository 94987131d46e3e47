"""The answer in one piece, over real sockets."""

from tests.wire.test_json import *  # noqa: F403
