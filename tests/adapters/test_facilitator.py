"""Signatures, verification and settlement: the SDK's own facilitator over the play money."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils import to_checksum_address
from hypothesis import assume, given
from hypothesis import strategies as st
from x402.mechanisms.evm import constants as reasons
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization
from x402.schemas import SettleResponse, SupportedKind, SupportedResponse, VerifyResponse

from x402jobs.adapters.facilitator import DEFINITE, RemoteFacilitator, X402Facilitator, recover
from x402jobs.adapters.facilitator.signer import digest_of
from x402jobs.devkit.development_ledger import GRANT, DevelopmentLedger
from x402jobs.devkit.facilitator_server import FacilitatorServer
from x402jobs.devkit.wallet import Wallet, sign
from x402jobs.domain.errors import FacilitatorUnavailable
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Network
from x402jobs.domain.payment import Authorization, Payment, PaymentRequirements
from x402jobs.domain.quote import Quote
from x402jobs.domain.secret import Secret
from x402jobs.ports import Refused, Settled, Unknown, Verified

PRICE = 10_000
CREATOR = "0x" + "c1" * 20
ASKED = PaymentRequirements(DEVELOPMENT, PRICE, CREATOR)
CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TRANSACTION = "0x" + "ab" * 32


def new_wallet() -> Wallet:
    account = Account.create()
    return Wallet(account.address.lower(), Secret("0x" + account.key.hex()))


def pay(wallet: Wallet, asked: PaymentRequirements = ASKED) -> Payment:
    """What the official client presents for this price."""
    quote = Quote("http://shop.test/@ada/haiku", "A haiku", (asked,)).as_json("Payment required.")
    header = sign(wallet, quote, max_usd=1000, networks=[asked.network])
    return Payment.parse(json.loads(base64.b64decode(header)))


def hand_sign(wallet: Wallet, network: Network = DEVELOPMENT, **fields: Any) -> Payment:
    """A payment signed without the SDK, so that any field may be anything."""
    now = int(time.time())
    about = {"to": CREATOR, "value": PRICE, "valid_after": 0, "valid_before": now + 120}
    about |= {"payer": wallet.address, "nonce": "0x" + secrets.token_hex(32)} | fields
    signed = Authorization(**about)
    message = signed.as_json() | {
        "value": signed.value,
        "validAfter": signed.valid_after,
        "validBefore": signed.valid_before,
    }
    names = {"uint256": ("value", "validAfter", "validBefore"), "bytes32": ("nonce",)}
    kinds = {name: kind for kind, many in names.items() for name in many}
    fields_712 = [{"name": name, "type": kinds.get(name, "address")} for name in message]
    domain = {
        "name": network.token_name,
        "version": network.token_version,
        "chainId": network.chain_id,
        "verifyingContract": network.token,
    }
    signature = Account.sign_typed_data(
        wallet.key.reveal(), domain, {"TransferWithAuthorization": fields_712}, message
    ).signature
    return Payment(
        authorization=signed,
        signature=bytes(signature),
        scheme="exact",
        network=network.id,
        asset=network.token,
        amount=str(PRICE),
        pay_to=CREATOR,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DevelopmentLedger]:
    ledger = DevelopmentLedger(tmp_path / "ledger.sqlite3")
    yield ledger
    ledger.close()


@pytest.fixture(params=["in process", "by URL"])
def facilitator(
    request: pytest.FixtureRequest, ledger: DevelopmentLedger
) -> Iterator[X402Facilitator]:
    """Whichever way it is asked, it says the same."""
    if request.param == "in process":
        yield X402Facilitator(ledger.facilitator())
        return
    with FacilitatorServer(ledger.facilitator()) as server:
        remote = RemoteFacilitator(server.url)
        yield X402Facilitator(remote)
        remote.close()


@pytest.fixture
def ada() -> Wallet:
    return new_wallet()


# What a good payment does


def test_a_payment_moves_exactly_the_price(facilitator, ledger, ada):
    payment = pay(ada)

    assert facilitator.signer(payment, ASKED.network) == ada.address
    assert facilitator.verify(payment, ASKED) == Verified()
    assert ledger.transfers() == []

    settled = facilitator.settle(payment, ASKED)

    assert isinstance(settled, Settled)
    assert [each.transaction for each in ledger.transfers()] == [settled.transaction]
    assert ledger.balance(ada.address) == GRANT - PRICE
    assert ledger.balance(CREATOR) == GRANT + PRICE


def test_a_signature_made_without_the_sdk_is_as_good(facilitator, ada):
    payment = hand_sign(ada)

    assert facilitator.signer(payment, ASKED.network) == ada.address
    assert facilitator.verify(payment, ASKED) == Verified()
    assert isinstance(facilitator.settle(payment, ASKED), Settled)


def test_building_a_facilitator_asks_nobody_anything(tmp_path):
    ledger = DevelopmentLedger(tmp_path / "ledger.sqlite3")

    X402Facilitator(ledger.facilitator())

    assert list(tmp_path.iterdir()) == []


# What a payment that has been used does


def test_a_spent_authorization_is_refused_at_verify(facilitator, ada):
    payment = pay(ada)
    facilitator.settle(payment, ASKED)

    assert facilitator.verify(payment, ASKED) == Refused(reasons.ERR_NONCE_ALREADY_USED)


def test_a_spent_authorization_is_unknown_at_settle_because_it_may_have_paid_us(
    facilitator, ledger, ada
):
    payment = pay(ada)
    facilitator.settle(payment, ASKED)

    assert facilitator.settle(payment, ASKED) == Unknown(reasons.ERR_NONCE_ALREADY_USED)
    assert len(ledger.transfers()) == 1


def test_a_settled_payment_asked_about_after_its_window_is_unknown_not_refused(
    facilitator, ledger, ada, monkeypatch
):
    # The SDK wants six seconds left, and looks at the window before it looks at anything else.
    payment = pay(ada)
    assert isinstance(facilitator.settle(payment, ASKED), Settled)
    later = time.time() + 115
    monkeypatch.setattr(time, "time", lambda: later)

    assert facilitator.settle(payment, ASKED) == Unknown(reasons.ERR_VALID_BEFORE_EXPIRED)
    assert len(ledger.transfers()) == 1


def test_ten_threads_with_one_authorization_make_one_transfer(facilitator, ledger, ada):
    payment = pay(ada)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(lambda _: facilitator.settle(payment, ASKED), range(10)))

    assert sorted(type(each).__name__ for each in outcomes) == ["Settled"] + ["Unknown"] * 9
    assert len(ledger.transfers()) == 1
    assert ledger.balance(ada.address) == GRANT - PRICE


# Money that is not there


def test_a_price_beyond_the_balance_is_refused_at_verify(facilitator, ada):
    asked = replace(ASKED, amount=GRANT + 1)

    assert facilitator.verify(pay(ada, asked), asked) == Refused(reasons.ERR_INSUFFICIENT_BALANCE)


def test_a_wallet_drained_between_verify_and_settle_is_refused_and_nothing_moves(
    facilitator, ledger, ada
):
    everything = replace(ASKED, amount=GRANT)
    payment = pay(ada)
    assert facilitator.verify(payment, ASKED) == Verified()
    assert isinstance(facilitator.settle(pay(ada, everything), everything), Settled)

    assert facilitator.settle(payment, ASKED) == Refused(reasons.ERR_INSUFFICIENT_BALANCE)
    assert ledger.balance(ada.address) == 0


def test_a_settled_payment_of_a_drained_wallet_is_not_taken_for_an_uncovered_one(facilitator, ada):
    everything = replace(ASKED, amount=GRANT)
    payment = pay(ada, everything)
    assert isinstance(facilitator.settle(payment, everything), Settled)

    assert facilitator.settle(payment, everything) == Unknown(reasons.ERR_NONCE_ALREADY_USED)


# Forgeries

FORGERIES: dict[str, Callable[[Authorization], Authorization]] = {
    "payer": lambda signed: replace(signed, payer="0x" + "dd" * 20),
    "to": lambda signed: replace(signed, to="0x" + "ee" * 20),
    "value": lambda signed: replace(signed, value=signed.value + 1),
    "valid_after": lambda signed: replace(signed, valid_after=signed.valid_after + 1),
    "valid_before": lambda signed: replace(signed, valid_before=signed.valid_before + 1),
    "nonce": lambda signed: replace(signed, nonce="0x" + "01" * 32),
}


@pytest.mark.parametrize("field_name", FORGERIES)
def test_a_changed_field_is_somebody_elses_signature_and_moves_nothing(
    facilitator, ledger, ada, field_name
):
    payment = pay(ada)
    forged = replace(payment, authorization=FORGERIES[field_name](payment.authorization))

    assert facilitator.signer(forged, ASKED.network) not in (None, forged.authorization.payer)
    assert isinstance(facilitator.verify(forged, ASKED), Refused)
    assert isinstance(facilitator.settle(forged, ASKED), Refused)
    assert ledger.transfers() == []


DOMAINS = {
    "chain": replace(DEVELOPMENT, chain_id=1),
    "token": replace(DEVELOPMENT, token="0x" + "77" * 20),
    "name": replace(DEVELOPMENT, token_name="USD Coin"),
    "version": replace(DEVELOPMENT, token_version="2"),
}


@pytest.mark.parametrize("part", DOMAINS)
def test_a_signature_for_another_domain_is_not_the_payers(facilitator, ledger, ada, part):
    payment = hand_sign(ada, DOMAINS[part])

    assert facilitator.signer(payment, ASKED.network) != ada.address
    assert facilitator.verify(payment, ASKED) == Refused(reasons.ERR_INVALID_SIGNATURE)
    assert facilitator.settle(payment, ASKED) == Refused(reasons.ERR_INVALID_SIGNATURE)
    assert ledger.transfers() == []


@pytest.mark.parametrize("part", DOMAINS)
def test_the_signer_is_read_under_the_domain_that_is_asked_for(facilitator, ada, part):
    asked = replace(ASKED, network=DOMAINS[part])

    assert facilitator.signer(hand_sign(ada, DOMAINS[part]), asked.network) == ada.address
    assert facilitator.signer(pay(ada), asked.network) != ada.address


@pytest.mark.parametrize("part", ["name", "version"])
def test_the_token_knows_its_own_domain_even_if_we_quote_another(facilitator, ledger, ada, part):
    # The SDK verifies under the domain the requirements say; only the token can know better.
    asked = replace(ASKED, network=DOMAINS[part])
    payment = hand_sign(ada, DOMAINS[part])

    assert facilitator.verify(payment, asked) == Refused(reasons.ERR_INVALID_SIGNATURE)
    assert facilitator.settle(payment, asked) == Refused(reasons.ERR_INVALID_SIGNATURE)
    assert ledger.transfers() == []


def test_what_the_caller_says_they_accepted_is_not_what_is_asked(facilitator, ada):
    cheap = replace(pay(ada), amount="1", pay_to="0x" + "ee" * 20, asset="0x" + "77" * 20)
    asked = replace(ASKED, amount=2 * PRICE)

    assert facilitator.verify(cheap, asked) == Refused(reasons.ERR_AUTHORIZATION_VALUE_MISMATCH)


@pytest.mark.parametrize(
    ("window", "verified", "settled"),
    [
        (
            {"valid_before": 1},
            Refused(reasons.ERR_VALID_BEFORE_EXPIRED),
            Unknown(reasons.ERR_VALID_BEFORE_EXPIRED),
        ),
        (
            {"valid_after": 2**40, "valid_before": 2**41},
            Refused(reasons.ERR_VALID_AFTER_FUTURE),
            Refused(reasons.ERR_VALID_AFTER_FUTURE),
        ),
    ],
)
def test_an_authorization_outside_its_window_moves_nothing(
    facilitator, ledger, ada, window, verified, settled
):
    payment = hand_sign(ada, **window)

    assert facilitator.verify(payment, ASKED) == verified
    assert facilitator.settle(payment, ASKED) == settled
    assert ledger.transfers() == []


def test_a_facilitator_is_shown_what_we_ask_and_never_what_the_caller_says(ada):
    client = Scripted(verify_says=VerifyResponse(is_valid=True), settle_says=[success()])
    payment = pay(ada)
    claims = replace(payment, amount="1", pay_to="0x" + "ee" * 20, asset="0x" + "77" * 20)
    facilitator = X402Facilitator(client)

    facilitator.verify(claims, ASKED)
    facilitator.settle(claims, ASKED)

    asked = payment.as_json(ASKED)
    signed = asked["payload"]["authorization"]
    signed |= {name: to_checksum_address(signed[name]) for name in ("from", "to")}
    assert [shown.model_dump(exclude_none=True) for shown in client.shown] == 2 * [asked]
    assert [asked.model_dump() for asked in client.asked] == 2 * [ASKED.as_json()]


# Signatures that are none

ODD = {
    "empty": lambda good: b"",
    "64 bytes": lambda good: good[:64],
    "66 bytes": lambda good: good + b"\x00",
    "v = 0": lambda good: good[:64] + b"\x00",
    "v = 1": lambda good: good[:64] + b"\x01",
    "v = 26": lambda good: good[:64] + b"\x1a",
    "v = 29": lambda good: good[:64] + b"\x1d",
    "v = 255": lambda good: good[:64] + b"\xff",
    "r = 0": lambda good: bytes(32) + good[32:],
    "r = n": lambda good: CURVE.to_bytes(32) + good[32:],
    "r above n": lambda good: b"\xff" * 32 + good[32:],
    "s = 0": lambda good: good[:32] + bytes(32) + good[64:],
    "s = n": lambda good: good[:32] + CURVE.to_bytes(32) + good[64:],
    "high s": lambda good: high_s(good),
    "nothing but zeros": lambda good: bytes(65),
    "a smart wallet's": lambda good: good + b"\x64\x92" * 16,
}


def high_s(good: bytes) -> bytes:
    """The same signature's twin, which recovers to the same key and which tokens refuse."""
    twin = CURVE - int.from_bytes(good[32:64])
    return good[:32] + twin.to_bytes(32) + bytes([27 + 28 - good[64]])


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_signature_has_no_signer(facilitator, ada, kind):
    payment = pay(ada)

    assert (
        facilitator.signer(replace(payment, signature=ODD[kind](payment.signature)), ASKED.network)
        is None
    )


