"""What settle said, and what the chain shows: the table of spec/money.md."""

from dataclasses import dataclass, replace

import pytest

from tests.fakes import NOW, FakeChain, FakeClock, FakeFacilitator, MemoryLedger, PlainBox
from tests.services.test_paygate import PAYMENT
from x402jobs.domain.errors import SettlementUnknown, StoreUnavailable, Superseded, TransferUsed
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.domain.payment import PaymentRequirements
from x402jobs.ports import (
    Canceled,
    Refused,
    Settled,
    SpentElsewhere,
    Transferred,
    Unknown,
    Unseen,
    Unused,
)
from x402jobs.services import settlement
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.settlement import CONFIRM_SECONDS, Settlement, payment_place

ASKED = PaymentRequirements(DEVELOPMENT, 10_000, PAYMENT.pay_to)
CLAIMED = Execution(
    id="e1",
    kind=Kind.PAID,
    state=State.CLAIMED,
    template_id="t1",
    template_version=1,
    digest="d1",
    worker="w1",
    created_at=NOW,
    claim_key=PAYMENT.claim_key,
    payer=PAYMENT.authorization.payer,
    network=DEVELOPMENT.id,
    amount=10_000,
    valid_before=PAYMENT.authorization.valid_before,
)
EXPIRY = float(PAYMENT.authorization.valid_before)
YES, NO, LOST = Settled("0xfacilitators"), Refused("insufficient_balance"), Unknown("no_answer")
MOVED, BLIND = Transferred("0xchains", 3), Unseen("no_answer")
SHALLOW = Unseen("shallow")
FRESH, STALE, LATE = Unused(NOW + 100), Unused(NOW - 5), Unused(EXPIRY + 1)


@dataclass
class Bench:
    """A settlement and everything around it."""

    has_chain: bool = True

    def __post_init__(self):
        self.clock, self.ledger, self.facilitator = FakeClock(), MemoryLedger(), FakeFacilitator()
        self.chain, self.left = FakeChain(self.clock), LeftRows(self.clock)
        self.settlement = Settlement(
            ledger=self.ledger,
            facilitator=self.facilitator,
            chain=self.chain if self.has_chain else None,
            box=PlainBox(),
            clock=self.clock,
            networks=Networks((DEVELOPMENT,)),
            left=self.left,
        )
        self.ledger.rows["e1"] = CLAIMED

    def settle(self, said, *shows):
        self.facilitator.settles, self.chain.shows = said, list(shows)
        return self.settlement.settle(CLAIMED, PAYMENT, ASKED)

    def decide(self, said, *shows):
        """What recovery makes of the row after a settlement that nobody could judge."""
        with pytest.raises(SettlementUnknown):
            self.settle(LOST, BLIND)
        self.facilitator.asked.clear()
        self.facilitator.settles, self.chain.shows = said, list(shows)
        return self.settlement.decide(self.ledger.row, self.ledger.payments["e1"])


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(settlement, "LOOK_SECONDS", 0)


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize(
    ("said", "shows"),
    [
        (YES, [MOVED]),
        (YES, [SHALLOW, STALE, MOVED]),
        (YES, [BLIND, MOVED]),
        (NO, [MOVED]),
        (NO, [SHALLOW, MOVED]),
        (LOST, [MOVED]),
    ],
)
def test_what_the_chain_shows_to_have_moved_is_settled_in_the_chains_words(bench, said, shows):
    row = bench.settle(said, *shows)

    assert (row.state, row.transaction, row.log_index) == (State.SETTLED, "0xchains", 3)
    assert row.settled_at == bench.clock.now()
    assert bench.ledger.row == row
    assert bench.left.due() == {}


@pytest.mark.parametrize(
    ("said", "shows", "code"),
    [
        (NO, [FRESH], "insufficient_balance"),
        (NO, [STALE, FRESH], "insufficient_balance"),
        (YES, [Canceled()], settlement.CANCELED),
        (LOST, [Canceled()], settlement.CANCELED),
        (YES, [SpentElsewhere()], settlement.SPENT_ELSEWHERE),
        (LOST, [SpentElsewhere()], settlement.SPENT_ELSEWHERE),
        (YES, [LATE], settlement.EXPIRED),
        (LOST, [LATE], settlement.EXPIRED),
    ],
)
def test_what_can_never_move_is_released_with_the_reason(bench, said, shows, code):
    row = bench.settle(said, *shows)

    assert (row.state, row.code, row.transaction) == (State.RELEASED, code, None)
    assert bench.ledger.row == row


