"""What everybody may see of a template: exactly its public fields, and how often it has worked."""

from typing import Any

import pytest

from tests.blueprints.creators import SONNET, ada, bad_credentials, bob, haiku_id
from tests.conftest import CREATOR_KEY, RAIN, SYSTEM_PROMPT, Shop, events

HAIKU = {
    "username": "ada",
    "slug": "haiku",
    "url": "http://127.0.0.1:4020/@ada/haiku",
    "name": "Haiku",
    "description": "",
    "priceUsdc": "0.01",
    "network": "eip155:31337",
    "parameters": [{"name": "topic"}],
    "model": "claude-sonnet-5-5",
    "allowsUserMessage": False,
    "calls": 0,
    "successRate": None,
}
ONE = "/api/v1/resources/@ada/haiku"


def see(shop: Shop, path: str) -> Any:
    reply = shop.client.get(path)
    assert reply.status_code == 200, reply.text
    return reply.json


def test_a_template_shows_its_public_fields_and_no_other(shop: Shop) -> None:
    assert see(shop, ONE) == HAIKU
    assert see(shop, "/api/v1/resources") == {
        "resources": [HAIKU],
        "pagination": {"total": 1, "limit": 25, "offset": 0, "hasMore": False},
    }


@pytest.mark.parametrize("path", ["/api/v1/resources/@ADA/haiku", "/api/v1/resources/@Ada/haiku"])
def test_a_creator_is_found_in_any_letter_case(shop: Shop, path: str) -> None:
    assert see(shop, path) == HAIKU


def test_parameters_are_told_as_they_were_defined(shop: Shop) -> None:
    parameters = [
        {"name": "mood", "description": "How?", "required": False, "default": "a", "maxLength": 9},
        {"name": "key", "enum": ["major", "minor"]},
    ]
    ada(shop).make(systemPrompt="{mood}{/mood}{key}{/key}", parameters=parameters)

    assert see(shop, "/api/v1/resources/@ada/sonnet")["parameters"] == parameters


def test_the_shelf_has_everybodys_active_templates_newest_first(shop: Shop) -> None:
    ada(shop).make(name="Paused", isActive=False)
    bob(shop).make(name="Bob's")
    ada(shop).make(name="Newest")

    def names(query: str) -> list[str]:
        return [each["name"] for each in see(shop, f"/api/v1/resources{query}")["resources"]]

    assert names("") == ["Newest", "Bob's", "Haiku"]
    assert names("?limit=1&offset=1") == ["Bob's"]
    assert names("?offset=3") == []


def test_calls_and_successes_are_those_of_the_ledger(shop: Shop) -> None:
    bob(shop).make(name="Quiet")
    events(shop.buy())
    assert (see(shop, ONE)["calls"], see(shop, ONE)["successRate"]) == (1, 1.0)

    shop.claude.script({"errorEvent": "overloaded_error", "afterDeltas": 1})
    events(shop.buy())
    events(shop.buy())
    shop.claude.script(*[{"status": 400}] * 3)
    assert shop.buy().status_code == 502  # charged nobody: neither a call nor a failure
    shop.claude.script()
    events(ada(shop).ask("POST", shop.url, RAIN, headers={"X-OWNER-TEST": "true"}))

    assert (see(shop, ONE)["calls"], see(shop, ONE)["successRate"]) == (3, 0.6667)
    listed = {each["slug"]: each for each in see(shop, "/api/v1/resources")["resources"]}
    assert listed["haiku"] == see(shop, ONE)
    assert (listed["quiet"]["calls"], listed["quiet"]["successRate"]) == (0, None)


def test_no_word_of_the_creators_product_is_on_the_shelf(shop: Shop) -> None:
    creator = ada(shop)
    creator.make(name="Paused", systemPrompt="Planted too.", parameters=[], isActive=False)
    (sealed,) = shop.query("SELECT api_key_encrypted FROM x402_user_claude_configs")
    prompts = [row["pt_system_prompt"] for row in shop.query("SELECT * FROM x402_resources")]

    said = "".join(
        f"{reply.headers}{reply.text}"
        for reply in [
            shop.client.get(ONE),
            shop.client.get("/api/v1/resources"),
            shop.client.get("/api/v1/resources/@ada/paused"),
            shop.client.post(shop.url),
            bob(shop).ask("GET", f"/resources/{haiku_id(shop)}"),
        ]
    )

    for secret in ["lanted", SYSTEM_PROMPT, CREATOR_KEY, *sealed.values(), *prompts, shop.ada]:
        assert secret not in said


def test_a_bad_credential_is_refused_where_none_is_needed_too(shop: Shop) -> None:
    for path in (ONE, "/api/v1/resources"):
        for header in bad_credentials(shop).values():
            reply = shop.client.get(path, headers={"Authorization": header})
            assert (reply.status_code, reply.json["code"]) == (401, "UNAUTHENTICATED")
        assert bob(shop).get(path)


def test_what_is_said_of_a_price_is_what_is_asked(shop: Shop) -> None:
    for price in ("0.001", "0.10", "1.00", "1000", "0.123456"):
        ada(shop).patch(haiku_id(shop), priceUsdc=price)
        amount = int(shop.quote()["accepts"][0]["amount"])
        assert float(see(shop, ONE)["priceUsdc"]) == float(price) == amount / 1_000_000

    assert SONNET["priceUsdc"] == ada(shop).make()["priceUsdc"]