def test_a_high_s_passes_the_sdks_own_check_but_not_the_token(facilitator, ledger, ada):
    payment = pay(ada)
    twin = replace(payment, signature=high_s(payment.signature))

    assert facilitator.verify(twin, ASKED) == Refused(reasons.ERR_INVALID_SIGNATURE)
    assert facilitator.settle(twin, ASKED) == Refused(reasons.ERR_INVALID_SIGNATURE)
    assert ledger.transfers() == []


@pytest.mark.parametrize("name", ["value", "valid_after", "valid_before"])
def test_a_number_no_token_can_hold_has_no_signer(facilitator, ada, name):
    payment = pay(ada)
    signed = replace(payment.authorization, **{name: 10**78 - 1})

    assert facilitator.signer(replace(payment, authorization=signed), ASKED.network) is None


ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
AUTHORIZATIONS = st.builds(
    Authorization,
    payer=ADDRESSES,
    to=ADDRESSES,
    value=st.integers(0, 10**78 - 1),
    valid_after=st.integers(0, 10**78 - 1),
    valid_before=st.integers(0, 10**78 - 1),
    nonce=st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex()),
)
SIGNATURES = st.binary(max_size=130) | st.builds(
    lambda rs, v: rs + bytes([v]), st.binary(min_size=64, max_size=64), st.sampled_from([27, 28])
)


