"""The two schemas say the same, but for what differs on purpose."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.supabase.databases import Database
from tests.supabase.rig import Rig
from x402jobs.adapters.sqlite import embedded_store

# What differs on purpose. An entry that differs no more has to go.

TABLES_OF_THE_ORIGIN = {"x402_servers"}
"""Between a creator and their templates; the embedded store has nobody else's shops."""

COLUMNS_ON_SUPABASE_ALONE = {
    "profiles.created_at": "the origin's",
    "profiles.deleted_at": "the origin's: an account is deleted by switching it off",
    "x402_resources.server_id": "the origin's, and the way to a template",
    "x402_resources.resource_url": "the origin's, which demands it",
    "x402_resources.normalized_url": "the origin's, which demands it",
    "x402_resources.pay_to": "the origin's, which demands it",
    "x402_resources.max_amount_required": "the origin's",
    "x402_resources.resource_type": "the origin's: it has other kinds",
    "x402_user_claude_configs.created_at": "the origin's",
    "x402_user_claude_configs.updated_at": "the origin's",
    "x402_executions.taken_by": "a take-over that is repeated finds its own; SQLite repeats none",
}  # fmt: skip

TYPES = {
    ("text", "TEXT"),
    ("uuid", "TEXT"),
    ("jsonb", "TEXT"),
    ("integer", "INTEGER"),
    ("bigint", "INTEGER"),
    ("boolean", "INTEGER"),
    ("double precision", "REAL"),
}
"""A type of Postgres and the one of SQLite that says the same."""

OTHER_TYPES = {
    "x402_resources.price_usdc": "the origin's numeric USDC, ours micro-USDC",
    "x402_resources.pt_model": "the origin's varchar",
    "x402_resources.created_at": "the origin's timestamptz",
    "x402_resources.updated_at": "the origin's timestamptz",
    "x402_resources.deleted_at": "timestamptz, beside the origin's",
}

NULL_ON_SUPABASE_ALONE = {
    "x402_resources.registered_by": "a template whose account is gone has no owner",
    "x402_resources.slug": "the origin's other kinds have none",
    "x402_resources.description": "the origin's is optional",
    "x402_resources.price_usdc": "the origin's is optional",
    "x402_resources.pt_system_prompt": "the origin's other kinds have none",
    "x402_resources.pt_parameters": "the origin's other kinds have none",
    "x402_resources.pt_model": "the origin's other kinds have none",
    "x402_resources.pt_max_tokens": "the origin's other kinds have none",
    "x402_resources.pt_allows_user_message": "the origin's is optional",
    "x402_user_claude_configs.is_enabled": "the origin's is optional",
}

KEYS_OF_ONE = {
    "profiles ()": "Supabase: in any letter case, which is a property of SQLite's column",
    "x402_resources (registered_by, slug) where deleted_at is null":
        "SQLite: an owner is a shop",
    "x402_resources (server_id, slug) where slug is not null and deleted_at is null":
        "Supabase: as the origin's",
}  # fmt: skip
"""Said in each in its own way: a slug is one kept template's, and a name one account's."""

FOREIGN_KEYS_OF_ONE = {
    "x402_resources (registered_by) -> profiles (id)":
        "SQLite: with the origin it is auth.users, which only Supabase has",
    "x402_resources (server_id) -> x402_servers (id)": "Supabase: the origin's",
}  # fmt: skip

IGNORES_CASE = {
    "profiles.username": "SQLite: on Supabase ours are lower-case, the origin's as they are",
}


@dataclass(frozen=True)
class Schema:
    """What a database says of itself, in words that both have."""

    columns: Mapping[str, str]
    null: frozenset[str]
    primary: Mapping[str, tuple[str, ...]]
    unique: frozenset[str]
    foreign: frozenset[str]

    @property
    def tables(self) -> set[str]:
        return set(self.primary)


def key(table: str, columns: list[str], where: str | None) -> str:
    """A unique key; its condition as both write it."""
    told = f"{table} ({', '.join(columns)})"
    if not where:
        return told
    plain = re.sub(r'::text|[()"]', "", where).lower()
    return f"{told} where {' '.join(plain.split())}"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """The embedded store's file, as its first use makes it."""
    directory = tmp_path_factory.mktemp("embedded")
    store = embedded_store(directory)
    store.ledger.beat("w1")
    store.database.close()
    with closing(sqlite3.connect(directory / "x402jobs.sqlite3")) as connection:
        connection.execute("pragma foreign_keys = on")
        yield connection


TABLES = "select name from sqlite_schema where type = 'table' and name not like 'sqlite%'"


