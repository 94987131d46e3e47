"""Signing a browser in and out."""

import re
from dataclasses import replace

import pytest

from tests.blueprints.creators import bad_credentials, faulty
from tests.blueprints.credentials import (
    HERE,
    cookie,
    cookies,
    external_key,
    internal_key,
    session,
    signed_in,
    stranger,
)
from tests.conftest import Shop
from x402jobs.app import create_app

DOOR = "/auth/session"
DAY = 24 * 3600


def age(shop: Shop, seconds: float) -> None:
    """Let every session have begun so much earlier."""
    shop.query(
        "UPDATE x402_sessions SET renewed_at = renewed_at - ?, expires_at = expires_at - ?",
        *(seconds, seconds),
    )


def me(shop: Shop, token: str):
    return stranger(shop).get("/auth/me", headers=cookie(token))


def test_a_bearer_token_buys_a_cookie_that_no_script_can_read(shop: Shop) -> None:
    reply = signed_in(shop)

    assert (reply.status_code, reply.json) == (200, {"id": shop.ada, "username": "ada"})
    kept = cookies(reply)["x402jobs_session"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", kept.value)
    assert (kept["httponly"], kept["samesite"], kept["path"]) == (True, "Lax", "/")
    assert (kept["max-age"], kept["domain"]) == (str(7 * DAY), "")
    assert "private" in reply.headers["Cache-Control"]
    assert me(shop, kept.value).json == reply.json


@pytest.mark.parametrize(
    ("public_url", "secure"),
    [
        ("http://127.0.0.1:4020", False),
        ("http://localhost:4020", False),
        ("http://[::1]:4020", False),
        ("https://shop.example", True),
        ("http://shop.example", True),
        ("https://127.0.0.1", True),
    ],
)
def test_the_cookie_travels_bare_on_one_machine_alone(
    shop: Shop, public_url: str, secure: bool
) -> None:
    app = create_app(replace(shop.settings, public_url=public_url), shop.services)
    headers = {"Authorization": f"Bearer {shop.token()}"}

    with app.test_client(use_cookies=False) as client:
        begun = client.post(DOOR, headers=headers)
        token = cookies(begun)["x402jobs_session"].value
        ended = client.delete(DOOR, headers=cookie(token) | HERE)

    assert [bool(cookies(each)["x402jobs_session"]["secure"]) for each in (begun, ended)] == [
        secure,
        secure,
    ]


def test_each_browser_has_a_session_of_its_own(shop: Shop) -> None:
    one, other = session(shop), session(shop)
    stranger(shop).delete(DOOR, headers=cookie(one) | HERE)

    assert (me(shop, one).status_code, me(shop, other).status_code) == (401, 200)


def test_signing_in_again_ends_what_the_browser_had(shop: Shop) -> None:
    before = session(shop, "bob")

    after = cookies(signed_in(shop, "ada", **cookie(before)))["x402jobs_session"].value

    assert me(shop, before).status_code == 401
    assert me(shop, after).json["username"] == "ada"


@pytest.mark.parametrize("stale", ["x", "A" * 43, ""])
def test_a_stale_cookie_keeps_nobody_from_signing_in(shop: Shop, stale: str) -> None:
    reply = signed_in(shop, "ada", **cookie(stale))

    assert me(shop, cookies(reply)["x402jobs_session"].value).status_code == 200


def test_only_a_good_bearer_token_begins_a_session(shop: Shop) -> None:
    refused = {
        **{name: {"Authorization": header} for name, header in bad_credentials(shop).items()},
        "none": {},
        "a session": cookie(session(shop)) | HERE,
        "a key": {"X-API-Key": external_key(shop)},
        "an internal key": {"X-API-Key": internal_key(shop)},
    }

    for headers in refused.values():
        reply = stranger(shop).post(DOOR, headers=headers)
        faulty(reply, 401, "UNAUTHENTICATED")
        assert "Set-Cookie" not in reply.headers
    assert len(shop.query("SELECT * FROM x402_sessions")) == 1


def test_signing_in_takes_no_fields(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.token()}"}

    faulty(
        stranger(shop).post(DOOR, json={"days": 900}, headers=headers),
        *(400, "INVALID_REQUEST", "days"),
    )
    assert stranger(shop).post(DOOR, json={}, headers=headers).status_code == 200


def test_signing_out_ends_the_session_and_the_cookie(shop: Shop) -> None:
    token = session(shop)

    reply = stranger(shop).delete(DOOR, headers=cookie(token) | HERE)

    assert (reply.status_code, reply.get_data()) == (204, b"")
    gone = cookies(reply)["x402jobs_session"]
    assert (gone.value, gone["max-age"], gone["path"]) == ("", "0", "/")
    assert me(shop, token).status_code == 401
    assert shop.query("SELECT * FROM x402_sessions") == []


@pytest.mark.parametrize("stale", ["x", "A" * 43])
def test_signing_out_of_what_is_over_is_no_fault_and_clears_the_cookie(
    shop: Shop, stale: str
) -> None:
    reply = stranger(shop).delete(DOOR, headers=cookie(stale) | HERE)

    assert (reply.status_code, cookies(reply)["x402jobs_session"].value) == (204, "")


def test_without_a_session_there_is_nothing_to_sign_out_of(shop: Shop) -> None:
    said = faulty(stranger(shop).delete(DOOR), 401, "UNAUTHENTICATED")

    assert said["error"] == "Sign in first. Taken here: a session cookie."


@pytest.mark.parametrize(("seconds", "status"), [(7 * DAY - 60, 200), (7 * DAY, 401)])
def test_a_session_ends_after_seven_days(shop: Shop, seconds: float, status: int) -> None:
    token = session(shop)

    age(shop, seconds)

    assert me(shop, token).status_code == status


def test_a_session_in_use_lasts_and_its_cookie_with_it(shop: Shop) -> None:
    token = session(shop)
    assert "Set-Cookie" not in me(shop, token).headers

    age(shop, DAY)
    reply = me(shop, token)
    again = cookies(reply)["x402jobs_session"]

    assert (again.value, again["max-age"]) == (token, str(7 * DAY))
    assert "Set-Cookie" not in me(shop, token).headers
    age(shop, 7 * DAY - 60)
    assert me(shop, token).status_code == 200


def test_a_renewed_cookie_comes_with_an_error_too(shop: Shop) -> None:
    token = session(shop)
    age(shop, DAY)

    reply = stranger(shop).get("/resources/nothing", headers=cookie(token))

    faulty(reply, 404, "NOT_FOUND")
    assert cookies(reply)["x402jobs_session"].value == token


def test_two_cookies_of_the_name_are_no_session(shop: Shop) -> None:
    """A page on a neighbour's host may set one, and must not choose who somebody is."""
    token = session(shop)
    both = {"Cookie": f"x402jobs_session={token}; x402jobs_session={session(shop, 'bob')}"}

    faulty(stranger(shop).get("/auth/me", headers=both), 401, "UNAUTHENTICATED")


def test_a_session_is_known_to_the_store_by_a_digest_alone(shop: Shop) -> None:
    token = session(shop)
    (row,) = shop.query("SELECT * FROM x402_sessions")

    assert re.fullmatch(r"[0-9a-f]{64}", row["digest"])
    assert token not in str(row)
    faulty(me(shop, row["digest"]), 401, "UNAUTHENTICATED")


def test_nobody_signs_in_without_end(shop: Shop) -> None:
    statuses = [signed_in(shop).status_code for _ in range(21)]
    reply = signed_in(shop)

    assert statuses == [200] * 20 + [429]
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert signed_in(shop, "bob").status_code == 200
