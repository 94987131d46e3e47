"""Each client people have pays, hears the answer live, and gets it again without paying again."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.blueprints.conftest import SEPOLIA
from tests.conftest import PAY_TO, PRICE, text_of
from tests.interop.clients import Buy, Line, Order, over_httpx, over_requests, program
from tests.interop.several_networks import play_ledger
from tests.wire.conftest import Server
from x402jobs.domain.money import MICRO
from x402jobs.domain.networks import DEVELOPMENT, Network

pytestmark = pytest.mark.wire

WORDS = "Rain taps the window, and nobody is home. \U0001f327"

VERSION_2: dict[str, Buy] = {
    "x402 over requests": over_requests,
    "x402 over httpx": over_httpx,
    "@x402/fetch": program("x402_fetch.mjs"),
}
legacy = program("legacy_x402_fetch.mjs")

CLIENTS = [pytest.param(buy, "server", DEVELOPMENT, id=name) for name, buy in VERSION_2.items()]
CLIENTS.append(pytest.param(legacy, "several", SEPOLIA, id="x402-fetch"))
"""Each client, a shop it can pay at, and the network it pays there on. Version 1 has no name for
the development network."""


@dataclass
class Reply:
    """One reply, as a client told it; or why there is none."""

    signatures: int
    status: int | None = None
    receipt: dict[str, Any] | None = None
    refused: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    body: Any = None


def replies(lines: Iterable[Line]) -> list[Reply]:
    heard: list[Reply] = []
    for line in list(lines):  # to their end, before anything of them can fail
        if "event" in line:
            heard[-1].events.append(line["event"])
        elif "body" in line:
            heard[-1].body = line["body"]
        else:
            heard.append(Reply(**line))
    return heard


def receipt_of(server: Server, network: Network) -> dict[str, Any]:
    """What the receipt header of the one transfer there was has to say."""
    (transfer,) = server.transfers()
    assert (transfer.payer, transfer.payee) == (server.wallet.address, PAY_TO.lower())
    assert transfer.value == PRICE
    receipt = {
        "success": True,
        "transaction": transfer.transaction,
        "network": network.short_name or network.id,
        "payer": server.wallet.address,
    }
    if network.development:
        receipt |= {"amount": str(PRICE), "extra": {"development": True}}
    return receipt


@pytest.fixture
def shop(where: str, request: pytest.FixtureRequest) -> Server:
    """The shop of this client, where the first answer is these words."""
    found: Server = request.getfixturevalue(where)
    found.claude.script({"text": WORDS}, {"text": "Another answer."})
    return found


@pytest.mark.parametrize("buy, where, network", CLIENTS)
def test_a_client_pays_and_hears_the_answer_as_it_is_spoken(
    shop: Server, buy: Buy, network: Network
) -> None:
    shop.claude.script({"text": WORDS, "deltaMs": 100})

    order = Order(shop.url + shop.path, shop.wallet, (network,), 5 * PRICE)
    with closing(buy(order)) as lines:
        heard = [next(lines), next(lines)]
        then = shop.call()["finishedAt"]
        (reply,) = replies([*heard, *lines])

    assert then is None, "the first event came after Claude had finished"
    assert (reply.status, reply.signatures) == (200, 1)
    assert reply.receipt == receipt_of(shop, network)
    assert [event["type"] for event in reply.events[:-1]] == ["text"] * (len(reply.events) - 1)
    assert len(reply.events) > 2, "the text came in one piece"
    assert text_of(reply.events) == WORDS
    assert reply.events[-1]["receipt"]["transaction"] == reply.receipt["transaction"]


@pytest.mark.parametrize("buy, where, network", CLIENTS)
def test_a_payment_presented_again_is_answered_again_and_moves_nothing(
    shop: Server, buy: Buy, network: Network
) -> None:
    order = Order(shop.url + shop.path, shop.wallet, (network,), 5 * PRICE, again=True)
    first, again = replies(buy(order))

    assert (first.status, again.status) == (200, 200)
    assert text_of(again.events) == text_of(first.events) == WORDS
    assert again.events[-1] == first.events[-1]
    assert again.receipt == first.receipt == receipt_of(shop, network)
    assert (again.signatures, len(shop.claude.calls), shop.states()) == (1, 1, ["completed"])


@pytest.mark.parametrize("buy, where, network", CLIENTS)
def test_a_client_can_have_the_answer_in_one_json_reply(
    shop: Server, buy: Buy, network: Network
) -> None:
    url = f"{shop.url}{shop.path}?stream=false"

    first, again = replies(buy(Order(url, shop.wallet, (network,), 5 * PRICE, again=True)))

    assert (first.status, first.body["response"]) == (200, WORDS)
    assert again.body == first.body
    assert again.receipt == first.receipt == receipt_of(shop, network)
    assert first.receipt["transaction"] == first.body["receipt"]["transaction"]
    assert len(shop.claude.calls) == 1


# Several networks


@pytest.mark.parametrize("network", [DEVELOPMENT, SEPOLIA], ids=["the first", "the second"])
@pytest.mark.parametrize("buy", VERSION_2.values(), ids=VERSION_2)
def test_of_several_networks_a_client_pays_on_the_one_it_may(
    several: Server, buy: Buy, network: Network
) -> None:
    before = balances(several)

    (reply,) = replies(buy(Order(several.url + several.path, several.wallet, (network,), PRICE)))

    assert reply.status == 200
    assert spent(several, before) == {network.id: PRICE}
    assert [row["network"] for row in several.rows()] == [network.id]
    assert reply.receipt is not None and reply.receipt["network"] == network.id


@pytest.mark.parametrize("buy", VERSION_2.values(), ids=VERSION_2)
def test_a_client_that_may_pay_on_several_takes_the_one_named_first(
    several: Server, buy: Buy
) -> None:
    """The shop's order counts: the SDKs take the first that they can pay."""
    before = balances(several)

    order = Order(several.url + several.path, several.wallet, (SEPOLIA, DEVELOPMENT), PRICE)
    (reply,) = replies(buy(order))

    assert (reply.status, spent(several, before)) == (200, {DEVELOPMENT.id: PRICE})


