"""Each step at which money could move, with the store, the clock or a kill in between."""

import json
from dataclasses import replace

import pytest

from tests.fakes import NOW, FakeClock, FakeFacilitator, FakeLimits, MemoryLedger, PlainBox
from x402jobs.domain.call import Call
from x402jobs.domain.caller import Caller
from x402jobs.domain.errors import (
    Conflict,
    FacilitatorUnavailable,
    InProgress,
    InvalidRequest,
    ModelError,
    PaymentRequired,
    SettlementUnknown,
    StoreUnavailable,
    Superseded,
    TemplateUnavailable,
    TimedOut,
    TooManyRequests,
)
from x402jobs.domain.execution import Kind, State
from x402jobs.domain.listing import Listing
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Networks
from x402jobs.domain.payment import Authorization, Payment
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.ports import Refused, Settled, Unknown
from x402jobs.services.in_flight import InFlight
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.paygate import FOR_EVER, Paygate
from x402jobs.services.pricing import Pricing
from x402jobs.services.settlement import Settlement

BASE, SEPOLIA = NETWORKS["eip155:8453"], NETWORKS["eip155:84532"]
PAY_TO = "0x" + "00" * 19 + "0A"
PAYMENT = Payment(
    authorization=Authorization(
        payer="0x" + "ad" * 20,
        to=PAY_TO.lower(),
        value=10_000,
        valid_after=0,
        valid_before=int(NOW) + 120,
        nonce="0x" + "01" * 32,
    ),
    signature=b"\x01" * 65,
    scheme="exact",
    network=DEVELOPMENT.id,
    asset=DEVELOPMENT.token,
    amount="10000",
    pay_to=PAY_TO.lower(),
)
CALL = Call("/@ada/haiku", {"topic": "rain"}, PAYMENT, None, False, "127.0.0.1", began=NOW - 1)
TEMPLATE = PromptTemplate(
    "t1", 4, "ada", "/@ada/haiku", "Haiku", "", 10_000, "", [], "claude", 100, False
)
FREE = replace(TEMPLATE, price=0)
UNPAID = replace(CALL, payment=None)
LISTING = Listing(pay_to=PAY_TO)


class GreenletExit(BaseException):
    """What gevent raises where a request is killed."""


class Gate:
    """A paygate and everything around it."""

    def __init__(self, **limits):
        self.ledger, self.facilitator, self.clock = MemoryLedger(), FakeFacilitator(), FakeClock()
        self.limits, self.left = FakeLimits(**limits), LeftRows(self.clock)
        self.pricing = Pricing(
            lambda network: self.facilitator.offers(network),  # which a test may replace
            Networks((DEVELOPMENT,)),
            "https://jobs.example",
        )
        self.paygate = Paygate(
            ledger=self.ledger,
            facilitator=self.facilitator,
            limits=self.limits,
            in_flight=InFlight(payer_calls=4, settlements=64),
            clock=self.clock,
            worker="w1",
            pricing=self.pricing,
            settlement=Settlement(
                ledger=self.ledger,
                facilitator=self.facilitator,
                chain=None,
                box=PlainBox(),
                clock=self.clock,
                networks=self.pricing.networks,
                left=self.left,
            ),
            left=self.left,
            first_content_seconds=30.0,
        )

    def admit(self, template=TEMPLATE, listing=LISTING, call=CALL, caller=None, owner_test=False):
        return self.paygate.admit(template, listing, call, caller=caller, owner_test=owner_test)

    def buy(self, **changes):
        """Admit and settle."""
        with self.admit(**changes) as admission:
            return self.paygate.settle(admission)

    def states(self):
        return [(row.state, row.attempt) for row in self.ledger.rows.values()]

    def owing(self, **changes):
        """A debt of this payment's, and a listing that knows it."""
        debt = self.buy().fail("TIMEOUT", NOW)
        self.ledger.rows[debt.id] = debt = replace(debt, **changes)
        self.ledger.steps.clear()
        self.facilitator.asked.clear()
        return replace(LISTING, earlier=debt)


