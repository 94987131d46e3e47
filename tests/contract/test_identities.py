"""Sessions, API keys and the pepper, whatever store is behind them."""

from dataclasses import replace

import pytest

from tests.contract.conftest import race
from x402jobs.domain.credentials import ApiKey, InternalKey, Session

ADA = "00000000-0000-4000-8000-0000000000ad"
BOB = "00000000-0000-4000-8000-0000000000b0"
EVE = "00000000-0000-4000-8000-0000000000ee"
SESSION = Session("digest 1", ADA, renewed_at=1000.5, expires_at=2000.5)
KEY = ApiKey("k1", ADA, "for „CI“", "digest k1", created_at=1000.5)
INTERNAL = InternalKey("i1", ADA, "tools", "digest i1", "sealed i1", created_at=1000.5)


def test_the_first_pepper_of_a_name_stays(store):
    assert store.identities.pepper("one", "first") == "first"
    assert store.worker().identities.pepper("one", "second") == "first"
    assert store.identities.pepper("two", "second") == "second"


def test_all_who_need_a_pepper_at_once_get_the_same(store):
    workers = [store.worker() for _ in range(4)]

    told = race(100, lambda number: workers[number % 4].identities.pepper("one", f"{number}"))

    assert told == [store.identities.pepper("one", "late")] * 100
    assert told[0] in {f"{number}" for number in range(100)}


def test_a_session_is_found_by_its_digest_alone(store):
    store.identities.add_session(SESSION)

    assert store.worker().identities.session("digest 1") == SESSION
    for other in ("digest", "DIGEST 1", "digest 1 ", ADA, "%"):
        assert store.identities.session(other) is None


def test_a_session_of_somebody_unheard_of_makes_no_name_up(store):
    store.identities.add_session(SESSION)

    assert store.catalogue.username(ADA) is None


def test_a_session_that_is_over_is_found_until_another_begins_after_it(store):
    store.identities.add_session(SESSION)
    store.identities.add_session(replace(SESSION, digest="digest 2", renewed_at=2000.0))
    assert store.identities.session("digest 1") == SESSION

    store.identities.add_session(replace(SESSION, digest="digest 3", renewed_at=2000.5))
    assert store.identities.session("digest 1") is None


def test_a_session_is_renewed_where_it_is_and_nowhere_else(store):
    store.identities.add_session(SESSION)
    store.identities.add_session(replace(SESSION, digest="digest 2"))
    renewed = replace(SESSION, renewed_at=1500.5, expires_at=9000.5)

    store.identities.renew_session(renewed)
    store.identities.renew_session(replace(renewed, digest="nobody's"))

    assert store.identities.session("digest 1") == renewed
    assert store.identities.session("digest 2") == replace(SESSION, digest="digest 2")
    assert store.identities.session("nobody's") is None


def test_a_session_ends_alone_and_may_end_twice(store):
    store.identities.add_session(SESSION)
    store.identities.add_session(replace(SESSION, digest="digest 2"))

    for _ in range(2):
        store.identities.end_session("digest 1")

    assert store.identities.session("digest 1") is None
    assert store.identities.session("digest 2") is not None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"expires_at": 2000.5},
        {"created_at": 1_800_000_000.123456, "last_used_at": 0.1 + 0.2, "expires_at": 1e9},
        {"name": "Ünïcode 🌧 'quoted' \"twice\" \\ {} %s"},
        {"name": ""},
        {"name": "長" * 10_000},
    ],
)
def test_a_key_comes_back_as_it_was_given(store, changes):
    key = replace(KEY, **changes)
    store.identities.add_api_key(key)

    assert store.worker().identities.api_key("k1") == key
    assert store.identities.api_key("K1") is None
    assert store.identities.api_key("digest k1") is None


def test_an_accounts_keys_are_its_own_newest_first_and_in_pages(store):
    for number in range(3):
        store.identities.add_api_key(replace(KEY, id=f"k{number}", created_at=1000.0 + number))
    store.identities.add_api_key(replace(KEY, id="k9", user_id=BOB, created_at=9999.0))

    page = store.identities.api_keys(ADA, limit=2, offset=0)
    rest = store.identities.api_keys(ADA, limit=2, offset=2)
    beyond = store.identities.api_keys(ADA, limit=2, offset=9)

    assert [key.id for key in page.items] == ["k2", "k1"]
    assert (page.total, page.has_more, rest.has_more) == (3, True, False)
    assert [key.id for key in rest.items] == ["k0"]
    assert (beyond.items, beyond.total) == ([], 3)
    assert store.identities.api_keys(EVE, 9, 0).total == 0


def test_keys_of_one_moment_are_in_the_order_of_their_ids(store):
    for name in ("b", "a", "B", "_", "1"):
        store.identities.add_api_key(replace(KEY, id=name))

    pages = [store.identities.api_keys(ADA, 2, offset).items for offset in (0, 2, 4)]

    assert [[key.id for key in page] for page in pages] == [["1", "B"], ["_", "a"], ["b"]]


