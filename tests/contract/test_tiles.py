"""Trees of tiles, their order and who sees what of them, whatever store is behind them."""

import random
from dataclasses import replace

import pytest

from tests.contract.conftest import race
from tests.tools import WHOLE
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import (
    AboveIsPrivate,
    BelowIsPublic,
    NotFound,
    NothingAbove,
    PlaceTaken,
    Stale,
)
from x402jobs.domain.hexplan import Hexplan, Step, StepState
from x402jobs.domain.tile import HEXPLAN_TITLE, TaskContext, Tile, Visibility

PUBLIC, PRIVATE = Visibility.PUBLIC, Visibility.PRIVATE
STEPS = Hexplan((Step("One", "u,0:1"), Step("Two", "u,0:2", StepState.COMPLETE, "done")))


def tile(text, **changes):
    """A tile of these coordinates."""
    facts = {"title": f"Title of {text}", "created_at": 1000.25, "updated_at": 1000.25}
    return Tile(Coords.parse(text), **facts | changes)


def plan(text, steps=STEPS, **changes):
    """The plan of the tile of these coordinates."""
    there = Coords.parse(text).hexplan
    return Tile(
        there, HEXPLAN_TITLE, created_at=2000.5, updated_at=2000.5, hexplan=steps, **changes
    )


def grow(store, *texts, **changes):
    """Tiles of these coordinates, in this order; a path without an account is u's in group 0."""
    tiles = [tile(full(text), **changes) for text in texts]
    for each in tiles:
        store.tiles.add(each)
    return tiles


def full(text):
    return text if text[:1].isalpha() else f"u,0:{text}"


def places(tiles):
    return [str(each.coords) for each in tiles]


def paths(tiles):
    return [each.coords.path_text for each in tiles]


def below(store, text, reader="u"):
    return paths(store.tiles.under(Coords.parse(full(text)), reader, 1000, 0).items)


def context(store, text, reader="u"):
    return store.tiles.context(Coords.parse(full(text)), reader)


def test_every_field_of_a_tile_comes_back_as_it_went(store):
    rich = tile(
        "u,0",
        title="Ünïcode 🌧 'quoted' \"twice\"",
        content="line\nline\r\n\t</hexplan> {{#x}}",
        preview="a\nb",
        visibility=PUBLIC,
        created_at=1_800_000_000.123,
        updated_at=1_800_000_001.5,
    )

    store.tiles.add(rich)

    assert store.tiles.tile(rich.coords, "u") == rich
    assert context(store, "") == TaskContext(rich, [], [], [], None, [])


@pytest.mark.parametrize(
    ("visibility", "reader", "seen"),
    [
        (PRIVATE, "u", True),
        (PRIVATE, "v", False),
        (PRIVATE, "", False),
        (PRIVATE, "U", False),
        (PUBLIC, "u", True),
        (PUBLIC, "v", True),
    ],
)
def test_a_tile_is_seen_by_its_owner_and_where_it_is_public_by_anybody(
    store, visibility, reader, seen
):
    (root,) = grow(store, "u,0", visibility=visibility)

    assert store.tiles.tile(root.coords, reader) == (root if seen else None)
    assert (store.tiles.context(root.coords, reader) is not None) is seen


@pytest.mark.parametrize("missing", ["u,0:1", "u,1", "v,0", "u,0:0", "u,0:1,1"])
def test_what_is_not_there_is_nothing(store, missing):
    grow(store, "u,0")

    assert store.tiles.tile(Coords.parse(missing), "u") is None
    assert context(store, missing) is None
    assert below(store, missing) == []
    assert store.tiles.delete(Coords.parse(missing)) == 0


@pytest.mark.parametrize("orphan", ["u,0:2,1", "u,0:1,1,1", "u,1:1", "v,0:1", "u,0:-1,1"])
def test_a_tile_needs_the_one_above_it(store, orphan):
    grow(store, "u,0", "1", "v,1")

    with pytest.raises(NothingAbove):
        store.tiles.add(tile(orphan))

    assert store.tiles.tile(Coords.parse(orphan), "u") is None


