"""A creator's whole day by HTTP alone, from an empty directory to a slug used again."""

from tests.wire.test_creators_day import *  # noqa: F403
