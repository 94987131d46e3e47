"""Payments verified and settled through the x402 SDK, which the server knows only here.

The SDK's Flask middleware is not used: it buffers whole answers (research/x402-sdk.md, 2.2).
"""

import re
import sys
from collections.abc import Iterable
from functools import lru_cache

import structlog
from eth_utils.address import to_checksum_address
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
from x402.mechanisms.evm.exact import register_exact_evm_server
from x402.schemas import (
    PaymentPayload,
    SettleResponse,
    SupportedKind,
    SupportedResponse,
    VerifyResponse,
)
from x402.schemas import PaymentRequirements as AskedRequirements
from x402.server import FacilitatorClientSync

from x402jobs import metrics
from x402jobs.adapters.bounded_http import within
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.facilitator.availability import Availability
from x402jobs.adapters.facilitator.remote import RemoteFacilitator
from x402jobs.adapters.facilitator.signer import recover
from x402jobs.domain.errors import FacilitatorUnavailable
from x402jobs.domain.networks import NETWORKS, Network
from x402jobs.domain.payment import SCHEME, Payment, PaymentRequirements
from x402jobs.ports import Clock, Refused, Settled, Trouble, Unknown, Verified

__all__ = ["DEFINITE", "RemoteFacilitator", "X402Facilitator", "recover"]

log = structlog.get_logger(__name__)

# eth-account imports py_ecc, which raises the process's limit to 100 000: a deeply nested JSON
# document, anybody's, would then crash the worker instead of raising RecursionError.
sys.setrecursionlimit(1000)

SUPPORTED_SECONDS = 5.0
VERIFY_SECONDS = 10.0
SETTLE_SECONDS = 90.0
"""Limits on a remote facilitator's answers, everything included (docs/facilitators.md)."""

_X402_VERSION = 2
_CLOCK = SystemClock()

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

NO_ANSWER = Trouble(
    "no_answer", "The facilitator does not say what it supports, or not in words that can be read."
)

_CODE = re.compile(r"[a-z0-9_]{1,80}")
_TRANSACTION = re.compile(r"0x[0-9a-fA-F]{64}")


class X402Facilitator:
    """ports.Facilitator over the SDK's resource server.

    The client is anything with the SDK's three facilitator methods: a facilitator in this process
    or a remote one. Building this does no I/O: the SDK's tables are filled with every network we
    know, since a row may still be settling on one that is offered no longer, and what the
    facilitator itself supports is asked when somebody wants to pay.
    """

    def __init__(
        self,
        client: FacilitatorClientSync,
        networks: Iterable[Network] = NETWORKS.values(),
        settle_seconds: float = SETTLE_SECONDS,
        clock: Clock = _CLOCK,
    ) -> None:
        known = [network.id for network in networks]
        self._client = client
        self._server = x402ResourceServerSync(_Witness(client, known))
        register_exact_evm_server(self._server, known)
        self._server.initialize()
        self._availability = Availability(self._ask, clock)
        self._settle_seconds = settle_seconds

    def offers(self, network: Network) -> bool:
        return self._availability.covers(network.id)

    def trouble(self, networks: Iterable[Network]) -> Trouble | None:
        """Why payments on these networks cannot all be taken now; None where they can.

        For who watches: waits some seconds at most, and never raises.
        """
        supported = self._availability.watch()
        if supported is None:
            return NO_ANSWER
        missing = [network.id for network in networks if network.id not in supported]
        if not missing:
            return None
        pairs = ", ".join(f"{SCHEME} on {name}" for name in missing)
        return Trouble(
            "not_supported", f"The facilitator does not support {pairs}, which X402_NETWORKS names."
        )

    def signer(self, payment: Payment, network: Network) -> str | None:
        return recover(payment.authorization, payment.signature, network)

    def verify(self, payment: Payment, requirements: PaymentRequirements) -> Verified | Refused:
        if not self.offers(requirements.network):
            raise FacilitatorUnavailable()
        try:
            with within(VERIFY_SECONDS), metrics.waiting("facilitator_verify"):
                said = self._server.verify_payment(
                    _Presented.of(payment, requirements), _asked(requirements)
                )
            verdict = _verdict(said.verify, payment)
        except Exception as error:
            kind = type(error).__name__
        else:
            self._availability.answered()
            return verdict
        # Out here, where nothing hangs on the error: its text can quote the facilitator.
        log.warning("verify_unanswered", exception_type=kind)
        self._availability.failed()
        raise FacilitatorUnavailable()

    def settle(
        self, payment: Payment, requirements: PaymentRequirements
    ) -> Settled | Refused | Unknown:
        """Asked even while the facilitator counts as down: it has verified this payment."""
        try:
            payload = _Presented.of(payment, requirements)
            # The SDK's second try included.
            with within(self._settle_seconds), metrics.waiting("facilitator_settle"):
                said = self._server.settle_payment(payload, _asked(requirements))
            outcome = _outcome(said, payload.broadcast, payment, requirements)
        except Exception as error:
            kind = type(error).__name__
            reason = error.reason if isinstance(error, _Meaningless) else "no_answer"
        else:
            self._availability.answered()
            return outcome
        log.warning("settle_unanswered", exception_type=kind, reason=reason)
        self._availability.failed()
        return Unknown(reason)

    def _ask(self) -> Iterable[str]:
        """The networks on which the facilitator supports what we ask for."""
        with within(SUPPORTED_SECONDS), metrics.waiting("facilitator_supported"):
            said = self._client.get_supported()
        return [
            kind.network
            for kind in said.kinds
            if (kind.x402_version, kind.scheme) == (_X402_VERSION, SCHEME)
        ]


