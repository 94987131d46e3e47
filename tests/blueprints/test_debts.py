"""A debt outlives its template: what was paid for is run, whatever stands at the address by now."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.blueprints.conftest import WatchedFacilitator, forge, headers_of, refused
from tests.blueprints.creators import ada, haiku_id
from tests.conftest import CREATOR_KEY, RAIN, Shop, events, text_of
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.stores import catalogue

BROKEN = {"text": "Rain taps the window.", "errorEvent": "overloaded_error", "afterDeltas": 1}
WORDS = {"text": "Rain taps the window, this time whole."}
MINE = "You write haiku. Planted prompt words. Topic: rain."
KEY_OF_ADA, KEY_OF_BOB = CREATOR_KEY, "sk-ant-planted-key-of-bob"

Headers = dict[str, str]


@pytest.fixture
def debt(shop: Shop, watched: WatchedFacilitator) -> Headers:
    """A payment whose answer broke off; nobody has been asked anything since."""
    shop.claude.script(BROKEN, WORDS)
    payment = shop.payment()
    said = events(shop.client.post(shop.url, json=RAIN, headers=payment))
    assert said[-1]["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    shop.claude.forget()
    watched.asked.clear()
    return payment


def replace_by_another(shop: Shop) -> None:
    """The creator deletes it and sells something else under the same slug."""
    ada(shop).ask("DELETE", f"/resources/{haiku_id(shop)}")
    shop.publish(system_prompt="You write limericks. {topic}{/topic}.", price=990_000)


def give_the_name_away(shop: Shop) -> None:
    """The same address is another creator's by now, with a key of their own."""
    bob = catalogue(shop.settings).add_user("bob")
    shop.services.integrations.save_claude_config(bob, Secret(KEY_OF_BOB))
    shop.query("UPDATE profiles SET username = 'lady' WHERE username = 'ada'")
    shop.query("UPDATE profiles SET username = 'ada' WHERE username = 'bob'")
    shop.services.resources.publish(
        bob, TemplateDraft(slug="haiku", name="Bob's", price=10_000, system_prompt="Bob's words.")
    )


def edit(**changes: Any) -> Callable[[Shop], None]:
    return lambda shop: ada(shop).patch(haiku_id(shop), **changes) and None


EDITED = "You write senryu. Topic: {topic}{/topic}."
SINCE: dict[str, tuple[Callable[[Shop], None], str]] = {
    "paused": (edit(isActive=False), MINE),
    "renamed": (edit(slug="senryu"), MINE),
    "repriced": (edit(priceUsdc="0.99"), MINE),
    "made free": (edit(priceUsdc="0"), MINE),
    "edited": (edit(systemPrompt=EDITED), "You write senryu. Topic: rain."),
    "deleted": (
        lambda shop: ada(shop).ask("DELETE", f"/resources/{haiku_id(shop)}") and None,
        MINE,
    ),
    "deleted, and its slug reused": (replace_by_another, MINE),
    "at an address that is somebody else's": (give_the_name_away, MINE),
}


@pytest.mark.parametrize("what", SINCE)
def test_a_debt_is_run_by_its_own_template_whatever_became_of_it(
    shop: Shop, debt: Headers, watched: WatchedFacilitator, what: str
) -> None:
    change, prompt = SINCE[what]
    (before,) = shop.rows()
    change(shop)

    reply = shop.client.post(shop.url, json=RAIN, headers=debt)
    said = events(reply)

    assert (text_of(said), said[-1]["type"]) == (WORDS["text"], "done")
    (call,) = shop.claude.calls
    assert (call["body"]["system"], call["key"]) == (prompt, KEY_OF_ADA)
    (row,) = shop.rows()
    assert (row["state"], row["reruns"], row["template_id"]) == (
        "completed",
        1,
        before["template_id"],
    )
    assert said[-1]["receipt"]["transaction"] == before["transaction"]
    assert (watched.asked, len(shop.ledger.transfers())) == ([], 1)


