"""A creator's templates over HTTP: written, changed, paused, taken away, and nobody else's."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.blueprints.conftest import quoted, refused
from tests.blueprints.creators import SONNET, ada, bob, faulty, haiku_id, newcomer
from tests.conftest import RAIN, SYSTEM_PROMPT, Shop, decoded, events
from x402jobs.devkit.wallet import sign
from x402jobs.domain.models import DEFAULT_MODEL

RICH: dict[str, Any] = {
    "name": "Rich Ünïcode 🌧",
    "slug": "rich",
    "description": "two\nlines",
    "priceUsdc": "0.123456",
    "network": "eip155:31337",
    "systemPrompt": "  {a}{/a}\r\n\t{b}{/b} {lone} \\1 🌧 {a}{/a}\n",
    "parameters": [
        {"name": "a", "description": "first", "required": True, "default": "x", "maxLength": 5},
        {"name": "b", "required": False, "enum": ["one", "two"]},
    ],
    "maxTokens": 77,
    "model": "claude-opus-5-5",
    "allowsUserMessage": True,
    "isActive": True,
}
DEFAULTS = {
    "slug": "sonnet",
    "url": "http://127.0.0.1:4020/@ada/sonnet",
    "description": "",
    "network": "eip155:31337",
    "maxTokens": 4096,
    "model": DEFAULT_MODEL,
    "allowsUserMessage": False,
    "isActive": True,
}
MADE_HERE = {"id", "createdAt", "updatedAt", "warnings"}
NOT_TODAYS_MODEL = "claude-sonnet-5-5 answers in its place"


def as_unix(text: str) -> float:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def version(shop: Shop, template_id: str) -> int:
    (row,) = shop.query("SELECT version FROM x402_resources WHERE id = ?", template_id)
    return int(row["version"])


def test_what_is_left_out_has_its_default(shop: Shop) -> None:
    before = time.time()

    reply = ada(shop).ask("POST", "/resources", SONNET)

    said = reply.json
    assert {name: said[name] for name in said.keys() - MADE_HERE} == SONNET | DEFAULTS
    assert reply.headers["Location"] == f"/resources/{said['id']}"
    assert said["createdAt"] == said["updatedAt"]
    assert before - 0.001 <= as_unix(said["createdAt"]) <= time.time()


def test_the_owner_reads_everything_back_exactly(shop: Shop) -> None:
    creator = ada(shop)

    made = creator.make(**RICH)

    assert {name: made[name] for name in RICH} == RICH
    assert made.keys() == RICH.keys() | MADE_HERE | {"url"}
    assert creator.get(f"/resources/{made['id']}") == made
    assert made in creator.get("/resources")["resources"]


def test_what_was_read_can_be_sent_back_and_changes_nothing(shop: Shop) -> None:
    creator = ada(shop)
    made = creator.make(**RICH)
    sent = {name: made[name] for name in RICH}

    changed = creator.patch(made["id"], **sent)

    assert changed | {"updatedAt": made["updatedAt"]} == made


CHANGES: dict[str, Any] = {
    "name": "Another name",
    "slug": "another",
    "description": "Another description",
    "priceUsdc": "0.00",
    "network": "eip155:31337",
    "systemPrompt": "Other words, the same tags: {b}{/b}{a}{/a}",
    "parameters": [{"name": "b"}, {"name": "a", "maxLength": 9}],
    "maxTokens": 1,
    "model": "claude-haiku-9",
    "allowsUserMessage": False,
    "isActive": False,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_of_one_field_leaves_the_others_alone(shop: Shop, field: str) -> None:
    creator = ada(shop)
    other = creator.get(f"/resources/{haiku_id(shop)}")
    made = creator.make(**RICH)
    assert version(shop, made["id"]) == 1

    changed = creator.patch(made["id"], **{field: CHANGES[field]})

    expected = made | {field: CHANGES[field]}
    if field == "slug":
        expected["url"] = made["url"].replace("/rich", "/another")
    mutable = {"updatedAt", "warnings"}
    assert {name: changed[name] for name in changed.keys() - mutable} == {
        name: expected[name] for name in expected.keys() - mutable
    }
    assert as_unix(changed["updatedAt"]) >= as_unix(made["updatedAt"])
    assert version(shop, made["id"]) == 2
    assert creator.get(f"/resources/{made['id']}") == changed
    assert creator.get(f"/resources/{haiku_id(shop)}") == other


def test_every_field_can_be_changed() -> None:
    assert CHANGES.keys() == RICH.keys()


def test_prompt_and_parameters_are_changed_together_or_not_at_all(shop: Shop) -> None:
    creator = ada(shop)
    made = creator.make()
    prompt = "Write of {place}{/place}."

    alone = creator.ask("PATCH", f"/resources/{made['id']}", {"systemPrompt": prompt})
    faulty(alone, 400, "INVALID_REQUEST", "parameters")
    both = creator.patch(made["id"], systemPrompt=prompt, parameters=[{"name": "place"}])

    assert (both["systemPrompt"], both["parameters"]) == (prompt, [{"name": "place"}])


def test_slugs_made_from_names_count_upwards(shop: Shop) -> None:
    creator = ada(shop)

    slugs = [creator.make(name=name)["slug"] for name in ("Haiku", "haiku!", "HAIKU", "Häiku")]

    assert slugs == ["haiku-2", "haiku-3", "haiku-4", "haiku-5"]
    assert bob(shop).make(name="Haiku")["slug"] == "haiku"


def test_a_slug_that_was_asked_for_is_given_or_refused(shop: Shop) -> None:
    creator = ada(shop)

    reply = creator.ask("POST", "/resources", SONNET | {"slug": "haiku"})
    faulty(reply, 409, "CONFLICT", "slug")

    made = creator.make(slug="mine")
    reply = creator.ask("PATCH", f"/resources/{made['id']}", {"slug": "haiku"})
    faulty(reply, 409, "CONFLICT", "slug")
    assert creator.get(f"/resources/{made['id']}") == made
    assert creator.get("/resources")["pagination"]["total"] == 2


def test_a_deleted_template_is_gone_and_its_slug_is_free(shop: Shop) -> None:
    creator, deleted = ada(shop), haiku_id(shop)

    reply = creator.ask("DELETE", f"/resources/{deleted}")

    assert (reply.status_code, reply.get_data()) == (204, b"")
    for verb in ("GET", "DELETE"):
        faulty(creator.ask(verb, f"/resources/{deleted}"), 404, "NOT_FOUND")
    assert creator.get(f"/resources/{deleted}/usage")["totals"]["calls"] == 0, "its sales stay"
    faulty(bob(shop).ask("GET", f"/resources/{deleted}/usage"), 404, "NOT_FOUND")
    faulty(creator.ask("PATCH", f"/resources/{deleted}", {"isActive": True}), 404, "NOT_FOUND")
    assert creator.get("/resources")["resources"] == []
    assert creator.get("/api/v1/resources")["resources"] == []
    refused(shop.client.post(shop.url, json=RAIN), 404, "NOT_FOUND")

    again = creator.make(slug="haiku")
    assert again["id"] != deleted
    assert shop.client.post(shop.url).status_code == 402


def test_a_paused_template_keeps_its_slug_and_sells_nothing_until_it_is_back(shop: Shop) -> None:
    creator, paused = ada(shop), haiku_id(shop)

    said = creator.patch(paused, isActive=False)

    assert "The template is paused: nobody can call it." in said["warnings"]
    refused(shop.client.post(shop.url, json=RAIN), 404, "NOT_FOUND")
    assert creator.ask("GET", "/api/v1/resources/@ada/haiku").status_code == 404
    assert creator.get("/api/v1/resources")["pagination"]["total"] == 0
    assert [each["isActive"] for each in creator.get("/resources")["resources"]] == [False]
    faulty(creator.ask("POST", "/resources", SONNET | {"slug": "haiku"}), 409, "CONFLICT", "slug")

    creator.patch(paused, isActive=True)
    assert events(shop.buy())[-1]["type"] == "done"


def test_a_change_of_price_makes_an_old_quotes_payment_worth_a_fresh_quote(shop: Shop) -> None:
    old = shop.quote()
    ada(shop).patch(haiku_id(shop), priceUsdc="0.02")

    reply = shop.client.post(
        shop.url, json=RAIN, headers={"PAYMENT-SIGNATURE": sign(shop.wallet, old)}
    )

    refused(reply, 402, "PAYMENT_REQUIRED")
    fresh = decoded(reply.headers["PAYMENT-REQUIRED"])
    assert (old["accepts"][0]["amount"], fresh["accepts"][0]["amount"]) == ("10000", "20000")
    assert (shop.rows(), shop.claude.calls, shop.ledger.transfers()) == ([], [], [])
    paid = {"PAYMENT-SIGNATURE": sign(shop.wallet, fresh)}
    assert events(shop.client.post(shop.url, json=RAIN, headers=paid))[-1]["type"] == "done"


def test_a_change_of_anything_else_leaves_an_old_quote_good(shop: Shop) -> None:
    payment = shop.payment()
    ada(shop).patch(
        haiku_id(shop), systemPrompt="Sing of {topic}{/topic}.", maxTokens=9, name="Song"
    )

    said = events(shop.client.post(shop.url, json=RAIN, headers=payment))

    assert said[-1]["type"] == "done"
    (call,) = shop.claude.calls
    assert (call["body"]["system"], call["body"]["max_tokens"]) == ("Sing of rain.", 9)
    assert shop.rows()[0]["template_version"] == version(shop, haiku_id(shop)) == 2


def test_a_template_made_over_http_is_sold_at_its_price(shop: Shop) -> None:
    made = ada(shop).make()
    shop.url = "/@ada/sonnet"

    said = events(shop.buy({"mood": "glad"}))

    assert said[-1]["receipt"]["paidUsdc"] == made["priceUsdc"] == "0.05"
    assert shop.claude.calls[0]["body"]["system"] == "You write sonnets. Mood: glad."


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, [NOT_TODAYS_MODEL]),
        ({"model": "claude-opus-5-5"}, []),
        ({"model": "claude-opus-5-5", "priceUsdc": "1"}, []),
        ({"model": "claude-opus-5-5", "priceUsdc": "1.000001"}, ["more than 1.00 USDC"]),
        ({"model": "claude-opus-5-5", "isActive": False}, ["paused"]),
        ({"model": "claude-nobody-has-heard-of"}, []),
    ],
)
def test_the_warnings_are_what_the_creator_should_know(
    shop: Shop, changes: dict[str, Any], warnings: list[str]
) -> None:
    said = ada(shop).make(**changes)["warnings"]

    assert len(said) == len(warnings)
    assert all(part in sentence for part, sentence in zip(warnings, said, strict=True))


def test_whoever_cannot_be_called_yet_is_told_what_is_missing(shop: Shop) -> None:
    creator = bob(shop)
    made = creator.make(model="claude-opus-5-5")
    claude, wallet = "PUT /integrations/claude/config", "PUT /integrations/wallet/config"

    def warned() -> list[str]:
        return [
            re.sub(r".*: (PUT .*), or x402jobs .*\.", r"\1", each)
            for each in creator.get(f"/resources/{made['id']}")["warnings"]
        ]

    assert warned() == [claude, wallet]
    creator.put("/integrations/claude/config", {"apiKey": "sk-bobs", "isEnabled": False})
    assert warned() == [claude, wallet]
    creator.put("/integrations/claude/config", {"isEnabled": True})
    assert warned() == [wallet]
    creator.patch(made["id"], priceUsdc="0")
    assert warned() == []


def test_a_retired_model_is_refused_when_it_is_chosen_and_warned_of_when_it_was(
    shop: Shop,
) -> None:
    creator, retired = ada(shop), "claude-2.1"

    made = creator.ask("POST", "/resources", SONNET | {"model": retired})
    faulty(made, 400, "INVALID_REQUEST", "model")
    changed = creator.ask("PATCH", f"/resources/{haiku_id(shop)}", {"model": retired})
    faulty(changed, 400, "INVALID_REQUEST", "model")

    shop.query("UPDATE x402_resources SET pt_model = ?", retired)
    assert "claude-2.1 was retired" in creator.get(f"/resources/{haiku_id(shop)}")["warnings"][0]
    assert creator.patch(haiku_id(shop), name="Still mine")["model"] == retired


def test_a_model_about_to_retire_is_taken_with_a_warning(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
    monkeypatch.setattr(shop.services.clock, "now", lambda: soon)

    made = ada(shop).make(model="claude-sonnet-4-5")

    assert made["model"] == "claude-sonnet-4-5"
    assert "claude-sonnet-4-5 will be retired on 30 November 2026" in made["warnings"][0]


def test_a_network_that_is_offered_no_longer_may_stay(shop: Shop) -> None:
    creator = ada(shop)
    shop.query("UPDATE x402_resources SET network = 'base'")
    shown = creator.get(f"/resources/{haiku_id(shop)}")

    kept = creator.patch(haiku_id(shop), network=shown["network"], name="Other")

    assert (shown["network"], kept["network"]) == ("eip155:8453", "eip155:8453")
    public = creator.get("/api/v1/resources/@ada/haiku")
    assert public["network"] == "eip155:31337", "what callers are asked to pay on"
    made = creator.ask("POST", "/resources", SONNET | {"network": "base"})
    said = faulty(made, 400, "INVALID_REQUEST", "network")
    assert said["error"] == "network must be one of: eip155:31337."


def test_a_username_comes_before_the_first_template(shop: Shop) -> None:
    creator = newcomer(shop)

    reply = creator.ask("POST", "/resources", SONNET)

    said = faulty(reply, 400, "INVALID_REQUEST", "username")
    assert "PUT /user/profile" in said["error"]
    assert creator.get("/resources")["resources"] == []
    creator.put("/user/profile", {"username": "cleo"})
    assert creator.make()["url"] == "http://127.0.0.1:4020/@cleo/sonnet"


def spoiled(shop: Shop, column: str, value: str) -> str:
    """Ada's haiku, with something in its row that nobody can read."""
    shop.query(f"UPDATE x402_resources SET {column} = ?", value)
    return haiku_id(shop)


