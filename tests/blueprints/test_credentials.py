"""Every credential at a door that takes it: alone, in pairs, over, taken back, of somebody else."""

from itertools import combinations

import pytest
from flask.testing import FlaskClient

from tests.blueprints.creators import ada, expired_token, faulty
from tests.blueprints.credentials import (
    HERE,
    cookie,
    each_kind,
    external_key,
    internal_key,
    session,
    shown_by,
    stranger,
)
from tests.conftest import Shop
from x402jobs.domain.caller import Method
from x402jobs.domain.errors import Unauthenticated
from x402jobs.stores import catalogue, internal_keys

EVERY = "/api/tiles"
"""A door that takes all four kinds."""
WORDS = Unauthenticated.sentence
KEYS = {Method.INTERNAL, Method.EXTERNAL}
PAIRS = [pair for pair in combinations(Method, 2) if set(pair) != KEYS]


@pytest.fixture
def client(shop: Shop) -> FlaskClient:
    return stranger(shop)


@pytest.mark.parametrize("method", Method)
def test_each_kind_alone_is_let_in(shop: Shop, client: FlaskClient, method: Method) -> None:
    assert client.get(EVERY, headers=shown_by(shop, "ada", method)).status_code == 200


@pytest.mark.parametrize("pair", PAIRS)
def test_two_of_one_account_are_let_in(shop: Shop, client: FlaskClient, pair) -> None:
    both = shown_by(shop, "ada", pair[0]) | shown_by(shop, "ada", pair[1])

    assert client.get(EVERY, headers=both).status_code == 200


@pytest.mark.parametrize("pair", PAIRS)
def test_two_of_different_accounts_are_a_mistake(shop: Shop, client: FlaskClient, pair) -> None:
    both = shown_by(shop, "ada", pair[0]) | shown_by(shop, "bob", pair[1])

    faulty(client.get(EVERY, headers=both), 400, "INVALID_REQUEST")


def over(shop: Shop) -> dict[str, dict[str, str]]:
    """Credentials that were ada's, and what nearly were."""
    ended, deleted, rotated = session(shop), external_key(shop), internal_key(shop, purpose="mail")
    stranger(shop).delete("/auth/session", headers=cookie(ended) | HERE)
    ada(shop).ask("DELETE", f"/api/keys/{deleted[3:19]}")
    internal_keys(shop.settings).rotate(shop.ada, "mail")
    expired = [session(shop), external_key(shop), internal_key(shop, purpose="old")]
    shop.query("UPDATE x402_sessions SET expires_at = 1")
    shop.query("UPDATE x402_api_keys SET expires_at = 1")
    shop.query("UPDATE x402_internal_api_keys SET expires_at = 1 WHERE purpose = 'old'")
    good = internal_key(shop)
    return {
        "an ended session": cookie(ended),
        "an expired session": cookie(expired[0]),
        "an unknown session": cookie("A" * 43),
        "an expired token": {"Authorization": f"Bearer {expired_token(shop)}"},
        "an unknown token": {"Authorization": "Bearer unknown"},
        "a deleted key": {"X-API-Key": deleted},
        "an expired key": {"X-API-Key": expired[1]},
        "an unknown key": {"X-API-Key": f"xj_{'0' * 16}_{'A' * 43}"},
        "a rotated internal key": {"X-API-Key": rotated},
        "an expired internal key": {"X-API-Key": expired[2]},
        "an unknown internal key": {"X-API-Key": f"xi_{'0' * 16}_{'A' * 43}"},
        "a hint at somebody else": {"X-API-Key": good, "X-User-Id": "bob"},
        "a key twice": {"X-API-Key": f"{good}, {good}"},
        "what is no key": {"X-API-Key": "sk-ant-planted"},
    }


def test_whatever_is_wrong_with_one_the_reply_is_the_same(shop: Shop, client: FlaskClient) -> None:
    replies = {name: client.get(EVERY, headers=shown) for name, shown in over(shop).items()}

    for name, reply in replies.items():
        assert faulty(reply, 401, "UNAUTHENTICATED")["error"] == WORDS, name
    assert len({frozenset(name for name, _ in reply.headers) for reply in replies.values()}) == 1


