"""Over Supabase too everything is sealed anew while others read and write, killed or not.

The same with 10 000 rows and twenty kills: `python -m tests.rotation_drill --store supabase`.
"""

import pytest

from tests.rotation_drill import House, Outcome, drill
from tests.supabase.rig import Rig
from x402jobs.ports import Form

ROWS, KILLS = 400, 2


@pytest.fixture(scope="module")
def outcome(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    rig.empty()
    return drill(House(tmp_path_factory.mktemp("rotation") / "data", rig), ROWS, KILLS)


def test_the_drill_went_as_planned(outcome: Outcome) -> None:
    """Otherwise the rest would prove nothing."""
    assert outcome.exits == [-9] * KILLS + [0]
    assert min(outcome.before_each_kill) > 0
    assert sum(outcome.before_each_kill) < ROWS
    assert outcome.read > 0 and outcome.written > 0


def test_nobody_met_a_value_that_does_not_open(outcome: Outcome) -> None:
    assert (outcome.unreadable, outcome.standing.unreadable) == (0, [])


def test_nothing_is_left_under_an_old_key_or_in_the_origins_forms(outcome: Outcome) -> None:
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
