"""Whole paid calls over a real chain: where the money is afterwards, and who heard what."""

import pytest
from eth_utils import to_checksum_address
from werkzeug.test import TestResponse
from x402.schemas import PaymentPayload, PaymentRequirements, SettleResponse

from tests.blueprints.conftest import refused
from tests.chain.conftest import DEPTH, ChainClock
from tests.chain.evm import Evm, Payer
from tests.conftest import PAY_TO, PRICE, RAIN, Shop, decoded, events, text_of
from x402jobs.adapters.chain import RpcChain
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.devkit.wallet import sign
from x402jobs.domain.networks import Networks
from x402jobs.services import settlement

ROUNDS = 10
SAYS = "Rain taps the roof."
SOMEBODY = "0x" + "0b" * 20


class Facilitator:
    """The SDK's own, on the chain. `before_settling` and `before_sending` come in between."""

    def __init__(self, evm: Evm) -> None:
        signer = evm.signer()
        self._sdk = evm.facilitator(signer)
        self.before_settling = self.before_sending = lambda: None
        write = signer.write_contract

        def write_contract(*arguments, **named):
            self.before_sending()
            return write(*arguments, **named)

        signer.write_contract = write_contract

    def get_supported(self):
        return self._sdk.get_supported()

    def verify(self, payload, requirements):
        return self._sdk.verify(payload, requirements)

    def settle(self, payload: PaymentPayload, requirements: PaymentRequirements) -> SettleResponse:
        self.before_settling()
        return self._sdk.settle(payload, requirements)


class Mining:
    """The chain, which goes on by a block whenever it is looked at."""

    def __init__(self, evm, chain):
        self._evm = evm
        self._chain = chain
        self.seen = []

    def look(self, *arguments):
        self.seen.append(self._chain.look(*arguments))
        self._evm.mine()
        return self.seen[-1]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Blocks come when told to: nobody has to wait for them."""
    monkeypatch.setattr(settlement, "LOOK_SECONDS", 0.01)


@pytest.fixture
def sdk(evm):
    return Facilitator(evm)


@pytest.fixture
def facilitator(evm, sdk):
    return X402Facilitator(sdk, [evm.network])


@pytest.fixture
def networks(evm):
    return Networks((evm.network,))


@pytest.fixture
def depth():
    return 0


@pytest.fixture
def chain(evm, node, depth):
    chain = RpcChain({evm.network.id: node.url}, depth, ChainClock(evm))
    yield Mining(evm, chain) if depth else chain
    chain.close()


@pytest.fixture
def payer(shop, evm):
    """The shop's wallet, with a price's worth of dollars on the chain."""
    evm.mint(shop.wallet.address, PRICE)
    shop.claude.script(*[{"text": SAYS}] * (2 * ROUNDS))
    return Payer(shop.wallet.address, shop.wallet.key.reveal())


def payment(shop: Shop, evm: Evm) -> dict[str, str]:
    return {"PAYMENT-SIGNATURE": sign(shop.wallet, shop.quote(), networks=[evm.network])}


def present(shop: Shop, headers: dict[str, str]) -> TestResponse:
    return shop.client.post(shop.url, json=RAIN, headers=headers)


def states(shop: Shop) -> list[str]:
    return [row["state"] for row in shop.rows()]


def drain(evm: Evm, payer: Payer) -> None:
    """The payer's dollars go elsewhere, by an authorization of their own."""
    if funds := evm.balance(payer.address):
        evm.submit(evm.sign(payer, SOMEBODY, funds), by=evm.stranger)


def test_a_paid_call_moves_the_price_on_the_chain(shop, evm, payer):
    reply = present(shop, payment(shop, evm))

    said = events(reply)
    assert (text_of(said), said[-1]["type"]) == (SAYS, "done")
    assert (evm.balance(payer.address), evm.balance(PAY_TO)) == (0, PRICE)
    transaction = decoded(reply.headers["PAYMENT-RESPONSE"])["transaction"]
    assert evm.receipt(transaction)["status"] == 1
    assert said[-1]["receipt"]["transaction"] == transaction
    assert states(shop) == ["completed"]


@pytest.mark.parametrize("depth", [DEPTH])
def test_the_answer_waits_until_the_payment_is_deep_enough(shop, evm, payer, chain):
    said = events(present(shop, payment(shop, evm)))

    assert text_of(said) == SAYS
    assert [type(each).__name__ for each in chain.seen] == ["Unseen"] * DEPTH + ["Transferred"]


def test_the_same_payment_again_moves_nothing(shop, evm, payer):
    headers = payment(shop, evm)
    first, second = (events(present(shop, headers)) for _ in range(2))

    assert text_of(first) == text_of(second) == SAYS
    assert (evm.balance(PAY_TO), len(shop.claude.calls)) == (PRICE, 1)


