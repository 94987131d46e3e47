"""A question whose answer was lost is asked again: it hears the same, and nothing happens twice."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.conftest import HAIKU, PATIENT, SupabaseStore, bought, earlier, ran, walked
from tests.supabase.direct import direct
from tests.supabase.rig import Rig
from tests.waiting import eventually
from x402jobs.adapters.rows import columns_of
from x402jobs.adapters.supabase.database import Database
from x402jobs.adapters.supabase.ledger import SupabaseLedger
from x402jobs.domain.errors import StoreUnavailable, Superseded, TransferUsed
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.secret import Secret

SETTLING, SETTLED, COMPLETED = State.SETTLING, State.SETTLED, State.COMPLETED
DEBT = (SETTLING, SETTLED, State.REFUND_DUE)
TRANSFER = {"transaction": "0x1", "log_index": 7}
TEST = {"kind": Kind.OWNER_TEST, "claim_key": None, "payer": None, "network": None, "amount": 0}


class Repeating(Database):
    """Every write is carried out, its answer is lost, and it is asked again."""

    def __init__(self, rig: Rig, *, admits_it: bool = True) -> None:
        super().__init__(rig.url, Secret(rig.secret_key))
        self._rig = rig
        self._admits_it = admits_it
        self.writes: list[str] = []

    def write(self, function: str, **arguments: Any) -> Any:
        first = self.call(function, **arguments, again=False)
        written = self._everything()
        again = self.call(function, **arguments, again=self._admits_it)
        assert self._everything() == written
        if self._admits_it:
            assert again == first
        self.writes.append(function)
        return again

    def _everything(self) -> list[dict[str, Any]]:
        return self._rig.sql("""
            select to_jsonb(e)::text as row from x402_executions e
            union all select to_jsonb(a)::text from x402_answers a order by 1""")


@pytest.fixture
def store(rig: Rig) -> Iterator[Any]:
    store: Any = SupabaseStore(rig)
    store.ada = store.catalogue.add_user("ada")
    store.catalogue.add_template(replace(HAIKU, owner_id=store.ada))
    yield store
    store.close()


@pytest.fixture
def repeating(rig: Rig) -> Iterator[Repeating]:
    database = Repeating(rig)
    yield database
    database.close()


def stepping(*states: State, to: Callable[[Execution], Execution], **sealed: str) -> Any:
    """A step of a row that has gone through these states."""

    def ask(store: Any, ledger: SupabaseLedger) -> None:
        row = walked(store, *states)
        after = to(row)
        assert ledger.swap(row, after, **sealed) is None
        assert earlier(store) == after
        for name, value in sealed.items():
            kept = {"sealed_answer": store.ledger.sealed_answer(after)}
            assert kept.get(name) or store.column(row, name) == value

    return ask


def claims(store: Any, ledger: SupabaseLedger) -> None:
    assert ledger.claim(bought()) == earlier(store) == bought()


def takes_up(store: Any, ledger: SupabaseLedger) -> None:
    walked(store, State.RELEASED)
    fresh = bought(id="e2", worker="w2", created_at=2000.0)
    assert ledger.claim(fresh) == earlier(store) == replace(fresh, id="e1", attempt=2)


def is_refused_a_claim(store: Any, ledger: SupabaseLedger) -> None:
    row = store.ledger.claim(bought())
    assert ledger.claim(bought(id="e2")) is None
    assert earlier(store) == row


def is_superseded(store: Any, ledger: SupabaseLedger) -> None:
    row = walked(store, SETTLING)
    with pytest.raises(Superseded):
        ledger.swap(replace(row, attempt=2), row.become(State.RELEASED))


def uses_a_used_transfer(store: Any, ledger: SupabaseLedger) -> None:
    walked(store, SETTLING, SETTLED, **TRANSFER)
    other = store.ledger.claim(bought(id="e2", claim_key="other"))
    settling = other.become(SETTLING)
    store.ledger.swap(other, settling)
    with pytest.raises(TransferUsed):
        ledger.swap(settling, settling.become(SETTLED, **TRANSFER))


def begins(store: Any, ledger: SupabaseLedger) -> None:
    assert ledger.begin(ran())
    assert store.ledger.execution("r1") == (ran(), None)


def is_refused_a_beginning(store: Any, ledger: SupabaseLedger) -> None:
    store.ledger.begin(ran())
    assert not ledger.begin(ran(id="r2"))


def records(store: Any, ledger: SupabaseLedger) -> None:
    row = bought(**TEST, state=COMPLETED, usage={"output_tokens": 3}, ended_at=1001.123456)
    ledger.record(row)
    assert store.ledger.execution("e1") == (row, store.ada)


WRITES = {
    "a claim": claims,
    "a released row taken up": takes_up,
    "a claim that somebody else has": is_refused_a_claim,
    "a step": stepping(to=lambda row: row.become(SETTLING), sealed_payment="sealed"),
    "a settlement": stepping(SETTLING, to=lambda row: row.become(SETTLED, **TRANSFER)),
    "an ending with its answer": stepping(
        SETTLING, SETTLED, to=lambda row: row.become(COMPLETED), sealed_answer="sealed"
    ),
    "a debt run again": stepping(*DEBT, to=lambda row: row.rerun("w2", 2000.0)),
    "a step too late": is_superseded,
    "a step with another's transfer": uses_a_used_transfer,
    "a task": begins,
    "a task that runs": is_refused_a_beginning,
    "an unpaid run": records,
}


@pytest.mark.parametrize("ask", WRITES.values(), ids=WRITES)
def test_a_write_that_is_repeated_hears_the_same_and_changes_nothing(store, repeating, ask):
    ask(store, SupabaseLedger(repeating))

    assert len(repeating.writes) == 1


@pytest.mark.parametrize(
    ("ask", "hears"),
    [
        (lambda ledger, row: ledger.claim(bought()), None),
        (lambda ledger, row: ledger.swap(row, row.become(SETTLING)), Superseded),
        (lambda ledger, row: ledger.begin(ran()), False),
        (lambda ledger, row: ledger.record(bought(**TEST, id="e2")), StoreUnavailable),
    ],
    ids=["claim", "swap", "begin", "record"],
)
def test_who_does_not_say_that_it_asks_again_is_somebody_else(store, rig, ask, hears):
    forgetful = Repeating(rig, admits_it=False)
    row = store.ledger.claim(bought(id="e9", claim_key="other"))

    try:
        heard = ask(SupabaseLedger(forgetful), row)
    except (Superseded, StoreUnavailable) as error:
        heard = type(error)

    assert heard == hears
    forgetful.close()


def again(database: Database, function: str, row: Execution, **arguments: Any) -> Any:
    """Ask for the second time what was never carried out."""
    return database.call(function, execution=json.dumps(columns_of(row)), again=True, **arguments)


STEP = {"attempt_before": 1, "state_before": "claimed", "payment": None, "answer": None}


def test_what_somebody_else_has_done_is_not_taken_for_ones_own(store):
    row = store.ledger.claim(bought())
    assert again(store.database, "x402_claim", bought(id="e2")) is None
    store.ledger.begin(ran())
    assert again(store.database, "x402_begin", ran(id="r2")) is False

    mine = row.become(SETTLING, opened_at=1002.0)
    store.ledger.swap(row, row.become(SETTLING, opened_at=1001.0))

    assert again(store.database, "x402_swap", mine, **STEP) == "superseded"


def test_a_claim_that_has_been_taken_over_meanwhile_is_lost(store):
    row = store.ledger.claim(bought())
    store.unseen("w1", 16)
    store.ledger.take_over("w2", {}, 10, **PATIENT)

    assert again(store.database, "x402_claim", row) is None


def test_a_repeat_that_is_the_first_to_arrive_does_what_was_asked(store):
    assert again(store.database, "x402_claim", bought())["id"] == "e1"
    assert again(store.database, "x402_begin", ran()) is True
    again(store.database, "x402_record", bought(**TEST, id="e2", state=COMPLETED))

    settling = bought().become(SETTLING)
    assert again(store.database, "x402_swap", settling, **STEP) == "swapped"

    assert earlier(store) == settling
    assert store.ledger.execution("e2") is not None


# A take-over is told until it is heard


class Deaf(Database):
    """Its next answers are lost, after what was asked has been done."""

    lost = 0

    def call(self, function: str, **arguments: Any) -> Any:
        said = super().call(function, **arguments)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable()
        return said


@pytest.fixture
def deaf(rig: Rig) -> Iterator[Deaf]:
    database = Deaf(rig.url, Secret(rig.secret_key))
    yield database
    database.close()


def take(ledger: SupabaseLedger, worker: str = "w2", limit: int = 10, **left: int) -> Any:
    return [(row.id, row.attempt) for row, _ in ledger.take_over(worker, left, limit, **PATIENT)]


def test_a_take_over_that_was_not_heard_is_told_by_the_next_without_another_attempt(store, deaf):
    walked(store, SETTLING)
    store.unseen("w1", 16)
    ledger, deaf.lost = SupabaseLedger(deaf), 2
    store.ledger.beat("w2")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            take(ledger)

    assert take(ledger) == [("e1", 2)]
    assert take(ledger) == take(ledger) == [], "it has heard"


def test_a_take_over_that_arrives_when_nobody_listens_is_told_by_the_next(store, deaf):
    ledger = SupabaseLedger(deaf)
    store.ledger.beat("w2")
    assert take(ledger) == []
    walked(store, SETTLING)
    store.unseen("w1", 16)
    late = {"taker": "w2", "given_up": "{}", "heard": "{}", "at_most": 10} | PATIENT

    store.database.call("x402_take_over", **late)

    assert take(ledger) == [("e1", 2)]
    store.database.call("x402_take_over", **late)
    assert take(ledger) == []


def test_what_was_heard_and_left_is_taken_once_more(store):
    walked(store, SETTLING)
    store.unseen("w1", 16)
    store.ledger.beat("w2")

    assert take(store.ledger) == [("e1", 2)]
    assert take(store.ledger, e1=2) == [("e1", 3)]
    assert take(store.ledger, e1=2) == []


def test_a_debt_that_its_taker_runs_again_is_not_told_as_taken(store):
    walked(store, SETTLING, SETTLED)
    store.unseen("w1", 16)
    store.ledger.beat("w2")
    ((row, _),) = store.ledger.take_over("w2", {}, 10, **PATIENT)
    debt = row.fail("TIMEOUT", 1010.0)
    store.ledger.swap(row, debt)
    rerun = debt.rerun("w2", store.now())

    store.ledger.swap(debt, rerun)

    assert take(store.ledger) == []
    assert earlier(store) == rerun


def test_what_was_not_heard_comes_first_and_no_more_than_asked_for(store, deaf):
    for number in range(3):
        store.ledger.claim(bought(id=f"e{number}", claim_key=f"c{number}"))
    store.ledger.beat("w2")
    ledger, deaf.lost = SupabaseLedger(deaf), 1
    with pytest.raises(StoreUnavailable):
        take(ledger, limit=2)

    assert [take(ledger, limit=2), take(ledger, limit=2)] == [[("e0", 2), ("e1", 2)], [("e2", 2)]]


def test_a_row_that_was_not_heard_of_may_be_taken_by_the_next_worker(store, deaf):
    walked(store, SETTLING)
    ledger, deaf.lost = SupabaseLedger(deaf), 1
    with pytest.raises(StoreUnavailable):
        take(ledger)
    store.unseen("w2", 16)
    store.ledger.beat("w3")

    assert take(store.ledger, "w3") == [("e1", 3)]
    assert take(ledger) == []


def test_a_task_that_begins_while_it_is_asked_for_again_has_begun(store, rig):
    task = ran()
    with (
        ThreadPoolExecutor() as pool,
        direct(rig.postgres.url(rig.database)) as first,
        direct(rig.postgres.url(rig.database)) as second,
    ):
        assert SupabaseLedger(first).begin(task)
        question = {"execution": json.dumps(columns_of(task)), "again": True}
        asked = pool.submit(second.call, "x402_begin", **question)
        assert eventually(lambda: rig.sql("select from pg_locks where not granted"))

        first.connection.commit()

        assert asked.result(20) is True


def test_a_count_of_claudes_that_is_none_breaks_no_sum(store):
    for number, count in enumerate((1.5, "2", 3)):
        ended = bought(id=f"e{number}", state=State.COMPLETED, **TEST | {"kind": Kind.FREE})
        store.ledger.record(replace(ended, usage={"input_tokens": count}))

    assert store.ledger.sales([HAIKU.id])[HAIKU.id].input_tokens == 4
