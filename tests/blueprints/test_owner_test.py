"""A creator may test their own template free of charge; nobody else may, and nobody by accident."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.blueprints.conftest import WatchedFacilitator, refused
from tests.conftest import RAIN, Shop, events, text_of

WISH = {"X-OWNER-TEST": "true"}
WORDS = {"text": "Rain taps the window."}
PER_MINUTE = 10
FAILURES_PER_MINUTE = 20


def as_owner(shop: Shop, username: str = "ada") -> dict[str, str]:
    return WISH | {"Authorization": f"Bearer {shop.token(username)}"}


def nothing_happened(shop: Shop, watched: WatchedFacilitator) -> None:
    assert (shop.rows(), watched.asked, shop.claude.calls) == ([], [], [])


def test_a_creator_tests_their_template_without_a_wallet(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    shop.claude.script(WORDS)

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop))
    said = events(reply)

    assert (reply.status_code, text_of(said)) == (200, WORDS["text"])
    assert said[-1]["type"] == "done" and not {"receipt", "credit"} & said[-1].keys()
    assert not {"payment-response", "x-resume-token"} & {name.lower() for name, _ in reply.headers}
    (row,) = shop.rows()
    assert (row["kind"], row["state"], row["amount"]) == ("owner_test", "completed", 0)
    assert (row["claim_key"], row["payer"], row["transaction"]) == (None, None, None)
    assert row["id"] == said[-1]["executionId"] == reply.headers["X-Execution-Id"]
    assert (watched.asked, shop.ledger.transfers()) == ([], [])


def test_a_test_needs_no_payout_address(shop: Shop) -> None:
    shop.query("DELETE FROM x402_payout_addresses")

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop))

    assert events(reply)[-1]["type"] == "done"


def test_a_test_needs_the_key_that_a_sale_would_need(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    shop.query("DELETE FROM x402_user_claude_configs")

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop))

    refused(reply, 503, "TEMPLATE_UNAVAILABLE")
    nothing_happened(shop, watched)


@pytest.mark.parametrize("payment", ["good", "malformed", "of version 1"])
def test_a_payment_sent_along_with_a_test_is_not_touched(
    shop: Shop, watched: WatchedFacilitator, payment: str
) -> None:
    good = shop.payment()
    sent = {
        "good": good,
        "malformed": {"PAYMENT-SIGNATURE": "nonsense"},
        "of version 1": {"X-PAYMENT": "nonsense"},
    }[payment]

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop) | sent)

    assert events(reply)[-1]["type"] == "done"
    assert [row["kind"] for row in shop.rows()] == ["owner_test"]
    assert watched.asked == []
    assert events(shop.client.post(shop.url, json=RAIN, headers=good))[-1]["type"] == "done"


def test_an_answer_that_was_bought_is_not_told_to_a_test(shop: Shop) -> None:
    payment = shop.payment()
    shop.claude.script({"text": "The buyer's own."}, WORDS)
    shop.client.post(shop.url, json=RAIN, headers=payment).get_data()

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop) | payment)

    assert text_of(events(reply)) == WORDS["text"]


def test_a_get_may_be_a_test_too(shop: Shop) -> None:
    reply = shop.client.get(f"{shop.url}?topic=rain", headers=as_owner(shop))

    assert events(reply)[-1]["type"] == "done"


# Whoever may not


@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
def test_another_creator_may_not_test_it(
    shop: Shop, watched: WatchedFacilitator, paying: bool
) -> None:
    headers = as_owner(shop, "bob") | (shop.payment() if paying else {})

    refused(shop.client.post(shop.url, json=RAIN, headers=headers), 403, "FORBIDDEN")
    nothing_happened(shop, watched)


@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
def test_a_test_without_a_token_is_never_a_sale_instead(
    shop: Shop, watched: WatchedFacilitator, paying: bool
) -> None:
    headers = WISH | (shop.payment() if paying else {})

    refused(shop.client.post(shop.url, json=RAIN, headers=headers), 401, "UNAUTHENTICATED")
    nothing_happened(shop, watched)


@pytest.mark.parametrize(
    "wish",
    [
        *("True", "TRUE", "1", "yes", "false", "", "null", '"true"', "truee", "tru\xe9"),
        *("true,true", "true, true", "true;", "true x"),
    ],
)
@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
@pytest.mark.parametrize("owner", [False, True], ids=["anybody", "the creator"])
def test_a_wish_is_exactly_true_or_an_error(
    shop: Shop, watched: WatchedFacilitator, wish: str, paying: bool, owner: bool
) -> None:
    headers = shop.payment() if paying else {}
    headers |= as_owner(shop) if owner else {}

    reply = shop.client.post(shop.url, json=RAIN, headers=headers | {"X-OWNER-TEST": wish})

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == "X-OWNER-TEST"
    nothing_happened(shop, watched)


def test_a_wish_sent_twice_is_an_error(shop: Shop, watched: WatchedFacilitator) -> None:
    headers = [*as_owner(shop).items(), *WISH.items(), *shop.payment().items()]

    reply = shop.client.post(shop.url, json=RAIN, headers=headers)

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == "X-OWNER-TEST"
    nothing_happened(shop, watched)


# Tokens


def claims(shop: Shop, **changes: Any) -> dict[str, Any]:
    """A good token's claims with changes; None takes one away."""
    now = int(time.time())
    good = {
        "iss": "urn:x402jobs:local",
        "aud": "authenticated",
        "role": "authenticated",
        "sub": shop.ada,
        "iat": now,
        "exp": now + 3600,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def secret(shop: Shop) -> str:
    shop.token()
    return (shop.settings.data / "token-secret").read_text().strip()


def bearing(**changes: Any) -> Callable[[Shop], str]:
    """A properly signed token with these claims."""
    return lambda shop: "Bearer " + jwt.encode(claims(shop, **changes), secret(shop), "HS256")


def part(document: dict[str, Any]) -> str:
    raw = json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unsigned(shop: Shop) -> str:
    return f"Bearer {part({'alg': 'none', 'typ': 'JWT'})}.{part(claims(shop))}."


def resigned(shop: Shop) -> str:
    """Another payload under the signature of a good token."""
    head, _, signature = shop.token("bob").split(".")
    return f"Bearer {head}.{part(claims(shop))}.{signature}"


NOW = int(time.time())
BAD: dict[str, str | Callable[[Shop], str]] = {
    "nothing": "",
    "a scheme alone": "Bearer",
    "a scheme and a space": "Bearer ",
    "garbage": "Bearer garbage",
    "three garbled parts": "Bearer a.b.c",
    "not ASCII": "Bearer \xe9.\xe9.\xe9",
    "Basic": "Basic YWRhOnNlY3JldA==",
    "a token without its scheme": lambda shop: shop.token(),
    "another scheme": lambda shop: f"Token {shop.token()}",
    "two tokens": lambda shop: f"Bearer {shop.token()}, Bearer {shop.token()}",
    "a token and more": lambda shop: f"Bearer {shop.token()} {shop.token()}",
    "a token cut short": lambda shop: f"Bearer {shop.token()[:-4]}",
    "not signed": unsigned,
    "signed for somebody else": resigned,
    "another secret": lambda shop: "Bearer " + jwt.encode(claims(shop), "s" * 64, "HS256"),
    "another algorithm": lambda shop: "Bearer " + jwt.encode(claims(shop), secret(shop), "HS512"),
    "expired": bearing(iat=NOW - 7200, exp=NOW - 3600),
    "not yet issued": bearing(iat=NOW + 3000),
    "not yet valid": bearing(nbf=NOW + 3000),
    "good for over a day": bearing(exp=NOW + 25 * 3600),
    "good for ever": bearing(exp=2**60),
    "issued long ago": bearing(iat=NOW - 2 * 24 * 3600),
    "no end": bearing(exp=None),
    "no beginning": bearing(iat=None),
    "an end in words": bearing(exp="tomorrow"),
    "another audience": bearing(aud="anon"),
    "no audience": bearing(aud=None),
    "another issuer": bearing(iss="https://example.supabase.co/auth/v1"),
    "no issuer": bearing(iss=None),
    "another role": bearing(role="service_role"),
    "no role": bearing(role=None),
    "anonymous": bearing(is_anonymous=True),
    "nobody": bearing(sub=None),
    "nobody at all": bearing(sub=""),
    "a name for an id": bearing(sub="ada"),
}


@pytest.mark.parametrize("headers", [WISH, {}], ids=["a test", "a sale"])
@pytest.mark.parametrize("what", BAD)
def test_a_bad_token_is_refused_whatever_it_was_sent_for(
    shop: Shop, watched: WatchedFacilitator, what: str, headers: dict[str, str]
) -> None:
    bad = BAD[what]
    authorization = bad if isinstance(bad, str) else bad(shop)
    sent = shop.payment() | headers | {"Authorization": authorization}

    reply = shop.client.post(shop.url, json=RAIN, headers=sent)

    body = refused(reply, 401, "UNAUTHENTICATED")
    assert body["error"] in (
        "The credential is not valid, or is not valid any more.",
        "The Authorization header must be: Bearer <token>.",
    )
    nothing_happened(shop, watched)


def test_a_good_token_of_a_stranger_does_not_stand_in_the_way_of_a_sale(shop: Shop) -> None:
    reply = shop.buy(Authorization=f"Bearer {shop.token('bob')}")

    assert events(reply)[-1]["receipt"]["paidUsdc"] == "0.01"


def test_a_good_token_of_nobody_we_know_may_not_test(shop: Shop) -> None:
    authorization = bearing(sub=str(uuid.uuid4()))(shop)

    reply = shop.client.post(shop.url, json=RAIN, headers=WISH | {"Authorization": authorization})

    refused(reply, 403, "FORBIDDEN")


def test_the_creators_token_alone_is_no_test(shop: Shop) -> None:
    """Without the header a creator pays, or is asked to, like everybody else."""
    headers = {"Authorization": f"Bearer {shop.token()}"}

    refused(shop.client.post(shop.url, json=RAIN, headers=headers), 402, "PAYMENT_REQUIRED")


# Limits


def test_ten_tests_a_minute_are_enough(shop: Shop) -> None:
    headers = as_owner(shop)
    for _ in range(PER_MINUTE):
        events(shop.client.post(shop.url, json=RAIN, headers=headers))

    reply = shop.client.post(shop.url, json=RAIN, headers=headers)

    refused(reply, 429, "RATE_LIMIT")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert len(shop.claude.calls) == PER_MINUTE
    assert events(shop.buy())[-1]["type"] == "done"


def test_a_test_that_is_refused_counts_for_nobody(shop: Shop) -> None:
    for _ in range(PER_MINUTE + 1):
        refused(
            shop.client.post(shop.url, json=RAIN, headers=as_owner(shop, "bob")), 403, "FORBIDDEN"
        )

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop))

    assert events(reply)[-1]["type"] == "done"