def test_a_payment_spent_behind_our_back_is_refused(shop, evm, payer):
    evm.mint(payer.address)
    headers = payment(shop, evm)
    signed = decoded(headers["PAYMENT-SIGNATURE"])["payload"]["authorization"]
    evm.submit(evm.sign(payer, SOMEBODY, 1, nonce=signed["nonce"]))

    reply = present(shop, headers)

    assert reply.status_code == 402
    assert "nonce_already_used" in reply.json["error"]
    assert (states(shop), evm.balance(PAY_TO), shop.claude.calls) == (["released"], 0, [])


def test_who_cannot_pay_is_refused_before_anything_is_asked_of_claude(shop, evm, payer):
    drain(evm, payer)

    reply = present(shop, payment(shop, evm))

    assert reply.status_code == 402
    assert "insufficient_balance" in reply.json["error"]
    assert (states(shop), evm.balance(PAY_TO), shop.claude.calls) == (["released"], 0, [])


def test_whoever_else_sends_it_first_has_paid_for_the_caller(shop, evm, payer, sdk):
    """The facilitator's transaction fails, and the chain shows that ours were paid."""
    headers = payment(shop, evm)
    document = decoded(headers["PAYMENT-SIGNATURE"])["payload"]

    def run_in_front():
        signed = document["authorization"]
        evm.send(
            "transferWithAuthorization",
            *(to_checksum_address(signed[name]) for name in ("from", "to")),
            *(int(signed[name]) for name in ("value", "validAfter", "validBefore")),
            signed["nonce"],
            document["signature"],
            by=evm.stranger,
        )

    sdk.before_sending = run_in_front

    assert text_of(events(present(shop, headers))) == SAYS
    assert (states(shop), evm.balance(PAY_TO)) == (["completed"], PRICE)


@pytest.mark.parametrize("when", ["before_settling", "before_sending"])
def test_money_that_goes_elsewhere_after_verifying_buys_nothing(shop, evm, payer, sdk, when):
    setattr(sdk, when, lambda: drain(evm, payer))

    for round_ in range(ROUNDS):
        reply = present(shop, payment(shop, evm))

        refused(reply, 503, "SETTLEMENT_UNKNOWN")
        assert SAYS not in reply.get_data(as_text=True), round_
        assert "PAYMENT-REQUIRED" not in reply.headers
        evm.mint(payer.address, PRICE)

    assert (evm.balance(PAY_TO), evm.balance(SOMEBODY)) == (0, ROUNDS * PRICE)
    assert states(shop) == ["settling"] * ROUNDS


def recover(shop: Shop) -> None:
    """What the caretaker does every few seconds."""
    for hand in shop.services.caretaker._recovery.round():
        hand.join(20)


def test_what_can_never_be_paid_any_more_is_let_go(shop, evm, payer, sdk):
    sdk.before_sending = lambda: drain(evm, payer)
    headers = payment(shop, evm)
    refused(present(shop, headers), 503, "SETTLEMENT_UNKNOWN")

    signed = decoded(headers["PAYMENT-SIGNATURE"])["payload"]["authorization"]
    evm.let_pass(int(signed["validBefore"]))
    recover(shop)

    assert (states(shop), evm.balance(PAY_TO)) == (["released"], 0)


def test_what_its_payer_has_taken_back_is_let_go(shop, evm, payer, sdk):
    headers = payment(shop, evm)
    signed = decoded(headers["PAYMENT-SIGNATURE"])["payload"]["authorization"]
    sdk.before_sending = lambda: evm.cancel(payer, signed["nonce"])

    reply = present(shop, headers)

    assert (reply.status_code, states(shop)) == (402, ["released"])
    assert (evm.balance(PAY_TO), SAYS in reply.get_data(as_text=True)) == (0, False)


def test_a_payment_that_cannot_be_seen_yet_is_not_asked_for_twice(
    shop, evm, payer, node, monkeypatch
):
    """The facilitator says yes and the node says nothing. Later it does: the caller is owed."""
    headers = payment(shop, evm)
    monkeypatch.setattr(settlement, "CONFIRM_SECONDS", 0.2)
    node.stop()

    replies = [present(shop, headers) for _ in range(2)]

    for reply in replies:
        refused(reply, 503, "SETTLEMENT_UNKNOWN")
        assert "PAYMENT-REQUIRED" not in reply.headers
    node.start()
    recover(shop)
    assert (states(shop), evm.balance(PAY_TO)) == (["refund_due"], PRICE)

    assert text_of(events(present(shop, headers))) == SAYS
    assert (states(shop), evm.balance(PAY_TO)) == (["completed"], PRICE)
