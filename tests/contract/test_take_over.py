"""Workers that are gone, and the rows they leave behind, whatever store is behind them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from x402jobs.domain.errors import Superseded, TransferUsed
from x402jobs.domain.execution import State

from .conftest import PATIENT, bought, earlier, ran, walked

UNFINISHED = {
    State.CLAIMED: (),
    State.SETTLING: ("settling",),
    State.SETTLED: ("settling", "settled"),
}
FINISHED = {
    State.RELEASED: (State.RELEASED,),
    State.COMPLETED: (State.SETTLING, State.SETTLED, State.COMPLETED),
    State.REFUND_DUE: (State.SETTLING, State.SETTLED, State.REFUND_DUE),
    State.REFUNDED: (State.SETTLING, State.SETTLED, State.REFUND_DUE, State.REFUNDED),
}
DAY = 86400
OPENING, RUN = 90.0, 660.0
LIMITS = {"opening_seconds": OPENING, "run_seconds": RUN}


def states(names):
    return [State(name) for name in names]


@pytest.mark.parametrize("state", UNFINISHED)
def test_the_rows_of_a_worker_that_is_gone_are_taken_with_one_attempt_more(store, state):
    row = walked(store, *states(UNFINISHED[state]))
    store.unseen("w1", 16)

    taken = store.ledger.take_over("w2", {}, 10, **PATIENT)

    assert taken == [(replace(row, worker="w2", attempt=row.attempt + 1), None)]
    assert earlier(store) == taken[0][0]
    with pytest.raises(Superseded):
        store.ledger.swap(row, replace(row, code="the old one's"))


@pytest.mark.parametrize("state", FINISHED)
def test_what_has_ended_is_nobodys_to_take(store, state):
    row = walked(store, *FINISHED[state])
    store.unseen("w1", 1000)

    assert store.ledger.take_over("w2", {row.id: row.attempt}, 10, **PATIENT) == []
    assert earlier(store) == row


@pytest.mark.parametrize("seconds", [0, 14])
def test_the_rows_of_a_worker_that_beats_are_its_own(store, seconds):
    row = walked(store, State.SETTLING)
    store.unseen("w1", 1000)
    store.ledger.beat("w1")
    if seconds:
        store.unseen("w1", seconds)

    assert store.ledger.take_over("w2", {}, 10, **PATIENT) == []
    assert earlier(store) == row


def test_a_worker_that_has_never_beaten_is_gone_once_its_row_is_old_enough(store):
    now = store.now()
    store.ledger.claim(bought(created_at=now - 13))
    assert store.ledger.take_over("w2", {}, 10, **PATIENT) == []

    store.ledger.claim(bought(id="e2", claim_key="other", created_at=now - 17))

    assert [row.id for row, _ in store.ledger.take_over("w2", {}, 10, **PATIENT)] == ["e2"]


def test_a_row_its_worker_has_given_up_is_taken_at_once_at_that_attempt_alone(store):
    row = walked(store, State.SETTLING)
    store.ledger.beat("w1")

    assert store.ledger.take_over("w1", {row.id: row.attempt + 1, "e9": 1}, 10, **PATIENT) == []
    ((taken, _),) = store.ledger.take_over("w1", {row.id: row.attempt}, 10, **PATIENT)

    assert (taken.id, taken.attempt, taken.worker) == (row.id, row.attempt + 1, "w1")


def held(store, what, seconds, **facts):
    """A row of w1's, which beats, as if it had been created so many seconds ago."""
    if what == "task":
        row = ran()
        assert store.ledger.begin(row)
    else:
        row = walked(store, *states(UNFINISHED[State(what)]))
    aged = replace(row, created_at=store.now() - seconds, **facts)
    store.ledger.swap(row, aged)
    store.ledger.beat("w1")
    return aged


@pytest.mark.parametrize(("what", "limit"), [("claimed", OPENING), ("task", RUN), ("settled", RUN)])
def test_what_is_held_longer_than_it_can_last_is_taken_from_a_worker_that_beats(store, what, limit):
    row = held(store, what, limit - 30)
    assert store.ledger.take_over("w2", {}, 10, **LIMITS) == []

    old = replace(row, created_at=store.now() - limit - 1)
    store.ledger.swap(row, old)

    assert store.ledger.take_over("w2", {}, 10, **LIMITS) == [
        (replace(old, worker="w2", attempt=2), None)
    ]
    with pytest.raises(Superseded):
        store.ledger.swap(old, replace(old, code="its worker's"))


def test_ones_own_row_is_no_exception(store):
    held(store, "claimed", OPENING + 1)

    ((taken, _),) = store.ledger.take_over("w1", {}, 10, **LIMITS)

    assert (taken.worker, taken.attempt) == ("w1", 2)


def test_a_settlement_waits_for_as_long_as_it_takes(store):
    row = held(store, "settling", 10 * DAY)

    assert store.ledger.take_over("w2", {}, 10, **LIMITS) == []
    assert earlier(store) == row


def test_a_run_has_its_time_from_its_settlement_on(store):
    row = held(store, "settled", RUN + 1, settled_at=store.now() - RUN + 30)

    assert store.ledger.take_over("w2", {}, 10, **LIMITS) == []
    assert earlier(store) == row