@pytest.fixture(scope="module")
def ours(embedded: sqlite3.Connection) -> Schema:
    tables = [name for (name,) in embedded.execute(TABLES)]
    columns, null, primary, unique, foreign = {}, set(), {}, set(), set()
    for table in tables:
        places = {}
        for _, name, kind, not_null, _, place in embedded.execute(f"pragma table_info({table})"):
            columns[f"{table}.{name}"] = kind
            if place:  # SQLite lets a text that is a primary key be null; nothing of ours does
                places[place] = name
            elif not not_null:
                null.add(f"{table}.{name}")
        primary[table] = tuple(places[place] for place in sorted(places))
        for _, index, is_unique, origin, _ in embedded.execute(f"pragma index_list({table})"):
            if not is_unique or origin == "pk":
                continue
            parts = [name for _, _, name, _, _, is_key
                     in embedded.execute(f"pragma index_xinfo({index})") if is_key]  # fmt: skip
            ((sql,),) = embedded.execute("select sql from sqlite_schema where name = ?", (index,))
            where = re.split(r"\bWHERE\b", sql or "")[1:]
            unique.add(key(table, parts, "".join(where)))
        for _, _, to, column, other, *_ in embedded.execute(f"pragma foreign_key_list({table})"):
            foreign.add(f"{table} ({column}) -> {to} ({other})")
    return Schema(columns, frozenset(null), primary, frozenset(unique), frozenset(foreign))


@pytest.fixture(scope="module")
def database(rig: Rig) -> Database:
    return Database(rig.postgres, rig.database)


COLUMNS = """
    select relname || '.' || attname as name, format_type(atttypid, null) as type, attnotnull
    from pg_attribute join pg_class on pg_class.oid = attrelid
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
        and attnum > 0 and not attisdropped"""
KEYS = """
    select relname as table, indisprimary, pg_get_expr(indpred, indrelid) as where, array(
        select attname::text from unnest(indkey) with ordinality as each (number, place)
        join pg_attribute on attrelid = indrelid and attnum = number order by place
    ) as columns
    from pg_index join pg_class on pg_class.oid = indrelid
    where relnamespace = 'public'::regnamespace and indisunique"""
FOREIGN_KEYS = r"""
    select relname || regexp_replace(pg_get_constraintdef(pg_constraint.oid),
        '^FOREIGN KEY( \(.*\)) REFERENCES (?:public\.)?(\w+)(\(.*?\)).*$', '\1 -> \2 \3') as name
    from pg_constraint join pg_class on pg_class.oid = conrelid
    where relnamespace = 'public'::regnamespace and contype = 'f'
        and confrelid <> coalesce(to_regclass('auth.users'), 0)"""


@pytest.fixture(scope="module")
def theirs(database: Database) -> Schema:
    columns = database.sql(COLUMNS)
    keys = database.sql(KEYS)
    return Schema(
        {row["name"]: row["type"] for row in columns},
        frozenset(row["name"] for row in columns if not row["attnotnull"]),
        {row["table"]: tuple(row["columns"]) for row in keys if row["indisprimary"]},
        frozenset(
            key(row["table"], row["columns"], row["where"])
            for row in keys
            if not row["indisprimary"]
        ),
        frozenset(row["name"] for row in database.sql(FOREIGN_KEYS)),
    )


def without_origins(names: Any) -> set[str]:
    """Leaves out what is in a table of the origin's alone."""
    return {name for name in names if re.split(r"[. ]", name)[0] not in TABLES_OF_THE_ORIGIN}


def test_both_have_the_same_tables(ours: Schema, theirs: Schema) -> None:
    assert theirs.tables - ours.tables == TABLES_OF_THE_ORIGIN
    assert ours.tables - theirs.tables == set()


def test_both_have_the_same_columns(ours: Schema, theirs: Schema) -> None:
    more = without_origins(theirs.columns) - set(ours.columns)

    assert more == set(COLUMNS_ON_SUPABASE_ALONE)
    assert set(ours.columns) - set(theirs.columns) == set()


def test_columns_hold_the_same(ours: Schema, theirs: Schema) -> None:
    shared = ours.columns.keys() & theirs.columns.keys()

    other = {name for name in shared if (theirs.columns[name], ours.columns[name]) not in TYPES}

    assert other == set(OTHER_TYPES)


def test_the_same_columns_may_be_null(ours: Schema, theirs: Schema) -> None:
    shared = ours.columns.keys() & theirs.columns.keys()

    assert (theirs.null - ours.null) & shared == set(NULL_ON_SUPABASE_ALONE)
    assert (ours.null - theirs.null) & shared == set()


def test_rows_have_the_same_primary_keys(ours: Schema, theirs: Schema) -> None:
    assert {table: theirs.primary.get(table) for table in ours.primary} == ours.primary


