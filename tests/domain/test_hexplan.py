"""A plan depends on the tiles alone, and its state is data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.coords import Coords
from x402jobs.domain.hexplan import Hexplan, Step, StepState, one_line
from x402jobs.domain.tile import TaskContext, Tile

PENDING, STARTED, COMPLETE, BLOCKED = StepState
ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""Lone surrogates and control characters included."""


def tile(coords, title="Tile", content=""):
    """A tile at this place."""
    return Tile(Coords.parse(coords), title, content)


def plan(*states):
    """A plan with a step for each state, or for each state and note."""
    told = [each if isinstance(each, tuple) else (each, "") for each in states]
    return Hexplan(
        tuple(
            Step(f"Part {number}", f"u,0:{number % 6 + 1}", state, note)
            for number, (state, note) in enumerate(told, 1)
        )
    )


def test_a_leaf_has_itself_as_the_only_step():
    made = Hexplan.of(TaskContext(tile("u,0:1", "Write the intro")))

    assert made == Hexplan((Step("Write the intro", "u,0:1"),))
    assert made.text == "📋 1. Write the intro → u,0:1"


def test_a_parent_has_a_step_for_each_leaf_in_the_order_told():
    context = TaskContext(
        tile("u,0", "Book"),
        subtasks=[tile("u,0:1", "Part one"), tile("u,0:6", "Part two")],
        leaves=[tile("u,0:1,1", "Deep"), tile("u,0:1,2,5", "Deeper"), tile("u,0:6", "Part two")],
    )

    assert Hexplan.of(context).text == (
        "📋 1. Deep → u,0:1,1\n📋 2. Deeper → u,0:1,2,5\n📋 3. Part two → u,0:6"
    )


def test_a_parent_whose_leaves_are_not_told_has_a_step_for_each_subtask():
    context = TaskContext(tile("u,0"), subtasks=[tile("u,0:2", "One"), tile("u,0:3", "Two")])

    assert Hexplan.of(context).steps == (Step("One", "u,0:2"), Step("Two", "u,0:3"))


def test_the_same_tiles_make_the_same_plan_and_the_same_stored_text():
    context = TaskContext(tile("u,0"), subtasks=[tile("u,0:1")], leaves=[tile("u,0:1", "Título")])

    assert Hexplan.of(context) == Hexplan.of(context)
    assert Hexplan.of(context).as_json() == (
        '{"steps":[{"coords":"u,0:1","note":"","state":"pending","title":"T\\u00edtulo"}]}'
    )


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Plain", "Plain"),
        ("two\nlines", "two lines"),
        ("two\r\nlines", "two lines"),
        ("tab\tand\vfeeds\f.", "tab and feeds ."),
        ("a\u2028b\u2029c\u0085d", "a b c d"),
        ("a\u00a0b\u3000c", "a b c"),
        ("  edges \n", "edges"),
        ("a  b", "a b"),
        ("nul\x00esc\x1b[31mdel\x7f", "nul esc [31mdel"),
        ("high\x9bcontrol", "high control"),
        ("half\ud83d.", "half ."),
        ("no character\uffff.", "no character ."),
        ("📋 ✅ 🔴", "📋 ✅ 🔴"),
        ("日本語 👩‍👩‍👧", "日本語 👩‍👩‍👧"),
        ("", "Untitled"),
        (" \n\u2028\x00", "Untitled"),
    ],
)
def test_a_title_is_one_line_of_the_plan(title, shown):
    made = Hexplan.of(TaskContext(tile("u,0:1", title)))

    assert made.text == f"📋 1. {shown} → u,0:1"
    assert Hexplan.parse(made.as_json()) == made


@given(st.lists(ANY_TEXT, min_size=1, max_size=6))
def test_whatever_the_titles_are_there_is_a_line_for_each_step(titles):
    subtasks = [tile(f"u,0:{place}", title) for place, title in enumerate(titles, 1)]
    made = Hexplan.of(TaskContext(tile("u,0"), subtasks=subtasks))

    lines = made.text.splitlines()

    assert len(lines) == len(titles)
    assert all(line.startswith(f"📋 {place}. ") for place, line in enumerate(lines, 1))
    assert made.next_index == 0
    assert Hexplan.parse(made.as_json()) == made


