"""What became of an authorization: the same sentences of a real chain and of play money."""

import pytest

from tests.chain.conftest import Money, asked_of, payment_of, settle
from x402jobs.domain.networks import NETWORKS
from x402jobs.ports import Settled, SpentElsewhere, Transferred, Unseen, Unused

CREATOR = "0x" + "c1" * 20
SOMEBODY = "0x" + "0b" * 20
PRICE = 10_000
BASE = NETWORKS["eip155:8453"]


def look(money: Money, signed, since=None):
    since = money.now() - 5 if since is None else since
    return money.chain.look(signed.authorization, money.network, since)


def test_what_was_settled_is_found_in_the_transaction_that_the_facilitator_tells(money):
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE)

    transaction = settle(money.facilitator, signed, money.network)
    money.bury()

    seen = look(money, signed)
    assert isinstance(seen, Transferred) and seen.transaction == transaction


def test_who_sends_it_does_not_matter(money):
    """Anybody who gets to see an authorization can send it: the money goes where it says."""
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE)

    transaction = money.move(signed)
    money.bury()

    assert not isinstance(
        money.facilitator.settle(
            payment_of(signed, money.network), asked_of(signed, money.network)
        ),
        Settled,
    )
    money.bury()
    seen = look(money, signed)
    assert isinstance(seen, Transferred) and seen.transaction == transaction


def test_two_equal_payments_are_two_transfers(money):
    payer = money.payer(3 * PRICE)
    both = [money.sign(payer, CREATOR, PRICE) for _ in range(2)]

    for signed in both:
        settle(money.facilitator, signed, money.network)
    money.bury()

    places = {(seen.transaction, seen.log_index) for seen in (look(money, each) for each in both)}
    assert len(places) == 2


def test_what_nobody_has_sent_is_unused_and_may_still_be_used(money):
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE)
    money.bury()

    seen = look(money, signed)

    assert isinstance(seen, Unused)
    assert seen.at <= money.now() < signed.authorization.valid_before


def test_what_was_not_sent_in_time_never_will_be(money):
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE, valid_before=int(money.now()) + 120)
    money.let_pass(signed.authorization.valid_before + 30)

    seen = look(money, signed)

    assert isinstance(seen, Unused) and seen.at > signed.authorization.valid_before
    try:
        money.move(signed)
    except Exception:  # each kind of money has its own
        pass
    money.bury()
    assert isinstance(look(money, signed), Unused)


def test_a_payment_that_was_not_covered_is_unused(money):
    signed = money.sign(money.payer(PRICE - 1), CREATOR, PRICE)

    money.facilitator.settle(payment_of(signed, money.network), asked_of(signed, money.network))
    money.bury()

    assert isinstance(look(money, signed), Unused)


@pytest.mark.parametrize("instead", [(SOMEBODY, PRICE), (CREATOR, PRICE - 1)], ids=["to", "value"])
def test_a_nonce_that_paid_for_something_else_has_not_paid_us(money, instead):
    payer = money.payer(2 * PRICE)
    signed = money.sign(payer, CREATOR, PRICE)
    money.move(money.sign(payer, *instead, nonce=signed.authorization.nonce))
    money.bury()

    assert look(money, signed) == SpentElsewhere()


def test_another_payers_nonce_is_another_nonce(money):
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE)
    another = money.sign(money.payer(PRICE), CREATOR, PRICE, nonce=signed.authorization.nonce)

    money.move(another)
    money.bury()

    assert isinstance(look(money, another), Transferred)
    assert isinstance(look(money, signed), Unused)


def test_a_chain_speaks_of_itself_alone(money):
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE)
    settle(money.facilitator, signed, money.network)
    money.bury()

    assert money.chain.look(signed.authorization, BASE, money.now()) == Unseen("another_chain")


def test_with_nobody_to_ask_nothing_is_known(money):
    signed = money.sign(money.payer(PRICE), CREATOR, PRICE)
    settle(money.facilitator, signed, money.network)
    money.bury()
    assert isinstance(look(money, signed), Transferred)

    money.vanish()

    assert look(money, signed) == Unseen("no_answer")
