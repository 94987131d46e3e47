"""Moving over: our migrations on a database where the origin service lives, with its rows."""

import base64
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from tests import origin
from tests.conftest import PAY_TO, RAIN, decoded, events
from tests.supabase.databases import fresh
from tests.supabase.front import LOST
from tests.supabase.rig import AS_SUPABASE, Rig, project
from x402jobs import stores
from x402jobs.adapters.migrations import migrate, migrations
from x402jobs.app import create_app
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.wallet import Wallet, sign
from x402jobs.domain.errors import Conflict, SlugTaken, Unauthenticated
from x402jobs.domain.listing import ClaudeConfig, Listing
from x402jobs.domain.secret import Secret
from x402jobs.ports import Store
from x402jobs.services import Services
from x402jobs.settings import Settings
from x402jobs.wiring import build_services

BEFORE = (Path(__file__).parent / "origin.sql").read_text()
ORLA, QUIN = (f"0a000000-0000-4000-8000-00000000000{number}" for number in "13")
NOBODY = "0a000000-0000-4000-8000-000000000009"
"""An account that Supabase Auth does not have."""
POET, RETIRED, RELAY, NOTES, PARROT, SECOND_POET, STRANDED, _, UNHOSTED, ESSAY, ORPHAN, BARE = (
    f"0c000000-0000-4000-8000-{number:012}" for number in range(1, 13)
)
TABLES = (
    "profiles", "x402_servers", "x402_resources", "x402_user_claude_configs",
    "x402_prompt_template_usage_logs",
)  # fmt: skip
SCHEMA = """
    select c.relname, 'column' as kind, a.attname::text as name,
        format_type(a.atttypid, a.atttypmod) || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
            || case when a.attnotnull then ' not null' else '' end as what
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
    union all
    select conrelid::regclass::text, 'constraint', conname::text, pg_get_constraintdef(oid)
    from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select tablename::text, 'index', indexname::text, indexdef from pg_indexes where schemaname = 'public'
    union all
    select tgrelid::regclass::text, 'trigger', tgname::text, pg_get_triggerdef(oid)
    from pg_trigger where not tgisinternal
    union all
    select polrelid::regclass::text, 'policy', polname::text, polcmd::text from pg_policy
    union all
    select oid::regprocedure::text, 'function', '', pg_get_functiondef(oid) from pg_proc
    where pronamespace = 'public'::regnamespace
    union all
    select relname::text, 'row level security', '', relrowsecurity::text from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r'
    union all
    select relname::text, 'may', '', relacl::text from pg_class
    where relnamespace = 'public'::regnamespace
"""  # noqa: E501


