"""Version 1 of x402 on the same address: older clients pay it, and cannot pay it twice."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from werkzeug.test import TestResponse
from x402 import x402ClientSync
from x402.mechanisms.evm.exact.v1 import ExactEvmSchemeV1
from x402.schemas.v1 import PaymentRequiredV1

from tests.blueprints.conftest import (
    SEPOLIA,
    Chains,
    WatchedFacilitator,
    as_v1,
    forge,
    headers_of,
    on_sepolia,
    refused,
    v1_headers_of,
)
from tests.conftest import PAY_TO, PRICE, RAIN, Shop, decoded, encoded, events, text_of
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import DEVELOPMENT, Networks
from x402jobs.domain.payment import Authorization

WORDS = {"text": "Rain taps the window."}
BROKEN = WORDS | {"errorEvent": "overloaded_error", "afterDeltas": 2}


@pytest.fixture
def networks() -> Networks:
    return Networks((DEVELOPMENT, SEPOLIA))


def present(shop: Shop, headers: dict[str, str], values: object = RAIN) -> TestResponse:
    return shop.client.post(shop.url, json=values, headers=headers)


def leaves_no_trace(shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger) -> None:
    assert (shop.rows(), watched.asked, shop.claude.calls) == ([], [], [])
    assert (shop.ledger.transfers(), sepolia.transfers()) == ([], [])


def official_payment(shop: Shop) -> dict[str, str]:
    """What the official client of version 1 makes of the 402's body."""
    account = Account.from_key(shop.wallet.key.reveal())
    client = x402ClientSync().register_v1("base-sepolia", ExactEvmSchemeV1(account))
    client.set_spend_controls(
        {"allowed_assets": [{"network": "base-sepolia", "asset": SEPOLIA.token}]}
    )
    quote = PaymentRequiredV1.model_validate(shop.client.post(shop.url).json)
    payload = client.create_payment_payload(quote)
    return v1_headers_of(payload.model_dump(by_alias=True, exclude_none=True))


# The 402


def test_the_body_tells_a_version_1_client_everything_it_needs(shop: Shop) -> None:
    shop.publish(
        description="Three lines.",
        parameters=[{"name": "topic", "description": "What it is about", "enum": ["rain"]}],
    )

    body = shop.client.post(shop.url).json

    assert body is not None
    (entry,) = body["accepts"]
    assert (body["x402Version"], body["code"]) == (1, "PAYMENT_REQUIRED")
    assert body["price"] == {"usdc": "0.01", "network": DEVELOPMENT.id}
    assert (entry["scheme"], entry["network"]) == ("exact", "base-sepolia")
    assert (entry["maxAmountRequired"], entry["payTo"]) == (str(PRICE), PAY_TO)
    assert (entry["asset"], entry["extra"]) == (
        SEPOLIA.token,
        {"name": "Sepolia Dollar", "version": "2"},
    )
    assert entry["outputSchema"]["input"]["bodyFields"] == {
        "topic": {
            "type": "string",
            "required": True,
            "description": "What it is about",
            "enum": ["rain"],
        }
    }
    assert "amount" not in entry and "x402Version" not in entry


def test_a_404_or_a_400_is_no_quote(shop: Shop) -> None:
    for reply in (shop.client.post("/@ada/none"), shop.client.post(shop.url, json={"x": "y"})):
        assert reply.json is not None and "accepts" not in reply.json


# Paying


def test_the_official_version_1_client_buys_an_answer(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger
) -> None:
    shop.claude.script(WORDS)

    reply = present(shop, official_payment(shop))
    said = events(reply)

    assert (reply.status_code, text_of(said)) == (200, WORDS["text"])
    (row,), (transfer,) = shop.rows(), sepolia.transfers()
    assert decoded(reply.headers["X-PAYMENT-RESPONSE"]) == {
        "success": True,
        "transaction": transfer.transaction,
        "network": "base-sepolia",
        "payer": shop.wallet.address,
    }
    assert "PAYMENT-RESPONSE" not in reply.headers
    assert (transfer.payer, transfer.payee) == (shop.wallet.address, PAY_TO.lower())
    assert (transfer.value, shop.ledger.transfers()) == (PRICE, [])
    assert (row["state"], row["network"], row["amount"]) == ("completed", SEPOLIA.id, PRICE)
    assert said[-1]["receipt"] == {
        "transaction": transfer.transaction,
        "network": SEPOLIA.id,
        "payer": shop.wallet.address,
        "paidUsdc": "0.01",
    }


