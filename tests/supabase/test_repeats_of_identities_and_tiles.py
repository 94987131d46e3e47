"""Credentials and tiles: what is asked again hears the same, and nothing is done twice."""

import json
from dataclasses import replace

import psycopg
import pytest

from tests.contract.test_identities import ADA, BOB, INTERNAL, KEY, SESSION
from tests.contract.test_tiles import PRIVATE, PUBLIC, STEPS, plan, tile
from tests.supabase.direct import Direct, direct
from x402jobs.adapters.supabase.identities import SupabaseIdentities
from x402jobs.adapters.supabase.tiles import SupabaseTiles
from x402jobs.adapters.tile_rows import to_row
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import (
    AboveIsPrivate,
    BelowIsPublic,
    NotFound,
    NothingAbove,
    PlaceTaken,
    Stale,
    Unauthenticated,
)
from x402jobs.domain.hexplan import Hexplan, Step, StepState
from x402jobs.domain.tile import Tile

TABLES = (
    "profiles", "x402_peppers", "x402_sessions", "x402_api_keys", "x402_internal_api_keys", "tiles",
)  # fmt: skip
ROOT, ONE, HIDDEN = tile("u,0", visibility=PUBLIC), tile("u,0:1", visibility=PUBLIC), tile("u,0:2")
PLANNED = plan("u,0")
LATER = {"updated_at": 3000.0}
MARKED = replace(PLANNED, hexplan=STEPS.marked(0, StepState.COMPLETE, "done"), **LATER)
OTHER = replace(PLANNED, hexplan=Hexplan((Step("Other", "u,0"),)), **LATER)


class Repeating(Direct):
    """Everything is carried out, and asked again because nobody heard the answer."""

    def call(self, function, **arguments):
        return self._twice(function, arguments, arguments)

    def write(self, function, **arguments):
        return self._twice(function, arguments | {"again": False}, arguments | {"again": True})

    def _twice(self, function, first, second):
        heard = super().call(function, **first)
        written = self._everything()
        assert super().call(function, **second) == heard
        assert self._everything() == written
        return heard

    def _everything(self):
        rows = [f"select '{table}', to_jsonb(t)::text from public.{table} t" for table in TABLES]
        return self.connection.execute(" union all ".join(rows) + " order by 1, 2").fetchall()


class Room:
    """Both ports over one database."""

    def __init__(self, database):
        self.identities, self.tiles = SupabaseIdentities(database), SupabaseTiles(database)


@pytest.fixture
def database(rig):
    """A transaction nothing stays of: somebody signed in, with keys, and a tree with a plan."""
    rig.empty()
    with direct(rig.postgres.url(rig.database)) as database:
        room = Room(database)
        room.identities.add_session(SESSION)
        room.identities.add_api_key(KEY)
        room.identities.put_internal_key(INTERNAL, None)
        for each in (ROOT, ONE, HIDDEN):
            room.tiles.add(each)
        room.tiles.add_plan(PLANNED)
        yield database


@pytest.fixture
def room(database):
    return Room(database)


@pytest.fixture
def repeating(database):
    return Room(Repeating(database.connection))


def of_bob(given, **changes):
    return replace(given, user_id=BOB, **changes)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda it: it.identities.pepper("one", "sealed"), "sealed"),
        (lambda it: it.identities.add_session(of_bob(SESSION, digest="d2")), None),
        (lambda it: it.identities.add_session(replace(SESSION, digest="d2", renewed_at=1e9)), None),
        (lambda it: it.identities.renew_session(replace(SESSION, expires_at=9e9)), None),
        (lambda it: it.identities.end_session(SESSION.digest), None),
        (lambda it: it.identities.add_api_key(of_bob(KEY, id="k2")), None),
        (lambda it: it.identities.delete_api_key(ADA, "k1"), True),
        (lambda it: it.identities.delete_api_key(BOB, "k1"), False),
        (lambda it: it.identities.note_api_key_used("k1", 1500.5), None),
        (lambda it: it.identities.put_internal_key(of_bob(INTERNAL, id="i2", digest="2"), None),
            of_bob(INTERNAL, id="i2", digest="2")),
        (lambda it: it.identities.put_internal_key(replace(INTERNAL, id="i2", digest="2"), "i1"),
            replace(INTERNAL, id="i2", digest="2")),
        (lambda it: it.identities.put_internal_key(replace(INTERNAL, id="i2", digest="2"), None),
            INTERNAL),
        (lambda it: it.identities.note_internal_key_used("i1", 1500.5), None),
        (lambda it: it.tiles.ensure_root("v", "Home", 1.5),
            Tile(Coords("v"), "Home", created_at=1.5, updated_at=1.5)),
        (lambda it: it.tiles.ensure_root("u", "Home", 1.5), ROOT),
        (lambda it: it.tiles.add(tile("u,0:1,1", visibility=PUBLIC)), None),
        (lambda it: it.tiles.replace(ONE, replace(ONE, title="N", content="c", **LATER)), None),
        (lambda it: it.tiles.replace(ONE, replace(ONE, visibility=PRIVATE, **LATER)), None),
        (lambda it: it.tiles.replace(HIDDEN, replace(HIDDEN, visibility=PUBLIC, **LATER)), None),
        (lambda it: it.tiles.add_plan(plan("u,0:1")), plan("u,0:1")),
        (lambda it: it.tiles.add_plan(OTHER), PLANNED),
        (lambda it: it.tiles.swap_plan(PLANNED, MARKED), True),
        (lambda it: it.tiles.swap_plan(OTHER, MARKED), False),
    ],
)  # fmt: skip
def test_what_has_been_done_is_answered_as_it_was_and_not_done_again(repeating, write, told):
    assert write(repeating) == told


