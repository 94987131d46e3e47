"""An account's keys for its programs: made, listed, used, taken back."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.blueprints.creators import ada, bob, faulty, newcomer
from tests.blueprints.credentials import external_key, stranger
from tests.conftest import Shop

DOOR, CALLS = "/api/keys", "/api/v1/executions"


def used(shop: Shop, key: str):
    """The reply of a door that takes it."""
    return stranger(shop).get(CALLS, headers={"X-API-Key": key})


def test_a_key_is_shown_once_and_works(shop: Shop) -> None:
    reply = ada(shop).ask("POST", DOOR, {"name": "CI"})
    made = reply.json

    assert reply.status_code == 201
    assert reply.headers["Location"] == f"{DOOR}/{made['id']}"
    assert "no-store" in reply.headers["Cache-Control"]
    key = made.pop("key")
    assert re.fullmatch(r"xj_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", key)
    assert made == {
        "id": key[3:19],
        "name": "CI",
        "prefix": key[:19],
        "createdAt": made["createdAt"],
        "lastUsedAt": None,
        "expiresAt": None,
    }
    assert used(shop, key).status_code == 200
    (listed,) = ada(shop).get(DOOR)["keys"]
    assert listed["lastUsedAt"] >= made["createdAt"]
    assert listed == made | {"lastUsedAt": listed["lastUsedAt"]}


def test_a_key_speaks_for_its_own_account(shop: Shop) -> None:
    shop.client.post(
        shop.url,
        json={"topic": "rain"},
        headers=shop.payment() | {"Authorization": f"Bearer {shop.token('bob')}"},
    ).get_data()

    assert [
        len(used(shop, external_key(shop, who)).json["executions"]) for who in ("ada", "bob")
    ] == [
        0,
        1,
    ]


def test_keys_are_listed_newest_first_in_pages_and_to_their_owner_alone(shop: Shop) -> None:
    for number in range(3):
        external_key(shop, "ada", name=f"key {number}")
        shop.query("UPDATE x402_api_keys SET created_at = created_at - 10")

    page = ada(shop).get(f"{DOOR}?limit=2")

    assert [key["name"] for key in page["keys"]] == ["key 2", "key 1"]
    assert page["pagination"] == {"total": 3, "limit": 2, "offset": 0, "hasMore": True}
    assert bob(shop).get(DOOR)["keys"] == []


def test_a_deleted_key_is_refused_from_the_next_call_on(shop: Shop) -> None:
    key, other = external_key(shop), external_key(shop)

    reply = ada(shop).ask("DELETE", f"{DOOR}/{key[3:19]}")

    assert (reply.status_code, reply.get_data()) == (204, b"")
    faulty(used(shop, key), 401, "UNAUTHENTICATED")
    assert used(shop, other).status_code == 200
    faulty(ada(shop).ask("DELETE", f"{DOOR}/{key[3:19]}"), 404, "NOT_FOUND")


@pytest.mark.parametrize("whose", [bob, newcomer])
def test_somebody_elses_key_looks_like_none(shop: Shop, whose: Any) -> None:
    key = external_key(shop)

    told = [
        faulty(whose(shop).ask("DELETE", f"{DOOR}/{each}"), 404, "NOT_FOUND")["error"]
        for each in (key[3:19], "0" * 16, "%20", key)
    ]

    assert told == ["There is no such key."] * 4
    assert used(shop, key).status_code == 200


def test_a_key_may_have_its_last_day(shop: Shop) -> None:
    soon = datetime.fromtimestamp(time.time() + 3600, UTC)
    said = soon.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    made = ada(shop).ask("POST", DOOR, {"name": "CI", "expiresAt": said}).json

    assert made["expiresAt"] == said
    assert used(shop, made["key"]).status_code == 200
    shop.query("UPDATE x402_api_keys SET expires_at = expires_at - 3601")
    faulty(used(shop, made["key"]), 401, "UNAUTHENTICATED")
    assert [key["id"] for key in ada(shop).get(DOOR)["keys"]] == [made["id"]]


FAULTY: list[tuple[Any, str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": " "}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a" * 101}, "name"),
    ({"name": 1}, "name"),
    ({"name": None}, "name"),
    ({"name": "CI", "key": "xj_mine"}, "key"),
    ({"name": "CI", "id": "mine"}, "id"),
    ({"name": "CI", "userId": "bob"}, "userId"),
    ({"name": "CI", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ({"name": "CI", "expiresAt": "2040-01-01"}, "expiresAt"),
    ({"name": "CI", "expiresAt": "2040-01-01T00:00:00"}, "expiresAt"),
    ({"name": "CI", "expiresAt": "2040-01-01T00:00:00+01:00"}, "expiresAt"),
    ({"name": "CI", "expiresAt": "2040-13-01T00:00:00Z"}, "expiresAt"),
    ({"name": "CI", "expiresAt": "20400101T000000Z"}, "expiresAt"),
    ({"name": "CI", "expiresAt": 2_000_000_000}, "expiresAt"),
    ({"name": "CI", "expiresAt": ""}, "expiresAt"),
    ({"name": "CI", "expiresAt": None}, "expiresAt"),
    ({"name": "CI", "expiresAt": ["2040-01-01T00:00:00Z"]}, "expiresAt"),
]


@pytest.mark.parametrize(("fields", "field"), FAULTY)
def test_a_field_that_is_wrong_is_named_and_nothing_is_made(
    shop: Shop, fields: Any, field: str
) -> None:
    said = faulty(ada(shop).ask("POST", DOOR, fields), 400, "INVALID_REQUEST", field)

    assert said["error"].startswith(f"{field}: ")
    assert ada(shop).get(DOOR)["keys"] == []


def test_the_store_cannot_give_a_key_away(shop: Shop) -> None:
    key = external_key(shop)
    (row,) = shop.query("SELECT * FROM x402_api_keys")

    assert key[20:] not in str(row)
    assert re.fullmatch(r"[0-9a-f]{64}", row["digest"])


def test_nobody_makes_keys_without_end(shop: Shop) -> None:
    statuses = [ada(shop).ask("POST", DOOR, {"name": "CI"}).status_code for _ in range(21)]

    assert statuses == [201] * 20 + [429]
    assert bob(shop).ask("POST", DOOR, {"name": "CI"}).status_code == 201