class Moving:
    """A database of the origin's, which we may move into."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def sql(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(text, values or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def rows(self, table: str, *, exactly: bool = False) -> dict[str, Any]:
        """Every row of a table by its key; exactly: also when each was written last."""
        key = "user_id" if table == "x402_user_claude_configs" else "id"
        found = self.sql(f"select {key}::text, to_jsonb(t), xmin::text from public.{table} t")
        return {id: (row, xmin) if exactly else row for id, row, xmin in found}

    def schema(self) -> set[tuple[Any, ...]]:
        return set(self.sql(SCHEMA))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def moving(rig: Rig) -> Iterator[Moving]:
    server = rig.postgres
    server.sql("postgres", "create database moving")
    server.sql("moving", AS_SUPABASE + BEFORE)
    with closing(Moving(server.url("moving"))) as moving:
        yield moving
    server.drop("moving")


def test_nothing_of_the_origins_is_lost(moving: Moving) -> None:
    before = {table: moving.rows(table) for table in TABLES}
    columns = {row for row in moving.schema() if row[1] == "column"}

    migrate(moving.url)

    for table in TABLES:
        after = moving.rows(table)
        assert after.keys() == before[table].keys()
        for id, row in before[table].items():
            assert after[id].items() >= row.items()
    assert moving.schema() >= columns


def test_moving_in_a_second_time_changes_nothing(moving: Moving) -> None:
    migrate(moving.url)
    moving.sql("update public.x402_resources set is_active = false where slug = 'poet'")
    rows = {table: moving.rows(table, exactly=True) for table in TABLES}
    schema = moving.schema()

    for each in migrations():  # as `psql -f` does, which keeps no books
        moving.sql(each.sql)

    assert {table: moving.rows(table, exactly=True) for table in TABLES} == rows
    assert moving.schema() == schema


def test_what_the_origin_had_switched_off_is_deleted_and_nothing_else_is(moving: Moving) -> None:
    migrate(moving.url)

    gone = moving.sql(
        """select slug, deleted_at = updated_at from public.x402_resources
        where deleted_at is not null order by slug"""
    )

    assert gone == [("retired", True), ("unsure", True)]


def test_every_template_begins_at_its_first_version(moving: Moving) -> None:
    migrate(moving.url)

    assert moving.sql("select distinct version from public.x402_resources") == [(1,)]


@pytest.mark.parametrize(
    ("network", "fits"),
    [
        *((name, True) for name in ("solana", "base", "ethereum", "polygon", "base-sepolia")),
        *((name, True) for name in ("ethereum-sepolia", "solana-devnet")),
        *((name, True) for name in ("avalanche", "eip155:31337", "eip155:8453")),
        *((name, False) for name in ("moon", "", "eip155:", "eip155:0", "eip155:1 ", "BASE")),
    ],
)
def test_the_networks_that_may_be_stored_are_the_origins_and_ours(
    moving: Moving, network: str, fits: bool
) -> None:
    migrate(moving.url)
    change = "update public.x402_resources set network = %s where slug = 'essay'"

    if fits:
        moving.sql(change, network)
    else:
        with pytest.raises(psycopg.errors.CheckViolation):
            moving.sql(change, network)


def test_a_free_slug_can_be_given_again_and_a_kept_one_cannot(moving: Moving) -> None:
    migrate(moving.url)
    change = "update public.x402_resources set slug = %s where slug = 'poet' and server_id = %s"
    server = "0b000000-0000-4000-8000-000000000001"

    moving.sql(change, "retired", server)
    moving.sql("update public.x402_resources set is_active = false where slug = 'relay'")

    for kept in ("relay", "notes", "bare"):  # paused, of another type, active
        with pytest.raises(psycopg.errors.UniqueViolation):
            moving.sql(change.replace("'poet'", "'retired' and is_active"), kept, server)


# the product over such a project


@pytest.fixture(scope="module")
def moved(rig: Rig) -> Iterator[Rig]:
    """A project that we have moved into."""
    with project(rig.postgres, "moved", BEFORE) as running:
        yield running


@pytest.fixture
def settings(moved: Rig, settings: Settings) -> Settings:
    return replace(
        settings,
        supabase_url=moved.url,
        supabase_secret_key=moved.secret_key,
        integration_secret=origin.SECRET,
        keys=f"k1:{base64.b64encode(bytes(range(32))).decode()}",
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = stores.store(settings)
    yield store
    store.database.close()


@pytest.fixture
def services(settings: Settings, moved: Rig) -> Iterator[Services]:
    """Orla's key is as the origin has sealed it."""
    moved.sql(
        """insert into public.x402_user_claude_configs (user_id, api_key_encrypted) values (%s, %s)
        on conflict (user_id) do update set api_key_encrypted = excluded.api_key_encrypted""",
        ORLA,
        origin.VECTOR,
    )
    services = build_services(settings)
    services.integrations.save_pay_to(ORLA, PAY_TO)
    yield services
    services.close()


@pytest.fixture
def client(settings: Settings, services: Services) -> FlaskClient:
    return create_app(settings, services).test_client()


def buy(client: FlaskClient, wallet: Path, url: str) -> list[dict[str, Any]]:
    """What a paid call says."""
    quote = decoded(client.post(url, json=RAIN).headers["PAYMENT-REQUIRED"])
    payment = {"PAYMENT-SIGNATURE": sign(Wallet.open(wallet), quote)}
    return events(client.post(url, json=RAIN, headers=payment))


def row(moved: Rig, template_id: str) -> dict[str, Any]:
    (found,) = moved.sql("select * from public.x402_resources where id = %s", template_id)
    return found


def test_an_origins_template_is_sold_with_the_key_the_origin_has_sealed(
    client: FlaskClient, claude: ClaudeServer, moved: Rig, tmp_path: Path
) -> None:
    claude.script({"text": "Rain taps the window."})

    said = buy(client, tmp_path / "wallet", "/@orla/poet")

    assert said[-1]["type"] == "done"
    assert said[-1]["receipt"]["paidUsdc"] == "0.029"
    (call,) = claude.calls
    assert call["key"] == origin.VECTOR_KEY
    assert call["body"]["system"] == "You are the poet. Topic: rain."
    (sold,) = moved.sql("select * from public.x402_executions")
    assert (sold["state"], str(sold["template_id"]), sold["amount"]) == ("completed", POET, 29_000)
    moved.sql("truncate public.x402_executions cascade")


