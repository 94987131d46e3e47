"""Every door, every credential, every verb: who is let in, and what everybody else is told."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.creators import (
    SONNET,
    Creator,
    ada,
    bad_credentials,
    bob,
    faulty,
    haiku_id,
)
from tests.blueprints.credentials import LETTERS, shown_by, stranger
from tests.conftest import PAY_TO, Shop

VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
CODES = {401: "UNAUTHENTICATED", 402: "PAYMENT_REQUIRED", 404: "NOT_FOUND", 409: "CONFLICT"}


@dataclass(frozen=True)
class Knock:
    """One verb at one door: what ada, bob and somebody without a credential are answered."""

    ada: int
    bob: int
    nobody: int = 401
    body: Any = None
    bad: int = 401
    """Somebody with a bad credential: refused, wherever credentials are looked at."""
    takes: str = "BS"
    """With which credentials ada is answered so: Bearer, Session, Internal and External keys."""
    taken: int | None = None
    """What she is answered with those of them that are no bearer token, where that differs."""
    query: str = ""


@dataclass(frozen=True)
class Door:
    path: str
    verbs: dict[str, Knock] = field(default_factory=dict)


def private(ada: int, bob: int, body: Any = None, takes: str = "BS", query: str = "") -> Knock:
    return Knock(ada, bob, body=body, takes=takes, query=query)


def open_to_all(status: int, bad: int = 401) -> Knock:
    return Knock(status, status, nobody=status, bad=bad)


MINE = private(200, 404)
DOORS = {
    "/@<username>/<slug>": Door(
        "/@ada/haiku", {"GET": open_to_all(402), "HEAD": open_to_all(402), "POST": open_to_all(402)}
    ),
    "/resources": Door("/resources", {"GET": private(200, 200), "POST": private(201, 201, SONNET)}),
    "/resources/<template_id>": Door(
        "/resources/{haiku}",
        {
            "GET": MINE,
            "PATCH": private(200, 404, {"name": "Other"}),
            "DELETE": private(204, 404),
        },
    ),
    "/resources/<template_id>/preview": Door(
        "/resources/{haiku}/preview", {"POST": private(200, 404, {"topic": "rain"})}
    ),
    "/resources/<template_id>/usage": Door("/resources/{haiku}/usage", {"GET": MINE}),
    "/api/v1/resources": Door("/api/v1/resources", {"GET": open_to_all(200)}),
    "/api/v1/resources/@<username>/<slug>": Door(
        "/api/v1/resources/@ada/haiku", {"GET": open_to_all(200)}
    ),
    "/api/v1/executions": Door("/api/v1/executions", {"GET": private(200, 200, takes="BSE")}),
    "/executions/<execution_id>": Door(
        "/executions/{haiku}", {"GET": private(404, 404, takes="B")}
    ),
    "/executions/<execution_id>/events": Door(
        "/executions/{haiku}/events", {"GET": private(404, 404, takes="B")}
    ),
    "/integrations/claude/config": Door(
        "/integrations/claude/config",
        {
            "GET": private(200, 200),
            "PUT": private(200, 200, {"apiKey": "sk-new"}),
            "DELETE": private(200, 200),
        },
    ),
    "/integrations/wallet/config": Door(
        "/integrations/wallet/config",
        {
            "GET": private(200, 200),
            "PUT": private(200, 200, {"baseAddress": PAY_TO}),
            "DELETE": private(200, 200),
        },
    ),
    "/auth/me": Door("/auth/me", {"GET": private(200, 200)}),
    "/user/profile": Door("/user/profile", {"PUT": private(200, 409, {"username": "ada"})}),
    "/auth/session": Door(
        "/auth/session",
        {
            "POST": private(200, 200, takes="B"),
            "DELETE": Knock(401, 401, takes="S", taken=204),
        },
    ),
    "/api/keys": Door(
        "/api/keys", {"GET": private(200, 200), "POST": private(201, 201, {"name": "CI"})}
    ),
    "/api/keys/<key_id>": Door("/api/keys/{haiku}", {"DELETE": private(404, 404)}),
    "/api/tiles": Door(
        "/api/tiles",
        {
            "GET": private(200, 200, takes="BSIE"),
            "POST": private(201, 404, {"coords": "{ada},0:1", "title": "One"}, takes="BSIE"),
        },
    ),
    "/api/tiles/<coords>": Door(
        "/api/tiles/{ada},0",
        {
            "GET": private(200, 404, takes="BSIE"),
            "PATCH": private(200, 404, {"title": "Other"}, takes="BSIE"),
            "DELETE": private(204, 404, takes="BSIE"),
        },
    ),
    "/api/stream/execute-task": Door(
        "/api/stream/execute-task",
        {
            "GET": private(200, 200, takes="BSIE", query="?taskCoords={ada},0"),
            "HEAD": private(200, 200, takes="BSIE", query="?taskCoords={ada},0"),
            "POST": private(200, 200, {"taskCoords": "{ada},0"}, takes="BSIE"),
        },
    ),
    "/healthz": Door("/healthz", {"GET": open_to_all(200, bad=200)}),
    "/healthz/stream": Door("/healthz/stream", {"GET": open_to_all(200, bad=200)}),
    "/readyz": Door("/readyz", {"GET": open_to_all(503, bad=503)}),  # nobody has looked yet
    "/metrics": Door("/metrics", {"GET": open_to_all(200, bad=200)}),
}


def filled(shop: Shop, asked: Any) -> Any:
    """A path or a body with the ids of what is ada's in it, and her own."""
    text = json.dumps(asked).replace("{haiku}", haiku_id(shop)).replace("{ada}", shop.ada)
    return json.loads(text)


