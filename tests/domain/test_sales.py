"""How often a template has worked."""

import pytest

from x402jobs.domain.sales import Sales


@pytest.mark.parametrize(
    ("sales", "rate"),
    [
        (Sales(), None),
        (Sales(calls=1), None),
        (Sales(tests=5), None),
        (Sales(calls=1, completed=1), 1.0),
        (Sales(calls=1, failed=1), 0.0),
        (Sales(calls=3, completed=1, failed=1), 0.5),
        (Sales(calls=3, completed=2, failed=1), 0.6667),
        (Sales(calls=3, completed=1, failed=2), 0.3333),
    ],
)
def test_the_rate_is_of_what_has_ended(sales, rate):
    assert sales.success_rate == rate
