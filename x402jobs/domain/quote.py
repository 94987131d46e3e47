"""What a 402 says: the price, and every way to pay it, in the words of both x402 versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from x402jobs.domain.money import as_usdc
from x402jobs.domain.payment import Payment, PaymentRequirements
from x402jobs.domain.prompt_template import PromptTemplate

MIME_TYPE = "text/event-stream"
OUTPUT = {
    "response": {
        "type": "string",
        "description": "Claude's answer: in one JSON reply with ?stream=false, else in text events",
    }
}


@dataclass(frozen=True)
class Quote:
    """The price of a resource.

    `requirements` are the ways to pay it, the preferred one first; there is at least one, and the
    amount is the same in each. `fields` describe what a caller may send, as `bodyFields` does.
    """

    url: str
    description: str
    requirements: tuple[PaymentRequirements, ...]
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def asked_of(self, payment: Payment) -> PaymentRequirements | None:
        """What is asked on this payment's network, None where nothing is."""
        return next(
            (each for each in self.requirements if each.network.id == payment.network), None
        )

    def as_json(self, error: str) -> dict[str, Any]:
        """The version 2 document of the PAYMENT-REQUIRED header."""
        return {
            "x402Version": 2,
            "error": error,
            "resource": {
                "url": self.url,
                "description": self.description,
                "mimeType": MIME_TYPE,
            },
            "accepts": [each.as_json() for each in self.requirements],
            "extensions": {},
        }

    def as_v1_json(self, error: str) -> dict[str, Any]:
        """The version 1 document of the body, with a price that people can read.

        It accepts payments on the networks that version 1 has a name for.
        """
        preferred = self.requirements[0]
        return {
            "x402Version": 1,
            "error": error,
            "price": {"usdc": as_usdc(preferred.amount), "network": preferred.network.id},
            "accepts": [
                self._v1_entry(each) for each in self.requirements if each.network.short_name
            ],
        }

    def _v1_entry(self, requirements: PaymentRequirements) -> dict[str, Any]:
        said = requirements.as_json()
        amount = said.pop("amount")
        return said | {
            "network": requirements.network.short_name,
            "maxAmountRequired": amount,
            "resource": self.url,
            "description": self.description,
            "mimeType": MIME_TYPE,
            "outputSchema": {
                "input": {
                    "type": "http",
                    "method": "POST",
                    "bodyType": "json",
                    "bodyFields": self.fields,
                },
                "output": OUTPUT,
            },
        }


def body_fields(template: PromptTemplate) -> dict[str, dict[str, Any]]:
    """What a caller may send, field by field, in the words of version 1's `bodyFields`."""
    fields: dict[str, dict[str, Any]] = {}
    for parameter in template.parameters:
        fields[parameter.name] = said = {
            "type": "string",
            "required": parameter.required and not parameter.default,
            "description": parameter.description or f"Parameter: {parameter.name}",
        }
        if parameter.default:
            said["default"] = parameter.default
        if parameter.enum:
            said["enum"] = list(parameter.enum)
    if template.allows_user_message:
        fields["user_message"] = {
            "type": "string",
            "required": False,
            "description": "A message to Claude",
        }
    return fields
