"""The ledger's compare-and-swaps, whatever store is behind them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from threading import Barrier

import pytest

from x402jobs.domain.errors import StoreUnavailable, Superseded
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.sales import Sales

from .conftest import CLAIM_KEY, HAIKU, bought, earlier, walked

SETTLED, COMPLETED = State.SETTLED, State.COMPLETED
TO_SETTLED = (State.SETTLING, State.SETTLED)

FULL = bought(
    state=State.COMPLETED,
    attempt=7,
    caller_id="somebody",
    amount=2**53 + 1,
    transaction="0x" + "ab" * 32,
    log_index=2**31,
    refund_transaction="0x" + "cd" * 32,
    reruns=3,
    model="claude-ünïcode-🌧",
    usage={"input_tokens": 12, "nested": {"é": [1, 2.5, None, True, "🌧"]}},
    stop_reason="end_turn",
    code="TIMEOUT",
    verified_at=1001.5,
    opened_at=1002.123456,
    settled_at=1003.0,
    ended_at=1_900_000_000.123456,
)


def test_a_row_with_every_column_filled_comes_back_as_it_went(store):
    unfilled = {each.name for each in fields(Execution) if getattr(FULL, each.name) is None}
    assert unfilled == {"tile"}, "which is for tasks alone"

    store.ledger.claim(FULL)

    assert earlier(store) == FULL


def test_a_row_with_every_optional_column_empty_comes_back_as_it_went(store):
    claimed = store.ledger.claim(bought(valid_before=None))

    assert claimed == bought(valid_before=None)
    assert earlier(store) == claimed


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 0}])
def test_no_usage_and_an_empty_one_are_two_things(store, usage):
    store.ledger.claim(bought(usage=usage))

    assert earlier(store).usage == usage


@pytest.mark.parametrize("valid_before", [0, 2**63 - 1])
def test_the_ends_of_the_calendar_can_be_written_down(store, valid_before):
    assert store.ledger.claim(bought(valid_before=valid_before)).valid_before == valid_before


def test_a_claim_is_refused_while_somebody_has_it(store):
    first = store.ledger.claim(bought())

    assert store.ledger.claim(bought(id="e2", worker="w2")) is None
    assert store.ledger.claim(first) is None
    assert earlier(store) == first


@pytest.mark.parametrize("states", [(), (State.RELEASED,), TO_SETTLED])
def test_what_a_payment_has_bought_is_found_by_its_key_as_it_stands_now(store, states):
    assert store.ledger.earlier(CLAIM_KEY) is None

    row = walked(store, *states)

    assert store.ledger.earlier(CLAIM_KEY) == row
    assert store.ledger.earlier(CLAIM_KEY[:-1]) is None


@pytest.mark.parametrize(
    "states",
    [
        (),
        (State.SETTLING,),
        TO_SETTLED,
        (*TO_SETTLED, COMPLETED),
        (*TO_SETTLED, State.REFUND_DUE),
        (*TO_SETTLED, State.REFUND_DUE, State.REFUNDED),
        (*TO_SETTLED, State.REFUND_DUE, State.SETTLED),
    ],
)
def test_only_a_released_row_is_taken_up(store, states):
    row = walked(store, *states)

    assert store.ledger.claim(bought(id="e2")) is None
    assert earlier(store) == row


@pytest.mark.parametrize("states", [(State.RELEASED,), (State.SETTLING, State.RELEASED)])
def test_a_released_row_is_taken_up_under_its_own_id_with_everything_else_fresh(store, states):
    walked(store, *states, code="insufficient_funds", ended_at=1005.0)
    fresh = bought(
        id="e2",
        template_version=2,
        digest="d2",
        worker="w2",
        created_at=2000.5,
        payer="0xbob",
        amount=20_000,
        valid_before=2120,
    )

    taken = store.ledger.claim(fresh)

    assert taken == replace(fresh, id="e1", attempt=2)
    assert (taken.code, taken.ended_at) == (None, None)
    assert earlier(store) == taken


def test_a_row_is_taken_up_again_and_again_and_counts_each_attempt(store):
    row = walked(store, State.RELEASED)
    for attempt in range(2, 6):
        row = store.ledger.claim(bought(id=f"e{attempt}"))
        assert (row.id, row.attempt) == ("e1", attempt)
        store.ledger.swap(row, row.become(State.RELEASED))


def test_two_payments_have_two_rows(store):
    one = store.ledger.claim(bought())
    other = store.ledger.claim(bought(id="e2", claim_key="another"))

    assert (earlier(store), earlier(store, "another")) == (one, other)


@pytest.mark.parametrize("released", [False, True])
def test_of_a_hundred_who_claim_at_once_one_wins(store, released):
    if released:
        walked(store, State.RELEASED)
    workers = [store, *(store.worker() for _ in range(7))]
    start = Barrier(100)

    def claim(number):
        start.wait(30)
        return workers[number % 8].ledger.claim(bought(id=f"racer{number}", worker=str(number)))

    with ThreadPoolExecutor(100) as racers:
        outcomes = list(racers.map(claim, range(100)))

    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert earlier(store) == winner
    assert winner.attempt == (2 if released else 1)


def test_of_a_hundred_who_take_the_same_step_at_once_one_does(store):
    row = walked(store)
    workers = [store, *(store.worker() for _ in range(7))]
    start = Barrier(100)

    def settle(number):
        start.wait(30)
        try:
            after = row.become(State.SETTLING, worker=str(number))
            workers[number % 8].ledger.swap(row, after)
        except Superseded:
            return None
        return after

    with ThreadPoolExecutor(100) as racers:
        outcomes = list(racers.map(settle, range(100)))

    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert earlier(store) == winner


def test_a_swap_writes_every_fact_of_the_step(store):
    row = walked(store, *TO_SETTLED)
    after = replace(FULL, attempt=1, reruns=0)

    store.ledger.swap(row, after)

    assert earlier(store) == after


def test_a_swap_also_writes_what_was_noted_since_the_step_before(store):
    noted = replace(walked(store), verified_at=1.5, opened_at=2.5)
    after = noted.become(State.SETTLING)

    store.ledger.swap(noted, after)

    assert earlier(store) == after


def test_a_rerun_raises_the_fence_and_locks_out_whoever_came_before(store):
    settled = walked(store, *TO_SETTLED)
    debt = settled.fail("TIMEOUT", 1010.0)
    store.ledger.swap(settled, debt)
    again = debt.rerun("w2", 2000.0)

    store.ledger.swap(debt, again)

    assert earlier(store) == again
    for late in (debt, settled):
        with pytest.raises(Superseded):
            store.ledger.swap(late, again.become(COMPLETED))
    assert earlier(store) == again


@pytest.mark.parametrize(
    "stale",
    [
        {"state": State.CLAIMED},
        {"state": State.SETTLED, "transaction": "0x1"},
        {"attempt": 2},
        {"attempt": 0},
    ],
)
def test_a_swap_from_what_is_no_longer_so_is_superseded_and_changes_nothing(store, stale):
    row = walked(store, State.SETTLING)

    with pytest.raises(Superseded):
        store.ledger.swap(
            replace(row, **stale), replace(row, state=State.RELEASED), sealed_payment="p"
        )

    assert earlier(store) == row
    assert store.column(row, "sealed_payment") is None


def test_a_row_that_was_never_claimed_takes_no_step(store):
    row = bought(id="e2")

    with pytest.raises(Superseded):
        store.ledger.swap(row, row.become(State.SETTLING))

    assert earlier(store) is None


def test_a_superseded_ending_leaves_no_answer(store):
    row = walked(store, *TO_SETTLED)

    with pytest.raises(Superseded):
        store.ledger.swap(
            replace(row, attempt=2), row.become(COMPLETED), sealed_answer="not wanted"
        )

    assert store.ledger.sealed_answer(row) is None


def test_a_step_does_not_touch_another_row(store):
    other = store.ledger.claim(bought(id="e2", claim_key="another"))

    walked(store, *TO_SETTLED, State.REFUND_DUE)

    assert earlier(store, "another") == other


def test_the_sealed_payment_rests_while_recovery_may_need_it_and_no_longer(store):
    row = walked(store)
    assert store.column(row, "sealed_payment") is None

    settling = row.become(State.SETTLING)
    store.ledger.swap(row, settling, sealed_payment="sealed")
    assert store.column(row, "sealed_payment") == "sealed"

    settled = settling.become(State.SETTLED, transaction="0x1")
    store.ledger.swap(settling, settled)
    assert store.column(row, "sealed_payment") == "sealed"

    store.ledger.swap(settled, settled.become(COMPLETED))
    assert store.column(row, "sealed_payment") is None


@pytest.mark.parametrize(
    ("before", "ending"),
    [((), State.RELEASED), (TO_SETTLED, COMPLETED), (TO_SETTLED, State.REFUND_DUE)],
)
def test_no_ending_keeps_the_sealed_payment(store, before, ending):
    row = store.ledger.claim(bought())
    settling = row.become(State.SETTLING)
    store.ledger.swap(row, settling, sealed_payment="sealed")
    if before:
        settled = settling.become(State.SETTLED, transaction="0x1")
        store.ledger.swap(settling, settled)
        settling = settled

    store.ledger.swap(settling, settling.become(ending), sealed_payment="not wanted")

    assert store.column(row, "sealed_payment") is None


def test_an_answer_is_kept_with_the_ending(store):
    row = walked(store, *TO_SETTLED)
    assert store.ledger.sealed_answer(row) is None

    store.ledger.swap(row, row.become(COMPLETED), sealed_answer="v1.k1.🌧")

    assert store.ledger.sealed_answer(row) == "v1.k1.🌧"
    assert store.worker().ledger.sealed_answer(row) == "v1.k1.🌧"
    assert store.ledger.sealed_answer(bought(id="e2")) is None


def test_an_answer_of_a_megabyte_is_kept_whole(store):
    row = walked(store, *TO_SETTLED)

    store.ledger.swap(row, row.become(COMPLETED), sealed_answer="v1." + "a" * 6_000_000)

    assert len(store.ledger.sealed_answer(row)) == 6_000_003


@pytest.mark.parametrize("kind", [Kind.FREE, Kind.OWNER_TEST])
@pytest.mark.parametrize("state", [COMPLETED, State.RELEASED])
def test_any_number_of_unpaid_runs_are_written_down(store, kind, state):
    unpaid = bought(
        kind=kind, state=state, claim_key=None, payer=None, network=None, amount=0, ended_at=1001.0
    )

    for number in range(3):
        store.ledger.record(replace(unpaid, id=f"e{number}"))

    assert store.column(replace(unpaid, id="e2"), "kind") == kind
    assert store.column(replace(unpaid, id="e2"), "state") == state


IMPOSSIBLE = {
    "paid without a claim key": {"claim_key": None},
    "paid without a payer": {"payer": None},
    "paid nothing": {"amount": 0},
    "paid less than nothing": {"amount": -1},
    "free for less than nothing": {"kind": "free", "amount": -1},
    "of no known kind": {"kind": "gift"},
    "in no known state": {"state": "pending"},
    "paid on no network": {"network": None},
    "paid and completed without a transaction": {"state": "completed"},
    "settled without a transaction": {"state": "settled"},
    "owed without a transaction": {"state": "refund_due"},
    "refunded without a transaction": {"state": "refunded"},
    "run again a fourth time": {"reruns": 4},
    "run again less than never": {"reruns": -1},
    "of no template": {"template_id": "nothing"},
    "without a template": {"template_id": None},
    "a template and a tile": {"tile": "u,0:1"},
    "a task without a tile": {"kind": "task", "claim_key": None, "amount": 0, "caller_id": "u"},
    "a task of nobody's": {"kind": "task", "claim_key": None, "amount": 0, "tile": "u,0:1"},
    "without a digest": {"digest": None},
    "without a worker": {"worker": None},
    "an amount that is no number": {"amount": "ten"},
    "a beginning that is no number": {"created_at": "now"},
}


@pytest.mark.parametrize("impossible", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_the_store_itself_refuses_an_impossible_row(store, impossible):
    with pytest.raises(StoreUnavailable):
        store.ledger.claim(bought(**impossible))

    assert earlier(store) is None


def test_the_store_itself_refuses_one_claim_key_in_two_rows(store):
    store.ledger.claim(bought())

    with pytest.raises(StoreUnavailable):
        store.ledger.record(bought(id="e2"))
    assert earlier(store, CLAIM_KEY).id == "e1"


def test_the_store_itself_refuses_one_id_in_two_rows(store):
    store.ledger.claim(bought())

    with pytest.raises(StoreUnavailable):
        store.ledger.claim(bought(claim_key="another"))
    assert earlier(store, "another") is None


@pytest.mark.parametrize(
    "impossible",
    [{"state": "settled", "transaction": None}, {"claim_key": None}, {"reruns": 4}],
)
def test_no_step_makes_an_impossible_row(store, impossible):
    row = walked(store, State.SETTLING)

    with pytest.raises(StoreUnavailable):
        store.ledger.swap(row, replace(row, **impossible))

    assert earlier(store) == row


def test_a_row_that_was_refused_does_not_stand_in_the_way_of_the_next(store):
    with pytest.raises(StoreUnavailable):
        store.ledger.claim(bought(amount=0))

    assert store.ledger.claim(bought()) == bought()


# what has been sold

PAID, FREE, TEST = Kind.PAID, Kind.FREE, Kind.OWNER_TEST
SAID = {"input_tokens": 1, "output_tokens": 20, "cache_read_input_tokens": 300}


def written(store, kind, state, number=0, **facts):
    """A row as it stands at the end of its walk, written down at once."""
    moved = kind is PAID and state in (SETTLED, COMPLETED, State.REFUND_DUE, State.REFUNDED)
    facts = {"transaction": "0x1" if moved else None, "created_at": 1000.0 + number} | facts
    if kind is not PAID:
        facts = {"payer": None, "network": None, "amount": 0} | facts
    row = bought(
        id=f"row{number}",
        kind=kind,
        state=state,
        claim_key=f"claim{number}" if kind is PAID else None,
        **facts,
    )
    store.ledger.record(row)
    return row


def sold(store, template_id=HAIKU.id):
    return store.ledger.sales([template_id]).get(template_id, Sales())


@pytest.mark.parametrize(
    ("kind", "state", "sales"),
    [
        (PAID, State.CLAIMED, Sales()),
        (PAID, State.SETTLING, Sales()),
        (PAID, State.SETTLED, Sales(calls=1, revenue=10_000)),
        (PAID, State.COMPLETED, Sales(calls=1, completed=1, revenue=10_000)),
        (PAID, State.REFUND_DUE, Sales(calls=1, failed=1, revenue=10_000, refunds_due=10_000)),
        (PAID, State.REFUNDED, Sales(calls=1, failed=1)),
        (PAID, State.RELEASED, Sales()),
        (FREE, State.COMPLETED, Sales(calls=1, completed=1)),
        (FREE, State.RELEASED, Sales(calls=1, failed=1)),
        (TEST, State.COMPLETED, Sales(tests=1)),
        (TEST, State.RELEASED, Sales(tests=1)),
    ],
)
def test_each_ending_counts_for_what_it_is(store, kind, state, sales):
    written(store, kind, state)

    assert sold(store) == sales


def test_a_template_that_nobody_has_called_has_sold_nothing(store):
    assert sold(store) == sold(store, "unknown") == Sales()
    assert store.ledger.sales([]) == {}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (0, 0)),
        ({}, (0, 0)),
        ({"input_tokens": 5}, (5, 0)),
        ({"output_tokens": 5}, (0, 5)),
        (SAID, (301, 20)),
        (SAID | {"cache_creation_input_tokens": 4000, "service_tier": "standard"}, (4301, 20)),
        ({"input_tokens": None, "output_tokens": 2**40}, (0, 2**40)),
    ],
)
def test_everything_claude_read_and_wrote_is_counted(store, usage, tokens):
    for number, kind in enumerate((PAID, FREE, TEST)):
        written(store, kind, COMPLETED, number, usage=usage)

    found = sold(store)

    assert (found.input_tokens, found.output_tokens) == (3 * tokens[0], 3 * tokens[1])


def test_sums_are_exact_however_large(store):
    for number in range(3):
        written(store, PAID, COMPLETED, number, amount=2**53 + 1, usage={"input_tokens": 2**53 + 1})

    found = sold(store)

    assert (found.revenue, found.input_tokens) == (3 * (2**53 + 1), 3 * (2**53 + 1))
    assert {type(getattr(found, each.name)) for each in fields(Sales)} == {int}


def test_each_template_has_its_own_sales(store):
    haiku, ode, unsold = HAIKU.id, HAIKU.id[:-1] + "2", HAIKU.id[:-1] + "3"
    for each in (ode, unsold):
        template = replace(HAIKU, id=each, owner_id=store.ada, slug=f"slug-{each[-1]}")
        store.catalogue.add_template(template)
    for number, (template_id, state) in enumerate(
        [(ode, COMPLETED), (haiku, COMPLETED), (ode, State.REFUND_DUE), (haiku, COMPLETED)]
    ):
        written(store, PAID, state, number, template_id=template_id)

    found = store.ledger.sales([unsold, ode, "unknown", haiku])

    assert found.get(haiku) == Sales(calls=2, completed=2, revenue=20_000)
    assert found.get(ode) == Sales(2, 1, 1, revenue=20_000, refunds_due=10_000)
    assert found.get(unsold, Sales()) == found.get("unknown", Sales()) == Sales()
    assert store.ledger.sales([ode]).keys() == {ode}


# who has asked for what


def test_runs_are_told_newest_first_with_everything_that_is_known_of_them(store):
    old, new = written(store, FREE, COMPLETED, 1), written(store, PAID, COMPLETED, 2, usage=SAID)

    page = store.ledger.executions_of(10, 0, template_id=HAIKU.id)

    assert (list(page.items), page.total, page.limit, page.offset) == ([new, old], 2, 10, 0)


@pytest.mark.parametrize(
    ("limit", "offset", "shown"),
    [(2, 0, [4, 3]), (2, 2, [2, 1]), (2, 4, [0]), (2, 5, []), (100, 3, [1, 0]), (1, 10**9, [])],
)
def test_runs_come_in_parts(store, limit, offset, shown):
    rows = [written(store, FREE, COMPLETED, number, caller_id="bob") for number in range(5)]

    for which in ({"template_id": HAIKU.id}, {"caller_id": "bob"}):
        page = store.ledger.executions_of(limit, offset, **which)
        assert list(page.items) == [rows[number] for number in shown]
        assert (page.total, page.has_more) == (5, bool(shown) and shown[-1] > 0)


def test_runs_of_one_moment_are_each_on_one_page(store):
    for number in range(5):
        written(store, FREE, COMPLETED, number, created_at=1000.0)

    found = [
        store.ledger.executions_of(1, offset, template_id=HAIKU.id).items[0].id
        for offset in range(5)
    ]

    assert sorted(found) == [f"row{number}" for number in range(5)]


def test_a_callers_runs_are_their_own(store):
    mine = written(store, FREE, COMPLETED, 1, caller_id="bob")
    written(store, FREE, COMPLETED, 2, caller_id="Bob")
    written(store, PAID, COMPLETED, 3)

    page = store.ledger.executions_of(10, 0, caller_id="bob")

    assert (list(page.items), page.total) == ([mine], 1)
    for nobody in ("", "None", "%", "bo"):
        assert store.ledger.executions_of(10, 0, caller_id=nobody).total == 0


def test_a_templates_runs_stay_when_it_is_gone(store):
    written(store, PAID, COMPLETED)
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)

    assert store.ledger.executions_of(10, 0, template_id=HAIKU.id).total == 1
    assert sold(store).revenue == 10_000