def test_a_good_one_beside_it_makes_nothing_good(shop: Shop, client: FlaskClient) -> None:
    bearer = shown_by(shop, "ada", Method.BEARER)

    for name, shown in over(shop).items():
        if "Authorization" not in shown:
            assert client.get(EVERY, headers=shown | bearer).status_code == 401, name


def test_an_address_that_shows_too_many_bad_ones_is_told_to_wait(
    shop: Shop, client: FlaskClient
) -> None:
    bad = list(over(shop).values())
    statuses = [client.get(EVERY, headers=(bad * 2)[n]).status_code for n in range(21)]

    assert statuses == [401] * 20 + [429]
    good = shown_by(shop, "ada", Method.BEARER)
    assert client.get(EVERY, headers=good).status_code == 200


def test_a_hint_must_be_the_keys_owner(shop: Shop, client: FlaskClient) -> None:
    bob = catalogue(shop.settings).add_user("bob")
    key = {"X-API-Key": internal_key(shop)}

    statuses = {
        hint: client.get(EVERY, headers=key | {"X-User-Id": hint}).status_code
        for hint in (shop.ada, bob, "ada", "", shop.ada.upper())
    }

    assert statuses == {shop.ada: 200, bob: 401, "ada": 401, "": 401, shop.ada.upper(): 401}


@pytest.mark.parametrize("hint", ["", "bob"])
def test_a_hint_beside_anything_else_is_ignored(shop: Shop, client: FlaskClient, hint: str) -> None:
    for method, shown in each_kind(shop):
        if method is not Method.INTERNAL:
            assert client.get(EVERY, headers=shown | {"X-User-Id": hint}).status_code == 200


def test_a_hint_alone_is_nobody(client: FlaskClient, shop: Shop) -> None:
    faulty(client.get(EVERY, headers={"X-User-Id": shop.ada}), 401, "UNAUTHENTICATED")


TAKEN = {
    "/auth/me": "a bearer token or a session cookie",
    "/api/v1/executions": "a bearer token, a session cookie or an API key",
    EVERY: "a session cookie, a bearer token, an internal API key or an API key",
}


@pytest.mark.parametrize("door", TAKEN)
def test_whoever_shows_nothing_is_told_what_is_taken(
    client: FlaskClient, shop: Shop, door: str
) -> None:
    said = faulty(client.get(door), 401, "UNAUTHENTICATED")

    assert said["error"] == f"Sign in first. Taken here: {TAKEN[door]}."


@pytest.mark.parametrize(
    ("door", "method"),
    [
        ("/auth/me", Method.INTERNAL),
        ("/auth/me", Method.EXTERNAL),
        ("/api/v1/executions", Method.INTERNAL),
    ],
)
def test_a_key_that_a_door_does_not_take_is_refused_even_beside_a_token(
    shop: Shop, client: FlaskClient, door: str, method: Method
) -> None:
    """And whether it is good nobody learns here, nor is it counted."""
    good, bearer = shown_by(shop, "ada", method), shown_by(shop, "ada", Method.BEARER)
    torn = {"X-API-Key": good["X-API-Key"][:-1] + "-"}

    told = {
        faulty(client.get(door, headers=shown | more), 401, "UNAUTHENTICATED")["error"]
        for shown in (good, torn)
        for more in ({}, bearer)
        for _ in range(9)
    }

    assert told == {f"Sign in first. Taken here: {TAKEN[door]}."}


def test_the_paid_door_and_the_shelf_look_at_no_cookie_and_no_key(
    shop: Shop, client: FlaskClient
) -> None:
    torn = cookie("torn") | {"X-API-Key": "torn", "X-User-Id": "bob"}

    assert client.get("/@ada/haiku", headers=torn).status_code == 402
    assert client.get("/api/v1/resources", headers=torn).status_code == 200


@pytest.mark.parametrize("method", [Method.SESSION, Method.INTERNAL, Method.EXTERNAL])
def test_an_owner_test_needs_a_bearer_token(
    shop: Shop, client: FlaskClient, method: Method
) -> None:
    wish = {"X-OWNER-TEST": "true"} | shown_by(shop, "ada", method)

    reply = client.post("/@ada/haiku", json={"topic": "rain"}, headers=wish)

    faulty(reply, 401, "UNAUTHENTICATED")
    assert shop.rows() == []