@pytest.fixture
def gate():
    return Gate()


# The way that ends well


def test_a_payment_is_claimed_verified_and_settled_in_this_order(gate):
    gate.facilitator.at_settling = lambda: gate.ledger.steps.append("the money moves")

    execution = gate.buy()

    assert gate.ledger.steps == ["claim", "settling", "the money moves", "settled"]
    assert gate.facilitator.asked == ["verify", "settle"]
    assert execution == gate.ledger.row
    assert (execution.state, execution.kind, execution.attempt) == (State.SETTLED, Kind.PAID, 1)
    assert (execution.payer, execution.amount) == (PAYMENT.authorization.payer, 10_000)
    assert (execution.transaction, execution.worker) == ("0x1", "w1")
    assert (execution.template_id, execution.template_version) == ("t1", 4)
    assert execution.digest == CALL.digest
    assert (execution.created_at, execution.verified_at) == (NOW - 1, NOW)
    assert execution.claim_key == PAYMENT.claim_key
    assert execution.valid_before == int(NOW) + 120


def test_what_recovery_needs_is_sealed_before_the_money_can_move(gate):
    def look():
        (sealed,) = gate.ledger.payments.values()
        kept = json.loads(sealed.partition("{")[1] + sealed.partition("{")[2])
        assert sealed.startswith(f"sealed|x402_executions|sealed_payment|{gate.ledger.row.id}|")
        assert kept["payload"]["authorization"]["nonce"] == PAYMENT.authorization.nonce
        assert kept["accepted"]["payTo"] == PAY_TO
        assert gate.ledger.row.state is State.SETTLING

    gate.facilitator.at_settling = look

    gate.buy()


def test_a_payment_that_never_ends_is_written_down_as_far_as_the_ledger_counts(gate):
    endless = replace(PAYMENT.authorization, valid_before=2**256 - 1)

    execution = gate.buy(call=replace(CALL, payment=replace(PAYMENT, authorization=endless)))

    assert execution.valid_before == FOR_EVER == 2**63 - 1


@pytest.mark.parametrize(("left", "deadline"), [(120, 30), (60, 30), (65, 30)])
def test_the_deadline_is_thirty_seconds(gate, left, deadline):
    window = replace(PAYMENT.authorization, valid_before=int(NOW) + left)

    with gate.admit(
        call=replace(CALL, payment=replace(PAYMENT, authorization=window))
    ) as admission:
        assert admission.deadline == NOW + deadline


def test_the_deadline_is_always_twenty_seconds_before_the_payment_ends():
    gate = Gate()
    gate.paygate._first_content_seconds = 1000.0

    with gate.admit() as admission:
        assert admission.deadline == NOW + 100


# The quote


def test_without_a_payment_there_is_a_quote_and_no_row(gate):
    with pytest.raises(PaymentRequired) as refusal:
        gate.buy(call=UNPAID)

    quote = refusal.value.quote
    assert quote.url == "https://jobs.example/@ada/haiku"
    assert quote.description == "Haiku"
    assert [each.amount for each in quote.requirements] == [10_000]
    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])


def quoted_on(gate, template=TEMPLATE, call=UNPAID):
    """The networks of the quote this call meets."""
    with pytest.raises(PaymentRequired) as refusal:
        gate.buy(template=template, call=call)
    with pytest.raises(PaymentRequired) as looked:
        gate.pricing.ask(template, LISTING, call)
    assert looked.value.quote == refusal.value.quote
    return [each.network for each in refusal.value.quote.requirements]