@given(signed=AUTHORIZATIONS, signature=SIGNATURES)
def test_no_bytes_make_the_signer_raise(signed, signature):
    found = recover(signed, signature, DEVELOPMENT)

    assert found is None or (len(found) == 42 and found == found.lower())


@given(signed=AUTHORIZATIONS, network=st.sampled_from([*NETWORKS.values(), DEVELOPMENT]))
def test_what_is_signed_is_what_the_sdk_says_it_is(signed, network):
    assume(max(signed.value, signed.valid_after, signed.valid_before) < 2**256)
    theirs = ExactEIP3009Authorization(
        from_address=signed.payer,
        to=signed.to,
        value=str(signed.value),
        valid_after=str(signed.valid_after),
        valid_before=str(signed.valid_before),
        nonce=signed.nonce,
    )

    assert digest_of(signed, network) == hash_eip3009_authorization(
        theirs, network.chain_id, network.token, network.token_name, network.token_version
    )


# Facilitators that fail, lie or mumble


@dataclass
class Scripted:
    """A facilitator client that says what it is told to; an exception is raised."""

    verify_says: Any = None
    settle_says: list[Any] = field(default_factory=list)
    supported_says: list[Any] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    supported_asked: int = 0

    def get_supported(self) -> Any:
        self.supported_asked += 1
        kind = SupportedKind(x402_version=2, scheme="exact", network=DEVELOPMENT.id)
        return self._say(self.supported_says.pop(0)) if self.supported_says else supported(kind)

    def verify(self, payload: Any, requirements: Any) -> Any:
        self._note(payload, requirements)
        return self._say(self.verify_says)

    def settle(self, payload: Any, requirements: Any) -> Any:
        self._note(payload, requirements)
        return self._say(self.settle_says.pop(0))

    def _note(self, payload: Any, requirements: Any) -> None:
        self.shown.append(payload)
        self.asked.append(requirements)

    def _say(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer


def supported(*kinds: SupportedKind) -> SupportedResponse:
    return SupportedResponse(kinds=list(kinds))


def failure(reason: str | None, transaction: str = "") -> SettleResponse:
    return SettleResponse(
        success=False, error_reason=reason, transaction=transaction, network=DEVELOPMENT.id
    )


def success(transaction: Any = TRANSACTION, **changes: Any) -> SettleResponse:
    about = {"success": True, "transaction": transaction, "network": DEVELOPMENT.id}
    return SettleResponse.model_construct(**about | changes)


BROKEN = {
    "raises": ConnectionError("https://user:password@facilitator.test said no"),
    "nothing": None,
    "text": "OK",
    "an object": object(),
    "half a verdict": VerifyResponse.model_construct(is_valid=None),
    "a truthy verdict": VerifyResponse.model_construct(is_valid="false"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_facilitator_that_does_not_verify_is_unavailable_in_our_own_words(ada, kind, caplog):
    with pytest.raises(FacilitatorUnavailable) as told:
        X402Facilitator(Scripted(verify_says=BROKEN[kind])).verify(pay(ada), ASKED)

    assert told.value.message == FacilitatorUnavailable.sentence
    assert told.value.__cause__ is None and told.value.__context__ is None
    assert "password" not in caplog.text


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if "verdict" not in kind])
def test_a_facilitator_that_mumbles_at_settle_leaves_the_outcome_unknown(ada, kind, caplog):
    client = Scripted(settle_says=[BROKEN[kind]])

    assert X402Facilitator(client).settle(pay(ada), ASKED) == Unknown("no_answer")
    assert "password" not in caplog.text


def test_a_refusal_in_a_vendors_words_is_not_passed_on(ada):
    said = VerifyResponse(is_valid=False, invalid_reason="Key sk-123 is out of credit!")

    assert X402Facilitator(Scripted(verify_says=said)).verify(pay(ada), ASKED) == Refused(
        "unexplained"
    )


SETTLE_ANSWERS = [
    (success(), Settled(TRANSACTION)),
    (success(TRANSACTION.upper().replace("X", "x")), Settled(TRANSACTION)),
    (success(""), Unknown("no_transaction")),
    (success("pending"), Unknown("no_transaction")),
    (success(None), Unknown("no_answer")),
    (failure(reasons.ERR_INVALID_SIGNATURE), Refused(reasons.ERR_INVALID_SIGNATURE)),
    (failure(reasons.ERR_INVALID_SIGNATURE, TRANSACTION), Unknown(reasons.ERR_INVALID_SIGNATURE)),
    (failure(reasons.ERR_INSUFFICIENT_BALANCE), Refused(reasons.ERR_INSUFFICIENT_BALANCE)),
    (failure(reasons.ERR_NONCE_ALREADY_USED), Unknown(reasons.ERR_NONCE_ALREADY_USED)),
    (failure(reasons.ERR_VALID_BEFORE_EXPIRED), Unknown(reasons.ERR_VALID_BEFORE_EXPIRED)),
    (failure(reasons.ERR_TRANSACTION_FAILED), Unknown(reasons.ERR_TRANSACTION_FAILED)),
    (failure(reasons.ERR_TRANSACTION_FAILED, TRANSACTION), Unknown(reasons.ERR_TRANSACTION_FAILED)),
    (failure(reasons.ERR_SETTLEMENT_PENDING), Unknown(reasons.ERR_SETTLEMENT_PENDING)),
    (
        failure(reasons.ERR_TRANSACTION_SIMULATION_FAILED),
        Unknown(reasons.ERR_TRANSACTION_SIMULATION_FAILED),
    ),
    (failure("a_reason_of_tomorrow"), Unknown("a_reason_of_tomorrow")),
    (failure("Sorry, https://node.test/KEY timed out"), Unknown("unexplained")),
    (failure(None), Unknown("unexplained")),
    (failure(""), Unknown("unexplained")),
]


@pytest.mark.parametrize(("said", "outcome"), SETTLE_ANSWERS)
def test_what_settle_said(ada, said, outcome):
    assert X402Facilitator(Scripted(settle_says=[said])).settle(pay(ada), ASKED) == outcome


NOT_ABOUT_US = {
    "another payer": {"payer": "0x" + "dd" * 20},
    "another network": {"network": "eip155:8453"},
    "another network by its short name": {"network": "base"},
    "less": {"amount": str(PRICE - 1)},
    "more": {"amount": str(PRICE + 1)},
    "an amount in dollars": {"amount": "0.01"},
}


@pytest.mark.parametrize("what", NOT_ABOUT_US)
def test_an_answer_about_another_payment_leaves_the_outcome_of_ours_unknown(ada, what):
    client = Scripted(settle_says=[success(**NOT_ABOUT_US[what])])

    assert X402Facilitator(client).settle(pay(ada), ASKED) == Unknown("not_ours")


@pytest.mark.parametrize("what", [what for what in NOT_ABOUT_US if "another" in what])
def test_a_refusal_of_another_payment_does_not_release_ours(ada, what):
    refusal = failure(reasons.ERR_INSUFFICIENT_BALANCE).model_copy(update=NOT_ABOUT_US[what])

    outcome = X402Facilitator(Scripted(settle_says=[refusal])).settle(pay(ada), ASKED)

    assert outcome == Unknown("not_ours")


@pytest.mark.parametrize("spelled", [str.lower, str.upper, to_checksum_address])
def test_a_payer_is_the_same_in_any_letter_case(ada, spelled):
    said = {"payer": spelled(ada.address), "amount": str(PRICE)}
    client = Scripted(settle_says=[success(**said)])

    assert X402Facilitator(client).settle(pay(ada), ASKED) == Settled(TRANSACTION)


def test_another_payers_verdict_is_none(ada):
    said = VerifyResponse(is_valid=True, payer="0x" + "dd" * 20)

    with pytest.raises(FacilitatorUnavailable):
        X402Facilitator(Scripted(verify_says=said)).verify(pay(ada), ASKED)


def test_a_network_may_be_told_by_its_short_name(ada):
    sepolia = NETWORKS["eip155:84532"]
    asked = PaymentRequirements(sepolia, PRICE, CREATOR)
    client = Scripted(settle_says=[success(network="base-sepolia")])

    outcome = X402Facilitator(client).settle(hand_sign(ada, sepolia), asked)

    assert outcome == Settled(TRANSACTION)


def test_no_definite_refusal_is_one_that_may_follow_a_transfer():
    assert not DEFINITE & {
        reasons.ERR_NONCE_ALREADY_USED,
        reasons.ERR_VALID_BEFORE_EXPIRED,
        reasons.ERR_TRANSACTION_FAILED,
        reasons.ERR_TRANSACTION_SIMULATION_FAILED,
        reasons.ERR_FAILED_TO_VERIFY_SIGNATURE,
        reasons.ERR_SETTLEMENT_PENDING,
        reasons.ERR_TRANSFER_EVENT_MISMATCH,
    }


PENDING = failure(reasons.ERR_SETTLEMENT_PENDING, TRANSACTION)


@pytest.mark.parametrize(
    ("then", "outcome"),
    [
        (success(), Settled(TRANSACTION)),
        (PENDING, Unknown(reasons.ERR_SETTLEMENT_PENDING)),
        (
            failure(reasons.ERR_INSUFFICIENT_BALANCE),
            Unknown(reasons.ERR_INSUFFICIENT_BALANCE),
        ),
        (ConnectionError(), Unknown("no_answer")),
    ],
)
def test_a_refusal_of_the_sdks_second_try_does_not_hide_that_the_first_was_sent(ada, then, outcome):
    client = Scripted(settle_says=[PENDING, then])

    assert X402Facilitator(client).settle(pay(ada), ASKED) == outcome
    assert len(client.asked) == 2