SHUT = {
    "no key": "DELETE FROM x402_user_claude_configs",
    "a key that is off": "UPDATE x402_user_claude_configs SET is_enabled = 0",
    "a key that does not open": "UPDATE x402_user_claude_configs SET api_key_encrypted = 'v1.k1.x'",
    "a prompt that does not open": "UPDATE x402_resources SET pt_system_prompt = 'v1.k1.x'",
    "parameters that cannot be read": "UPDATE x402_resources SET pt_parameters = 'x'",
    "a retired model": "UPDATE x402_resources SET pt_model = 'claude-2.1'",
}


@pytest.mark.parametrize("deleted", [False, True], ids=["on the shelf", "deleted"])
@pytest.mark.parametrize("what", SHUT)
def test_a_debt_that_cannot_be_run_now_is_still_owed_in_full(
    shop: Shop, debt: Headers, what: str, deleted: bool
) -> None:
    if deleted:
        ada(shop).ask("DELETE", f"/resources/{haiku_id(shop)}")
    before = shop.rows()
    shop.query(SHUT[what])

    for _ in range(4):
        reply = shop.client.post(shop.url, json=RAIN, headers=debt)
        owed(reply, 503, "TEMPLATE_UNAVAILABLE", before[0])
    assert (shop.rows(), shop.claude.calls) == (before, [])


def owed(reply: Any, status: int, code: str, row: dict[str, Any]) -> Any:
    """The body of an error that shows what was paid and what is owed."""
    body = refused(reply, status, code)
    assert body["error"] == "Execution failed"
    assert body["executionId"] == row["id"]
    assert body["receipt"]["transaction"] == row["transaction"]
    assert body["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    assert "PAYMENT-REQUIRED" not in reply.headers
    return body


def test_values_that_no_longer_fit_are_told_with_what_is_owed(shop: Shop, debt: Headers) -> None:
    edit(systemPrompt="{mood}{/mood}", parameters=[{"name": "mood"}])(shop)
    before = shop.rows()

    body = owed(
        shop.client.post(shop.url, json=RAIN, headers=debt), 400, "INVALID_REQUEST", before[0]
    )

    assert body["field"] in ("mood", "topic")
    assert body["field"] in body["message"]
    assert (shop.rows(), shop.claude.calls) == (before, [])


def test_a_server_that_is_about_to_end_leaves_the_debt_alone(shop: Shop, debt: Headers) -> None:
    before = shop.rows()
    shop.services.runs.refuse_new()

    owed(shop.client.post(shop.url, json=RAIN, headers=debt), 503, "UNAVAILABLE", before[0])

    assert shop.rows() == before


@pytest.mark.parametrize("what", ["paused", "made free", "deleted"])
def test_a_forger_who_knows_the_nonce_is_served_by_the_shelf_alone(shop: Shop, what: str) -> None:
    """Its own template comes along for who has paid; nobody else may so much as learn of it."""
    known = forge(shop.wallet)
    shop.claude.script(BROKEN)
    events(shop.client.post(shop.url, json=RAIN, headers=headers_of(known)))
    shop.claude.forget()
    if what == "made free":
        edit(priceUsdc="0", isActive=False)(shop)
    else:
        SINCE[what][0](shop)
    before = shop.rows()
    known["payload"]["signature"] = "0x" + "11" * 64 + "1b"

    for values in (RAIN, {"topic": "rain", "more": "x"}):
        refused(
            shop.client.post(shop.url, json=values, headers=headers_of(known)), 404, "NOT_FOUND"
        )
    assert (shop.rows(), shop.claude.calls) == (before, [])


def test_a_debt_buys_no_other_request_at_its_templates_new_address(
    shop: Shop, debt: Headers
) -> None:
    edit(slug="senryu")(shop)

    refused(shop.client.post("/@ada/senryu", json=RAIN, headers=debt), 409, "CONFLICT")

    assert shop.claude.calls == []
