"""The order of money, when the store or the clock gets in between."""

import base64
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog

from tests.conftest import RAIN, Shop, events
from tests.waiting import eventually
from x402jobs.adapters.sqlite import SqliteLedger
from x402jobs.blueprints.line import SocketLine
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.execution import State
from x402jobs.services import caretaker, recovery
from x402jobs.settings import Settings
from x402jobs.wiring import build_services

Away = Callable[..., None]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, first_content_seconds=2.0, log_level="ERROR")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    """The store cannot write these states; none of them: it is back."""
    claim, swap = SqliteLedger.claim, SqliteLedger.swap

    def at(*states: State) -> None:
        def failing_claim(self: SqliteLedger, row: Any) -> Any:
            if State.CLAIMED in states:
                raise StoreUnavailable()
            return claim(self, row)

        def failing_swap(self: SqliteLedger, before: Any, after: Any, **kept: Any) -> None:
            if after.state in states:
                raise StoreUnavailable()
            swap(self, before, after, **kept)

        monkeypatch.setattr(SqliteLedger, "claim", failing_claim)
        monkeypatch.setattr(SqliteLedger, "swap", failing_swap)

    return at


def present(shop: Shop, payment: dict[str, str]) -> tuple[int, str]:
    reply = shop.client.post(shop.url, json=RAIN, headers=payment, buffered=True)
    if reply.status_code == 200:
        return 200, str(events(reply)[-1]["type"])
    assert reply.json is not None
    return reply.status_code, str(reply.json["code"])


def states(shop: Shop) -> list[tuple[str, int]]:
    return [(row["state"], row["attempt"]) for row in shop.rows()]


def test_without_a_store_nothing_is_claimed_and_nobody_is_asked(shop: Shop, away: Away) -> None:
    payment = shop.payment()
    away(State.CLAIMED)

    assert present(shop, payment) == (503, "STORE_UNAVAILABLE")

    assert (states(shop), shop.claude.calls, shop.ledger.transfers()) == ([], [], [])
    away()
    assert present(shop, payment) == (200, "done")