@pytest.mark.parametrize(
    ("own", "networks"),
    [
        ("", [DEVELOPMENT, BASE, SEPOLIA]),
        ("base", [BASE, DEVELOPMENT, SEPOLIA]),
        ("eip155:84532", [SEPOLIA, DEVELOPMENT, BASE]),
        ("polygon", [DEVELOPMENT, BASE, SEPOLIA]),
    ],
)
def test_the_quote_begins_with_the_templates_own_network(gate, own, networks):
    gate.pricing.networks = Networks((DEVELOPMENT, BASE, SEPOLIA))

    assert quoted_on(gate, replace(TEMPLATE, network=own)) == networks


def test_only_networks_that_the_facilitator_serves_are_quoted(gate):
    gate.pricing.networks = Networks((DEVELOPMENT, BASE, SEPOLIA))
    gate.facilitator.offers = lambda network: network is SEPOLIA

    assert quoted_on(gate) == [SEPOLIA]


def test_where_no_network_is_served_nobody_is_asked_to_pay(gate):
    gate.facilitator.offers = lambda network: False

    for payment in (None, PAYMENT):
        with pytest.raises(FacilitatorUnavailable):
            gate.buy(call=replace(CALL, payment=payment))

    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])
    assert gate.buy(template=FREE, call=UNPAID).kind is Kind.FREE


def test_a_network_that_is_asked_for_is_the_only_one(gate):
    gate.pricing.networks = Networks((DEVELOPMENT, BASE))

    assert quoted_on(gate, call=replace(UNPAID, network="base")) == [BASE]
    assert quoted_on(gate, call=replace(CALL, network="base")) == [BASE]
    assert gate.buy(call=replace(CALL, network=DEVELOPMENT.id)).network == DEVELOPMENT.id


@pytest.mark.parametrize("template", [TEMPLATE, FREE])
@pytest.mark.parametrize("name", ["base", "moon", ""])
def test_a_network_that_is_not_offered_is_refused_and_those_there_are_named(gate, template, name):
    gate.pricing.networks = Networks((DEVELOPMENT, SEPOLIA))
    call = replace(CALL, network=name)

    for ask in (
        lambda: gate.buy(template=template, call=call),
        lambda: gate.pricing.ask(template, LISTING, call),
    ):
        with pytest.raises(InvalidRequest, match=r"eip155:31337, base-sepolia\.$") as refusal:
            ask()
        assert refusal.value.field == "network"
    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])


def test_a_debt_is_run_again_whatever_network_is_asked_for(gate):
    owing = gate.owing()

    execution = gate.buy(listing=owing, call=replace(CALL, network="moon"))

    assert (execution.state, execution.reruns) == (State.SETTLED, 1)


def test_the_money_is_asked_for_on_the_payments_own_network(gate):
    gate.pricing.networks = Networks((DEVELOPMENT, BASE))
    asked = []
    gate.facilitator.settle = lambda payment, requirements: (
        asked.append(requirements) or Settled("0x1")
    )
    on_base = replace(PAYMENT, network=BASE.id, asset=BASE.token.lower())

    execution = gate.buy(call=replace(CALL, payment=on_base))

    assert ([each.network for each in asked], execution.network) == ([BASE], BASE.id)
    kept = json.loads("{" + gate.ledger.payments[execution.id].partition("{")[2])
    assert kept["accepted"]["network"] == BASE.id


@pytest.mark.parametrize("caller", [None, Caller("u7", "bearer")])
@pytest.mark.parametrize(
    ("template", "owner_test"), [(TEMPLATE, False), (FREE, False), (TEMPLATE, True)]
)
def test_an_execution_knows_who_asked_for_it(gate, template, owner_test, caller):
    execution = gate.buy(template=template, caller=caller, owner_test=owner_test)

    assert execution.caller_id == (caller.user_id if caller else None)


def test_without_a_payout_address_nobody_is_asked_to_pay(gate):
    for payment in (None, PAYMENT):
        with pytest.raises(TemplateUnavailable):
            gate.buy(call=replace(CALL, payment=payment), listing=Listing())

    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])


