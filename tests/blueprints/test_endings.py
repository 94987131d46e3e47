"""A run ends once, whatever happens around it: the ledger first, the callers after."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import RAIN, Shop, events, text_of
from x402jobs.adapters.claude import ClaudeSpeech
from x402jobs.adapters.sqlite import SqliteLedger
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.transcript import Transcript
from x402jobs.services import runs

WORDS = {"text": "Rain taps the window."}
BROKEN = WORDS | {"errorEvent": "overloaded_error", "afterDeltas": 1}
Stumble = Callable[[dict[State, int]], None]


@pytest.fixture
def stumble(monkeypatch: pytest.MonkeyPatch) -> Stumble:
    """Make the store fail so many times to write these states."""
    swap = SqliteLedger.swap

    def of(failures: dict[State, int]) -> None:
        def failing(self: SqliteLedger, before: Execution, after: Execution, **kept: Any) -> None:
            if failures.get(after.state, 0) > 0:
                failures[after.state] -= 1
                raise StoreUnavailable()
            swap(self, before, after, **kept)

        monkeypatch.setattr(SqliteLedger, "swap", failing)

    return of


def the_row(shop: Shop) -> dict[str, Any]:
    (row,) = shop.rows()
    return row


def test_an_ending_waits_for_a_store_that_is_away(shop: Shop, stumble: Stumble) -> None:
    shop.claude.script(WORDS)
    stumble({State.COMPLETED: 1})

    said = events(shop.buy())

    assert (text_of(said), said[-1]["type"]) == (WORDS["text"], "done")
    assert the_row(shop)["state"] == "completed"


def test_an_answer_that_could_not_be_kept_is_owed(
    shop: Shop, stumble: Stumble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "STORE_PATIENCE_SECONDS", 0)
    shop.claude.script(WORDS)
    stumble({State.COMPLETED: 1})

    said = events(shop.buy())

    assert (said[-1]["type"], said[-1]["code"]) == ("error", "STORE_UNAVAILABLE")
    assert said[-1]["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    assert the_row(shop)["state"] == "refund_due"


def test_an_ending_that_could_not_be_written_at_all_is_an_error_with_the_receipt(
    shop: Shop, stumble: Stumble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No credit is promised that the ledger does not know; whoever takes over will write it."""
    monkeypatch.setattr(runs, "STORE_PATIENCE_SECONDS", 0)
    shop.claude.script(WORDS)
    stumble({State.COMPLETED: 9, State.REFUND_DUE: 9})

    said = events(shop.buy())

    assert [event["type"] for event in said[:-1]] == ["text"] * (len(said) - 1)
    assert (said[-1]["type"], said[-1]["code"]) == ("error", "STORE_UNAVAILABLE")
    assert "credit" not in said[-1]
    assert said[-1]["receipt"]["transaction"] == the_row(shop)["transaction"]
    assert the_row(shop)["state"] == "settled"


def test_a_bug_of_ours_is_a_debt_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.claude.script(WORDS)

    def broken(self: Transcript, text: str) -> None:
        raise LookupError(text)

    monkeypatch.setattr(Transcript, "write", broken)
    said = events(shop.buy())

    (error,) = said
    assert (error["type"], error["code"], error["recoverable"]) == ("error", "UNKNOWN", False)
    assert error["message"] == "Execution failed. Please try again."
    assert error["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    assert the_row(shop)["state"] == "refund_due"


def test_an_ending_that_breaks_in_our_hands_still_ends_the_stream(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.claude.script(WORDS)
    swap = SqliteLedger.swap

    def broken(self: SqliteLedger, before: Execution, after: Execution, **kept: Any) -> None:
        if after.state in (State.COMPLETED, State.REFUND_DUE):
            raise UnicodeEncodeError("utf-8", "", 0, 1, "nobody expected this")
        swap(self, before, after, **kept)

    monkeypatch.setattr(SqliteLedger, "swap", broken)
    said = events(shop.buy())

    assert (said[-1]["type"], said[-1]["code"]) == ("error", "UNKNOWN")
    assert said[-1]["receipt"]["transaction"] == the_row(shop)["transaction"]
    assert "credit" not in said[-1] and the_row(shop)["state"] == "settled"


def test_a_run_that_ends_does_not_hide_the_one_that_took_over_its_debt(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The debt is open as soon as it is written down, while the old run is still tidying up."""
    tidy, hang_up = threading.Event(), ClaudeSpeech.close

    def slow(self: ClaudeSpeech) -> None:
        if threading.current_thread().name.startswith("run-"):
            tidy.wait(5)
        hang_up(self)

    monkeypatch.setattr(ClaudeSpeech, "close", slow)
    shop.claude.script(BROKEN, WORDS | {"deltaMs": 150})
    payment, answers = shop.payment(), []

    def present() -> None:
        client = shop.client.application.test_client()
        reply = client.post(shop.url, json=RAIN, headers=payment, buffered=True)
        answers.append((reply.status_code, reply.get_data()))

    def wait_until(fact: Callable[[], bool]) -> None:
        until = time.monotonic() + 3
        while not fact():
            assert time.monotonic() < until, shop.rows()
            time.sleep(0.005)

    def running() -> int:
        return sum(thread.name.startswith("run-") for thread in threading.enumerate())

    callers = [threading.Thread(target=present) for _ in range(3)]
    callers[0].start()
    wait_until(lambda: [row["state"] for row in shop.rows()] == ["refund_due"])
    callers[1].start()
    wait_until(lambda: running() == 2)
    tidy.set()
    callers[0].join()
    callers[2].start()
    for caller in callers[1:]:
        caller.join()

    first, *others = answers
    assert events(first[1])[-1]["type"] == "error"
    for status, body in others:
        assert (status, text_of(events(body))) == (200, WORDS["text"])
    assert len(shop.claude.calls) == 2