def test_a_prompt_that_can_no_longer_be_read_is_asked_for_again(shop: Shop) -> None:
    creator, spoilt = ada(shop), spoiled(shop, "pt_system_prompt", "v1.gone.AAAA")

    said = creator.get(f"/resources/{spoilt}")
    assert said["systemPrompt"] == ""
    assert "The stored prompt can no longer be read. Send it again." in said["warnings"][0]
    reply = creator.ask("PATCH", f"/resources/{spoilt}", {"name": "Other"})
    faulty(reply, 400, "INVALID_REQUEST", "systemPrompt")
    refused(shop.client.post(shop.url, json=RAIN), 503, "TEMPLATE_UNAVAILABLE")
    reply = creator.ask("POST", f"/resources/{spoilt}/preview", RAIN)
    faulty(reply, 503, "TEMPLATE_UNAVAILABLE")

    creator.patch(spoilt, systemPrompt=SYSTEM_PROMPT)
    assert events(shop.buy())[-1]["type"] == "done"


@pytest.mark.parametrize(
    "stored",
    [
        "null",
        "{}",
        "[]",
        '"topic"',
        '["topic"]',
        "[{}]",
        '[{"name": 5}]',
        '[{"name": "topic", "maxLength": "5"}]',
        '[{"name": "topic"}, {"name": "topic"}]',
        '[{"name": "other"}]',
        "not JSON",
    ],
)
def test_parameters_nobody_can_read_break_one_template_and_no_list(shop: Shop, stored: str) -> None:
    creator, spoilt = ada(shop), spoiled(shop, "pt_parameters", stored)

    shown = creator.get(f"/resources/{spoilt}")
    assert shown["warnings"][0].startswith("Nobody can call the template.")
    assert creator.get("/resources")["resources"] == [shown]
    assert len(creator.get("/api/v1/resources")["resources"]) == 1
    assert creator.ask("GET", "/api/v1/resources/@ada/haiku").status_code == 200
    refused(shop.client.post(shop.url, json=RAIN), 503, "TEMPLATE_UNAVAILABLE")
    reply = creator.ask("PATCH", f"/resources/{spoilt}", {"name": "Other"})
    assert (reply.status_code, reply.json["field"].split(".")[0]) == (400, "parameters")

    creator.patch(spoilt, parameters=[{"name": "topic"}])
    quoted(shop.client.post(shop.url, json=RAIN))


