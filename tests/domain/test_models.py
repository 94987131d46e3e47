"""Which model a template's name means today."""

from datetime import date

import pytest

from x402jobs.adapters import claude
from x402jobs.domain.errors import InvalidRequest, TemplateUnavailable
from x402jobs.domain.models import DEFAULT_MODEL, NOTICE, SUCCESSORS, Models

MODELS = Models(
    retirements={
        "old": date(2026, 6, 15),
        "gone": date(2026, 6, 15),
        "heir-gone": date(2026, 6, 15),
        "fading": date(2026, 12, 1),
    },
    successors={"old": "new", "orphan": "heir-gone", "heir": "fading"},
)
TODAY = date(2026, 11, 20)
FADING = "fading will be retired on 1 December 2026; calls are refused from that day."


@pytest.mark.parametrize(
    ("name", "today", "meant"),
    [
        ("old", TODAY, "new"),
        ("old", date(2026, 1, 1), "new"),
        ("new", TODAY, "new"),
        ("gone", date(2026, 6, 14), "gone"),
        ("fading", date(2026, 11, 30), "fading"),
        ("claude-nobody-told-us-of", TODAY, "claude-nobody-told-us-of"),
        ("Old", TODAY, "Old"),
    ],
)
def test_a_name_means_its_successor_or_itself(name, today, meant):
    assert MODELS.resolve(name, today) == meant


@pytest.mark.parametrize(
    ("name", "today", "retired"),
    [
        ("gone", date(2026, 6, 15), "gone"),
        ("gone", TODAY, "gone"),
        ("orphan", TODAY, "heir-gone"),
        ("fading", date(2026, 12, 1), "fading"),
    ],
)
def test_a_retired_model_without_a_living_successor_shuts_the_shop(name, today, retired):
    with pytest.raises(TemplateUnavailable) as refusal:
        MODELS.resolve(name, today)

    assert retired in refusal.value.message


@pytest.mark.parametrize(
    ("name", "today", "warnings"),
    [
        ("old", TODAY, ["old was retired on 15 June 2026; new answers in its place."]),
        ("old", date(2026, 6, 15), ["old was retired on 15 June 2026; new answers in its place."]),
        ("old", date(2026, 6, 14), ["new answers in the place of old."]),
        ("new", TODAY, []),
        ("claude-nobody-told-us-of", TODAY, []),
        ("Old", TODAY, []),
        ("fading", date(2026, 9, 1), []),
        ("fading", date(2026, 9, 2), [FADING]),
        ("fading", date(2026, 11, 30), [FADING]),
        ("heir", TODAY, ["fading answers in the place of heir.", FADING]),
    ],
)
def test_a_creator_is_warned_of_a_stand_in_and_of_an_end_within_90_days(name, today, warnings):
    assert MODELS.accept(name, today) == warnings


@pytest.mark.parametrize(
    ("name", "today", "reason"),
    [
        ("gone", TODAY, "model: gone was retired on 15 June 2026. Use new."),
        ("gone", date(2026, 6, 15), "model: gone was retired on 15 June 2026. Use new or fading."),
        ("orphan", TODAY, "model: heir-gone was retired on 15 June 2026. Use new."),
        ("fading", date(2026, 12, 1), "model: fading was retired on 1 December 2026. Use new."),
    ],
)
def test_a_template_is_not_saved_with_a_model_nobody_answers_for(name, today, reason):
    with pytest.raises(InvalidRequest) as refusal:
        MODELS.accept(name, today)

    assert (refusal.value.field, refusal.value.message) == ("model", reason)


def test_without_a_living_successor_none_is_recommended():
    with pytest.raises(InvalidRequest) as refusal:
        Models({"gone": date(2026, 6, 15)}, {}).accept("gone", TODAY)

    assert refusal.value.message.endswith("Use a model that is still offered.")


@pytest.mark.parametrize("name", ["a", "x" * 100, "Az09._:-", "anthropic:claude-9.1_x", "..."])
def test_a_name_claude_may_come_to_have_is_accepted(name):
    assert MODELS.accept(name, TODAY) == []


@pytest.mark.parametrize(
    "name", ["", "x" * 101, "a b", "a/b", "a\n", "claude\x00", "clаude", "a?b", "modèle", "٣"]
)
def test_a_name_claude_cannot_have_is_refused_without_being_repeated(name):
    with pytest.raises(InvalidRequest) as refusal:
        MODELS.accept(name, TODAY)

    assert refusal.value.field == "model"
    assert refusal.value.message.startswith("model must be 1 to 100 letters")
    assert len(name) < 3 or name not in refusal.value.message


@pytest.mark.parametrize("name", ["old", "orphan", "heir", "gone", "fading", "new"])
@pytest.mark.parametrize("today", [date(2026, 6, 14), date(2026, 6, 15), TODAY, date(2027, 1, 1)])
def test_what_is_accepted_today_is_answered_today(name, today):
    """Saving and calling judge alike: whatever one refuses, the other does too."""
    try:
        MODELS.accept(name, today)
    except InvalidRequest:
        with pytest.raises(TemplateUnavailable):
            MODELS.resolve(name, today)
    else:
        assert MODELS.resolve(name, today)


@pytest.mark.parametrize("name", [DEFAULT_MODEL, *SUCCESSORS])
def test_the_seeds_default_names_stand_for_models_with_a_future(name):
    known = claude.retirements()

    assert name in known, "the seed's name was retired; the package should know"
    assert SUCCESSORS[name] not in known


@pytest.mark.parametrize("successor", SUCCESSORS.values())
def test_our_successors_are_living_and_not_about_to_retire(successor):
    """By the table of the installed package: an upgrade that dooms a successor fails here."""
    ends = claude.retirements().get(successor, date.max)

    assert ends > date.today() + NOTICE


def test_the_sonnet_that_ends_in_november_2026_is_announced_to_its_creators():
    models = Models(claude.retirements(), SUCCESSORS)

    assert models.accept("claude-sonnet-4-5", TODAY) == [
        "claude-sonnet-4-5 will be retired on 30 November 2026; calls are refused from that day."
    ]
    with pytest.raises(InvalidRequest, match="Use claude-sonnet-5-5 or claude-opus-5-5"):
        models.accept("claude-3-opus-20240229", TODAY)
