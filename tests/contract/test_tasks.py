"""A task's row is its single flight, whatever store is behind it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from x402jobs.domain.errors import Superseded
from x402jobs.domain.execution import State

from .conftest import PATIENT, bought, ran

WHOLE = {"model": "claude", "usage": {"output_tokens": 3}, "stop_reason": "end_turn"}


def test_a_tile_that_is_running_is_not_begun_again(store):
    assert store.ledger.begin(ran())

    assert not store.ledger.begin(ran(id="r2", worker="w2"))

    assert store.ledger.execution("r1") == (ran(), None)
    assert store.ledger.execution("r2") is None


@pytest.mark.parametrize("other", [{"tile": "u,0:1,1"}, {"tile": "u,0"}, {"caller_id": "v"}])
def test_another_tile_and_another_caller_have_flights_of_their_own(store, other):
    store.ledger.begin(ran())

    assert store.ledger.begin(ran(id="r2", **other))


@pytest.mark.parametrize("ending", [State.COMPLETED, State.RELEASED])
def test_a_tile_whose_run_has_ended_is_begun_as_often_as_is_asked(store, ending):
    for number in range(3):
        row = ran(id=f"r{number}")
        assert store.ledger.begin(row)
        store.ledger.swap(row, row.become(ending, ended_at=1001.0, **WHOLE))


def test_of_a_hundred_who_begin_at_once_one_does(store):
    together, workers = Barrier(100), [store.worker() for _ in range(4)]

    def begin(number):
        together.wait()
        return workers[number % 4].ledger.begin(ran(id=f"r{number}"))

    with ThreadPoolExecutor(100) as crowd:
        begun = list(crowd.map(begin, range(100)))

    assert begun.count(True) == 1


def test_a_task_whose_worker_is_gone_is_taken_over_and_its_late_ending_lost(store):
    row = ran()
    store.ledger.begin(row)
    store.unseen("w1", 16)

    ((taken, sealed_payment),) = store.ledger.take_over("w2", {}, 10, **PATIENT)

    assert (taken.id, taken.attempt, taken.worker, sealed_payment) == ("r1", 2, "w2", None)
    with pytest.raises(Superseded):
        store.ledger.swap(row, row.become(State.COMPLETED, ended_at=1001.0, **WHOLE))


def test_a_finished_tasks_answer_is_kept_for_its_day(store):
    row, now = ran(), store.now()
    store.ledger.begin(row)
    done = row.become(State.COMPLETED, ended_at=now, **WHOLE)
    store.ledger.swap(row, done, sealed_answer="sealed")

    assert store.ledger.sealed_answer(done) == "sealed"
    assert store.ledger.purge(now + 86_399) == 0
    assert store.ledger.purge(now + 86_401) == 1
    assert store.ledger.sealed_answer(done) is None


def test_an_accounts_tasks_are_among_what_it_has_asked_for(store):
    store.ledger.begin(ran())
    store.ledger.claim(bought(caller_id="u", created_at=2000.0))

    page = store.ledger.executions_of(10, 0, caller_id="u")

    assert [each.id for each in page.items] == ["e1", "r1"]
    assert page.items[1] == replace(ran())
