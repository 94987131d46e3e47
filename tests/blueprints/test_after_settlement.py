"""Once the money has moved there is one ending: the whole answer, or a debt that says so."""

import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import hurry
from tests.conftest import PRICE, RAIN, Shop, decoded, events, text_of
from tests.tools import WHOLE
from x402jobs.devkit.claude_server import recorded_stream
from x402jobs.devkit.wallet import sign
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.services import agentic, runs
from x402jobs.settings import Settings

CREDIT = {"amountUsdc": "0.01", "rerunsLeft": 3}
INTERRUPTED = "The answer was interrupted before its end. Please try again."
SILENT = "Claude took too long to answer. Please try again."


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A silence of half a second is too long, and so is an answer of two."""
    return replace(settings, idle_seconds=0.5, total_seconds=2.0)


def owes(shop: Shop, reply: TestResponse, code: str) -> list[dict[str, Any]]:
    """What was said: text, one error with receipt and credit, nothing after it; the row agrees."""
    assert reply.status_code == 200
    said = events(reply)
    row = shop.query("SELECT * FROM x402_executions ORDER BY rowid DESC LIMIT 1")[0]
    assert [event["type"] for event in said[:-1]] == ["text"] * (len(said) - 1)
    error = said[-1]
    assert error.keys() == {
        *("type", "message", "code", "recoverable", "executionId", "receipt", "credit")
    }
    assert (error["type"], error["code"], error["credit"]) == ("error", code, CREDIT)
    assert error["receipt"] == {
        "transaction": row["transaction"],
        "network": DEVELOPMENT.id,
        "payer": shop.wallet.address,
        "paidUsdc": "0.01",
        "development": True,
    }
    assert (row["state"], row["code"], row["attempt"]) == ("refund_due", code, 1)
    assert (row["id"], row["sealed_payment"]) == (error["executionId"], None)
    transfer = shop.ledger.transfer(row["transaction"])
    assert transfer is not None and transfer.value == PRICE
    paid = decoded(reply.headers["PAYMENT-RESPONSE"])
    assert (paid["success"], paid["transaction"]) == (True, row["transaction"])
    return said


def is_free_of_charge(shop: Shop, reply: TestResponse, transfers: int) -> None:
    """An ordinary error, a released row, and as many transfers as before."""
    row = shop.query("SELECT * FROM x402_executions ORDER BY rowid DESC LIMIT 1")[0]
    assert reply.status_code == 502
    assert reply.json is not None and reply.json["code"] == "STREAM_INTERRUPTED"
    assert (row["state"], row["transaction"]) == ("released", None)
    assert len(shop.ledger.transfers()) == transfers


# A cut at every byte

STREAMS: Mapping[str, dict[str, Any]] = {
    "plain words": {"text": "Rain taps."},
    "characters of two, three and four bytes": {"text": "é–雨🌧 ü"},
    "tiny deltas": {"text": "a b c", "usage": {"output_tokens": 7, "server_tool_use": None}},
}


def recorded(shop: Shop, script: dict[str, Any]) -> bytes:
    """The very bytes Claude answers this shop's call with."""
    shop.claude.script(script)
    assert events(shop.buy())[-1]["type"] == "done"
    body = shop.claude.calls[-1]["body"]
    return recorded_stream(script["text"], body, usage=script.get("usage"))


def cuts(stream: bytes) -> list[int]:
    """Where to cut it: about each line's end, and at every tenth byte between, each run at others.

    Every byte with `make test-whole`. Over the adapter alone it is every byte in any case, in
    tests/adapters/test_claude.py.
    """
    if WHOLE:
        return list(range(len(stream)))
    ends = {end + by for end, byte in enumerate(stream) if byte == 10 for by in (-1, 0, 1)}
    first = random.randrange(10)
    print(f"cut at every tenth byte from byte {first}")
    return sorted(ends & set(range(len(stream))) | set(range(first, len(stream), 10)))


@pytest.mark.untraced  # the same lines a thousand times
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "dirty"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_at_any_byte_is_a_debt_after_the_first_words_and_free_before(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, clean: bool
) -> None:
    monkeypatch.setattr(agentic, "MAX_RETRIES", 0)  # what tries again is shown elsewhere
    hurry(shop)
    script = STREAMS[name]
    stream, quote = recorded(shop, script), shop.quote()
    delta = stream.index(b"event: content_block_delta")
    first_words = stream.index(b"\n\n", delta) + 2
    transfers = 1

    for cut in cuts(stream):
        shop.claude.script(script | {"cutAtByte": cut, "clean": clean})
        headers = {"PAYMENT-SIGNATURE": sign(shop.wallet, quote)}
        reply = shop.client.post(shop.url, json=RAIN, headers=headers)
        if cut < first_words:
            is_free_of_charge(shop, reply, transfers)
        else:
            transfers += 1
            said = owes(shop, reply, "STREAM_INTERRUPTED")
            assert said[-1]["message"] == INTERRUPTED and said[-1]["recoverable"]
            assert text_of(said) and script["text"].startswith(text_of(said))

    assert len(shop.ledger.transfers()) == transfers
    assert shop.query("SELECT count(*) AS kept FROM x402_answers") == [{"kept": 1}]
    shop.claude.script(script | {"cutAtByte": len(stream), "clean": clean})
    said = events(shop.buy())
    assert (text_of(said), said[-1]["type"]) == (script["text"], "done")