def test_the_facilitator_is_shown_version_2(shop: Shop, watched: WatchedFacilitator) -> None:
    versions = set()
    watched.seen = lambda payload: versions.add(payload.x402_version)

    assert present(shop, v1_headers_of(as_v1(on_sepolia(shop.wallet)))).status_code == 200
    assert (watched.asked, versions) == (["verify", "settle"], {2})


def test_a_get_can_be_paid_by_version_1(shop: Shop) -> None:
    headers = v1_headers_of(as_v1(on_sepolia(shop.wallet)))

    assert events(shop.client.get(f"{shop.url}?topic=rain", headers=headers))[-1]["receipt"]


# One authorization, two wrappings


@pytest.mark.parametrize("first", ["version 1", "version 2"])
def test_both_wrappings_of_one_authorization_buy_one_answer(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger, first: str
) -> None:
    """Each reply speaks the version of its own request."""
    payment = on_sepolia(shop.wallet)
    wrapped = {"version 2": headers_of(payment), "version 1": v1_headers_of(as_v1(payment))}
    once = wrapped.pop(first)
    (again,) = wrapped.values()
    shop.claude.script(WORDS)

    bought, replayed = present(shop, once), present(shop, again)

    assert events(replayed)[-1] == events(bought)[-1]
    assert watched.asked == ["verify", "settle"]
    assert (len(shop.claude.calls), len(sepolia.transfers()), len(shop.rows())) == (1, 1, 1)
    v1, v2 = (bought, replayed) if first == "version 1" else (replayed, bought)
    assert decoded(v1.headers["X-PAYMENT-RESPONSE"])["network"] == "base-sepolia"
    assert decoded(v2.headers["PAYMENT-RESPONSE"])["network"] == SEPOLIA.id
    assert "PAYMENT-RESPONSE" not in v1.headers and "X-PAYMENT-RESPONSE" not in v2.headers
    refused(present(shop, again, {"topic": "snow"}), 409, "CONFLICT")


