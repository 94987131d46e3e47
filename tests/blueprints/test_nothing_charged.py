"""Nobody is charged for nothing: what fails before the first words leaves the payment unspent."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.blueprints.conftest import WatchedFacilitator, quoted, refused
from tests.conftest import (
    CREATOR_KEY,
    PAY_TO,
    PRICE,
    RAIN,
    Shop,
    decoded,
    events,
    text_of,
)
from x402jobs.devkit.wallet import sign
from x402jobs.domain.errors import (
    ContextTooLong,
    EmptyAnswer,
    FacilitatorUnavailable,
    InvalidApiKey,
    ModelError,
    NetworkError,
    Overloaded,
    RateLimited,
    TemplateUnavailable,
    TimedOut,
    Truncated,
    X402JobsError,
)
from x402jobs.domain.money import MICRO
from x402jobs.domain.payment import Authorization
from x402jobs.domain.secret import Secret
from x402jobs.stores import catalogue

SOMEBODY = "0x" + "0b" * 20

ONCE, THRICE = 1, 3
"""Calls to Claude: what may help is tried again twice."""

SEED_SENTENCES = {
    InvalidApiKey: "The creator's API key is invalid. Please contact the template creator.",
    RateLimited: "Rate limit exceeded. Please try again in a moment.",
    Overloaded: "Claude is currently overloaded. Please try again shortly.",
    ContextTooLong: "Input too long for this template. Please reduce your input size.",
    ModelError: "Execution failed. Please try again.",
}
"""Seed 2's words, which stay as they are."""


def bob(shop: Shop) -> str:
    """Another creator, with a Claude key of their own."""
    user_id = catalogue(shop.settings).add_user("bob")
    shop.services.integrations.save_claude_config(user_id, Secret("sk-ant-of-bob"))
    return user_id


def move_bobs_key(shop: Shop) -> None:
    shop.query(
        "UPDATE x402_user_claude_configs SET api_key_encrypted = (SELECT api_key_encrypted"
        " FROM x402_user_claude_configs WHERE user_id = ?) WHERE user_id = ?",
        bob(shop),
        shop.ada,
    )


def reopen(shop: Shop) -> None:
    """Whatever was missing is there again."""
    shop.services.integrations.save_claude_config(shop.ada, Secret(CREATOR_KEY), enabled=True)
    shop.services.integrations.save_pay_to(shop.ada, PAY_TO)
    shop.publish()


KEYS, RESOURCES = "x402_user_claude_configs", "x402_resources"
SHUT: dict[str, str | Callable[[Shop], None]] = {
    "no key": f"DELETE FROM {KEYS}",
    "key disabled": f"UPDATE {KEYS} SET is_enabled = 0",
    "key damaged": f"UPDATE {KEYS} SET api_key_encrypted = api_key_encrypted || 'AAAA'",
    "key of a lost key ring": f"UPDATE {KEYS} SET api_key_encrypted = "
    "replace(api_key_encrypted, 'v1.k1.', 'v1.k0.')",
    "key not sealed": f"UPDATE {KEYS} SET api_key_encrypted = 'sk-ant-in-the-clear'",
    "key empty": f"UPDATE {KEYS} SET api_key_encrypted = ''",
    "key of another user": move_bobs_key,
    "no payout address": "DELETE FROM x402_payout_addresses",
    "model retired": lambda shop: shop.publish(model="claude-2.1"),
    "prompt damaged": f"UPDATE {RESOURCES} SET pt_system_prompt = 'v1.k1.AAAA'",
    "tags and definitions disagree": f"UPDATE {RESOURCES} SET pt_parameters = '[]'",
    "definitions are no list": f"UPDATE {RESOURCES} SET pt_parameters = 'null'",
    "a definition without a name": f"UPDATE {RESOURCES} SET pt_parameters = '[{{}}]'",
    "a definition that is no object": f"UPDATE {RESOURCES} SET pt_parameters = '[\"topic\"]'",
}


