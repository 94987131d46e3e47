"""What of the ledger waits for somebody, whatever store is behind it."""

from dataclasses import replace

import pytest

from x402jobs.domain.execution import State
from x402jobs.ports import OpenMatters

from .conftest import CLAIM_KEY, bought, walked

PATHS = {
    State.CLAIMED: (),
    State.SETTLING: (State.SETTLING,),
    State.SETTLED: (State.SETTLING, State.SETTLED),
    State.COMPLETED: (State.SETTLING, State.SETTLED, State.COMPLETED),
    State.REFUND_DUE: (State.SETTLING, State.SETTLED, State.REFUND_DUE),
    State.REFUNDED: (State.SETTLING, State.SETTLED, State.REFUND_DUE, State.REFUNDED),
    State.RELEASED: (State.RELEASED,),
}


def test_where_nothing_has_happened_nothing_waits(store):
    assert store.ledger.open_matters() == OpenMatters(0, 0, 0.0)


@pytest.mark.parametrize("state", PATHS)
def test_undecided_settlements_and_debts_wait_and_nothing_else(store, state):
    walked(store, *PATHS[state])

    matters = store.ledger.open_matters()

    assert matters.settling == (state is State.SETTLING)
    assert matters.refund_due == (state is State.REFUND_DUE)
    assert (matters.oldest_settling_seconds > 0) == (state is State.SETTLING)


def test_the_age_is_the_oldest_ones_by_the_databases_clock(store):
    now = store.now()
    for number, age in enumerate((10, 4000, 300)):
        row = store.ledger.claim(
            bought(id=f"e{number}", claim_key=f"{CLAIM_KEY}{number}", created_at=now - age)
        )
        store.ledger.swap(row, replace(row, state=State.SETTLING))

    matters = store.ledger.open_matters()

    assert matters.settling == 3
    assert 4000 <= matters.oldest_settling_seconds < 4000 + (store.now() - now) + 1


def test_a_row_from_the_future_has_no_age(store):
    row = store.ledger.claim(bought(created_at=store.now() + 3600))
    store.ledger.swap(row, replace(row, state=State.SETTLING))

    assert store.ledger.open_matters() == OpenMatters(1, 0, 0.0)
