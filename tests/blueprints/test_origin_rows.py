"""A shop that has moved over from the origin service, and rows that somebody has meddled with."""

from dataclasses import replace

import pytest

from tests import origin
from tests.blueprints.conftest import WatchedFacilitator, refused
from tests.conftest import CREATOR_KEY, PAY_TO, RAIN, Shop, events, text_of
from tests.origin import VECTOR, VECTOR_KEY
from x402jobs.domain.secret import Secret
from x402jobs.services.integrations import claude_key_place
from x402jobs.settings import Settings
from x402jobs.stores import catalogue, rotation, secret_box

PROMPT = "You are the origin's poet. Topic: {topic}{/topic}."
SECRETS = (origin.SECRET, VECTOR, VECTOR_KEY, PROMPT, CREATOR_KEY)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, integration_secret=origin.SECRET)


def put_key(shop: Shop, sealed: str, user_id: str | None = None) -> None:
    shop.query(
        "UPDATE x402_user_claude_configs SET api_key_encrypted = ? WHERE user_id = ?",
        sealed,
        user_id or shop.ada,
    )


def put_prompt(shop: Shop, sealed: str) -> None:
    shop.query("UPDATE x402_resources SET pt_system_prompt = ?", sealed)


def key_of(shop: Shop) -> str:
    (row,) = shop.query(
        "SELECT api_key_encrypted FROM x402_user_claude_configs WHERE user_id = ?", shop.ada
    )
    return str(row["api_key_encrypted"])


def is_shut(shop: Shop, watched: WatchedFacilitator, payment: dict[str, str]) -> None:
    """503 for whoever asks for the price and for whoever pays; nothing is tried, nothing told."""
    for headers in ({}, payment):
        reply = shop.client.post(shop.url, json=RAIN, headers=headers)
        refused(reply, 503, "TEMPLATE_UNAVAILABLE")
        assert not any(each in f"{reply.headers}{reply.text}" for each in SECRETS)
    assert "PAYMENT-REQUIRED" not in reply.headers
    assert (watched.asked, shop.claude.calls, shop.rows()) == ([], [], [])


def test_a_key_the_origin_has_sealed_pays_for_a_call(shop: Shop) -> None:
    put_key(shop, VECTOR)

    said = events(shop.buy())

    assert said[-1]["type"] == "done"
    assert [call["key"] for call in shop.claude.calls] == [VECTOR_KEY]
    assert shop.ledger.balance(PAY_TO) > shop.ledger.balance(shop.wallet.address)


def test_a_prompt_the_origin_kept_is_served_and_not_told(shop: Shop) -> None:
    put_prompt(shop, PROMPT)
    shop.claude.script({"text": "Rain taps the window."})

    reply = shop.buy()

    assert events(reply)[-1]["type"] == "done"
    assert shop.claude.calls[0]["body"]["system"] == "You are the origin's poet. Topic: rain."
    assert "poet" not in f"{reply.headers}{reply.text}"


def test_a_shop_of_the_origins_sells_the_same_once_everything_is_sealed_anew(shop: Shop) -> None:
    put_key(shop, VECTOR)
    put_prompt(shop, PROMPT)
    bought = shop.payment()
    before = shop.client.post(shop.url, json=RAIN, headers=bought)
    assert (events(before)[-1]["type"], shop.rows()[0]["state"]) == ("done", "completed")

    resealed, standing = rotation(shop.settings).rotate()

    assert (resealed, standing.old, list(standing.unreadable)) == (2, 0, [])
    stored = shop.query("SELECT pt_system_prompt AS prompt FROM x402_resources")
    assert all(row["prompt"].startswith("v1.k1.") for row in stored)
    assert key_of(shop).startswith("v1.k1.")
    assert text_of(events(shop.client.post(shop.url, json=RAIN, headers=bought))) == text_of(
        events(before)
    )
    assert events(shop.buy())[-1]["type"] == "done"
    one, other = shop.claude.calls
    assert (one["key"], one["body"]["system"]) == (other["key"], other["body"]["system"])


