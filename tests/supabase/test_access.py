"""Who may look, and who may ask: the server alone, whatever a migration adds."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import errors

from tests.supabase.databases import Database, fresh
from tests.supabase.origin import ADA, AUTH, ORIGIN
from tests.supabase.rig import AS_SUPABASE, Rig
from x402jobs.adapters.migrations import migrate

OUTSIDERS = ("anon", "authenticated")
LOCK_UP = "x402_lock_up(text[])"
"""For migrations: whoever may call it owns the tables anyway."""

RELATIONS = """
    select relname as name, relkind::text as kind from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    order by 1"""
FUNCTIONS = """
    select oid::regprocedure::text as name, proname,
        coalesce(proargnames[1:pronargs], '{}') as names,
        (select coalesce(string_agg(
                case when provariadic <> 0 and place = pronargs then 'variadic ' else '' end
                || 'null::' || format_type(type, null), ', ' order by place), '')
            from unnest(proargtypes) with ordinality as each (type, place)) as nulls
    from pg_proc where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype
    order by 1"""
OPEN = """
    select grantee.name || ' may ' || lower(privilege) || ' ' || relname as found
    from pg_class, unnest(%s::text[]) as grantee (name),
        unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
            as privilege
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
        and relname <> all(%s::text[])
        and (has_table_privilege(grantee.name, oid, privilege)
            or privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
            and has_any_column_privilege(grantee.name, oid, privilege))
    union all
    select grantee.name || ' may execute ' || oid::regprocedure::text
    from pg_proc, unnest(%s::text[]) as grantee (name)
    where pronamespace = 'public'::regnamespace
        and has_function_privilege(grantee.name, oid, 'EXECUTE')
    order by 1"""
UNGUARDED = """
    select relname || ' has no row level security' as found from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity
    union all
    select tablename || ' has the policy ' || policyname from pg_policies
    where schemaname = 'public' and tablename <> all(%s::text[])
    order by 1"""
SHUT_OUT = """
    select 'may not ' || lower(privilege) || ' ' || relname as found
    from pg_class, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as privilege
    where relnamespace = 'public'::regnamespace and (relkind in ('r', 'p')
        or relkind in ('v', 'm') and privilege = 'SELECT')
        and not has_table_privilege('service_role', oid, privilege)
    union all
    select 'may not execute ' || oid::regprocedure::text from pg_proc
    where pronamespace = 'public'::regnamespace
        and not has_function_privilege('service_role', oid, 'EXECUTE')
    order by 1"""

ROWS = {
    "profiles": f"(id, username) values ('{ADA}', 'ada')",
    "x402_servers": f"(origin_url, name, registered_by) values ('https://ada', 'ada', '{ADA}')",
    "x402_resources": f"""(id, registered_by, resource_url, normalized_url, network, name, pay_to)
        values ('{ADA}', '{ADA}', 'https://ada', 'ada', 'base', 'Haiku', '0xada')""",
    "x402_user_claude_configs": f"(user_id, api_key_encrypted) values ('{ADA}', 'sealed')",
    "x402_payout_addresses": f"values ('{ADA}', '0xada')",
    "x402_executions": f"""(id, kind, state, attempt, worker, template_id, template_version, digest,
            caller_id, amount, created_at)
        values ('e1', 'free', 'completed', 1, 'w1', '{ADA}', 1, 'd1', '{ADA}', 0, 1)""",
    "x402_workers": "values ('w1', 1)",
    "x402_answers": "values ('e1', 'sealed')",
    "tiles": f"""(user_id, group_id, path, title, visibility, created_at, updated_at, preview,
            content)
        values ('{ADA}', 0, '', 'Root', 'public', 1, 1, '', 'All of it')""",
    "x402_peppers": "values ('p1', 'sealed')",
    "x402_sessions": f"values ('d1', '{ADA}', 1, 2)",
    "x402_api_keys": f"""(id, user_id, name, digest, created_at)
        values ('k1', '{ADA}', 'mine', 'd1', 1)""",
    "x402_internal_api_keys": f"""(id, user_id, purpose, digest, sealed_key, created_at)
        values ('k1', '{ADA}', 'tools', 'd1', 'sealed', 1)""",
}
"""A row in each table, ada's where it is anybody's."""


def found(database: Database, question: str, *values: object) -> list[str]:
    return [row["found"] for row in database.sql(question, *values)]


def open_doors(database: Database, but: tuple[str, ...] = ()) -> list[str]:
    """What somebody other than the server may do."""
    outsiders = [*OUTSIDERS, "public"]
    return found(database, OPEN, outsiders, list(but), outsiders)


@pytest.fixture(scope="module")
def shop(rig: Rig) -> Database:
    """A project's database that had nothing in it before our migrations.

    lite has never been there: where it meets row level security it grants every table to everybody.
    """
    database = fresh(rig.postgres)
    database.sql(AS_SUPABASE)
    migrate(database.url)
    return database


@pytest.fixture
def full(shop: Database) -> Iterator[Database]:
    """The shop's database with a row in each table."""
    for table, row in ROWS.items():
        shop.sql(f"insert into public.{table} {row}")
    yield shop
    shop.sql(f"truncate {', '.join(ROWS)}")


