"""How a tile rests in a table: a path is text of one character a step."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from x402jobs.domain.coords import Coords
from x402jobs.domain.hexplan import Hexplan
from x402jobs.domain.tile import TaskContext, Tile, Visibility

MAX_LEAVES = 1001

PLAN, SUBTASKS, CONTEXT = "0", "123456", "abcdef"
AFTER_ALL = "g"
"""What comes after every character of a path, and so after everything below it."""
_CHARACTERS = dict(
    zip((0, *range(1, 7), *range(-1, -7, -1)), PLAN + SUBTASKS + CONTEXT, strict=True)
)
_DIRECTIONS = {character: direction for direction, character in _CHARACTERS.items()}


class Row(Protocol):
    """A row of `tiles`, as any driver gives it."""

    def __getitem__(self, column: str, /) -> Any: ...


def path(coords: Coords) -> str:
    """In byte order, paths are depth first, and a subtree is a range of them."""
    return "".join(_CHARACTERS[direction] for direction in coords.path)


def place(coords: Coords) -> dict[str, Any]:
    """The primary key."""
    return {"user_id": coords.user_id, "group_id": coords.group_id, "path": path(coords)}


def near(coords: Coords) -> list[str]:
    """The paths of a task, of all above it and of all next below it."""
    above, here = [path(each) for each in coords.ancestors()], path(coords)
    return [*above, here, *(here + character for character in PLAN + SUBTASKS + CONTEXT)]


def to_coords(user_id: str, group_id: int, path: str) -> Coords:
    """Where a row's tile is."""
    return Coords(user_id, group_id, tuple(_DIRECTIONS[character] for character in path))


def to_row(tile: Tile) -> dict[str, Any]:
    """Every column."""
    plan = tile.hexplan
    return place(tile.coords) | {
        "title": tile.title,
        "content": tile.content,
        "preview": tile.preview,
        "visibility": tile.visibility,
        "hexplan": plan.as_json() if plan is not None else None,
        "created_at": tile.created_at,
        "updated_at": tile.updated_at,
    }


def to_tile(row: Row) -> Tile:
    """The tile of a row; of a plan that somebody has spoiled, a tile without one."""
    plan = row["hexplan"]
    return Tile(
        coords=to_coords(row["user_id"], row["group_id"], row["path"]),
        title=row["title"],
        content=row["content"],
        preview=row["preview"],
        visibility=Visibility(row["visibility"]),
        created_at=float(row["created_at"]),  # JSON may write a whole one without its point
        updated_at=float(row["updated_at"]),
        hexplan=_plan(plan) if plan is not None else None,
    )


def to_context(coords: Coords, near: Iterable[Row], leaves: Iterable[Row]) -> TaskContext | None:
    """What a run of the task is told, of the rows that its reader sees; None without its own."""
    tiles = {row["path"]: to_tile(row) for row in near}
    here = path(coords)
    if here not in tiles:
        return None

    def those(paths: Iterable[str]) -> Sequence[Tile]:
        return [tiles[path] for path in paths if path in tiles]

    return TaskContext(
        task=tiles[here],
        ancestors=those(path(each) for each in coords.ancestors()),
        context=those(here + character for character in CONTEXT),
        subtasks=those(here + character for character in SUBTASKS),
        hexplan=tiles.get(here + PLAN),
        leaves=[to_tile(row) for row in leaves],
    )


def _plan(stored: str) -> Hexplan | None:
    """None for what somebody has spoiled: it is made anew, and one row breaks no list."""
    try:
        return Hexplan.parse(stored)
    except ValueError:
        return None
