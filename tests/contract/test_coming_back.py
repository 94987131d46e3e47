"""Finding an execution again, and what a debt is to be paid with, whatever store is behind it."""

from dataclasses import replace

import pytest

from x402jobs.domain.execution import State
from x402jobs.domain.listing import Listing

from .conftest import CLAIM_KEY, HAIKU, bought, walked

OTHER = HAIKU.id[:-1] + "2"
DEBT = (State.SETTLING, State.SETTLED, State.REFUND_DUE)


def test_an_execution_is_found_by_its_id_with_its_templates_creator(store):
    row = store.ledger.claim(bought(caller_id="somebody"))

    assert store.ledger.execution("e1") == (row, store.ada)


@pytest.mark.parametrize("execution_id", ["", "e", "e11", "E1", "%", "e1'--", "\ufffd"])
def test_no_other_id_finds_it(store, execution_id):
    store.ledger.claim(bought())

    assert store.ledger.execution(execution_id) is None


def test_an_execution_is_found_although_its_template_is_deleted(store):
    row = walked(store, *DEBT)
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)

    assert store.ledger.execution("e1") == (row, store.ada)


def test_a_debt_comes_with_its_own_template_and_its_creators_key(store):
    store.keys.put_claude_key(store.ada, "ada's", enabled=True)
    debt = walked(store, *DEBT)
    bob = store.catalogue.add_user("bob")
    store.keys.put_claude_key(bob, "bob's", enabled=True)
    ode = replace(HAIKU, id=OTHER, owner_id=bob, username="bob", slug="ode")
    store.catalogue.add_template(ode)
    haiku = replace(HAIKU, owner_id=store.ada)

    listing = store.catalogue.listing("bob", "ode", CLAIM_KEY)

    assert listing == Listing(ode, "bob's", None, debt, owed=haiku, owed_key="ada's")


@pytest.mark.parametrize("gone", ["paused", "renamed", "deleted", "deleted, its slug reused"])
def test_a_debts_template_is_found_whatever_became_of_it(store, gone):
    walked(store, *DEBT)
    mine = replace(HAIKU, owner_id=store.ada)
    if gone == "paused":
        store.catalogue.replace_template(mine, replace(mine, version=2, is_active=False))
    elif gone == "renamed":
        store.catalogue.replace_template(mine, replace(mine, version=2, slug="senryu"))
    else:
        store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)
        if "reused" in gone:
            store.catalogue.add_template(replace(mine, id=OTHER, name="Another"))

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert listing.owed.id == HAIKU.id
    assert (listing.owed.name, listing.owed.username) == ("Haiku", "ada")
    assert (listing.template and listing.template.id) == (OTHER if "reused" in gone else None)


def test_a_key_that_is_off_pays_no_debt(store):
    store.keys.put_claude_key(store.ada, "ada's", enabled=False)
    walked(store, *DEBT)

    assert store.catalogue.listing("ada", "haiku", CLAIM_KEY).owed_key is None


@pytest.mark.parametrize(
    "states",
    [
        (),
        (State.RELEASED,),
        (State.SETTLING,),
        (State.SETTLING, State.SETTLED),
        (State.SETTLING, State.SETTLED, State.COMPLETED),
        (*DEBT, State.REFUNDED),
    ],
    ids=lambda states: states[-1] if states else "claimed",
)
def test_nothing_is_owed_but_by_a_debt(store, states):
    store.keys.put_claude_key(store.ada, "ada's", enabled=True)
    row = walked(store, *states)

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert (listing.earlier, listing.owed, listing.owed_key) == (row, None, None)
