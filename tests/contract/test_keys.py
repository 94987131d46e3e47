"""Sealed keys and payout addresses, whatever store is behind them."""

import pytest

from x402jobs.domain.listing import ClaudeConfig

NEW = "00000000-0000-4000-8000-0000000000aa"
"""An account that nobody has heard of."""


def listed(store):
    return store.catalogue.listing("ada", "haiku", None)


def test_a_key_is_there_once_it_is_stored(store):
    assert listed(store).sealed_key is None

    store.keys.put_claude_key(store.ada, "sealed", enabled=True)

    assert listed(store).sealed_key == "sealed"


def test_a_disabled_key_is_absent_until_it_is_enabled_again(store):
    store.keys.put_claude_key(store.ada, "sealed", enabled=False)
    assert listed(store).sealed_key is None

    store.keys.put_claude_key(store.ada, "other", enabled=True)
    assert listed(store).sealed_key == "other"

    store.keys.put_claude_key(store.ada, "other", enabled=False)
    assert listed(store).sealed_key is None


def test_the_payout_address_is_the_last_one_given_in_its_own_letter_case(store):
    for address in ("0xAdA", "0xaDa"):
        store.keys.put_pay_to(store.ada, address)

        assert listed(store).pay_to == address


def test_somebody_without_a_name_may_have_both(store):
    store.keys.put_claude_key(NEW, "sealed")
    store.keys.put_pay_to(NEW, "0xADA")

    assert store.keys.claude_config(NEW) == ClaudeConfig(True, True)
    assert store.keys.pay_to(NEW) == "0xADA"
    assert store.catalogue.username(NEW) is None


@pytest.mark.parametrize("user_id", [NEW, "nobody", "", "' OR 1=1"])
def test_who_has_stored_nothing_has_nothing(store, user_id):
    store.keys.put_claude_key(store.ada, "sealed")
    store.keys.put_pay_to(store.ada, "0xADA")

    assert store.keys.claude_config(user_id) == ClaudeConfig(False, False)
    assert store.keys.put_claude_key(user_id, None, enabled=False) == ClaudeConfig(False, False)
    assert store.keys.sealed_claude_key(user_id) is None
    assert store.keys.pay_to(user_id) is None
    store.keys.delete_claude_key(user_id)
    store.keys.delete_pay_to(user_id)
    assert listed(store).sealed_key == "sealed"
    assert listed(store).pay_to == "0xADA"


def test_a_key_that_is_switched_off_is_not_handed_out(store):
    store.keys.put_claude_key(store.ada, "sealed")
    assert store.keys.sealed_claude_key(store.ada) == "sealed"

    store.keys.put_claude_key(store.ada, None, enabled=False)

    assert store.keys.sealed_claude_key(store.ada) is None


def test_a_sealed_key_of_any_length_comes_back_whole(store):
    sealed = "v1.k1." + "Az09_-" * 20_000

    store.keys.put_claude_key(store.ada, sealed)

    assert store.keys.sealed_claude_key(store.ada) == sealed


@pytest.mark.parametrize("switch", [None, True, False])
def test_a_switch_without_a_key_moves_nothing(store, switch):
    assert store.keys.put_claude_key(store.ada, None, enabled=switch) == ClaudeConfig(False, False)
    assert store.keys.claude_config(store.ada) == ClaudeConfig(False, False)
    assert listed(store).sealed_key is None


def test_what_is_not_given_stays(store):
    assert store.keys.put_claude_key(store.ada, "one") == ClaudeConfig(True, True)
    assert store.keys.put_claude_key(store.ada, None, enabled=False) == ClaudeConfig(True, False)
    assert store.keys.put_claude_key(store.ada, "two") == ClaudeConfig(True, False)
    assert store.keys.put_claude_key(store.ada, None) == ClaudeConfig(True, False)

    assert store.keys.put_claude_key(store.ada, None, enabled=True) == ClaudeConfig(True, True)
    assert listed(store).sealed_key == "two"


def test_what_is_forgotten_is_gone_and_may_be_forgotten_twice(store):
    bob = store.catalogue.add_user("bob")
    for user in (store.ada, bob):
        store.keys.put_claude_key(user, "sealed")
        store.keys.put_pay_to(user, "0xADA")

    for _ in range(2):
        store.keys.delete_claude_key(store.ada)
        store.keys.delete_pay_to(store.ada)

    assert store.keys.claude_config(store.ada) == ClaudeConfig(False, False)
    assert store.keys.pay_to(store.ada) is None
    assert store.keys.claude_config(bob) == ClaudeConfig(True, True)
    assert store.keys.pay_to(bob) == "0xADA"
