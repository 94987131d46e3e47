"""Reading server-sent events, wherever the network divides them."""

import base64
import json
from typing import Any

import pytest

from x402jobs.cli.answer import events, receipt_of

STREAM = '﻿: ping\n\ndata: {"a":"ü – 🌧"}\r\n\r\nevent: x\ndata:two\ndata: lines\n\ndata: cut'


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_events_survive_any_division(size: int) -> None:
    raw = STREAM.encode()

    read = list(events(raw[i : i + size] for i in range(0, len(raw), size)))

    assert read == ['{"a":"ü – 🌧"}', "two\nlines"]


def test_an_event_is_there_as_soon_as_its_blank_line_is() -> None:
    def chunks() -> Any:
        yield b"data: one\n\n"
        raise AssertionError("asked for more before the event was given")

    assert next(events(chunks())) == "one"


def header(said: object) -> dict[str, str]:
    return {"PAYMENT-RESPONSE": base64.b64encode(json.dumps(said).encode()).decode()}


def test_the_header_of_a_paid_answer_is_a_receipt() -> None:
    said = {"success": True, "transaction": "0x1", "network": "n", "payer": "p", "amount": "10000"}

    receipt = receipt_of(header(said | {"extra": {"development": True}}))

    assert receipt == {
        "transaction": "0x1",
        "network": "n",
        "payer": "p",
        "paidUsdc": "0.01",
        "development": True,
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"PAYMENT-RESPONSE": "???"},
        {"PAYMENT-RESPONSE": "AAAA"},
        header([]),
        header({"success": False, "amount": "1"}),
        header({"success": True}),
        header({"success": True, "amount": "a lot"}),
    ],
)
def test_anything_else_is_none(headers: dict[str, str]) -> None:
    assert receipt_of(headers) is None
