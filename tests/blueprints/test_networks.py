"""Several networks: which are quoted, in which order, and which one a caller may ask for."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import (
    SEPOLIA,
    WatchedFacilitator,
    as_v1,
    forge,
    headers_of,
    on_sepolia,
    refused,
    v1_headers_of,
)
from tests.conftest import RAIN, Shop, decoded, events
from x402jobs.adapters.facilitator import X402Facilitator
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.domain.networks import DEVELOPMENT, Network, Networks

BOTH = [DEVELOPMENT.id, SEPOLIA.id]


@pytest.fixture
def networks() -> Networks:
    return Networks((DEVELOPMENT, SEPOLIA))


def asked_on(reply: TestResponse) -> list[str]:
    """The networks of a quote, in its order; its two documents agree."""
    body = refused(reply, 402, "PAYMENT_REQUIRED")
    asked = [each["network"] for each in decoded(reply.headers["PAYMENT-REQUIRED"])["accepts"]]
    assert body["price"]["network"] == asked[0]
    names = [each["network"] for each in body["accepts"]]
    assert names == (["base-sepolia"] if SEPOLIA.id in asked else [])
    return asked


def prefer(shop: Shop, network: str) -> None:
    shop.query("UPDATE x402_resources SET network = ?", network)


def go_away(monkeypatch: pytest.MonkeyPatch, *gone: Network) -> None:
    """The facilitator does not serve these networks now."""
    monkeypatch.setattr(X402Facilitator, "offers", lambda self, network: network not in gone)


# The quote


@pytest.mark.parametrize(
    "preferred, order",
    [
        (DEVELOPMENT.id, BOTH),
        (SEPOLIA.id, BOTH[::-1]),
        ("base-sepolia", BOTH[::-1]),
        ("base", BOTH),
        ("", BOTH),
    ],
)
def test_the_templates_own_network_comes_first(
    shop: Shop, preferred: str, order: list[str]
) -> None:
    prefer(shop, preferred)

    assert asked_on(shop.client.post(shop.url)) == order


@pytest.mark.parametrize("gone, left", [(DEVELOPMENT, SEPOLIA), (SEPOLIA, DEVELOPMENT)])
def test_a_network_that_the_facilitator_does_not_serve_is_not_quoted(
    shop: Shop,
    watched: WatchedFacilitator,
    monkeypatch: pytest.MonkeyPatch,
    gone: Network,
    left: Network,
) -> None:
    go_away(monkeypatch, gone)

    assert asked_on(shop.client.post(shop.url)) == [left.id]
    payment = forge(shop.wallet) if gone is DEVELOPMENT else on_sepolia(shop.wallet)
    signed = shop.client.post(shop.url, json=RAIN, headers=headers_of(payment))
    said = refused(signed, 503, "FACILITATOR_UNAVAILABLE")
    assert "do not sign another" in said["error"]
    assert (watched.asked, shop.rows()) == ([], [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_nobody_is_asked_to_pay_where_nobody_could_be_paid(
    shop: Shop, watched: WatchedFacilitator, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    go_away(monkeypatch, DEVELOPMENT, SEPOLIA)

    reply = shop.client.open(shop.url, method=method)

    assert reply.status_code == 503 and "PAYMENT-REQUIRED" not in reply.headers
    if method == "POST":
        refused(reply, 503, "FACILITATOR_UNAVAILABLE")
        for payment in (forge(shop.wallet), on_sepolia(shop.wallet)):
            sent = shop.client.post(shop.url, json=RAIN, headers=headers_of(payment))
            refused(sent, 503, "FACILITATOR_UNAVAILABLE")
    assert (watched.asked, shop.rows(), shop.claude.calls) == ([], [], [])


def test_what_is_free_does_not_need_a_facilitator(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_away(monkeypatch, DEVELOPMENT, SEPOLIA)
    owner = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}

    assert events(shop.client.post(shop.url, json=RAIN, headers=owner))[-1]["type"] == "done"
    shop.publish(price=0)
    assert events(shop.client.post(shop.url, json=RAIN))[-1]["type"] == "done"


def test_what_was_bought_does_not_need_the_facilitator(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = headers_of(on_sepolia(shop.wallet))
    shop.claude.script({"text": "Rain taps.", "errorEvent": "overloaded_error", "afterDeltas": 1})
    owed = events(shop.client.post(shop.url, json=RAIN, headers=payment))
    go_away(monkeypatch, DEVELOPMENT, SEPOLIA)
    shop.claude.script()

    rerun = events(shop.client.post(shop.url, json=RAIN, headers=payment))
    replay = events(shop.client.post(shop.url, json=RAIN, headers=payment))

    assert "credit" in owed[-1] and rerun[-1]["type"] == "done"
    assert replay[-1] == rerun[-1]


# Paying


def test_the_money_moves_on_the_network_it_was_signed_for(
    shop: Shop, sepolia: DevelopmentLedger
) -> None:
    here = shop.client.post(shop.url, json=RAIN, headers=headers_of(forge(shop.wallet)))
    there = shop.client.post(shop.url, json=RAIN, headers=headers_of(on_sepolia(shop.wallet)))

    for reply, network, ledger in (
        (here, DEVELOPMENT, shop.ledger),
        (there, SEPOLIA, sepolia),
    ):
        (transfer,) = ledger.transfers()
        receipt = events(reply)[-1]["receipt"]
        assert (receipt["network"], receipt["transaction"]) == (network.id, transfer.transaction)
        assert decoded(reply.headers["PAYMENT-RESPONSE"])["network"] == network.id
    assert [row["network"] for row in shop.rows()] == BOTH


def test_one_nonce_on_two_networks_is_two_payments(shop: Shop, sepolia: DevelopmentLedger) -> None:
    nonce = "0x" + "77" * 32
    for payment in (forge(shop.wallet, nonce=nonce), on_sepolia(shop.wallet, nonce=nonce)):
        reply = shop.client.post(shop.url, json=RAIN, headers=headers_of(payment))
        assert events(reply)[-1]["type"] == "done"

    assert len(shop.rows()) == len(shop.ledger.transfers()) + len(sepolia.transfers()) == 2


CROSSED: dict[str, tuple[dict[str, Any], str]] = {
    "the other network's token": ({"asset": DEVELOPMENT.token}, "accepted requirements"),
    "the other network's name": ({"network": DEVELOPMENT.id}, "accepted requirements"),
    "a short name in version 2": ({"network": "base-sepolia"}, "accepted requirements"),
    "all of the other network's": (
        {"network": DEVELOPMENT.id, "asset": DEVELOPMENT.token},
        "not the payer's",
    ),
}


@pytest.mark.parametrize("what", CROSSED)
def test_two_networks_are_not_mixed_in_one_payment(
    shop: Shop, watched: WatchedFacilitator, what: str
) -> None:
    changes, why = CROSSED[what]
    payment = on_sepolia(shop.wallet)
    payment["accepted"].update(changes)

    reply = shop.client.post(shop.url, json=RAIN, headers=headers_of(payment))

    assert why in refused(reply, 402, "PAYMENT_REQUIRED")["error"]
    assert (watched.asked, shop.rows(), shop.claude.calls) == ([], [], [])


# ?network=


@pytest.mark.parametrize(
    "name, network",
    [(DEVELOPMENT.id, DEVELOPMENT), (SEPOLIA.id, SEPOLIA), ("base-sepolia", SEPOLIA)],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_network_can_be_asked_for_by_either_name(
    shop: Shop, method: str, name: str, network: Network
) -> None:
    query: dict[str, str] = {"network": name}
    body = RAIN if method == "POST" else None

    reply = shop.client.open(
        shop.url, method=method, query_string=query if body else query | RAIN, json=body
    )

    assert reply.status_code == 402
    (asked,) = decoded(reply.headers["PAYMENT-REQUIRED"])["accepts"]
    assert (asked["network"], asked["asset"]) == (network.id, network.token)
    if method == "POST":
        assert asked_on(reply) == [network.id]


UNKNOWN = [
    "",
    "moon",
    "base",
    "eip155:8453",
    "EIP155:31337",
    "Base-Sepolia",
    "base-sepolia ",
    "%00",
]


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("price", [0, 10_000], ids=["free", "priced"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_network_that_is_not_offered_is_an_error_that_names_those_that_are(
    shop: Shop, watched: WatchedFacilitator, method: str, name: str, price: int
) -> None:
    shop.publish(price=price)
    for query in (f"network={name}", f"network={name}&topic=rain"):
        if method == "POST":
            query = f"network={name}"
        reply = shop.client.open(f"{shop.url}?{query}", method=method, json=RAIN)

        assert reply.status_code == 400
        if method != "HEAD":
            body = refused(reply, 400, "INVALID_REQUEST")
            assert body["field"] == "network"
            assert "%" in name or body["error"] == (
                f"network must be one of: {DEVELOPMENT.id}, base-sepolia."
            )
    assert (watched.asked, shop.rows(), shop.claude.calls) == ([], [], [])


def test_an_unknown_network_is_an_error_for_somebody_who_pays_or_tests_too(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    owner = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}
    for headers in (shop.payment(), v1_headers_of(as_v1(on_sepolia(shop.wallet))), owner):
        reply = shop.client.post(f"{shop.url}?network=moon", json=RAIN, headers=headers)

        assert refused(reply, 400, "INVALID_REQUEST")["field"] == "network"
    assert (watched.asked, shop.rows(), shop.claude.calls) == ([], [], [])


@pytest.mark.parametrize("asked, other", [(DEVELOPMENT, SEPOLIA), (SEPOLIA, DEVELOPMENT)])
def test_a_payment_on_another_network_than_the_one_asked_for_does_not_do(
    shop: Shop, watched: WatchedFacilitator, asked: Network, other: Network
) -> None:
    url = f"{shop.url}?network={asked.id}"
    good = {DEVELOPMENT.id: forge(shop.wallet), SEPOLIA.id: on_sepolia(shop.wallet)}

    reply = shop.client.post(url, json=RAIN, headers=headers_of(good[other.id]))

    assert asked_on(reply) == [asked.id]
    assert (watched.asked, shop.rows()) == ([], [])
    bought = shop.client.post(url, json=RAIN, headers=headers_of(good[asked.id]))
    assert events(bought)[-1]["receipt"]["network"] == asked.id


def test_a_network_that_is_asked_for_and_not_served_is_not_replaced_by_another(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_away(monkeypatch, SEPOLIA)

    reply = shop.client.post(f"{shop.url}?network=base-sepolia", json=RAIN)

    refused(reply, 503, "FACILITATOR_UNAVAILABLE")


def test_the_network_asked_for_is_no_part_of_what_was_bought(
    shop: Shop, sepolia: DevelopmentLedger
) -> None:
    """Controls are left out of the digest: the same payment comes back by any of these."""
    payment = headers_of(on_sepolia(shop.wallet))
    said = [
        events(shop.client.post(shop.url + query, json=RAIN, headers=payment))[-1]
        for query in ("?network=base-sepolia", "", f"?network={DEVELOPMENT.id}")
    ]

    assert said[0]["type"] == "done" and said == [said[0]] * 3
    assert (len(shop.claude.calls), len(sepolia.transfers())) == (1, 1)


def test_a_network_in_the_query_makes_it_no_probe(shop: Shop) -> None:
    for reply in (
        shop.client.get(f"{shop.url}?network=base-sepolia"),
        shop.client.post(f"{shop.url}?network=base-sepolia", json={}),
    ):
        assert refused(reply, 400, "INVALID_REQUEST")["field"] == "topic"