@pytest.mark.parametrize(
    "payment",
    [
        replace(PAYMENT, amount="1"),
        replace(PAYMENT, authorization=replace(PAYMENT.authorization, value=1)),
        replace(PAYMENT, authorization=replace(PAYMENT.authorization, valid_before=int(NOW) + 59)),
    ],
)
def test_a_payment_that_does_not_fit_leaves_no_row(gate, payment):
    with pytest.raises(PaymentRequired):
        gate.buy(call=replace(CALL, payment=payment))

    assert (gate.ledger.rows, gate.facilitator.asked) == ({}, [])


@pytest.mark.parametrize("signer", [None, "0x" + "66" * 20])
def test_a_forged_signature_leaves_no_row(gate, signer):
    gate.facilitator.signer_is = signer

    with pytest.raises(PaymentRequired, match="signature"):
        gate.buy()

    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])


def test_a_payment_that_somebody_has_claimed_is_in_progress(gate):
    gate.buy()

    with pytest.raises(InProgress):
        gate.buy()

    assert gate.facilitator.asked == ["verify", "settle"]
    assert gate.states() == [(State.SETTLED, 1)]


# Nothing to pay


def test_a_free_template_is_limited_by_address_and_leaves_nothing_in_the_ledger(gate):
    with gate.admit(FREE, Listing(), replace(CALL, payment=None)) as admission:
        execution = gate.paygate.settle(admission)

    assert (execution.kind, execution.state) == (Kind.FREE, State.CLAIMED)
    assert (execution.claim_key, execution.amount, execution.receipt) == (None, 0, None)
    assert admission.deadline == NOW + 30
    assert gate.limits.hits == [("free_template", "127.0.0.1")]
    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])


def test_a_free_template_asked_for_too_often_says_how_long_to_wait():
    gate = Gate(shut=12.0)

    with pytest.raises(TooManyRequests) as refusal:
        gate.buy(template=FREE)

    assert refusal.value.retry_after == 12.0


def test_an_owners_test_costs_nothing_even_without_an_address_or_with_a_payment():
    gate = Gate(shut=12.0)

    execution = gate.buy(listing=Listing(), owner_test=True)

    assert (execution.kind, execution.amount) == (Kind.OWNER_TEST, 0)
    assert (gate.ledger.steps, gate.facilitator.asked) == ([], [])


def test_an_unpaid_call_that_fails_leaves_nothing_in_the_ledger(gate):
    with pytest.raises(ModelError), gate.admit(FREE):
        raise ModelError()

    assert gate.ledger.steps == []


# The store fails


@pytest.mark.parametrize(
    ("step", "left_behind"), [("claim", []), ("settling", [(State.RELEASED, 1)])]
)
def test_a_store_that_fails_before_settling_charges_nobody(gate, step, left_behind):
    gate.ledger.troubles = {step: 1}

    with pytest.raises(StoreUnavailable):
        gate.buy()

    assert "settle" not in gate.facilitator.asked
    assert gate.states() == left_behind


def test_a_store_that_stays_away_leaves_the_row_to_recovery_and_charges_nobody(gate):
    gate.ledger.troubles = {"settling": 9, "released": 9}

    with pytest.raises(StoreUnavailable):
        gate.buy()

    assert "settle" not in gate.facilitator.asked
    assert gate.states() == [(State.CLAIMED, 1)]


def test_a_store_that_fails_after_the_money_moved_leaves_the_outcome_to_recovery(gate):
    gate.ledger.troubles = {"settled": 1}

    with pytest.raises(SettlementUnknown) as refusal:
        gate.buy()

    assert gate.states() == [(State.SETTLING, 1)]
    assert gate.ledger.steps == ["claim", "settling", "settled"], "nothing is released"
    assert gate.ledger.payments != {}
    assert refusal.value.execution == gate.ledger.row
    assert refusal.value.retry_after == 5


