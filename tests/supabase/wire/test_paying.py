"""Other people's clients pay, and one payment buys one answer, however often it is shown."""

from tests.wire.test_paying import *  # noqa: F403
