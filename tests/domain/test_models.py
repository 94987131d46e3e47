"""Which model a template's name means today."""

from datetime import date

import pytest

from x402jobs.adapters import claude
from x402jobs.domain.errors import TemplateUnavailable
from x402jobs.domain.models import DEFAULT_MODEL, SUCCESSORS, Models

MODELS = Models(
    retirements={
        "old": date(2026, 6, 15),
        "gone": date(2026, 6, 15),
        "heir-gone": date(2026, 6, 15),
        "fading": date(2026, 12, 1),
    },
    successors={"old": "new", "orphan": "heir-gone"},
)
TODAY = date(2026, 11, 20)


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


@pytest.mark.parametrize("name", [DEFAULT_MODEL, *SUCCESSORS])
def test_the_seeds_default_names_stand_for_models_with_a_future(name):
    known = claude.retirements()

    assert name in known, "the seed's name was retired; the package should know"
    assert SUCCESSORS[name] not in known