@pytest.mark.parametrize("taken", ["u,0", "u,0:1", "u,0:1,-6"])
def test_a_place_is_taken_once(store, taken):
    grow(store, "u,0", "1", "1,-6")
    before = store.tiles.tile(Coords.parse(taken), "u")

    with pytest.raises(PlaceTaken):
        store.tiles.add(tile(taken, title="Another"))

    assert store.tiles.tile(Coords.parse(taken), "u") == before


def test_of_many_that_want_a_place_at_once_one_gets_it(store):
    grow(store, "u,0")
    workers = [store.worker() for _ in range(4)]

    def add(number):
        try:
            workers[number % 4].tiles.add(tile("u,0:1", title=f"{number}"))
        except PlaceTaken:
            return None
        return f"{number}"

    (title,) = [each for each in race(20, add) if each is not None]

    assert store.tiles.tile(Coords.parse("u,0:1"), "u").title == title


@pytest.mark.parametrize(
    ("public", "named"),
    [([], "u,0"), (["u,0"], "u,0:1"), (["u,0", "u,0:1"], None)],
)
def test_a_tile_is_public_under_public_ones_only(store, public, named):
    for text in ("u,0", "u,0:1"):
        store.tiles.add(tile(text, visibility=PUBLIC if text in public else PRIVATE))
    store.tiles.add(hidden := tile("u,0:1,2"))
    writes = [
        lambda: store.tiles.add(tile("u,0:1,1", visibility=PUBLIC)),
        lambda: store.tiles.replace(hidden, replace(hidden, visibility=PUBLIC, updated_at=1001.0)),
    ]

    for write in writes:
        if named is None:
            write()
        else:
            with pytest.raises(AboveIsPrivate, match=rf"Make {named} public first\.$"):
                write()

    assert below(store, "1", "v") == ([] if named else ["1,1", "1,2"])


def test_a_tile_cannot_hide_while_there_are_public_ones_below_it(store):
    root, one, *_ = grow(store, "u,0", "1", "1,-2", "1,-2,3", "2", visibility=PUBLIC)

    with pytest.raises(BelowIsPublic, match=r"this one: 2\..* from u,0:1,-2,3 upwards\.$"):
        store.tiles.replace(one, replace(one, visibility=PRIVATE, updated_at=1001.0))
    assert store.tiles.tile(one.coords, "v") == one
    with pytest.raises(BelowIsPublic, match="this one: 4"):
        store.tiles.replace(root, replace(root, visibility=PRIVATE, updated_at=1001.0))

    for text in ("1,-2,3", "1,-2", "1", "2", "u,0"):
        before = store.tiles.tile(Coords.parse(full(text)), "u")
        store.tiles.replace(before, replace(before, visibility=PRIVATE, updated_at=1001.0))
    assert below(store, "u,0", "v") == []


def test_a_tile_does_not_become_public_while_the_one_above_it_hides(store):
    for group in range(10):
        above, under = grow(store, f"u,{group}", f"u,{group}:1")
        store.tiles.replace(above, above := replace(above, visibility=PUBLIC, updated_at=1001.0))
        changes = [
            (store.worker(), above, replace(above, visibility=PRIVATE, updated_at=1002.0)),
            (store.worker(), under, replace(under, visibility=PUBLIC, updated_at=1002.0)),
        ]

        def change(number, changes=changes):
            worker, before, after = changes[number]
            try:
                worker.tiles.replace(before, after)
            except (AboveIsPrivate, BelowIsPublic):
                return False
            return True

        assert sorted(race(2, change)) == [False, True]


@pytest.mark.parametrize("deleted", ["", "1", "1,2"])
def test_no_tile_is_left_behind_when_those_above_it_are_deleted(store, deleted):
    workers = [store.worker() for _ in range(4)]
    for group in range(6):
        grow(store, *(f"u,{group}{down}" for down in ("", ":1", ":1,2", ":2")))

        def change(number, group=group):
            tiles = workers[number % 4].tiles
            try:
                if number == 6:
                    tiles.delete(Coords.parse(f"u,{group}:{deleted}"))
                elif number == 0:
                    tiles.add_plan(plan(f"u,{group}:1,2"))
                else:
                    tiles.add(tile(f"u,{group}:1,2,{number}"))
            except (NothingAbove, NotFound):
                return False
            return True

        race(7, change)

    there = {each.coords for each in store.tiles.tiles_of("u", 1000, 0).items}
    assert [str(each) for each in there if each.path and each.parent not in there] == []