def test_the_same_things_are_there_once(ours: Schema, theirs: Schema) -> None:
    assert ours.unique ^ without_origins(theirs.unique) == set(KEYS_OF_ONE)


def test_rows_point_at_the_same_rows(ours: Schema, theirs: Schema) -> None:
    assert ours.foreign ^ without_origins(theirs.foreign) == set(FOREIGN_KEYS_OF_ONE)


def test_only_usernames_ignore_their_case(embedded: sqlite3.Connection) -> None:
    said = embedded.execute("select sql from sqlite_schema where name not like 'sqlite%'")
    found = [line for (sql,) in said for line in (sql or "").splitlines() if "NOCASE" in line]

    assert [line.split()[0] for line in found] == [name.split(".")[1] for name in IGNORES_CASE]


# What each refuses

OWNER = "ada00000-0000-4000-8000-000000000000"
PAID = {
    "id": "e1", "kind": "paid", "state": "claimed", "attempt": 1, "worker": "w1",
    "claim_key": "c1", "template_id": OWNER, "template_version": 1, "digest": "d1",
    "payer": "0xb0b", "network": "eip155:8453", "amount": 1, "created_at": 1.0,
}  # fmt: skip
TASK = {
    "id": "e1", "kind": "task", "state": "claimed", "attempt": 1, "worker": "w1", "digest": "d1",
    "tile": "ada,0:1", "caller_id": OWNER, "amount": 0, "created_at": 1.0,
}  # fmt: skip
TILE = {
    "user_id": OWNER, "group_id": 0, "path": "12", "title": "T", "visibility": "private",
    "created_at": 1.0, "updated_at": 1.0, "preview": "", "content": "",
}  # fmt: skip
TEMPLATE: dict[str, Any] = {
    "id": "b0b00000-0000-4000-8000-000000000000", "registered_by": OWNER, "slug": "more",
    "name": "More", "price_usdc": 1, "network": "base", "pt_system_prompt": "sealed",
    "pt_model": "claude", "pt_max_tokens": 100,
}  # fmt: skip
INFERRED = {"resource_url": "https://x", "normalized_url": "x", "pay_to": "0xada"}
"""What Postgres demands of a template besides."""

PROBES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("x402_executions", PAID, {}, True),
    ("x402_executions", PAID, {"kind": "gift"}, False),
    ("x402_executions", PAID, {"state": "lost"}, False),
    ("x402_executions", PAID, {"amount": -1}, False),
    ("x402_executions", PAID, {"amount": 0}, False),
    ("x402_executions", PAID, {"claim_key": None}, False),
    ("x402_executions", PAID, {"payer": None}, False),
    ("x402_executions", PAID, {"network": None}, False),
    ("x402_executions", PAID, {"kind": "free", "amount": 0, "claim_key": None}, True),
    ("x402_executions", PAID, {"kind": "owner_test", "amount": 0, "payer": None}, True),
    ("x402_executions", PAID, {"kind": "free", "amount": -1}, False),
    ("x402_executions", PAID, {"reruns": 3}, True),
    ("x402_executions", PAID, {"reruns": 4}, False),
    ("x402_executions", PAID, {"reruns": -1}, False),
    ("x402_executions", PAID, {"state": "settling"}, True),
    ("x402_executions", PAID, {"state": "released"}, True),
    *(
        ("x402_executions", PAID, {"state": state, "transaction": transaction}, bool(transaction))
        for state in ("settled", "completed", "refund_due", "refunded")
        for transaction in (None, "0x1")
    ),
    ("x402_executions", PAID, {"kind": "free", "state": "completed"}, True),
    ("x402_executions", PAID, {"template_id": None}, False),
    ("x402_executions", PAID, {"template_version": None}, False),
    ("x402_executions", PAID, {"tile": "ada,0:1"}, False),
    ("x402_executions", TASK, {}, True),
    ("x402_executions", TASK, {"tile": None}, False),
    ("x402_executions", TASK, {"caller_id": None}, False),
    ("tiles", TILE, {}, True),
    ("tiles", TILE, {"group_id": -1}, False),
    ("tiles", TILE, {"path": "7"}, False),
    ("tiles", TILE, {"path": "g"}, False),
    ("tiles", TILE, {"path": "A"}, False),
    ("tiles", TILE, {"path": "1\n"}, False),
    ("tiles", TILE, {"path": "abcdef123456"}, True),
    ("tiles", TILE, {"path": "1" * 101}, True),
    ("tiles", TILE, {"path": "1" * 102}, False),
    ("tiles", TILE, {"path": ""}, True),
    ("tiles", TILE, {"visibility": "shared"}, False),
    ("tiles", TILE, {"visibility": "public"}, True),
    ("tiles", TILE, {"path": "10", "hexplan": "{}"}, True),
    ("tiles", TILE, {"path": "10"}, False),
    ("tiles", TILE, {"hexplan": "{}"}, False),
    ("tiles", TILE, {"path": "10", "hexplan": "{}", "visibility": "public"}, False),
    ("x402_resources", TEMPLATE, {}, True),
    ("x402_resources", TEMPLATE, {"pt_max_tokens": 1}, True),
    ("x402_resources", TEMPLATE, {"pt_max_tokens": 8192}, True),
    ("x402_resources", TEMPLATE, {"pt_max_tokens": 0}, False),
    ("x402_resources", TEMPLATE, {"pt_max_tokens": 8193}, False),
    ("x402_resources", TEMPLATE, {"is_active": False, "deleted_at": "2026-11-21"}, True),
    ("x402_resources", TEMPLATE, {"deleted_at": "2026-11-21"}, False),
]
"""A table, a row, what is changed of it, and whether it is let in."""

