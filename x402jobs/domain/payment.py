"""What is asked, what is presented and what was paid, in the x402 specification's words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from x402jobs.domain.errors import InvalidPayment
from x402jobs.domain.money import as_usdc
from x402jobs.domain.networks import Network, Networks

SCHEME = "exact"
MAX_TIMEOUT_SECONDS = 120
"""How long a quote asks a signature to live; spec/money.md."""
LEAST_SECONDS_LEFT = 60
"""An authorization with less left than this is refused as too short; spec/money.md."""
SETTLE_MARGIN_SECONDS = 20
"""Nothing is begun that could settle later than this before `validBefore`; spec/money.md."""

OTHER_REQUIREMENTS = "The accepted requirements are not the ones this resource asks for."

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NONCE = re.compile(r"0x[0-9a-fA-F]{64}")
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})+")
_UINT = re.compile(r"0|[1-9][0-9]{0,77}")
_ONE_PART = re.compile(r"[^:]*")
"""Where the network ends and the token begins must be plain, or two claims could share a key."""


@dataclass(frozen=True)
class PaymentRequirements:
    """One entry of a quote's `accepts`. `amount` is in micro-USDC, `pay_to` the payee's address."""

    network: Network
    amount: int
    pay_to: str

    def as_json(self) -> dict[str, Any]:
        """The x402 version 2 form."""
        return {
            "scheme": SCHEME,
            "network": self.network.id,
            "asset": self.network.token,
            "amount": str(self.amount),
            "payTo": self.pay_to,
            "maxTimeoutSeconds": MAX_TIMEOUT_SECONDS,
            "extra": {"name": self.network.token_name, "version": self.network.token_version},
        }


@dataclass(frozen=True)
class Authorization:
    """The signed fields of an EIP-3009 `TransferWithAuthorization`.

    Addresses and nonce are lower-case hex, `value` is in micro-USDC, times are unix seconds.
    """

    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str

    def as_json(self) -> dict[str, str]:
        """The form x402 payloads carry."""
        return {
            "from": self.payer,
            "to": self.to,
            "value": str(self.value),
            "validAfter": str(self.valid_after),
            "validBefore": str(self.valid_before),
            "nonce": self.nonce,
        }


@dataclass(frozen=True)
class Payment:
    """What a caller presents: an authorization, its signature, and what they say they accepted.

    The last five fields are the caller's word, signed by nobody: enough to look something up or to
    refuse it, never enough to believe it. `network` is a CAIP-2 name where it is one we know.
    """

    authorization: Authorization
    signature: bytes
    scheme: str
    network: str
    asset: str
    amount: str
    pay_to: str

    @property
    def claim_key(self) -> str:
        """One text per authorization, however it was wrapped, spelled or capitalised."""
        signed = self.authorization
        return f"eip3009:{self.network}:{self.asset}:{signed.payer}:{signed.nonce}"

    @classmethod
    def parse(cls, document: Any) -> "Payment":
        """Read an x402 version 2 `PaymentPayload`. Raises InvalidPayment naming the field."""
        _expect_version(document, 2)
        accepted = _object(document.get("accepted"), "accepted")
        authorization, signature = _signed(document)
        return cls(
            authorization=authorization,
            signature=signature,
            scheme=_text(accepted, "scheme", "accepted."),
            network=_text(accepted, "network", "accepted."),
            asset=_text(accepted, "asset", "accepted.", _ONE_PART).lower(),
            amount=_text(accepted, "amount", "accepted."),
            pay_to=_text(accepted, "payTo", "accepted.").lower(),
        )

    @classmethod
    def parse_v1(cls, document: Any, networks: Networks) -> "Payment":
        """Read an x402 version 1 `PaymentPayload`. Raises InvalidPayment naming the field.

        Version 1 accepts no token, amount or payee by name: they are the network's token and the
        signature's own words. A network of no known name keeps it, and no quote asks for that.
        """
        _expect_version(document, 1)
        name = _text(document, "network", "")
        network = networks.known(name)
        authorization, signature = _signed(document)
        if network is None or network.short_name != name:
            at, token = name, ""
        else:
            at, token = network.id, network.token.lower()
        return cls(
            authorization=authorization,
            signature=signature,
            scheme=_text(document, "scheme", ""),
            network=at,
            asset=token,
            amount=str(authorization.value),
            pay_to=authorization.to,
        )

    def as_json(self, requirements: PaymentRequirements) -> dict[str, Any]:
        """The payload to show a facilitator: the signed fields, and *our* requirements.

        Always in version 2's form, whichever the caller has used.
        """
        return {
            "x402Version": 2,
            "accepted": requirements.as_json(),
            "payload": {
                "signature": "0x" + self.signature.hex(),
                "authorization": self.authorization.as_json(),
            },
        }

    def misfit(self, requirements: PaymentRequirements, now: float) -> str | None:
        """Why this payment does not fit what we ask, or None when it does.

        The signed fields decide; what the caller says they accepted must agree as well.
        """
        signed, asked = self.authorization, requirements
        accepted = (self.scheme, self.network, self.asset, self.amount, self.pay_to)
        ours = (SCHEME, asked.network.id, asked.network.token, str(asked.amount), asked.pay_to)
        if signed.to != asked.pay_to.lower():
            return "The authorization pays somebody else."
        if signed.value != asked.amount:
            return "The authorization is not for the exact price."
        if accepted != tuple(part.lower() for part in ours):
            return OTHER_REQUIREMENTS
        if signed.valid_after > now:
            return "The authorization is not valid yet."
        if signed.valid_before - now < LEAST_SECONDS_LEFT:
            return f"The authorization has less than {LEAST_SECONDS_LEFT} seconds left."
        return None


@dataclass(frozen=True)
class Receipt:
    """Proof that money moved: `amount` micro-USDC from `payer`, in one transaction."""

    transaction: str
    network: str
    payer: str
    amount: int
    development: bool = False

    def as_json(self) -> dict[str, Any]:
        """The receipt of an event or an error body; play money says that it is."""
        said = {
            "transaction": self.transaction,
            "network": self.network,
            "payer": self.payer,
            "paidUsdc": as_usdc(self.amount),
        }
        return said | ({"development": True} if self.development else {})


@dataclass(frozen=True)
class Credit:
    """What is owed: `amount` micro-USDC, usable as that many free re-runs of the same payment."""

    amount: int
    reruns_left: int

    def as_json(self) -> dict[str, Any]:
        """The credit of an event or an error body."""
        return {"amountUsdc": as_usdc(self.amount), "rerunsLeft": self.reruns_left}


def _expect_version(document: Any, version: int) -> None:
    said = _object(document, "").get("x402Version")
    if type(said) is int and said == version:  # not True, and not 1.0
        return
    raise InvalidPayment(
        f"x402Version must be {version} here: 2 goes into PAYMENT-SIGNATURE, 1 into X-PAYMENT.",
        field="x402Version",
    )


def _signed(document: Mapping[str, Any]) -> tuple[Authorization, bytes]:
    """The part of a payment that both versions share: the authorization and its signature."""
    payload = _object(document.get("payload"), "payload")
    signed = _object(payload.get("authorization"), "payload.authorization")

    def field(name: str, shape: re.Pattern[str]) -> str:
        return _text(signed, name, "payload.authorization.", shape).lower()

    authorization = Authorization(
        payer=field("from", _ADDRESS),
        to=field("to", _ADDRESS),
        value=int(field("value", _UINT)),
        valid_after=int(field("validAfter", _UINT)),
        valid_before=int(field("validBefore", _UINT)),
        nonce=field("nonce", _NONCE),
    )
    return authorization, bytes.fromhex(_text(payload, "signature", "payload.", _HEX)[2:])


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidPayment(f"{field or 'The payment'} must be an object.", field=field or None)
    return value


def _text(
    source: Mapping[str, Any], name: str, prefix: str, shape: re.Pattern[str] | None = None
) -> str:
    value = source.get(name)
    if not isinstance(value, str) or (shape is not None and shape.fullmatch(value) is None):
        raise InvalidPayment(f"{prefix}{name} is missing or malformed.", field=f"{prefix}{name}")
    return value