def test_nothing_is_public_under_what_hides_at_that_moment(store):
    workers = [store.worker() for _ in range(4)]
    for group in range(6):
        root, *children = grow(
            store, f"u,{group}", *(f"u,{group}:{step}" for step in range(1, 6)), visibility=PRIVATE
        )
        store.tiles.replace(root, root := replace(root, visibility=PUBLIC, updated_at=1001.0))

        def change(number, root=root, children=children):
            tiles = workers[number % 4].tiles
            try:
                if number == 5:
                    tiles.replace(root, replace(root, visibility=PRIVATE, updated_at=1002.0))
                elif number == 6:
                    tiles.add(tile(f"{root.coords}:6", visibility=PUBLIC))
                else:
                    before = children[number]
                    tiles.replace(before, replace(before, visibility=PUBLIC, updated_at=1002.0))
            except (AboveIsPrivate, BelowIsPublic):
                return False
            return True

        race(7, change)

    there = {each.coords: each.visibility for each in store.tiles.tiles_of("u", 1000, 0).items}
    public = [each for each, visibility in there.items() if visibility is PUBLIC]
    assert [str(each) for each in public if each.path and there[each.parent] is PRIVATE] == []


def test_a_change_writes_what_may_change_and_nothing_else(store):
    _, before, other = grow(store, "u,0", "1", "1,1")
    after = replace(before, title="New", content="c", preview="p", updated_at=1001.5)

    store.tiles.replace(before, replace(after, created_at=5.0))

    assert store.tiles.tile(before.coords, "u") == after
    assert store.tiles.tile(other.coords, "u") == other


def test_a_change_of_what_has_been_changed_meanwhile_writes_nothing(store):
    (before,) = grow(store, "u,0")
    store.tiles.replace(before, first := replace(before, title="First", updated_at=1001.0))

    with pytest.raises(Stale):
        store.tiles.replace(before, replace(before, title="Second", updated_at=1002.0))

    assert store.tiles.tile(before.coords, "u") == first
    store.tiles.delete(before.coords)
    with pytest.raises(Stale):
        store.tiles.replace(first, first)


def test_one_of_many_changes_of_one_moment_is_written(store):
    (before,) = grow(store, "u,0")
    workers = [store.worker() for _ in range(4)]

    def change(number):
        after = replace(before, title=f"{number}", updated_at=1001.0 + number)
        try:
            workers[number % 4].tiles.replace(before, after)
        except Stale:
            return None
        return after

    (written,) = [each for each in race(20, change) if each is not None]

    assert store.tiles.tile(before.coords, "u") == written


CHILDREN = ["1", "2", "3", "4", "5", "6", "-1", "-2", "-3", "-4", "-5", "-6"]


@pytest.mark.parametrize("seed", range(5))
def test_children_come_in_their_order_in_whichever_they_were_made(store, seed):
    made = random.Random(seed).sample(CHILDREN, 12)
    grow(store, "u,0", *made)
    store.tiles.add_plan(plan("u,0"))

    told = context(store, "u,0")

    assert paths(told.subtasks) == CHILDREN[:6]
    assert paths(told.context) == CHILDREN[6:]
    assert below(store, "u,0") == ["0", *CHILDREN]


def test_what_is_below_comes_from_the_top_and_depth_first(store):
    tree = ["1", "1,1", "1,1,-1", "1,2", "1,-2", "1,-2,6", "2", "-1", "-1,1", "-1,-1"]
    grow(store, "u,0", *sorted(tree, key=len), "u,1", "u,1:1", "v,0", "v,0:1", "v,0:1,1")
    store.tiles.add_plan(plan("u,0:1"))

    assert below(store, "u,0") == ["1", "1,0", "1,1", "1,1,-1", "1,2", "1,-2", "1,-2,6", *tree[6:]]
    assert below(store, "1") == ["1,0", "1,1", "1,1,-1", "1,2", "1,-2", "1,-2,6"]
    assert below(store, "1,-2") == ["1,-2,6"]
    assert below(store, "2") == []
    assert below(store, "u,0", "v") == []