def test_guessing_tokens_is_limited_by_address(shop: Shop) -> None:
    def guess(address: str, token: str = "guess") -> int:
        return shop.client.post(
            shop.url,
            json=RAIN,
            headers=WISH | {"Authorization": f"Bearer {token}"},
            environ_overrides={"REMOTE_ADDR": address},
        ).status_code

    guesses = [guess("192.0.2.1") for _ in range(FAILURES_PER_MINUTE + 2)]

    assert guesses == [401] * FAILURES_PER_MINUTE + [429] * 2
    assert guess("192.0.2.2") == 401
    assert guess("192.0.2.1", shop.token()) == 200


def test_a_limit_on_guessing_says_when_to_come_back(shop: Shop) -> None:
    for _ in range(FAILURES_PER_MINUTE + 1):
        reply = shop.client.post(shop.url, json=RAIN, headers={"Authorization": "Bearer guess"})

    refused(reply, 429, "RATE_LIMIT")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60


def test_a_forwarded_address_does_not_get_around_a_limit(shop: Shop) -> None:
    statuses = [
        shop.client.post(
            shop.url,
            json=RAIN,
            headers={"Authorization": "Bearer guess", "X-Forwarded-For": f"192.0.2.{number}"},
        ).status_code
        for number in range(FAILURES_PER_MINUTE + 1)
    ]

    assert statuses[-1] == 429


