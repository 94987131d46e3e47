"""What is not a purchase, or is badly made, is answered plainly and buys nothing."""

from tests.wire.test_doors import *  # noqa: F403
