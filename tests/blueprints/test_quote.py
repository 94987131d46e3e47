"""The 402: what is asked for, exactly, and nothing else about the template."""

from dataclasses import replace
from typing import Any

import pytest
from x402.http.utils import decode_payment_required_header

from tests.blueprints.conftest import WatchedFacilitator, quoted, refused
from tests.conftest import (
    CREATOR_KEY,
    PAY_TO,
    PRICE,
    RAIN,
    SYSTEM_PROMPT,
    Shop,
    decoded,
    events,
)
from x402jobs.devkit.wallet import sign
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.settings import Settings

FREE_PER_MINUTE = 30


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A shop that knows its own name."""
    return replace(settings, public_url="https://shop.example")


def test_the_official_sdk_reads_the_quote(shop: Shop) -> None:
    shop.publish(description="Three lines about anything.")

    reply = shop.client.post(shop.url)

    quote = decode_payment_required_header(reply.headers["PAYMENT-REQUIRED"])
    assert quote.x402_version == 2
    assert quote.resource is not None
    assert (quote.resource.url, quote.resource.description, quote.resource.mime_type) == (
        "https://shop.example/@ada/haiku",
        "Three lines about anything.",
        "text/event-stream",
    )
    (asked,) = quote.accepts
    assert (asked.scheme, asked.network, asked.asset) == (
        "exact",
        "eip155:31337",
        DEVELOPMENT.token,
    )
    assert (asked.amount, asked.pay_to, asked.max_timeout_seconds) == ("10000", PAY_TO, 120)
    assert asked.extra == {"name": "Development Dollar", "version": "1"}


def test_the_body_is_for_people_and_in_version_1s_shape(shop: Shop) -> None:
    reply = shop.client.post(shop.url)

    assert reply.json == {
        "x402Version": 1,
        "error": "Payment required: send it as PAYMENT-SIGNATURE.",
        "code": "PAYMENT_REQUIRED",
        "requestId": reply.headers["X-Request-Id"],
        "price": {"usdc": "0.01", "network": "eip155:31337"},
        "accepts": [],
    }
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "PAYMENT-REQUIRED" in reply.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in reply.headers


@pytest.mark.parametrize(
    "micro, usdc",
    [
        (1, "0.000001"),
        (1_000, "0.001"),
        (10_000, "0.01"),
        (100_000, "0.10"),
        (290_000, "0.29"),
        (1_000_000, "1.00"),
        (1_234_567, "1.234567"),
        (1_000_000_000, "1000.00"),
    ],
)
def test_the_price_is_an_exact_integer_and_an_exact_decimal(
    shop: Shop, micro: int, usdc: str
) -> None:
    shop.publish(price=micro)

    reply = shop.client.post(shop.url)

    (asked,) = decoded(reply.headers["PAYMENT-REQUIRED"])["accepts"]
    assert asked["amount"] == str(micro)
    assert reply.json is not None and reply.json["price"]["usdc"] == usdc


@pytest.mark.parametrize(
    "lies",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"},
        {"X-Forwarded-Prefix": "/evil", "X-Original-URL": "/evil"},
        {"Forwarded": "host=evil.example;proto=http"},
    ],
)
def test_the_address_is_the_shops_own_whatever_a_request_says(
    shop: Shop, lies: dict[str, str]
) -> None:
    reply = shop.client.post(shop.url, headers=lies)

    assert quoted(reply)["resource"]["url"] == "https://shop.example/@ada/haiku"
    assert "evil" not in str(reply.headers) + reply.get_data(as_text=True)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_quote_tells_nothing_that_is_sold(shop: Shop, method: str) -> None:
    reply = shop.client.open(shop.url, method=method)

    told = str(reply.headers) + str(decoded(reply.headers["PAYMENT-REQUIRED"]))
    told += reply.get_data(as_text=True)
    for secret in (CREATOR_KEY, SYSTEM_PROMPT, "Planted", "v1.k1."):
        assert secret not in told


def test_good_values_without_a_payment_meet_the_same_quote(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    assert quoted(shop.client.post(shop.url, json=RAIN)) == shop.quote()
    assert (watched.asked, shop.claude.calls, shop.rows()) == ([], [], [])


@pytest.mark.parametrize("price", [PRICE - 1, PRICE + 1, 10 * PRICE])
def test_a_price_changed_since_the_quote_is_a_fresh_quote(
    shop: Shop, watched: WatchedFacilitator, price: int
) -> None:
    payment = shop.payment()
    shop.publish(price=price)

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    refused(reply, 402, "PAYMENT_REQUIRED")
    (asked,) = decoded(reply.headers["PAYMENT-REQUIRED"])["accepts"]
    assert asked["amount"] == str(price)
    assert (watched.asked, shop.claude.calls, shop.rows()) == ([], [], [])
    header = sign(shop.wallet, decoded(reply.headers["PAYMENT-REQUIRED"]))
    again = shop.client.post(shop.url, json=RAIN, headers={"PAYMENT-SIGNATURE": header})
    assert events(again)[-1]["type"] == "done"
    assert shop.ledger.transfers()[0].value == price


def test_a_payment_quoted_before_the_payout_address_changed_does_not_buy(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment = shop.payment()
    shop.services.integrations.save_pay_to(shop.ada, "0x" + "0b" * 20)

    quoted(shop.client.post(shop.url, json=RAIN, headers=payment))

    assert (watched.asked, shop.rows()) == ([], [])


# Addresses


@pytest.mark.parametrize("url", ["/@ADA/haiku", "/@Ada/haiku", "/@ada/haiku"])
def test_usernames_match_in_any_letter_case(shop: Shop, url: str) -> None:
    reply = shop.client.post(url)

    assert quoted(reply)["resource"]["url"] == "https://shop.example/@ada/haiku"
    header = sign(shop.wallet, decoded(reply.headers["PAYMENT-REQUIRED"]))
    bought = shop.client.post(url, json=RAIN, headers={"PAYMENT-SIGNATURE": header})
    assert events(bought)[-1]["type"] == "done"


NOWHERE = [
    "/@ada/senryu",
    "/@bob/haiku",
    "/@nobody/haiku",
    "/@ada/haiku%00",
    "/@ada/haiku'--",
    "/@ad_/haiku",
    "/@%/haiku",
    "/@ada/%ff",
    "/@ada",
    "/@/haiku",
    "/@ada/haiku/more",
    "/ada/haiku",
]


@pytest.mark.parametrize("url", NOWHERE)
@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
def test_there_is_nothing_at_other_addresses(
    shop: Shop, watched: WatchedFacilitator, url: str, paying: bool
) -> None:
    reply = shop.client.post(url, json=RAIN, headers=shop.payment() if paying else {})

    body = refused(reply, 404, "NOT_FOUND")
    assert body.keys() == {"error", "code", "requestId"}
    assert (watched.asked, shop.claude.calls, shop.rows()) == ([], [], [])


def test_a_paused_template_is_not_there(shop: Shop) -> None:
    payment = shop.payment()
    shop.query("UPDATE x402_resources SET is_active = 0")

    refused(shop.client.post(shop.url), 404, "NOT_FOUND")
    refused(shop.client.post(shop.url, json=RAIN, headers=payment), 404, "NOT_FOUND")
    assert shop.rows() == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_other_methods_are_refused_with_those_that_are_not(shop: Shop, method: str) -> None:
    reply = shop.client.open(shop.url, method=method)

    refused(reply, 405, "INVALID_REQUEST")
    assert {"GET", "HEAD", "POST", "OPTIONS"} == set(reply.headers["Allow"].split(", "))


def test_a_preflight_lets_every_header_of_a_client_through(shop: Shop) -> None:
    reply = shop.client.options(shop.url)

    assert (reply.status_code, reply.get_data()) == (204, b"")
    allowed = set(reply.headers["Access-Control-Allow-Headers"].split(", "))
    assert {"PAYMENT-SIGNATURE", "Payment-Retry", "Access-Control-Expose-Headers"} <= allowed


# HEAD


def test_a_look_is_told_the_price_and_never_buys(shop: Shop, watched: WatchedFacilitator) -> None:
    payment, wish = shop.payment(), {"X-OWNER-TEST": "true"}

    for sent in ({}, payment, wish, payment | wish, {"PAYMENT-SIGNATURE": "nonsense"}):
        for query in ("", "?topic=rain"):
            reply = shop.client.head(shop.url + query, headers=sent)
            assert (reply.status_code, reply.get_data()) == (402, b"")
            assert decoded(reply.headers["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == "10000"
    assert (watched.asked, shop.claude.calls, shop.rows()) == ([], [], [])


@pytest.mark.parametrize(
    "sql, query, status",
    [
        ("UPDATE x402_resources SET is_active = 0", "", 404),
        ("DELETE FROM x402_user_claude_configs", "", 503),
        ("DELETE FROM x402_payout_addresses", "", 503),
        ("UPDATE x402_resources SET price_usdc = 0", "?topic=rain", 200),
        ("UPDATE x402_resources SET price_usdc = 0", "", 400),
        ("SELECT 1", "?colour=grey", 400),
    ],
)
def test_a_look_is_told_what_a_get_would_be(shop: Shop, sql: str, query: str, status: int) -> None:
    shop.query(sql)

    reply = shop.client.head(shop.url + query)

    assert (reply.status_code, reply.get_data()) == (status, b"")
    assert (shop.claude.calls, shop.rows()) == ([], [])


# Free templates


def free_run(shop: Shop, address: str = "192.0.2.1", **options: Any) -> int:
    reply = shop.client.post(
        shop.url, json=RAIN, environ_overrides={"REMOTE_ADDR": address}, **options
    )
    reply.get_data()
    return reply.status_code


def test_a_free_template_asks_for_no_money(shop: Shop, watched: WatchedFacilitator) -> None:
    shop.publish(price=0)
    shop.query("DELETE FROM x402_payout_addresses")

    reply = shop.client.post(shop.url, json=RAIN)
    said = events(reply)

    assert (reply.status_code, said[-1]["type"]) == (200, "done")
    assert "receipt" not in said[-1] and "PAYMENT-RESPONSE" not in reply.headers
    (row,) = shop.rows()
    assert (row["kind"], row["state"], row["amount"]) == ("free", "completed", 0)
    assert watched.asked == []


def test_a_payment_for_what_is_free_by_now_is_not_taken(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment = shop.payment()
    shop.publish(price=0)

    assert free_run(shop, headers=payment) == 200
    assert (watched.asked, shop.rows()[0]["kind"]) == ([], "free")


def test_free_runs_are_limited_by_address(shop: Shop) -> None:
    shop.publish(price=0)

    statuses = [free_run(shop) for _ in range(FREE_PER_MINUTE)]
    reply = shop.client.post(shop.url, json=RAIN, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})

    assert statuses == [200] * FREE_PER_MINUTE
    refused(reply, 429, "RATE_LIMIT")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert free_run(shop, "192.0.2.2") == 200
    assert free_run(shop, headers={"X-Forwarded-For": "192.0.2.9"}) == 429
    assert len(shop.claude.calls) == FREE_PER_MINUTE + 1


def test_behind_a_unix_socket_callers_are_told_apart_by_the_proxys_header(shop: Shop) -> None:
    shop.publish(price=0)

    def run(address: str) -> int:
        reply = shop.client.post(
            shop.url,
            json=RAIN,
            headers={"X-Real-IP": address},
            environ_overrides={"REMOTE_ADDR": ""},
            buffered=True,
        )
        return reply.status_code

    first = [run("192.0.2.1") for _ in range(FREE_PER_MINUTE + 1)]

    assert first == [200] * FREE_PER_MINUTE + [429]
    assert run("192.0.2.2") == 200