@pytest.fixture(scope="module")
def plain(rig: Rig) -> Database:
    """A Postgres that grants service_role nothing by itself."""
    database = fresh(rig.postgres)
    migrate(database.url)
    return database


@pytest.fixture(scope="module")
def origin(rig: Rig) -> Database:
    """A project of the origin service's, with its policies."""
    database = fresh(rig.postgres)
    database.sql(AS_SUPABASE)
    database.sql(AUTH)
    database.sql(ORIGIN)
    migrate(database.url)
    return database


def test_every_table_is_locked_by_row_and_no_policy_opens_one(
    shop: Database, plain: Database
) -> None:
    assert found(shop, UNGUARDED, []) == []
    assert found(plain, UNGUARDED, []) == []


def test_no_privilege_is_left_to_anybody_but_the_server(shop: Database, plain: Database) -> None:
    assert open_doors(shop) == []
    assert open_doors(plain) == []


def test_the_server_may_all_that_the_product_does(shop: Database, plain: Database) -> None:
    assert found(shop, SHUT_OUT) == [f"may not execute {LOCK_UP}"]
    assert found(plain, SHUT_OUT) == [f"may not execute {LOCK_UP}"]
    with plain.seen_by("service_role") as connection:
        assert connection.execute("select public.x402_now() > 0").fetchone() == (True,)


def test_a_row_for_each_table_is_tried_below(shop: Database) -> None:
    tables = [row["name"] for row in shop.sql(RELATIONS) if row["kind"] in "rp"]

    assert tables == sorted(ROWS)


def tried(connection: psycopg.Connection, statement: str) -> str:
    """How many rows it was about, that it is forbidden, or what stopped it after all."""
    try:
        with connection.transaction(force_rollback=True):
            return str(connection.execute(statement.encode()).rowcount)
    except errors.InsufficientPrivilege:
        return "forbidden"
    except psycopg.Error as error:
        return type(error).__name__


STATEMENTS = {
    "select": "select * from public.{table}",
    "insert": "insert into public.{table} {row}",
    "update": "update public.{table} set {column} = {column}",
    "delete": "delete from public.{table}",
}


def outcomes(database: Database, role: str) -> dict[tuple[str, str], str]:
    """Each table and statement, as ada."""
    outcomes = {}
    with database.seen_by(role, ADA) as connection:
        for table, row in ROWS.items():
            (column,) = connection.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum = 1",
                (f"public.{table}",),
            ).fetchone() or ("?",)
            for name, statement in STATEMENTS.items():
                text = statement.format(table=table, row=row, column=column)
                outcomes[table, name] = tried(connection, text)
    return outcomes


@pytest.mark.parametrize("role", OUTSIDERS)
def test_nobody_reads_or_writes_a_table_not_even_what_is_their_own(
    full: Database, role: str
) -> None:
    said = outcomes(full, role)

    assert {each: outcome for each, outcome in said.items() if outcome != "forbidden"} == {}
    with full.seen_by("service_role") as server:
        read = {table: tried(server, f"select * from public.{table}") for table in ROWS}
        written = {table: tried(server, f"delete from public.{table}") for table in ROWS
                   if table.startswith("x402_a")}  # fmt: skip
    assert read == dict.fromkeys(ROWS, "1")
    assert written == dict.fromkeys(written, "1")


@pytest.mark.parametrize("role", OUTSIDERS)
def test_where_somebody_grants_everything_again_the_second_lock_holds(
    full: Database, role: str
) -> None:
    """The dashboard of a project grants with a click."""
    full.sql(f"grant all on all tables in schema public to {role}")
    try:
        said = outcomes(full, role)
    finally:
        full.sql(f"revoke all on all tables in schema public from {role}")

    kept = {"select": "0", "insert": "forbidden", "update": "0", "delete": "0"}
    assert said == {(table, name): kept[name] for table in ROWS for name in STATEMENTS}