CHECKS_OF_ONE = {
    "x402_resources_network": "Supabase: the origin has a check, which knows our networks too",
    "price_usdc >= 0": "SQLite: the origin's numeric has no bound",
    "is_active IN (0, 1)": "SQLite has no booleans",
    "is_enabled IN (0, 1)": "SQLite has no booleans",
    "pt_allows_user_message IN (0, 1)": "SQLite has no booleans",
}


@pytest.fixture
def stocked(rig: Rig, embedded: sqlite3.Connection) -> Iterator[None]:
    """An account and a template to point at, in both."""
    rig.empty()
    rig.sql("insert into public.profiles (id) values (%s)", OWNER)
    template = TEMPLATE | {"id": OWNER, "slug": "haiku"}
    rig.sql(*_insert("public.x402_resources", template | INFERRED, "%s"))
    embedded.execute("insert into profiles (id) values (?)", (OWNER,))
    sql, *values = _insert("x402_resources", template | STAMPED, "?")
    embedded.execute(sql, values)
    yield
    embedded.rollback()
    rig.empty()


STAMPED = {"created_at": 1.0, "updated_at": 1.0}


def _insert(table: str, row: Mapping[str, Any], mark: str) -> tuple[Any, ...]:
    names = ", ".join(f'"{name}"' for name in row)
    return (f"insert into {table} ({names}) values ({', '.join([mark] * len(row))})", *row.values())


def refused_by_postgres(connection: psycopg.Connection, table: str, row: dict[str, Any]) -> str:
    """The check that refuses it; empty when it is let in."""
    text, *values = _insert(f"public.{table}", row, "%s")
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(text, values)
    except errors.CheckViolation as error:
        return error.diag.constraint_name or "?"
    return ""


def refused_by_sqlite(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> str:
    text, *values = _insert(table, row, "?")
    connection.execute("savepoint probe")
    try:
        connection.execute(text, values)
    except sqlite3.IntegrityError as error:
        kind, _, check = str(error).partition(": ")
        assert kind == "CHECK constraint failed", error
        return check
    finally:
        connection.execute("rollback to probe")
    return ""


@pytest.mark.usefixtures("stocked")
def test_both_refuse_the_same_rows_and_each_check_refuses_one(
    database: Database, embedded: sqlite3.Connection
) -> None:
    wrong, by_postgres, by_sqlite = [], set(), set()
    with psycopg.connect(database.url) as connection:
        for table, row, changes, let_in in PROBES:
            probe = row | changes
            there = probe | (INFERRED if row is TEMPLATE else {})
            here = probe | (STAMPED if row is TEMPLATE else {})
            if "deleted_at" in here:
                here["deleted_at"] = 1.0
            said = refused_by_postgres(connection, table, there)
            by_postgres.add(said)
            ours = refused_by_sqlite(embedded, table, here)
            by_sqlite.add(ours)
            if {said == "", ours == ""} != {let_in}:
                wrong.append((table, changes, said, ours))

    assert wrong == []
    checks = {row["conname"] for row in database.sql(CHECKS)}
    written = {
        check
        for (sql,) in embedded.execute("select sql from sqlite_schema where sql is not null")
        for check in checks_in(sql)
    }
    unused = (checks - by_postgres) | (written - {squeezed(check) for check in by_sqlite})
    assert unused == set(CHECKS_OF_ONE)


CHECKS = """
    select conname from pg_constraint
    where contype = 'c' and connamespace = 'public'::regnamespace"""


def checks_in(sql: str) -> Iterator[str]:
    """What stands in the parentheses of each CHECK."""
    for found in re.finditer(r"\bCHECK \(", sql):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        yield squeezed(sql[found.end() : end - 1])


def squeezed(text: str) -> str:
    """On one line. SQLite's message has the check as it is written."""
    return " ".join(text.split())
