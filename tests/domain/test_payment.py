"""What is asked, what is offered, and why an offer does not fit."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.errors import InvalidPayment
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Network, Networks
from x402jobs.domain.payment import Payment, PaymentRequirements

NOW = 1_800_000_000
PAYER = "0x" + "Ab" * 20
PAY_TO = "0x" + "Cd" * 20
NONCE = "0x" + "Ef" * 32
ASKED = PaymentRequirements(DEVELOPMENT, 10_000, PAY_TO)
ABSENT = object()

DOCUMENT = {
    "x402Version": 2,
    "accepted": ASKED.as_json(),
    "payload": {
        "signature": "0x" + "1f" * 65,
        "authorization": {
            "from": PAYER,
            "to": PAY_TO,
            "value": "10000",
            "validAfter": "0",
            "validBefore": str(NOW + 120),
            "nonce": NONCE,
        },
    },
}


def document(**changes):
    """The payment with fields changed, written as `accepted__amount="1"`; ABSENT removes one."""
    changed = deepcopy(DOCUMENT)
    for path, value in changes.items():
        *above, name = path.replace("from_", "from").split("__")
        place = changed
        for step in above:
            place = place[step]
        if value is ABSENT:
            del place[name]
        else:
            place[name] = value
    return changed


def signed(**fields):
    """A change of the authorization's fields."""
    return {f"payload__authorization__{name}": value for name, value in fields.items()}


def test_a_payment_is_read_into_plain_lower_case_values():
    payment = Payment.parse(DOCUMENT)

    authorization = payment.authorization
    assert authorization.payer == PAYER.lower()
    assert authorization.to == PAY_TO.lower()
    assert (authorization.value, authorization.valid_after) == (10_000, 0)
    assert authorization.valid_before == NOW + 120
    assert authorization.nonce == NONCE.lower()
    assert payment.signature == b"\x1f" * 65
    assert (payment.scheme, payment.network) == ("exact", DEVELOPMENT.id)
    assert (payment.asset, payment.amount) == (DEVELOPMENT.token, "10000")
    assert payment.pay_to == PAY_TO.lower()


@pytest.mark.parametrize(
    ("unread", "field"),
    [(each, None) for each in (None, [], "x", 5, True)]
    + [
        ({}, "x402Version"),
        (document(x402Version=1), "x402Version"),
        (document(x402Version="2"), "x402Version"),
        (document(x402Version=None), "x402Version"),
        (document(accepted=ABSENT), "accepted"),
        (document(accepted=[ASKED.as_json()]), "accepted"),
        (document(accepted=None), "accepted"),
        (document(payload=ABSENT), "payload"),
        (document(payload="0x"), "payload"),
        (document(payload__authorization=ABSENT), "payload.authorization"),
        (document(payload__authorization=[]), "payload.authorization"),
    ],
)
def test_a_payment_without_its_parts_is_refused_by_the_part(unread, field):
    with pytest.raises(InvalidPayment) as refusal:
        Payment.parse(unread)

    assert refusal.value.field == field


ADDRESSES = [
    ABSENT,
    None,
    5,
    "",
    "0x",
    "0x" + "ab" * 19,
    "0x" + "ab" * 21,
    "ab" * 20,
    "0X" + "ab" * 20,
    "0x" + "zz" * 20,
    "0x" + "ab" * 20 + "\n",
    " 0x" + "ab" * 20,
    "ada.eth",
]
NUMBERS = [
    ABSENT,
    None,
    10_000,
    1.5,
    True,
    "",
    "-1",
    "+1",
    "01",
    "1.0",
    "1e4",
    "0x10",
    " 1",
    "1\n",
    "1_0",
    "１",
    "9" * 79,
]
NONCES = [ABSENT, None, 7, "", "0x", "0x" + "ab" * 31, "0x" + "ab" * 33, "ab" * 32, "0x" + "g" * 64]
SIGNATURES = [ABSENT, None, 5, "", "0x", "0x1", "1f" * 65, "0xzz", "0x" + "1f" * 65 + "\n"]
WORDS = [ABSENT, None, 5, [], {}]