@pytest.mark.parametrize("role", OUTSIDERS)
def test_nobody_executes_a_function_or_looks_at_a_view(full: Database, role: str) -> None:
    functions = full.sql(FUNCTIONS)
    views = [row["name"] for row in full.sql(RELATIONS) if row["kind"] in "vm"]
    asked = {
        row["name"]: f"select public.{row['proname']}({row['nulls']})" for row in functions
    } | {view: f"select * from public.{view}" for view in views}

    with full.seen_by(role, ADA) as connection:
        said = {name: tried(connection, statement) for name, statement in asked.items()}

    assert len(functions) > 60
    assert {name: outcome for name, outcome in said.items() if outcome != "forbidden"} == {}


def test_the_publishable_key_opens_nothing(rig: Rig) -> None:
    """lite may hide the rows of a table where PostgREST refuses it; functions both refuse."""
    rig.empty()
    for table, row in ROWS.items():
        rig.sql(f"insert into public.{table} {row}")
    tables = [row["name"] for row in rig.sql(RELATIONS) if row["kind"] != "S"]
    functions = [
        (f"rpc/{row['proname']}", dict.fromkeys(row["names"])) for row in rig.sql(FUNCTIONS)
    ]

    def ask(key: str, method: str, door: str, body: object = None) -> httpx.Response:
        url, headers = f"{rig.url}/rest/v1/{door}", {"apikey": key}
        return http.request(method, url, headers=headers, json=body)

    with httpx.Client(trust_env=False, timeout=20) as http:
        shown = {table: ask(rig.publishable_key, "GET", table).text for table in tables}
        refused = {
            door: ask(rig.publishable_key, "POST", door, arguments).json()["code"]
            for door, arguments in functions
        }
        for table in tables:
            ask(rig.publishable_key, "DELETE", f"{table}?limit=1")
        ours = {table: len(ask(rig.secret_key, "GET", table).json()) for table in ROWS}
        now = ask(rig.secret_key, "POST", "rpc/x402_now", {})

    hidden = {table for table, rows in shown.items() if rows == "[]" or '"42501"' in rows}
    assert hidden == set(tables)
    assert {door: code for door, code in refused.items() if code != "42501"} == {}
    assert (ours, now.status_code) == (dict.fromkeys(ROWS, 1), 200)


def test_what_a_later_migration_makes_is_locked_by_its_last_line(rig: Rig) -> None:
    later = fresh(rig.postgres)
    later.sql(AS_SUPABASE)
    migrate(later.url)
    later.sql("""
        create table public.x402_later (id text);
        create view public.x402_later_view as select * from public.x402_later;
        create function public.x402_ask_later(given text default '') returns text
            language sql as 'select given'""")
    opened = open_doors(later)

    later.sql("select public.x402_lock_up('x402_later')")

    assert {"anon may select x402_later", "authenticated may select x402_later_view"} <= {*opened}
    assert "public may execute x402_ask_later(text)" in opened
    assert open_doors(later) == found(later, UNGUARDED, []) == []
    assert found(later, SHUT_OUT) == [f"may not execute {LOCK_UP}"]


@pytest.mark.parametrize("role", [*OUTSIDERS, "service_role"])
def test_nobody_opens_a_lock_from_outside(plain: Database, role: str) -> None:
    with plain.seen_by(role) as connection:
        assert tried(connection, "select public.x402_lock_up('profiles')") == "forbidden"


# Where the origin service has been


def test_what_the_origin_published_is_still_published_and_its_sealed_keys_are_not(
    origin: Database,
) -> None:
    shown = ("profiles", "x402_transactions")

    with origin.seen_by("anon") as anybody:
        profiles = tried(anybody, "select * from public.profiles")
        others = tried(anybody, "select * from public.x402_transactions")
        touched = tried(anybody, "update public.profiles set username = 'mine'")
    with origin.seen_by("authenticated", ADA) as ada:
        own = tried(ada, "update public.profiles set display_name = 'Ada'")
        key = tried(ada, "select api_key_encrypted from public.x402_user_claude_configs")

    assert (profiles, others, touched, own, key) == ("2", "1", "0", "1", "forbidden")
    assert open_doors(origin, but=shown) == []
    assert found(origin, UNGUARDED, list(shown)) == []
    assert found(origin, SHUT_OUT) == [f"may not execute {LOCK_UP}"]


def test_the_origins_own_data_is_what_it_was(origin: Database) -> None:
    keys: list[dict[str, Any]] = origin.sql(
        "select api_key_encrypted as key from public.x402_user_claude_configs order by 1"
    )

    assert [row["key"] for row in keys] == ["00:11", "22:33"]
    assert origin.sql("select slug, network, pt_system_prompt from public.x402_resources") == [
        {"slug": "haiku", "network": "base", "pt_system_prompt": "Three lines."}
    ]
