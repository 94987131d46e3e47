"""Whose pages may call, with a browser's cookie or without; and from where a caller is counted."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.blueprints.creators import faulty, haiku_id
from tests.blueprints.credentials import cookie, session, shown_by, stranger
from tests.conftest import PAY_TO, Shop
from x402jobs.app import create_app
from x402jobs.blueprints import callers
from x402jobs.domain.caller import Method
from x402jobs.settings import Settings

FRONT = "https://app.example"
OURS = "http://127.0.0.1:4020"
STRANGE = [
    "https://evil.example",
    "https://app.example.evil.example",
    "https://sub.app.example",
    "http://app.example",
    "https://app.example:8443",
    "https://APP.example",
    "https://app.example/",
    "https://app.example, https://evil.example",
    "null",
    "",
]
TASK = "/api/stream/execute-task"


def client_of(shop: Shop, **settings: Any) -> FlaskClient:
    """The same shop under other settings."""
    app = create_app(replace(shop.settings, **settings), shop.services)
    return app.test_client(use_cookies=False)


@pytest.fixture
def client(shop: Shop) -> FlaskClient:
    """A shop whose operator has named one other origin."""
    return client_of(shop, frontend_origins=(FRONT,))


def said_about_origins(reply) -> dict[str, str]:
    return {
        name: value
        for name, value in reply.headers
        if name.startswith("Access-Control-") and "Expose" not in name
    }


def doors(shop: Shop) -> list[str]:
    """One address of every door but the paid one."""
    places = {"template_id": haiku_id(shop), "coords": f"{shop.ada},0"}
    rules = shop.client.application.url_map.iter_rules()
    return [
        rule.rule.replace(f"<{name}>", value)
        for rule in rules
        if not rule.rule.startswith("/@")
        for name, value in [
            next(((n, places.get(n, "x")) for n in rule.arguments), ("nothing", ""))
        ]
        if "<username>" not in rule.rule
    ]


def test_the_named_origin_may_call_every_door_but_the_paid_one(
    shop: Shop, client: FlaskClient
) -> None:
    assert len(doors(shop)) > 15
    for door in doors(shop):
        for headers in ({}, shown_by(shop, "ada", Method.BEARER)):
            reply = client.get(door, headers={"Origin": FRONT} | headers)

            assert said_about_origins(reply) == {
                "Access-Control-Allow-Origin": FRONT,
                "Access-Control-Allow-Credentials": "true",
            }, door
            assert "Origin" in reply.vary


def test_its_preflight_is_answered_for_every_verb_and_header(
    shop: Shop, client: FlaskClient
) -> None:
    for rule in shop.client.application.url_map.iter_rules():
        if rule.rule.startswith("/@"):
            continue
        asked = {"Origin": FRONT, "Access-Control-Request-Method": "POST"}

        reply = client.options(rule.rule.replace("<", "").replace(">", ""), headers=asked)

        assert reply.status_code == 200, rule.rule
        said = said_about_origins(reply)
        assert set(said.pop("Access-Control-Allow-Methods").split(", ")) >= rule.methods
        assert said == {
            "Access-Control-Allow-Origin": FRONT,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Headers": "Content-Type, Authorization, X-API-Key, X-User-Id, "
            "X-Resume-Token, X-Request-Id, Last-Event-ID",
            "Access-Control-Max-Age": "86400",
        }


@pytest.mark.parametrize("origin", STRANGE)
@pytest.mark.parametrize("verb", ["GET", "POST", "OPTIONS"])
def test_nothing_is_reflected_for_anybody_else(
    shop: Shop, client: FlaskClient, origin: str, verb: str
) -> None:
    for door in ("/auth/me", "/resources", "/nowhere", TASK):
        reply = client.open(door, method=verb, headers={"Origin": origin})

        assert said_about_origins(reply) == {}
        assert "Origin" in reply.vary  # what is said to one must not be kept for another


def test_where_no_origin_is_named_none_is_spoken_of(shop: Shop) -> None:
    for verb in ("GET", "OPTIONS"):
        for origin in (FRONT, OURS):
            reply = stranger(shop).open("/auth/me", method=verb, headers={"Origin": origin})
            assert (said_about_origins(reply), "Origin" in reply.vary) == ({}, False)


@pytest.mark.parametrize("origin", [FRONT, OURS, *STRANGE])
def test_the_paid_door_is_everybodys_without_credentials(client: FlaskClient, origin: str) -> None:
    for verb in ("GET", "POST", "OPTIONS", "PUT"):
        reply = client.open("/@ada/haiku", method=verb, headers={"Origin": origin})

        said = said_about_origins(reply)
        assert said["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in said


ORIGINS = {
    "our page": ({"Sec-Fetch-Site": "same-origin", "Origin": OURS}, True),
    "our page, which names no origin": ({"Sec-Fetch-Site": "same-origin"}, True),
    "somebody typing the address": ({"Sec-Fetch-Site": "none"}, True),
    "an older browser on our page": ({"Origin": OURS}, True),
    "a page of the named origin": ({"Sec-Fetch-Site": "same-site", "Origin": FRONT}, True),
    "the same from afar": ({"Sec-Fetch-Site": "cross-site", "Origin": FRONT}, True),
    "a neighbour's page": ({"Sec-Fetch-Site": "same-site", "Origin": STRANGE[2]}, False),
    "another site's page": ({"Sec-Fetch-Site": "cross-site", "Origin": STRANGE[0]}, False),
    "another site's link": ({"Sec-Fetch-Site": "cross-site"}, False),
    "a page that hides its origin": ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
    "whoever does not say": ({}, False),
    "two who say it at once": ({"Origin": f"{OURS}, {STRANGE[0]}"}, False),
    "our host under another scheme": ({"Origin": "https://127.0.0.1:4020"}, False),
    "our host at another port": ({"Origin": "http://127.0.0.1:4021"}, False),
    "our host under another name": ({"Origin": "http://localhost:4020"}, False),
    "a site that names us as Host": ({"Origin": STRANGE[0], "Host": "evil.example"}, False),
}
CHANGES: list[tuple[str, str, Any, int]] = [
    ("POST", "/api/keys", {"name": "CI"}, 201),
    ("PUT", "/integrations/wallet/config", {"baseAddress": PAY_TO}, 200),
    ("DELETE", "/integrations/claude/config", None, 200),
    ("PATCH", "/resources/{haiku}", {"name": "Other"}, 200),
    ("POST", "/resources/{haiku}/preview", {"topic": "rain"}, 200),
    ("DELETE", "/auth/session", None, 204),
]


@pytest.mark.parametrize("whose", ORIGINS)
@pytest.mark.parametrize(("verb", "door", "body", "done"), CHANGES)
def test_a_cookie_changes_things_from_our_own_pages_alone(
    shop: Shop, client: FlaskClient, whose: str, verb: str, door: str, body: Any, done: int
) -> None:
    headers, is_ours = ORIGINS[whose]
    path = door.format(haiku=haiku_id(shop))

    reply = client.open(path, method=verb, json=body, headers=cookie(session(shop)) | headers)

    if is_ours:
        assert reply.status_code == done, reply.text
    else:
        said = faulty(reply, 403, "FORBIDDEN")
        assert "Sec-Fetch-Site or Origin" in said["error"]
        assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("whose", ORIGINS)
def test_reading_is_nobodys_harm(shop: Shop, client: FlaskClient, whose: str) -> None:
    headers = cookie(session(shop)) | ORIGINS[whose][0]

    assert client.get("/auth/me", headers=headers).status_code == 200


@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("whose", ORIGINS)
def test_a_get_that_spends_money_counts_as_a_change(
    shop: Shop, client: FlaskClient, whose: str, verb: str
) -> None:
    headers, is_ours = ORIGINS[whose]

    with client.application.test_request_context(
        TASK, method=verb, headers=cookie(session(shop)) | headers
    ):
        if is_ours:
            assert callers.signed_in(*callers.EVERYBODY, spends=True).user_id == shop.ada
        else:
            with pytest.raises(callers.Forbidden):
                callers.signed_in(*callers.EVERYBODY, spends=True)


def test_the_task_door_is_such_a_door(shop: Shop, client: FlaskClient) -> None:
    asked = f"{TASK}?taskCoords={shop.ada},0"
    headers = cookie(session(shop)) | ORIGINS["another site's link"][0]

    for verb in ("GET", "HEAD"):
        assert client.open(asked, method=verb, headers=headers).status_code == 403


@pytest.mark.parametrize("method", [Method.BEARER, Method.INTERNAL, Method.EXTERNAL])
def test_who_shows_no_cookie_is_not_asked_for_a_page(
    shop: Shop, client: FlaskClient, method: Method
) -> None:
    """No browser sends these unasked."""
    headers = shown_by(shop, "ada", method) | ORIGINS["another site's page"][0]

    with client.application.test_request_context(TASK, headers=headers):
        assert callers.signed_in(*callers.EVERYBODY, spends=True).method is method


@pytest.mark.parametrize("kind", [Method.BEARER, Method.INTERNAL, Method.EXTERNAL])
def test_who_shows_more_than_a_cookie_is_not_asked_for_a_page_either(
    shop: Shop, client: FlaskClient, kind: Method
) -> None:
    """A program that keeps cookies sends it along; a page of somebody else's can add no header."""
    shown = shown_by(shop, "ada", kind) | cookie(session(shop))

    reply = client.post(
        "/api/tiles", json={"coords": f"{shop.ada},0:1", "title": "One"}, headers=shown
    )

    assert reply.status_code == 201, reply.text