@given(ANY_TEXT)
def test_one_line_stays_as_it_is_when_done_again(text):
    line = one_line(text)

    assert one_line(line) == line
    assert len(line.splitlines()) <= 1
    line.encode()


def test_each_state_has_its_sign_and_a_note_stands_below_its_step():
    shown = plan((COMPLETE, "Three pages."), STARTED, (BLOCKED, "Too long."), PENDING)

    assert shown.text.splitlines() == [
        "✅ 1. Part 1 → u,0:2",
        "   Three pages.",
        "🟡 2. Part 2 → u,0:3",
        "🔴 3. Part 3 → u,0:4",
        "   Too long.",
        "📋 4. Part 4 → u,0:5",
    ]


@pytest.mark.parametrize(
    ("states", "next_index"),
    [
        ([PENDING], 0),
        ([COMPLETE], None),
        ([BLOCKED], None),
        ([COMPLETE, PENDING, PENDING], 1),
        ([BLOCKED, PENDING], 1),
        ([PENDING, COMPLETE], 0),
        ([COMPLETE, BLOCKED, COMPLETE], None),
        # Whoever started it is gone: one run of a tile goes on at a time.
        ([COMPLETE, STARTED, PENDING], 1),
    ],
)
def test_the_next_step_is_the_first_that_has_still_to_be_done(states, next_index):
    asked = plan(*states)

    assert asked.next_index == next_index
    assert asked.next_step == (None if next_index is None else asked.steps[next_index])


def test_no_sign_in_a_title_or_a_note_changes_a_state():
    done = Hexplan((Step("📋 pending 🔴", "u,0:1", COMPLETE, "📋 2. More → u,0:2"),))

    assert done.next_step is None
    assert Hexplan.parse(done.as_json()) == done


def test_marking_a_step_changes_that_step_of_a_new_plan():
    before = plan((BLOCKED, "Too long."), PENDING)

    after = before.marked(1, COMPLETE, " Three\npages. ").marked(0, PENDING)

    assert after == plan(PENDING, (COMPLETE, "Three pages."))
    assert before == plan((BLOCKED, "Too long."), PENDING)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_step_that_is_not_there_is_not_marked(index):
    with pytest.raises(IndexError):
        plan(PENDING, PENDING).marked(index, COMPLETE)


@given(ANY_TEXT.map(lambda text: text * 9))
def test_a_note_is_at_most_two_hundred_characters_of_one_line(note):
    marked = plan(PENDING).marked(0, COMPLETE, note)

    assert len(marked.steps[0].note) <= 200
    assert Hexplan.parse(marked.as_json()) == marked


def test_a_note_that_was_cut_says_so():
    assert plan(PENDING).marked(0, COMPLETE, "n" * 200).steps[0].note == "n" * 200
    assert plan(PENDING).marked(0, COMPLETE, "n" * 201).steps[0].note == "n" * 199 + "…"


@pytest.mark.parametrize("states", [[PENDING], [COMPLETE] * 20 + [PENDING] * 30])
def test_the_excerpt_of_a_plan_of_fifty_steps_is_the_plan(states):
    assert plan(*states).excerpt == plan(*states).text


@pytest.mark.parametrize(
    ("done", "left", "first", "last"),
    [
        (0, 51, "📋 1. ", "(steps after these, not shown: 1)"),
        (21, 29, "(steps before these, not shown: 1)", "📋 50. "),
        (500, 500, "(steps before these, not shown: 480)", "(steps after these, not shown: 470)"),
        (999, 1, "(steps before these, not shown: 979)", "📋 1000. "),
        (1000, 0, "✅ 1. ", "(steps after these, not shown: 950)"),
    ],
)
def test_the_excerpt_of_a_long_plan_shows_the_next_step_among_its_neighbours(
    done, left, first, last
):
    long = plan(*[COMPLETE] * done, *[PENDING] * left)

    lines = long.excerpt.splitlines()

    assert lines[0].startswith(first) and lines[-1].startswith(last)
    assert len([line for line in lines if line[0] in "📋✅"]) <= 50
    if left:
        assert any(line.startswith(f"📋 {done + 1}. ") for line in lines)