@pytest.mark.parametrize("nobody", [EVE, "eve", "", "' OR 1=1", "%"])
def test_who_was_given_nothing_has_nothing(store, nobody):
    store.identities.add_api_key(KEY)
    store.identities.put_internal_key(INTERNAL, None)

    assert store.identities.api_keys(nobody, 9, 0).items == []
    assert store.identities.delete_api_key(nobody, "k1") is False
    assert store.identities.internal_key(nobody, "tools") is None
    assert store.identities.api_key("k1") == KEY


def test_only_its_owner_deletes_a_key_and_once(store):
    for name in ("k1", "k2"):
        store.identities.add_api_key(replace(KEY, id=name))

    assert store.identities.delete_api_key(BOB, "k1") is False
    assert store.identities.delete_api_key(ADA, "k1") is True
    assert store.identities.delete_api_key(ADA, "k1") is False
    assert [key.id for key in store.identities.api_keys(ADA, 9, 0).items] == ["k2"]


def test_the_use_of_a_key_is_its_own(store):
    for name in ("k1", "k2"):
        store.identities.add_api_key(replace(KEY, id=name))

    store.identities.note_api_key_used("k1", 1500.5)
    store.identities.note_api_key_used("nobody's", 1500.5)

    assert store.identities.api_key("k1") == replace(KEY, last_used_at=1500.5)
    assert store.identities.api_key("k2") == replace(KEY, id="k2")


def test_an_internal_key_is_found_by_whom_and_what_it_is_for_and_by_its_digest(store):
    assert store.identities.put_internal_key(INTERNAL, None) == INTERNAL

    assert store.worker().identities.internal_key(ADA, "tools") == INTERNAL
    assert store.identities.internal_key_of("digest i1") == INTERNAL
    assert store.identities.internal_key(ADA, "mail") is None
    assert store.identities.internal_key(BOB, "tools") is None
    assert store.identities.internal_key_of("sealed i1") is None


def test_each_purpose_of_each_account_has_a_key_of_its_own(store):
    keys = [
        replace(
            INTERNAL, id=f"{user}{purpose}", user_id=user, purpose=purpose, digest=user + purpose
        )
        for user in (ADA, BOB)
        for purpose in ("tools", "mail")
    ]

    assert [store.identities.put_internal_key(key, None) for key in keys] == keys
    assert [store.identities.internal_key(key.user_id, key.purpose) for key in keys] == keys


@pytest.mark.parametrize("replaced", [None, "i0", "nobody's"])
def test_whoever_comes_second_is_given_the_first_ones_key(store, replaced):
    store.identities.put_internal_key(INTERNAL, None)
    late = replace(INTERNAL, id="i2", digest="digest i2", sealed_key="sealed i2")

    assert store.worker().identities.put_internal_key(late, replaced) == INTERNAL
    assert store.identities.internal_key(ADA, "tools") == INTERNAL
    assert store.identities.internal_key_of("digest i2") is None


@pytest.mark.parametrize("replaced", [None, "i1"])
def test_of_many_that_put_a_key_at_once_one_does_and_all_are_given_it(store, replaced):
    if replaced is not None:
        store.identities.put_internal_key(INTERNAL, None)
    workers = [store.worker() for _ in range(4)]
    keys = [
        replace(
            INTERNAL, id=f"n{number}", digest=f"digest n{number}", sealed_key=f"sealed {number}"
        )
        for number in range(100)
    ]

    told = race(100, lambda n: workers[n % 4].identities.put_internal_key(keys[n], replaced))

    assert told[0] in keys
    assert told == [told[0]] * 100
    assert store.identities.internal_key(ADA, "tools") == told[0]
    there = [key for key in (INTERNAL, *keys) if store.identities.internal_key_of(key.digest)]
    assert there == [told[0]]


def test_a_key_takes_the_place_of_the_one_it_replaces(store):
    store.identities.put_internal_key(replace(INTERNAL, last_used_at=1200.5), None)
    fresh = InternalKey("i2", ADA, "tools", "digest i2", "sealed i2", 1500.5, expires_at=2.5)

    assert store.identities.put_internal_key(fresh, "i1") == fresh
    assert store.identities.internal_key(ADA, "tools") == fresh
    assert store.identities.internal_key_of("digest i1") is None


def test_the_use_of_an_internal_key_is_its_own(store):
    store.identities.put_internal_key(INTERNAL, None)
    other = replace(INTERNAL, id="i2", purpose="mail", digest="digest i2")
    store.identities.put_internal_key(other, None)

    store.identities.note_internal_key_used("i1", 1500.5)
    store.identities.note_internal_key_used("nobody's", 1500.5)

    assert store.identities.internal_key_of("digest i1") == replace(INTERNAL, last_used_at=1500.5)
    assert store.identities.internal_key_of("digest i2") == other
