"""Selling through a facilitator by URL: the same money, and nobody charged when it fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.adapters.test_facilitator_remote import FAULTS, WORDS
from tests.blueprints.conftest import Chains, forge, headers_of, quoted, refused
from tests.conftest import PAY_TO, PRICE, RAIN, Shop, decoded, events, text_of
from x402jobs.adapters import facilitator as adapter
from x402jobs.adapters.clock import SystemClock
from x402jobs.devkit.development_ledger import GRANT, DevelopmentLedger
from x402jobs.devkit.facilitator_server import FacilitatorServer
from x402jobs.domain.errors import FacilitatorUnavailable, SettlementUnknown
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.payment import Authorization
from x402jobs.settings import Settings

SHORT = 2.0
SOMEBODY = "0x" + "0b" * 20
BY_URL = pytest.mark.parametrize("peer", ["by URL"], indirect=True)

WIRE = [name for name in FAULTS if name not in ("drops, each in time", "a depth")]


@pytest.fixture(params=["in process", "by URL"])
def peer(request: pytest.FixtureRequest) -> str:
    """How the facilitator is reached."""
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FacilitatorServer]:
    """Somebody else's process, but for the ledger, which the tests look into."""
    ledger = DevelopmentLedger(tmp_path / "data" / "development-ledger.sqlite3")
    with FacilitatorServer(ledger.facilitator()) as server:
        yield server
    ledger.close()


@pytest.fixture
def settings(
    settings: Settings, server: FacilitatorServer, peer: str, settle_seconds: float
) -> Settings:
    """Impatient at settling only in the tests that have their facilitator fail there."""
    settings = replace(settings, log_level="DEBUG")
    if peer == "in process":
        return settings
    return replace(
        settings, facilitator_url=server.url, networks=(DEVELOPMENT,), settle_seconds=settle_seconds
    )


@pytest.fixture
def settle_seconds(request: pytest.FixtureRequest) -> float:
    return float(getattr(request, "param", 20))


@pytest.fixture
def facilitator() -> None:
    """The one that the settings name."""
    return None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "VERIFY_SECONDS", SHORT)


def present(shop: Shop, payment: dict[str, str]) -> TestResponse:
    return shop.client.post(shop.url, json=RAIN, headers=payment)


def states(shop: Shop) -> list[str]:
    return [row["state"] for row in shop.rows()]


# The same results, however it is reached


def spend(shop: Shop, payment: dict[str, str]) -> None:
    """The payer's nonce is used elsewhere, behind our back."""
    signed = decoded(payment["PAYMENT-SIGNATURE"])["payload"]["authorization"]
    payer = signed["from"].lower()
    shop.ledger.move(Authorization(payer, SOMEBODY, 1, 0, 2**40, signed["nonce"]))


def drain(shop: Shop) -> None:
    everything = shop.ledger.balance(shop.wallet.address)
    nonce = "0x" + "0d" * 32
    shop.ledger.move(Authorization(shop.wallet.address, SOMEBODY, everything, 0, 2**40, nonce))


def spent(shop: Shop) -> dict[str, str]:
    payment = shop.payment()
    spend(shop, payment)
    return payment


def overspent(shop: Shop) -> dict[str, str]:
    payment = shop.payment()
    drain(shop)
    return payment


def forged(shop: Shop) -> dict[str, str]:
    payment = forge(shop.wallet)
    payment["payload"]["authorization"]["nonce"] = "0x" + "01" * 32
    return headers_of(payment)


OUTCOMES: dict[str, tuple[Callable[[Shop], dict[str, str]], str, list[str]]] = {
    # the payment, what the 402 says, the rows it leaves
    "forged": (forged, "not the payer's", []),
    "for less": (lambda shop: headers_of(forge(shop.wallet, value="1")), "exact price", []),
    "to another": (lambda shop: headers_of(forge(shop.wallet, to=SOMEBODY)), "somebody else", []),
    "expired": (lambda shop: headers_of(forge(shop.wallet, validBefore="1")), "60 seconds", []),
    "spent": (spent, "invalid_exact_evm_nonce_already_used", ["released"]),
    "overspent": (overspent, "invalid_exact_evm_insufficient_balance", ["released"]),
}


