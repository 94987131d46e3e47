"""What a worker may still say and do once another one has its row."""

from dataclasses import replace

import pytest

from tests.fakes import NOW, FakeClock, FakeFacilitator
from tests.services.test_paygate import CALL, PAYMENT, Gate
from x402jobs.domain.errors import (
    Conflict,
    InProgress,
    PaymentRequired,
    SettlementUnknown,
    StoreUnavailable,
)
from x402jobs.domain.execution import State
from x402jobs.ports import Refused
from x402jobs.services.left_rows import LeftRows

LATE = replace(
    CALL,
    payment=replace(
        PAYMENT, authorization=replace(PAYMENT.authorization, valid_before=int(NOW) + 59)
    ),
)
DEAR = replace(
    CALL, payment=replace(PAYMENT, authorization=replace(PAYMENT.authorization, value=9_999))
)
"""The same payment, as far as its key goes, presented when it no longer does."""


class Overtaking(FakeFacilitator):
    """Takes so long to verify that another worker has the claim by then."""

    def verify(self, payment, requirements):
        row = self.ledger.row
        self.ledger.rows[row.id] = replace(row, worker="w2", attempt=row.attempt + 1)
        return super().verify(payment, requirements)


@pytest.fixture
def gate():
    return Gate()


def overtaken(gate, verdict):
    gate.paygate._facilitator = slow = Overtaking(verifies=verdict)
    slow.ledger = gate.ledger


def test_who_has_lost_the_claim_asks_for_no_other_payment(gate):
    overtaken(gate, Refused("nonce_already_used"))

    with pytest.raises(InProgress):
        gate.buy()

    assert gate.states() == [(State.CLAIMED, 2)]


@pytest.mark.parametrize("call", [LATE, DEAR], ids=["for want of time", "for its amount"])
@pytest.mark.parametrize(
    ("meanwhile", "hears"),
    [
        (State.CLAIMED, InProgress),
        (State.SETTLING, SettlementUnknown),
        (State.SETTLED, InProgress),
        (State.COMPLETED, InProgress),
        (State.REFUND_DUE, InProgress),
        (State.REFUNDED, Conflict),
        (State.RELEASED, PaymentRequired),
    ],
)
def test_no_other_payment_is_asked_for_of_who_was_overtaken_between_look_and_refusal(
    gate, call, meanwhile, hears
):
    """The listing that this call has read knows nothing of the payment yet."""
    gate.buy()
    gate.ledger.rows = {id: replace(row, state=meanwhile) for id, row in gate.ledger.rows.items()}
    before = gate.ledger.row

    with pytest.raises(hears):
        gate.buy(call=call)

    assert gate.ledger.row == before


def test_a_forger_who_is_refused_learns_nothing_of_the_payment(gate):
    gate.buy()
    gate.facilitator.signer_is = None

    with pytest.raises(PaymentRequired):
        gate.buy(call=LATE)


def test_who_cannot_write_the_refusal_down_asks_for_no_other_payment(gate):
    """They cannot know whether the claim is still theirs."""
    overtaken(gate, Refused("nonce_already_used"))
    gate.ledger.troubles = {"released": 1}

    with pytest.raises(StoreUnavailable):
        gate.buy()

    assert gate.states() == [(State.CLAIMED, 2)]


def test_who_still_has_the_claim_says_why_it_was_refused(gate):
    gate.facilitator.verifies = Refused("insufficient_funds")

    with pytest.raises(PaymentRequired, match="insufficient_funds"):
        gate.buy()

    assert gate.states() == [(State.RELEASED, 1)]


def test_a_rerun_that_may_have_been_written_is_left_for_recovery(gate):
    listing = gate.owing()
    gate.ledger.troubles = {"settled": 1}

    with pytest.raises(StoreUnavailable):
        with gate.admit(listing=listing, call=CALL):
            pass

    assert gate.left.due() == {listing.earlier.id: listing.earlier.attempt + 1}


def test_an_older_attempt_does_not_hide_the_row_that_was_left_since(gate):
    row, left = gate.buy(), LeftRows(FakeClock())
    left.leave(replace(row, attempt=2))

    left.leave(row)

    assert left.due() == {row.id: 2}


def test_a_newer_attempt_takes_the_place_of_an_older_one(gate):
    row, left = gate.buy(), LeftRows(FakeClock())
    left.leave(row)

    left.leave(replace(row, attempt=2))

    assert left.due() == {row.id: 2}
