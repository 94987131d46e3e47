"""The bytes and headers on the wire are those of spec/wire.md, no more and no fewer."""

import json
import re
from typing import Any

import pytest

from tests.conftest import PRICE, decoded, events, text_of
from tests.wire.conftest import Answer, Server

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'
PING = b": ping\n\n"
EVENT = re.compile(rb'data: \{"type":"(?:text|done|error)",[\x20-\x7e]+\}\n\n')
MAX_EVENT_BYTES = 16 * 1024

RECEIPT = ["transaction", "network", "payer", "paidUsdc", "development"]
CREDIT = ["amountUsdc", "rerunsLeft"]
FIELDS = {
    "text": ["type", "content"],
    "done": [
        *("type", "usage", "model", "stopReason", "durationMs", "executionId", "receipt"),
    ],
    "error": ["type", "message", "code", "recoverable", "executionId", "receipt", "credit"],
}
"""Every field of every event, in the order of spec/wire.md. Play money's receipts say so."""

STREAM_HEADERS = {
    *("server", "date", "connection", "transfer-encoding"),  # gunicorn's own
    *("content-type", "cache-control", "x-accel-buffering", "vary"),
    *("x-execution-id", "x-request-id"),
    *("access-control-allow-origin", "access-control-expose-headers"),
}


def oracle(answer: Answer) -> list[dict[str, Any]]:
    """The events of a body, every byte of which spec/wire.md predicts from them."""
    said = events(answer.body)
    written = [
        b"data: " + json.dumps(event, separators=(",", ":"), ensure_ascii=True).encode() + b"\n\n"
        for event in said
    ]
    assert [chunk for chunk in answer.chunks if chunk != PING] == written
    for event, chunk in zip(said, written, strict=True):
        assert EVENT.fullmatch(chunk), chunk
        assert len(chunk) <= MAX_EVENT_BYTES
        assert list(event) == FIELDS[event["type"]]
    assert [event["type"] == "text" for event in said] == [True] * (len(said) - 1) + [False]
    return said


def test_a_paid_answer_is_the_bytes_of_the_specification(server: Server) -> None:
    server.claude.script({"text": "Rain\nfalls on “us”.", "usage": {"output_tokens": 6}})

    answer = server.ask(server.payment())

    said = oracle(answer)
    (row,), (transfer,) = server.rows(), server.transfers()
    assert text_of(said) == "Rain\nfalls on “us”."
    usage = said[-1].pop("usage")
    assert usage["output_tokens"] == 6 and usage["input_tokens"] > 0
    duration = said[-1].pop("durationMs")
    assert type(duration) is int and 0 <= duration < 20_000
    assert said[-1] == {
        "type": "done",
        "model": server.call()["body"]["model"],
        "stopReason": "end_turn",
        "executionId": row["id"],
        "receipt": {
            "transaction": transfer.transaction,
            "network": "eip155:31337",
            "payer": server.wallet.address,
            "paidUsdc": "0.01",
            "development": True,
        },
    }
    assert list(said[-1]["receipt"]) == RECEIPT


def test_a_broken_answer_ends_in_one_error_with_receipt_and_credit(server: Server) -> None:
    server.claude.script({"errorEvent": "overloaded_error", "afterDeltas": 3, "text": "a b c d e"})

    answer = server.ask(server.payment())

    said = oracle(answer)
    (row,) = server.rows()
    assert answer.status == 200
    assert text_of(said) == "a b c"
    assert list(said[-1]["receipt"]) == RECEIPT and list(said[-1]["credit"]) == CREDIT
    assert said[-1] | {"receipt": None} == {
        "type": "error",
        "message": "Claude is currently overloaded. Please try again shortly.",
        "code": "OVERLOADED",
        "recoverable": True,
        "executionId": row["id"],
        "receipt": None,
        "credit": {"amountUsdc": "0.01", "rerunsLeft": 3},
    }
    assert row["state"] == "refund_due"


@pytest.mark.parametrize("character", ["🌧", "\u2028", '"', "a", "\n"])
def test_100_kb_in_one_piece_never_make_an_event_over_16_kib(
    server: Server, character: str
) -> None:
    """A replayed answer is one piece, however it once came."""
    text = character * (100_000 // len(character.encode())) + "."
    server.claude.script({"text": text})
    payment = server.payment()
    assert text_of(oracle(server.ask(payment))) == text

    replayed = server.ask(payment)

    assert text_of(oracle(replayed)) == text
    assert len(server.claude.calls) == 1


def test_each_event_leaves_in_one_chunk_also_when_claude_is_fast(server: Server) -> None:
    text = " ".join(f"word{number}" for number in range(3_000))
    server.claude.script({"text": text})

    answer = server.ask(server.payment())

    assert text_of(oracle(answer)) == text


def test_heartbeats_are_comments_between_whole_events(server: Server) -> None:
    server.claude.script({"text": "Rain falls.", "afterDeltas": 1, "stallSeconds": 1.2})

    answer = server.ask(server.payment())

    oracle(answer)
    assert answer.chunks.count(PING) in (1, 2)
    assert answer.chunks.index(PING) == 1


def test_a_paid_stream_has_exactly_these_headers(server: Server) -> None:
    answer = server.ask(server.payment())

    (row,), (transfer,) = server.rows(), server.transfers()
    headers = answer.headers
    assert headers.keys() == STREAM_HEADERS | {"payment-response", "x-resume-token"}
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "private, no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["vary"] == "Accept, Authorization, PAYMENT-SIGNATURE, X-PAYMENT"
    assert headers["connection"] == "keep-alive"
    assert headers["transfer-encoding"] == "chunked"
    assert headers["access-control-allow-origin"] == "*"
    exposed = set(headers["access-control-expose-headers"].split(", "))
    assert {"PAYMENT-RESPONSE", "X-Execution-Id", "X-Resume-Token", "X-Request-Id"} <= exposed
    assert headers["x-execution-id"] == row["id"]
    assert re.fullmatch(r"req_[0-9a-f]{24}", headers["x-request-id"])
    assert len(headers["x-resume-token"]) >= 32
    assert decoded(headers["payment-response"]) == {
        "success": True,
        "transaction": transfer.transaction,
        "network": "eip155:31337",
        "payer": server.wallet.address,
        "amount": str(PRICE),
        "extra": {"development": True},
    }


def test_an_unpaid_stream_carries_nothing_about_money(server: Server) -> None:
    answer = server.ask({}, path=server.free)

    assert answer.headers.keys() == STREAM_HEADERS
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert "receipt" not in events(answer.body)[-1]


def test_status_and_headers_leave_before_the_second_word(server: Server) -> None:
    server.claude.script({"text": "Rain falls.", "afterDeltas": 1, "stallSeconds": 1})

    with server.dial().send("POST", server.path, server.payment(), BODY) as connection:
        status, headers = connection.head()

        assert (status, server.call()["finishedAt"]) == (200, None)
        assert decoded(headers["payment-response"])["success"] is True


def test_one_connection_serves_one_answer_after_another(server: Server) -> None:
    with server.dial() as connection:
        answers = [
            connection.send("POST", server.path, server.payment(), BODY).answer() for _ in range(3)
        ]

    assert [events(answer.body)[-1]["type"] for answer in answers] == ["done"] * 3
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert len(server.transfers()) == 3
