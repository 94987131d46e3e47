"""Payments verified and settled through the x402 SDK, which the server knows only here.

The SDK's Flask middleware is not used: it buffers whole answers (research/x402-sdk.md, 2.2).
"""

import re
import sys
from collections.abc import Iterable

import structlog
from eth_abi.exceptions import EncodingError
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from pydantic import PrivateAttr
from x402 import x402ResourceServerSync
from x402.mechanisms.evm.constants import (
    ERR_AUTHORIZATION_VALUE_MISMATCH,
    ERR_FAILED_TO_GET_NETWORK_CONFIG,
    ERR_INSUFFICIENT_BALANCE,
    ERR_INVALID_SIGNATURE,
    ERR_MISSING_EIP712_DOMAIN,
    ERR_NETWORK_MISMATCH,
    ERR_RECIPIENT_MISMATCH,
    ERR_TOKEN_NAME_MISMATCH,
    ERR_TOKEN_VERSION_MISMATCH,
    ERR_UNSUPPORTED_SCHEME,
    ERR_VALID_AFTER_FUTURE,
)
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.exact import register_exact_evm_server
from x402.mechanisms.evm.types import ExactEIP3009Authorization
from x402.schemas import PaymentPayload, SettleResponse, SupportedResponse, VerifyResponse
from x402.schemas import PaymentRequirements as AskedRequirements
from x402.server import FacilitatorClientSync

from x402jobs.domain.errors import FacilitatorUnavailable
from x402jobs.domain.networks import NETWORKS, Network
from x402jobs.domain.payment import SCHEME, Authorization, Payment, PaymentRequirements
from x402jobs.ports import Refused, Settled, Unknown, Verified

log = structlog.get_logger(__name__)

# eth-account imports py_ecc, which raises the process's limit to 100 000: a deeply nested JSON
# document, anybody's, would then crash the worker instead of raising RecursionError.
sys.setrecursionlimit(1000)

DEFINITE = frozenset(
    {
        ERR_AUTHORIZATION_VALUE_MISMATCH,
        ERR_FAILED_TO_GET_NETWORK_CONFIG,
        ERR_INSUFFICIENT_BALANCE,
        ERR_INVALID_SIGNATURE,
        ERR_MISSING_EIP712_DOMAIN,
        ERR_NETWORK_MISMATCH,
        ERR_RECIPIENT_MISMATCH,
        ERR_TOKEN_NAME_MISMATCH,
        ERR_TOKEN_VERSION_MISMATCH,
        ERR_UNSUPPORTED_SCHEME,
        ERR_VALID_AFTER_FUTURE,
    }
)
"""Refusals to settle after which nothing has moved, and nothing had before (spec/money.md).

The SDK gives each of them before it broadcasts, and a token looks at its used nonces before it
looks at a balance. So each also says that the same authorization was not settled earlier, in a call
whose answer we lost. These do not say that, and stay Unknown: `nonce_already_used`, of course;
`valid_before`, which the SDK compares first of all, so that a settled payment whose window has
closed looks like one that came too late; `failed_to_verify_signature` and
`transaction_simulation_failed`, which may only mean that a node did not answer.
"""

_HALF_THE_CURVE = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_CODE = re.compile(r"[a-z0-9_]{1,80}")
_TRANSACTION = re.compile(r"0x[0-9a-fA-F]{64}")


