"""What goes with an account, and what stays."""

from typing import Any

import pytest

from tests.supabase.databases import Database, fresh
from tests.supabase.origin import ADA, AUTH, BOB, ORIGIN
from tests.supabase.rig import Rig
from x402jobs.adapters.migrations import migrate

FOREIGN_KEYS = """
    select conname, convalidated from pg_constraint
    where conrelid = 'public.profiles'::regclass and contype = 'f'"""
OWN = (
    "profiles",
    "tiles",
    "x402_user_claude_configs",
    "x402_payout_addresses",
    "x402_sessions",
    "x402_api_keys",
    "x402_internal_api_keys",
)
"""Where an account's own things are."""


def account(user: str, name: str) -> str:
    """Somebody with everything: a template that has sold among it, and a tile."""
    return f"""
        insert into public.profiles (id, username) values ('{user}', '{name}')
            on conflict do nothing;
        insert into public.x402_user_claude_configs (user_id, api_key_encrypted)
            values ('{user}', 'sealed') on conflict do nothing;
        insert into public.x402_payout_addresses values ('{user}', '0xada');
        insert into public.x402_sessions values ('session of {name}', '{user}', 1, 2);
        insert into public.x402_api_keys (id, user_id, name, digest, created_at)
            values ('key of {name}', '{user}', 'mine', 'd', 1);
        insert into public.x402_internal_api_keys
            (id, user_id, purpose, digest, sealed_key, created_at)
            values ('{name}', '{user}', 'tools', 'digest of {name}', 'sealed', 1);
        insert into public.tiles (user_id, group_id, path, title, visibility, created_at,
            updated_at, preview, content)
            values ('{user}', 0, '', 'Root', 'public', 1, 1, '', 'All of it');
        insert into public.x402_resources (id, registered_by, slug, resource_url, normalized_url,
            network, name, pay_to, resource_type, pt_system_prompt)
            values ('{user}', '{user}', 'sold', 'https://shop.example/@{name}/sold',
            '{name}/sold', 'base', 'Sold', '0xada', 'prompt_template', 'sealed');
        insert into public.x402_executions (id, kind, state, attempt, worker, claim_key,
            template_id, template_version, digest, caller_id, payer, network, amount, transaction,
            created_at)
            values ('sale of {name}', 'paid', 'refund_due', 1, 'w', 'claim of {name}', '{user}',
            1, 'd', '{user}', '0xb0b', 'eip155:8453', 10000, '0x1', 1);"""


def new_project(rig: Rig) -> Database:
    """Accounts, and nothing of anybody's before our migrations."""
    database = fresh(rig.postgres)
    database.sql(AUTH)
    migrate(database.url)
    return database


def the_origins_project(rig: Rig) -> Database:
    database = fresh(rig.postgres)
    database.sql(AUTH + ORIGIN)
    migrate(database.url)
    return database


def orphaned_by_hand(rig: Rig) -> Database:
    """No accounts, so that profiles are removed one by one."""
    database = fresh(rig.postgres)
    migrate(database.url)
    return database


def whose(database: Database) -> dict[str, list[str]]:
    """The users with something in each table of OWN."""
    owners = {}
    for table in OWN:
        column = "id" if table == "profiles" else "user_id"
        rows = database.sql(f"select {column}::text as user from public.{table} order by 1")
        owners[table] = [row["user"] for row in rows]
    return owners


@pytest.mark.parametrize("project", [new_project, the_origins_project, orphaned_by_hand])
def test_an_account_takes_its_own_along_and_leaves_what_was_sold(rig: Rig, project: Any) -> None:
    database = project(rig)
    database.sql(account(ADA, "ada") + account(BOB, "bob"))
    before = database.sql("select * from public.x402_executions order by id")

    if project is orphaned_by_hand:
        database.sql("delete from public.profiles where id = %s", ADA)
    else:
        database.sql("delete from auth.users where id = %s", ADA)

    assert whose(database) == {table: [BOB] for table in OWN}
    assert database.sql("select * from public.x402_executions order by id") == before
    kept = """select id::text, is_active, deleted_at is not null as deleted,
        pt_system_prompt as prompt, registered_by::text as owner
        from public.x402_resources where slug = 'sold' order by id"""
    assert database.sql(kept) == [
        {"id": ADA, "is_active": False, "deleted": True, "prompt": None, "owner": None},
        {"id": BOB, "is_active": True, "deleted": False, "prompt": "sealed", "owner": BOB},
    ]


def test_the_server_may_remove_an_account_too(rig: Rig) -> None:
    """As service_role, with what the migrations grant it."""
    database = new_project(rig)
    database.sql(account(ADA, "ada"))

    with database.seen_by("service_role") as server:
        gone = server.execute("delete from public.profiles where id = %s", (ADA,))
        left = server.execute("select pt_system_prompt from public.x402_resources").fetchall()

    assert (gone.rowcount, left) == (1, [(None,)])


def test_a_template_that_changes_hands_or_is_no_prompt_is_left_alone(rig: Rig) -> None:
    database = new_project(rig)
    database.sql(account(ADA, "ada") + account(BOB, "bob"))
    database.sql("update public.x402_resources set resource_type = 'static' where id = %s", BOB)
    database.sql("update public.x402_resources set registered_by = %s where id = %s", BOB, ADA)
    database.sql("update public.x402_resources set registered_by = null where id = %s", BOB)

    assert database.sql("select is_active, pt_system_prompt as prompt from public.x402_resources") \
        == [{"is_active": True, "prompt": "sealed"}] * 2  # fmt: skip


def test_where_there_are_accounts_a_profile_is_one_of_them(rig: Rig) -> None:
    database = new_project(rig)

    assert database.sql(FOREIGN_KEYS) == [{"conname": "profiles_account", "convalidated": True}]


def test_the_foreign_key_that_the_origin_has_is_enough(rig: Rig) -> None:
    database = the_origins_project(rig)

    assert [row["conname"] for row in database.sql(FOREIGN_KEYS)] == ["profiles_id_fkey"]


def test_without_accounts_nothing_points_at_them(rig: Rig) -> None:
    assert orphaned_by_hand(rig).sql(FOREIGN_KEYS) == []


def test_profiles_without_an_account_stay_and_it_is_said(rig: Rig) -> None:
    database = fresh(rig.postgres)
    database.sql(AUTH)
    database.sql("""
        create table public.profiles (
            id uuid primary key, username text unique, created_at timestamptz default now()
        )""")
    nobody = "e0e00000-0000-4000-8000-000000000000"
    database.sql("insert into public.profiles (id) values (%s), (%s)", ADA, nobody)
    warnings: list[str] = []

    migrate(database.url, warn=warnings.append)

    (warning,) = warnings
    assert warning.startswith("Some profiles have no account in auth.users. They stay")
    assert database.sql(FOREIGN_KEYS) == [{"conname": "profiles_account", "convalidated": False}]
    database.sql("delete from auth.users where id = %s", ADA)
    assert len(database.sql("select id from public.profiles")) == 1
    database.sql("delete from public.profiles")
    database.sql(warning.partition("gone: ")[2])
    assert database.sql(FOREIGN_KEYS)[0]["convalidated"]


def test_it_may_all_be_applied_again(rig: Rig) -> None:
    database = the_origins_project(rig)
    database.sql("delete from supabase_migrations.schema_migrations")

    migrate(database.url)

    assert len(database.sql(FOREIGN_KEYS)) == 1
