"""Putting everything that is sealed under the primary key, whatever happens meanwhile."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tests import origin
from tests.adapters.test_secret_box import entry
from x402jobs.adapters.key_ring import KeyRing
from x402jobs.adapters.origin_cipher import OriginCipher
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.ports import Form, Place, SealedValue
from x402jobs.services.rotation import PASSES, Rotation

OLD = entry("k1", 1)
BOTH = f"{entry('k2', 2)},{entry('k1', 1)}"


def key_place(owner):
    return Place("keys", "sealed_key", owner, "aes-256-cbc")


def prompt_place(owner):
    return Place("prompts", "sealed_prompt", owner, "plaintext")


def answer_place(owner):
    return Place("answers", "sealed_answer", owner)


PLACES = (key_place, prompt_place, answer_place)


@dataclass
class MemoryValues:
    """ports.SealedValues in a dict: (table, row) to text; `meanwhile` happens before a write."""

    rows: dict[tuple[str, str], str] = field(default_factory=dict)
    meanwhile: Callable[[], None] = lambda: None
    pages: list[int] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)

    def page(self, table: str, column: str, after: str, limit: int) -> Sequence[SealedValue]:
        found = sorted(row for at, row in self.rows if at == table and row > after)[:limit]
        self.pages.append(len(found))
        return [SealedValue(row, f"owner of {row}", self.rows[table, row]) for row in found]

    def replace(self, table: str, column: str, fresh: Sequence[tuple[SealedValue, str]]) -> int:
        self.meanwhile()
        self.writes.append(len(fresh))
        done = 0
        for value, text in fresh:
            if self.rows.get((table, value.row)) == value.sealed:
                self.rows[table, value.row] = text
                done += 1
        return done


def box(ring=BOTH):
    return RingSecretBox(KeyRing(ring), OriginCipher(origin.SECRET))


def sealed(text, place_of, row, ring=OLD):
    return box(ring).seal(text, place_of(f"owner of {row}"))


def opened(values, table, row):
    """What the new key alone makes of it."""
    (place_of,) = [each for each in PLACES if each("").table == table]
    text = RingSecretBox(KeyRing(entry("k2", 2))).open(
        values.rows[table, row], place_of(f"owner of {row}")
    )
    return text.reveal()


@pytest.fixture
def values():
    """Something of everything: 7 of 9 are old, and all of them open."""
    return MemoryValues(
        {
            ("keys", "a"): sealed("sk-ant-a", key_place, "a"),
            ("keys", "b"): origin.VECTOR,
            ("keys", "c"): sealed("sk-ant-c", key_place, "c", BOTH),
            ("prompts", "a"): sealed("prompt a", prompt_place, "a"),
            ("prompts", "b"): "prompt b",
            ("prompts", "c"): "",
            ("answers", "a"): sealed("half \ud83c", answer_place, "a"),
            ("answers", "b"): sealed("answer b", answer_place, "b"),
            ("answers", "c"): sealed("answer c", answer_place, "c", BOTH),
        }
    )


def rotation(values, ring=BOTH):
    return Rotation(values, box(ring), PLACES)


def test_how_everything_is_kept_is_counted_by_column_and_form(values):
    before = dict(values.rows)

    standing = rotation(values).standing()

    k1, k2 = Form(key_id="k1"), Form(key_id="k2")
    cbc, plain = Form(origin="aes-256-cbc"), Form(origin="plaintext")
    assert standing.key_ids == ("k2", "k1")
    assert standing.forms == {
        "keys.sealed_key": Counter({k1: 1, k2: 1, cbc: 1}),
        "prompts.sealed_prompt": Counter({k1: 1, plain: 2}),
        "answers.sealed_answer": Counter({k1: 2, k2: 1}),
    }
    assert (standing.old, standing.waiting, list(standing.unreadable)) == (7, 7, [])
    assert standing.users_of("k1") == {
        "keys.sealed_key": 1,
        "prompts.sealed_prompt": 1,
        "answers.sealed_answer": 2,
    }
    assert standing.users_of("k3") == {}
    assert (values.rows, values.writes) == (before, [])


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 100])
def test_everything_is_sealed_anew_with_the_primary_key(values, batch):
    kept = {each: text for each, text in values.rows.items() if text.startswith("v1.k2.")}

    resealed, standing = rotation(values).rotate(batch)

    assert resealed == sum(values.writes) == 7
    assert max(values.pages) <= batch
    assert (standing.old, standing.waiting, list(standing.unreadable)) == (0, 0, [])
    assert [opened(values, *each) for each in values.rows] == [
        "sk-ant-a", origin.VECTOR_KEY, "sk-ant-c", "prompt a", "prompt b", "",
        "half \ud83c", "answer b", "answer c",
    ]  # fmt: skip
    assert {each: values.rows[each] for each in kept} == kept


def test_a_second_rotation_has_nothing_to_do(values):
    rotation(values).rotate()
    before = dict(values.rows)

    assert rotation(values).rotate()[0] == 0
    assert values.rows == before


def test_progress_is_told_after_each_batch(values):
    told = []

    rotation(values).rotate(2, lambda *so_far: told.append(so_far))

    assert told == [(2, 2), (3, 2), (5, 4), (6, 5), (8, 7), (9, 7)]


DAMAGE = {
    "under a lost key": sealed("sk-ant-a", key_place, "a", entry("lost", 3)),
    "under another key of this id": sealed("sk-ant-a", key_place, "a", entry("k1", 3)),
    "of another row": sealed("sk-ant-b", key_place, "b"),
    "of another row, under the primary key": sealed("sk-ant-b", key_place, "b", BOTH),
    "cut off": sealed("sk-ant-a", key_place, "a")[:-4],
    "of the origin's, under another secret": origin.sealed(origin.VECTOR_KEY, "other"),
    "of no form": "sk-ant-a",
}


@pytest.mark.parametrize("damaged", DAMAGE.values(), ids=DAMAGE)
def test_what_does_not_open_is_left_as_it_is_named_and_holds_nothing_up(values, damaged):
    values.rows["keys", "a"] = damaged

    resealed, standing = rotation(values).rotate(2)

    assert resealed == 6
    assert values.rows["keys", "a"] == damaged
    assert list(standing.unreadable) == [("keys.sealed_key", "a")]
    assert standing.waiting == 0
    assert standing.old == (not damaged.startswith("v1.k2."))
    assert opened(values, "answers", "b") == "answer b"


def test_who_writes_meanwhile_keeps_what_they_wrote_and_that_is_looked_at_again(values):
    theirs = sealed("sk-ant-theirs", key_place, "a")

    def write_once():
        values.rows["keys", "a"] = theirs
        values.meanwhile = lambda: None

    values.meanwhile = write_once
    resealed, standing = rotation(values).rotate()

    assert (resealed, standing.old) == (7, 0)
    assert opened(values, "keys", "a") == "sk-ant-theirs"


def test_who_deletes_meanwhile_has_deleted(values):
    values.meanwhile = lambda: values.rows.pop(("answers", "b"), None)

    resealed, standing = rotation(values).rotate()

    assert (resealed, standing.old) == (6, 0)
    assert ("answers", "b") not in values.rows


def test_what_comes_meanwhile_behind_our_back_is_looked_at_again(values):
    def come():
        values.rows["keys", "0"] = sealed("sk-ant-0", key_place, "0")
        values.meanwhile = lambda: None

    values.meanwhile = come
    resealed, standing = rotation(values).rotate()

    assert (resealed, standing.old) == (8, 0)
    assert opened(values, "keys", "0") == "sk-ant-0"


def test_a_server_that_never_learns_of_the_new_key_is_not_waited_for(values):
    def write():
        values.rows["keys", "a"] = sealed("sk-ant-a", key_place, "a")

    values.meanwhile = write
    resealed, standing = rotation(values).rotate()

    assert resealed == 6
    assert (standing.old, standing.waiting, list(standing.unreadable)) == (1, 1, [])
    assert len([each for each in values.writes if each]) == 2 + PASSES


class Killed(BaseException):
    """What no code of ours is prepared for."""


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("written", [False, True])
def test_killed_at_any_write_it_leaves_what_opens_and_can_be_run_again(values, nth, written):
    real, count = values.replace, 0

    def replace(*arguments):
        nonlocal count
        count += 1
        if count == nth and not written:
            raise Killed
        done = real(*arguments)
        if count == nth:
            raise Killed
        return done

    values.replace = replace
    with pytest.raises(Killed):
        rotation(values).rotate(1)
    values.replace = real

    midway = rotation(values).standing()
    assert (midway.old, list(midway.unreadable)) == (7 - nth + (not written), [])
    assert rotation(values).rotate(1)[0] == midway.old
    assert opened(values, "prompts", "b") == "prompt b"