class _Meaningless(Exception):
    """An answer that cannot be about this payment."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Presented(PaymentPayload):
    """Our payload, which remembers whether an answer about it named a transaction."""

    _broadcast: bool = PrivateAttr(default=False)

    @classmethod
    def of(cls, payment: Payment, requirements: PaymentRequirements) -> "_Presented":
        """Addresses in EIP-55's spelling: the SDK's own facilitator hands them on to web3, which
        takes no other, and says after verifying that the transaction has failed."""
        presented = cls.model_validate(payment.as_json(requirements))
        signed = presented.payload["authorization"]
        signed |= {name: _spelled(signed[name]) for name in ("from", "to")}
        return presented

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

    def __init__(self, client: FacilitatorClientSync, known: Iterable[str]) -> None:
        self._client = client
        self._known = known

    def get_supported(self) -> SupportedResponse:
        """For the SDK's tables alone, which never forget: asking is `Availability`'s business."""
        return SupportedResponse(
            kinds=[
                SupportedKind(x402_version=_X402_VERSION, scheme=SCHEME, network=network)
                for network in self._known
            ]
        )

    def verify(self, payload: PaymentPayload, requirements: AskedRequirements) -> VerifyResponse:
        return self._client.verify(payload, requirements)

    def settle(self, payload: PaymentPayload, requirements: AskedRequirements) -> SettleResponse:
        answer = self._client.settle(payload, requirements)
        if isinstance(payload, _Presented):
            payload.note(answer)
        return answer


_spelled = lru_cache(maxsize=1024)(to_checksum_address)
"""EIP-55's spelling, a hash for each address: they come again at settling, and many come often."""


def _asked(requirements: PaymentRequirements) -> AskedRequirements:
    return AskedRequirements.model_validate(requirements.as_json())


def _verdict(said: VerifyResponse, payment: Payment) -> Verified | Refused:
    if said.is_valid is True and _is_payer(said.payer, payment):
        return Verified()
    if said.is_valid is False:
        return Refused(_code(said.invalid_reason))
    raise _Meaningless("not_ours")


def _outcome(
    said: SettleResponse, broadcast: bool, payment: Payment, asked: PaymentRequirements
) -> Settled | Refused | Unknown:
    if not (
        _is_payer(said.payer, payment)
        and (not said.network or asked.network.is_called(said.network))
        and (not said.success or not said.amount or said.amount == str(asked.amount))
    ):
        raise _Meaningless("not_ours")
    if said.success is True:
        if _TRANSACTION.fullmatch(said.transaction) is None:
            raise _Meaningless("no_transaction")
        return Settled(said.transaction.lower())
    if said.success is False and said.error_reason in DEFINITE and not broadcast:
        return Refused(said.error_reason)
    return Unknown(_code(said.error_reason))


def _is_payer(said: str | None, payment: Payment) -> bool:
    """Whether the answer is about this payer, as far as it says."""
    return not said or said.lower() == payment.authorization.payer


def _code(reason: str | None) -> str:
    """The facilitator's reason if it is a code; a sentence of its own is not passed on."""
    return reason if reason and _CODE.fullmatch(reason) else "unexplained"
