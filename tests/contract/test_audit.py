"""Every invariant of the ledger speaks when it is broken, and only then, whatever the store."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

from tests.supabase.rig import Rig, project
from x402jobs.adapters.clock import SystemClock
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.errors import NotFound
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.invariants import INVARIANTS, PLAY_MONEY
from x402jobs.domain.payment import Authorization
from x402jobs.ports import Entry, Transfer, Transfers
from x402jobs.services.audit import Audit

from .conftest import HAIKU, PATIENT, STORES, SqliteStore, Store, SupabaseStore, bought, ran

OPENING, RUN = 30.0, 600.0
DAY = 86400
PAY_TO = "0x" + "ad" * 20
PAYERS = {state: f"0x{number:040x}" for number, state in enumerate(State, start=1)}
NONCE = "0x" + "01" * 32
STEPS = {
    State.CLAIMED: (),
    State.SETTLING: (State.SETTLING,),
    State.SETTLED: (State.SETTLING, State.SETTLED),
    State.COMPLETED: (State.SETTLING, State.SETTLED, State.COMPLETED),
    State.REFUND_DUE: (State.SETTLING, State.SETTLED, State.REFUND_DUE),
    State.REFUNDED: (State.SETTLING, State.SETTLED, State.REFUND_DUE, State.REFUNDED),
    State.RELEASED: (State.SETTLING, State.RELEASED),
}
WHOLE = {"model": "claude", "usage": {"output_tokens": 3}, "stop_reason": "end_turn"}


Moved = tuple[str, str, str, int, str, float]
"""A transfer, as the development ledger's table has it."""


class Planting(Store, Protocol):
    """A store, and a hand that writes into it past all of its constraints."""

    def plant(self, script: str) -> None:
        """Run it; `{now}` is the database's clock, `{no_price}` what the column should not hold."""
        ...

    def loosen_money(self) -> None:
        """Let money be what is no whole number."""
        ...

    def everything(self) -> object:
        """All that rests, to be compared."""
        ...

    def keep(self, transfers: list[Transfer]) -> None:
        """Remember all that has been sold, and its money, for the tests that come after."""
        ...

    def sell_again(self) -> list[Moved]:
        """What was kept is here again, as old as it was then. Its money; none if nothing was."""
        ...


class SqlitePlanting(SqliteStore):
    """The embedded store."""

    def plant(self, script: str) -> None:
        with closing(sqlite3.connect(self.data / "x402jobs.sqlite3")) as connection:
            connection.executescript(
                "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;"
                + script.replace("{now}", "unixepoch()").replace("{no_price}", "0.5")
            )

    def loosen_money(self) -> None:
        """As a table comes back from a dump made by a tool that knows no STRICT."""
        with closing(sqlite3.connect(self.data / "x402jobs.sqlite3")) as connection:
            connection.executescript("""
                PRAGMA writable_schema = ON;
                UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')')
                    WHERE name IN ('x402_executions', 'x402_resources');
                PRAGMA writable_schema = RESET;""")

    def everything(self) -> object:
        return (self.data / "x402jobs.sqlite3").read_bytes()

    def keep(self, transfers: list[Transfer]) -> None:
        """Selling it takes a few milliseconds here."""

    def sell_again(self) -> list[Moved]:
        return []


@dataclass
class Careless:
    """A project of its own, whose tables have lost what they check, require and refer to.

    `sold` are the transfers of what its first test has sold, which the others find in the database:
    that is forty questions to its door.
    """

    rig: Rig
    sold: list[Transfer] = field(default_factory=list)


