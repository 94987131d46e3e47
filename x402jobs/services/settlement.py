"""Taking the money, and finding out whether it has been taken (spec/money.md, What settle said)."""

import json
from threading import Event

import structlog

from x402jobs import metrics
from x402jobs.domain.errors import (
    SettlementUnknown,
    StoreUnavailable,
    TransferUsed,
    Unreadable,
    X402JobsError,
)
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.networks import Networks
from x402jobs.domain.payment import Payment, PaymentRequirements
from x402jobs.ports import (
    Canceled,
    Chain,
    Clock,
    Facilitator,
    Ledger,
    Place,
    Refused,
    SecretBox,
    Settled,
    SpentElsewhere,
    Transferred,
    Unknown,
    Unused,
)
from x402jobs.services.left_rows import LeftRows

CONFIRM_SECONDS = 30.0
"""How long a caller waits for the chain to show what the facilitator says it has done."""
LOOK_SECONDS = 1.0
CANCELED, EXPIRED = "authorization_canceled", "authorization_expired"
SPENT_ELSEWHERE = "authorization_spent_elsewhere"

Said = Settled | Refused | Unknown

log = structlog.get_logger(__name__)


class Settlement:
    """The step between a claim and an answer, for whoever is in it and for whoever finds it.

    The chain has the last word. Without one, which only development allows, the facilitator's is
    taken for it.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        facilitator: Facilitator,
        chain: Chain | None,
        box: SecretBox,
        clock: Clock,
        networks: Networks,
        left: LeftRows,
    ) -> None:
        self._ledger = ledger
        self._facilitator = facilitator
        self._chain = chain
        self._box = box
        self._clock = clock
        self._networks = networks
        self._left = left

    def settle(self, claimed: Execution, payment: Payment, asked: PaymentRequirements) -> Execution:
        """Take the money: the row afterwards, `settled`, or `released` where nothing has moved.

        `settling` is written down before the facilitator is asked. Raises SettlementUnknown where
        the money may have moved: the row stays so, and is left for recovery.
        """
        sealed = self._box.seal(json.dumps(payment.as_json(asked)), payment_place(claimed.id))
        row = claimed.become(State.SETTLING)
        self._ledger.swap(claimed, row, sealed_payment=sealed)
        try:
            said = self._facilitator.settle(payment, asked)
            after = self._wait_for_judgement(row, payment, asked, said)
            if after is not None:
                self._ledger.swap(row, after)
                note_settled(after)
                return after
            log.error("settle_unknown", execution_id=row.id, reason=getattr(said, "reason", None))
        except (StoreUnavailable, TransferUsed) as trouble:
            log.error("settled_unwritten", execution_id=row.id, reason=type(trouble).__name__)
        except BaseException:
            self._left.leave(row)
            raise
        self._left.leave(row)
        raise SettlementUnknown(execution=row)

    def decide(self, row: Execution, sealed_payment: str | None) -> Execution | None:
        """The row after a settlement that was left: settled or released, None while not known.

        Writes nothing. Whoever lost the facilitator's answer may have lost the question as well.
        The same authorization never moves money twice, so it is asked once more; a refusal does
        not release the row, since the first question may still be on its way to the chain.
        """
        try:
            payment, asked = self._presented(row, sealed_payment)
        except (Unreadable, X402JobsError, ValueError, KeyError, TypeError) as error:
            kind = type(error).__name__
            log.error("payment_unreadable", execution_id=row.id, exception_type=kind)
            return None
        after = self._judge(row, payment, asked, Unknown("left"))
        if after is not None:
            return after
        said = self._facilitator.settle(payment, asked)
        if self._chain is not None and isinstance(said, Refused):
            said = Unknown(said.reason)
        return self._judge(row, payment, asked, said)

    def _wait_for_judgement(
        self, row: Execution, payment: Payment, asked: PaymentRequirements, said: Said
    ) -> Execution | None:
        """A chain needs some blocks to show what a facilitator says it has done, or not done."""
        said_at, until = self._clock.now(), self._clock.monotonic() + CONFIRM_SECONDS
        while True:
            after = self._judge(row, payment, asked, said, said_at)
            waits = isinstance(said, Settled | Refused) and self._clock.monotonic() < until
            if after is not None or not waits:
                return after
            with metrics.waiting("chain_blocks"):
                Event().wait(LOOK_SECONDS)

    def _judge(
        self,
        row: Execution,
        payment: Payment,
        asked: PaymentRequirements,
        said: Said,
        said_at: float = 0.0,
    ) -> Execution | None:
        """The row after this answer and what the chain shows; None where that is not enough."""
        if self._chain is None:
            match said:
                case Settled(transaction):
                    return self._paid(row, transaction, None)
                case Refused(reason):
                    return self._released(row, reason)
            return None
        valid_before = payment.authorization.valid_before
        with metrics.waiting("chain"):
            seen = self._chain.look(payment.authorization, asked.network, row.created_at)
        match said, seen:
            case _, Transferred(transaction, log_index):
                return self._paid(row, transaction, log_index)
            case _, Canceled():
                return self._released(row, CANCELED)
            case _, SpentElsewhere():
                return self._released(row, SPENT_ELSEWHERE)
            case _, Unused(at) if at > valid_before:
                return self._released(row, EXPIRED)
            case Refused(reason), Unused(at) if at >= said_at:
                return self._released(row, reason)
            case _:
                log.info("not_judged", execution_id=row.id, reason=type(seen).__name__.lower())
        return None

    def _paid(self, row: Execution, transaction: str, log_index: int | None) -> Execution:
        now = self._clock.now()
        facts = {"transaction": transaction, "log_index": log_index, "settled_at": now}
        return row.become(State.SETTLED, **facts)

    def _released(self, row: Execution, reason: str) -> Execution:
        return row.become(State.RELEASED, code=reason, ended_at=self._clock.now())

    def _presented(
        self, row: Execution, sealed_payment: str | None
    ) -> tuple[Payment, PaymentRequirements]:
        """What was presented, from the row's own seal."""
        opened = self._box.open(sealed_payment or "", payment_place(row.id)).reveal()
        document = json.loads(opened)
        payment = Payment.parse(document)
        network = self._networks.known(payment.network)
        if network is None:
            raise ValueError("a network that nobody knows")
        pay_to = document["accepted"]["payTo"]
        return payment, PaymentRequirements(network, payment.authorization.value, pay_to)


def note_settled(row: Execution) -> None:
    """Count the money, once its settling is written down."""
    if row.state is State.SETTLED:
        metrics.SETTLED.labels(row.network).inc(row.amount)


def payment_place(execution_id: str) -> Place:
    """Where a payment rests while recovery may need it."""
    return Place("x402_executions", "sealed_payment", execution_id)