# Other ways to break


@pytest.mark.parametrize(
    "kind, code, recoverable",
    [
        ("api_error", "OVERLOADED", True),
        ("authentication_error", "INVALID_API_KEY", False),
        ("billing_error", "INVALID_API_KEY", False),
        ("conflict_error", "OVERLOADED", True),
        ("invalid_request_error", "UPSTREAM_REJECTED", False),
        ("never_heard_of_error", "UPSTREAM_REJECTED", False),
        ("overloaded_error", "OVERLOADED", True),
        ("permission_error", "INVALID_API_KEY", False),
        ("rate_limit_error", "RATE_LIMIT", True),
        ("request_too_large", "CONTEXT_LENGTH_EXCEEDED", False),
        ("timeout_error", "TIMEOUT", True),
    ],
)
@pytest.mark.parametrize("after", [1, 4], ids=["after a word", "after all words"])
def test_an_error_of_claudes_in_the_middle_is_a_debt(
    shop: Shop, kind: str, code: str, recoverable: bool, after: int
) -> None:
    shop.claude.script({"text": "Rain taps the window.", "errorEvent": kind, "afterDeltas": after})

    said = owes(shop, shop.buy(), code)

    assert said[-1]["recoverable"] is recoverable
    assert kind not in said[-1]["message"] and "Simulated" not in said[-1]["message"]
    assert text_of(said) == ("Rain" if after == 1 else "Rain taps the window.")
    assert len(shop.claude.calls) == 1


def test_a_silence_in_the_middle_is_a_debt(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps.", "stallSeconds": 30, "afterDeltas": 1})
    began = time.monotonic()

    said = owes(shop, shop.buy(), "TIMEOUT")

    assert 0.4 < time.monotonic() - began < 1.9
    assert (text_of(said), said[-1]["message"]) == ("Rain", SILENT)


def test_a_silence_before_the_end_marker_is_a_debt(shop: Shop) -> None:
    """Every word was there, but nobody has said that it was the last one."""
    shop.claude.script({"text": "Rain taps.", "stallSeconds": 30, "afterDeltas": 99})

    assert text_of(owes(shop, shop.buy(), "TIMEOUT")) == "Rain taps."


def test_an_answer_that_takes_too_long_in_all_is_a_debt(shop: Shop) -> None:
    shop.claude.script({"text": "a " * 200, "deltaMs": 50})

    said = owes(shop, shop.buy(), "TIMEOUT")

    assert 10 < len(text_of(said)) < 400


def test_an_answer_that_grows_beyond_all_bounds_is_a_debt(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MAX_ANSWER_CHARACTERS", 8)
    shop.claude.script({"text": "Rain taps the window."})

    owes(shop, shop.buy(), "UPSTREAM_REJECTED")


def test_claude_is_hung_up_on_when_its_answer_breaks_off(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps.", "stallSeconds": 30, "afterDeltas": 1})

    shop.buy().get_data()

    until = time.monotonic() + 2
    while not shop.claude.calls[0]["hungUp"]:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "stop_sequence", "refusal"])
def test_words_with_an_end_marker_are_an_answer_whatever_the_reason(
    shop: Shop, reason: str
) -> None:
    shop.claude.script({"text": "I would rather not.", "stopReason": reason})

    said = events(shop.buy())

    assert text_of(said) == "I would rather not."
    assert (said[-1]["type"], said[-1]["stopReason"]) == ("done", reason)
    assert "credit" not in said[-1]
    assert shop.rows()[0]["state"] == "completed"


def test_a_caller_who_leaves_has_bought_the_answer_all_the_same(shop: Shop) -> None:
    shop.claude.script({"text": "Rain taps the window.", "deltaMs": 100})
    payment = shop.payment()
    reply = shop.client.post(shop.url, json=RAIN, headers=payment, buffered=False)
    first = next(iter(reply.response))
    reply.close()

    until = time.monotonic() + 3
    while shop.rows()[0]["state"] != "completed":
        assert time.monotonic() < until
        time.sleep(0.02)

    assert b"Rain" in (first if isinstance(first, bytes) else first.encode())
    again = events(shop.client.post(shop.url, json=RAIN, headers=payment))
    assert text_of(again) == "Rain taps the window."
    assert (len(shop.claude.calls), shop.claude.calls[0]["hungUp"]) == (1, False)
