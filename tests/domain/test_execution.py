"""Which state may follow which, and what each says about the money."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.execution import MAX_RERUNS, Execution, Kind, State
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.payment import Credit, Receipt

LAWFUL_WHEN_PAID = {
    ("claimed", "settling"),
    ("claimed", "released"),
    ("settling", "settled"),
    ("settling", "released"),
    ("settled", "completed"),
    ("settled", "refund_due"),
    ("refund_due", "settled"),
    ("refund_due", "refunded"),
    ("released", "claimed"),
}
"""The diagram of spec/money.md, The ledger row."""
LAWFUL_WHEN_UNPAID = {("claimed", "completed"), ("claimed", "released")}

STEPS = [(before, after) for before in State for after in State]


def paid(state=State.SETTLED, **facts):
    return Execution(
        id="e1",
        kind=Kind.PAID,
        state=state,
        template_id="t",
        template_version=1,
        digest="d",
        worker="w1",
        created_at=1000.0,
        **{"payer": "0xada", "network": DEVELOPMENT.id, "amount": 10_000, "transaction": "0x1"}
        | facts,
    )


def unpaid(kind, state=State.CLAIMED):
    return replace(paid(state), kind=kind, payer=None, network=None, amount=0, transaction=None)


@pytest.mark.parametrize(("before", "after"), STEPS)
def test_a_paid_row_takes_the_steps_of_the_diagram_and_no_other(before, after):
    row = paid(before)

    if (before, after) in LAWFUL_WHEN_PAID:
        assert row.become(after, code="why") == replace(row, state=after, code="why")
    else:
        with pytest.raises(ValueError, match=f"^{after} may not follow {before}$"):
            row.become(after)


@pytest.mark.parametrize("kind", [Kind.FREE, Kind.OWNER_TEST])
@pytest.mark.parametrize(("before", "after"), STEPS)
def test_an_unpaid_run_only_begins_and_ends(kind, before, after):
    row = unpaid(kind, before)

    if (before, after) in LAWFUL_WHEN_UNPAID:
        assert row.become(after).state is after
    else:
        with pytest.raises(ValueError):
            row.become(after)


@given(st.lists(st.sampled_from(State), max_size=12))
def test_no_walk_ends_twice_or_leaves_an_ending_but_for_a_debt_or_a_fresh_try(walk):
    row = paid(State.CLAIMED)
    for state in walk:
        try:
            row = row.become(state)
        except ValueError:
            assert (row.state, state) not in LAWFUL_WHEN_PAID
        else:
            assert row.state is state


def test_a_step_changes_nothing_but_the_state_and_the_facts_given():
    row = paid()

    after = row.become(State.COMPLETED, ended_at=1002.0)

    assert after == replace(row, state=State.COMPLETED, ended_at=1002.0)
    assert row.state is State.SETTLED


@pytest.mark.parametrize(
    ("row", "ending"),
    [
        (paid(), State.REFUND_DUE),
        (unpaid(Kind.FREE), State.RELEASED),
        (unpaid(Kind.OWNER_TEST), State.RELEASED),
    ],
)
def test_a_failed_run_is_owed_when_it_was_paid_and_nothing_when_it_was_not(row, ending):
    after = row.fail("TIMEOUT", 1003.0, model="claude")

    assert (after.state, after.code, after.ended_at) == (ending, "TIMEOUT", 1003.0)
    assert after.model == "claude"


@pytest.mark.parametrize("state", sorted(set(State) - {State.SETTLED}))
def test_only_a_settled_payment_becomes_a_debt(state):
    with pytest.raises(ValueError):
        paid(state).fail("TIMEOUT", 1003.0)


def test_a_debt_runs_again_under_a_new_attempt_with_the_same_receipt():
    debt = paid().fail("TIMEOUT", 1003.0)

    again = debt.rerun("w2", 2000.0)

    assert again.state is State.SETTLED
    assert (again.attempt, again.reruns, again.worker) == (2, 1, "w2")
    assert (again.code, again.ended_at, again.created_at) == (None, None, 2000.0)
    assert again.receipt == debt.receipt
    assert (again.id, again.digest) == (debt.id, debt.digest)


@pytest.mark.parametrize("state", sorted(set(State) - {State.REFUND_DUE}))
def test_nothing_but_a_debt_runs_again(state):
    with pytest.raises(ValueError):
        paid(state).rerun("w2", 2000.0)


@pytest.mark.parametrize("missing", [{"transaction": None}, {"payer": None}, {"network": None}])
def test_without_a_transfer_there_is_no_receipt(missing):
    assert paid(State.CLAIMED, **missing).receipt is None


def test_a_receipt_says_who_paid_what_and_that_it_was_play_money():
    receipt = paid().receipt

    assert receipt == Receipt("0x1", DEVELOPMENT.id, "0xada", 10_000, development=True)
    assert receipt.as_json() == {
        "transaction": "0x1",
        "network": DEVELOPMENT.id,
        "payer": "0xada",
        "paidUsdc": "0.01",
        "development": True,
    }
    assert "development" not in replace(receipt, development=False).as_json()


@pytest.mark.parametrize("reruns", range(MAX_RERUNS + 1))
def test_a_debt_says_how_often_it_may_still_be_run(reruns):
    debt = paid(State.REFUND_DUE, reruns=reruns)

    assert debt.credit == Credit(10_000, 3 - reruns)
    assert debt.credit.as_json() == {"amountUsdc": "0.01", "rerunsLeft": 3 - reruns}


@pytest.mark.parametrize("state", sorted(set(State) - {State.REFUND_DUE}))
def test_where_nothing_is_owed_there_is_no_credit(state):
    assert paid(state).credit is None


@pytest.mark.parametrize(
    ("ended_at", "milliseconds"),
    [(None, 0), (1000.0, 0), (1000.0014, 1), (1001.5, 1500), (1600.0, 600_000)],
)
def test_a_run_lasts_from_the_request_to_the_ending(ended_at, milliseconds):
    assert paid(ended_at=ended_at).duration_ms == milliseconds


def test_a_debt_runs_again_three_times_and_no_more():
    debt = paid(State.REFUND_DUE)
    for _ in range(3):
        debt = debt.rerun("w2", 2000.0).fail("TIMEOUT", 2003.0)

    with pytest.raises(ValueError):
        debt.rerun("w2", 3000.0)