class SupabasePlanting(SupabaseStore):
    """That project."""

    def __init__(self, careless: Careless) -> None:
        super().__init__(careless.rig)
        self._careless = careless
        careless.rig.sql(FAITHFUL)
        careless.rig.sql(CARELESS)

    def plant(self, script: str) -> None:
        self._rig.sql(script.replace("{now}", "x402_now()").replace("{no_price}", "'NaN'"))

    def loosen_money(self) -> None:
        self._rig.sql("alter table x402_executions alter amount type numeric")

    def everything(self) -> object:
        tables = ("x402_executions", "x402_answers", "x402_workers", "x402_resources", "profiles")
        return [self._rig.sql(f"select t::text, xmin::text from {name} t") for name in tables]

    def keep(self, transfers: list[Transfer]) -> None:
        self._rig.sql(KEEP)
        self._careless.sold = transfers

    def sell_again(self) -> list[Moved]:
        if not self._careless.sold:
            return []
        later = self._rig.sql(SELL_AGAIN)[0]["later"]
        return [
            (each.transaction, each.payer, each.payee, each.value, each.nonce, each.at + later)
            for each in self._careless.sold
        ]


FAITHFUL = """
    alter table x402_executions alter amount type bigint;
    create unique index if not exists x402_executions_task on x402_executions (caller_id, tile)
        where kind = 'task' and state = 'claimed';
    create unique index if not exists x402_executions_transfer
        on x402_executions (network, transaction, log_index) where log_index is not null"""
"""What a test may have dropped comes back."""
KEEP = """
    create schema kept;
    create table kept.executions as select * from x402_executions;
    create table kept.answers as select * from x402_answers;
    create table kept.moment as select x402_now() as kept_at"""
SELL_AGAIN = """
    with moment as (select x402_now() - kept_at as later from kept.moment),
        answers as (insert into x402_answers select * from kept.answers),
        executions as (
            insert into x402_executions
            select (jsonb_populate_record(sold, jsonb_build_object(
                'valid_before', valid_before + round(later),
                'created_at', created_at + later,
                'settled_at', settled_at + later,
                'ended_at', ended_at + later
            ))).* from kept.executions sold, moment
        )
    select later from moment"""
CARELESS = """
    do $$
    declare
        each record;
    begin
        for each in
            select conrelid::regclass as tab, conname from pg_constraint
            where contype in ('c', 'f') and connamespace = 'public'::regnamespace
        loop
            execute format('alter table %s drop constraint %I', each.tab, each.conname);
        end loop;
        for each in
            select attname from pg_attribute
            where attrelid = 'x402_executions'::regclass and attnum > 0 and attnotnull
                and attname <> 'id'
        loop
            execute format('alter table x402_executions alter %I drop not null', each.attname);
        end loop;
    end $$"""


@pytest.fixture(scope="module")
def careless(rig: Rig) -> Iterator[Careless]:
    """Every other test goes on with its constraints."""
    with project(rig.postgres, "careless") as running:
        yield Careless(running)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Planting]:
    store: Any
    if request.param == "sqlite":
        store = SqlitePlanting(tmp_path / "data")
    else:
        store = SupabasePlanting(request.getfixturevalue("careless"))
    store.ada = store.catalogue.add_user("ada")
    store.catalogue.add_template(replace(HAIKU, owner_id=store.ada))
    store.keys.put_pay_to(store.ada, PAY_TO.upper().replace("X", "x"))
    store.ledger.beat("w1")
    yield store
    store.close()


@pytest.fixture
def play_money(tmp_path: Path) -> Iterator[DevelopmentLedger]:
    ledger = DevelopmentLedger(tmp_path / "play.sqlite3")
    yield ledger
    ledger.close()


def sold(store: Store, play_money: DevelopmentLedger, state: State, **changes: Any) -> Execution:
    """A paid row that has come to this state in good order, its money moved if it has."""
    now, payer = store.now(), PAYERS[state]
    row = store.ledger.claim(
        bought(
            id=f"the {state} one",
            claim_key=f"eip3009:eip155:31337:0xd0:{payer}:{NONCE}",
            payer=payer,
            created_at=now - 5,
            valid_before=int(now) + 115,
            **changes,
        )
    )
    assert row is not None
    for step in STEPS[state]:
        facts: dict[str, Any] = {}
        if step is State.SETTLED:
            signed = Authorization(payer, PAY_TO, row.amount, 0, int(now) + 115, NONCE)
            transaction = play_money.move(signed)
            facts = {"transaction": transaction, "log_index": 0, "settled_at": now - 3}
        if step in (State.COMPLETED, State.REFUND_DUE, State.RELEASED):
            facts = {"ended_at": now - 1} | (WHOLE if step is State.COMPLETED else {})
        if step is State.REFUNDED:
            facts = {"refund_transaction": "0x" + "cd" * 32}
        after = row.become(step, **facts)
        kept = {State.SETTLING: "sealed_payment", State.COMPLETED: "sealed_answer"}
        store.ledger.swap(row, after, **({kept[step]: "sealed"} if step in kept else {}))
        row = after
    return row