def test_what_an_origins_creator_saves_again_is_sealed(services: Services, moved: Rig) -> None:
    reworded = str(row_id(moved, "reworded"))

    edited = services.resources.edit(ORLA, reworded, {"name": "Reworded"})
    services.integrations.save_claude_config(ORLA, Secret("sk-ant-a-new-one"))

    kept = row(moved, reworded)
    assert kept["pt_system_prompt"].startswith("v1.k1.")
    assert (kept["version"], kept["name"], str(kept["price_usdc"])) == (2, "Reworded", "0.029000")
    assert kept["updated_at"].timestamp() == pytest.approx(edited.updated_at)
    assert services.resources.draft(edited).system_prompt.startswith("You are to be edited.")
    (config,) = moved.sql("select * from public.x402_user_claude_configs")
    assert config["api_key_encrypted"].startswith("v1.k1.")


def row_id(moved: Rig, slug: str) -> Any:
    (found,) = moved.sql("select id from public.x402_resources where slug = %s", slug)
    return found["id"]


def test_everything_of_the_origins_can_be_sealed_at_once(
    settings: Settings,
    store: Store,
    moved: Rig,
    client: FlaskClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "store", lambda _: store)  # one that is closed

    _, standing = stores.rotation(settings).rotate()

    assert (standing.waiting, list(standing.unreadable)) == (0, [])
    assert row(moved, POET)["pt_system_prompt"].startswith("v1.k1.")
    assert row(moved, PARROT)["pt_system_prompt"] is None
    assert buy(client, tmp_path / "wallet", "/@orla/poet")[-1]["type"] == "done"
    moved.sql("truncate public.x402_executions cascade")


def test_the_oldest_hosted_server_is_a_creators_shop(store: Store) -> None:
    poet = store.catalogue.listing("ORLA", "poet", None).template

    assert poet is not None
    assert (poet.id, poet.owner_id, poet.username) == (POET, ORLA, "orla")


@pytest.mark.parametrize(
    ("username", "slug"),
    [
        ("orla", "stranded"),
        ("orla", "unhosted"),
        ("orla", "retired"),
        ("orla", "unsure"),
        ("orla", "relay"),
        ("orla", "notes"),
        ("orla", "parrot"),
        ("paul", "essay"),
        ("quin", "orphan"),
    ],
)
def test_what_is_no_template_on_a_shelf_is_not_found(
    store: Store, client: FlaskClient, username: str, slug: str
) -> None:
    listing = store.catalogue.listing(username, slug, None)

    assert listing.template is None
    assert client.post(f"/@{username}/{slug}", json=RAIN).status_code == 404


def test_the_shelf_shows_what_can_be_called(store: Store) -> None:
    page = store.catalogue.shelf(100, 0)

    assert sorted(each.slug for each in page.items) == ["bare", "odd", "poet", "reworded"]
    assert page.total == 4


def test_a_creator_sees_what_is_stranded_too_and_no_other_types(store: Store) -> None:
    page = store.catalogue.templates(ORLA, 100, 0)

    stranded = {SECOND_POET, STRANDED, UNHOSTED}
    assert stranded < {each.id for each in page.items if each.is_active}
    assert {each.slug for each in page.items if each.id not in stranded} == {
        "poet", "bare", "odd", "reworded",
    }  # fmt: skip


def test_what_the_origin_left_open_is_its_default(store: Store) -> None:
    bare = store.catalogue.template(ORLA, BARE)

    assert bare is not None
    assert (bare.price, bare.max_tokens, bare.model) == (10_000, 4096, "claude-sonnet-4-20250514")
    assert (bare.description, bare.parameters, bare.allows_user_message) == ("", "[]", False)


def test_a_price_that_is_none_is_the_origins_default(store: Store) -> None:
    odd = store.catalogue.listing("orla", "odd", None).template

    assert odd is not None
    assert odd.price == 10_000


@pytest.mark.parametrize("other", [RELAY, NOTES, PARROT])
def test_rows_of_other_types_are_neither_seen_nor_touched(
    store: Store, moved: Rig, other: str
) -> None:
    before, poet = row(moved, other), store.catalogue.template(ORLA, POET)
    assert poet is not None

    assert store.catalogue.template(ORLA, other) is None
    assert store.catalogue.has_written(ORLA, other) is False
    assert store.catalogue.delete_template(ORLA, other, 2000.0) is False
    with pytest.raises(Conflict):
        store.catalogue.replace_template(replace(poet, id=other), replace(poet, id=other))
    with pytest.raises(SlugTaken):  # their address is theirs
        store.catalogue.add_template(replace(poet, id=NOBODY, slug=before["slug"]))

    assert row(moved, other) == before


