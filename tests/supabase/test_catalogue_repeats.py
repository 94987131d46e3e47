"""A change of the catalogue whose answer was lost: its creator hears what became of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.conftest import HAIKU, SupabaseStore
from tests.contract.test_catalogue import NEW, an_id
from tests.supabase.front import LOST, NEVER_CAME
from tests.supabase.rig import Rig
from x402jobs.domain.errors import SlugTaken, Stale
from x402jobs.domain.listing import ClaudeConfig

FAULTS = pytest.mark.parametrize("fault", [LOST, NEVER_CAME], ids=["lost", "never came"])


@pytest.fixture
def store(rig: Rig) -> Iterator[Any]:
    store: Any = SupabaseStore(rig)
    store.ada = store.catalogue.add_user("ada")
    store.haiku = replace(HAIKU, owner_id=store.ada)
    store.catalogue.add_template(store.haiku)
    yield store
    rig.front.forget()
    store.close()


@FAULTS
def test_a_new_template_is_there_once(store, rig, fault):
    other = replace(store.haiku, id=an_id("other"), slug="other")
    rig.front.meet(fault)

    store.catalogue.add_template(other)

    assert store.catalogue.listing("ada", "other", None).template == other
    assert store.catalogue.templates(store.ada, 10, 0).total == 2


@FAULTS
def test_a_slug_that_is_taken_stays_so(store, rig, fault):
    rig.front.meet(fault)

    with pytest.raises(SlugTaken):
        store.catalogue.add_template(replace(store.haiku, id=an_id("other")))


@FAULTS
def test_a_change_is_written_once(store, rig, fault):
    after = replace(store.haiku, version=2, name="Other")
    rig.front.meet(fault)

    store.catalogue.replace_template(store.haiku, after)

    assert store.catalogue.template(store.ada, HAIKU.id) == after


@pytest.mark.parametrize(
    "theirs",
    [
        {"version": 3},
        {"name": "Theirs"},
        {"price": 10_001},
        {"sealed_prompt": "v1.k1.theirs"},
        {"parameters": "[]"},
        {"is_active": False},
        {"max_tokens": 101},
    ],
    ids=lambda theirs: next(iter(theirs)),
)
def test_a_change_of_somebody_elses_is_not_taken_for_ones_own(store, rig, theirs):
    ours = replace(store.haiku, version=2, name="Ours")
    store.catalogue.replace_template(store.haiku, replace(ours, **theirs))
    rig.front.meet(NEVER_CAME)

    with pytest.raises(Stale):
        store.catalogue.replace_template(store.haiku, ours)

    assert store.catalogue.template(store.ada, HAIKU.id) == replace(ours, **theirs)


def test_the_same_change_twice_is_once_too_often_where_no_answer_was_lost(store):
    after = replace(store.haiku, version=2, name="Other")
    store.catalogue.replace_template(store.haiku, after)

    with pytest.raises(Stale):
        store.catalogue.replace_template(store.haiku, after)
    with pytest.raises(SlugTaken):
        store.catalogue.add_template(after)


@FAULTS
def test_a_template_is_deleted_and_its_deleter_hears_so(store, rig, fault):
    rig.front.meet(fault)

    assert store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0) is True
    assert store.catalogue.delete_template(store.ada, HAIKU.id, 3000.0) is False


@FAULTS
@pytest.mark.parametrize("owner_id", [NEW, None])
def test_what_one_never_had_one_has_not_deleted(store, rig, fault, owner_id):
    wanted = HAIKU.id if owner_id else an_id("nothing")
    rig.front.meet(fault)

    assert store.catalogue.delete_template(owner_id or store.ada, wanted, 2000.0) is False
    assert store.catalogue.template(store.ada, HAIKU.id) == store.haiku


@FAULTS
def test_a_name_is_given_whatever_happens_on_the_way(store, rig, fault):
    rig.front.meet(fault)
    assert store.catalogue.give_username(NEW, "cleo") == "cleo"

    rig.front.meet(fault)
    bob = store.catalogue.add_user("bob")

    assert store.catalogue.user_id("bob") == bob


@FAULTS
def test_a_key_and_an_address_are_stored_whatever_happens_on_the_way(store, rig, fault):
    rig.front.meet(fault)
    assert store.keys.put_claude_key(store.ada, "sealed", enabled=False) == ClaudeConfig(True)
    rig.front.meet(fault)
    store.keys.put_pay_to(store.ada, "0xADA")

    assert store.keys.claude_config(store.ada) == ClaudeConfig(True, False)
    assert store.keys.pay_to(store.ada) == "0xADA"

    rig.front.meet(fault)
    store.keys.delete_claude_key(store.ada)
    rig.front.meet(fault)
    store.keys.delete_pay_to(store.ada)

    assert store.catalogue.listing("ada", "haiku", None).sealed_key is None
    assert store.keys.pay_to(store.ada) is None


def test_a_paid_call_reads_the_catalogue_in_one_request(store, rig):
    rig.front.forget()

    store.catalogue.listing("ada", "haiku", "a claim key")

    assert rig.front.asked == ["x402_listing"]