@pytest.fixture
def shop(store: Planting, play_money: DevelopmentLedger, tmp_path: Path) -> Planting:
    """One row in each state, a free one, a test of the owner's, tasks, a claim taken up again."""
    if moved := store.sell_again():
        assert play_money.transfers() == []  # which has made the table
        with closing(sqlite3.connect(tmp_path / "play.sqlite3")) as connection, connection:
            connection.executemany("INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?)", moved)
        return store
    for state in State:
        sold(store, play_money, state)
    store.ledger.take_over("w1", {"the claimed one": 1}, 1, **PATIENT)
    for kind in (Kind.FREE, Kind.OWNER_TEST):
        unpaid: dict[str, Any] = {"claim_key": None, "payer": None, "network": None, "amount": 0}
        row = bought(id=f"the {kind} one", kind=kind, state=State.COMPLETED, **unpaid)
        store.ledger.record(replace(row, ended_at=store.now(), **WHOLE))
    for state in (State.CLAIMED, State.RELEASED, State.COMPLETED):
        row = ran(id=f"the {state} task", tile=f"u,0:{len(state)}", created_at=store.now())
        assert store.ledger.begin(row)
        if state is not State.CLAIMED:
            facts: dict[str, Any] = WHOLE if state is State.COMPLETED else {}
            sealed = "sealed" if state is State.COMPLETED else None
            ended = row.become(state, ended_at=store.now(), **facts)
            store.ledger.swap(row, ended, sealed_answer=sealed)
    store.keep(play_money.transfers())
    return store


def broken(store: Planting) -> dict[str, list[str]]:
    """What does not hold, and where."""
    found = store.audit.findings(OPENING, RUN).broken
    return {name: list(rows) for name, rows in found.items() if rows}


def audit(store: Planting, play_money: Transfers | None) -> Audit:
    return Audit(
        store.audit,
        store.ledger,
        SystemClock(),
        opening_seconds=OPENING,
        run_seconds=RUN,
        play_money=play_money,
    )


def test_a_ledger_in_good_order_breaks_nothing(
    shop: Planting, play_money: DevelopmentLedger
) -> None:
    report = audit(shop, play_money).check()

    assert report.broken == []
    assert (report.executions, report.invariants) == (12, len(INVARIANTS) + len(PLAY_MONEY))


def test_an_empty_ledger_breaks_nothing(store: Planting) -> None:
    found = store.audit.findings(OPENING, RUN)

    assert (found.executions, [rows for rows in found.broken.values() if rows]) == (0, [])
    assert found.broken.keys() == INVARIANTS.keys()


def of(state: str, change: str) -> str:
    return f"UPDATE x402_executions SET {change} WHERE id = 'the {state} one';"


def task(state: str, change: str) -> str:
    return f"UPDATE x402_executions SET {change} WHERE id = 'the {state} task';"


