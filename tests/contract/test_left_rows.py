"""A row that one worker gives up, and another one has at that attempt, whatever the store."""

from x402jobs.domain.execution import State

from .conftest import PATIENT, bought, earlier


def test_a_row_that_another_worker_has_is_not_taken_for_one_that_was_left(store):
    released = store.ledger.claim(bought())
    store.ledger.swap(released, released.become(State.RELEASED))
    theirs = store.ledger.claim(bought(id="e2", worker="w2"))
    store.ledger.beat("w2")

    assert store.ledger.take_over("w1", {theirs.id: theirs.attempt}, 10, **PATIENT) == []

    assert earlier(store) == theirs
    assert store.ledger.take_over("w2", {theirs.id: theirs.attempt}, 10, **PATIENT) != []
