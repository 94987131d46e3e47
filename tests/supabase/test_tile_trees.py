"""Trees of tiles where several transactions write at once, and where text has another order."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from tests.contract.test_tiles import PRIVATE, PUBLIC, plan, tile
from tests.supabase.direct import Direct, direct
from tests.supabase.rig import Rig, migrate
from tests.waiting import eventually
from x402jobs.adapters.supabase.tiles import SupabaseTiles
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import AboveIsPrivate, BelowIsPublic, NotFound, NothingAbove

WAITING = """select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'"""


def turning(text, visibility):
    """What gives the tile at this place, which is there since 1000.25, another visibility."""
    there = PUBLIC if visibility is PRIVATE else PRIVATE

    def change(tiles):
        before = tile(text, visibility=there)
        tiles.replace(before, replace(before, visibility=visibility, updated_at=1001.0))

    return change


def adding(text, **changes):
    return lambda tiles: tiles.add(tile(text, **changes))


def deleting(text):
    return lambda tiles: tiles.delete(Coords.parse(text))


def planning(text):
    return lambda tiles: tiles.add_plan(plan(text))


@pytest.mark.parametrize("delete_first", [True, False])
@pytest.mark.parametrize(
    ("grow", "delete"),
    [
        (adding("u,0:1,1"), deleting("u,0:1")),
        (adding("u,0:1,1"), deleting("u,0")),
        (adding("u,0:1,2,1"), deleting("u,0:1")),
        (planning("u,0:1,2"), deleting("u,0:1,2")),
        (planning("u,0:1,2"), deleting("u,0")),
    ],
)
def test_nobody_puts_a_tile_under_one_that_is_being_deleted(rig, grow, delete, delete_first):
    rows = at_once(rig, *((delete, grow) if delete_first else (grow, delete)))

    there = {row["path"] for row in rows}
    assert [path for path in there if path and path[:-1] not in there] == []
    assert "12" not in there


@pytest.mark.parametrize("hide_first", [True, False])
@pytest.mark.parametrize(
    ("show", "hide"),
    [
        (turning("u,0:3,1", PUBLIC), turning("u,0:3", PRIVATE)),
        (adding("u,0:3,2", visibility=PUBLIC), turning("u,0:3", PRIVATE)),
    ],
)
def test_nobody_shows_a_tile_under_one_that_is_being_hidden(rig, show, hide, hide_first):
    rows = at_once(rig, *((hide, show) if hide_first else (show, hide)))

    public = {row["path"] for row in rows if row["visibility"] == "public"}
    assert [path for path in public if path and path[:-1] not in public] == []
    assert ("3" in public) is not hide_first


def test_another_accounts_tree_is_not_waited_for(rig):
    grown(rig)
    with direct(url(rig)) as held, direct(url(rig)) as other:
        SupabaseTiles(held).add(tile("u,0:4"))

        other.connection.execute("set lock_timeout = '1ms'")
        SupabaseTiles(other).add(tile("v,0"))
        SupabaseTiles(other).add(tile("u,1"))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            SupabaseTiles(other).add(tile("u,0:5"))


def test_the_order_of_a_tree_is_its_own_whatever_order_the_databases_text_has(rig):
    """In Danish, aa is a letter after z: what is below -1,-1 would not be below -1."""
    rig.postgres.sql(
        "postgres",
        """create database danish template template0
        locale_provider icu icu_locale 'da-DK' locale 'C'""",
    )
    try:
        migrate(rig.postgres.url("danish"))
        with direct(rig.postgres.url("danish")) as database:
            tiles = SupabaseTiles(database)
            down = ["", "1", "1,-1", "-1", "-1,1", "-1,-1", "-1,-1,-1", "-1,-2", "-2"]
            for path in down:
                tiles.add(tile(f"u,0:{path}"))

            def told(coords):
                return [each.coords.path_text for each in tiles.under(coords, "u", 99, 0).items]

            assert told(Coords("u")) == down[1:]
            assert told(Coords("u", 0, (-1,))) == ["-1,1", "-1,-1", "-1,-1,-1", "-1,-2"]
            assert tiles.delete(Coords("u", 0, (-1,))) == 5
    finally:
        rig.postgres.drop("danish")


def at_once(rig: Rig, first, second):
    """The tree after both, where the second came while the first had not been committed."""
    grown(rig)
    with direct(url(rig)) as one, direct(url(rig)) as other, ThreadPoolExecutor(1) as threads:
        first(SupabaseTiles(one))
        late = threads.submit(attempt, second, other)
        assert eventually(lambda: late.done() or rig.sql(WAITING), 10)
        one.connection.commit()
        late.result(10)
    return rig.sql("select path, visibility from tiles where user_id = 'u'")


def attempt(change, database: Direct) -> None:
    """Carry it out, unless the tree is not as it demands."""
    try:
        change(SupabaseTiles(database))
    except (NothingAbove, NotFound, AboveIsPrivate, BelowIsPublic):
        pass
    database.connection.commit()


def grown(rig: Rig) -> None:
    """Nothing but a tree of u's."""
    rig.empty()
    with direct(url(rig)) as database:
        tiles = SupabaseTiles(database)
        for path, visibility in [
            ("", PUBLIC), ("1", PRIVATE), ("1,2", PRIVATE), ("3", PUBLIC), ("3,1", PRIVATE)
        ]:  # fmt: skip
            tiles.add(tile(f"u,0:{path}", visibility=visibility))
        database.connection.commit()


def url(rig: Rig) -> str:
    return rig.postgres.url(rig.database)
