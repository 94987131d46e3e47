"""Other people's clients pay, and one payment buys one answer, however often it is shown."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest
import requests
from eth_account import Account
from x402 import x402Client, x402ClientSync
from x402.client import SpendControls
from x402.http.clients.httpx import PaymentError as HttpxPaymentError
from x402.http.clients.httpx import x402HttpxClient
from x402.http.clients.requests import PaymentError as RequestsPaymentError
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.exact import ExactEvmClientScheme
from x402.mechanisms.evm.signers import EthAccountSigner

from tests.conftest import PAY_TO, PRICE, RAIN, events, text_of
from tests.wire.conftest import Server
from x402jobs.domain.networks import DEVELOPMENT

pytestmark = pytest.mark.wire

WORDS = "Rain taps the window and nobody is home."
ALLOWED: SpendControls = {
    "max_amount_per_payment": "0.05",
    "allowed_assets": [
        {
            "network": DEVELOPMENT.id,
            "asset": DEVELOPMENT.token,
            "max_amount_per_payment": str(5 * PRICE),
        }
    ],
}
"""What a customer sets, because no client knows our play money by itself."""


def scheme(server: Server) -> ExactEvmClientScheme:
    account = Account.from_key(server.wallet.key.reveal())
    return ExactEvmClientScheme(EthAccountSigner(account))


def nothing_happened(server: Server) -> bool:
    return (server.rows(), server.transfers(), server.claude.calls) == ([], [], [])


def exactly_one_price_moved(server: Server, before: int) -> bool:
    (transfer,) = server.transfers()
    assert (transfer.payee, transfer.value) == (PAY_TO.lower(), PRICE)
    return server.balance() == before - PRICE


def test_the_official_client_over_requests_pays_and_hears_it_live(server: Server) -> None:
    server.claude.script({"text": WORDS, "deltaMs": 50})
    before, payees = server.balance(), server.ledger.balance(PAY_TO)
    client = x402ClientSync().register("eip155:*", scheme(server)).set_spend_controls(ALLOWED)

    with x402_requests(client) as session:
        session.trust_env = False
        with session.post(server.url + server.path, json=RAIN, stream=True) as response:
            lines = (line for line in response.iter_lines() if line)
            first = next(lines)
            then = server.call()["finishedAt"]
            body = b"".join(line + b"\n\n" for line in [first, *lines])

    assert response.status_code == 200
    assert then is None, "the first event came after Claude had finished"
    assert text_of(events(body)) == WORDS
    assert exactly_one_price_moved(server, before)
    assert server.ledger.balance(PAY_TO) == payees + PRICE


def test_the_official_client_over_httpx_pays_and_hears_it_live(server: Server) -> None:
    server.claude.script({"text": WORDS, "deltaMs": 50})
    before = server.balance()
    client = x402Client().register("eip155:*", scheme(server)).set_spend_controls(ALLOWED)

    async def buy() -> tuple[int, float | None, bytes]:
        async with (
            x402HttpxClient(client, trust_env=False) as http,
            http.stream("POST", server.url + server.path, json=RAIN) as response,
        ):
            pieces = response.aiter_bytes()
            first = await anext(pieces)
            then = server.call()["finishedAt"]
            return response.status_code, then, first + b"".join([p async for p in pieces])

    status, then, body = asyncio.run(buy())

    assert (status, then) == (200, None)
    assert text_of(events(body)) == WORDS
    assert exactly_one_price_moved(server, before)


def test_the_default_spend_controls_of_requests_refuse_a_token_they_do_not_know(
    server: Server,
) -> None:
    client = x402ClientSync().register("eip155:*", scheme(server))

    with x402_requests(client) as session, pytest.raises(RequestsPaymentError):
        session.trust_env = False
        session.post(server.url + server.path, json=RAIN)

    assert nothing_happened(server)


def test_the_default_spend_controls_of_httpx_refuse_a_token_they_do_not_know(
    server: Server,
) -> None:
    client = x402Client().register("eip155:*", scheme(server))

    async def buy() -> httpx.Response:
        async with x402HttpxClient(client, trust_env=False) as http:
            return await http.post(server.url + server.path, json=RAIN)

    with pytest.raises(HttpxPaymentError):
        asyncio.run(buy())

    assert nothing_happened(server)


def test_a_price_over_the_customers_cap_is_not_paid(server: Server) -> None:
    server.publish("dear", price=6 * PRICE)
    client = x402ClientSync().register("eip155:*", scheme(server)).set_spend_controls(ALLOWED)

    with x402_requests(client) as session, pytest.raises(RequestsPaymentError):
        session.trust_env = False
        session.post(f"{server.url}/@ada/dear", json=RAIN)

    assert nothing_happened(server)


def at_once(server: Server, payment: dict[str, str], bodies: list[Any]) -> list[httpx.Response]:
    """The same payment on so many connections, all opened before the first request is sent."""
    barrier = Barrier(len(bodies))

    def ask(body: Any) -> httpx.Response:
        with server.http() as client:
            client.get("/healthz")
            barrier.wait()
            return client.post(server.path, json=body, headers=payment)

    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(ask, bodies))


@pytest.fixture
def bought(server: Server) -> Iterator[tuple[dict[str, str], httpx.Response]]:
    """A payment that has bought its answer."""
    server.claude.script({"text": WORDS})
    payment = server.payment()
    reply = server.post(RAIN, payment)
    assert reply.status_code == 200
    yield payment, reply


LATER = {409: "IN_PROGRESS", 503: "SETTLEMENT_UNKNOWN"}
"""What a payment that is at work hears when it is shown again; the second while it is settled."""


def test_the_same_payment_ten_times_at_once_runs_once(server: Server) -> None:
    server.claude.script({"text": WORDS, "deltaMs": 30})
    before = server.balance()

    replies = at_once(server, server.payment(), [RAIN] * 10)

    counted = Counter(reply.status_code for reply in replies)
    assert counted.keys() <= {200, *LATER} and counted[200] >= 1, counted
    for reply in replies:
        if reply.status_code in LATER:
            assert reply.json()["code"] == LATER[reply.status_code]
            assert int(reply.headers["Retry-After"]) > 0
    answers = {reply.content for reply in replies if reply.status_code == 200}
    assert {text_of(events(body)) for body in answers} == {WORDS}
    assert len({json.dumps(events(body)[-1]) for body in answers}) == 1
    assert len(server.claude.calls) == 1
    assert server.states() == ["completed"]
    assert exactly_one_price_moved(server, before)


def test_ten_bodies_under_one_payment_at_once_buy_one_of_them(server: Server) -> None:
    before = server.balance()
    bodies = [{"topic": f"rain {number}"} for number in range(10)]

    replies = at_once(server, server.payment(), bodies)

    counted = Counter(reply.status_code for reply in replies)
    assert counted.keys() <= {200, *LATER} and counted[200] == 1, counted
    assert len(server.claude.calls) == 1
    assert exactly_one_price_moved(server, before)


def test_ten_payments_at_once_buy_ten_answers(server: Server) -> None:
    before = server.balance()
    payments = [server.payment() for _ in range(10)]

    with ThreadPoolExecutor(10) as threads:
        replies = list(threads.map(lambda payment: server.post(RAIN, payment), payments))

    assert [reply.status_code for reply in replies] == [200] * 10
    assert len({events(reply.content)[-1]["receipt"]["transaction"] for reply in replies}) == 10
    assert server.balance() == before - 10 * PRICE


def test_a_payment_shown_while_its_answer_is_spoken_follows_it(server: Server) -> None:
    server.claude.script({"text": WORDS, "deltaMs": 100})
    payment, body = server.payment(), json.dumps(RAIN).encode()

    with (
        server.dial().send("POST", server.path, payment, body) as first,
        server.dial() as second,
    ):
        first.head()
        first.chunk()
        late = second.send("POST", server.path, payment, body).answer()
        early = first.rest()

    assert late.status == 200
    assert text_of(events(late.body)) == WORDS
    assert events(late.body)[-1] == events(early)[-1]
    assert len(server.claude.calls) == len(server.transfers()) == 1


def test_an_answer_already_bought_is_given_again_for_nothing(
    server: Server, bought: tuple[dict[str, str], httpx.Response]
) -> None:
    payment, first = bought
    balance = server.balance()

    again = server.post(RAIN, payment)

    said, before = events(again.content), events(first.content)
    assert again.status_code == 200
    assert text_of(said) == text_of(before) == WORDS
    assert said[-1] == before[-1]
    for name in ("PAYMENT-RESPONSE", "X-Execution-Id", "X-Resume-Token", "Cache-Control"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert server.balance() == balance
    assert len(server.claude.calls) == 1
    assert server.states() == ["completed"]


def test_an_answer_already_bought_is_given_ten_times_at_once(
    server: Server, bought: tuple[dict[str, str], httpx.Response]
) -> None:
    payment, first = bought

    replies = at_once(server, payment, [RAIN] * 10)

    assert {reply.status_code for reply in replies} == {200}
    assert {text_of(events(reply.content)) for reply in replies} == {WORDS}
    assert len(server.claude.calls) == len(server.transfers()) == 1


def test_get_and_post_of_the_same_words_are_the_same_purchase(
    server: Server, bought: tuple[dict[str, str], httpx.Response]
) -> None:
    payment, first = bought

    with server.http() as client:
        again = client.get("/@ADA/haiku", params=RAIN, headers=payment)

    assert (again.status_code, text_of(events(again.content))) == (200, WORDS)
    assert len(server.claude.calls) == 1


@pytest.mark.parametrize("body", [{"topic": "snow"}, {}, {"topic": "rain", "user_message": "Hi"}])
def test_a_payment_that_bought_one_thing_buys_no_other(
    server: Server, bought: tuple[dict[str, str], httpx.Response], body: dict[str, str]
) -> None:
    payment, _ = bought
    balance = server.balance()

    reply = server.post(body, payment)

    assert (reply.status_code, reply.json()["code"]) == (409, "CONFLICT")
    assert WORDS not in reply.text
    assert server.balance() == balance
    assert len(server.claude.calls) == 1


def test_a_debt_is_run_again_for_nothing(server: Server) -> None:
    server.claude.script(
        {"text": WORDS, "errorEvent": "overloaded_error", "afterDeltas": 2}, {"text": WORDS}
    )
    payment, before = server.payment(), server.balance()
    broken = events(server.post(RAIN, payment).content)
    assert (broken[-1]["type"], broken[-1]["code"]) == ("error", "OVERLOADED")

    mended = server.post(RAIN, payment)

    said = events(mended.content)
    assert text_of(said) == WORDS
    assert said[-1]["receipt"] == broken[-1]["receipt"]
    assert server.states() == ["completed"]
    assert exactly_one_price_moved(server, before)


def test_requests_sees_the_402_before_it_pays(server: Server) -> None:
    with requests.Session() as session:
        session.trust_env = False
        reply = session.post(server.url + server.path, json=RAIN)

    assert reply.status_code == 402
    assert reply.json()["price"] == {"usdc": "0.01", "network": DEVELOPMENT.id}
    assert reply.headers["Cache-Control"] == "no-store"
    assert nothing_happened(server)
