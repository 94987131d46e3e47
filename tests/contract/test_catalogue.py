"""Profiles, templates and the one joined read, whatever store is behind them."""

from dataclasses import replace

import pytest

from x402jobs.domain.execution import State
from x402jobs.domain.listing import Listing

from .conftest import CLAIM_KEY, HAIKU, bought


def test_nothing_is_known_of_nobody(store):
    assert store.catalogue.listing("nobody", "haiku", None) == Listing()
    assert store.catalogue.listing("nobody", "haiku", CLAIM_KEY) == Listing()


@pytest.mark.parametrize("username", ["ada", "Ada", "ADA"])
def test_a_creator_is_found_in_any_letter_case(store, username):
    listing = store.catalogue.listing(username, "haiku", None)

    assert listing == Listing(template=replace(HAIKU, owner_id=store.ada))
    assert store.catalogue.user_id(username) == store.ada
    assert store.catalogue.add_user(username) == store.ada


@pytest.mark.parametrize("username", ["", "ad", "adaa", "ada ", "äda", "%", "_da", "ada'--"])
def test_a_name_that_only_looks_alike_is_somebody_else(store, username):
    assert store.catalogue.listing(username, "haiku", None).template is None
    assert store.catalogue.user_id(username) is None


@pytest.mark.parametrize("slug", ["", "Haiku", "haik", "haiku2", "hai%", "' OR 1=1"])
def test_a_template_is_found_by_exactly_its_slug(store, slug):
    assert store.catalogue.listing("ada", slug, None).template is None


def test_each_name_gets_one_account(store):
    bob = store.catalogue.add_user("bob")

    assert bob != store.ada
    assert store.catalogue.add_user("Bob") == bob
    assert store.catalogue.user_id("bob") == bob


def test_a_creator_with_no_template_of_this_name_still_has_a_key_and_an_address(store):
    store.keys.put_claude_key(store.ada, "sealed", enabled=True)
    store.keys.put_pay_to(store.ada, "0xADA")

    listing = store.catalogue.listing("ada", "nothing", None)

    assert listing == Listing(template=None, sealed_key="sealed", pay_to="0xADA")


def test_everything_a_call_needs_comes_in_one_listing(store):
    store.keys.put_claude_key(store.ada, "sealed", enabled=True)
    store.keys.put_pay_to(store.ada, "0xADA")
    row = store.ledger.claim(bought())

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert listing == Listing(replace(HAIKU, owner_id=store.ada), "sealed", "0xADA", row)


def test_keys_and_addresses_are_their_owners_alone(store):
    bob = store.catalogue.add_user("bob")
    store.keys.put_claude_key(bob, "bob's", enabled=True)
    store.keys.put_pay_to(bob, "0xB0B")

    listing = store.catalogue.listing("ada", "haiku", None)

    assert (listing.sealed_key, listing.pay_to) == (None, None)


def test_every_column_of_a_template_comes_back_as_it_went(store):
    rich = replace(
        HAIKU,
        id="t2",
        owner_id=store.ada,
        slug="rich",
        name="Ünïcode 🌧 'quoted' \"twice\"",
        description="line\nline",
        price=2**53 + 1,
        sealed_prompt="v1.k1.other",
        parameters='[{"name": "x", "enum": ["é", "🌧"], "maxLength": 5}, {}]',
        model="claude-other",
        max_tokens=8192,
        allows_user_message=True,
        network="base",
        created_at=1_800_000_000.123,
        updated_at=1_800_000_001.5,
    )

    store.catalogue.add_template(rich)

    assert store.catalogue.listing("ada", "rich", None).template == rich


def test_a_payment_is_remembered_although_its_template_is_gone(store):
    row = store.ledger.claim(bought())
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert (listing.template, listing.earlier) == (None, row)
    assert store.catalogue.listing("nobody", "nothing", CLAIM_KEY).earlier == row


@pytest.mark.parametrize("claim_key", [None, "", CLAIM_KEY.upper(), CLAIM_KEY[:-1], "%"])
def test_another_payment_is_not_taken_for_it(store, claim_key):
    store.ledger.claim(bought())

    assert store.catalogue.listing("ada", "haiku", claim_key).earlier is None


def test_an_unpaid_run_is_not_taken_for_a_payment_without_a_key(store):
    unpaid = bought(kind="free", state=State.COMPLETED, claim_key=None, payer=None, amount=0)
    store.ledger.record(unpaid)

    assert store.catalogue.listing("ada", "haiku", None).earlier is None


def test_another_worker_sees_the_same_at_once(store):
    other = store.worker()

    row = store.ledger.claim(bought())

    assert other.catalogue.listing("Ada", "haiku", CLAIM_KEY).earlier == row