GOOD = {"title": "T", "coords": "u,0:1", "state": "pending", "note": ""}


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("", "not an object with a list"),
        ("📋 1. T → u,0:1", "not an object with a list"),
        ("null", "not an object with a list"),
        ("[]", "not an object with a list"),
        ("{}", "not an object with a list"),
        ('{"steps":[', "not an object with a list"),
        ("[" * 1_000_000, "not an object with a list"),
        ('{"steps":' * 1_000_000, "not an object with a list"),
        ('"\\\\"' * 100_000 + "[", "not an object with a list"),
        ('"[' + '\\"[' * 100_000, "not an object with a list"),
        ({"steps": [[]]}, "not an object with a list"),
        ({"steps": [GOOD | {"note": {}}]}, "not an object with a list"),
        ({"steps": GOOD}, "not an object with a list"),
        ({"steps": None}, "not an object with a list"),
        ('{"steps":[]} {', "not an object with a list"),
        ('{"steps":[]} x', "Extra data"),
        ('{"steps" []}', "Expecting"),
        ('{"steps":[{}]', "not an object with a list"),
        ({"steps": [GOOD], "status": "done"}, "nothing besides"),
        ({"status": [GOOD]}, "nothing besides"),
        ({"steps": [], "x": "[]"}, "nothing besides"),
        ({"steps": [GOOD, "T"]}, "a step is an object"),
        ({"steps": []}, "no steps"),
        ({"steps": ["T"]}, "a step is an object"),
        ({"steps": [{"title": "T", "coords": "u,0:1", "state": "pending"}]}, "a step is an object"),
        ({"steps": [GOOD | {"id": "1"}]}, "a step is an object"),
        ({"steps": [GOOD | {"title": None}]}, "not a text"),
        ({"steps": [GOOD | {"note": 1}]}, "not a text"),
        ({"steps": [GOOD | {"state": True}]}, "not a text"),
        ({"steps": [GOOD | {"state": "done"}]}, "state is none of ours"),
        ({"steps": [GOOD | {"state": "PENDING"}]}, "state is none of ours"),
        ({"steps": [GOOD | {"state": "📋"}]}, "state is none of ours"),
        ({"steps": [GOOD | {"title": ""}]}, "title is not one line"),
        ({"steps": [GOOD | {"title": "a\nb"}]}, "title is not one line"),
        ({"steps": [GOOD | {"title": "a\u2028b"}]}, "title is not one line"),
        ({"steps": [GOOD | {"title": "a\x00b"}]}, "title is not one line"),
        ({"steps": [GOOD | {"title": "half\ud83d"}]}, "title is not one line"),
        ({"steps": [GOOD | {"note": " a"}]}, "note is not one line"),
        ({"steps": [GOOD | {"coords": "u,0:7"}]}, "coords must be like"),
        ({"steps": [GOOD | {"coords": "u,0:"}]}, "canonical"),
        ('{"steps":[{"title":"T","title":"T"}]}', "twice"),
        ({"steps": [{}]}, "a step is an object"),
        (json.dumps({"steps": [GOOD]}).replace('"note"', '"title": "X", "note"'), "twice"),
    ],
)
def test_a_stored_text_that_is_no_plan_is_refused_with_the_reason(stored, reason):
    text = stored if isinstance(stored, str) else json.dumps(stored)

    with pytest.raises(ValueError, match=reason):
        Hexplan.parse(text)


@given(
    st.lists(
        st.builds(
            Step,
            (ANY_TEXT | st.text('[]{}"\\,:')).map(one_line).filter(bool),
            st.sampled_from(["u,0", "u,0:1", "u,0:1,-2,6"]),
            st.sampled_from(StepState),
            ANY_TEXT.map(one_line),
        ),
        min_size=1,
    )
)
def test_what_is_stored_is_read_back_also_where_a_store_has_set_it_out_anew(steps):
    stored = Hexplan(tuple(steps))
    set_out = json.dumps(json.loads(stored.as_json()), ensure_ascii=False, indent=2)

    assert Hexplan.parse(stored.as_json()) == Hexplan.parse(set_out) == stored