@pytest.mark.parametrize(
    ("name", "value"),
    [("from", value) for value in ADDRESSES]
    + [("to", value) for value in ADDRESSES]
    + [("value", value) for value in NUMBERS]
    + [("validAfter", value) for value in NUMBERS]
    + [("validBefore", value) for value in NUMBERS]
    + [("nonce", value) for value in NONCES],
)
def test_a_malformed_signed_field_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidPayment) as refusal:
        Payment.parse(document(**signed(**{name: value})))

    assert refusal.value.field == f"payload.authorization.{name}"


@pytest.mark.parametrize(
    ("path", "value"),
    [("payload.signature", value) for value in SIGNATURES]
    + [("accepted.scheme", value) for value in WORDS]
    + [("accepted.network", value) for value in WORDS]
    + [("accepted.asset", value) for value in [*WORDS, ":", f"1:{PAYER}", f"{PAYER}:"]]
    + [("accepted.amount", value) for value in WORDS]
    + [("accepted.payTo", value) for value in WORDS],
)
def test_a_malformed_word_of_the_callers_is_refused_by_its_name(path, value):
    with pytest.raises(InvalidPayment) as refusal:
        Payment.parse(document(**{path.replace(".", "__"): value}))

    assert refusal.value.field == path


def test_numbers_up_to_78_digits_are_read():
    largest = str(2**256 - 1)

    payment = Payment.parse(document(**signed(value=largest)))

    assert payment.authorization.value == 2**256 - 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        signed(from_=PAYER.lower())
        | {"accepted__asset": DEVELOPMENT.token.upper().replace("X", "x")},
        signed(nonce=NONCE.lower()),
        {"payload__signature": "0x" + "2e" * 65},
        {"accepted__amount": "1", "accepted__payTo": PAYER, "accepted__scheme": "upto"},
        signed(to=PAYER, value="1", validBefore="5"),
        {"resource": {"url": "http://elsewhere"}, "extensions": {"x": 1}},
    ],
)
def test_one_authorization_has_one_claim_key_however_it_is_spelled_or_wrapped(changes):
    expected = f"eip3009:eip155:31337:{DEVELOPMENT.token}:{PAYER.lower()}:{NONCE.lower()}"

    assert Payment.parse(document(**changes)).claim_key == expected


def hex_of(characters):
    return st.text(alphabet="01abAB", min_size=characters, max_size=characters).map("0x{}".format)


IDENTITY = st.tuples(
    st.sampled_from(["eip155:31337", "eip155:1", "eip155", "eip155:31337:0x", ""]),
    hex_of(40),
    hex_of(40),
    hex_of(64),
)


@given(IDENTITY, IDENTITY)
def test_two_authorizations_share_a_claim_key_only_when_they_are_one(one, other):
    def claim_key(network, asset, payer, nonce):
        changes = signed(**{"from": payer, "nonce": nonce})
        return Payment.parse(
            document(accepted__network=network, accepted__asset=asset, **changes)
        ).claim_key

    alike = [part.lower() for part in one] == [part.lower() for part in other]

    assert (claim_key(*one) == claim_key(*other)) == alike


def test_a_token_cannot_smuggle_a_part_of_the_network_into_the_claim_key():
    smuggled = document(accepted__network="eip155", accepted__asset=f"31337:{DEVELOPMENT.token}")

    with pytest.raises(InvalidPayment):
        Payment.parse(smuggled)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accepted__payTo": PAY_TO.lower()},
        {"accepted__asset": DEVELOPMENT.token.upper().replace("X", "x")},
        {"accepted__extra": {}, "accepted__maxTimeoutSeconds": 5},
        signed(to=PAY_TO.lower()),
        signed(validAfter=str(NOW)),
        signed(validBefore=str(NOW + 60)),
        signed(validBefore=str(2**256 - 1)),
    ],
)
def test_a_payment_for_exactly_what_we_ask_fits(changes):
    assert Payment.parse(document(**changes)).misfit(ASKED, NOW) is None


