"""A creator's Claude key over HTTP: stored, switched, tried, forgotten, and never shown."""

import pytest

from tests.blueprints.conftest import refused
from tests.blueprints.creators import ada, bob, faulty, haiku_id, newcomer
from tests.conftest import CREATOR_KEY, RAIN, Shop, events

DOOR = "/integrations/claude/config"
NEW = "sk-ant-planted-new-key"
NONE = {"hasApiKey": False, "isEnabled": False}
OFF = {"hasApiKey": True, "isEnabled": False}
ON = {"hasApiKey": True, "isEnabled": True}


def told(reply: object) -> object:
    assert isinstance(reply, dict) and reply.pop("success") is True
    return reply


def test_without_a_row_there_is_no_key_and_nothing_is_on(shop: Shop) -> None:
    assert bob(shop).get(DOOR) == NONE
    assert newcomer(shop).get(DOOR) == NONE


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"apiKey": NEW}, ON),
        ({"apiKey": NEW, "isEnabled": True}, ON),
        ({"apiKey": NEW, "isEnabled": False}, OFF),
    ],
)
def test_a_first_key_is_on_unless_it_is_said_to_be_off(
    shop: Shop, sent: dict[str, object], stored: object
) -> None:
    creator = newcomer(shop)

    assert told(creator.put(DOOR, sent)) == stored
    assert creator.get(DOOR) == stored


@pytest.mark.parametrize("sent", [{}, {"isEnabled": True}, {"isEnabled": False}])
def test_a_switch_needs_a_stored_key(shop: Shop, sent: dict[str, object]) -> None:
    reply = bob(shop).ask("PUT", DOOR, sent)

    assert faulty(reply, 400, "INVALID_REQUEST", "apiKey")["error"] == "apiKey is required"
    assert bob(shop).get(DOOR) == NONE


def test_the_reply_is_what_is_stored_and_not_what_was_asked(shop: Shop) -> None:
    """The origin answered with the request: a key saved while switched off was called on."""
    creator = ada(shop)

    walk = [
        ({"isEnabled": False}, OFF),
        ({}, OFF),
        ({"apiKey": NEW}, OFF),
        ({"isEnabled": True}, ON),
        ({}, ON),
        ({"apiKey": CREATOR_KEY}, ON),
    ]
    for sent, stored in walk:
        assert told(creator.put(DOOR, sent)) == stored
        assert creator.get(DOOR) == stored


def test_a_key_that_is_off_shuts_the_shop_before_anybody_is_asked_to_pay(shop: Shop) -> None:
    payment = shop.payment()
    ada(shop).put(DOOR, {"isEnabled": False})

    for headers in ({}, payment):
        refused(shop.client.post(shop.url, json=RAIN, headers=headers), 503, "TEMPLATE_UNAVAILABLE")
    assert (shop.rows(), shop.claude.calls) == ([], [])

    ada(shop).put(DOOR, {"isEnabled": True})
    assert events(shop.client.post(shop.url, json=RAIN, headers=payment))[-1]["type"] == "done"
    assert shop.claude.calls[0]["key"] == CREATOR_KEY


def test_a_new_key_takes_the_old_ones_place(shop: Shop) -> None:
    ada(shop).put(DOOR, {"apiKey": NEW})

    events(shop.buy())

    assert [call["key"] for call in shop.claude.calls] == [NEW]


def test_a_key_may_be_forgotten_twice(shop: Shop) -> None:
    creator = ada(shop)

    for _ in range(2):
        reply = creator.ask("DELETE", DOOR)
        assert (reply.status_code, told(reply.json)) == (200, NONE)

    assert creator.get(DOOR) == NONE
    assert shop.query("SELECT * FROM x402_user_claude_configs") == []
    refused(shop.client.post(shop.url, json=RAIN), 503, "TEMPLATE_UNAVAILABLE")


def test_a_key_claude_takes_is_stored(shop: Shop) -> None:
    said = ada(shop).put(f"{DOOR}?verify=true", {"apiKey": NEW})

    assert told(said) == ON
    assert [(call["path"], call["key"]) for call in shop.claude.calls] == [("/v1/models", NEW)]
    events(shop.buy())
    assert shop.claude.calls[-1]["key"] == NEW