def test_a_debt_can_be_used_in_the_other_wrapping(shop: Shop, sepolia: DevelopmentLedger) -> None:
    payment = on_sepolia(shop.wallet)
    shop.claude.script(BROKEN)
    broken = events(present(shop, v1_headers_of(as_v1(payment))))
    assert broken[-1]["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    shop.claude.script(WORDS)

    said = events(present(shop, headers_of(payment)))

    assert (said[-1]["type"], said[-1]["receipt"]) == ("done", broken[-1]["receipt"])
    assert len(sepolia.transfers()) == 1


def test_a_replay_is_known_after_the_shop_has_left_the_network(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recall does not ask what is offered today."""
    payment = on_sepolia(shop.wallet)
    first = events(present(shop, v1_headers_of(as_v1(payment))))
    # Its token is one that exists nowhere: only here is it known to those who leave.
    known = shop.services.pricing.networks.known
    monkeypatch.setattr(Networks, "known", lambda self, name: known(name))
    shop.services.pricing.networks = Networks((DEVELOPMENT,))

    assert events(present(shop, v1_headers_of(as_v1(payment))))[-1] == first[-1]
    url = f"{shop.url}?network=base-sepolia"
    again = shop.client.post(url, json=RAIN, headers=headers_of(payment))
    assert events(again)[-1] == first[-1]
    fresh = present(shop, v1_headers_of(as_v1(on_sepolia(shop.wallet))))
    refused(fresh, 402, "PAYMENT_REQUIRED")


def test_one_json_reply_can_be_paid_by_version_1(shop: Shop) -> None:
    payment = v1_headers_of(as_v1(on_sepolia(shop.wallet)))

    reply = shop.client.post(f"{shop.url}?stream=false", json=RAIN, headers=payment)

    paid = decoded(reply.headers["X-PAYMENT-RESPONSE"])
    assert reply.json is not None
    assert paid["transaction"] == reply.json["receipt"]["transaction"]
    assert "PAYMENT-RESPONSE" not in reply.headers


@pytest.mark.parametrize(
    "sql, status",
    [
        ("UPDATE x402_executions SET ended_at = 1", 410),
        ("UPDATE x402_executions SET state = 'refunded'", 409),
    ],
)
def test_an_error_that_shows_a_receipt_says_so_in_the_payments_version(
    shop: Shop, sql: str, status: int
) -> None:
    payment = on_sepolia(shop.wallet)
    events(present(shop, headers_of(payment)))
    shop.query(sql)

    for headers, name in (
        (v1_headers_of(as_v1(payment)), "X-PAYMENT-RESPONSE"),
        (headers_of(payment), "PAYMENT-RESPONSE"),
    ):
        reply = present(shop, headers)
        assert (reply.status_code, decoded(reply.headers[name])["success"]) == (status, True)
        assert [each for each, _ in reply.headers if each.endswith("PAYMENT-RESPONSE")] == [name]


# Refusals


def of_network(name: str) -> Callable[[Wallet], dict[str, Any]]:
    return lambda wallet: as_v1(on_sepolia(wallet), name)


def on_chain(**signed: Any) -> Callable[[Wallet], dict[str, Any]]:
    return lambda wallet: as_v1(on_sepolia(wallet, **signed))


OTHER = "The accepted requirements are not the ones this resource asks for."
DOES_NOT_DO: dict[str, tuple[Callable[[Wallet], dict[str, Any]], str]] = {
    "a network nobody knows": (of_network("moon"), OTHER),
    "a network by its name in version 2": (of_network("eip155:84532"), OTHER),
    "the development network": (of_network(DEVELOPMENT.id), OTHER),
    "a network not offered": (of_network("polygon"), OTHER),
    "another letter case": (of_network("Base-Sepolia"), OTHER),
    "another scheme": (lambda wallet: as_v1(on_sepolia(wallet)) | {"scheme": "upto"}, OTHER),
    "signed for another chain": (
        lambda wallet: as_v1(forge(wallet)),
        "The signature is not the payer's.",
    ),
    "less": (on_chain(value=str(PRICE - 1)), "The authorization is not for the exact price."),
    "more": (on_chain(value=str(PRICE + 1)), "The authorization is not for the exact price."),
    "somebody else": (on_chain(to="0x" + "e1" * 20), "The authorization pays somebody else."),
    "too short": (on_chain(validBefore="5"), "The authorization has less than 60 seconds left."),
}


@pytest.mark.parametrize("what", DOES_NOT_DO)
def test_a_version_1_payment_that_does_not_do_meets_a_fresh_quote(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger, what: str
) -> None:
    make, why = DOES_NOT_DO[what]

    reply = present(shop, v1_headers_of(make(shop.wallet)))

    body = refused(reply, 402, "PAYMENT_REQUIRED")
    assert (body["error"], len(body["accepts"])) == (why, 1)
    assert "X-PAYMENT-RESPONSE" not in reply.headers
    leaves_no_trace(shop, watched, sepolia)


def test_a_price_changed_since_the_quote_is_a_fresh_quote_in_both_versions(shop: Shop) -> None:
    payment = official_payment(shop)
    shop.publish(price=2 * PRICE)

    reply = present(shop, payment)

    body = refused(reply, 402, "PAYMENT_REQUIRED")
    assert body["accepts"][0]["maxAmountRequired"] == str(2 * PRICE)
    amounts = [each["amount"] for each in decoded(reply.headers["PAYMENT-REQUIRED"])["accepts"]]
    assert amounts == [str(2 * PRICE)] * 2
    assert events(present(shop, official_payment(shop)))[-1]["receipt"]["paidUsdc"] == "0.02"


@pytest.mark.parametrize("version", [1, 2])
def test_a_definite_refusal_to_settle_is_said_in_the_payments_version(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger, version: int
) -> None:
    """The wallet is drained between verifying and settling."""
    payment = on_sepolia(shop.wallet)

    def drain() -> None:
        everything = sepolia.balance(shop.wallet.address)
        sepolia.move(drained(shop.wallet, everything))

    watched.before_settling = drain
    headers = headers_of(payment) if version == 2 else v1_headers_of(as_v1(payment))

    reply = present(shop, headers)

    refused(reply, 402, "PAYMENT_REQUIRED")
    ours, theirs = "PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE"
    said = decoded(reply.headers[ours if version == 2 else theirs])
    assert (theirs if version == 2 else ours) not in reply.headers
    assert (said["success"], said["transaction"]) == (False, "")
    assert said["errorReason"] == shop.rows()[0]["code"]
    assert said["network"] == (SEPOLIA.id if version == 2 else "base-sepolia")
    assert said["payer"] == shop.wallet.address
    assert shop.rows()[0]["state"] == "released"


def drained(wallet: Wallet, value: int) -> Authorization:
    return Authorization(wallet.address, "0x" + "ee" * 20, value, 0, 2**40, "0x" + "dd" * 32)


def test_an_unknown_outcome_is_not_said_to_be_a_refusal(
    shop: Shop, watched: WatchedFacilitator, chain: Chains
) -> None:
    watched.loses_answers = chain.is_blind = True
    payment = v1_headers_of(as_v1(on_sepolia(shop.wallet)))

    for reply in (present(shop, payment), present(shop, payment)):
        refused(reply, 503, "SETTLEMENT_UNKNOWN")
        assert "X-PAYMENT-RESPONSE" not in reply.headers


# What is not a payment


NOT_A_PAYMENT = {
    "empty": "",
    "a word": "please",
    "JSON in the clear": '{"x402Version": 1}',
    "an array": encoded([{}]),
    "null": encoded(None),
    "a duplicate key": base64.b64encode(b'{"x402Version": 1, "x402Version": 1}').decode(),
    "NaN": base64.b64encode(b'{"x402Version": NaN}').decode(),
    "too deep": base64.b64encode(b'{"a": ' * 9 + b"1" + b"}" * 9).decode(),
}


@pytest.mark.parametrize("what", NOT_A_PAYMENT)
def test_a_header_that_is_no_payment_is_an_error(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger, what: str
) -> None:
    reply = present(shop, {"X-PAYMENT": NOT_A_PAYMENT[what]})

    body = refused(reply, 400, "INVALID_PAYMENT")
    assert body.get("field", "X-PAYMENT") == "X-PAYMENT"
    leaves_no_trace(shop, watched, sepolia)


REQUIRED = [
    *[("x402Version",), ("scheme",), ("network",), ("payload",)],
    *[("payload", "signature"), ("payload", "authorization")],
    *[
        ("payload", "authorization", name)
        for name in ("from", "to", "value", "validAfter", "validBefore", "nonce")
    ],
]


@pytest.mark.parametrize("value", [None, 7, True, [], "absent"], ids=repr)
@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_a_malformed_payment_is_an_error_that_names_the_field(
    shop: Shop,
    watched: WatchedFacilitator,
    sepolia: DevelopmentLedger,
    path: tuple[str, ...],
    value: object,
) -> None:
    payment = json.loads(json.dumps(as_v1(on_sepolia(shop.wallet))))
    place = payment
    for name in path[:-1]:
        place = place[name]
    if value == "absent":
        del place[path[-1]]
    else:
        place[path[-1]] = value

    reply = present(shop, v1_headers_of(payment))

    assert refused(reply, 400, "INVALID_PAYMENT")["field"] == ".".join(path)
    leaves_no_trace(shop, watched, sepolia)


def test_an_owner_test_ignores_a_payment_of_either_version(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger
) -> None:
    wish = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}

    reply = present(shop, wish | v1_headers_of(as_v1(on_sepolia(shop.wallet))))

    assert "receipt" not in events(reply)[-1] and "X-PAYMENT-RESPONSE" not in reply.headers
    assert (watched.asked, shop.rows()[0]["kind"]) == ([], "owner_test")


def test_a_look_never_reads_a_payment_of_version_1(
    shop: Shop, watched: WatchedFacilitator, sepolia: DevelopmentLedger
) -> None:
    good = v1_headers_of(as_v1(on_sepolia(shop.wallet)))
    for sent in (good, {"X-PAYMENT": "nonsense"}, good | {"PAYMENT-SIGNATURE": "x"}):
        reply = shop.client.head(f"{shop.url}?topic=rain", headers=sent)
        assert (reply.status_code, reply.get_data()) == (402, b"")
    leaves_no_trace(shop, watched, sepolia)
