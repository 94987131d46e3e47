"""A creator's templates: what is stored of them, under which slug, and for whom."""

from dataclasses import replace

import pytest

from tests.fakes import NOW, FakeClock, PlainBox
from x402jobs.adapters.sqlite import SqliteCatalogue, embedded_database
from x402jobs.domain.errors import InvalidRequest, NotFound, SlugTaken
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Networks
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.services import resources as module
from x402jobs.services.resources import Resources
from x402jobs.services.templates import prompt_place

BASE, POLYGON = NETWORKS["eip155:8453"], NETWORKS["eip155:137"]
DRAFT = TemplateDraft(name="Haiku", price=10_000, system_prompt="Write.")


@pytest.fixture
def shelf(tmp_path):
    database = embedded_database(tmp_path)
    yield SqliteCatalogue(database)
    database.close()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ada(shelf):
    return shelf.add_user("ada")


def serving(shelf, clock, *networks):
    offered = Networks(networks or (DEVELOPMENT,))
    return Resources(shelf, PlainBox(), clock, offered, "https://shop.example")


@pytest.fixture
def resources(shelf, clock):
    return serving(shelf, clock)


def test_a_prompt_rests_sealed_in_its_owners_place(resources, shelf, ada):
    made = resources.create(ada, DRAFT)

    assert made.sealed_prompt == PlainBox().seal("Write.", prompt_place(ada))
    assert shelf.template(ada, made.id) == made
    assert (made.version, made.created_at, made.updated_at) == (1, NOW, NOW)
    assert resources.url(made) == "https://shop.example/@ada/haiku"


def test_what_a_creator_wrote_can_be_read_again(resources, ada):
    draft = replace(
        DRAFT,
        slug="mine",
        system_prompt="{a}{/a}",
        parameters=[{"name": "a", "enum": ["é"]}],
        description="Words",
        network=DEVELOPMENT.id,
        model="m",
        max_tokens=5,
        allows_user_message=True,
        is_active=False,
    )

    assert resources.draft(resources.create(ada, draft)) == draft


def test_a_name_that_clashes_gets_a_number_until_there_are_too_many(resources, ada, monkeypatch):
    monkeypatch.setattr(module, "MAX_SLUGS_TRIED", 3)

    slugs = [resources.create(ada, DRAFT).slug for _ in range(3)]

    assert slugs == ["haiku", "haiku-2", "haiku-3"]
    with pytest.raises(SlugTaken):
        resources.create(ada, DRAFT)


def test_a_slug_that_was_asked_for_gets_no_number(resources, ada):
    resources.create(ada, DRAFT)

    with pytest.raises(SlugTaken) as refusal:
        resources.create(ada, replace(DRAFT, slug="haiku"))
    assert refusal.value.field == "slug"


def test_nobody_without_a_name_has_templates(resources):
    with pytest.raises(InvalidRequest) as refusal:
        resources.create("nameless", DRAFT)
    assert refusal.value.field == "username"


def test_a_change_counts_and_keeps_the_day_of_its_making(resources, clock, ada):
    made = resources.create(ada, DRAFT)
    clock.advance(5)

    changed = resources.edit(ada, made.id, {"price": 0})

    assert changed == replace(made, price=0, version=2, updated_at=NOW + 5)
    assert resources.get(ada, made.id) == changed


def test_what_is_somebody_elses_does_not_exist(resources, shelf, ada):
    made, bob = resources.create(ada, DRAFT), shelf.add_user("bob")

    for ask in (
        lambda: resources.get(bob, made.id),
        lambda: resources.edit(bob, made.id, {"price": 0}),
        lambda: resources.delete(bob, made.id),
    ):
        with pytest.raises(NotFound):
            ask()
    assert resources.get(ada, made.id) == made


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        (None, "base"),
        ("base", "base"),
        ("eip155:8453", "base"),
        ("polygon", "polygon"),
        ("eip155:137", "polygon"),
    ],
)
def test_a_network_is_stored_by_its_short_name(shelf, clock, ada, wanted, stored):
    resources = serving(shelf, clock, BASE, POLYGON)

    made = resources.create(ada, replace(DRAFT, network=wanted))

    assert made.network == stored
    assert resources.network(made).short_name == stored


@pytest.mark.parametrize("wanted", ["avalanche", "eip155:43114", "Base", "nowhere"])
def test_a_network_that_is_not_offered_is_refused_with_those_that_are(shelf, clock, ada, wanted):
    resources = serving(shelf, clock, BASE, POLYGON)

    with pytest.raises(InvalidRequest, match="one of: eip155:8453, eip155:137") as refusal:
        resources.create(ada, replace(DRAFT, network=wanted))
    assert refusal.value.field == "network"


@pytest.mark.parametrize("said", [None, "base", "eip155:8453"])
def test_a_network_that_is_offered_no_longer_stays_until_another_is_wanted(shelf, clock, ada, said):
    made = serving(shelf, clock, BASE).create(ada, DRAFT)
    today = serving(shelf, clock, POLYGON)

    changes = {"name": "Other"} if said is None else {"network": said}

    assert today.edit(ada, made.id, changes).network == "base"
    assert today.network(today.get(ada, made.id)) == BASE
    assert today.edit(ada, made.id, {"network": "polygon"}).network == "polygon"
    with pytest.raises(InvalidRequest):
        today.edit(ada, made.id, {"network": "base"})


def test_a_network_nobody_knows_is_shown_as_the_one_the_shop_prefers(resources, ada):
    made = replace(resources.create(ada, DRAFT), network="solana")

    assert resources.network(made) == DEVELOPMENT


def test_publishing_makes_a_template_once_and_changes_it_afterwards(resources, ada):
    draft = replace(DRAFT, slug="haiku")

    made = resources.publish(ada, draft)
    changed = resources.publish(ada, replace(draft, price=0))

    assert (changed.id, changed.version, changed.price) == (made.id, 2, 0)
    assert resources.page(ada, 10, 0).total == 1
