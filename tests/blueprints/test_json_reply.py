"""The answer in one piece: who gets it, what it says, and what it says when there is none."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import WatchedFacilitator, forge, headers_of, refused
from tests.conftest import PRICE, RAIN, Shop, decoded, events, text_of
from x402jobs.blueprints import json_reply
from x402jobs.blueprints.line import SocketLine
from x402jobs.domain.errors import InProgress
from x402jobs.services import runs

WORDS = {"text": "Rain taps the window."}
SLOW = {"text": "a b c d e f g h i j", "deltaMs": 100}
CREDIT = {"amountUsdc": "0.01", "rerunsLeft": 3}
JSON = "?stream=false"


def whole(reply: TestResponse) -> dict[str, Any]:
    """The body of an answer in one piece, its headers checked."""
    assert (reply.status_code, reply.mimetype) == (200, "application/json"), reply.get_data()
    assert reply.headers["Vary"] == "Accept, Authorization, PAYMENT-SIGNATURE, X-PAYMENT"
    body: dict[str, Any] = reply.json
    assert body["executionId"] == reply.headers["X-Execution-Id"]
    return body


def wait_for(happened: Any, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


# What it says


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_paid_answer_in_one_piece(shop: Shop, method: str) -> None:
    shop.claude.script(WORDS)
    query = {"stream": "false"} | (RAIN if method == "GET" else {})
    body = RAIN if method == "POST" else None

    reply = shop.client.open(
        shop.url, method=method, query_string=query, json=body, headers=shop.payment()
    )

    said = whole(reply)
    (row,), (transfer,) = shop.rows(), shop.ledger.transfers()
    assert said == {
        "response": "Rain taps the window.",
        "usage": said["usage"],
        "model": shop.claude.calls[0]["body"]["model"],
        "stopReason": "end_turn",
        "executionId": row["id"],
        "receipt": {
            "transaction": transfer.transaction,
            "network": "eip155:31337",
            "payer": shop.wallet.address,
            "paidUsdc": "0.01",
            "development": True,
        },
    }
    assert said["usage"]["output_tokens"] > 0
    assert reply.headers["Cache-Control"] == "private, no-store"
    assert reply.headers["X-Resume-Token"]
    assert decoded(reply.headers["PAYMENT-RESPONSE"])["transaction"] == transfer.transaction
    assert (row["state"], transfer.value) == ("completed", PRICE)


def test_the_same_headers_as_a_streams(shop: Shop) -> None:
    payment = shop.payment()
    names = [
        {name for name, _ in shop.client.post(shop.url + query, json=RAIN, headers=payment).headers}
        for query in (JSON, "?stream=true")
    ]

    assert names[1] - names[0] == {"X-Accel-Buffering"}  # there is no stream to hold up
    assert names[0] - names[1] == {"Content-Length"}


@pytest.mark.parametrize("why", ["free", "owner_test"])
def test_an_unpaid_answer_has_no_receipt(shop: Shop, why: str) -> None:
    headers = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}
    if why == "free":
        shop.publish(price=0)
        headers = {}

    reply = shop.client.post(shop.url + JSON, json=RAIN, headers=headers)

    assert whole(reply).keys() == {"response", "usage", "model", "stopReason", "executionId"}
    assert not {"PAYMENT-RESPONSE", "X-Resume-Token"} & set(reply.headers.keys())
    assert reply.headers["Cache-Control"] == "no-store"
    assert shop.rows()[0]["kind"] == why


@pytest.mark.parametrize("text", ['"\\\n\u2028\x00', "é–雨🌧", "a" * 20_000])
def test_the_answer_is_whole_whatever_it_is_made_of(shop: Shop, text: str) -> None:
    shop.claude.script({"text": text})

    assert (
        whole(shop.client.post(shop.url + JSON, json=RAIN, headers=shop.payment()))["response"]
        == text
    )


# Who gets it

STREAM, WHOLE = "text/event-stream", "application/json"
ACCEPT = {
    "nothing": (None, STREAM),
    "curl, python-requests, Node's fetch": ("*/*", STREAM),
    "axios": ("application/json, text/plain, */*", STREAM),
    "a browser's navigation": (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        STREAM,
    ),
    "EventSource": ("text/event-stream", STREAM),
    "empty": ("", STREAM),
    "JSON alone": ("application/json", WHOLE),
    "JSON in capitals": ("Application/JSON", WHOLE),
    "JSON and its charset": ("application/json; charset=utf-8", WHOLE),
    "JSON before pages": ("application/json;q=0.9, text/html", WHOLE),
    "JSON and plain text": ("application/json, text/plain", WHOLE),
    "JSON or a stream": ("application/json, text/event-stream", STREAM),
    "JSON rather than a stream": ("application/json, text/event-stream;q=0.1", STREAM),
    "JSON and never a stream": ("application/json, text/event-stream;q=0", WHOLE),
    "JSON and nothing else": ("application/json, */*;q=0", WHOLE),
    "JSON or any text": ("text/*, application/json", STREAM),
    "any application": ("application/*", STREAM),
    "another JSON": ("application/ld+json", STREAM),
    "a problem": ("application/problem+json", STREAM),
    "JSON never": ("application/json;q=0", STREAM),
    "JSON never, anything else": ("application/json;q=0, */*", STREAM),
    "garbage": (";;q=,, garbage/;;", STREAM),
    "garbage with JSON in it": ("xapplication/json", STREAM),
    "a quality that is none": ("application/json;q=x", STREAM),
}


@pytest.mark.parametrize("who", ACCEPT)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_accept_header_decides(shop: Shop, method: str, who: str) -> None:
    shop.publish(price=0)
    accept, expected = ACCEPT[who]
    headers = {} if accept is None else {"Accept": accept}
    sent: dict[str, Any] = {"json": RAIN} if method == "POST" else {"query_string": RAIN}

    reply = shop.client.open(shop.url, method=method, headers=headers, **sent)
    reply.get_data()

    assert (reply.status_code, reply.mimetype) == (200, expected)
    assert "Accept" in reply.headers["Vary"]


@pytest.mark.parametrize("accept", [ACCEPT["EventSource"][0], ACCEPT["JSON alone"][0], "*/*"])
@pytest.mark.parametrize("stream, expected", [("false", WHOLE), ("true", STREAM)])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_query_wins_over_the_accept_header(
    shop: Shop, method: str, stream: str, expected: str, accept: str
) -> None:
    shop.publish(price=0)
    query = {"stream": stream} | (RAIN if method != "POST" else {})
    body = RAIN if method == "POST" else None

    reply = shop.client.open(
        shop.url, method=method, query_string=query, json=body, headers={"Accept": accept}
    )
    reply.get_data()

    assert (reply.status_code, reply.mimetype) == (200, expected)


@pytest.mark.parametrize("value", ["", "0", "1", "no", "False", "TRUE", "false ", "ids"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_any_other_wish_is_an_error(
    shop: Shop, watched: WatchedFacilitator, method: str, value: str
) -> None:
    query = {"stream": value} | (RAIN if method != "POST" else {})
    body = RAIN if method == "POST" else None

    reply = shop.client.open(
        shop.url, method=method, query_string=query, json=body, headers=shop.payment()
    )

    assert reply.status_code == 400
    if method != "HEAD":
        assert refused(reply, 400, "INVALID_REQUEST")["field"] == "stream"
    assert (watched.asked, shop.rows(), shop.claude.calls) == ([], [], [])


def test_a_wish_given_twice_is_an_error(shop: Shop) -> None:
    reply = shop.client.post(f"{shop.url}?stream=false&stream=false", json=RAIN)

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == "stream"


def test_a_post_still_takes_no_parameter_from_the_query(shop: Shop) -> None:
    reply = shop.client.post(f"{shop.url}?stream=false&topic=rain", json=RAIN)

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == "topic"


def test_both_controls_go_together(shop: Shop) -> None:
    url = f"{shop.url}?stream=false&network=eip155:31337"

    assert whole(shop.client.post(url, json=RAIN, headers=shop.payment()))["receipt"]


# Presented again


@pytest.mark.parametrize("first, again", [(JSON, ""), ("", JSON), (JSON, JSON)])
def test_what_was_bought_in_one_form_comes_back_in_the_other(
    shop: Shop, watched: WatchedFacilitator, first: str, again: str
) -> None:
    shop.claude.script(WORDS)
    payment = shop.payment()

    told = [
        shop.client.post(shop.url + query, json=RAIN, headers=payment) for query in (first, again)
    ]

    endings = [whole(each) if each.is_json else events(each)[-1] for each in told]
    same = ("usage", "model", "stopReason", "executionId", "receipt")
    assert [endings[0][name] for name in same] == [endings[1][name] for name in same]
    texts = {whole(each)["response"] if each.is_json else text_of(events(each)) for each in told}
    assert texts == {WORDS["text"]}
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)


def test_a_second_caller_is_told_the_same_answer_while_it_is_made(shop: Shop) -> None:
    shop.claude.script(SLOW)
    payment = shop.payment()
    told: list[dict[str, Any]] = []

    def ask() -> None:
        told.append(whole(shop.client.post(shop.url + JSON, json=RAIN, headers=payment)))

    streamed = shop.client.post(shop.url, json=RAIN, headers=payment, buffered=False)
    waiting = threading.Thread(target=ask)
    waiting.start()
    said = events(streamed)
    waiting.join()

    assert (told[0]["response"], told[0]["receipt"]) == (text_of(said), said[-1]["receipt"])
    assert len(shop.claude.calls) == 1


@pytest.mark.parametrize(
    "sql, status, code",
    [
        ("UPDATE x402_executions SET ended_at = 1", 410, "ANSWER_EXPIRED"),
        ("UPDATE x402_executions SET state = 'settling'", 503, "SETTLEMENT_UNKNOWN"),
        ("UPDATE x402_executions SET state = 'refunded'", 409, "CONFLICT"),
    ],
)
def test_the_ledgers_other_answers_are_json_anyway(
    shop: Shop, sql: str, status: int, code: str
) -> None:
    payment = shop.payment()
    whole(shop.client.post(shop.url + JSON, json=RAIN, headers=payment))
    shop.query(sql)

    refused(shop.client.post(shop.url + JSON, json=RAIN, headers=payment), status, code)


# Failures


BEFORE: dict[str, tuple[dict[str, Any], int, str]] = {
    "a bad key": ({"status": 401}, 502, "INVALID_API_KEY"),
    "overloaded": ({"status": 529}, 503, "OVERLOADED"),
    "too long a prompt": ({"status": 413}, 400, "CONTEXT_LENGTH_EXCEEDED"),
    "an error before any word": ({"errorEvent": "api_error", "afterDeltas": 0}, 503, "OVERLOADED"),
    "no words at all": ({"text": ""}, 502, "EMPTY_ANSWER"),
}


@pytest.mark.parametrize("what", BEFORE)
def test_what_fails_before_settlement_costs_nothing(shop: Shop, what: str) -> None:
    script, status, code = BEFORE[what]
    shop.claude.script(*[script] * 3)

    reply = shop.client.post(shop.url + JSON, json=RAIN, headers=shop.payment())

    body = refused(reply, status, code)
    assert not {"receipt", "credit"} & body.keys()
    assert (shop.ledger.transfers(), shop.rows()[0]["state"]) == ([], "released")


def test_without_a_payment_there_is_the_same_402(shop: Shop) -> None:
    reply = shop.client.post(shop.url + JSON, json=RAIN)

    refused(reply, 402, "PAYMENT_REQUIRED")
    assert decoded(reply.headers["PAYMENT-REQUIRED"]) == shop.quote()


AFTER: dict[str, tuple[dict[str, Any], int, str]] = {
    "overloaded": ({"errorEvent": "overloaded_error", "afterDeltas": 2}, 503, "OVERLOADED"),
    "a bad key": ({"errorEvent": "authentication_error", "afterDeltas": 2}, 502, "INVALID_API_KEY"),
    "rate limited": ({"errorEvent": "rate_limit_error", "afterDeltas": 2}, 429, "RATE_LIMIT"),
    "cut off": ({"cutAtByte": -1, "clean": True}, 502, "STREAM_INTERRUPTED"),
    "silent": ({"stallSeconds": 30, "afterDeltas": 2}, 504, "TIMEOUT"),
}


@pytest.mark.parametrize("what", AFTER)
def test_what_fails_after_settlement_is_an_error_with_receipt_and_credit(
    shop: Shop, what: str
) -> None:
    script, status, code = AFTER[what]
    if "cutAtByte" in script:
        script = script | {"cutAtByte": 900}
    shop.claude.script(WORDS | script)
    payment = shop.payment()

    reply = shop.client.post(shop.url + JSON, json=RAIN, headers=payment)

    assert (reply.status_code, reply.mimetype) == (status, "application/json")
    body: dict[str, Any] = reply.json
    (row,), (transfer,) = shop.rows(), shop.ledger.transfers()
    assert (body["error"], body["code"], body["credit"]) == ("Execution failed", code, CREDIT)
    assert body["message"].startswith(("Claude", "The ", "Rate", "Execution"))
    assert body["receipt"]["transaction"] == transfer.transaction == row["transaction"]
    assert body["executionId"] == row["id"] == reply.headers["X-Execution-Id"]
    assert body["requestId"] == reply.headers["X-Request-Id"]
    assert decoded(reply.headers["PAYMENT-RESPONSE"])["success"] is True
    assert reply.headers["X-Resume-Token"]
    assert "no-store" in reply.headers["Cache-Control"]
    assert "response" not in body and "Rain taps" not in reply.get_data(as_text=True)
    assert row["state"] == "refund_due"
    shop.claude.script(WORDS)
    again = whole(shop.client.post(shop.url + JSON, json=RAIN, headers=payment))
    assert (again["response"], again["receipt"]) == (WORDS["text"], body["receipt"])
    assert len(shop.ledger.transfers()) == 1


def test_an_owner_test_that_breaks_off_has_nothing_to_show_a_receipt_for(shop: Shop) -> None:
    shop.claude.script(WORDS | AFTER["overloaded"][0])
    headers = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}

    reply = shop.client.post(shop.url + JSON, json=RAIN, headers=headers)

    body = refused_answer(reply, 503, "OVERLOADED")
    assert body["error"] == "Claude is currently overloaded. Please try again shortly."
    assert not {"receipt", "credit", "message"} & body.keys()


def refused_answer(reply: TestResponse, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = reply.json
    assert (reply.status_code, body["code"]) == (status, code), body
    return body


def test_a_row_that_was_taken_over_before_the_end_is_said_with_the_receipt(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "STORE_PATIENCE_SECONDS", 0.0)
    shop.claude.script(SLOW)
    payment = shop.payment()
    told: list[TestResponse] = []
    asking = threading.Thread(
        target=lambda: told.append(shop.client.post(shop.url + JSON, json=RAIN, headers=payment))
    )
    asking.start()
    wait_for(lambda: shop.rows() and shop.rows()[0]["state"] == "settled")
    shop.query("UPDATE x402_executions SET attempt = 9")
    asking.join()

    body = refused_answer(told[0], 409, "IN_PROGRESS")
    assert (body["error"], body["receipt"]["paidUsdc"]) == (InProgress.sentence, "0.01")
    assert "credit" not in body


# Longer than one reply waits


@pytest.fixture
def impatient(shop: Shop) -> Iterator[None]:
    """One reply waits for less than the slow answer takes."""
    config = shop.client.application.config
    before, config["JSON_SECONDS"] = config["JSON_SECONDS"], 0.4
    yield
    config["JSON_SECONDS"] = before


def test_one_reply_waits_for_two_minutes(shop: Shop) -> None:
    assert json_reply.PATIENCE_SECONDS == 120
    assert shop.client.application.config["JSON_SECONDS"] == 120


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("silent", [False, True], ids=["talking", "silent"])
def test_a_paid_answer_that_takes_too_long_goes_on_and_can_be_fetched(
    shop: Shop, silent: bool
) -> None:
    talking = {"text": "a b c d e f g h i j", "deltaMs": 100}
    shop.claude.script(
        {"text": "a b c", "stallSeconds": 1.0, "afterDeltas": 1} if silent else talking
    )
    payment = shop.payment()

    reply = shop.client.post(shop.url + JSON, json=RAIN, headers=payment)

    body = refused_answer(reply, 504, "TIMEOUT")
    assert body["error"] == "Execution failed" and "credit" not in body
    assert "same payment" in body["message"] and "?stream=true" in body["message"]
    assert body["receipt"]["paidUsdc"] == "0.01"
    assert reply.headers["X-Resume-Token"] and reply.headers["PAYMENT-RESPONSE"]
    assert shop.rows()[0]["state"] == "settled"
    streamed = events(shop.client.post(shop.url, json=RAIN, headers=payment))
    fetched = whole(shop.client.post(shop.url + JSON, json=RAIN, headers=payment))
    assert fetched["response"] == text_of(streamed)
    assert fetched["receipt"] == body["receipt"] == streamed[-1]["receipt"]
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)


@pytest.mark.usefixtures("impatient")
def test_an_unpaid_answer_that_takes_too_long_ends(shop: Shop) -> None:
    shop.publish(price=0)
    shop.claude.script({"text": "a " * 100, "deltaMs": 50})

    reply = shop.client.post(shop.url + JSON, json=RAIN)

    body = refused_answer(reply, 504, "TIMEOUT")
    assert "?stream=true" in body["error"] and "payment" not in body["error"]
    wait_for(lambda: shop.claude.calls[0]["hungUp"] and shop.rows())
    assert shop.rows()[0]["state"] == "released"


@pytest.mark.usefixtures("impatient")
def test_what_is_known_is_told_however_late_it_is(shop: Shop) -> None:
    """A stored answer needs no patience, and one that is all there has been waited for."""
    shop.client.application.config["JSON_SECONDS"] = 0
    payment = headers_of(forge(shop.wallet))
    streamed = events(shop.client.post(shop.url, json=RAIN, headers=payment))

    fetched = whole(shop.client.post(shop.url + JSON, json=RAIN, headers=payment))

    assert fetched["response"] == text_of(streamed)


# Callers who leave


@pytest.mark.parametrize("script", [SLOW, {"text": "a b", "stallSeconds": 1, "afterDeltas": 1}])
def test_a_caller_who_leaves_while_waiting_has_bought_the_answer_all_the_same(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, script: dict[str, Any]
) -> None:
    monkeypatch.setattr(json_reply, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(SocketLine, "gone", lambda self: bool(shop.ledger.transfers()))
    shop.claude.script(script)
    payment = shop.payment()

    reply = shop.client.post(shop.url + JSON, json=RAIN, headers=payment)

    assert reply.status_code == 499
    assert shop.rows()[0]["state"] == "settled"
    wait_for(lambda: shop.rows()[0]["state"] == "completed")
    monkeypatch.setattr(SocketLine, "gone", lambda self: False)
    again = whole(shop.client.post(shop.url + JSON, json=RAIN, headers=payment))
    assert again["response"] == script["text"]
    assert (len(shop.claude.calls), shop.claude.calls[0]["hungUp"]) == (1, False)


def test_claude_is_let_go_when_a_free_caller_leaves_while_waiting(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(price=0)
    shop.claude.script({"text": "a " * 100, "deltaMs": 50})
    left = time.monotonic() + 0.5
    monkeypatch.setattr(SocketLine, "gone", lambda self: time.monotonic() > left)

    assert shop.client.post(shop.url + JSON, json=RAIN).status_code == 499

    wait_for(lambda: shop.claude.calls[0]["hungUp"] and shop.rows())
    assert (shop.rows()[0]["kind"], shop.rows()[0]["state"]) == ("free", "released")