def test_a_refusal_that_cannot_be_written_down_stays_settling(gate):
    gate.facilitator.settles = Refused("insufficient_balance")
    gate.ledger.troubles = {"released": 9}

    with pytest.raises(SettlementUnknown):
        gate.buy()

    assert gate.states() == [(State.SETTLING, 1)]
    assert gate.left.due() == {gate.ledger.row.id: 1}


def test_who_has_lost_the_row_before_settling_asks_nobody_to_settle(gate):
    with pytest.raises(Superseded), gate.admit() as admission:
        taken = gate.ledger.row
        gate.ledger.rows[taken.id] = replace(taken, attempt=2, worker="w2")
        gate.paygate.settle(admission)

    assert "settle" not in gate.facilitator.asked
    assert gate.states() == [(State.CLAIMED, 2)], "the other's row is not released"


def test_who_has_lost_the_row_while_settling_does_not_run(gate):
    def take_over():
        gate.ledger.rows[gate.ledger.row.id] = replace(gate.ledger.row, attempt=2)

    gate.facilitator.at_settling = take_over

    with pytest.raises(Superseded):
        gate.buy()

    assert gate.states() == [(State.SETTLING, 2)]


# The facilitator fails


def test_a_facilitator_that_refuses_to_verify_releases_the_row(gate):
    gate.facilitator.verifies = Refused("insufficient_funds")

    with pytest.raises(PaymentRequired, match="insufficient_funds"):
        gate.buy()

    assert gate.facilitator.asked == ["verify"]
    assert gate.states() == [(State.RELEASED, 1)]
    assert gate.ledger.row.code == "PAYMENT_REQUIRED"


def test_a_facilitator_that_is_away_releases_the_row(gate):
    gate.facilitator.verifies = FacilitatorUnavailable()

    with pytest.raises(FacilitatorUnavailable):
        gate.buy()

    assert gate.states() == [(State.RELEASED, 1)]
    assert gate.ledger.row.code == "FACILITATOR_UNAVAILABLE"


def test_a_definite_refusal_to_settle_releases_the_row_and_tells_why(gate):
    gate.facilitator.settles = Refused("insufficient_balance")

    with pytest.raises(PaymentRequired, match="insufficient_balance") as refusal:
        gate.buy()

    assert gate.states() == [(State.RELEASED, 1)]
    assert gate.ledger.row.code == "insufficient_balance"
    assert refusal.value.refused == gate.ledger.row
    assert gate.ledger.steps == ["claim", "settling", "released"]


def test_an_unknown_outcome_stays_settling_and_is_no_second_quote(gate):
    gate.facilitator.settles = Unknown("no_answer")

    with pytest.raises(SettlementUnknown) as refusal:
        gate.buy()

    assert gate.states() == [(State.SETTLING, 1)]
    assert refusal.value.execution == gate.ledger.row


@pytest.mark.parametrize("kill", [GreenletExit, KeyboardInterrupt, RuntimeError])
def test_whoever_dies_while_settling_leaves_the_row_settling(gate, kill):
    gate.facilitator.settles = kill()

    with pytest.raises(kill):
        gate.buy()

    assert gate.states() == [(State.SETTLING, 1)]


# The clock, and those who leave


@pytest.mark.parametrize(("late", "charged"), [(29.9, True), (30.0, False), (500.0, False)])
def test_after_the_deadline_nothing_is_settled(gate, late, charged):
    def buy():
        with gate.admit() as admission:
            gate.clock.advance(late)
            gate.paygate.settle(admission)

    if charged:
        buy()
    else:
        with pytest.raises(TimedOut):
            buy()

    assert ("settle" in gate.facilitator.asked) is charged
    assert gate.states() == [(State.SETTLED if charged else State.RELEASED, 1)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimedOut, "TIMEOUT"),
        (GreenletExit, "UNKNOWN"),
        (KeyboardInterrupt, "UNKNOWN"),
        (GeneratorExit, "UNKNOWN"),
        (RuntimeError, "UNKNOWN"),
    ],
)
def test_whatever_comes_before_settling_releases_the_row(gate, error, code):
    with pytest.raises(error), gate.admit():
        raise error()

    assert gate.states() == [(State.RELEASED, 1)]
    assert (gate.ledger.row.code, gate.ledger.row.ended_at) == (code, NOW)
    assert "settle" not in gate.facilitator.asked