@pytest.mark.parametrize(
    ("said", "shows"),
    [
        (YES, [STALE]),
        (YES, [FRESH]),
        (YES, [BLIND]),
        (YES, [SHALLOW]),
        (NO, [BLIND]),
        (NO, [STALE]),
        (LOST, [STALE]),
        (LOST, [FRESH]),
        (LOST, [BLIND]),
        (LOST, [Unused(EXPIRY)]),
    ],
)
def test_what_is_not_certain_stays_settling_and_is_left_for_recovery(bench, said, shows):
    with pytest.raises(SettlementUnknown) as unknown:
        bench.settle(said, *shows)

    assert bench.ledger.row.state is State.SETTLING
    assert unknown.value.execution == bench.ledger.row
    assert bench.left.due() == {"e1": 1}
    assert bench.clock.now() <= NOW + CONFIRM_SECONDS + 2


def test_settling_is_written_with_the_sealed_payment_before_the_facilitator_is_asked(bench):
    def look():
        assert bench.ledger.row.state is State.SETTLING
        assert bench.ledger.payments["e1"].startswith("sealed|x402_executions|sealed_payment|e1|")

    bench.facilitator.at_settling = look

    bench.settle(YES, MOVED)

    assert bench.facilitator.asked == ["settle"]


@pytest.mark.parametrize("trouble", [StoreUnavailable, TransferUsed])
def test_an_outcome_that_cannot_be_written_is_left_for_recovery(bench, trouble):
    bench.ledger.troubles, bench.ledger.trouble = {"settled": 1}, trouble

    with pytest.raises(SettlementUnknown):
        bench.settle(YES, MOVED)

    assert bench.ledger.row.state is State.SETTLING
    assert bench.left.due() == {"e1": 1}


def test_who_is_killed_while_the_money_moves_leaves_the_row(bench):
    bench.facilitator.settles = GeneratorExit()

    with pytest.raises(GeneratorExit):
        bench.settlement.settle(CLAIMED, PAYMENT, ASKED)

    assert bench.left.due() == {"e1": 1}


def test_who_has_lost_the_row_asks_nobody(bench):
    bench.ledger.rows["e1"] = replace(CLAIMED, attempt=2)

    with pytest.raises(Superseded):
        bench.settle(YES, MOVED)

    assert bench.facilitator.asked == []


@pytest.mark.parametrize(
    ("said", "state"), [(YES, State.SETTLED), (NO, State.RELEASED), (LOST, State.SETTLING)]
)
def test_without_a_chain_the_facilitators_word_is_taken(said, state):
    bench = Bench(has_chain=False)
    if state is State.SETTLING:
        with pytest.raises(SettlementUnknown):
            bench.settle(said)
    else:
        assert bench.settle(said).state is state

    assert bench.ledger.row.state is state
    assert bench.ledger.row.log_index is None


# A settlement that was left


@pytest.mark.parametrize(
    ("shows", "state", "code"),
    [
        ([MOVED], State.SETTLED, None),
        ([Canceled()], State.RELEASED, settlement.CANCELED),
        ([SpentElsewhere()], State.RELEASED, settlement.SPENT_ELSEWHERE),
        ([LATE], State.RELEASED, settlement.EXPIRED),
    ],
)
def test_what_the_chain_has_decided_nobody_is_asked_about(bench, shows, state, code):
    row = bench.decide(YES, *shows)

    assert (row.state, row.code) == (state, code)
    assert bench.facilitator.asked == []
    assert bench.ledger.row.state is State.SETTLING, "deciding writes nothing"


@pytest.mark.parametrize("said", [YES, NO, LOST])
def test_the_same_payment_is_asked_about_once_more_and_the_chain_decides(bench, said):
    row = bench.decide(said, STALE, MOVED)

    assert (row.state, row.transaction) == (State.SETTLED, "0xchains")
    assert bench.facilitator.asked == ["settle"]


@pytest.mark.parametrize("said", [YES, NO, LOST])
@pytest.mark.parametrize("shown", [STALE, FRESH, BLIND, SHALLOW])
def test_a_refusal_of_the_second_question_does_not_release_the_first(bench, said, shown):
    assert bench.decide(said, shown) is None


@pytest.mark.parametrize("said", [YES, NO, LOST])
def test_without_a_chain_the_second_answer_decides(said):
    bench = Bench(has_chain=False)
    with pytest.raises(SettlementUnknown):
        bench.settle(LOST)
    bench.facilitator.settles = said

    row = bench.settlement.decide(bench.ledger.row, bench.ledger.payments["e1"])

    states = {YES: State.SETTLED, NO: State.RELEASED, LOST: None}
    assert (row and row.state) == states[said]


@pytest.mark.parametrize(
    "sealed",
    [
        None,
        "",
        "garbage",
        *(PlainBox().seal(text, payment_place("e1")) for text in ("", "{}", "[]")),
    ],
)
def test_a_payment_that_cannot_be_read_any_more_is_never_decided(bench, sealed):
    assert bench.settlement.decide(CLAIMED.become(State.SETTLING), sealed) is None
    assert bench.facilitator.asked == []
