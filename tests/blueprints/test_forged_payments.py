"""A payment that is not ours, not theirs or not a payment: refused before it leaves a trace."""

import base64
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.blueprints.conftest import (
    WatchedFacilitator,
    as_v1,
    forge,
    headers_of,
    quoted,
    refused,
    v1_headers_of,
)
from tests.conftest import PRICE, RAIN, Shop, encoded
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.networks import DEVELOPMENT

Payment = dict[str, Any]

ELSEWHERE = "0xE1E1E1e1E1E1e1e1E1E1E1e1e1e1E1E1E1E1e1e1"
CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def other(tmp_path: Path) -> Wallet:
    """A second wallet, for signatures of somebody else's."""
    return Wallet.open(tmp_path / "other.key")


def leaves_no_trace(shop: Shop, watched: WatchedFacilitator) -> None:
    assert (shop.rows(), watched.asked, shop.claude.calls) == ([], [], [])
    assert shop.ledger.transfers() == []


def present(shop: Shop, payment: object) -> TestResponse:
    return shop.client.post(shop.url, json=RAIN, headers=headers_of(payment))


def test_a_payment_signed_by_hand_buys_when_nothing_is_forged(shop: Shop) -> None:
    """What the tables below change, unchanged."""
    assert present(shop, forge(shop.wallet)).status_code == 200


# What the caller says they accepted


@pytest.mark.parametrize(
    "field, value",
    [
        ("amount", str(PRICE - 1)),
        ("amount", str(PRICE + 1)),
        ("amount", "0"),
        ("amount", f"0{PRICE}"),
        ("amount", f"{PRICE}.0"),
        ("amount", "1e4"),
        ("amount", ""),
        ("asset", "0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
        ("asset", ""),
        ("network", "eip155:8453"),
        ("network", "eip155:031337"),
        ("network", "EIP155:31337"),
        ("network", "base"),
        ("network", ""),
        ("payTo", ELSEWHERE),
        ("payTo", ""),
        ("scheme", "upto"),
        ("scheme", "Exact"),
        ("scheme", ""),
    ],
)
def test_an_acceptance_of_something_else_meets_a_fresh_quote(
    shop: Shop, watched: WatchedFacilitator, field: str, value: str
) -> None:
    payment = forge(shop.wallet)
    payment["accepted"][field] = value

    reply = present(shop, payment)

    assert "accepted requirements" in quoted(reply)["error"]
    leaves_no_trace(shop, watched)


# What was signed


def signed(**changes: Any) -> Callable[[Wallet], Payment]:
    return lambda wallet: forge(wallet, **changes)


def in_domain(**changes: Any) -> Callable[[Wallet], Payment]:
    return lambda wallet: forge(wallet, network=replace(DEVELOPMENT, **changes))


def in_window(after: int, before: int) -> Callable[[Wallet], Payment]:
    """Signed for this window, in seconds from now."""

    def make(wallet: Wallet) -> Payment:
        now = int(time.time())
        return forge(wallet, validAfter=str(now + after), validBefore=str(now + before))

    return make


PRICED, ADDRESSED, NOT_SIGNED = "for the exact price", "pays somebody else", "not the payer's"
TOO_SHORT, NOT_YET = "less than 60 seconds left", "not valid yet"
SIGNED: dict[str, tuple[Callable[[Wallet], Payment], str]] = {
    "less": (signed(value=str(PRICE - 1)), PRICED),
    "more": (signed(value=str(PRICE + 1)), PRICED),
    "nothing": (signed(value="0"), PRICED),
    "all there is": (signed(value=str(2**256 - 1)), PRICED),
    "another recipient": (signed(to=ELSEWHERE), ADDRESSED),
    "nobody as recipient": (signed(to="0x" + "00" * 20), ADDRESSED),
    "another chain": (in_domain(chain_id=8453), NOT_SIGNED),
    "another token": (in_domain(token="0x" + "22" * 20), NOT_SIGNED),
    "another token's name": (in_domain(token_name="USD Coin"), NOT_SIGNED),
    "another token's version": (in_domain(token_version="2"), NOT_SIGNED),
    "expired": (in_window(-600, -1), TOO_SHORT),
    "expiring now": (in_window(-600, 0), TOO_SHORT),
    "too short": (in_window(-600, 58), TOO_SHORT),
    "since the beginning": (signed(validBefore="0"), TOO_SHORT),
    "not yet valid": (in_window(30, 150), NOT_YET),
    "never valid": (signed(validAfter=str(2**256 - 1)), NOT_YET),
    "backwards": (in_window(120, -60), NOT_YET),
}


@pytest.mark.parametrize("what", SIGNED)
def test_a_signature_under_something_else_meets_a_fresh_quote(
    shop: Shop, watched: WatchedFacilitator, what: str
) -> None:
    make, why = SIGNED[what]

    reply = present(shop, make(shop.wallet))

    assert why in quoted(reply)["error"]
    leaves_no_trace(shop, watched)


@pytest.mark.parametrize("seconds", [62, 119, 3600, 2**40, 2**63, 2**70])
def test_a_window_that_is_long_enough_is_taken(shop: Shop, seconds: int) -> None:
    """Numbers of 256 bits are lawful in a window; wallets do sign "for ever"."""
    payment = in_window(-60, seconds)(shop.wallet)

    assert present(shop, payment).status_code == 200


def test_a_window_that_never_ends_is_taken(shop: Shop) -> None:
    assert present(shop, forge(shop.wallet, validBefore=str(2**256 - 1))).status_code == 200


# What was changed after signing


def with_authorization(**changes: str) -> Callable[[Payment], None]:
    return lambda payment: payment["payload"]["authorization"].update(changes)


def with_signature(change: Callable[[bytes], bytes]) -> Callable[[Payment], None]:
    def apply(payment: Payment) -> None:
        before = bytes.fromhex(payment["payload"]["signature"][2:])
        payment["payload"]["signature"] = "0x" + change(before).hex()

    return apply


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda before: before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :]


