"""Trees of tiles."""

import json
from typing import Any

from x402jobs.adapters.supabase.database import Database
from x402jobs.adapters.tile_rows import (
    MAX_LEAVES,
    near,
    path,
    to_context,
    to_coords,
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
from x402jobs.domain.tile import TaskContext, Tile


class SupabaseTiles:
    """ports.Tiles over Supabase."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tile(self, coords: Coords, reader_id: str) -> Tile | None:
        row = self._database.call("x402_tile", **_place(coords), reader_id=reader_id)
        return to_tile(row) if row else None

    def under(self, coords: Coords, reader_id: str, limit: int, offset: int) -> Page[Tile]:
        told = self._database.call(
            "x402_tiles_under",
            **_place(coords),
            reader_id=reader_id,
            page_limit=limit,
            page_offset=offset,
        )
        return Page([to_tile(row) for row in told["items"]], told["total"], limit, offset)

    def tiles_of(self, user_id: str, limit: int, offset: int) -> Page[Tile]:
        told = self._database.call(
            "x402_tiles_of", owner_id=user_id, page_limit=limit, page_offset=offset
        )
        return Page([to_tile(row) for row in told["items"]], told["total"], limit, offset)

    def context(self, coords: Coords, reader_id: str) -> TaskContext | None:
        told = self._database.call(
            "x402_tile_context",
            **_place(coords),
            near_paths=near(coords),
            reader_id=reader_id,
            most_leaves=MAX_LEAVES,
        )
        return to_context(coords, told["near"], told["leaves"])

    def ensure_root(self, user_id: str, title: str, now: float) -> Tile:
        root = Tile(Coords(user_id), title, created_at=now, updated_at=now)
        return to_tile(self._database.call("x402_ensure_root", tile=_row(root)))

    def add(self, tile: Tile) -> None:
        answer = self._database.write("x402_add_tile", tile=_row(tile))
        match answer["said"]:
            case "nothing_above":
                raise NothingAbove()
            case "above_is_private":
                raise AboveIsPrivate(_named(tile, answer))
            case "place_taken":
                raise PlaceTaken()

    def replace(self, before: Tile, after: Tile) -> None:
        answer = self._database.write(
            "x402_replace_tile", tile=_row(after), updated_before=before.updated_at
        )
        match answer["said"]:
            case "stale":
                raise Stale()
            case "above_is_private":
                raise AboveIsPrivate(_named(after, answer))
            case "below_is_public":
                raise BelowIsPublic(answer["count"], _named(after, answer))

    def delete(self, coords: Coords) -> int:
        """Counts what this request has deleted: nothing, where an earlier try's answer was lost."""
        return int(self._database.call("x402_delete_tiles", **_place(coords)))

    def add_plan(self, plan: Tile) -> Tile:
        row = self._database.call("x402_add_plan", plan=_row(plan))
        if row is None:
            raise NotFound()
        return to_tile(row)

    def swap_plan(self, before: Tile, after: Tile) -> bool:
        known = to_row(before)["hexplan"]
        return bool(self._database.write("x402_swap_plan", plan=_row(after), hexplan_before=known))


def _place(coords: Coords) -> dict[str, Any]:
    return {
        "owner_id": coords.user_id,
        "group_number": coords.group_id,
        "place": path(coords),
    }


def _row(tile: Tile) -> str:
    return json.dumps(to_row(tile))


def _named(tile: Tile, answer: dict[str, Any]) -> str:
    """The coordinates of the tile of this tree that the database has named."""
    return str(to_coords(tile.coords.user_id, tile.coords.group_id, answer["path"]))