NOBODYS = "00000000-0000-4000-8000-00000000dead"
NOW = "{now}"
PLANTED = [
    ("words_known", of("claimed", "state = 'pending'"), ["the claimed one"]),
    ("words_known", of("free", "kind = 'gift'"), ["the free one"]),
    (
        "one_row_per_claim",
        of("claimed", f"claim_key = 'EIP3009:eip155:31337:0xd0:{PAYERS[State.SETTLED]}:{NONCE}'"),
        ["the claimed one", "the settled one"],
    ),
    (
        "one_row_per_transfer",
        """DROP INDEX x402_executions_transfer;
        UPDATE x402_executions SET "transaction" = (
            SELECT "transaction" FROM x402_executions WHERE id = 'the settled one'
        ) WHERE id = 'the completed one';""",
        ["the completed one", "the settled one"],
    ),
    (
        "one_row_per_transfer",
        """UPDATE x402_executions SET log_index = NULL, "transaction" = '0xAb'
        WHERE id = 'the settled one';
        UPDATE x402_executions SET log_index = NULL, "transaction" = '0xaB'
        WHERE id = 'the refund_due one';""",
        ["the refund_due one", "the settled one"],
    ),
    ("paid_has_claim", of("settled", "claim_key = NULL"), ["the settled one"]),
    ("paid_has_claim", of("completed", "payer = NULL"), ["the completed one"]),
    ("paid_has_claim", of("refunded", "network = NULL"), ["the refunded one"]),
    ("paid_has_transfer", of("settled", '"transaction" = NULL'), ["the settled one"]),
    ("paid_has_transfer", of("completed", '"transaction" = NULL'), ["the completed one"]),
    ("paid_has_transfer", of("refund_due", "settled_at = NULL"), ["the refund_due one"]),
    ("paid_has_transfer", of("refunded", "amount = 0"), ["the refunded one"]),
    ("unpaid_moves_nothing", of("free", "\"transaction\" = '0x1'"), ["the free one"]),
    ("unpaid_moves_nothing", of("free", "claim_key = 'c'"), ["the free one"]),
    ("unpaid_moves_nothing", of("owner_test", "amount = 1"), ["the owner_test one"]),
    (
        "unpaid_moves_nothing",
        of("free", f"state = 'settled', created_at = {NOW}"),
        ["the free one"],
    ),
    ("unpaid_moves_nothing", task("claimed", "amount = 1"), ["the claimed task"]),
    ("task_has_tile", of("free", "tile = 'u,0:1'"), ["the free one"]),
    ("task_has_tile", task("released", "tile = NULL"), ["the released task"]),
    ("task_has_tile", task("claimed", "caller_id = NULL"), ["the claimed task"]),
    (
        "one_run_per_tile",
        "DROP INDEX x402_executions_task;"
        + task("released", "state = 'claimed', tile = 'u,0:7', code = NULL"),
        ["the claimed task", "the released task"],
    ),
    (
        "claimed_ends",
        task("claimed", f"worker = 'gone', created_at = {NOW} - 722"),
        ["the claimed task"],
    ),
    (
        "claimed_ends",
        of("claimed", f"worker = 'gone', created_at = {NOW} - 152"),
        ["the claimed one"],
    ),
    (
        "claimed_ends",
        f"INSERT INTO x402_workers VALUES ('late', {NOW} - 20);"
        + of("claimed", f"worker = 'late', created_at = {NOW} - 152"),
        ["the claimed one"],
    ),
    ("settling_ends", of("settling", f"valid_before = {NOW} - 122"), ["the settling one"]),
    (
        "settled_ends",
        of("settled", f"created_at = {NOW} - 730, settled_at = {NOW} - 722"),
        ["the settled one"],
    ),
    ("settling_has_payment", of("settling", "sealed_payment = NULL"), ["the settling one"]),
    *(
        ("payment_erased", of(state, "sealed_payment = 'sealed'"), [f"the {state} one"])
        for state in ("claimed", "completed", "refund_due", "refunded", "released")
    ),
    (
        "answer_kept",
        "DELETE FROM x402_answers;",
        ["the completed one", "the completed task"],
    ),
    *(
        (
            "answer_was_bought",
            f"INSERT INTO x402_answers VALUES ('{whose}', 'sealed');",
            [whose],
        )
        for whose in (
            "the settled one",
            "the refund_due one",
            "the free one",
            "the claimed task",
            "nobody",
        )
    ),
    *(
        ("completed_is_whole", of(state, f"{column} = NULL"), [f"the {state} one"])
        for state in ("completed", "free")
        for column in ("model", "usage", "stop_reason", "ended_at")
    ),
    ("reruns_in_range", of("refund_due", "reruns = 4, attempt = 5"), ["the refund_due one"]),
    ("reruns_in_range", of("refund_due", "reruns = -1"), ["the refund_due one"]),
    ("attempts_count_reruns", of("refund_due", "reruns = 1"), ["the refund_due one"]),
    ("attempts_count_reruns", of("claimed", "attempt = 0"), ["the claimed one"]),
    ("released_unpaid", of("released", "\"transaction\" = '0x1'"), ["the released one"]),
    ("refund_noted", of("refunded", "refund_transaction = NULL"), ["the refunded one"]),
    ("refund_noted", of("completed", "refund_transaction = '0x1'"), ["the completed one"]),
    ("refund_noted", of("refund_due", "refund_transaction = '0x1'"), ["the refund_due one"]),
    ("money_is_integer", of("settled", "amount = 0.01"), ["the settled one"]),
    ("money_is_integer", of("released", "amount = -1"), ["the released one"]),
    ("money_is_integer", "UPDATE x402_resources SET price_usdc = {no_price};", [HAIKU.id]),
    ("money_is_integer", "UPDATE x402_resources SET price_usdc = -1;", [HAIKU.id]),
    ("template_exists", of("refunded", f"template_id = '{NOBODYS}'"), ["the refunded one"]),
    ("template_exists", of("free", "template_id = NULL"), ["the free one"]),
]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_an_amount_that_is_a_word_is_found_where_a_column_can_hold_it(shop: Planting) -> None:
    shop.loosen_money()
    shop.plant(of("claimed", "amount = 'ten'"))

    assert broken(shop) == {"money_is_integer": ["the claimed one"]}