def test_a_new_template_joins_the_origins_on_the_oldest_server(store: Store, moved: Rig) -> None:
    poet = store.catalogue.template(ORLA, POET)
    assert poet is not None
    again = replace(poet, id=NOBODY, slug="retired")

    store.catalogue.add_template(again)

    assert store.catalogue.listing("orla", "retired", None).template == again
    assert row(moved, NOBODY)["server_id"] == row(moved, POET)["server_id"]
    moved.sql("delete from public.x402_resources where id = %s", NOBODY)


def test_a_lost_answer_is_made_up_for_where_a_trigger_writes_the_time(
    store: Store, moved: Rig
) -> None:
    moved.sql("""create trigger resources_touch before update on public.x402_resources
        for each row execute function public.touch()""")
    before = store.catalogue.template(ORLA, BARE)
    assert before is not None
    after = replace(before, version=before.version + 1, name="Bare still", updated_at=1000.0)
    moved.front.meet(LOST)

    store.catalogue.replace_template(before, after)

    kept = store.catalogue.template(ORLA, BARE)
    assert kept is not None
    assert kept.updated_at != after.updated_at
    assert replace(kept, updated_at=after.updated_at) == after
    moved.sql("drop trigger resources_touch on public.x402_resources")


# accounts, which are Supabase Auth's


@pytest.fixture
def newcomer(moved: Rig) -> Iterator[str]:
    """Who has just signed up, and is forgotten afterwards."""
    user_id = str(uuid.uuid4())
    moved.sql("insert into auth.users (id) values (%s)", user_id)
    yield user_id
    moved.sql("delete from auth.users where id = %s", user_id)


def test_who_has_signed_up_gets_a_name_and_may_store_things(store: Store, newcomer: str) -> None:
    assert store.catalogue.username(newcomer) is None

    assert store.keys.put_claude_key(newcomer, "sealed") == ClaudeConfig(True, True)
    store.keys.put_pay_to(newcomer, PAY_TO)
    assert store.catalogue.give_username(newcomer, "newcomer") == "newcomer"

    assert store.catalogue.listing("newcomer", "poet", None) == Listing(None, "sealed", PAY_TO)


@pytest.mark.parametrize("taken", ["orla", "paul", "Vera"])
def test_a_name_of_the_origins_is_taken_whatever_became_of_it(
    store: Store, newcomer: str, taken: str
) -> None:
    assert store.catalogue.give_username(newcomer, taken.lower()) is None
    assert store.catalogue.username(newcomer) is None


def test_nobody_takes_a_name_in_other_letters_behind_our_back(
    store: Store, moved: Rig, newcomer: str
) -> None:
    """The origin's policies let people write to their own profile."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        moved.sql("insert into public.profiles (id, username) values (%s, 'Orla')", newcomer)

    assert {store.catalogue.user_id(name) for name in ("orla", "Orla", "ORLA")} == {ORLA}


def test_of_names_that_have_differed_in_case_alone_the_lower_case_one_is_found(
    rig: Rig,
) -> None:
    earlier = fresh(rig.postgres)
    earlier.sql("create table public.profiles (id uuid primary key, username text unique)")
    for number, name in enumerate(("Vera", "vera", "VERA")):
        earlier.sql("insert into public.profiles values (%s, %s)", str(uuid.UUID(int=number)), name)

    migrate(earlier.url)

    (found,) = earlier.sql("select public.x402_named('Vera') as id")
    assert found["id"] == uuid.UUID(int=1)


@pytest.mark.parametrize("user_id", [NOBODY, QUIN, "nobody"])
def test_nothing_is_stored_for_an_account_that_is_gone(
    store: Store, moved: Rig, user_id: str
) -> None:
    poet = store.catalogue.template(ORLA, POET)
    assert poet is not None

    for attempt in (
        lambda: store.catalogue.give_username(user_id, "newcomer"),
        lambda: store.catalogue.add_template(replace(poet, id=NOBODY, owner_id=user_id)),
        lambda: store.keys.put_claude_key(user_id, "sealed"),
        lambda: store.keys.put_pay_to(user_id, PAY_TO),
    ):
        with pytest.raises(Unauthenticated):
            attempt()

    assert moved.sql("select from public.profiles where id::text = %s", user_id) == []


def test_accounts_are_not_made_behind_supabase_auths_back(store: Store) -> None:
    with pytest.raises(Conflict, match="Supabase Auth"):
        store.catalogue.add_user("newcomer")

    assert store.catalogue.user_id("newcomer") is None
    assert store.catalogue.add_user("orla") == ORLA


def test_a_deleted_accounts_name_is_nobodys_to_add(store: Store) -> None:
    with pytest.raises(Conflict, match="deleted"):
        store.catalogue.add_user("paul")
