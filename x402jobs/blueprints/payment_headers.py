"""The x402 headers: what comes in as PAYMENT-SIGNATURE, what goes out as PAYMENT-…"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Headers

from x402jobs.domain import strict_json
from x402jobs.domain.errors import InvalidPayment
from x402jobs.domain.execution import Execution
from x402jobs.domain.payment import Payment

V2, V1 = "PAYMENT-SIGNATURE", "X-PAYMENT"


def read_payment(headers: Headers) -> Payment | None:
    """The payment a request carries, None when it carries none. Raises InvalidPayment.

    The server joins a header that comes twice with a comma, which no base64 has.
    """
    if V1 in headers:
        raise InvalidPayment(
            f"{V1} and {V2} were both sent."
            if V2 in headers
            else f"This resource takes x402 version 2 payments: send {V2}.",
            field=V1,
        )
    encoded = headers.get(V2)
    if encoded is None:
        return None
    try:
        document = strict_json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidPayment(f"{V2} is not base64 of a JSON object.", field=V2) from None
    return Payment.parse(document)


def payment_required(document: Mapping[str, Any]) -> dict[str, str]:
    """The header that carries a quote."""
    return {"PAYMENT-REQUIRED": _encode(document)}


def payment_response(execution: Execution, reason: str | None = None) -> dict[str, str]:
    """The header that says what became of a payment; none where nothing was paid or refused."""
    receipt = execution.receipt
    if receipt is None and reason is None:
        return {}
    said = {
        "success": receipt is not None,
        "transaction": receipt.transaction if receipt is not None else "",
        "network": execution.network,
        "payer": execution.payer,
        "amount": str(execution.amount),
    }
    if receipt is None:
        said["errorReason"] = reason
    elif receipt.development:
        said["extra"] = {"development": True}
    return {"PAYMENT-RESPONSE": _encode(said)}


def _encode(document: Mapping[str, Any]) -> str:
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()