OTHER_REQUIREMENTS = "The accepted requirements are not the ones this resource asks for."
SOMEBODY_ELSE = "The authorization pays somebody else."
OTHER_PRICE = "The authorization is not for the exact price."
TOO_EARLY = "The authorization is not valid yet."
TOO_SHORT = "The authorization has less than 60 seconds left."


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"accepted__scheme": "upto"}, OTHER_REQUIREMENTS),
        ({"accepted__scheme": "Exact"}, OTHER_REQUIREMENTS),
        ({"accepted__network": "eip155:8453"}, OTHER_REQUIREMENTS),
        ({"accepted__network": "EIP155:31337"}, OTHER_REQUIREMENTS),
        ({"accepted__asset": PAYER}, OTHER_REQUIREMENTS),
        ({"accepted__amount": "9999"}, OTHER_REQUIREMENTS),
        ({"accepted__amount": "010000"}, OTHER_REQUIREMENTS),
        ({"accepted__amount": "10000.0"}, OTHER_REQUIREMENTS),
        ({"accepted__payTo": PAYER}, OTHER_REQUIREMENTS),
        (signed(to=PAYER), SOMEBODY_ELSE),
        (signed(value="9999"), OTHER_PRICE),
        (signed(value="10001"), OTHER_PRICE),
        (signed(value="0"), OTHER_PRICE),
        (signed(validAfter=str(NOW + 1)), TOO_EARLY),
        (signed(validBefore=str(NOW + 59)), TOO_SHORT),
        (signed(validBefore=str(NOW)), TOO_SHORT),
        (signed(validBefore="0"), TOO_SHORT),
    ],
)
def test_a_payment_for_anything_else_is_told_why(changes, why):
    assert Payment.parse(document(**changes)).misfit(ASKED, NOW) == why


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (NOW + 59.999, None),
        (NOW + 60, None),
        (NOW + 60.001, TOO_SHORT),
        (NOW + 121, TOO_SHORT),
    ],
)
def test_the_window_closes_sixty_seconds_before_the_authorization_does(now, why):
    assert Payment.parse(DOCUMENT).misfit(ASKED, now) == why


def test_a_price_changed_since_the_quote_no_longer_fits():
    assert Payment.parse(DOCUMENT).misfit(replace(ASKED, amount=20_000), NOW) is not None


def test_the_facilitator_is_shown_the_signed_fields_and_our_requirements():
    boastful = Payment.parse(document(accepted__amount="1", accepted__scheme="upto"))

    shown = boastful.as_json(ASKED)

    assert shown["accepted"] == ASKED.as_json()
    assert shown["payload"] == {
        "signature": "0x" + "1f" * 65,
        "authorization": {
            name: value.lower() for name, value in DOCUMENT["payload"]["authorization"].items()
        },
    }
    assert Payment.parse(shown).authorization == boastful.authorization


# Version 1

SEPOLIA = Network("eip155:84532", 84532, "0x" + "5E" * 20, "Play", "2", short_name="base-sepolia")
SHOP = Networks((DEVELOPMENT, SEPOLIA))
DOCUMENT_V1 = {
    "x402Version": 1,
    "scheme": "exact",
    "network": "base-sepolia",
    "payload": DOCUMENT["payload"],
}


def test_a_payment_of_version_1_accepts_what_its_network_and_its_signature_say():
    payment = Payment.parse_v1(DOCUMENT_V1, SHOP)

    assert payment.authorization == Payment.parse(DOCUMENT).authorization
    assert payment.signature == b"\x1f" * 65
    assert (payment.scheme, payment.network) == ("exact", SEPOLIA.id)
    assert (payment.asset, payment.amount) == (SEPOLIA.token.lower(), "10000")
    assert payment.pay_to == PAY_TO.lower()
    assert payment.misfit(replace(ASKED, network=SEPOLIA), NOW) is None