def test_an_account_has_its_trees_group_by_group_from_their_roots_on(store):
    grow(store, "u,10", "u,2", "u,2:1", "v,0", "u,0", "u,0:-1", "u,0:1")
    store.tiles.add_plan(plan("u,0"))

    def part(limit, offset):
        page = store.tiles.tiles_of("u", limit, offset)
        return places(page.items), page.total, page.has_more

    assert part(3, 0) == (["u,0", "u,0:0", "u,0:1"], 7, True)
    assert part(3, 3) == (["u,0:-1", "u,2", "u,2:1"], 7, True)
    assert part(3, 6) == (["u,10"], 7, False)
    assert part(3, 9) == ([], 7, False)
    assert store.tiles.tiles_of("w", 3, 0).total == 0


def test_a_list_of_what_is_below_goes_on_until_there_is_no_more(store):
    grow(store, "u,0", "1", "1,1", "2", visibility=PUBLIC)
    grow(store, "3")

    def part(reader, offset):
        page = store.tiles.under(Coords("u"), reader, 2, offset)
        return paths(page.items), page.total, page.has_more

    assert part("u", 0) == (["1", "1,1"], 4, True)
    assert part("u", 2) == (["2", "3"], 4, False)
    assert part("v", 2) == (["2"], 3, False)


@pytest.mark.parametrize(
    ("deleted", "left"),
    [
        ("u,0:1", ["u,0", "u,0:2", "u,0:-1", "u,0:-1,1", "u,1", "u,1:1"]),
        ("u,0:1,2", ["u,0", "u,0:1", "u,0:1,0", "u,0:1,1", "u,0:1,1,1", "u,0:2", "u,0:-1",
                     "u,0:-1,1", "u,1", "u,1:1"]),
        ("u,0:1,0", ["u,0", "u,0:1", "u,0:1,1", "u,0:1,1,1", "u,0:1,2", "u,0:2", "u,0:-1",
                     "u,0:-1,1", "u,1", "u,1:1"]),
        ("u,0:-1", ["u,0", "u,0:1", "u,0:1,0", "u,0:1,1", "u,0:1,1,1", "u,0:1,2", "u,0:2", "u,1",
                    "u,1:1"]),
        ("u,0", ["u,1", "u,1:1"]),
    ],
)  # fmt: skip
def test_deleting_takes_what_is_below_and_nothing_beside(store, deleted, left):
    mine = ["u,0", "1", "1,1", "1,1,1", "1,2", "2", "-1", "-1,1", "u,1", "u,1:1"]
    theirs = ["v,0", "v,0:1", "v,0:1,1"]
    grow(store, *mine, *theirs)
    store.tiles.add_plan(plan("u,0:1"))

    count = store.tiles.delete(Coords.parse(deleted))

    assert places(store.tiles.tiles_of("u", 100, 0).items) == left
    assert count == len(mine) + 1 - len(left)
    assert places(store.tiles.tiles_of("v", 100, 0).items) == theirs
    assert store.tiles.delete(Coords.parse(deleted)) == 0


def test_a_run_is_told_all_it_needs_at_once(store):
    texts = ["u,0", "1", "1,2", "1,2,1", "1,2,3", "1,2,3,4", "1,2,-1", "1,2,-6", "1,2,-1,1"]
    beside = ["1,1", "1,-1", "2", "-1", "u,1", "v,0", "v,0:1"]
    root, one, two, first, third, _, context_1, context_6, _ = grow(
        store, *texts, content="c", preview="p"
    )
    grow(store, *beside)

    told = context(store, "1,2")

    leaves = [replace(each, content="", preview="") for each in (first,)]
    assert told == TaskContext(
        task=two,
        ancestors=[root, one],
        context=[context_1, context_6],
        subtasks=[first, third],
        hexplan=None,
        leaves=[*leaves, tile("u,0:1,2,3,4")],
    )