def test_every_invariant_is_planted() -> None:
    assert {name for name, _, _ in PLANTED} == set(INVARIANTS)


@pytest.mark.parametrize(("name", "script", "rows"), PLANTED, ids=[name for name, *_ in PLANTED])
def test_a_planted_row_breaks_its_invariant_and_no_other(
    shop: Planting, play_money: DevelopmentLedger, name: str, script: str, rows: list[str]
) -> None:
    if name == "money_is_integer":
        shop.loosen_money()
    shop.plant(script)

    assert broken(shop) == {name: rows}
    assert audit(shop, play_money).check().broken, (
        "whatever a row holds, the check comes to its end"
    )


UNDER_WAY = {
    "a claim that is still opening": of("claimed", f"worker = 'gone', created_at = {NOW} - 147"),
    "an old claim of a worker that beats": of("claimed", f"created_at = {NOW} - 9999"),
    "a settlement just past its window": of("settling", f"valid_before = {NOW} - 117"),
    "a settlement with all the time there is": of("settling", f"valid_before = {2**63 - 1}"),
    "a run of the longest kind": of(
        "settled", f"worker = 'gone', created_at = {NOW} - 730, settled_at = {NOW} - 717"
    ),
    "a debt of last year that is run again": of(
        "settled", f"created_at = {NOW} - 5, settled_at = {NOW} - 31536000, reruns = 1, attempt = 2"
    ),
    "an answer of yesterday": (
        "DELETE FROM x402_answers;"
        + of("completed", f"ended_at = {NOW} - 86405")
        + task("completed", f"ended_at = {NOW} - 86405")
    ),
    "a debt that was run three times": of("refund_due", "reruns = 3, attempt = 4"),
    "two transfers of one transaction": (
        """UPDATE x402_executions SET log_index = 1, "transaction" = (
            SELECT "transaction" FROM x402_executions WHERE id = 'the settled one'
        ) WHERE id = 'the completed one';"""
    ),
    "a task that takes its time": task("claimed", f"worker = 'gone', created_at = {NOW} - 717"),
    "a free run that broke off": of("free", "state = 'released', usage = NULL, code = 'TIMEOUT'"),
}