@pytest.mark.parametrize(
    ("write", "refusal"),
    [
        (lambda it: it.identities.add_session(replace(SESSION, user_id="nobody")), Unauthenticated),
        (lambda it: it.identities.add_api_key(replace(KEY, user_id="nobody")), Unauthenticated),
        (lambda it: it.identities.put_internal_key(replace(INTERNAL, user_id="nobody"), None),
            Unauthenticated),
        (lambda it: it.tiles.add(tile("u,0:3,1")), NothingAbove),
        (lambda it: it.tiles.add(tile("u,0:2,1", visibility=PUBLIC)), AboveIsPrivate),
        (lambda it: it.tiles.add(replace(ONE, title="Another")), PlaceTaken),
        (lambda it: it.tiles.replace(replace(ONE, **LATER), replace(ONE, title="N")), Stale),
        (lambda it: it.tiles.replace(ROOT, replace(ROOT, visibility=PRIVATE, **LATER)),
            BelowIsPublic),
        (lambda it: it.tiles.add_plan(plan("u,0:5")), NotFound),
    ],
)  # fmt: skip
def test_what_was_refused_is_refused_again(repeating, write, refusal):
    with pytest.raises(refusal):
        write(repeating)


def test_tiles_that_are_deleted_are_gone_however_often_it_is_asked(room):
    assert [room.tiles.delete(Coords("u")) for _ in range(2)] == [4, 0]
    assert room.tiles.tiles_of("u", 9, 0).items == []


@pytest.mark.parametrize(
    "write",
    [
        lambda it: it.identities.add_session(SESSION),
        lambda it: it.identities.add_session(of_bob(SESSION)),
        lambda it: it.identities.add_api_key(KEY),
        lambda it: it.identities.add_api_key(of_bob(KEY)),
    ],
)
def test_two_who_come_with_the_same_id_are_not_taken_for_one(room, write):
    with pytest.raises(psycopg.errors.UniqueViolation):
        write(room)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("x402_add_session", {"session": of_bob(SESSION)}),
        ("x402_add_api_key", {"key": of_bob(KEY)}),
        ("x402_add_api_key", {"key": replace(KEY, digest="another")}),
    ],
)
def test_asked_again_what_is_somebody_elses_is_still_not_ones_own(database, function, given):
    arguments = {name: json.dumps(vars(value)) for name, value in given.items()}

    with pytest.raises(psycopg.errors.UniqueViolation):
        database.call(function, **arguments, again=True)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda it: it.tiles.swap_plan(PLANNED, MARKED), False),
        (lambda it: it.identities.delete_api_key(ADA, "k1"), False),
    ],
)
def test_asked_a_second_time_by_somebody_else_it_is_done_already(room, write, told):
    assert write(room) is not told
    assert write(room) is told


def test_a_change_that_others_have_followed_up_is_not_written_over_them(database, room):
    first, second = (
        replace(ONE, title=each, updated_at=1000.0 + len(each)) for each in ("1", "22")
    )
    room.tiles.replace(ONE, first)
    room.tiles.replace(first, second)

    answer = database.call(
        "x402_replace_tile",
        tile=json.dumps(to_row(first)),
        updated_before=ONE.updated_at,
        again=True,
    )

    assert answer == {"said": "stale"}
    assert room.tiles.tile(ONE.coords, "u") == second


@pytest.mark.parametrize(
    "give",
    [
        lambda it: it.identities.add_session(of_bob(SESSION, digest="d2")),
        lambda it: it.identities.add_api_key(of_bob(KEY, id="k2")),
        lambda it: it.identities.put_internal_key(of_bob(INTERNAL, id="i2", digest="2"), None),
    ],
)
def test_whose_account_is_gone_is_given_nothing(database, room, give):
    """Supabase keeps its accounts in a table of its own, and profiles point at it."""
    database.connection.execute(
        """create table public.accounts (id uuid primary key);
        insert into public.accounts select id from public.profiles;
        alter table public.profiles add constraint account
            foreign key (id) references public.accounts (id) on delete cascade"""
    )

    with pytest.raises(Unauthenticated):
        give(room)

    kept = [
        database.connection.execute(f"select from {table} where user_id = %s", [BOB]).rowcount
        for table in ("x402_sessions", "x402_api_keys", "x402_internal_api_keys")
    ]
    assert kept == [0, 0, 0]
    database.connection.execute("insert into public.accounts values (%s)", [BOB])
    give(room)