def test_a_plan_stands_in_for_the_leaves(store):
    grow(store, "u,0", "1", "1,1", "2")
    planned = store.tiles.add_plan(plan("u,0"))

    told = context(store, "u,0")

    assert (told.hexplan, told.leaves) == (planned, [])
    assert paths(context(store, "1").leaves) == ["1,1"], "another tile's plan is no plan of this"


@pytest.mark.parametrize(
    ("tree", "leaves"),
    [
        ([], []),
        (["-1", "-1,1"], []),
        (["1"], ["1"]),
        (["2", "1"], ["1", "2"]),
        (["1", "1,1"], ["1,1"]),
        (["1", "1,-1"], ["1"]),
        (["1", "1,-1", "1,-1,2"], ["1"]),
        (["1", "1,6", "1,6,-3", "2", "2,1", "2,1,1", "3"], ["1,6", "2,1,1", "3"]),
        (["1", "1,1", "1,1,1", "1,1,2", "1,2", "2", "-1", "-1,1"], ["1,1,1", "1,1,2", "1,2", "2"]),
    ],
)
def test_leaves_are_below_by_subtasks_only_and_have_none(store, tree, leaves):
    grow(store, "u,0", *tree)
    for text in tree:
        store.tiles.add_plan(plan(full(text)))

    assert paths(context(store, "u,0").leaves) == leaves


def test_a_stranger_is_told_what_is_public_and_nothing_else(store):
    public = ["u,0", "1", "1,1", "1,1,1", "1,-1", "1,2"]
    private = ["1,3", "1,3,1", "1,-2", "1,2,1", "2"]
    grow(store, *public, visibility=PUBLIC)
    grow(store, *private, content="planted")
    for text in ("u,0", "u,0:1", "u,0:1,1"):
        store.tiles.add_plan(plan(text))

    told = context(store, "1", "v")

    assert paths(told.ancestors) == [""]
    assert paths(told.context) == ["1,-1"]
    assert paths(told.subtasks) == ["1,1", "1,2"]
    assert told.hexplan is None
    assert paths(told.leaves) == ["1,1,1", "1,2"]
    assert below(store, "u,0", "v") == ["1", "1,1", "1,1,1", "1,2", "1,-1"]
    assert store.tiles.tile(Coords.parse("u,0:1,0"), "v") is None
    for text in (*private, "1,0", "1,4"):
        assert context(store, text, "v") is None


def test_a_thousand_leaves_are_told_and_no_more(store):
    ways = [
        f"{a},{b},{c},{d}" for a in "123456" for b in "123456" for c in "123456" for d in "12345"
    ]
    parents = sorted({way[:end] for way in ways for end in (1, 3, 5)}, key=len)
    store.plant_tiles(tile(full(way)) for way in ("u,0", *parents, *ways))

    assert paths(context(store, "u,0").leaves) == ways[:1001]
    assert len(context(store, "1").leaves) == 180


def test_a_tree_may_be_a_hundred_deep_and_the_deepest_tile_has_a_plan(store):
    down = ["u,0", *(",".join(["1"] * depth) for depth in range(1, 101))]
    store.plant_tiles(tile(full(way), visibility=PUBLIC) for way in down)
    planned = store.tiles.add_plan(plan(full(down[100])))

    told = context(store, down[100])

    assert len(told.task.coords.path) == 100
    assert paths(told.ancestors) == ["", *down[1:100]]
    assert told.hexplan == planned
    assert store.tiles.tile(Coords.parse(str(planned.coords)), "u") == planned
    assert paths(context(store, down[100], "v").ancestors) == ["", *down[1:100]]
    assert paths(context(store, "u,0").leaves) == [down[100]]
    assert store.tiles.delete(Coords.parse(full(down[50]))) == 52


def test_a_root_is_made_once_by_all_who_need_it_at_once(store):
    workers = [store.worker() for _ in range(4)]

    roots = race(20, lambda n: workers[n % 4].tiles.ensure_root("u", f"Title {n}", 1000.0 + n))

    assert len({(root.title, root.created_at, root.updated_at) for root in roots}) == 1
    assert store.tiles.tiles_of("u", 100, 0).items == [roots[0]]
    assert (roots[0].coords, roots[0].visibility) == (Coords("u"), PRIVATE)
    assert store.tiles.ensure_root("u", "Other", 5000.0) == roots[0]


