"""Tiles as their owner and a stranger may use them, and the plan of a task."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.fakes import NOW, FakeClock
from x402jobs.adapters.sqlite import SqliteCatalogue, SqliteTiles, embedded_database
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import (
    BelowIsPublic,
    InvalidRequest,
    NotFound,
    NothingAbove,
    PlaceTaken,
    Stale,
)
from x402jobs.domain.hexplan import Hexplan, StepState
from x402jobs.domain.tile import HEXPLAN_TITLE, Tile, Visibility
from x402jobs.services.mapping import MAX_TRIES, Mapping

PUBLIC, PRIVATE = Visibility.PUBLIC, Visibility.PRIVATE
ROOT = Coords("u")


@pytest.fixture
def database(tmp_path):
    database = embedded_database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def tiles(database):
    return SqliteTiles(database)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def mapping(tiles, database, clock):
    return Mapping(tiles, SqliteCatalogue(database), clock)


def at(*path):
    return Coords("u", 0, path)


def grow(mapping, *places, visibility=PRIVATE):
    """Tiles of u's at these places, under a root that is as visible as they."""
    mapping.edit("u", ROOT, {"visibility": visibility}, None)
    for coords in places:
        mapping.create("u", Tile(coords, f"Title of {coords}", visibility=visibility))


def states(tiles, coords=ROOT):
    plan = tiles.tile(coords.hexplan, coords.user_id)
    return None if plan is None else [(each.state, each.note) for each in plan.hexplan.steps]


def test_an_account_has_its_root_from_its_first_use_on(mapping, tiles):
    assert tiles.tile(ROOT, "u") is None

    root = mapping.get("u", ROOT)

    assert root == Tile(ROOT, "Home", created_at=NOW, updated_at=NOW)
    assert tiles.tile(ROOT, "u") == root == mapping.get("u", ROOT)


FIRST_USES = {
    "get": lambda mapping, user: mapping.get(user, Coords(user)),
    "page": lambda mapping, user: mapping.page(user, 25, 0),
    "under": lambda mapping, user: mapping.under(user, Coords(user), 25, 0),
    "create": lambda mapping, user: mapping.create(user, Tile(Coords(user, 0, (1,)), "One")),
    "edit": lambda mapping, user: mapping.edit(user, Coords(user), {"preview": "p"}, None),
    "context": lambda mapping, user: mapping.context(user, Coords(user)),
    "another group": lambda mapping, user: mapping.create(user, Tile(Coords(user, 7), "Seven")),
}


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES)
def test_the_root_is_called_after_its_owner_whatever_comes_first(mapping, database, tiles, use):
    ada = SqliteCatalogue(database).add_user("ada")

    use(mapping, ada)

    assert tiles.tile(Coords(ada), ada).title == "ada"


def test_a_first_use_shows_what_it_has_made(mapping):
    page = mapping.page("u", 25, 0)

    assert [(each.coords, each.title) for each in page.items] == [(ROOT, "Home")]
    assert page.total == 1
    assert mapping.context("u", ROOT).task == page.items[0]
    assert mapping.under("u", ROOT, 25, 0).items == []


@pytest.mark.parametrize("elsewhere", [Coords("v"), Coords("u", 1), Coords("u", 0, (1,))])
def test_no_other_place_is_made_by_looking_at_it(mapping, tiles, elsewhere):
    for look in (
        lambda: mapping.get("u", elsewhere),
        lambda: mapping.under("u", elsewhere, 25, 0),
        lambda: mapping.context("u", elsewhere),
        lambda: mapping.edit("u", elsewhere, {"title": "New"}, None),
        lambda: mapping.delete("u", elsewhere),
    ):
        with pytest.raises(NotFound):
            look()

    assert tiles.tiles_of("u", 25, 0).total == tiles.tiles_of("v", 25, 0).total == 0


def test_a_new_tile_has_its_times_in_whole_milliseconds(mapping, tiles, clock):
    clock.time = NOW + 0.123456

    made = mapping.create("u", Tile(at(1), "One", "c", "p"))

    assert made == Tile(at(1), "One", "c", "p", PRIVATE, NOW + 0.123, NOW + 0.123)
    assert tiles.tile(at(1), "u") == made


def test_an_account_makes_groups_of_its_own(mapping):
    made = mapping.create("u", Tile(Coords("u", 7), "Seven"))

    assert mapping.get("u", Coords("u", 7)) == made
    with pytest.raises(PlaceTaken):
        mapping.create("u", Tile(ROOT, "There from the start"))