def test_both_wrappings_of_one_authorization_have_one_claim_key():
    accepted = replace(ASKED, network=SEPOLIA).as_json()

    wrapped = Payment.parse(document(accepted=accepted)), Payment.parse_v1(DOCUMENT_V1, SHOP)

    assert wrapped[0].claim_key == wrapped[1].claim_key
    assert wrapped[0] == wrapped[1]


@pytest.mark.parametrize(
    "name",
    ["", "eip155:84532", "eip155:31337", "Base-Sepolia", "base-sepolia ", "solana", "development"],
)
def test_a_network_that_version_1_has_no_name_for_fits_no_quote(name):
    payment = Payment.parse_v1(DOCUMENT_V1 | {"network": name}, SHOP)

    assert payment.network == name
    for network in SHOP.offered:
        assert payment.misfit(replace(ASKED, network=network), NOW) == OTHER_REQUIREMENTS


def test_a_network_offered_no_longer_is_known_by_its_name():
    """Its payments are in the ledger."""
    payment = Payment.parse_v1(DOCUMENT_V1 | {"network": "polygon"}, SHOP)

    assert payment.claim_key.startswith(
        f"eip3009:eip155:137:{NETWORKS['eip155:137'].token.lower()}"
    )


@pytest.mark.parametrize(
    ("unread", "field"),
    [(each, None) for each in (None, [], "x", 5, True)]
    + [({}, "x402Version")]
    + [(DOCUMENT_V1 | {"x402Version": v}, "x402Version") for v in (0, 2, True, 1.0, "1", None)]
    + [(DOCUMENT_V1 | {"network": value}, "network") for value in (None, 84532, [], {})]
    + [(DOCUMENT_V1 | {"scheme": value}, "scheme") for value in (None, 1, [], {})]
    + [(DOCUMENT_V1 | {"payload": value}, "payload") for value in (None, "0x", [])]
    + [
        (DOCUMENT_V1 | {"payload": {}}, "payload.authorization"),
        (DOCUMENT_V1 | {"payload": document()["payload"] | {"signature": 5}}, "payload.signature"),
    ],
)
def test_a_payment_of_version_1_is_read_as_strictly(unread, field):
    with pytest.raises(InvalidPayment) as refusal:
        Payment.parse_v1(unread, SHOP)

    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("name", "value"),
    [("to", value) for value in ADDRESSES]
    + [("validBefore", value) for value in NUMBERS]
    + [("nonce", value) for value in NONCES],
)
def test_a_malformed_signed_field_of_version_1_is_refused_by_its_name(name, value):
    payload = document(**signed(**{name: value}))["payload"]

    with pytest.raises(InvalidPayment) as refusal:
        Payment.parse_v1(DOCUMENT_V1 | {"payload": payload}, SHOP)

    assert refusal.value.field == f"payload.authorization.{name}"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (signed(to=PAYER), SOMEBODY_ELSE),
        (signed(value="9999"), OTHER_PRICE),
        (signed(validAfter=str(NOW + 1)), TOO_EARLY),
        (signed(validBefore=str(NOW + 59)), TOO_SHORT),
    ],
)
def test_a_payment_of_version_1_for_anything_else_is_told_why(changes, why):
    presented = DOCUMENT_V1 | {"payload": document(**changes)["payload"]}

    assert Payment.parse_v1(presented, SHOP).misfit(replace(ASKED, network=SEPOLIA), NOW) == why


def test_the_facilitator_is_shown_version_2_whatever_the_wrapping():
    asked = replace(ASKED, network=SEPOLIA)

    shown = Payment.parse_v1(DOCUMENT_V1, SHOP).as_json(asked)

    assert (shown["x402Version"], shown["accepted"]) == (2, asked.as_json())
    assert Payment.parse(shown) == Payment.parse_v1(DOCUMENT_V1, SHOP)