def test_saving_a_key_of_the_origins_again_seals_it_our_way(shop: Shop) -> None:
    put_key(shop, VECTOR)

    shop.services.integrations.save_claude_config(shop.ada, Secret(VECTOR_KEY))

    assert key_of(shop).startswith("v1.k1.")
    assert events(shop.buy())[-1]["type"] == "done"


@pytest.mark.parametrize("secret", ["", "another-secret", origin.SECRET + "\n"])
def test_under_a_wrong_secret_or_none_the_shop_is_shut(
    shop: Shop, watched: WatchedFacilitator, secret: str
) -> None:
    payment = shop.payment()
    put_key(shop, VECTOR)
    shop.services.integrations._box = secret_box(  # as a server started with this secret has it
        replace(shop.settings, integration_secret=secret)
    )

    is_shut(shop, watched, payment)


def changed(sealed: str, place: int) -> str:
    """With another character at this place, one that is lawful there."""
    return sealed[:place] + ("1" if sealed[place] == "0" else "0") + sealed[place + 1 :]


@pytest.mark.parametrize("hundredth", range(0, 100, 5))
def test_a_key_that_was_tampered_with_shuts_the_shop(
    shop: Shop, watched: WatchedFacilitator, hundredth: int
) -> None:
    payment, sealed = shop.payment(), key_of(shop)
    put_key(shop, changed(sealed, len(sealed) * hundredth // 100))

    is_shut(shop, watched, payment)


@pytest.mark.parametrize("place", [*range(0, 14, 3), 32, *range(33, 97, 7), 96])
def test_a_key_of_the_origins_that_was_tampered_with_shuts_the_shop(
    shop: Shop, watched: WatchedFacilitator, place: int
) -> None:
    payment = shop.payment()
    put_key(shop, changed(VECTOR, place))

    is_shut(shop, watched, payment)


def test_what_the_origins_format_cannot_notice_is_a_key_that_claude_refuses_and_nobody_pays_for(
    shop: Shop,
) -> None:
    payment = shop.payment()
    put_key(shop, changed(VECTOR, 2 * 9))
    shop.claude.script({"status": 401})

    refused(shop.client.post(shop.url, json=RAIN, headers=payment), 502, "INVALID_API_KEY")

    assert [call["key"] for call in shop.claude.calls] != [VECTOR_KEY]
    assert [row["state"] for row in shop.rows()] == ["released"]


@pytest.mark.parametrize("hundredth", range(10, 100, 10))
def test_a_prompt_that_was_tampered_with_shuts_the_shop(
    shop: Shop, watched: WatchedFacilitator, hundredth: int
) -> None:
    payment = shop.payment()
    (row,) = shop.query("SELECT pt_system_prompt AS prompt FROM x402_resources")
    put_prompt(shop, changed(row["prompt"], len(row["prompt"]) * hundredth // 100))

    is_shut(shop, watched, payment)


def test_a_key_pasted_into_another_creators_row_shuts_the_thiefs_shop(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    victim = catalogue(shop.settings).add_user("victim")
    payment = shop.payment()
    box = secret_box(shop.settings)

    put_key(shop, box.seal(CREATOR_KEY, claude_key_place(victim)))

    is_shut(shop, watched, payment)


def test_a_key_of_the_origins_is_bound_to_nobody_until_it_is_sealed_anew(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    """Why the origin's rows are to be rotated at once: pasted, they work."""
    victim = catalogue(shop.settings).add_user("victim")
    shop.services.integrations.save_claude_config(victim, Secret("sk-ant-to-be-replaced"))
    put_key(shop, VECTOR, victim)
    put_key(shop, VECTOR)
    assert events(shop.buy())[-1]["type"] == "done"
    assert shop.claude.calls[0]["key"] == VECTOR_KEY

    rotation(shop.settings).rotate()
    (row,) = shop.query(
        "SELECT api_key_encrypted AS sealed FROM x402_user_claude_configs WHERE user_id = ?", victim
    )
    put_key(shop, row["sealed"])

    refused(shop.client.post(shop.url, json=RAIN), 503, "TEMPLATE_UNAVAILABLE")