@pytest.mark.parametrize("error", [GreenletExit, KeyboardInterrupt, RuntimeError])
def test_whoever_dies_while_verifying_releases_the_row(gate, error):
    gate.facilitator.verifies = error()

    with pytest.raises(error):
        gate.buy()

    assert gate.states() == [(State.RELEASED, 1)]


def test_a_released_payment_buys_again_under_the_same_row(gate):
    with pytest.raises(TimedOut), gate.admit():
        raise TimedOut()

    execution = gate.buy()

    assert (execution.state, execution.attempt) == (State.SETTLED, 2)
    assert gate.states() == [(State.SETTLED, 2)]


def test_a_run_that_could_not_begin_after_settling_is_owed(gate):
    with pytest.raises(ModelError) as refusal, gate.admit() as admission:
        gate.paygate.settle(admission)
        raise ModelError()

    assert gate.states() == [(State.REFUND_DUE, 1)]
    assert refusal.value.execution == gate.ledger.row
    assert refusal.value.execution.credit.reruns_left == 3


@pytest.mark.parametrize("error", [GreenletExit, RuntimeError])
def test_even_a_kill_between_settling_and_running_is_owed(gate, error):
    with pytest.raises(error), gate.admit() as admission:
        gate.paygate.settle(admission)
        raise error()

    assert gate.states() == [(State.REFUND_DUE, 1)]


# Presented again


def test_what_was_never_seen_runs(gate):
    assert gate.paygate.recall(LISTING, CALL) is None
    assert gate.paygate.recall(LISTING, replace(CALL, payment=None)) is None


@pytest.mark.parametrize(
    ("changes", "same_words", "answer"),
    [
        ({"state": State.CLAIMED}, True, InProgress),
        ({"state": State.CLAIMED}, False, Conflict),
        ({"state": State.SETTLING}, True, SettlementUnknown),
        ({"state": State.SETTLING}, False, SettlementUnknown),
        ({"state": State.SETTLED}, True, "followed"),
        ({"state": State.SETTLED}, False, Conflict),
        ({"state": State.COMPLETED}, True, "followed"),
        ({"state": State.COMPLETED}, False, Conflict),
        ({"state": State.REFUND_DUE}, True, None),
        ({"state": State.REFUND_DUE, "reruns": 2}, True, None),
        ({"state": State.REFUND_DUE, "reruns": 3}, True, Conflict),
        ({"state": State.REFUND_DUE}, False, Conflict),
        ({"state": State.REFUNDED}, True, Conflict),
        ({"state": State.REFUNDED}, False, Conflict),
        ({"state": State.RELEASED}, True, None),
        ({"state": State.RELEASED}, False, None),
    ],
)
def test_a_payment_presented_again_is_answered_from_the_ledger(gate, changes, same_words, answer):
    earlier = replace(gate.buy(), **changes)
    listing = Listing(earlier=earlier)
    call = CALL if same_words else replace(CALL, values={"topic": "snow"})

    if answer in (None, "followed"):
        expected = None if answer is None else earlier
        assert gate.paygate.recall(listing, call) is expected
    else:
        with pytest.raises(answer):
            gate.paygate.recall(listing, call)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("signer", [None, "0x" + "66" * 20])
def test_a_forgery_of_a_known_payment_learns_nothing(gate, state, signer):
    earlier = replace(gate.buy(), state=state)
    gate.facilitator.signer_is = signer

    assert gate.paygate.recall(Listing(earlier=earlier), CALL) is None