@pytest.mark.parametrize("why", SHUT)
def test_nobody_is_asked_to_pay_for_a_shop_that_is_shut(
    shop: Shop, watched: WatchedFacilitator, why: str
) -> None:
    payment, shut = shop.payment(), SHUT[why]
    if isinstance(shut, str):
        shop.query(shut)
    else:
        shut(shop)

    unpaid = shop.client.post(shop.url)
    asking = shop.client.post(shop.url, json=RAIN)
    paid = shop.client.post(shop.url, json=RAIN, headers=payment)

    for reply in (unpaid, asking, paid):
        body = refused(reply, 503, "TEMPLATE_UNAVAILABLE")
        assert body["error"].endswith("Please contact the template creator.")
        assert "PAYMENT-REQUIRED" not in reply.headers
    assert (shop.rows(), watched.asked, shop.claude.calls) == ([], [], [])
    reopen(shop)
    assert shop.client.post(shop.url, json=RAIN, headers=payment).status_code == 200


TOO_LONG = "prompt is too long: 214290 tokens > 200000 maximum"
TOO_LONG_WITH_ANSWER = "input length and `max_tokens` exceed context limit: 199000 + 4096"
QUOTES_IT = "max_tokens: prompt is too long is not how this begins"
STATUSES: dict[str, tuple[dict[str, Any], type[X402JobsError], int, int]] = {
    # what Claude answers, the error, the caller's status, calls made
    "400": ({"status": 400}, ModelError, 502, ONCE),
    "400 too long": ({"status": 400, "text": TOO_LONG}, ContextTooLong, 400, ONCE),
    "400 no room": ({"status": 400, "text": TOO_LONG_WITH_ANSWER}, ContextTooLong, 400, ONCE),
    "400 other": ({"status": 400, "text": QUOTES_IT}, ModelError, 502, ONCE),
    "401": ({"status": 401}, InvalidApiKey, 502, ONCE),
    "402 billing": ({"status": 402}, InvalidApiKey, 502, ONCE),
    "403": ({"status": 403}, InvalidApiKey, 502, ONCE),
    "404 unknown model": ({"status": 404}, TemplateUnavailable, 503, ONCE),
    "408": ({"status": 408}, TimedOut, 504, ONCE),
    "409": ({"status": 409}, Overloaded, 503, THRICE),
    "413": ({"status": 413}, ContextTooLong, 400, ONCE),
    "418 unheard of": ({"status": 418, "errorEvent": "teapot_error"}, ModelError, 502, ONCE),
    "429": ({"status": 429}, RateLimited, 429, THRICE),
    "500": ({"status": 500}, Overloaded, 503, THRICE),
    "502": ({"status": 502}, Overloaded, 503, THRICE),
    "504": ({"status": 504}, TimedOut, 504, ONCE),
    "529": ({"status": 529}, Overloaded, 503, THRICE),
}
EVENTS: dict[str, tuple[dict[str, Any], type[X402JobsError], int, int]] = {
    name: ({"errorEvent": name}, error, status, calls)
    for name, error, status, calls in (
        ("api_error", Overloaded, 503, THRICE),
        ("authentication_error", InvalidApiKey, 502, ONCE),
        ("billing_error", InvalidApiKey, 502, ONCE),
        ("conflict_error", Overloaded, 503, THRICE),
        ("invalid_request_error", ModelError, 502, ONCE),
        ("never_heard_of_error", ModelError, 502, ONCE),
        ("not_found_error", TemplateUnavailable, 503, ONCE),
        ("overloaded_error", Overloaded, 503, THRICE),
        ("permission_error", InvalidApiKey, 502, ONCE),
        ("rate_limit_error", RateLimited, 429, THRICE),
        ("request_too_large", ContextTooLong, 400, ONCE),
        ("timeout_error", TimedOut, 504, ONCE),
    )
}
OUTGROWN = {"text": "", "stopReason": "model_context_window_exceeded"}
BEGINNINGS: dict[str, tuple[dict[str, Any], type[X402JobsError], int, int]] = {
    "refuses without a word": ({"text": "", "stopReason": "refusal"}, EmptyAnswer, 502, ONCE),
    "ends empty": ({"text": ""}, EmptyAnswer, 502, ONCE),
    "outgrows its window": (OUTGROWN, ContextTooLong, 400, ONCE),
    "says nothing at all": ({"cutAtByte": 0, "clean": True}, Truncated, 502, THRICE),
    "drops the line at once": ({"cutAtByte": 0}, Truncated, 502, THRICE),
    "ends cleanly in its first event": ({"cutAtByte": 150, "clean": True}, Truncated, 502, THRICE),
    "drops the line in its first event": ({"cutAtByte": 150}, Truncated, 502, THRICE),
    "does not speak events": ({"headers": {"content-type": "text/html"}}, ModelError, 502, ONCE),
}
FAILURES = STATUSES | EVENTS | BEGINNINGS


