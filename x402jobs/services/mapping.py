"""Tiles: reading and writing them, and the plan of a task."""

from collections.abc import Mapping as Changes
from dataclasses import replace
from typing import Any

from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import InvalidRequest, NotFound, NothingAbove, Stale
from x402jobs.domain.hexplan import Hexplan, StepState
from x402jobs.domain.page import Page
from x402jobs.domain.tile import HEXPLAN_TITLE, TaskContext, Tile
from x402jobs.ports import Catalogue, Clock, Tiles

MAX_STEPS = 1000
HOME = "Home"
"""The root of an account that has no name yet."""
MAX_TRIES = 5
MILLISECOND = 0.001


class Mapping:
    """Each method acts for one account; what it may not see does not exist for it.

    Whoever may read a tile may still not write it: only its owner does, and a write to anybody
    else's is told that there is no such tile.
    """

    def __init__(self, tiles: Tiles, catalogue: Catalogue, clock: Clock) -> None:
        self._tiles = tiles
        self._catalogue = catalogue
        self._clock = clock

    def page(self, owner_id: str, limit: int, offset: int) -> Page[Tile]:
        """All of the account's tiles and plans, each tree from its root on."""
        page = self._tiles.tiles_of(owner_id, limit, offset)
        if page.total == 0:
            self._make_root(owner_id)
            page = self._tiles.tiles_of(owner_id, limit, offset)
        return page

    def under(self, reader_id: str, coords: Coords, limit: int, offset: int) -> Page[Tile]:
        """What the reader may see below a tile. Raises NotFound when the tile itself is not."""
        self.get(reader_id, coords)
        return self._tiles.under(coords, reader_id, limit, offset)

    def get(self, reader_id: str, coords: Coords) -> Tile:
        """One tile, or plan. Raises NotFound."""
        tile = self._tiles.tile(coords, reader_id)
        if tile is None and coords == Coords(reader_id):
            tile = self._make_root(reader_id)
        if tile is None:
            raise NotFound("There is no such tile.")
        return tile

    def create(self, owner_id: str, tile: Tile) -> Tile:
        """Put a new tile under one that is there, or at the root of a group.

        Raises InvalidRequest for a plan's place or one below it, and what Tiles.add raises.
        """
        if 0 in tile.coords.path:
            raise InvalidRequest(
                "A plan, at direction 0, is made by running its task; it has no tiles below it.",
                field="coords",
            )
        if tile.coords.user_id != owner_id:
            raise NothingAbove()
        self.get(owner_id, Coords(owner_id))
        now = self._now()
        tile = replace(tile, created_at=now, updated_at=now)
        self._tiles.add(tile)
        return tile

    def edit(
        self, owner_id: str, coords: Coords, changes: Changes[str, Any], read_at: float | None
    ) -> Tile:
        """Change some of a tile's fields, by their names.

        `read_at` is the `updated_at` the change was made from, where its maker tells: Stale when
        the tile has another one by now. Raises NotFound too, InvalidRequest for a plan, and what
        Tiles.replace raises.
        """
        before = self._own(owner_id, coords)
        if coords.is_hexplan:
            raise InvalidRequest(
                "A plan is not written by hand. Delete it, and the next run makes it anew.",
                field="coords",
            )
        if read_at not in (None, before.updated_at):
            raise Stale()
        after = replace(before, **changes, updated_at=self._later(before))
        self._tiles.replace(before, after)
        return after

    def delete(self, owner_id: str, coords: Coords) -> None:
        """Delete a tile and all below it, or a plan. Raises NotFound."""
        self._own(owner_id, coords)
        self._tiles.delete(coords)

    def context(self, reader_id: str, coords: Coords) -> TaskContext:
        """What a run of this tile needs to know, as its reader may see it. Raises NotFound."""
        context = self._tiles.context(coords, reader_id)
        if context is None:
            # An account's first root is made here, or there is nothing.
            context = TaskContext(self.get(reader_id, coords))
        return context

    def ensure_plan(self, context: TaskContext, reader_id: str) -> TaskContext:
        """The context with a plan: the stored one, else one made of the context.

        A stored one that cannot be read, or was made when the task had no subtasks and has some
        now, or the other way round, is made anew. What was made is stored where the reader owns the
        tile: once, however many run it at once. A stranger's is for their run alone, and written
        nowhere.
        """
        if context.hexplan is not None:
            if _fits(context):
                return context
            self._tiles.delete(context.hexplan.coords)  # only its owner sees a stored one
            context = self.context(reader_id, context.task.coords)
        if len(context.leaves) > MAX_STEPS:
            raise InvalidRequest(
                f"There are more than {MAX_STEPS} tasks below this one. Run parts of it."
            )
        coords, now = context.task.coords.hexplan, self._now()
        plan = Tile(
            coords, HEXPLAN_TITLE, created_at=now, updated_at=now, hexplan=Hexplan.of(context)
        )
        if coords.user_id == reader_id:
            plan = self._tiles.add_plan(plan)
        return replace(context, hexplan=plan)

    def mark(
        self, context: TaskContext, reader_id: str, step: int, state: StepState, note: str = ""
    ) -> bool:
        """Write down how far a step of the task's plan is; whether it was.

        Only the owner's runs do. A plan that was changed meanwhile is read again; one that was
        made anew with other steps, or is gone, stays as it is.
        """
        plan = context.hexplan
        if plan is None or plan.hexplan is None or plan.coords.user_id != reader_id:
            return False
        meant = plan.hexplan.steps[step]
        for _ in range(MAX_TRIES):
            if plan is None or plan.hexplan is None:
                return False
            there = plan.hexplan.steps[step : step + 1]
            if [(each.title, each.coords) for each in there] != [(meant.title, meant.coords)]:
                return False
            marked = plan.hexplan.marked(step, state, note)
            after = replace(plan, hexplan=marked, updated_at=self._later(plan))
            if self._tiles.swap_plan(plan, after):
                return True
            plan = self._tiles.tile(plan.coords, reader_id)
        return False

    def _own(self, owner_id: str, coords: Coords) -> Tile:
        """A tile or plan of the account's own. Raises NotFound."""
        if coords.user_id != owner_id:
            raise NotFound("There is no such tile.")
        return self.get(owner_id, coords)

    def _make_root(self, owner_id: str) -> Tile:
        title = self._catalogue.username(owner_id) or HOME
        return self._tiles.ensure_root(owner_id, title, self._now())

    def _now(self) -> float:
        """Whole milliseconds: what a reader is shown can be compared with what is stored."""
        return round(self._clock.now(), 3)

    def _later(self, before: Tile) -> float:
        """Now, and not the moment of the last change, however soon this one follows."""
        return max(self._now(), round(before.updated_at + MILLISECOND, 3))


def _fits(context: TaskContext) -> bool:
    """Whether the stored plan is one of a leaf for a leaf, and of a parent for a parent."""
    plan = context.hexplan.hexplan if context.hexplan is not None else None
    if plan is None:
        return False
    is_of_leaf = plan.steps[0].coords == str(context.task.coords)
    return is_of_leaf is not bool(context.subtasks)