def test_a_paid_call_moves_the_price_and_says_so(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps."})

    reply = shop.buy()
    said = events(reply)

    assert (text_of(said), said[-1]["type"]) == ("Rain taps.", "done")
    (transfer,) = shop.ledger.transfers()
    assert (transfer.payee, transfer.value) == (PAY_TO.lower(), PRICE)
    assert said[-1]["receipt"]["transaction"] == transfer.transaction
    assert decoded(reply.headers["PAYMENT-RESPONSE"])["transaction"] == transfer.transaction
    assert shop.ledger.balance(shop.wallet.address) == GRANT - PRICE
    assert states(shop) == ["completed"]


@pytest.mark.parametrize("what", OUTCOMES)
def test_a_payment_that_does_not_do_is_refused_for_the_same_reason(shop: Shop, what: str) -> None:
    make, why, rows = OUTCOMES[what]
    payment = make(shop)
    before = shop.ledger.transfers()

    reply = present(shop, payment)

    assert why in quoted(reply)["error"]
    assert (states(shop), shop.ledger.transfers()) == (rows, before)


def test_the_same_payment_again_is_not_charged_again(shop: Shop) -> None:
    payment = shop.payment()

    first, second = (events(present(shop, payment)) for _ in range(2))

    assert text_of(first) == text_of(second)
    assert len(shop.ledger.transfers()) == 1


# Failing at verify


@BY_URL
@pytest.mark.parametrize("how", WIRE)
def test_without_a_verdict_nothing_is_charged_and_the_payment_stays_good(
    shop: Shop, server: FacilitatorServer, impatient: None, how: str
) -> None:
    payment = shop.payment()
    server.script({"at": "verify"} | FAULTS[how])

    reply = present(shop, payment)

    body = refused(reply, 503, "FACILITATOR_UNAVAILABLE")
    assert body["error"] == FacilitatorUnavailable.sentence
    assert WORDS not in reply.get_data(as_text=True)
    assert "PAYMENT-REQUIRED" not in reply.headers
    assert (states(shop), shop.ledger.transfers(), shop.claude.calls) == (["released"], [], [])
    assert server.asked("settle") == 0

    assert events(present(shop, payment))[-1]["type"] == "done"
    assert (states(shop), len(shop.ledger.transfers())) == (["completed"], 1)


@BY_URL
def test_a_facilitator_that_is_not_there_costs_nothing(
    shop: Shop, server: FacilitatorServer
) -> None:
    payment = shop.payment()
    present(shop, shop.payment()).get_data()
    server.stop()

    refused(present(shop, payment), 503, "FACILITATOR_UNAVAILABLE")

    server.start()
    assert events(present(shop, payment))[-1]["type"] == "done"
    assert len(shop.ledger.transfers()) == 2


# Failing at settle


@BY_URL
@pytest.mark.parametrize("settle_seconds", [SHORT], indirect=True)
@pytest.mark.parametrize("settled", [True, False], ids=["settled", "unheard"])
@pytest.mark.parametrize("how", [*WIRE, "no transaction", "another payer"])
def test_while_a_settlements_outcome_is_unknown_nobody_is_asked_to_pay_again(
    shop: Shop, server: FacilitatorServer, chain: Chains, how: str, settled: bool
) -> None:
    lies = {
        "no transaction": {"change": {"transaction": "", "success": True}},
        "another payer": {"change": {"payer": SOMEBODY, "success": True}},
    }
    payment, chain.is_blind = shop.payment(), settled
    server.script({"at": "settle", "unheard": not settled} | (FAULTS | lies)[how])

    replies = [present(shop, payment) for _ in range(3)]

    for reply in replies:
        body = refused(reply, 503, "SETTLEMENT_UNKNOWN")
        assert body["error"] == SettlementUnknown.sentence
        assert int(reply.headers["Retry-After"]) > 0
        assert "PAYMENT-REQUIRED" not in reply.headers
        assert WORDS not in reply.get_data(as_text=True)
    assert (states(shop), server.asked("settle")) == (["settling"], 1)
    assert len(shop.ledger.transfers()) == (1 if settled else 0)


@BY_URL
@pytest.mark.parametrize("settle_seconds", [SHORT], indirect=True)
@pytest.mark.parametrize("how", WIRE)
def test_what_the_facilitator_did_and_could_not_say_the_chain_tells(
    shop: Shop, server: FacilitatorServer, how: str
) -> None:
    server.script({"at": "settle"} | FAULTS[how])

    assert events(present(shop, shop.payment()))[-1]["type"] == "done"

    assert (states(shop), len(shop.ledger.transfers())) == (["completed"], 1)


# Down, and back


@BY_URL
def test_after_three_failures_nobody_waits_for_it_until_it_is_back(
    shop: Shop, server: FacilitatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = shop.payment()
    server.script(*[{"at": "verify", "status": 500}] * 3)
    for _ in range(3):
        refused(present(shop, payment), 503, "FACILITATOR_UNAVAILABLE")
    supported = server.asked("supported")

    for reply in (present(shop, payment), shop.client.post(shop.url)):
        refused(reply, 503, "FACILITATOR_UNAVAILABLE")
        assert "PAYMENT-REQUIRED" not in reply.headers

    assert (server.asked("verify"), server.asked("supported")) == (3, supported)
    assert shop.ledger.transfers() == []
    real = SystemClock.monotonic
    monkeypatch.setattr(SystemClock, "monotonic", lambda self: real(self) + 5)
    assert events(present(shop, payment))[-1]["type"] == "done"


@BY_URL
def test_a_facilitator_that_does_not_name_our_network_is_never_shown_a_payment(
    shop: Shop, server: FacilitatorServer
) -> None:
    elsewhere: dict[str, Any] = {"kinds": [{"x402Version": 2, "scheme": "exact", "network": "x:1"}]}
    server.script({"at": "supported", "change": elsewhere})

    for reply in (shop.client.post(shop.url), present(shop, headers_of(forge(shop.wallet)))):
        refused(reply, 503, "FACILITATOR_UNAVAILABLE")
        assert "PAYMENT-REQUIRED" not in reply.headers
    assert (server.asked("verify"), shop.ledger.transfers()) == (0, [])
    assert states(shop) in ([], ["released"])


# Nothing of it is written down


@BY_URL
def test_neither_a_payment_nor_a_facilitators_words_are_logged(
    shop: Shop, server: FacilitatorServer, chain: Chains, caplog: pytest.LogCaptureFixture
) -> None:
    chain.is_blind = True
    payments = [shop.payment() for _ in range(2)]
    server.script(*[{"at": at} | FAULTS["HTML"] for at in ("verify", "settle")])

    refused(present(shop, payments[0]), 503, "FACILITATOR_UNAVAILABLE")
    refused(present(shop, payments[1]), 503, "SETTLEMENT_UNKNOWN")

    said = caplog.text
    assert all(event in said for event in ("verify_unanswered", "settle_unknown"))
    signed = [decoded(payment["PAYMENT-SIGNATURE"])["payload"] for payment in payments]
    for each, header in zip(signed, payments, strict=True):
        for secret in (each["signature"][2:], each["authorization"]["nonce"][2:]):
            assert secret not in said
        assert header["PAYMENT-SIGNATURE"] not in said
    assert WORDS not in said