class X402Facilitator:
    """ports.Facilitator over the SDK's resource server.

    The client is anything with the SDK's three facilitator methods: a facilitator in this process
    or an HTTP client. It is asked what it supports on the first use, and again as long as it does
    not answer or does not name the network, so that building this does no I/O.
    """

    def __init__(
        self, client: FacilitatorClientSync, networks: Iterable[Network] = NETWORKS.values()
    ) -> None:
        self._server = x402ResourceServerSync(_Witness(client))
        self._supported: frozenset[str] = frozenset()
        self._networks = [network.id for network in networks]
        register_exact_evm_server(self._server, self._networks)

    def offers(self, network: Network) -> bool:
        return True

    def signer(self, payment: Payment, network: Network) -> str | None:
        return recover(payment.authorization, payment.signature, network)

    def verify(self, payment: Payment, requirements: PaymentRequirements) -> Verified | Refused:
        try:
            said = self._ready(requirements).verify_payment(
                _Presented.of(payment, requirements), _asked(requirements)
            )
            match said.is_valid:
                case True:
                    return Verified()
                case False:
                    return Refused(_code(said.invalid_reason))
        except Exception as error:
            log.warning("verify_unanswered", exception_type=type(error).__name__)
        raise FacilitatorUnavailable()

    def settle(
        self, payment: Payment, requirements: PaymentRequirements
    ) -> Settled | Refused | Unknown:
        try:
            payload = _Presented.of(payment, requirements)
            said = self._ready(requirements).settle_payment(payload, _asked(requirements))
            return _outcome(said, payload.broadcast)
        except Exception as error:
            log.warning("settle_unanswered", exception_type=type(error).__name__)
            return Unknown("no_answer")

    def _ready(self, requirements: PaymentRequirements) -> x402ResourceServerSync:
        """The server, once the facilitator has said that it serves this network."""
        if requirements.network.id not in self._supported:
            self._server.initialize()  # two threads may both come here: it only fills tables
            self._supported = frozenset(filter(self._offers, self._networks))
        return self._server

    def _offers(self, network: str) -> bool:
        return self._server.get_supported_kind(2, network, SCHEME) is not None


def recover(signed: Authorization, signature: bytes, network: Network) -> str | None:
    """Whose key signed this authorization for the network's token: a lower-case address, or None.

    As strict as Circle's token: 65 bytes, v 27 or 28, s in the lower half of the curve's order.
    The SDK's verifier would take a v of 0 or 1 and either s; no client of the SDK's makes them.
    """
    v, s = signature[64:], int.from_bytes(signature[32:64])
    if v not in (b"\x1b", b"\x1c") or not 0 < s <= _HALF_THE_CURVE:
        return None
    try:
        digest = hash_eip3009_authorization(
            ExactEIP3009Authorization(
                from_address=signed.payer,
                to=signed.to,
                value=str(signed.value),
                valid_after=str(signed.valid_after),
                valid_before=str(signed.valid_before),
                nonce=signed.nonce,
            ),
            network.chain_id,
            network.token,
            network.token_name,
            network.token_version,
        )
        recoverable = Signature(signature[:64] + bytes([v[0] - 27]))
        return str(recoverable.recover_public_key_from_msg_hash(digest).to_address())
    except (BadSignature, ValidationError, EncodingError):  # no such point; a number over 256 bits
        return None


class _Presented(PaymentPayload):
    """Our payload, which remembers whether an answer about it named a transaction."""

    _broadcast: bool = PrivateAttr(default=False)

    @classmethod
    def of(cls, payment: Payment, requirements: PaymentRequirements) -> "_Presented":
        return cls.model_validate(payment.as_json(requirements))

    @property
    def broadcast(self) -> bool:
        return self._broadcast

    def note(self, answer: SettleResponse) -> None:
        self._broadcast |= bool(answer.transaction)


class _Witness:
    """The facilitator's client, every settle answer of which is noted.

    The SDK repeats a pending settle once and gives us the second answer alone. Another replica may
    then refuse, as not signed or not covered, what the first one has sent on its way.
    """

    def __init__(self, client: FacilitatorClientSync) -> None:
        self._client = client

    def get_supported(self) -> SupportedResponse:
        return self._client.get_supported()

    def verify(self, payload: PaymentPayload, requirements: AskedRequirements) -> VerifyResponse:
        return self._client.verify(payload, requirements)

    def settle(self, payload: PaymentPayload, requirements: AskedRequirements) -> SettleResponse:
        answer = self._client.settle(payload, requirements)
        if isinstance(payload, _Presented):
            payload.note(answer)
        return answer


def _asked(requirements: PaymentRequirements) -> AskedRequirements:
    return AskedRequirements.model_validate(requirements.as_json())


def _outcome(said: SettleResponse, broadcast: bool) -> Settled | Refused | Unknown:
    if said.success is True:
        if _TRANSACTION.fullmatch(said.transaction) is None:
            return Unknown("no_transaction")
        return Settled(said.transaction.lower())
    if said.success is False and said.error_reason in DEFINITE and not broadcast:
        return Refused(said.error_reason)
    return Unknown(_code(said.error_reason))


def _code(reason: str | None) -> str:
    """The facilitator's reason if it is a code; a sentence of its own is not passed on."""
    return reason if reason and _CODE.fullmatch(reason) else "unexplained"
