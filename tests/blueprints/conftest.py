"""A shop whose facilitator is watched, and payments that no honest wallet would make."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_account import Account
from werkzeug.test import TestResponse
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization
from x402.schemas import PaymentPayload, SettleResponse, SupportedResponse, VerifyResponse
from x402.schemas import PaymentRequirements as Asked
from x402.server import FacilitatorClientSync

from tests.conftest import PAY_TO, PRICE, Shop, decoded, encoded
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.adapters.sqlite import Database
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import DEVELOPMENT, Network
from x402jobs.domain.payment import Authorization
from x402jobs.ports import Seen, Unseen
from x402jobs.services import agentic
from x402jobs.settings import Settings
from x402jobs.wiring import development_ledger


class WatchedFacilitator:
    """The development facilitator; remembers what it was asked, and can be out of order."""

    def __init__(self, client: FacilitatorClientSync) -> None:
        self._client = client
        self.asked: list[str] = []
        self.is_away = False
        self.loses_answers = False
        self.before_settling: Callable[[], None] = lambda: None
        self.seen: Callable[[PaymentPayload], object] = lambda payload: None

    def get_supported(self) -> SupportedResponse:
        return self._client.get_supported()

    def verify(self, payload: PaymentPayload, requirements: Asked) -> VerifyResponse:
        self.asked.append("verify")
        self.seen(payload)
        if self.is_away:
            raise ConnectionError("nobody answers")
        return self._client.verify(payload, requirements)

    def settle(self, payload: PaymentPayload, requirements: Asked) -> SettleResponse:
        self.asked.append("settle")
        self.seen(payload)
        self.before_settling()
        if self.is_away:
            raise ConnectionError("nobody answers")
        answer = self._client.settle(payload, requirements)
        if self.loses_answers:
            raise ConnectionError("the answer was lost on its way")
        return answer


SEPOLIA = Network(
    id="eip155:84532",
    chain_id=84532,
    token="0x5E90000000000000000000000000000000084532",
    token_name="Sepolia Dollar",
    token_version="2",
    short_name="base-sepolia",
)
"""A network that version 1 has a name for, with a token that exists nowhere."""


@pytest.fixture
def sepolia(settings: Settings) -> Iterator[DevelopmentLedger]:
    """The play money of the second network."""
    ledger = DevelopmentLedger(settings.data / "sepolia-ledger.sqlite3", SEPOLIA)
    yield ledger
    ledger.close()


@pytest.fixture
def watched(settings: Settings, sepolia: DevelopmentLedger) -> Iterator[WatchedFacilitator]:
    """Serves both networks; a shop takes payments on those it offers."""
    ledger = development_ledger(settings.data)
    yield WatchedFacilitator(sepolia.join(ledger.facilitator()))
    ledger.close()


@dataclass
class Chains:
    """ports.Chain of several ledgers, one a network; tells nothing while it is blind."""

    ledgers: tuple[DevelopmentLedger, ...]
    is_blind: bool = False

    def look(self, signed: Authorization, network: Network, since: float) -> Seen:
        seen: Seen = Unseen("another_chain")
        if self.is_blind:
            return Unseen("no_answer")
        for ledger in self.ledgers:
            if seen == Unseen("another_chain"):
                seen = ledger.look(signed, network, since)
        return seen


@pytest.fixture
def chain(settings: Settings, sepolia: DevelopmentLedger) -> Iterator[Chains]:
    ledger = development_ledger(settings.data)
    yield Chains((ledger, sepolia))
    ledger.close()


@pytest.fixture
def facilitator(watched: WatchedFacilitator) -> X402Facilitator:
    return X402Facilitator(watched)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Impatient: the deadline is near, and comes before the limit on a silence."""
    return replace(settings, first_content_seconds=2.0, idle_seconds=4.0, log_level="ERROR")


@pytest.fixture
def shop(shop: Shop) -> Iterator[Shop]:
    """Closed only when the last run has ended: not every test reads its answer to the end."""
    yield shop
    for thread in threading.enumerate():
        if thread.name.startswith("run-"):
            thread.join(10)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between tries that Claude does not ask for."""
    monkeypatch.setattr(agentic, "FIRST_PAUSE_SECONDS", 0.01)


def hurry(shop: Shop) -> None:
    """Spare a test of a thousand calls the disk: a power cut is not what it is about."""
    for resource in shop.services.held:
        if isinstance(resource, Database):
            resource.read("PRAGMA synchronous = OFF")


def refused(reply: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The body of an error before the first byte, its shape checked (spec/wire.md)."""
    body: dict[str, Any] = json.loads(reply.get_data())
    assert (reply.status_code, body["code"]) == (status, code), body
    assert body["error"] and body["requestId"] == reply.headers["X-Request-Id"]
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.mimetype == "application/json"
    return body


def quoted(reply: TestResponse) -> dict[str, Any]:
    """The fresh quote of a 402, in its header."""
    refused(reply, 402, "PAYMENT_REQUIRED")
    document: dict[str, Any] = decoded(reply.headers["PAYMENT-REQUIRED"])
    assert document["accepts"][0]["amount"] == str(PRICE)
    return document


def forge(
    wallet: Wallet, network: Network = DEVELOPMENT, price: int = PRICE, **signed: Any
) -> dict[str, Any]:
    """A payment of today's price with changes, properly signed by the wallet's key.

    `network` is the EIP-712 domain that is signed under; what is accepted stays the quote's.
    """
    now = int(time.time())
    authorization = {
        "from": wallet.address,
        "to": PAY_TO,
        "value": str(price),
        "validAfter": str(now - 60),
        "validBefore": str(now + 120),
        "nonce": "0x" + Account.create().key.hex(),
    } | signed
    digest = hash_eip3009_authorization(
        ExactEIP3009Authorization(
            from_address=authorization["from"],
            to=authorization["to"],
            value=authorization["value"],
            valid_after=authorization["validAfter"],
            valid_before=authorization["validBefore"],
            nonce=authorization["nonce"],
        ),
        network.chain_id,
        network.token,
        network.token_name,
        network.token_version,
    )
    signature = Account.unsafe_sign_hash(digest, wallet.key.reveal()).signature
    return {
        "x402Version": 2,
        "accepted": {
            "scheme": "exact",
            "network": DEVELOPMENT.id,
            "asset": DEVELOPMENT.token,
            "amount": str(price),
            "payTo": PAY_TO,
            "maxTimeoutSeconds": 120,
            "extra": {"name": DEVELOPMENT.token_name, "version": DEVELOPMENT.token_version},
        },
        "payload": {"authorization": authorization, "signature": "0x" + signature.hex()},
    }


def headers_of(payment: Any) -> dict[str, str]:
    """The request headers that present this document."""
    return {"PAYMENT-SIGNATURE": encoded(payment)}


def on_sepolia(wallet: Wallet, price: int = PRICE, **signed: Any) -> dict[str, Any]:
    """A forged payment on the second network, accepted as its own quote asks."""
    payment = forge(wallet, SEPOLIA, price, **signed)
    extra = {"name": SEPOLIA.token_name, "version": SEPOLIA.token_version}
    payment["accepted"].update(network=SEPOLIA.id, asset=SEPOLIA.token, extra=extra)
    return payment


def as_v1(payment: dict[str, Any], network: str = "base-sepolia") -> dict[str, Any]:
    """The same authorization in version 1's wrapping."""
    payload = payment["payload"]
    return {"x402Version": 1, "scheme": "exact", "network": network, "payload": payload}


def v1_headers_of(payment: Any) -> dict[str, str]:
    """The request headers that present this document of version 1."""
    return {"X-PAYMENT": encoded(payment)}