# Tests that fail


def test_a_test_that_breaks_off_is_no_debt(shop: Shop) -> None:
    shop.claude.script(WORDS | {"errorEvent": "overloaded_error", "afterDeltas": 2})

    said = events(shop.client.post(shop.url, json=RAIN, headers=as_owner(shop)))

    assert (said[-1]["type"], said[-1]["code"]) == ("error", "OVERLOADED")
    assert not {"receipt", "credit"} & said[-1].keys()
    (row,) = shop.rows()
    assert (row["kind"], row["state"], row["code"]) == ("owner_test", "released", "OVERLOADED")
    assert (row["amount"], row["transaction"]) == (0, None)


def test_a_test_that_cannot_start_is_an_ordinary_error(shop: Shop) -> None:
    shop.claude.script({"status": 401})

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop))

    refused(reply, 502, "INVALID_API_KEY")
    assert shop.rows() == []


def test_claude_is_let_go_when_the_creator_leaves(shop: Shop) -> None:
    shop.claude.script({"text": "a " * 100, "deltaMs": 50})

    reply = shop.client.post(shop.url, json=RAIN, headers=as_owner(shop), buffered=False)
    next(iter(reply.response))
    reply.close()

    until = time.monotonic() + 2
    while not (shop.claude.calls[0]["hungUp"] and shop.rows()):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert (shop.rows()[0]["kind"], shop.rows()[0]["state"]) == ("owner_test", "released")