@pytest.mark.parametrize("query", ["", "?verify=false"])
def test_a_key_is_not_tried_unless_that_is_asked_for(shop: Shop, query: str) -> None:
    ada(shop).put(f"{DOOR}{query}", {"apiKey": NEW})

    assert shop.claude.calls == []


@pytest.mark.parametrize(
    ("script", "status", "code", "field"),
    [
        ({"status": 401}, 400, "INVALID_REQUEST", "apiKey"),
        ({"status": 403}, 400, "INVALID_REQUEST", "apiKey"),
        ({"status": 429}, 429, "RATE_LIMIT", None),
        ({"status": 500}, 503, "OVERLOADED", None),
        ({"status": 529}, 503, "OVERLOADED", None),
        ({"cutAtByte": 1}, 502, "STREAM_INTERRUPTED", None),
    ],
)
def test_a_key_claude_does_not_take_or_is_not_asked_about_is_not_stored(
    shop: Shop, script: dict[str, object], status: int, code: str, field: str | None
) -> None:
    shop.claude.script(script)

    reply = ada(shop).ask("PUT", f"{DOOR}?verify=true", {"apiKey": NEW})

    said = faulty(reply, status, code, field)
    assert "Nothing was stored" in said["error"] and NEW not in reply.text
    shop.claude.script()
    events(shop.buy())
    assert shop.claude.calls[-1]["key"] == CREATOR_KEY


def test_a_claude_out_of_reach_knows_nothing_about_a_key(shop: Shop) -> None:
    shop.claude.stop()
    try:
        reply = bob(shop).ask("PUT", f"{DOOR}?verify=true", {"apiKey": NEW})
    finally:
        shop.claude.start()

    said = faulty(reply, 502, "NETWORK_ERROR")
    assert "Nothing was stored" in said["error"]
    assert bob(shop).get(DOOR) == NONE


@pytest.mark.parametrize(
    "query", ["verify=", "verify=1", "verify=True", "verify=yes", "check=true"]
)
def test_a_trial_is_asked_for_plainly(shop: Shop, query: str) -> None:
    reply = ada(shop).ask("PUT", f"{DOOR}?{query}", {"apiKey": NEW})

    faulty(reply, 400, "INVALID_REQUEST", query.partition("=")[0])
    assert shop.claude.calls == []


def test_a_trial_needs_a_key_to_try(shop: Shop) -> None:
    reply = ada(shop).ask("PUT", f"{DOOR}?verify=true", {"isEnabled": False})

    faulty(reply, 400, "INVALID_REQUEST", "verify")
    assert ada(shop).get(DOOR) == ON


def test_a_key_is_in_no_reply_and_in_no_line_of_the_log(
    shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    creator = ada(shop)
    asked = [
        creator.ask("PUT", DOOR, {"apiKey": NEW}),
        creator.ask("PUT", f"{DOOR}?verify=true", {"apiKey": NEW}),
        creator.ask("PUT", DOOR, {"apiKey": NEW, "unknown": 1}),
        creator.ask("PUT", DOOR, {"apiKey": f"{NEW} "}),
        creator.ask("PUT", DOOR, {"apiKey": [NEW]}),
        creator.ask("PUT", DOOR, {"apiKey": NEW, "isEnabled": NEW}),
        creator.ask("PUT", DOOR, data=f'{{"apiKey": "{NEW}"'),
        creator.ask("PUT", f"{DOOR}?verify=yes", {"apiKey": NEW}),
        creator.ask("GET", DOOR),
        creator.ask("GET", "/resources"),
        creator.ask("GET", f"/resources/{haiku_id(shop)}"),
        creator.ask("GET", "/auth/me"),
        creator.ask("GET", "/api/v1/resources"),
        creator.ask("DELETE", DOOR),
    ]

    (sealed,) = {
        row["api_key_encrypted"]
        for row in shop.query("SELECT api_key_encrypted FROM x402_user_claude_configs")
    } or {"nothing"}
    said = "".join(f"{reply.headers}{reply.text}" for reply in asked) + "".join(capfd.readouterr())
    assert "planted" not in said and sealed not in said and "v1." not in said
