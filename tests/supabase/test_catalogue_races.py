"""Two who want the same of the catalogue: the second one asks before the first one is done."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.contract.test_catalogue import NEW, an_id
from tests.supabase.direct import direct
from tests.supabase.test_catalogue_repeats import store  # noqa: F401
from tests.waiting import eventually
from x402jobs.adapters.supabase.catalogue import SupabaseCatalogue
from x402jobs.domain.errors import SlugTaken, Stale

WAITING = """select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'"""


def second(rig, store, first_asks, second_asks):  # noqa: F811
    """What the second one hears, whom the first one's open transaction keeps waiting."""
    url = rig.postgres.url(rig.database)
    with direct(url) as first, ThreadPoolExecutor(1) as threads:
        first_asks(SupabaseCatalogue(first))
        heard = threads.submit(second_asks, store.catalogue)
        assert eventually(lambda: rig.sql(WAITING) or heard.done(), 4)
        first.connection.commit()
        return heard.result()


def adding(template):
    return lambda catalogue: catalogue.add_template(template)


def test_the_first_two_templates_of_a_creator_share_a_shop(rig, store):  # noqa: F811
    bob = store.catalogue.add_user("bob")
    one, two = (
        replace(store.haiku, id=an_id(slug), owner_id=bob, username="bob", slug=slug)
        for slug in ("one", "two")
    )

    second(rig, store, adding(one), adding(two))

    assert [store.catalogue.listing("bob", each.slug, None).template for each in (one, two)] == [
        one, two,
    ]  # fmt: skip


def test_a_slug_goes_to_the_first(rig, store):  # noqa: F811
    one, two = (replace(store.haiku, id=an_id(number), slug="wanted") for number in (1, 2))

    with pytest.raises(SlugTaken):
        second(rig, store, adding(one), adding(two))
    with pytest.raises(SlugTaken):
        store.catalogue.replace_template(
            store.haiku, replace(store.haiku, version=2, slug="wanted")
        )


def test_a_change_goes_to_the_first(rig, store):  # noqa: F811
    one, two = (replace(store.haiku, version=2, name=name) for name in ("One", "Two"))

    with pytest.raises(Stale):
        second(
            rig,
            store,
            lambda catalogue: catalogue.replace_template(store.haiku, one),
            lambda catalogue: catalogue.replace_template(store.haiku, two),
        )

    assert store.catalogue.template(store.ada, one.id) == one


def test_a_template_is_deleted_by_the_first(rig, store):  # noqa: F811
    def delete(catalogue):
        return catalogue.delete_template(store.ada, store.haiku.id, 2000.0)

    assert second(rig, store, delete, delete) is False


def test_a_name_goes_to_the_first(rig, store):  # noqa: F811
    other = an_id("other")

    heard = second(
        rig,
        store,
        lambda catalogue: catalogue.give_username(NEW, "wanted"),
        lambda catalogue: catalogue.give_username(other, "wanted"),
    )

    assert (heard, store.catalogue.user_id("wanted")) == (None, NEW)


def test_an_account_is_made_by_the_first(rig, store):  # noqa: F811
    heard = second(
        rig,
        store,
        lambda catalogue: catalogue.add_user("wanted"),
        lambda catalogue: catalogue.add_user("wanted"),
    )

    assert heard == store.catalogue.user_id("wanted")
