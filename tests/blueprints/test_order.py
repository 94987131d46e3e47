"""Of several things that are wrong, the first in the order of spec/instant.md is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest

from tests.blueprints.conftest import WatchedFacilitator
from tests.conftest import RAIN, Shop
from x402jobs.adapters.facilitator import X402Facilitator


@dataclass
class Asking:
    """A request on its way, good as it stands: it would be an unpaid POST, answered with 402."""

    shop: Shop
    monkeypatch: pytest.MonkeyPatch
    path: str = Shop.url
    values: dict[str, Any] = field(default_factory=RAIN.copy)
    headers: dict[str, str] = field(default_factory=dict)


def gone(asking: Asking) -> None:
    asking.shop.query("UPDATE x402_resources SET is_active = 0")


def without_key(asking: Asking) -> None:
    asking.shop.query("DELETE FROM x402_user_claude_configs")


def without_facilitator(asking: Asking) -> None:
    asking.monkeypatch.setattr(X402Facilitator, "offers", lambda self, network: False)


FAULTS: dict[str, tuple[Callable[[Asking], object], int, str]] = {
    # in the order of the specification: what is wrong, the status, the code
    "a body that is no request": (
        lambda asking: asking.values.update(topic=7),
        *(400, "INVALID_REQUEST"),
    ),
    "a bad token": (
        lambda asking: asking.headers.update(Authorization="Bearer x"),
        *(401, "UNAUTHENTICATED"),
    ),
    "no such template": (gone, 404, "NOT_FOUND"),
    "an unknown parameter": (
        lambda asking: asking.values.update(colour="grey"),
        *(400, "INVALID_REQUEST"),
    ),
    "no key of the creator's": (without_key, 503, "TEMPLATE_UNAVAILABLE"),
    "no facilitator": (without_facilitator, 503, "FACILITATOR_UNAVAILABLE"),
    "no payment": (lambda asking: None, 402, "PAYMENT_REQUIRED"),
}


PAIRS = [
    (first, second, method)
    for first, second in combinations(FAULTS, 2)
    for method in ("GET", "HEAD", "POST")
    if method == "POST" or first != "a body that is no request"  # a query has nothing but text
]


@pytest.mark.parametrize("first, second, method", PAIRS)
def test_the_first_thing_that_is_wrong_is_told(
    shop: Shop,
    watched: WatchedFacilitator,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
    method: str,
) -> None:
    asking = Asking(shop, monkeypatch)
    for what in (first, second):
        FAULTS[what][0](asking)
    sent: dict[str, Any] = (
        {"json": asking.values} if method == "POST" else {"query_string": asking.values}
    )

    reply = shop.client.open(asking.path, method=method, headers=asking.headers, **sent)

    _, status, code = FAULTS[first]
    assert reply.status_code == status
    if method != "HEAD":
        assert reply.json is not None and reply.json["code"] == code
    assert (watched.asked, shop.rows(), shop.claude.calls) == ([], [], [])


OWNERS: dict[str, tuple[dict[str, str], str | None, int]] = {
    # the headers, whose token, the status; the rest of the request is good
    "no wish": ({}, None, 402),
    "the owner's wish": ({"X-OWNER-TEST": "true"}, "ada", 200),
    "another word": ({"X-OWNER-TEST": "yes"}, "ada", 400),
    "nobody's wish": ({"X-OWNER-TEST": "true"}, None, 401),
    "a stranger's wish": ({"X-OWNER-TEST": "true"}, "bob", 403),
}


@pytest.mark.parametrize("values, fill", [(RAIN, None), ({}, 400)], ids=["filled", "empty"])
@pytest.mark.parametrize("query", ["", "?stream=false", "?stream=true&network=eip155:31337"])
@pytest.mark.parametrize("who", OWNERS)
def test_an_owner_test_is_judged_after_the_values(
    shop: Shop, who: str, query: str, values: dict[str, str], fill: int | None
) -> None:
    """`{}` without a query is a probe where it meets a 402, and an error anywhere else."""
    headers, username, status = OWNERS[who]
    if username is not None:
        headers = headers | {"Authorization": f"Bearer {shop.token(username)}"}
    is_probe = who == "no wish" and not query

    reply = shop.client.post(shop.url + query, json=values, headers=headers)
    reply.get_data()

    assert reply.status_code == (status if fill is None or is_probe else fill)
    assert len(shop.rows()) == (reply.status_code == 200)


@pytest.mark.parametrize("price", [10_000, 0], ids=["priced", "free"])
@pytest.mark.parametrize("body", [b"", b"{}", b" \r\n", b"{ }"])
@pytest.mark.parametrize("query", ["", "?stream=false", "?stream=true", "?network=eip155:31337"])
def test_only_a_bare_request_for_something_priced_is_a_probe(
    shop: Shop, price: int, body: bytes, query: str
) -> None:
    shop.publish(price=price)

    by_post = shop.client.post(shop.url + query, data=body)
    by_get = shop.client.get(shop.url + query)
    by_head = shop.client.head(shop.url + query)

    expected = 402 if price and not query else 400
    assert [each.status_code for each in (by_post, by_get, by_head)] == [expected] * 3


# Who asked is written down


WHO = [
    *[(kind, name) for kind in ("paid", "free") for name in ("ada", "bob", None)],
    ("owner_test", "ada"),
]


@pytest.mark.parametrize("kind, username", WHO)
def test_an_execution_knows_the_account_that_asked_for_it(
    shop: Shop, kind: str, username: str | None
) -> None:
    headers = shop.payment() if kind == "paid" else {}
    if username is not None:
        headers |= {"Authorization": f"Bearer {shop.token(username)}"}
    if kind == "owner_test":
        headers |= {"X-OWNER-TEST": "true"}
    if kind == "free":
        shop.publish(price=0)

    shop.client.post(shop.url, json=RAIN, headers=headers).get_data()

    (row,) = shop.rows()
    ids = {"ada": shop.ada, "bob": user_id(shop, "bob"), None: None}
    assert (row["kind"], row["caller_id"]) == (kind, ids[username])


def user_id(shop: Shop, username: str) -> str | None:
    found = shop.query("SELECT id FROM profiles WHERE username = ?", username)
    return found[0]["id"] if found else None


def test_a_released_payment_belongs_to_the_account_that_tries_again(shop: Shop) -> None:
    payment = shop.payment()
    ada, bob = ({"Authorization": f"Bearer {shop.token(name)}"} for name in ("ada", "bob"))
    shop.claude.script({"status": 401})
    shop.client.post(shop.url, json=RAIN, headers=payment | ada)
    shop.client.post(shop.url, json=RAIN, headers=payment | bob).get_data()

    (row,) = shop.rows()
    assert (row["state"], row["caller_id"]) == ("completed", user_id(shop, "bob"))
