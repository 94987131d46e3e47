"""Where a tile is: whose map, which group of it, and the way down from its root."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from x402jobs.domain.errors import InvalidRequest

MAX_DEPTH = 100
_DIRECTION = r"-?[1-6]|0"
_GRAMMAR = re.compile(
    rf"([A-Za-z0-9_-]{{1,64}}),(0|[1-9][0-9]{{0,8}})(?::((?:{_DIRECTION})(?:,(?:{_DIRECTION}))*)?)?"
)
RULE = "must be like userId,0:1,2: an account, a group, and directions from -6 to 6 on the way down"


@dataclass(frozen=True, order=True)
class Coords:
    """A place in an account's tree of tiles (spec/tasks.md, Coordinates).

    `path` has one direction a step: 1 to 6 lead to a structural child, a subtask; -1 to -6 to a
    context child; 0 to the tile's hexplan. The root's path is empty.
    """

    user_id: str
    group_id: int = 0
    path: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, field: str = "coords") -> "Coords":
        """Read `userId,groupId:dir,dir`. Raises InvalidRequest naming the field."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"{field} {RULE}.", field=field)
        path = tuple(int(each) for each in match[3].split(",")) if match[3] else ()
        tile = path[:-1] if path[-1:] == (0,) else path  # a plan is no deeper than its tile
        if len(tile) > MAX_DEPTH:
            raise InvalidRequest(f"{field} may be at most {MAX_DEPTH} steps deep.", field=field)
        return cls(match[1], int(match[2]), path)

    def __str__(self) -> str:
        root = f"{self.user_id},{self.group_id}"
        return f"{root}:{self.path_text}" if self.path else root

    @property
    def path_text(self) -> str:
        """The path as it is written: `1,2`; nothing for the root."""
        return ",".join(map(str, self.path))

    @property
    def direction(self) -> int | None:
        """The last step; the root has none."""
        return self.path[-1] if self.path else None

    @property
    def is_hexplan(self) -> bool:
        """Whether a plan is here, and not a task."""
        return self.direction == 0

    @property
    def parent(self) -> "Coords | None":
        """One step up; the root has none."""
        return Coords(self.user_id, self.group_id, self.path[:-1]) if self.path else None

    @property
    def hexplan(self) -> "Coords":
        """Where this tile's plan is."""
        return self.child(0)

    def child(self, direction: int) -> "Coords":
        """One step down."""
        return Coords(self.user_id, self.group_id, (*self.path, direction))

    def ancestors(self) -> Iterator["Coords"]:
        """From the root down to the parent."""
        for depth in range(len(self.path)):
            yield Coords(self.user_id, self.group_id, self.path[:depth])

    def is_under(self, other: "Coords") -> bool:
        """Whether the other one is on the way down to here; nobody is under themselves."""
        return (
            (self.user_id, self.group_id) == (other.user_id, other.group_id)
            and len(self.path) > len(other.path)
            and self.path[: len(other.path)] == other.path
        )