def test_a_conflict_over_a_debt_shows_the_receipt(gate):
    spent = replace(gate.buy(), state=State.REFUND_DUE, reruns=3)

    with pytest.raises(Conflict) as refusal:
        gate.paygate.recall(Listing(earlier=spent), CALL)

    assert refusal.value.execution == spent
    assert "used up" in refusal.value.message


def test_a_debt_runs_again_without_another_transfer(gate):
    listing = gate.owing()

    execution = gate.buy(listing=listing)

    assert (gate.ledger.steps, gate.facilitator.asked) == (["settled"], [])
    assert (execution.state, execution.attempt, execution.reruns) == (State.SETTLED, 2, 1)
    assert execution.receipt == listing.earlier.receipt


def test_a_debt_runs_again_although_its_payment_has_ended_and_the_price_has_changed(gate):
    listing = gate.owing()
    gate.clock.advance(10_000)

    execution = gate.buy(listing=listing, template=replace(TEMPLATE, price=99_000))

    assert (execution.state, execution.amount) == (State.SETTLED, 10_000)


def test_a_forgery_does_not_run_a_debt(gate):
    listing = gate.owing()
    gate.facilitator.signer_is = None

    with pytest.raises(PaymentRequired):
        gate.buy(listing=listing)

    assert gate.states() == [(State.REFUND_DUE, 1)]


@pytest.mark.parametrize("error", [TimedOut, GreenletExit])
def test_a_debt_that_could_not_run_is_owed_again(gate, error):
    listing = gate.owing()

    with pytest.raises(error), gate.admit(listing=listing):
        raise error()

    assert gate.states() == [(State.REFUND_DUE, 2)]
    assert gate.ledger.row.credit.reruns_left == 3, "a re-run counts once Claude has spoken"


def test_of_two_who_take_up_a_debt_one_runs_it(gate):
    listing = gate.owing()
    gate.buy(listing=listing)

    with pytest.raises(Superseded):
        gate.buy(listing=listing)

    assert gate.states() == [(State.SETTLED, 2)]


def test_a_debt_whose_failure_cannot_be_written_stays_settled_for_recovery(gate):
    listing = gate.owing()
    gate.ledger.troubles = {"refund_due": 9}

    with pytest.raises(TimedOut) as refusal, gate.admit(listing=listing):
        raise TimedOut()

    assert gate.states() == [(State.SETTLED, 2)]
    assert refusal.value.execution is None, "no credit is promised that the ledger does not know"


def test_an_admission_cannot_be_settled_twice(gate):
    with pytest.raises(ValueError, match="may not follow"), gate.admit() as admission:
        gate.paygate.settle(admission)
        gate.paygate.settle(admission)

    assert gate.facilitator.asked == ["verify", "settle"]


def test_settled_is_what_the_facilitator_said(gate):
    gate.facilitator.settles = Settled("0xabc")

    assert gate.buy().receipt.transaction == "0xabc"


# A network that is offered, and cannot be taken just now


@pytest.mark.parametrize("is_judged", [True, False])
def test_nobody_signs_anew_because_their_network_is_away_for_a_while(gate, is_judged):
    base = NETWORKS["eip155:8453"]
    gate.paygate._pricing = Pricing(
        lambda network: is_judged or network == base,
        Networks((DEVELOPMENT, base)),
        "https://jobs.example",
    )

    if is_judged:
        assert gate.buy().state is State.SETTLED
        return
    with pytest.raises(FacilitatorUnavailable) as raised:
        gate.buy()

    assert "do not sign another" in raised.value.message
    assert (gate.states(), gate.facilitator.asked) == ([], [])
    with pytest.raises(PaymentRequired) as quoted:
        gate.buy(call=UNPAID)
    assert [each.network for each in quoted.value.quote.requirements] == [base]