def test_the_sealed_payment_comes_with_the_row(store):
    row = store.ledger.claim(bought())
    store.ledger.swap(row, row.become(State.SETTLING), sealed_payment="sealed")
    store.unseen("w1", 16)

    assert [sealed for _, sealed in store.ledger.take_over("w2", {}, 10, **PATIENT)] == ["sealed"]


def test_no_more_are_taken_than_asked_for_the_oldest_first(store):
    for number in range(5):
        claim = bought(id=f"e{number}", claim_key=f"c{number}", created_at=1000.0 - number)
        store.ledger.claim(claim)

    taken = [row.id for row, _ in store.ledger.take_over("w2", {}, 2, **PATIENT)]
    store.ledger.beat("w2")
    rest = [row.id for row, _ in store.ledger.take_over("w3", {}, 9, **PATIENT)]

    assert (sorted(taken), sorted(rest)) == (["e3", "e4"], ["e0", "e1", "e2"])


def test_of_those_who_come_at_once_one_takes_each_row(store):
    rows = [bought(id=f"e{number}", claim_key=f"c{number}") for number in range(20)]
    for row in rows:
        store.ledger.claim(row)
    gate = Barrier(8)
    workers = [store.worker() for _ in range(8)]
    # So much to read lies between looking at the rows and taking them.
    slowly = {f"nobody's {number}": 1 for number in range(30_000)}

    def take(number, name):
        gate.wait()
        taken = workers[number].ledger.take_over(name, slowly, 20, **PATIENT)
        return [(row.id, row.attempt) for row, _ in taken]

    with ThreadPoolExecutor(8) as pool:
        for attempt in range(2, 8):
            names = [f"{attempt}.{number}" for number in range(8)]
            for name in names:
                store.ledger.beat(name)

            taken = [each for some in pool.map(take, range(8), names) for each in some]

            assert sorted(taken) == sorted((row.id, attempt) for row in rows)
            for name in names:
                store.unseen(name, 16)


def test_one_transfer_pays_for_one_row(store):
    transfer = {"transaction": "0x1", "log_index": 7}
    walked(store, State.SETTLING, State.SETTLED, **transfer)
    other = store.ledger.claim(bought(id="e2", claim_key="other"))
    settling = other.become(State.SETTLING)
    store.ledger.swap(other, settling)

    with pytest.raises(TransferUsed):
        store.ledger.swap(settling, settling.become(State.SETTLED, **transfer))
    store.ledger.swap(settling, settling.become(State.SETTLED, transaction="0x1", log_index=8))

    assert earlier(store, "other").log_index == 8


def test_an_answer_is_forgotten_after_its_day_and_the_sale_is_not(store):
    row = walked(store, State.SETTLING, State.SETTLED)
    done = row.become(State.COMPLETED, ended_at=5000.0)
    store.ledger.swap(row, done, sealed_answer="sealed")

    store.ledger.purge(5000.0 + DAY - 1)
    kept = store.ledger.sealed_answer(done)
    store.ledger.purge(5000.0 + DAY + 1)

    assert (kept, store.ledger.sealed_answer(done)) == ("sealed", None)
    assert earlier(store) == done


def test_an_answer_from_when_the_clock_was_ahead_keeps_no_other(store):
    early = walked(store, State.SETTLING, State.SETTLED)
    ahead = early.become(State.COMPLETED, ended_at=5000.0 + 365 * DAY)
    store.ledger.swap(early, ahead, sealed_answer="sealed")
    row = store.ledger.claim(bought(id="e2", claim_key="other"))
    for state, facts in (
        (State.SETTLING, {}),
        (State.SETTLED, {"transaction": "0x2"}),
        (State.COMPLETED, {"ended_at": 5000.0}),
    ):
        before, row = row, row.become(state, **facts)
        answer = "sealed" if state is State.COMPLETED else None
        store.ledger.swap(before, row, sealed_answer=answer)

    store.ledger.purge(5000.0 + DAY + 1)

    assert (store.ledger.sealed_answer(ahead), store.ledger.sealed_answer(row)) == ("sealed", None)


@pytest.mark.parametrize(
    ("facts", "is_kept"),
    [({}, False), ({"ended_at": 1200.0}, True), ({"opened_at": 5.0}, True)],
)
@pytest.mark.parametrize("valid_before", [1120, 2**63 - 1])
def test_a_released_claim_is_forgotten_a_day_later_unless_it_got_far(
    store, valid_before, facts, is_kept
):
    row = store.ledger.claim(bought(valid_before=valid_before))
    store.ledger.swap(row, row.become(State.RELEASED, **{"ended_at": 1100.0} | facts))

    store.ledger.purge(1150.0 + DAY)

    assert (earlier(store) is not None) is is_kept


@pytest.mark.parametrize("state", [state for state in State if state is not State.RELEASED])
def test_nothing_else_is_ever_forgotten(store, state):
    steps = FINISHED.get(state) or states(UNFINISHED[state])
    row = walked(store, *steps)

    store.ledger.purge(1e12)

    assert earlier(store) == row


def test_a_worker_long_gone_is_forgotten_and_one_at_work_is_not(store):
    store.ledger.beat("w1")
    store.ledger.beat("w2")
    store.unseen("w1", DAY + 1)

    assert store.ledger.purge(0.0) == 1
    assert store.ledger.purge(0.0) == 0
