"""Waiting for Claude's first words, with one eye on the caller."""

import time

import pytest

from tests.conftest import RAIN, Shop, events
from x402jobs.blueprints.line import SocketLine
from x402jobs.services import agentic


def leave(monkeypatch: pytest.MonkeyPatch, after: float = 0.0) -> None:
    """The caller hangs up, so many seconds from now."""
    at = time.monotonic() + after
    monkeypatch.setattr(SocketLine, "gone", lambda self: time.monotonic() >= at)


def is_free_of_charge(shop: Shop, payment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Released, no transfer, Claude let go; the payment may be presented again."""
    (row,) = shop.rows()
    assert (row["state"], row["code"], row["transaction"]) == ("released", "CALLER_LEFT", None)
    assert shop.ledger.transfers() == []
    monkeypatch.setattr(SocketLine, "gone", lambda self: False)
    shop.claude.script()
    reply = shop.client.post(shop.url, json=RAIN, headers=payment)
    assert events(reply)[-1]["type"] == "done"


def test_a_caller_who_leaves_while_claude_is_silent_pays_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agentic, "LOOK_SECONDS", 0.05)
    shop.claude.script({"stallSeconds": 30})
    payment, began = shop.payment(), time.monotonic()
    leave(monkeypatch, after=0.3)

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    assert reply.status_code == 499
    assert 0.3 < time.monotonic() - began < 2
    until = time.monotonic() + 2
    while not shop.claude.calls[0]["hungUp"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    is_free_of_charge(shop, payment, monkeypatch)


def test_a_caller_who_leaves_between_two_tries_pays_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agentic, "LOOK_SECONDS", 0.05)
    shop.claude.script({"status": 529, "headers": {"retry-after": "1"}})
    payment, began = shop.payment(), time.monotonic()
    leave(monkeypatch, after=0.3)

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    assert (reply.status_code, len(shop.claude.calls)) == (499, 1)
    assert time.monotonic() - began < 2
    is_free_of_charge(shop, payment, monkeypatch)


def test_a_caller_who_has_left_by_the_first_words_pays_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = shop.payment()
    leave(monkeypatch)

    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    assert (reply.status_code, len(shop.claude.calls)) == (499, 1)
    is_free_of_charge(shop, payment, monkeypatch)