@pytest.mark.parametrize("how", FAILURES)
def test_a_model_that_cannot_start_costs_the_caller_nothing(
    shop: Shop, watched: WatchedFacilitator, how: str
) -> None:
    script, error, status, calls = FAILURES[how]
    shop.claude.script(*[script] * calls)
    payment = shop.payment()

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    body = refused(reply, status, error.code)
    assert body["error"] == SEED_SENTENCES.get(error, error.sentence)
    assert not {"receipt", "credit", "executionId"} & body.keys()
    assert "PAYMENT-RESPONSE" not in reply.headers
    assert len(shop.claude.calls) == calls
    released_and_usable_again(shop, watched, payment, error.code)


def released_and_usable_again(
    shop: Shop, watched: WatchedFacilitator, payment: dict[str, str], code: str
) -> None:
    """No transfer, a released row; then the same header buys an answer under the same row."""
    (row,) = shop.rows()
    assert (row["state"], row["attempt"], row["code"]) == ("released", 1, code)
    assert (row["transaction"], row["settled_at"], row["sealed_payment"]) == (None, None, None)
    assert row["ended_at"] is not None
    assert shop.ledger.transfers() == []
    assert "settle" not in watched.asked

    shop.claude.script({"text": "Rain taps."})
    said = events(shop.client.post(shop.url, json=RAIN, headers=payment))

    assert (text_of(said), said[-1]["type"]) == ("Rain taps.", "done")
    (after,) = shop.rows()
    assert (after["id"], after["state"]) == (row["id"], "completed")
    assert (after["attempt"], after["code"]) == (2, None)
    assert [transfer.value for transfer in shop.ledger.transfers()] == [PRICE]


@pytest.mark.parametrize("after_deltas", [-1, 0], ids=["before its headers", "before its content"])
def test_a_model_that_says_nothing_is_given_up_at_the_deadline(
    shop: Shop, watched: WatchedFacilitator, after_deltas: int
) -> None:
    shop.claude.script({"stallSeconds": 30, "afterDeltas": after_deltas})
    payment, began = shop.payment(), time.monotonic()

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    refused(reply, 504, "TIMEOUT")
    assert 1.9 < time.monotonic() - began < 3.5
    until = time.monotonic() + 2
    while not shop.claude.calls[0]["hungUp"] and time.monotonic() < until:
        time.sleep(0.01)
    assert shop.claude.calls[0]["hungUp"]
    released_and_usable_again(shop, watched, payment, "TIMEOUT")


def test_a_model_that_is_not_reached_costs_nothing(shop: Shop, watched: WatchedFacilitator) -> None:
    payment = shop.payment()
    shop.claude.stop()
    try:
        reply = shop.client.post(shop.url, json=RAIN, headers=payment)
    finally:
        shop.claude.start()

    refused(reply, 502, NetworkError.code)
    released_and_usable_again(shop, watched, payment, NetworkError.code)


# Tries before the first words


@pytest.mark.parametrize("how", ["429", "500", "529", "overloaded_error", "says nothing at all"])
def test_a_second_try_that_succeeds_is_an_ordinary_answer(shop: Shop, how: str) -> None:
    shop.claude.script(FAILURES[how][0], {"text": "Rain taps."})

    said = events(shop.buy())

    assert (text_of(said), said[-1]["type"]) == ("Rain taps.", "done")
    assert len(shop.claude.calls) == 2
    assert len(shop.ledger.transfers()) == 1


