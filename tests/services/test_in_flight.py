"""How much may be under way at once."""

from contextlib import ExitStack

import pytest

from x402jobs.domain.errors import TooManyRequests
from x402jobs.services.in_flight import InFlight


def test_one_payment_presented_many_times_takes_one_place_until_the_last_is_over() -> None:
    in_flight = InFlight(payer_calls=1, settlements=1)
    with in_flight.claim("ada", "first"):
        with ExitStack() as presentations:
            for _ in range(5):
                presentations.enter_context(in_flight.claim("ada", "first"))

        with pytest.raises(TooManyRequests), in_flight.claim("ada", "second"):
            pass
    with in_flight.claim("ada", "second"):
        pass