def test_a_session_that_is_over_is_told_so_first(shop: Shop, client: FlaskClient) -> None:
    reply = client.post("/api/keys", json={"name": "CI"}, headers=cookie("A" * 43))

    faulty(reply, 401, "UNAUTHENTICATED")


PEERS = [
    # the peer, X-Real-IP, TRUSTED_PROXIES, who is counted
    ("192.0.2.1", None, "", "192.0.2.1"),
    ("192.0.2.1", "198.51.100.9", "", "192.0.2.1"),
    ("192.0.2.1", "198.51.100.9", "192.0.2.2", "192.0.2.1"),
    ("192.0.2.1", "198.51.100.9", "192.0.2.1", "198.51.100.9"),
    ("192.0.2.1", "198.51.100.9", "10.0.0.0/8,192.0.2.0/24", "198.51.100.9"),
    ("192.0.2.1", None, "192.0.2.1", "192.0.2.1"),
    ("192.0.2.1", "", "192.0.2.1", "192.0.2.1"),
    ("::ffff:192.0.2.1", "198.51.100.9", "192.0.2.1", "198.51.100.9"),
    ("2001:db8::1", "198.51.100.9", "192.0.2.0/24", "2001:db8::/64"),
    ("2001:db8::1", "198.51.100.9", "2001:db8::/32", "198.51.100.9"),
    ("", "198.51.100.9", "", "198.51.100.9"),
    ("", None, "", "unknown"),
    # what may be chosen anew for every request is no other caller's
    ("2001:db8:1:2:3:4:5:6", None, "", "2001:db8:1:2::/64"),
    ("2001:db8:1:2:ffff::9", None, "", "2001:db8:1:2::/64"),
    ("2001:db8:1:3::1", None, "", "2001:db8:1:3::/64"),
    ("", "2001:DB8:1:2::9", "", "2001:db8:1:2::/64"),
    ("::ffff:192.0.2.1", None, "", "192.0.2.1"),
    ("", "::ffff:198.51.100.9", "", "198.51.100.9"),
    ("", "fe80::1%eth0", "", "fe80::/64"),
    *(
        ("", said, "", "unknown")
        for said in ("ada", "198.51.100.9, 192.0.2.9", "198.51.100.9:80", "1", "198.51.100.09")
    ),
]


@pytest.mark.parametrize(("peer", "said", "proxies", "counted"), PEERS)
def test_a_caller_is_counted_where_nobody_can_say_otherwise(
    shop: Shop, peer: str, said: str | None, proxies: str, counted: str
) -> None:
    trusted = Settings.from_env({"TRUSTED_PROXIES": proxies}).trusted_proxies
    client = client_of(shop, trusted_proxies=trusted)
    headers = {"X-Forwarded-For": "203.0.113.7"} | ({} if said is None else {"X-Real-IP": said})

    with client.application.test_request_context(
        headers=headers, environ_base={"REMOTE_ADDR": peer}
    ):
        assert callers.address() == counted
