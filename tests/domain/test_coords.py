"""Where a tile is, written one way; what is not a place is refused and not guessed at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.coords import MAX_DEPTH, Coords
from x402jobs.domain.errors import InvalidRequest

DIRECTIONS = st.integers(-6, 6)
PLACES = st.builds(
    Coords,
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.integers(0, 999_999_999),
    st.lists(DIRECTIONS, max_size=MAX_DEPTH).map(tuple),
)


@pytest.mark.parametrize(
    ("text", "user_id", "group_id", "path"),
    [
        ("u,0", "u", 0, ()),
        ("u,0:", "u", 0, ()),
        ("abc,0", "abc", 0, ()),
        ("abc,0:1,2", "abc", 0, (1, 2)),
        ("abc,0:1,-3", "abc", 0, (1, -3)),
        ("abc,0:1,0", "abc", 0, (1, 0)),
        ("abc,0:0", "abc", 0, (0,)),
        ("abc,0:1,-3,4", "abc", 0, (1, -3, 4)),
        ("abc,0:-1", "abc", 0, (-1,)),
        ("userId123,0:1,2", "userId123", 0, (1, 2)),
        ("u,12:6,-6", "u", 12, (6, -6)),
        ("u,999999999", "u", 999_999_999, ()),
        ("-_-,0", "-_-", 0, ()),
        (
            "0b1f0a52-9d6c-4a39-8c07-aa0f5d1f8f3e,0:1",
            "0b1f0a52-9d6c-4a39-8c07-aa0f5d1f8f3e",
            0,
            (1,),
        ),
        ("u" * 64 + ",0", "u" * 64, 0, ()),
    ],
)
def test_a_place_is_read(text, user_id, group_id, path):
    coords = Coords.parse(text)

    assert coords == Coords(user_id, group_id, path)
    assert str(coords) == text.removesuffix(":")


@pytest.mark.parametrize(
    "text",
    [
        # What the origin read as something else.
        "u",
        "u,0:abc",
        "u,0:1,,2",
        "u,0:7",
        "u,0:1:2",
        "u,0,0",
        "u,-1",
        "u,1.5",
        "u,3abc",
        # What it refused too.
        "",
        "u,",
        "u,x",
        ",0",
        # What two readers could write in two ways.
        "u,00",
        "u,01",
        "u,0:01",
        "u,0:-0",
        "u,0:+1",
        "u,0:1.0",
        "u,0:--1",
        "u,0:-7",
        "u,0:10",
        "u,0:66",
        "u,0:1,",
        "u,0:,1",
        "u,0:,",
        "u,0::",
        "u,0:1:",
        "u,0:,0",
        "u,0;1",
        "u:0,1",
        "u,1e1",
        "u,0x1",
        "u,٣",
        "u,0:١",
        "u,0:1,²",
        " u,0",
        "u,0 ",
        "u, 0",
        "u,0:1, 2",
        "u,0\n",
        "u,0:1\n",
        "u,0:1\x00",
        "ü,0",
        "u.v,0",
        "u/v,0",
        "u%2C0",
        "u" * 65 + ",0",
        "u,1000000000",
    ],
)
def test_what_is_no_place_is_refused_and_the_field_named(text):
    with pytest.raises(InvalidRequest) as refusal:
        Coords.parse(text, field="taskCoords")

    assert refusal.value.field == "taskCoords"
    assert refusal.value.message.startswith("taskCoords must be like userId,0:1,2")


@given(PLACES)
def test_what_is_written_is_read_back(coords):
    assert Coords.parse(str(coords)) == coords


@given(st.text(alphabet="u0126789,:-+. \n", max_size=12))
def test_a_text_is_refused_or_is_written_back_the_same(text):
    try:
        coords = Coords.parse(text)
    except InvalidRequest:
        return

    assert str(coords) == text.removesuffix(":")
    assert all(-6 <= each <= 6 for each in coords.path)


def test_a_hundred_steps_down_is_a_place_and_one_more_is_not():
    deepest = "u,0:" + ",".join(["1"] * 100)

    assert len(Coords.parse(deepest).path) == 100
    for deeper in ("1", "-1", "0,1", "0,0"):
        with pytest.raises(InvalidRequest, match="^taskCoords may be at most 100 steps deep"):
            Coords.parse(f"{deepest},{deeper}", field="taskCoords")


def test_the_deepest_tile_has_a_plan_too():
    deepest = Coords("u", 0, (1,) * MAX_DEPTH)

    assert Coords.parse(str(deepest.hexplan)) == deepest.hexplan


@pytest.mark.parametrize(
    ("text", "hexplan"),
    [("u,0", "u,0:0"), ("u,0:", "u,0:0"), ("u,0:1", "u,0:1,0"), ("u,3:1,-2", "u,3:1,-2,0")],
)
def test_a_plan_is_below_its_own_tile_also_below_the_root(text, hexplan):
    coords = Coords.parse(text)

    assert str(coords.hexplan) == hexplan
    assert coords.hexplan.is_hexplan and not coords.is_hexplan
    assert coords.hexplan.parent == coords


def test_the_root_has_no_parent_no_direction_and_no_ancestors():
    root = Coords("u")

    assert (root.parent, root.direction, list(root.ancestors())) == (None, None, [])


def test_the_way_down_is_told_from_the_root_to_the_parent():
    coords = Coords.parse("u,2:1,-3,4")

    assert [str(each) for each in coords.ancestors()] == ["u,2", "u,2:1", "u,2:1,-3"]
    assert str(coords.parent) == "u,2:1,-3"
    assert coords.direction == 4


@given(PLACES, DIRECTIONS)
def test_a_child_is_one_step_below_its_parent(coords, direction):
    child = coords.child(direction)

    assert (child.parent, child.direction) == (coords, direction)
    assert list(child.ancestors()) == [*coords.ancestors(), coords]
    assert child.is_under(coords) and not coords.is_under(child)


@pytest.mark.parametrize(
    ("lower", "upper", "is_under"),
    [
        ("u,0:1,1", "u,0:1", True),
        ("u,0:1,2,3", "u,0:1", True),
        ("u,0:1", "u,0", True),
        ("u,0:0", "u,0", True),
        ("u,0:1,-2", "u,0:1", True),
        ("u,0:1", "u,0:1", False),
        ("u,0", "u,0", False),
        ("u,0:1", "u,0:1,1", False),
        ("u,0:2,1", "u,0:1", False),
        ("u,0:-1,1", "u,0:1", False),
        ("u,0:1,-1", "u,0:1,1", False),
        ("u,1:1,1", "u,0:1", False),
        ("v,0:1,1", "u,0:1", False),
        ("u1,0:1", "u,0", False),
        ("u,12:1", "u,1", False),
    ],
)
def test_under_means_on_the_way_down_and_not_the_same(lower, upper, is_under):
    assert Coords.parse(lower).is_under(Coords.parse(upper)) is is_under


def test_places_are_ordered_by_number_and_each_before_what_is_below_it():
    ordered = [
        "u,0",
        "u,0:-6",
        "u,0:-1",
        "u,0:0",
        "u,0:1",
        "u,0:1,1",
        "u,0:2",
        "u,2",
        "u,10",
        "v,0",
    ]

    assert [str(each) for each in sorted(map(Coords.parse, reversed(ordered)))] == ordered