@pytest.mark.parametrize("presented_before", [False, True])
def test_a_claim_whose_answer_was_lost_is_given_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, presented_before: bool
) -> None:
    payment, claim = shop.payment(), SqliteLedger.claim
    if presented_before:
        shop.claude.script(*[{"status": 529}] * 3)
        assert present(shop, payment) == (503, "OVERLOADED")

    def claiming_in_vain(self: SqliteLedger, row: Any) -> Any:
        claim(self, row)
        raise StoreUnavailable()

    monkeypatch.setattr(caretaker, "BEAT_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "claim", claiming_in_vain)
        assert present(shop, payment) == (503, "STORE_UNAVAILABLE")

    assert [state for state, _ in states(shop)] == ["claimed"]
    shop.services.caretaker.start(lambda: True, grace_seconds=60)
    assert eventually(lambda: [state for state, _ in states(shop)] == ["released"])
    assert present(shop, payment) == (200, "done")


def test_no_money_moves_before_the_ledger_says_that_it_may(shop: Shop, away: Away) -> None:
    payment = shop.payment()
    away(State.SETTLING)

    assert present(shop, payment) == (503, "STORE_UNAVAILABLE")

    assert (states(shop), shop.ledger.transfers()) == ([("released", 1)], [])
    away()
    assert present(shop, payment) == (200, "done")


def test_money_that_moved_and_was_not_written_down_is_never_asked_for_again(
    shop: Shop, away: Away
) -> None:
    payment = shop.payment()
    away(State.SETTLED)

    assert present(shop, payment) == (503, "SETTLEMENT_UNKNOWN")
    away()
    assert present(shop, payment) == (503, "SETTLEMENT_UNKNOWN")

    assert (states(shop), len(shop.ledger.transfers())) == ([("settling", 1)], 1)


def test_a_row_that_cannot_be_released_stays_claimed(shop: Shop, away: Away) -> None:
    """The caller hears what went wrong; recovery will release the row."""
    payment = shop.payment()
    shop.claude.script({"status": 401})
    away(State.RELEASED)

    assert present(shop, payment) == (502, "INVALID_API_KEY")
    away()
    assert present(shop, payment) == (409, "IN_PROGRESS")

    assert (states(shop), shop.ledger.transfers()) == ([("claimed", 1)], [])


def test_nothing_is_settled_after_the_deadline(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stood still between Claude's first words and the money."""
    payment = shop.payment()
    look = SocketLine.still_there
    monkeypatch.setattr(SocketLine, "still_there", lambda self: time.sleep(2.1))

    assert present(shop, payment) == (504, "TIMEOUT")

    assert (states(shop), shop.ledger.transfers()) == ([("released", 1)], [])
    monkeypatch.setattr(SocketLine, "still_there", look)
    assert present(shop, payment) == (200, "done")


@pytest.mark.parametrize("price", [10_000, 0])
def test_an_ending_whose_answer_was_lost_is_told_as_it_was_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, price: int
) -> None:
    shop.publish(price=price)
    swap, record, lost = SqliteLedger.swap, SqliteLedger.record, [StoreUnavailable()]

    def swapping_in_vain(self: SqliteLedger, before: Any, after: Any, **kept: Any) -> None:
        swap(self, before, after, **kept)
        if after.state is State.COMPLETED and lost:
            raise lost.pop()

    def recording_in_vain(self: SqliteLedger, execution: Any) -> None:
        record(self, execution)
        if lost:
            raise lost.pop()

    payment = shop.payment() if price else {}
    monkeypatch.setattr(SqliteLedger, "swap", swapping_in_vain)
    monkeypatch.setattr(SqliteLedger, "record", recording_in_vain)

    assert present(shop, payment) == (200, "done")
    assert (lost, states(shop)) == ([], [("completed", 1)])


@pytest.mark.parametrize("answers_lost", [1, 2, 3])
def test_who_was_told_to_come_again_before_anybody_was_asked_to_settle_is_not_charged(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, answers_lost: int
) -> None:
    """The step to `settling` is written, and neither its answer nor what follows it is heard."""
    swap, left = SqliteLedger.swap, [StoreUnavailable()] * answers_lost

    def swapping_in_vain(self: SqliteLedger, before: Any, after: Any, **kept: Any) -> None:
        if after.state is State.SETTLING or len(left) < answers_lost:
            swap(self, before, after, **kept) if after.state is State.SETTLING else None
            if left:
                raise left.pop()
        if after.state is not State.SETTLING:
            swap(self, before, after, **kept)

    payment = shop.payment()
    monkeypatch.setattr(caretaker, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(recovery, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(SqliteLedger, "swap", swapping_in_vain)

    assert present(shop, payment) == (503, "STORE_UNAVAILABLE")

    shop.services.caretaker.start(lambda: True, grace_seconds=60)
    assert eventually(lambda: [state for state, _ in states(shop)] == ["released"], 10)
    assert shop.ledger.transfers() == []
    assert present(shop, payment) == (200, "done")
    assert len(shop.ledger.transfers()) == 1


def test_a_worker_with_another_key_ring_takes_nothing_from_those_who_can_read_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caretaker, "BEAT_SECONDS", 0.02)
    shop.services.caretaker.start(lambda: True, grace_seconds=60)
    assert eventually(lambda: shop.query("SELECT * FROM x402_peppers"))
    shop.services.caretaker.stop()
    other = replace(shop.settings, keys=f"k1:{base64.b64encode(os.urandom(32)).decode()}")
    elsewhere = build_services(other)
    elsewhere.caretaker.start(lambda: True, grace_seconds=60)
    assert shop.buy().status_code == 200
    shop.query("UPDATE x402_executions SET state = 'claimed', worker = 'gone', ended_at = NULL")
    shop.query("UPDATE x402_executions SET created_at = created_at - 60")

    with structlog.testing.capture_logs() as said:
        assert eventually(lambda: [line["event"] for line in said].count("pepper_not_read") > 2)
    elsewhere.close()

    assert [(row["state"], row["worker"]) for row in shop.rows()] == [("claimed", "gone")]