def test_one_creator_neither_sees_nor_changes_anything_of_anothers(shop: Shop) -> None:
    mine, theirs = bob(shop), ada(shop)
    hidden = haiku_id(shop)
    before = theirs.get(f"/resources/{hidden}")

    for verb, more, body in [
        ("GET", "", None),
        ("PATCH", "", {"priceUsdc": "0", "systemPrompt": "bob's", "parameters": []}),
        ("DELETE", "", None),
        ("POST", "/preview", RAIN),
        ("GET", "/usage", None),
    ]:
        reply = mine.ask(verb, f"/resources/{hidden}{more}", body)
        faulty(reply, 404, "NOT_FOUND")
        assert "Planted" not in reply.text

    assert mine.get("/resources")["resources"] == []
    assert mine.get("/integrations/claude/config") == {"hasApiKey": False, "isEnabled": False}
    assert mine.get("/integrations/wallet/config") == {"baseAddress": None}
    mine.put("/integrations/claude/config", {"apiKey": "sk-bobs"})
    mine.ask("DELETE", "/integrations/wallet/config")
    assert theirs.get(f"/resources/{hidden}") == before
    assert events(shop.buy())[-1]["type"] == "done"
    assert shop.claude.calls[0]["key"] != "sk-bobs"


def test_whoever_comes_second_reads_again_before_they_write(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    creator, resources = ada(shop), shop.services.resources
    read = resources.get

    def read_and_be_overtaken(owner_id: str, template_id: str) -> Any:
        found = read(owner_id, template_id)
        monkeypatch.setattr(resources, "get", read)
        creator.patch(template_id, name="First")
        return found

    monkeypatch.setattr(resources, "get", read_and_be_overtaken)
    reply = creator.ask("PATCH", f"/resources/{haiku_id(shop)}", {"description": "second"})

    faulty(reply, 409, "CONFLICT")
    said = creator.get(f"/resources/{haiku_id(shop)}")
    assert (said["name"], said["description"]) == ("First", "")
