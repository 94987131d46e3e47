"""A preview shows what Claude would be asked, and asks nobody."""

from typing import Any

import pytest

from tests.blueprints.conftest import WatchedFacilitator
from tests.blueprints.creators import ada, faulty, haiku_id
from tests.conftest import Shop, events
from x402jobs.domain.prompt_template import NEUTRAL_TURN

PARAMETERS = [
    {"name": "a", "maxLength": 40},
    {"name": "b", "required": False},
    {"name": "c", "default": "sea", "enum": ["sea", "sky"]},
]
PROMPT = "{a}{/a}|{b}{/b}|{c}{/c}|{a}{/a} {lone} {a}{/b}"
VALUES: list[dict[str, Any]] = [
    {"a": "x"},
    {"a": "x", "b": "y", "c": "sky", "user_message": "Sing it."},
    {"a": "{b}{/b}", "b": "\\1 \\g<0> $& $$"},
    {"a": "🌧\n\t\u2028", "b": "", "c": None},
    {"a": "x", "user_message": ""},
]


@pytest.fixture
def haiku(shop: Shop) -> str:
    ada(shop).patch(
        haiku_id(shop),
        systemPrompt=PROMPT,
        parameters=PARAMETERS,
        allowsUserMessage=True,
        model="claude-opus-5-5",
    )
    return f"/resources/{haiku_id(shop)}/preview"


@pytest.mark.parametrize("values", VALUES)
def test_a_preview_is_what_claude_is_really_sent(
    shop: Shop, haiku: str, values: dict[str, Any]
) -> None:
    said = ada(shop).ask("POST", haiku, values).json
    events(shop.buy(values))

    (call,) = shop.claude.calls
    assert said["systemPrompt"] == call["body"]["system"]
    assert [{"role": "user", "content": said["userMessage"]}] == call["body"]["messages"]
    assert said.keys() == {"systemPrompt", "userMessage", "estimatedTokens", "priceUsdc"}
    assert said["priceUsdc"] == "0.01"


def test_a_preview_is_charged_to_nobody_and_asks_nobody(
    shop: Shop, haiku: str, watched: WatchedFacilitator
) -> None:
    payment = shop.payment()

    reply = ada(shop).ask("POST", haiku, {"a": "x"}, headers=payment)

    assert reply.status_code == 200
    assert (shop.rows(), shop.claude.calls, watched.asked) == ([], [], [])
    assert shop.ledger.transfers() == []


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 11), ("x", 11), ("xx", 12), ("🌧", 12), ("🌧xx", 13)]
)
def test_the_estimate_is_four_bytes_to_a_token_rounded_up(
    shop: Shop, text: str, tokens: int
) -> None:
    creator = ada(shop)
    made = creator.make(systemPrompt="!" + text, parameters=[])

    said = creator.ask("POST", f"/resources/{made['id']}/preview", {}).json

    assert (len(NEUTRAL_TURN), said["userMessage"]) == (42, NEUTRAL_TURN)
    assert said["estimatedTokens"] == tokens


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ({}, "INVALID_REQUEST", "a"),
        ({"a": ""}, "INVALID_REQUEST", "a"),
        ({"a": None}, "INVALID_REQUEST", "a"),
        ({"a": 1}, "INVALID_REQUEST", "a"),
        ({"a": True}, "INVALID_REQUEST", "a"),
        ({"a": ["x"]}, "INVALID_REQUEST", "a"),
        ({"a": {"x": "y"}}, "INVALID_REQUEST", "a"),
        ({"a": "x" * 41}, "INVALID_REQUEST", "a"),
        ({"a": "x", "c": "land"}, "INVALID_REQUEST", "c"),
        ({"a": "x", "d": "y"}, "INVALID_REQUEST", "d"),
        ({"a": "x", "stream": "false"}, "INVALID_REQUEST", "stream"),
        ({"a": "x", "user_message": 1}, "INVALID_REQUEST", "user_message"),
        ({"a": "x", "b": "y" * 200_001}, "INVALID_REQUEST", "b"),
        ({"a": "x", "user_message": "y" * 200_001}, "CONTEXT_LENGTH_EXCEEDED", None),
        ({"a": "x"} | {f"k{number}": "" for number in range(64)}, "INVALID_REQUEST", "body"),
    ],
)
def test_what_a_call_would_be_refused_for_is_refused_here(
    shop: Shop, haiku: str, values: dict[str, Any], code: str, field: str | None
) -> None:
    faulty(ada(shop).ask("POST", haiku, values), 400, code, field)


def test_a_message_is_refused_where_the_template_takes_none(shop: Shop) -> None:
    values = {"topic": "rain", "user_message": "Sing it."}

    reply = ada(shop).ask("POST", f"/resources/{haiku_id(shop)}/preview", values)

    faulty(reply, 400, "INVALID_REQUEST", "user_message")


def test_a_template_that_is_paused_or_cannot_be_sold_yet_is_previewed(shop: Shop) -> None:
    creator = ada(shop)
    creator.patch(haiku_id(shop), isActive=False)
    creator.ask("DELETE", "/integrations/claude/config")
    creator.ask("DELETE", "/integrations/wallet/config")

    reply = creator.ask("POST", f"/resources/{haiku_id(shop)}/preview", {"topic": "rain"})

    assert reply.json["systemPrompt"].endswith("Topic: rain.")
