"""Sealed keys and payout addresses, whatever store is behind them."""

import pytest

from x402jobs.domain.errors import StoreUnavailable


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


@pytest.mark.parametrize(
    "put",
    [
        lambda keys: keys.put_claude_key("nobody", "sealed", enabled=True),
        lambda keys: keys.put_pay_to("nobody", "0xADA"),
    ],
)
def test_nobody_has_neither(store, put):
    with pytest.raises(StoreUnavailable):
        put(store.keys)