def allowed(rule: str) -> set[str]:
    """The verbs a door takes: whoever may GET may ask for the HEAD, and anybody for OPTIONS."""
    verbs = set(DOORS[rule].verbs)
    return verbs | {"OPTIONS"} | ({"HEAD"} if "GET" in verbs else set())


def test_the_table_has_every_door_and_verb_of_the_application_and_no_other(shop: Shop) -> None:
    hung: dict[str, set[str]] = {}
    for rule in shop.client.application.url_map.iter_rules():
        hung.setdefault(rule.rule, set()).update(rule.methods or ())

    assert hung == {rule: allowed(rule) for rule in DOORS}


def in_shape(reply: TestResponse, verb: str) -> None:
    """Every refusal is JSON with a code; a HEAD has the same headers and no body."""
    status = reply.status_code
    assert reply.headers["X-Request-Id"].startswith("req_")
    if verb == "HEAD":
        assert reply.get_data() == b""
    elif status >= 400 and status not in (402, 503):
        # A new tile's coordinates are at fault where the one above them is not its maker's.
        field = {409: "username", 404: reply.json.get("field")}.get(status)
        faulty(reply, status, CODES.get(status, "INVALID_REQUEST"), field)
    if status >= 400:
        assert reply.mimetype == "application/json"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("rule", DOORS)
def test_each_door_answers_each_caller_and_verb(shop: Shop, rule: str, verb: str) -> None:
    door = DOORS[rule]
    knock = door.verbs.get(verb) or (door.verbs.get("GET") if verb == "HEAD" else None)
    path = filled(shop, door.path + (knock.query if knock is not None else ""))
    body = filled(shop, knock.body) if knock is not None else {}
    bad = bad_credentials(shop)

    replies = {
        name: shop.client.open(path, method=verb, json=body, headers={"Authorization": header})
        for name, header in bad.items()
    }
    replies["nobody"] = shop.client.open(path, method=verb, json=body)
    for name, creator in (("bob", bob(shop)), ("ada", ada(shop))):
        replies[name] = creator.ask(verb, path, body)

    statuses = {name: reply.status_code for name, reply in replies.items()}
    if verb == "OPTIONS":
        assert set(statuses.values()) == {204 if rule.startswith("/@") else 200}
    elif knock is None:
        assert set(statuses.values()) == {405}
        for reply in replies.values():
            assert set(reply.headers["Allow"].split(", ")) == allowed(rule)
    else:
        assert statuses == dict.fromkeys(bad, knock.bad) | {
            "nobody": knock.nobody,
            "bob": knock.bob,
            "ada": knock.ada,
        }
    for reply in replies.values():
        in_shape(reply, verb)


KNOCKS = [(rule, verb) for rule, door in DOORS.items() for verb in door.verbs]


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize(("rule", "verb"), KNOCKS)
def test_each_door_takes_the_credentials_of_its_letters_and_no_others(
    shop: Shop, rule: str, verb: str, letter: str
) -> None:
    """A cookie that is not taken is not looked at: a browser sends it unasked."""
    door = DOORS[rule]
    knock = door.verbs[verb]
    path = filled(shop, door.path + knock.query)
    headers = shown_by(shop, "ada", LETTERS[letter])

    reply = stranger(shop).open(path, method=verb, json=filled(shop, knock.body), headers=headers)

    if letter not in knock.takes:
        assert reply.status_code == knock.nobody, reply.text
    else:
        assert reply.status_code == (knock.taken or knock.ada), reply.text
    in_shape(reply, verb)


PRIVATE = [
    rule
    for rule, door in DOORS.items()
    if (get := door.verbs.get("GET")) and get.nobody == 401 and "/stream/" not in rule
]
"""A stream says `no-cache, no-transform` (spec/wire.md)."""


@pytest.mark.parametrize("rule", PRIVATE)
def test_what_only_its_owner_may_see_is_nobodys_to_keep(shop: Shop, rule: str) -> None:
    path = filled(shop, DOORS[rule].path)

    for creator in (ada(shop), bob(shop)):
        assert creator.ask("GET", path).headers["Cache-Control"] == "private, no-store"
    assert "no-store" in shop.client.get(path).headers["Cache-Control"]


