"""Where a creator is paid, over HTTP."""

import pytest

from tests.blueprints.conftest import refused
from tests.blueprints.creators import ada, bob, faulty, newcomer
from tests.conftest import RAIN, Shop, events
from x402jobs.domain.networks import NETWORKS

DOOR = "/integrations/wallet/config"
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def test_nobody_has_an_address_before_they_give_one(shop: Shop) -> None:
    assert bob(shop).get(DOOR) == {"baseAddress": None}
    assert newcomer(shop).get(DOOR) == {"baseAddress": None}


@pytest.mark.parametrize("spelling", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_an_address_comes_back_with_its_checksum(shop: Shop, spelling: str) -> None:
    creator = newcomer(shop)

    assert creator.put(DOOR, {"baseAddress": spelling}) == {"baseAddress": ADDRESS}
    assert creator.get(DOOR) == {"baseAddress": ADDRESS}


def test_a_new_address_is_asked_for_and_paid_from_the_next_quote_on(shop: Shop) -> None:
    old = shop.payment()
    ada(shop).put(DOOR, {"baseAddress": ADDRESS})

    refused(shop.client.post(shop.url, json=RAIN, headers=old), 402, "PAYMENT_REQUIRED")
    said = events(shop.buy())

    transfer = shop.ledger.transfer(said[-1]["receipt"]["transaction"])
    assert transfer is not None and transfer.payee.lower() == ADDRESS.lower()


def test_without_an_address_nobody_is_asked_to_pay(shop: Shop) -> None:
    for _ in range(2):
        reply = ada(shop).ask("DELETE", DOOR)
        assert (reply.status_code, reply.json) == (200, {"baseAddress": None})

    refused(shop.client.post(shop.url, json=RAIN), 503, "TEMPLATE_UNAVAILABLE")
    assert shop.rows() == []


@pytest.mark.parametrize(
    "address",
    [
        ADDRESS.replace("aA", "Aa"),
        ADDRESS.swapcase(),
        "0X" + ADDRESS[2:].lower(),
        "0x" + "0" * 40,
        *(network.token for network in NETWORKS.values()),
        f"{ADDRESS} ",
        f"{ADDRESS}\n",
        "0x" + "١" * 40,
    ],
)
def test_money_is_not_sent_where_it_would_be_lost(shop: Shop, address: str) -> None:
    creator = ada(shop)
    before = creator.get(DOOR)

    reply = creator.ask("PUT", DOOR, {"baseAddress": address})

    faulty(reply, 400, "INVALID_REQUEST", "baseAddress")
    assert creator.get(DOOR) == before
