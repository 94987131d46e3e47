"""A part of a list."""

import pytest

from x402jobs.domain.page import Page


@pytest.mark.parametrize(
    ("items", "total", "offset", "has_more"),
    [
        ("", 0, 0, False),
        ("ab", 2, 0, False),
        ("ab", 3, 0, True),
        ("c", 3, 2, False),
        ("b", 3, 1, True),
        ("", 3, 3, False),
        ("", 3, 10**9, False),
    ],
)
def test_there_is_more_where_the_whole_goes_on_after_the_part(items, total, offset, has_more):
    assert Page(items, total, limit=2, offset=offset).has_more is has_more