@pytest.mark.parametrize("script", UNDER_WAY.values(), ids=UNDER_WAY)
def test_what_is_in_order_is_not_taken_for_a_fault(shop: Planting, script: str) -> None:
    shop.plant(script)

    assert broken(shop) == {}


def test_what_a_deleted_template_has_sold_is_in_order(shop: Planting) -> None:
    assert shop.catalogue.delete_template(shop.ada, HAIKU.id, 2000.0)

    assert broken(shop) == {}


def test_what_is_found_is_of_one_moment_and_changes_nothing(shop: Planting) -> None:
    before = shop.everything()

    shop.audit.findings(OPENING, RUN)
    audit(shop, None).check()

    assert shop.everything() == before
    shop.worker().ledger.beat("w2")  # nothing is left open in which somebody would wait


# the development ledger


def transaction_of(shop: Planting, state: str) -> str:
    entry = shop.audit.entry(f"the {state} one")
    assert entry is not None and entry.execution.transaction is not None
    return entry.execution.transaction


TRANSFERS = [
    (
        "transfer_has_row",
        f"INSERT INTO transfers VALUES ('0xff', '0xeve', '{PAY_TO}', 1, '0x1', {NOW} - 1)",
        ["0xff"],
    ),
    *(
        (
            "transfer_has_row",
            f"""INSERT INTO transfers VALUES
                ('0xff', '{PAYERS[State(state)]}', '0xelsewhere', 10000, '{NONCE}', {NOW} - 1)""",
            [f"the {state} one"],
        )
        for state in ("claimed", "released")
    ),
    *(
        (
            "row_has_transfer",
            f"DELETE FROM transfers WHERE payer = '{PAYERS[State(state)]}'",
            [f"the {state} one"],
        )
        for state in ("settled", "completed", "refund_due", "refunded")
    ),
    (
        "same_transaction",
        f"""UPDATE transfers SET transaction_hash = '0xff'
        WHERE payer = '{PAYERS[State.COMPLETED]}'""",
        ["the completed one"],
    ),
    (
        "same_amount",
        f"UPDATE transfers SET value = 9999 WHERE payer = '{PAYERS[State.REFUND_DUE]}'",
        ["the refund_due one"],
    ),
]


def test_every_invariant_of_play_money_is_planted() -> None:
    assert {name for name, _, _ in TRANSFERS} == set(PLAY_MONEY)


@pytest.mark.parametrize(
    ("name", "script", "rows"), TRANSFERS, ids=[name for name, *_ in TRANSFERS]
)
def test_a_planted_transfer_breaks_its_invariant_and_no_other(
    shop: Planting,
    play_money: DevelopmentLedger,
    tmp_path: Path,
    name: str,
    script: str,
    rows: list[str],
) -> None:
    with closing(sqlite3.connect(tmp_path / "play.sqlite3")) as connection:
        connection.executescript(script.replace("{now}", "unixepoch()"))

    (found,) = audit(shop, play_money).check().broken

    assert (found.name, found.rule, list(found.rows)) == (name, PLAY_MONEY[name], rows)
    assert audit(shop, None).check().broken == []


FINE_TRANSFERS = {
    "between strangers": ("0xeve", "0xbob", -1),
    "of a settlement whose outcome was lost": (PAYERS[State.SETTLING], PAY_TO, -1),
    "younger than the check": ("0xeve", PAY_TO, 60),
    "younger than the check, of a claim": (PAYERS[State.CLAIMED], PAY_TO, 60),
}