@pytest.mark.parametrize("status", [429, 529])
def test_a_wait_that_claude_asks_for_is_kept(shop: Shop, status: int) -> None:
    shop.claude.script({"status": status, "headers": {"retry-after": "1"}}, {"text": "Rain."})

    reply = shop.buy()

    assert text_of(events(reply)) == "Rain."
    first, second = (call["startedAt"] for call in shop.claude.calls)
    assert 1 <= second - first < 2


@pytest.mark.parametrize(
    "asked, passed_on", [("30", "30"), ("3600", "3600"), ("4294967295", "3600")]
)
def test_a_wait_beyond_the_deadline_is_the_callers_at_once(
    shop: Shop, watched: WatchedFacilitator, asked: str, passed_on: str
) -> None:
    shop.claude.script({"status": 429, "headers": {"retry-after": asked}})
    payment, began = shop.payment(), time.monotonic()

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    refused(reply, 429, "RATE_LIMIT")
    assert reply.headers["Retry-After"] == passed_on
    assert (time.monotonic() - began < 1, len(shop.claude.calls)) == (True, 1)
    released_and_usable_again(shop, watched, payment, "RATE_LIMIT")


@pytest.mark.parametrize("asked", ["soon", "-5", "nan", "inf", "1e400"])
def test_a_wait_that_makes_no_sense_is_not_passed_on(shop: Shop, asked: str) -> None:
    shop.claude.script(*[{"status": 429, "headers": {"retry-after": asked}}] * THRICE)

    reply = shop.buy()

    refused(reply, 429, "RATE_LIMIT")
    assert reply.headers.get("Retry-After") in (None, "1")
    assert len(shop.claude.calls) == THRICE


# The facilitator


def drain(shop: Shop) -> None:
    """Spend all of the wallet's money elsewhere."""
    pay(shop, shop.wallet.address, SOMEBODY, shop.ledger.balance(shop.wallet.address))


def pay(shop: Shop, payer: str, payee: str, value: int) -> None:
    nonce = f"0x{len(shop.ledger.transfers()):064x}"
    shop.ledger.move(Authorization(payer, payee, value, 0, 2**40, nonce))


def test_a_wallet_that_an_expensive_answer_emptied_is_refused(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment = shop.payment()
    shop.publish(price=100 * MICRO)
    expensive = {"PAYMENT-SIGNATURE": sign(shop.wallet, shop.quote(), max_usd=Decimal(1000))}
    assert shop.client.post(shop.url, json=RAIN, headers=expensive).status_code == 200
    shop.publish()
    watched.asked.clear()

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    quoted(reply)
    assert reply.json is not None and "insufficient_balance" in reply.json["error"]
    assert (watched.asked, len(shop.ledger.transfers())) == (["verify"], 1)
    row = shop.rows()[-1]
    assert (row["state"], row["transaction"]) == ("released", None)
    pay(shop, SOMEBODY, shop.wallet.address, PRICE)
    assert shop.client.post(shop.url, json=RAIN, headers=payment).status_code == 200


def test_a_wallet_emptied_between_verifying_and_settling_is_refused_with_the_reason(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment = shop.payment()
    watched.before_settling = lambda: drain(shop)

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    quoted(reply)
    response = decoded(reply.headers["PAYMENT-RESPONSE"])
    assert (response["success"], response["transaction"]) == (False, "")
    assert response["errorReason"] == "invalid_exact_evm_insufficient_balance"
    (row,) = shop.rows()
    assert (row["state"], row["transaction"], row["sealed_payment"]) == ("released", None, None)
    watched.before_settling = lambda: None
    pay(shop, SOMEBODY, shop.wallet.address, PRICE)
    assert shop.client.post(shop.url, json=RAIN, headers=payment).status_code == 200


def test_a_facilitator_that_does_not_answer_costs_nothing(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    payment = shop.payment()
    watched.is_away = True

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    assert refused(reply, 503, "FACILITATOR_UNAVAILABLE")["error"] == (
        FacilitatorUnavailable.sentence
    )
    assert shop.claude.calls == []
    watched.is_away = False
    released_and_usable_again(shop, watched, payment, "FACILITATOR_UNAVAILABLE")
