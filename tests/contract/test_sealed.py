"""Every sealed value can be gone through and replaced, whatever store is behind it."""

from dataclasses import replace

import pytest

from x402jobs.domain.credentials import InternalKey
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.execution import State
from x402jobs.ports import SealedValue

from .conftest import HAIKU, bought

KEYS = ("x402_user_claude_configs", "api_key_encrypted")
PROMPTS = ("x402_resources", "pt_system_prompt")
PAYMENTS = ("x402_executions", "sealed_payment")
ANSWERS = ("x402_answers", "sealed_answer")
INTERNAL = ("x402_internal_api_keys", "sealed_key")
PEPPERS = ("x402_peppers", "sealed_pepper")
COLUMNS = [KEYS, PROMPTS, PAYMENTS, ANSWERS, INTERNAL, PEPPERS]
BOBS = "00000000-0000-4000-8000-000000000000"
"""A template's id, in front of HAIKU's."""


@pytest.fixture
def full(store):
    """Two values in each column, in no order; and rows that have none."""
    bob = store.catalogue.add_user("bob")
    for user_id in (store.ada, bob):
        store.keys.put_claude_key(user_id, f"key of {user_id}", enabled=False)
    store.catalogue.add_user("eve")
    store.catalogue.add_template(
        replace(HAIKU, id=BOBS, owner_id=bob, username="bob", sealed_prompt="bob's prompt")
    )
    for execution_id in ("e4", "e1", "e3", "e2", "e5"):
        claim = bought(id=execution_id, claim_key=execution_id)
        store.ledger.claim(claim)
        if execution_id == "e5":
            continue
        settling = claim.become(State.SETTLING)
        store.ledger.swap(claim, settling, sealed_payment=f"payment {execution_id}")
        if execution_id in ("e1", "e3"):
            settled = settling.become(State.SETTLED, transaction="0x1")
            store.ledger.swap(settling, settled)
            store.ledger.swap(
                settled,
                settled.become(State.COMPLETED),
                sealed_answer=f"answer {execution_id}",
            )
    for name in ("i2", "i1"):
        store.identities.put_internal_key(
            InternalKey(name, store.ada, f"for {name}", f"digest {name}", f"key {name}", 1000.0),
            None,
        )
        store.identities.pepper(f"pepper {name}", f"sealed {name}")
    store.bob = bob
    return store


def values(store, column):
    """All of a column, one at a time."""
    after, found = "", []
    while page := store.sealed.page(*column, after, 1):
        (value,) = page
        found.append(value)
        after = value.row
    return found


@pytest.mark.parametrize("column", [KEYS, PAYMENTS, ANSWERS, INTERNAL, PEPPERS])
def test_a_store_without_sealed_values_has_an_empty_page(store, column):
    assert store.sealed.page(*column, "", 10) == []


def test_each_value_comes_with_its_row_and_its_owner_in_the_order_of_the_rows(full):
    users = sorted((full.ada, full.bob))

    assert values(full, KEYS) == [SealedValue(each, each, f"key of {each}") for each in users]
    assert values(full, PROMPTS) == [
        SealedValue(BOBS, full.bob, "bob's prompt"),
        SealedValue(HAIKU.id, full.ada, HAIKU.sealed_prompt),
    ]
    assert values(full, PAYMENTS) == [SealedValue(e, e, f"payment {e}") for e in ("e2", "e4")]
    assert values(full, ANSWERS) == [SealedValue(e, e, f"answer {e}") for e in ("e1", "e3")]
    assert values(full, INTERNAL) == [SealedValue(i, i, f"key {i}") for i in ("i1", "i2")]
    assert values(full, PEPPERS) == [
        SealedValue(f"pepper {i}", f"pepper {i}", f"sealed {i}") for i in ("i1", "i2")
    ]


def test_a_page_is_as_long_as_was_asked_and_begins_behind_the_last_one(full):
    both = values(full, PAYMENTS)

    for limit in (2, 3, 100):
        assert full.sealed.page(*PAYMENTS, "", limit) == both
    assert full.sealed.page(*PAYMENTS, "e2", 100) == both[1:]
    assert full.sealed.page(*PAYMENTS, "e3", 100) == both[1:]
    assert full.sealed.page(*PAYMENTS, "e4", 100) == []


def test_the_prompt_of_a_deleted_template_is_there_too(full):
    assert full.catalogue.delete_template(full.ada, HAIKU.id, 2000.0)

    assert [each.row for each in values(full, PROMPTS)] == [BOBS, HAIKU.id]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_value_is_replaced_where_it_still_stands(full, column):
    first, second = values(full, column)
    changed = replace(first, sealed="a value of long ago")
    vanished = replace(first, row="nobody's")

    done = full.sealed.replace(*column, [(changed, "x"), (vanished, "y"), (second, "fresh")])

    assert done == 1
    assert values(full, column) == [first, replace(second, sealed="fresh")]


@pytest.mark.parametrize("column", COLUMNS)
def test_of_two_who_replace_one_value_the_first_has_done_it(full, column):
    page = full.sealed.page(*column, "", 10)
    others = [(value, f"theirs {value.row}") for value in page]

    assert full.worker().sealed.replace(*column, others) == 2
    assert full.sealed.replace(*column, [(value, "ours") for value in page]) == 0
    assert [each.sealed for each in values(full, column)] == [fresh for _, fresh in others]


def test_nothing_else_of_a_row_changes(full):
    before = full.catalogue.listing("ada", "haiku", "e4")
    fresh = {
        column: [(value, f"fresh {value.row}") for value in values(full, column)]
        for column in COLUMNS
    }

    done = [full.sealed.replace(*column, pairs) for column, pairs in fresh.items()]

    after = full.catalogue.listing("ada", "haiku", "e4")
    assert done == [2] * len(COLUMNS)
    assert after.template == replace(before.template, sealed_prompt=f"fresh {HAIKU.id}")
    assert (after.earlier, after.sealed_key) == (before.earlier, None)
    assert not full.keys.claude_config(full.ada).is_enabled


@pytest.mark.parametrize("column", [KEYS, PROMPTS, ANSWERS, INTERNAL, PEPPERS])
def test_a_replacement_that_fails_in_the_middle_has_replaced_nothing(full, column):
    first, second = before = values(full, column)

    with pytest.raises(StoreUnavailable):
        full.sealed.replace(*column, [(first, "fresh"), (second, None)])
    assert values(full, column) == before


def test_a_sealed_value_does_not_show_itself(full):
    assert not any("payment" in repr(each) for each in values(full, PAYMENTS))