def test_a_client_of_version_1_finds_its_own_chain_among_several(several: Server) -> None:
    """The 402 names Base as well, whose USDC it would know."""
    before = balances(several)

    (reply,) = replies(legacy(Order(several.url + several.path, several.wallet)))

    assert (reply.status, spent(several, before)) == (200, {SEPOLIA.id: PRICE})


def balances(server: Server) -> dict[str, int]:
    """What the wallet has on each network where it plays."""
    found = {}
    for network in (DEVELOPMENT, SEPOLIA):
        ledger = play_ledger(server.settings.data, network)
        found[network.id] = ledger.balance(server.wallet.address)
        ledger.close()
    return found


def spent(server: Server, before: dict[str, int]) -> dict[str, int]:
    now = balances(server)
    return {name: before[name] - now[name] for name in before if before[name] != now[name]}


# What a client will not pay


def refused(server: Server, lines: Iterable[Line]) -> str:
    """Why; and nothing was signed, and only the question reached the shop."""
    (reply,) = replies(lines)
    assert reply.signatures == 0
    assert (server.rows(), server.claude.calls) == ([], [])
    assert reply.refused is not None
    return reply.refused


@pytest.mark.parametrize("buy", VERSION_2.values(), ids=VERSION_2)
def test_a_token_it_does_not_know_is_refused_before_signing(server: Server, buy: Buy) -> None:
    why = refused(server, buy(Order(server.url + server.path, server.wallet)))

    assert "only default assets" in why


@pytest.mark.parametrize("buy", VERSION_2.values(), ids=VERSION_2)
def test_over_a_dollar_is_refused_before_signing(several: Server, buy: Buy) -> None:
    """On Base, in the USDC that every client knows, by a client with nothing set."""
    path = several.publish("dear", price=MICRO + 1)

    why = refused(several, buy(Order(several.url + path, several.wallet)))

    assert "($1, including USDC)" in why


def test_over_ten_cents_is_refused_before_signing_by_version_1(several: Server) -> None:
    path = several.publish("dear", price=100_001)

    why = refused(several, legacy(Order(several.url + path, several.wallet)))

    assert why == "Payment amount exceeds maximum allowed"


@pytest.mark.parametrize("buy", [*VERSION_2.values(), legacy], ids=[*VERSION_2, "x402-fetch"])
def test_over_a_dollar_is_paid_by_a_client_that_is_told_to(several: Server, buy: Buy) -> None:
    price = MICRO + 1
    path = several.publish("dear", price=price)
    before = balances(several)

    (reply,) = replies(buy(Order(several.url + path, several.wallet, (SEPOLIA,), price)))

    assert (reply.status, spent(several, before)) == (200, {SEPOLIA.id: price})
