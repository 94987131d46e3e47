"""A tile: a piece of a task that has its place in a tree, and what one look at it tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from x402jobs.domain.coords import Coords
from x402jobs.domain.hexplan import Hexplan

HEXPLAN_TITLE = "Hexplan"


class Visibility(StrEnum):
    """Who but its owner may read a tile."""

    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True)
class Tile:
    """Times are unix seconds. Only the tile at direction 0 has a `hexplan`."""

    coords: Coords
    title: str
    content: str = ""
    preview: str = ""
    visibility: Visibility = Visibility.PRIVATE
    created_at: float = 0.0
    updated_at: float = 0.0
    hexplan: Hexplan | None = None


@dataclass(frozen=True)
class TaskContext:
    """What a run needs to know, as one read tells it and as its reader may see it.

    `ancestors` are root first, `context` children in the order -1 to -6, `subtasks` 1 to 6. Where
    a parent has no plan, `leaves` are the tasks without subtasks below it, depth first.
    """

    task: Tile
    ancestors: Sequence[Tile] = ()
    context: Sequence[Tile] = ()
    subtasks: Sequence[Tile] = ()
    hexplan: Tile | None = None
    leaves: Sequence[Tile] = ()
