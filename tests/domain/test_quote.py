"""The price, to the last micro-dollar, in the words of both x402 versions."""

from dataclasses import replace
from decimal import Decimal

import pytest
from x402.schemas.v1 import PaymentRequiredV1

from x402jobs.domain.money import parse_usdc
from x402jobs.domain.networks import DEVELOPMENT, NETWORKS
from x402jobs.domain.payment import Authorization, Payment, PaymentRequirements
from x402jobs.domain.prompt_template import Parameter, PromptTemplate
from x402jobs.domain.quote import Quote, body_fields

PAY_TO = "0x" + "Cd" * 20
URL = "https://shop.example/@ada/haiku"
PLAY = PaymentRequirements(DEVELOPMENT, 10_000, PAY_TO)
BASE = replace(PLAY, network=NETWORKS["eip155:8453"])
SEPOLIA = replace(PLAY, network=NETWORKS["eip155:84532"])
TEMPLATE = PromptTemplate(
    *("t1", 4, "ada", "/@ada/haiku", "Haiku", "", 10_000, ""), [], "claude", 100, False
)


def test_version_2_lists_every_way_to_pay_the_preferred_one_first():
    quote = Quote(URL, "A haiku", (SEPOLIA, PLAY, BASE)).as_json("Payment required.")

    assert (quote["x402Version"], quote["error"]) == (2, "Payment required.")
    assert quote["resource"] == {
        "url": URL,
        "description": "A haiku",
        "mimeType": "text/event-stream",
    }
    assert [each["network"] for each in quote["accepts"]] == [
        *("eip155:84532", "eip155:31337", "eip155:8453")
    ]
    assert quote["accepts"][1] == {
        "scheme": "exact",
        "network": "eip155:31337",
        "asset": DEVELOPMENT.token,
        "amount": "10000",
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 120,
        "extra": {"name": "Development Dollar", "version": "1"},
    }


def test_version_1_lists_the_networks_it_has_a_name_for():
    fields = {"topic": {"type": "string", "required": True, "description": "What it is about"}}

    quote = Quote(URL, "A haiku", (PLAY, SEPOLIA, BASE), fields).as_v1_json("Payment required.")

    assert (quote["x402Version"], quote["error"]) == (1, "Payment required.")
    assert quote["price"] == {"usdc": "0.01", "network": "eip155:31337"}
    assert [each["network"] for each in quote["accepts"]] == ["base-sepolia", "base"]
    output = quote["accepts"][0]["outputSchema"].pop("output")
    assert output["response"]["type"] == "string"
    assert quote["accepts"][0] == {
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "resource": URL,
        "description": "A haiku",
        "mimeType": "text/event-stream",
        "outputSchema": {
            "input": {"type": "http", "method": "POST", "bodyType": "json", "bodyFields": fields}
        },
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 120,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "extra": {"name": "USDC", "version": "2"},
    }


def test_the_official_sdk_reads_version_1():
    quote = Quote(URL, "A haiku", (BASE,), body_fields(TEMPLATE)).as_v1_json("Payment required.")

    (asked,) = PaymentRequiredV1.model_validate(quote).accepts

    assert (asked.network, asked.max_amount_required, asked.pay_to) == ("base", "10000", PAY_TO)


def test_every_price_is_the_same_exact_integer_wherever_it_is_said():
    thousandths = [*range(1, 20_001), 1_000_000]
    for number in thousandths:
        price = f"{number // 1000}.{number % 1000:03d}"
        asked = replace(BASE, amount=parse_usdc(price))
        quote = Quote(URL, "", (asked,))

        (v2,), v1 = quote.as_json("")["accepts"], quote.as_v1_json("")

        micro = str(number * 1000)
        assert (v2["amount"], v1["accepts"][0]["maxAmountRequired"]) == (micro, micro)
        assert Decimal(v1["price"]["usdc"]) == Decimal(price)


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        (Parameter("topic"), {"required": True, "description": "Parameter: topic"}),
        (
            Parameter("topic", description="What it is about", required=False),
            {"required": False, "description": "What it is about"},
        ),
        (
            Parameter("topic", default="rain"),  # nobody has to send what has a default
            {"required": False, "description": "Parameter: topic", "default": "rain"},
        ),
        (
            Parameter("topic", enum=("rain", "snow")),
            {"required": True, "description": "Parameter: topic", "enum": ["rain", "snow"]},
        ),
    ],
)
def test_a_parameter_says_what_a_caller_needs_to_know(parameter, field):
    template = replace(TEMPLATE, parameters=[parameter], system_prompt="{topic}{/topic}")

    assert body_fields(template) == {"topic": {"type": "string"} | field}


def test_a_message_is_a_field_where_the_template_takes_one():
    fields = body_fields(replace(TEMPLATE, allows_user_message=True))

    assert fields["user_message"]["required"] is False


def test_a_quote_finds_what_it_asks_on_a_payments_network():
    signed = Authorization("0x", "0x", 1, 0, 0, "0x")

    def asked_on(network):
        payment = Payment(signed, b"", "exact", network, "", "1", "0x")
        return Quote(URL, "", (PLAY, BASE)).asked_of(payment)

    assert asked_on("eip155:8453") == BASE
    assert asked_on("eip155:31337") == PLAY
    assert asked_on("eip155:84532") is None
    assert asked_on("base") is None
