"""Trees of tiles: a path is text of one character a step, and a subtree is a range of them."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from x402jobs.adapters.sqlite.database import Database
from x402jobs.adapters.tile_rows import (
    AFTER_ALL,
    MAX_LEAVES,
    PLAN,
    near,
    path,
    place,
    to_context,
    to_row,
    to_tile,
)
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import (
    AboveIsPrivate,
    BelowIsPublic,
    NotFound,
    NothingAbove,
    PlaceTaken,
    Stale,
)
from x402jobs.domain.page import Page
from x402jobs.domain.tile import TaskContext, Tile, Visibility

_COLUMNS = (
    "user_id", "group_id", "path", "title", "content", "preview", "visibility", "hexplan",
    "created_at", "updated_at",
)  # fmt: skip
_NAMES, _VALUES = ", ".join(_COLUMNS), ", ".join(f":{name}" for name in _COLUMNS)
_SEEN = "(user_id = :reader_id OR visibility = 'public')"
_TREE = "user_id = :user_id AND group_id = :group_id"
_AT = f"{_TREE} AND path = :path"
_BELOW = f"{_TREE} AND path > :path AND path < :path || '{AFTER_ALL}'"

# `near` is the task, all above it and all next below it. Leaves are looked for only where there are
# subtasks, and no plan that says what is to be done.
_CONTEXT = f"""
    WITH near AS (
        SELECT {_NAMES} FROM tiles
        WHERE {_TREE} AND path IN (SELECT value FROM json_each(:near)) AND {_SEEN}
    ), leaves AS (
        SELECT user_id, group_id, path, title, '', '', visibility, NULL, created_at, updated_at
        FROM tiles t
        WHERE {_TREE} AND path >= :path || '1' AND path < :path || '7' AND {_SEEN}
            AND substr(path, length(:path) + 1) NOT GLOB '*[^1-6]*'
            AND NOT EXISTS (
                SELECT 1 FROM tiles WHERE {_TREE} AND {_SEEN} AND path IN (
                    t.path || '1', t.path || '2', t.path || '3',
                    t.path || '4', t.path || '5', t.path || '6'
                )
            )
            AND EXISTS (SELECT 1 FROM near WHERE path = :path)
            AND NOT EXISTS (SELECT 1 FROM near WHERE path = :path || '{PLAN}')
        ORDER BY path LIMIT {MAX_LEAVES}
    )
    SELECT 0 AS is_leaf, near.* FROM near UNION ALL SELECT 1, leaves.* FROM leaves"""
_ADD = f"INSERT INTO tiles ({_NAMES}) VALUES ({_VALUES}) ON CONFLICT DO NOTHING"
_REPLACE = f"""UPDATE tiles SET title = :title, content = :content, preview = :preview,
        visibility = :visibility, updated_at = :updated_at
    WHERE {_AT} AND updated_at = :updated_before"""
_ADD_PLAN = f"""INSERT INTO tiles ({_NAMES}) SELECT {_VALUES}
    WHERE EXISTS (SELECT 1 FROM tiles WHERE {_TREE} AND path = :parent) ON CONFLICT DO NOTHING"""
_SWAP_PLAN = f"""UPDATE tiles SET hexplan = :hexplan, updated_at = :updated_at
    WHERE {_AT} AND hexplan = :hexplan_before"""
_ABOVE = f"""SELECT {_NAMES} FROM tiles
    WHERE {_TREE} AND path IN (SELECT value FROM json_each(:above)) ORDER BY path"""


class SqliteTiles:
    """ports.Tiles over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tile(self, coords: Coords, reader_id: str) -> Tile | None:
        rows = self._read(f"SELECT * FROM tiles WHERE {_AT} AND {_SEEN}", coords, reader_id)
        return to_tile(rows[0]) if rows else None

    def under(self, coords: Coords, reader_id: str, limit: int, offset: int) -> Page[Tile]:
        values = place(coords) | {"reader_id": reader_id}
        return self._page(f"{_BELOW} AND {_SEEN}", values, limit, offset)

    def tiles_of(self, user_id: str, limit: int, offset: int) -> Page[Tile]:
        return self._page("user_id = :user_id", {"user_id": user_id}, limit, offset)

    def context(self, coords: Coords, reader_id: str) -> TaskContext | None:
        rows = self._read(_CONTEXT, coords, reader_id, near=json.dumps(near(coords)))
        return to_context(
            coords,
            near=[row for row in rows if not row["is_leaf"]],
            leaves=[row for row in rows if row["is_leaf"]],
        )

    def ensure_root(self, user_id: str, title: str, now: float) -> Tile:
        root = Tile(Coords(user_id), title, created_at=now, updated_at=now)
        with self._database.write() as connection:
            connection.execute(_ADD, to_row(root))
            found = connection.execute(f"SELECT * FROM tiles WHERE {_AT}", place(root.coords))
            return to_tile(found.fetchone())

    def add(self, tile: Tile) -> None:
        with self._database.write() as connection:
            above = _above(connection, tile.coords)
            if tile.coords.path and (not above or above[-1].coords != tile.coords.parent):
                raise NothingAbove()
            _check_above(tile, above)
            if connection.execute(_ADD, to_row(tile)).rowcount != 1:
                raise PlaceTaken()

    def replace(self, before: Tile, after: Tile) -> None:
        values = to_row(after) | {"updated_before": before.updated_at}
        with self._database.write() as connection:
            if connection.execute(_REPLACE, values).rowcount != 1:
                raise Stale()
            if after.visibility is not before.visibility:
                _check_above(after, _above(connection, after.coords))
                _check_below(after, connection)

    def delete(self, coords: Coords) -> int:
        with self._database.write() as connection:
            values = place(coords)
            return sum(
                connection.execute(f"DELETE FROM tiles WHERE {which}", values).rowcount
                for which in (_AT, _BELOW)
            )

    def add_plan(self, plan: Tile) -> Tile:
        values = to_row(plan) | {"parent": path(plan.coords)[:-1]}
        with self._database.write() as connection:
            connection.execute(_ADD_PLAN, values)
            found = connection.execute(f"SELECT * FROM tiles WHERE {_AT}", values).fetchone()
        if found is None:
            raise NotFound()
        return to_tile(found)

    def swap_plan(self, before: Tile, after: Tile) -> bool:
        values = to_row(after) | {"hexplan_before": to_row(before)["hexplan"]}
        with self._database.write() as connection:
            return connection.execute(_SWAP_PLAN, values).rowcount == 1

    def _read(self, sql: str, coords: Coords, reader_id: str, **values: str) -> list[sqlite3.Row]:
        with self._database.connection() as connection:
            values |= place(coords) | {"reader_id": reader_id}
            return connection.execute(sql, values).fetchall()

    def _page(self, which: str, values: dict[str, Any], limit: int, offset: int) -> Page[Tile]:
        """In path order; the count and the rows are of one moment."""
        with self._database.connection() as connection:
            rows = connection.execute(
                f"""WITH shown AS (
                    SELECT * FROM tiles WHERE {which}
                    ORDER BY group_id, path LIMIT :limit OFFSET :offset
                )
                SELECT (SELECT COUNT(*) FROM tiles WHERE {which}) AS total, shown.*
                FROM (SELECT 1) LEFT JOIN shown ORDER BY group_id, path""",
                values | {"limit": limit, "offset": offset},
            ).fetchall()
        shown = [to_tile(row) for row in rows if row["path"] is not None]
        return Page(shown, rows[0]["total"], limit, offset)


def _above(connection: sqlite3.Connection, coords: Coords) -> list[Tile]:
    """The tiles above a place, root first."""
    above = json.dumps([path(each) for each in coords.ancestors()])
    rows = connection.execute(_ABOVE, place(coords) | {"above": above})
    return [to_tile(row) for row in rows.fetchall()]


def _check_above(tile: Tile, above: Sequence[Tile]) -> None:
    """Raises AboveIsPrivate, naming the highest one: the others could not be public before it."""
    private = [each for each in above if each.visibility is Visibility.PRIVATE]
    if tile.visibility is Visibility.PUBLIC and private:
        raise AboveIsPrivate(str(private[0].coords))


def _check_below(tile: Tile, connection: sqlite3.Connection) -> None:
    """Raises BelowIsPublic, naming a lowest one."""
    rows = connection.execute(
        f"""SELECT *, COUNT(*) OVER () AS total FROM tiles
        WHERE {_BELOW} AND visibility = 'public' ORDER BY length(path) DESC, path LIMIT 1""",
        place(tile.coords),
    ).fetchall()
    if tile.visibility is Visibility.PRIVATE and rows:
        raise BelowIsPublic(rows[0]["total"], str(to_tile(rows[0]).coords))
