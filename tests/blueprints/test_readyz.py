"""What an operator's monitor is told about a worker, and how soon."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.conftest import Shop
from tests.waiting import eventually
from x402jobs.adapters.sqlite import database
from x402jobs.services import readiness
from x402jobs.settings import Settings

CHECKS = ("database", "key_ring", "facilitator", "draining", "open_requests")
Ask = Callable[[], TestResponse]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, max_open_requests=3)


@pytest.fixture
def ask(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Asks whether the shop is ready, which it is."""
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(readiness, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(database, "WATCH_SECONDS", 0)
    shop.services.readiness.start()
    assert eventually(lambda: shop.client.get("/readyz").status_code == 200, 10)
    yield lambda: shop.client.get("/readyz")
    shop.services.readiness.stop()


def comes_to_say(ask: Ask, check: str, reason: str) -> Any:
    """What is said of a check, once it has this reason."""
    assert eventually(lambda: ask().json["checks"][check].get("reason") == reason, 10), ask().json
    return ask().json["checks"][check]


def test_a_worker_that_nobody_has_looked_at_is_not_ready(shop: Shop) -> None:
    reply = shop.client.get("/readyz")

    assert reply.status_code == 503
    assert reply.json["checks"]["database"]["reason"] == "not_looked_at"


def test_a_worker_that_has_all_it_needs_is_ready(ask: Ask) -> None:
    reply = ask()

    assert reply.json == {"status": "ready", "checks": dict.fromkeys(CHECKS, {"ok": True})}
    assert reply.headers["Cache-Control"] == "no-store"
    assert "Retry-After" not in reply.headers


def test_what_is_in_the_way_is_named_with_a_sentence_and_a_time(shop: Shop, ask: Ask) -> None:
    file = shop.settings.data / "x402jobs.sqlite3"
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        told = comes_to_say(ask, "database", "locked")
        reply = ask()

    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "1"  # hurried: it is 2
    assert reply.json["status"] == "not_ready"
    assert {name: each["ok"] for name, each in reply.json["checks"].items()} == (
        dict.fromkeys(CHECKS, True) | {"database": False}
    )
    assert told["message"].startswith("Another process holds the file locked")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["since"])
    assert eventually(lambda: ask().status_code == 200, 10)


def test_a_head_says_it_in_the_status_alone(shop: Shop, ask: Ask) -> None:
    shop.services.runs.refuse_new()

    reply = shop.client.head("/readyz")

    assert (reply.status_code, reply.get_data()) == (503, b"")
    assert reply.headers["Retry-After"]


def test_a_worker_that_is_about_to_end_says_so_at_once(shop: Shop) -> None:
    shop.services.runs.refuse_new()

    assert shop.client.get("/readyz").json["checks"]["draining"]["reason"] == "draining"


def test_a_worker_that_is_full_says_so_and_answers_all_the_same(shop: Shop, ask: Ask) -> None:
    with ExitStack() as open_ones:
        for _ in range(shop.settings.max_open_requests):
            reply = shop.client.open("/nowhere", buffered=False)
            open_ones.callback(reply.close)
        full = ask()
        health = shop.client.get("/healthz").status_code

    assert (full.status_code, full.json["checks"]["open_requests"]["reason"]) == (503, "full")
    assert health == 200
    assert ask().status_code == 200


def test_whatever_hangs_nobody_who_asks_waits_for_it(shop: Shop, monkeypatch: Any) -> None:
    """Every look hangs: an answer that waited for one would never come."""
    free = Event()
    for name in ("database", "key_ring", "facilitator"):
        monkeypatch.setitem(shop.services.readiness._checks, name, lambda: free.wait() and None)
    monkeypatch.setattr(readiness, "LOST_SECONDS", 0.02)
    shop.services.readiness.start()

    try:
        told = comes_to_say(lambda: shop.client.get("/readyz"), "facilitator", "lost")
        health = shop.client.get("/healthz")
    finally:
        free.set()
        shop.services.readiness.stop()

    assert told["message"] == "There was no answer for 3 seconds."
    assert (health.status_code, health.json) == (200, {"status": "ok"})