@pytest.mark.parametrize("path", [(0,), (1, 0), (0, 1), (1, 0, 2), (0, 0)])
def test_a_plan_is_not_written_by_hand_and_has_nothing_below_it(mapping, tiles, path):
    grow(mapping, at(1))
    for coords in (ROOT, at(1)):
        mapping.ensure_plan(mapping.context("u", coords), "u")
    before = tiles.tiles_of("u", 25, 0)

    with pytest.raises(InvalidRequest) as refusal:
        mapping.create("u", Tile(at(*path), "Mine"))

    assert refusal.value.field == "coords"
    assert tiles.tiles_of("u", 25, 0) == before


def test_a_plan_is_read_and_deleted_and_not_changed(mapping):
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u").hexplan

    assert mapping.get("u", planned.coords) == planned
    with pytest.raises(InvalidRequest, match="Delete it") as refusal:
        mapping.edit("u", planned.coords, {"title": "Mine"}, None)
    assert refusal.value.field == "coords"

    mapping.delete("u", planned.coords)
    assert mapping.context("u", ROOT).hexplan is None


def test_nobody_writes_what_is_somebody_elses_public_or_not(mapping, tiles):
    grow(mapping, at(1), visibility=PUBLIC)
    before = tiles.tiles_of("u", 25, 0)
    for write, refusal in [
        (lambda: mapping.create("v", Tile(at(2), "Mine")), NothingAbove),
        (lambda: mapping.create("v", Tile(Coords("u", 1), "Mine")), NothingAbove),
        (lambda: mapping.edit("v", at(1), {"title": "Mine"}, None), NotFound),
        (lambda: mapping.delete("v", at(1)), NotFound),
        (lambda: mapping.delete("v", ROOT), NotFound),
    ]:
        with pytest.raises(refusal):
            write()

    assert tiles.tiles_of("u", 25, 0) == before
    assert mapping.get("v", at(1)).title == "Title of u,0:1"


def test_a_change_is_made_of_what_was_read_or_not_at_all(mapping, clock):
    read = mapping.get("u", ROOT)

    first = mapping.edit("u", ROOT, {"title": "First"}, read.updated_at)

    assert first.updated_at == pytest.approx(NOW + 0.001), "in the same moment, and still later"
    with pytest.raises(Stale):
        mapping.edit("u", ROOT, {"content": "second"}, read.updated_at)
    assert mapping.get("u", ROOT) == first
    clock.advance(60)
    again = mapping.edit("u", ROOT, {"content": "second"}, first.updated_at)
    assert again == replace(first, content="second", updated_at=NOW + 60)
    assert mapping.edit("u", ROOT, {"title": "Whatever"}, None).title == "Whatever"


def test_a_clock_that_is_set_back_makes_no_change_look_like_none(mapping, clock):
    seen = {mapping.get("u", ROOT).updated_at}
    for _ in range(5):
        clock.advance(-10)
        seen.add(mapping.edit("u", ROOT, {"title": "New"}, None).updated_at)

    assert len(seen) == 6


def test_a_tile_hides_when_nothing_below_it_is_public_any_more(mapping):
    grow(mapping, at(1), at(1, 2), visibility=PUBLIC)

    with pytest.raises(BelowIsPublic):
        mapping.edit("u", at(1), {"visibility": PRIVATE}, None)
    mapping.delete("u", at(1, 2))

    assert mapping.edit("u", at(1), {"visibility": PRIVATE}, None).visibility is PRIVATE


def test_an_owners_first_run_stores_the_plan(mapping, tiles):
    grow(mapping, at(1), at(1, 1), at(2), at(-1))
    context = mapping.context("u", ROOT)

    planned = mapping.ensure_plan(context, "u")

    plan = Tile(ROOT.hexplan, HEXPLAN_TITLE, "", "", PRIVATE, NOW, NOW, Hexplan.of(context))
    assert planned == replace(context, hexplan=plan)
    assert [each.coords for each in plan.hexplan.steps] == ["u,0:1,1", "u,0:2"]
    assert tiles.tile(ROOT.hexplan, "u") == plan


def test_a_plan_that_is_there_stays_as_it_is(mapping, clock):
    grow(mapping, at(1))
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    mapping.mark(planned, "u", 0, StepState.COMPLETE, "done")
    grow(mapping, at(2))
    clock.advance(60)

    again = mapping.ensure_plan(mapping.context("u", ROOT), "u")

    assert again.hexplan.created_at == NOW
    assert [each.note for each in again.hexplan.hexplan.steps] == ["done"]


def test_first_runs_at_once_make_one_plan(mapping, tiles):
    context = mapping.context("u", ROOT)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: mapping.ensure_plan(context, "u").hexplan, range(8)))

    assert made == [tiles.tile(ROOT.hexplan, "u")] * 8
    assert tiles.tiles_of("u", 25, 0).total == 2


def test_a_run_of_a_tile_that_is_gone_by_now_has_no_plan(mapping, tiles):
    grow(mapping, at(1))
    context = mapping.context("u", at(1))
    mapping.delete("u", at(1))

    with pytest.raises(NotFound):
        mapping.ensure_plan(context, "u")

    assert tiles.tiles_of("u", 25, 0).total == 1


