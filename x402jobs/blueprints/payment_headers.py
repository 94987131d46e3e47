"""The x402 headers of both versions: a payment in, a quote and what became of the payment out."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from flask import request
from werkzeug.datastructures import Headers

from x402jobs.blueprints import services
from x402jobs.domain import strict_json
from x402jobs.domain.errors import InvalidPayment
from x402jobs.domain.execution import Execution
from x402jobs.domain.networks import Networks
from x402jobs.domain.payment import Payment

V2, V1 = "PAYMENT-SIGNATURE", "X-PAYMENT"


def read_payment(headers: Headers, networks: Networks) -> Payment | None:
    """The payment a request carries, None when it carries none. Raises InvalidPayment.

    The server joins a header that comes twice with a comma, which no base64 has.
    """
    if V1 in headers and V2 in headers:
        raise InvalidPayment(f"{V1} and {V2} were both sent.", field=V1)
    name = V1 if V1 in headers else V2
    encoded = headers.get(name)
    if encoded is None:
        return None
    try:
        document = strict_json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidPayment(f"{name} is not base64 of a JSON object.", field=name) from None
    return Payment.parse_v1(document, networks) if name == V1 else Payment.parse(document)


def payment_required(document: Mapping[str, Any]) -> dict[str, str]:
    """The header that carries a quote."""
    return {"PAYMENT-REQUIRED": _encode(document)}


def payment_response(execution: Execution, reason: str | None = None) -> dict[str, str]:
    """The header that says what became of a payment; none where nothing was paid or refused.

    It speaks the version in which this request's payment came, whatever an earlier one used.
    """
    receipt = execution.receipt
    if receipt is None and reason is None:
        return {}
    said: dict[str, Any] = {
        "success": receipt is not None,
        "transaction": receipt.transaction if receipt is not None else "",
        "network": execution.network,
        "payer": execution.payer,
    }
    if receipt is None:
        said["errorReason"] = reason
    if V1 in request.headers:
        known = services.pricing.networks.known(execution.network or "")
        said["network"] = known.short_name if known is not None else execution.network
        return {"X-PAYMENT-RESPONSE": _encode(said)}
    said["amount"] = str(execution.amount)
    if receipt is not None and receipt.development:
        said["extra"] = {"development": True}
    return {"PAYMENT-RESPONSE": _encode(said)}


def _encode(document: Mapping[str, Any]) -> str:
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()