ELSEWHERE = [
    "/",
    "/resources/",
    "//resources",
    "/Resources",
    "/resources/{haiku}/",
    "/resources/{haiku}/sales",
    "/resources/{haiku}/preview/more",
    "/api",
    "/api/v1",
    "/api/v1/resources/",
    "/api/v1/resources/ada/haiku",
    "/api/v1/resources/@ada",
    "/api/v1/resources/@ada/nothing",
    "/api/v1/resources/@nobody/haiku",
    "/api/v1/resources/@ada/%00",
    "/api/v1/resources/@%ff/haiku",
    "/integrations",
    "/integrations/claude",
    "/integrations/openrouter/config",
    "/auth",
    "/user/profile/",
    "/.env",
    "/static/x",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nothing_is_found_where_there_is_no_door(shop: Shop, path: str) -> None:
    reply = ada(shop).ask("GET", path.format(haiku=haiku_id(shop)))

    faulty(reply, 404, "NOT_FOUND")
    assert "Location" not in reply.headers


IDS = [
    "nothing",
    "00000000-0000-4000-8000-000000000000",
    "%00",
    "%ff",
    "%ed%a0%80",
    "%25",
    "'%20OR%201=1--",
    "..",
    "x" * 2000,
    "%F0%9F%8C%A7",
]


@pytest.mark.parametrize("template_id", IDS)
@pytest.mark.parametrize(
    ("verb", "more", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine now"}),
        ("DELETE", "", None),
        ("POST", "/preview", {"topic": "rain"}),
        ("GET", "/usage", None),
    ],
)
def test_an_id_that_is_nobodys_is_not_found(
    shop: Shop, verb: str, more: str, body: Any, template_id: str
) -> None:
    reply = ada(shop).ask(verb, f"/resources/{template_id}{more}", body)

    faulty(reply, 404, "NOT_FOUND")


def test_hidden_and_missing_look_the_same(shop: Shop) -> None:
    """But for the request's own id, bob cannot tell ada's template from none at all."""
    hidden, missing = haiku_id(shop), "00000000-0000-4000-8000-000000000000"
    creator = bob(shop)

    def told(template_id: str, verb: str, more: str, body: Any) -> tuple[Any, ...]:
        reply = creator.ask(verb, f"/resources/{template_id}{more}", body)
        said = dict(reply.json)
        said.pop("requestId")
        names = {name for name, _ in reply.headers}
        return reply.status_code, said, names

    for knock in [
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine now"}),
        ("DELETE", "", None),
        ("POST", "/preview", {"topic": "rain"}),
        ("GET", "/usage", None),
    ]:
        assert told(hidden, *knock) == told(missing, *knock)


def broken(*_: Any, **__: Any) -> Any:
    raise LookupError("planted words of a bug")


@pytest.mark.parametrize(
    ("verb", "path", "service", "method"),
    [
        ("GET", "/resources", "resources", "page"),
        ("POST", "/resources", "resources", "create"),
        ("GET", "/resources/x", "resources", "get"),
        ("PATCH", "/resources/x", "resources", "edit"),
        ("DELETE", "/resources/x", "resources", "delete"),
        ("GET", "/api/v1/resources", "templates", "shelf"),
        ("GET", "/api/v1/resources/@ada/haiku", "templates", "on_shelf"),
        ("GET", "/api/v1/executions", "books", "calls_of"),
        ("GET", "/executions/x", "access", "to_state"),
        ("GET", "/executions/x/events", "access", "to_answer"),
        ("GET", "/integrations/claude/config", "integrations", "claude_config"),
        ("DELETE", "/integrations/wallet/config", "integrations", "forget_pay_to"),
        ("GET", "/auth/me", "iam", "username"),
        ("GET", "/api/tiles", "mapping", "page"),
        ("GET", "/api/tiles/u,0", "mapping", "get"),
        ("DELETE", "/api/tiles/u,0", "mapping", "delete"),
    ],
)
def test_a_bug_of_ours_is_a_neutral_sentence(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, verb: str, path: str, service: str, method: str
) -> None:
    monkeypatch.setattr(getattr(shop.services, service), method, broken)

    reply = ada(shop).ask(verb, path, SONNET if verb in ("POST", "PATCH") else None)

    said = faulty(reply, 500, "UNKNOWN")
    assert "planted" not in reply.text
    assert said["error"] == "Execution failed. Please try again."


def test_a_creator_needs_no_more_than_their_token(shop: Shop) -> None:
    """The scheme's letter case is the caller's own."""
    token = shop.token("ada")

    reply = shop.client.get("/auth/me", headers={"Authorization": f"bearer {token}"})

    assert reply.json == {"id": shop.ada, "username": "ada"}
    assert Creator(shop, token).get("/auth/me") == reply.json