def test_a_plan_is_made_once_by_all_who_need_it_at_once(store):
    grow(store, "u,0")
    workers = [store.worker() for _ in range(4)]
    plans = [plan("u,0", Hexplan((Step(f"Step {n}", "u,0"),))) for n in range(100)]

    made = race(100, lambda number: workers[number % 4].tiles.add_plan(plans[number]))

    assert made[0] in plans
    assert made == [made[0]] * 100
    assert context(store, "u,0").hexplan == made[0]
    assert store.tiles.tiles_of("u", 100, 0).total == 2


def test_a_plan_is_not_made_for_what_is_gone(store):
    grow(store, "u,0", "1", "2", "v,0")
    store.tiles.delete(Coords.parse("u,0:1"))

    for gone in ("u,0:1", "u,0:1,1", "u,1", "v,0:2"):
        with pytest.raises(NotFound):
            store.tiles.add_plan(plan(gone))

    assert places(store.tiles.tiles_of("u", 100, 0).items) == ["u,0", "u,0:2"]


def test_a_plan_is_written_where_it_is_still_the_one_that_was_read(store):
    grow(store, "u,0")
    before = store.tiles.add_plan(plan("u,0"))
    first = replace(
        before, hexplan=STEPS.marked(0, StepState.COMPLETE, "✅ one"), updated_at=3000.0
    )
    second = replace(before, hexplan=STEPS.marked(0, StepState.BLOCKED), updated_at=3001.0)

    assert store.tiles.swap_plan(before, first)
    assert not store.tiles.swap_plan(before, second)

    assert context(store, "u,0").hexplan == first
    store.tiles.delete(before.coords)
    assert not store.tiles.swap_plan(first, second)
    assert context(store, "u,0").hexplan is None


def test_one_of_many_marks_of_one_plan_is_written(store):
    grow(store, "u,0")
    before = store.tiles.add_plan(plan("u,0"))
    workers = [store.worker() for _ in range(4)]
    marked = [
        replace(before, hexplan=STEPS.marked(0, StepState.COMPLETE, f"{number}"), updated_at=3000.0)
        for number in range(20)
    ]

    swapped = race(20, lambda number: workers[number % 4].tiles.swap_plan(before, marked[number]))

    assert sum(swapped) == 1
    assert context(store, "u,0").hexplan == marked[swapped.index(True)]


# Two readers ask at each of a hundred tiles; over PostgREST that takes seconds for one tree.
@pytest.mark.parametrize(
    ("store", "seed"),
    [("sqlite", seed) for seed in range(8)]
    + [("supabase", seed) for seed in range(8 if WHOLE else 2)],
    indirect=["store"],
)
def test_whatever_grows_is_told_as_a_plain_walk_of_it_would(store, seed):
    """The order, the leaves and a subtree's bounds, against the same rules without a database."""
    dice, tree = random.Random(seed), {(): PUBLIC}
    for _ in range(120):
        above = dice.choice(list(tree))
        visibility = dice.choice([PUBLIC, PUBLIC, PRIVATE]) if tree[above] is PUBLIC else PRIVATE
        tree.setdefault((*above, dice.choice([1, 2, 3, 4, 5, 6, -1, -2, -6])), visibility)
    store.plant_tiles(
        tile(str(Coords("u", 0, path)), visibility=visibility) for path, visibility in tree.items()
    )

    def walk(path, steps, seen):
        for step in steps:
            if (child := (*path, step)) in seen:
                yield child
                yield from walk(child, steps, seen)

    for reader in ("u", "v"):
        seen = {path for path in tree if reader == "u" or tree[path] is PUBLIC}
        for path in seen:
            told = store.tiles.context(Coords("u", 0, path), reader)
            subtasks = range(1, 7)
            leaves = [
                each
                for each in walk(path, subtasks, seen)
                if not any((*each, step) in seen for step in subtasks)
            ]
            everything = list(walk(path, [*subtasks, *range(-1, -7, -1)], seen))
            page = store.tiles.under(Coords("u", 0, path), reader, 1000, 0)
            assert [each.coords.path for each in told.leaves] == leaves
            assert [each.coords.path for each in page.items] == everything
