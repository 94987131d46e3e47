"""Everything is sealed anew while others read and write, however often the rotation is killed.

With `make test-whole` ten thousand rows, and ten kills.
"""

import os
import time

import pytest

from tests.rotation_drill import House, Outcome, drill
from tests.tools import WHOLE
from x402jobs.adapters.key_ring import SETTLING_SECONDS, KeyRingFile
from x402jobs.ports import Form

ROWS, KILLS = (10_000, 10) if WHOLE else (3_000, 3)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("rotation") / "data")


@pytest.fixture(scope="module")
def outcome(house: House) -> Outcome:
    return drill(house, ROWS, KILLS)


def test_the_drill_went_as_planned(outcome: Outcome) -> None:
    """Otherwise the rest would prove nothing."""
    assert outcome.exits == [-9] * KILLS + [0]
    assert min(outcome.before_each_kill) > 0
    assert sum(outcome.before_each_kill) < ROWS
    assert outcome.read > 100 and outcome.written > 10


def test_nobody_met_a_value_that_does_not_open(outcome: Outcome) -> None:
    assert (outcome.unreadable, outcome.standing.unreadable) == (0, [])


def test_nothing_is_left_under_an_old_key_or_in_the_origins_forms(outcome: Outcome) -> None:
    assert outcome.standing.key_ids == ("k3", "k2", "k1")
    assert outcome.standing.old == 0
    assert {form for forms in outcome.standing.forms.values() for form in forms} == {
        Form(key_id="k3")
    }
    assert sum(forms.total() for forms in outcome.standing.forms.values()) >= ROWS


def test_nothing_that_was_written_meanwhile_is_lost(outcome: Outcome) -> None:
    assert outcome.lost == []


def test_a_change_of_any_single_character_is_refused_and_told(outcome: Outcome) -> None:
    assert outcome.tampered > 1000
    assert (outcome.opened, outcome.not_told) == ([], [])


def test_the_new_key_alone_opens_everything(outcome: Outcome, house: House) -> None:
    ring = house.data / "keys"
    then = time.time() - 2 * SETTLING_SECONDS
    os.utime(ring, (then, then))
    KeyRingFile(ring).remove(["k1", "k2"])

    server = house.server()
    standing = server.rotation.standing()
    server.database.close()

    assert (standing.key_ids, standing.unreadable) == (("k3",), [])