def mirrored(before: bytes) -> bytes:
    """The other s of the same point: valid on the curve, refused by Circle's token."""
    s = CURVE - int.from_bytes(before[32:64])
    return before[:32] + s.to_bytes(32) + bytes([55 - before[64]])


CHANGED: dict[str, Callable[[Payment], None]] = {
    "another payer": with_authorization(**{"from": ELSEWHERE}),
    "another nonce": with_authorization(nonce="0x" + "99" * 32),
    "a later end": with_authorization(validBefore=str(int(time.time()) + 3000)),
    "an earlier beginning": with_authorization(validAfter="0"),
    "a bit of r": with_signature(flipped(0)),
    "a bit of s": with_signature(flipped(63)),
    "the other v": with_signature(lambda s: s[:64] + bytes([55 - s[64]])),
    "v of 0 or 1": with_signature(lambda s: s[:64] + bytes([s[64] - 27])),
    "v of 29": with_signature(lambda s: s[:64] + b"\x1d"),
    "high s": with_signature(mirrored),
    "s of zero": with_signature(lambda s: s[:32] + bytes(32) + s[64:]),
    "r of zero": with_signature(lambda s: bytes(32) + s[32:]),
    "r off the curve": with_signature(lambda s: b"\xff" * 32 + s[32:]),
    "all zeroes": with_signature(lambda s: bytes(65)),
    "all ones": with_signature(lambda s: b"\xff" * 65),
    "64 bytes": with_signature(lambda s: s[:64]),
    "66 bytes": with_signature(lambda s: s + b"\x00"),
    "66 bytes from the left": with_signature(lambda s: b"\x00" + s),
    "one byte": with_signature(lambda s: b"\x1b"),
    "two signatures": with_signature(lambda s: s + s),
    "a smart wallet's wrapping": with_signature(lambda s: s + b"\x64\x92" * 16),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_change_after_signing_meets_a_fresh_quote(
    shop: Shop, watched: WatchedFacilitator, what: str
) -> None:
    payment = forge(shop.wallet)
    CHANGED[what](payment)

    reply = present(shop, payment)

    assert NOT_SIGNED in quoted(reply)["error"]
    leaves_no_trace(shop, watched)


def test_a_signature_of_another_key_meets_a_fresh_quote(
    shop: Shop, watched: WatchedFacilitator, other: Wallet
) -> None:
    payment = forge(other, **{"from": shop.wallet.address})

    reply = present(shop, payment)

    assert NOT_SIGNED in quoted(reply)["error"]
    leaves_no_trace(shop, watched)


def test_a_payment_for_the_neighbours_template_does_not_buy_here(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    """Same price, same token, another creator."""
    shop.services.integrations.save_pay_to(shop.ada, ELSEWHERE)

    reply = present(shop, forge(shop.wallet))

    assert quoted(reply)["accepts"][0]["payTo"] == ELSEWHERE
    leaves_no_trace(shop, watched)


# Headers that are not a payment at all


def without(*path: str) -> Callable[[Payment], None]:
    def remove(payment: Payment) -> None:
        for name in path[:-1]:
            payment = payment[name]
        del payment[path[-1]]

    return remove


def having(value: object, *path: str) -> Callable[[Payment], None]:
    def put(payment: Payment) -> None:
        for name in path[:-1]:
            payment = payment[name]
        payment[path[-1]] = value

    return put


AUTHORIZATION = ("payload", "authorization")
REQUIRED = [
    ("x402Version",),
    ("accepted",),
    ("payload",),
    ("payload", "signature"),
    ("payload", "authorization"),
    *[("accepted", name) for name in ("scheme", "network", "asset", "amount", "payTo")],
    *[
        (*AUTHORIZATION, name)
        for name in ("from", "to", "value", "validAfter", "validBefore", "nonce")
    ],
]
NOT_AN_ADDRESS = {
    "short": "0x" + "a" * 39,
    "long": "0x" + "a" * 41,
    "no prefix": "a" * 40,
    "upper-case prefix": "0X" + "a" * 40,
    "no hex": "0x" + "g" * 40,
    "empty": "",
    "a name": "ada.eth",
    "a line more": "0x" + "a" * 40 + "\n",
    "wide digits": "0x" + "\uff11" * 40,
}
NOT_A_NUMBER = {
    "negative": "-1",
    "signed": "+10000",
    "leading zero": "010000",
    "hex": "0x2710",
    "fraction": "10000.0",
    "exponent": "1e4",
    "empty": "",
    "padded": " 10000",
    "a line more": "10000\n",
    "separated": "10_000",
    "Arabic digits": "\u0661\u0660\u0660\u0660\u0660",
    "79 digits": "1" * 79,
    "4000 digits": "1" * 4000,
}
NOT_A_NONCE = {
    "31 bytes": "0x" + "99" * 31,
    "33 bytes": "0x" + "99" * 33,
    "odd": "0x" + "9" * 63,
    "no prefix": "99" * 32,
    "no hex": "0x" + "z" * 64,
    "empty": "",
}
NOT_A_SIGNATURE = {
    "empty": "",
    "prefix alone": "0x",
    "odd": "0x123",
    "no prefix": "12" * 65,
    "no hex": "0x" + "zz" * 65,
    "spaced": "0x" + " 12" * 65,
}
SHAPES = [
    *[((*AUTHORIZATION, name), NOT_AN_ADDRESS) for name in ("from", "to")],
    *[((*AUTHORIZATION, name), NOT_A_NUMBER) for name in ("value", "validAfter", "validBefore")],
    ((*AUTHORIZATION, "nonce"), NOT_A_NONCE),
    (("payload", "signature"), NOT_A_SIGNATURE),
]
MALFORMED = {
    **{f"no {'.'.join(path)}": (without(*path), path) for path in REQUIRED},
    **{
        f"{'.'.join(path)} {value!a}": (having(value, *path), path)
        for path in REQUIRED
        for value in (None, 7, True, [], {})
        if not (value == {} and path[-1] in ("accepted", "payload", "authorization"))
    },
    **{
        f"{'.'.join(path)}: {name}": (having(value, *path), path)
        for path, values in SHAPES
        for name, value in values.items()
    },
    **{
        f"x402Version {value!a}": (having(value, "x402Version"), ("x402Version",))
        for value in (0, 1, 3, -2, "2", "1", 2.0, 2.5, 2**70)
    },
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_payment_is_an_error_that_names_the_field(
    shop: Shop, watched: WatchedFacilitator, what: str
) -> None:
    change, path = MALFORMED[what]
    payment = forge(shop.wallet)
    change(payment)

    reply = present(shop, payment)

    assert refused(reply, 400, "INVALID_PAYMENT")["field"] == ".".join(path)
    assert "PAYMENT-REQUIRED" not in reply.headers
    leaves_no_trace(shop, watched)


@pytest.mark.parametrize(
    "path, field",
    [
        (("accepted",), "accepted.scheme"),
        (("payload",), "payload.authorization"),
        (AUTHORIZATION, "payload.authorization.from"),
    ],
)
def test_an_empty_object_is_an_error_that_names_its_first_field(
    shop: Shop, watched: WatchedFacilitator, path: tuple[str, ...], field: str
) -> None:
    payment = forge(shop.wallet)
    having({}, *path)(payment)

    assert refused(present(shop, payment), 400, "INVALID_PAYMENT")["field"] == field
    leaves_no_trace(shop, watched)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


NOT_A_PAYMENT = {
    "empty": "",
    "a word": "please",
    "JSON in the clear": '{"x402Version": 2}',
    "half of base64": encoded({"x402Version": 2})[:-1],
    "base64 of the web": "-_-_",
    "two of them joined": encoded({"x402Version": 2}) + "," + encoded({"x402Version": 2}),
    "not ASCII": "\xe9",
    "not JSON": b64(b"please"),
    "nothing inside": b64(b"") + "====",
    "an array": encoded([{}]),
    "a string": encoded("payment"),
    "a number": encoded(2),
    "null": encoded(None),
    "not UTF-8": b64(b'{"x402Version": 2, "a": "\xff"}'),
    "UTF-16": b64('{"x402Version": 2}'.encode("utf-16")),
    "a BOM": b64(b'\xef\xbb\xbf{"x402Version": 2}'),
    "a duplicate key": b64(b'{"x402Version": 2, "x402Version": 2}'),
    "a duplicate key inside": b64(b'{"x402Version": 2, "payload": {"a": 1, "a": 1}}'),
    "NaN": b64(b'{"x402Version": NaN}'),
    "Infinity": b64(b'{"x402Version": -Infinity}'),
    "1e999": b64(b'{"x402Version": 1e999}'),
    "5000 digits": b64(b'{"x402Version": %s}' % (b"2" * 5000)),
    "too deep": b64(b'{"a": ' * 9 + b"1" + b"}" * 9),
    "far too deep": b64(b"[" * 40_000),
    "NUL in a string": b64(rb'{"x402Version": 2, "a": "\u0000"}'),
    "a bare NUL": b64(b'{"x402Version": 2, "a": "\x00"}'),
    "a lone surrogate": b64(rb'{"x402Version": 2, "a": "\ud800"}'),
    "trailing garbage": b64(b'{"x402Version": 2} {}'),
    "a trailing comma": b64(b'{"x402Version": 2,}'),
}


@pytest.mark.parametrize("what", NOT_A_PAYMENT)
def test_a_header_that_is_no_payment_is_an_error(
    shop: Shop, watched: WatchedFacilitator, what: str
) -> None:
    reply = shop.client.post(
        shop.url, json=RAIN, headers={"PAYMENT-SIGNATURE": NOT_A_PAYMENT[what]}
    )

    body = refused(reply, 400, "INVALID_PAYMENT")
    assert body.get("field", "PAYMENT-SIGNATURE") == "PAYMENT-SIGNATURE"
    leaves_no_trace(shop, watched)


def test_a_duplicate_key_in_a_good_payment_is_an_error(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    """Two readers could take it for two payments."""
    document = json.dumps(forge(shop.wallet))
    twice = document.replace('"payload": {', '"payload": {"signature": "0x00", ', 1)

    reply = shop.client.post(
        shop.url, json=RAIN, headers={"PAYMENT-SIGNATURE": b64(twice.encode())}
    )

    refused(reply, 400, "INVALID_PAYMENT")
    leaves_no_trace(shop, watched)


def test_two_payments_of_two_versions_are_an_error(shop: Shop, watched: WatchedFacilitator) -> None:
    good = forge(shop.wallet)

    reply = shop.client.post(
        shop.url, json=RAIN, headers=headers_of(good) | v1_headers_of(as_v1(good))
    )

    assert refused(reply, 400, "INVALID_PAYMENT")["field"] == "X-PAYMENT"
    leaves_no_trace(shop, watched)


@pytest.mark.parametrize("sent_as", ["PAYMENT-SIGNATURE", "X-PAYMENT"])
def test_a_payment_in_the_other_versions_header_is_told_its_own(
    shop: Shop, watched: WatchedFacilitator, sent_as: str
) -> None:
    good = forge(shop.wallet)
    wrong = as_v1(good) if sent_as == "PAYMENT-SIGNATURE" else good

    reply = shop.client.post(shop.url, json=RAIN, headers={sent_as: encoded(wrong)})

    body = refused(reply, 400, "INVALID_PAYMENT")
    assert body["field"] == "x402Version"
    assert "2 goes into PAYMENT-SIGNATURE, 1 into X-PAYMENT" in body["error"]
    leaves_no_trace(shop, watched)


def test_a_payment_sent_twice_is_an_error(shop: Shop, watched: WatchedFacilitator) -> None:
    """As servers join it."""
    good = shop.payment()["PAYMENT-SIGNATURE"]

    reply = shop.client.post(shop.url, json=RAIN, headers={"PAYMENT-SIGNATURE": f"{good},{good}"})

    refused(reply, 400, "INVALID_PAYMENT")
    leaves_no_trace(shop, watched)


# Anything else


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=80),
    st.sampled_from(
        ["0x", "0", "1", str(2**256), str(2**256 - 1), "0x" + "00" * 32, "0x" + "0" * 40]
    ),
    st.binary(max_size=70).map(lambda raw: "0x" + raw.hex()),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
EDITS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(REQUIRED), JSON_VALUES),
    st.tuples(st.just("drop"), st.sampled_from(REQUIRED), st.none()),
    st.tuples(st.just("flip"), st.sampled_from(REQUIRED), st.tuples(st.integers(0, 140), st.text(
        alphabet="0123456789abcdefx", min_size=1, max_size=2))),
)  # fmt: skip


def edit(payment: Payment, how: str, path: tuple[str, ...], value: Any) -> None:
    """One change, where the payment still has such a place."""
    for name in path[:-1]:
        payment = payment.get(name, {})
        if not isinstance(payment, dict):
            return
    before = payment.get(path[-1])
    if how == "drop":
        payment.pop(path[-1], None)
    elif how == "put":
        payment[path[-1]] = value
    elif isinstance(before, str):
        place, text = value
        payment[path[-1]] = before[:place] + text + before[place + len(text) :]


def folded(payment: Payment) -> Any:
    """Without letter case, which makes no other payment; nor does 2.0 for 2."""
    return json.loads(json.dumps(payment).lower())


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(EDITS, min_size=1, max_size=3))
def test_no_change_to_a_payment_buys_anything_or_breaks_anything(
    shop: Shop, watched: WatchedFacilitator, edits: list[tuple[str, tuple[str, ...], Any]]
) -> None:
    good = forge(shop.wallet)
    changed = copy.deepcopy(good)
    for how, path, value in edits:
        edit(changed, how, path, value)
    if folded(changed) == folded(good):
        return

    reply = present(shop, changed)

    assert reply.status_code in (400, 402), (reply.status_code, changed)
    leaves_no_trace(shop, watched)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(header=st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=200))
def test_no_header_breaks_anything(shop: Shop, watched: WatchedFacilitator, header: str) -> None:
    text = header.replace("\r", "").replace("\n", "")

    reply = shop.client.post(shop.url, json=RAIN, headers={"PAYMENT-SIGNATURE": text})

    assert refused(reply, 400, "INVALID_PAYMENT")
    leaves_no_trace(shop, watched)