@pytest.mark.parametrize(("payer", "payee", "later"), FINE_TRANSFERS.values(), ids=FINE_TRANSFERS)
def test_a_transfer_that_is_none_of_our_faults_is_not_told(
    shop: Planting,
    play_money: DevelopmentLedger,
    tmp_path: Path,
    payer: str,
    payee: str,
    later: int,
) -> None:
    with closing(sqlite3.connect(tmp_path / "play.sqlite3")) as connection:
        connection.executescript(f"""INSERT INTO transfers VALUES
            ('0xff', '{payer}', '{payee}', 10000, '{NONCE}', unixepoch() + {later})""")

    assert audit(shop, play_money).check().broken == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sale_in_the_middle_of_a_check_is_not_taken_for_a_fault(
    store: Planting, play_money: DevelopmentLedger, when: str
) -> None:
    class Selling:
        def transfers(self) -> list[Transfer]:
            known = play_money.transfers()
            sold(store, play_money, State.SETTLED)
            return known if when == "after" else play_money.transfers()

    report = audit(store, Selling()).check()

    assert (report.broken, report.executions) == ([], 0)
    assert audit(store, play_money).check().executions == 1


# what is in it


def test_an_entry_is_the_whole_row_with_its_templates_name(shop: Planting) -> None:
    for state in State:
        entry = shop.audit.entry(f"the {state} one")

        assert entry is not None
        assert (entry.execution.state, entry.username, entry.slug) == (state, "ada", "haiku")
    assert shop.audit.entry("nothing") is None


def test_entries_come_newest_first_and_no_more_than_asked_for(shop: Planting) -> None:
    for number, state in enumerate(State, start=1):
        shop.plant(of(state, f"created_at = {NOW} + {number}"))

    page = shop.audit.entries(3)

    newest = [f"the {state} one" for state in reversed(State)]
    assert [each.execution.id for each in page.items] == newest[:3]
    assert (page.total, page.has_more) == (12, True)


@pytest.mark.parametrize("state", State)
def test_entries_of_one_state_are_those(shop: Planting, state: State) -> None:
    page = shop.audit.entries(100, state=state)

    ids = {each.execution.id for each in page.items}
    unpaid = {"the free one", "the owner_test one"} if state is State.COMPLETED else set()
    with_tasks = (State.CLAIMED, State.RELEASED, State.COMPLETED)
    tasks = {f"the {state} task"} if state in with_tasks else set()
    assert ids == {f"the {state} one"} | unpaid | tasks


def test_entries_of_a_slug_are_those_of_every_template_that_had_it(
    shop: Planting, play_money: DevelopmentLedger
) -> None:
    shop.catalogue.delete_template(shop.ada, HAIKU.id, 2000.0)
    for state, slug in (("settled", "haiku"), ("completed", "ode")):
        another = replace(HAIKU, id=str(uuid4()), owner_id=shop.ada, slug=slug)
        shop.catalogue.add_template(another)
        shop.plant(of(state, f"template_id = '{another.id}'"))

    haiku = shop.audit.entries(100, template=("ADA", "haiku"))
    ode = shop.audit.entries(100, template=("ada", "ode"), state=State.COMPLETED)

    assert (haiku.total, [each.execution.id for each in ode.items]) == (8, ["the completed one"])
    assert "the settled one" in {each.execution.id for each in haiku.items}
    assert shop.audit.entries(100, template=("ada", "ode"), state=State.SETTLED).total == 0


def test_a_template_that_nobody_knows_is_named(shop: Planting) -> None:
    books = audit(shop, None)
    unsold = replace(HAIKU, id=str(uuid4()), owner_id=shop.ada, slug="unsold")
    shop.catalogue.add_template(unsold)

    assert books.entries(5, template=("ada", "unsold")).total == 0
    with pytest.raises(NotFound, match="no template @ada/hiaku"):
        books.entries(5, template=("ada", "hiaku"))
    with pytest.raises(NotFound, match="no template @bob/haiku"):
        books.entries(5, State.SETTLED, template=("bob", "haiku"))


def test_a_row_whose_template_has_gone_can_be_looked_at(shop: Planting) -> None:
    shop.plant(of("settled", f"template_id = '{NOBODYS}'"))

    entry = shop.audit.entry("the settled one")

    assert entry is not None
    assert entry == Entry(entry.execution, None, None)
    assert shop.audit.entries(100).total == 12