def test_a_strangers_run_has_a_plan_and_writes_nothing(mapping, tiles):
    grow(mapping, at(1), at(2), visibility=PUBLIC)
    mapping.create("u", Tile(at(3), "Planted"))
    before = tiles.tiles_of("u", 25, 0)

    planned = mapping.ensure_plan(mapping.context("v", ROOT), "v")

    assert [each.coords for each in planned.hexplan.hexplan.steps] == ["u,0:1", "u,0:2"]
    assert not mapping.mark(planned, "v", 0, StepState.COMPLETE, "mine")
    assert tiles.tiles_of("u", 25, 0) == before
    assert tiles.tiles_of("v", 25, 0).total == 0


def test_a_stranger_does_not_see_the_owners_plan(mapping):
    grow(mapping, at(1), visibility=PUBLIC)
    owned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    mapping.mark(owned, "u", 0, StepState.BLOCKED, "planted")

    planned = mapping.ensure_plan(mapping.context("v", ROOT), "v")

    assert "planted" not in planned.hexplan.hexplan.text


def test_a_stranger_does_not_mark_the_owners_plan_though_theirs_is_just_like_it(mapping, tiles):
    grow(mapping, at(1), visibility=PUBLIC)
    owned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    planned = mapping.ensure_plan(mapping.context("v", ROOT), "v")
    assert planned.hexplan.hexplan == owned.hexplan.hexplan

    for context in (planned, owned):
        assert not mapping.mark(context, "v", 0, StepState.COMPLETE, "mine")

    assert states(tiles) == [(StepState.PENDING, "")]


@pytest.mark.parametrize("state", StepState)
def test_a_mark_is_written_at_its_step(mapping, tiles, clock, state):
    grow(mapping, at(1), at(2))
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    clock.advance(60)

    assert mapping.mark(planned, "u", 1, state, "note")

    assert states(tiles) == [(StepState.PENDING, ""), (state, "note")]
    assert tiles.tile(ROOT.hexplan, "u").updated_at == NOW + 60


def test_marks_of_several_runs_at_once_are_all_kept(mapping, tiles):
    grow(mapping, *(at(step) for step in (1, 2, 3, 4)))
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u")

    with ThreadPoolExecutor(4) as threads:
        marked = threads.map(
            lambda step: mapping.mark(planned, "u", step, StepState.COMPLETE, f"{step}"), range(4)
        )
        assert list(marked) == [True] * 4

    assert states(tiles) == [(StepState.COMPLETE, f"{step}") for step in range(4)]


def test_a_mark_of_an_old_reading_keeps_what_was_marked_since(mapping, tiles):
    grow(mapping, at(1), at(2))
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    mapping.mark(planned, "u", 0, StepState.COMPLETE, "first")

    assert mapping.mark(planned, "u", 1, StepState.BLOCKED, "second")

    assert states(tiles) == [(StepState.COMPLETE, "first"), (StepState.BLOCKED, "second")]


def test_a_plan_made_anew_with_other_steps_is_not_marked(mapping, tiles):
    grow(mapping, at(1), at(2))
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    mapping.delete("u", ROOT.hexplan)

    assert not mapping.mark(planned, "u", 1, StepState.COMPLETE)
    mapping.delete("u", at(1))
    mapping.ensure_plan(mapping.context("u", ROOT), "u")
    assert not mapping.mark(planned, "u", 0, StepState.COMPLETE)
    assert not mapping.mark(planned, "u", 1, StepState.COMPLETE)

    assert states(tiles) == [(StepState.PENDING, "")]


def test_a_mark_that_is_always_too_late_gives_up(mapping, tiles, monkeypatch):
    planned = mapping.ensure_plan(mapping.context("u", ROOT), "u")
    tries = []
    monkeypatch.setattr(tiles, "swap_plan", lambda *plans: bool(tries.append(plans)))

    assert not mapping.mark(planned, "u", 0, StepState.COMPLETE)

    assert len(tries) == MAX_TRIES


def test_a_context_without_a_plan_has_nothing_to_mark(mapping):
    assert not mapping.mark(mapping.context("u", ROOT), "u", 0, StepState.COMPLETE)


def test_a_task_of_more_tasks_than_a_plan_may_have_is_not_planned(mapping, monkeypatch):
    monkeypatch.setattr("x402jobs.services.mapping.MAX_STEPS", 2)
    grow(mapping, at(1), at(2))
    assert mapping.ensure_plan(mapping.context("u", ROOT), "u").hexplan is not None
    mapping.delete("u", ROOT.hexplan)
    grow(mapping, at(3))

    with pytest.raises(InvalidRequest, match="more than 2 tasks"):
        mapping.ensure_plan(mapping.context("u", ROOT), "u")
