"""Between a priced template and whoever asks for it: recall, quote, claim, verify, settle."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import structlog

from x402jobs import metrics
from x402jobs.domain.call import Call
from x402jobs.domain.caller import Caller
from x402jobs.domain.errors import (
    Conflict,
    FacilitatorUnavailable,
    InProgress,
    PaymentRequired,
    SettlementUnknown,
    StoreUnavailable,
    Superseded,
    TimedOut,
    TooManyRequests,
    X402JobsError,
)
from x402jobs.domain.execution import MAX_RERUNS, Execution, Kind, State
from x402jobs.domain.listing import Listing
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import (
    OTHER_REQUIREMENTS,
    SETTLE_MARGIN_SECONDS,
    Payment,
    PaymentRequirements,
)
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.domain.quote import Quote
from x402jobs.logs import name_execution
from x402jobs.ports import Clock, Facilitator, Ledger, Limits, Refused
from x402jobs.services.in_flight import InFlight
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.pricing import ASK, Pricing
from x402jobs.services.settlement import Settlement

FOR_EVER = 2**63 - 1
"""What the ledger writes for a later `validBefore`: its columns have 64 bits, a signature 256."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sale:
    """A payment, what we ask on its network, and the quote for everybody it does not do for."""

    payment: Payment
    requirements: PaymentRequirements
    quote: Quote


@dataclass
class Admission:
    """Somebody let in: their row, and until when everything before the answer has to be done.

    `deadline` is in monotonic seconds; `sale` is None when nothing is to settle.
    """

    execution: Execution
    deadline: float
    sale: Sale | None = None
    may_be_settling: bool = False
    """The row may have been written as `settling`; the facilitator was not asked."""


class Paygate:
    """Keeps the order of spec/money.md: one authorization, one transfer, one answer."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        facilitator: Facilitator,
        limits: Limits,
        in_flight: InFlight,
        clock: Clock,
        worker: str,
        pricing: Pricing,
        settlement: Settlement,
        left: LeftRows,
        first_content_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._facilitator = facilitator
        self._limits = limits
        self._in_flight = in_flight
        self._clock = clock
        self._worker = worker
        self._pricing = pricing
        self._settlement = settlement
        self._left = left
        self._first_content_seconds = first_content_seconds

    def recall(self, listing: Listing, call: Call) -> Execution | None:
        """The execution this payment has bought and whose answer is to be followed again.

        None when the call is to run: an unknown payment, a released one, a debt to be re-run, or
        a forgery, which knows nothing and is refused on its way. Raises Conflict, InProgress or
        SettlementUnknown (spec/money.md, Presenting a payment again).
        """
        earlier, payment = listing.earlier, call.payment
        if earlier is None or payment is None or earlier.state is State.RELEASED:
            return None
        if not self._is_signed(payment):
            return None
        if earlier.state is State.SETTLING:
            raise SettlementUnknown(execution=earlier)
        if earlier.digest != call.digest:
            raise Conflict()
        if earlier.state is State.CLAIMED:
            raise InProgress()
        if earlier.state is State.REFUND_DUE and earlier.reruns < MAX_RERUNS:
            return None
        if earlier.state in (State.REFUND_DUE, State.REFUNDED):
            raise Conflict(
                "This payment's free re-runs are used up; what is owed is recorded."
                if earlier.state is State.REFUND_DUE
                else "This payment has been refunded.",
                execution=earlier,
            )
        return earlier

    @contextmanager
    def admit(
        self,
        template: PromptTemplate,
        listing: Listing,
        call: Call,
        *,
        caller: Caller | None,
        owner_test: bool,
    ) -> Iterator[Admission]:
        """Let the caller in: the creator, a free call, a debt, or a claimed and verified payment.

        Raises PaymentRequired with the quote for a payment that is missing or does not do,
        InvalidRequest for a wish to pay on a network we do not offer, and TooManyRequests, before
        anything is claimed. Left by an exception, a row whose money has not moved is released, and
        a re-run is owed again.
        """
        with ExitStack() as open_claims:
            admission = self._enter(template, listing, call, caller, owner_test, open_claims)
            name_execution(admission.execution.id)
            try:
                self._verify(admission)
                yield admission
            except BaseException as error:
                self._let_go(admission, error)
                raise

    def settle(self, admission: Admission) -> Execution:
        """Take the money. Nothing has been sent to the caller yet.

        Returns the execution that may run. Raises SettlementUnknown when the money may have moved
        (the row stays `settling`), PaymentRequired when it definitely did not, and
        FacilitatorUnavailable where too many are being settled.
        """
        opened = replace(admission.execution, opened_at=self._clock.now())
        sale = admission.sale
        if sale is None:
            return opened
        admission.execution = opened
        if self._clock.monotonic() >= admission.deadline:
            raise TimedOut()
        try:
            with self._in_flight.settlement():
                row = self._settlement.settle(opened, sale.payment, sale.requirements)
        except SettlementUnknown as unknown:
            admission.execution = unknown.execution or opened
            raise
        except StoreUnavailable:
            admission.may_be_settling = True
            raise
        admission.execution = row
        if row.state is State.RELEASED:
            metrics.EXECUTIONS.labels(row.kind, row.state, PaymentRequired.code).inc()
            raise PaymentRequired(
                f"The payment was not settled: {row.code}.", sale.quote, refused=row
            )
        return row

    def _enter(
        self,
        template: PromptTemplate,
        listing: Listing,
        call: Call,
        caller: Caller | None,
        owner_test: bool,
        open_claims: ExitStack,
    ) -> Admission:
        """The caller's row: taken up from a debt, unpaid and in memory only, or claimed."""
        if (debt := self._debt(listing, call)) is not None:
            owed = debt.rerun(self._worker, call.began)
            try:
                self._ledger.swap(debt, owed)
            except StoreUnavailable:
                self._left.leave(owed)  # it may have been written all the same
                raise
            return Admission(owed, self._clock.monotonic() + self._first_content_seconds)
        networks = self._pricing.networks_of(template, call)
        fresh = Execution(
            id=str(uuid.uuid4()),
            kind=Kind.OWNER_TEST if owner_test else Kind.PAID if template.price else Kind.FREE,
            state=State.CLAIMED,
            template_id=template.id,
            template_version=template.version,
            digest=call.digest,
            worker=self._worker,
            created_at=call.began,
            caller_id=caller.user_id if caller is not None else None,
        )
        if fresh.kind is Kind.PAID:
            quote = self._pricing.quote(template, listing, networks)
            _check_network(call.payment, quote, networks)
            try:
                return self._claim(fresh, quote, call.payment, listing.earlier, open_claims)
            except PaymentRequired:
                self._look_again(listing, call)
                raise
        if fresh.kind is Kind.FREE:
            self._limit_free(call.address)
        return Admission(fresh, self._clock.monotonic() + self._first_content_seconds)

    def _debt(self, listing: Listing, call: Call) -> Execution | None:
        """What this payer is owed by this payment; neither price nor payout address matter to it.

        `recall` has judged already whether it is the same request and has a re-run left.
        """
        debt, payment = listing.earlier, call.payment
        if debt is None or debt.state is not State.REFUND_DUE or payment is None:
            return None
        return debt if self._is_signed(payment) else None

    def _claim(
        self,
        fresh: Execution,
        quote: Quote,
        payment: Payment | None,
        earlier: Execution | None,
        open_claims: ExitStack,
    ) -> Admission:
        """Match, recover the signer, count, claim: a forgery leaves no row, and fills no place."""
        if payment is None:
            raise PaymentRequired(ASK, quote)
        asked = quote.asked_of(payment)
        if asked is None:
            raise PaymentRequired(OTHER_REQUIREMENTS, quote)
        misfit = payment.misfit(asked, self._clock.now())
        if misfit is None and not self._is_signed(payment):
            misfit = "The signature is not the payer's."
        if misfit is not None:
            raise PaymentRequired(misfit, quote)
        signed = payment.authorization
        claim = replace(
            fresh,
            claim_key=payment.claim_key,
            payer=signed.payer,
            network=asked.network.id,
            amount=asked.amount,
            valid_before=min(signed.valid_before, FOR_EVER),
        )
        open_claims.enter_context(self._in_flight.claim(signed.payer, payment.claim_key))
        try:
            claimed = self._ledger.claim(claim)
        except StoreUnavailable:  # it may have been written all the same
            taken_up = earlier and replace(claim, id=earlier.id, attempt=earlier.attempt + 1)
            self._left.leave(taken_up or claim)
            raise
        if claimed is None:
            raise InProgress()
        left = signed.valid_before - SETTLE_MARGIN_SECONDS - self._clock.now()
        deadline = self._clock.monotonic() + min(self._first_content_seconds, left)
        return Admission(claimed, deadline, Sale(payment, asked, quote))

    def _look_again(self, listing: Listing, call: Call) -> None:
        """Ask for no other payment while this one, unknown a moment ago, is somebody's.

        Raises InProgress or what `recall` does.
        """
        payment = call.payment
        if payment is None or not self._is_signed(payment):
            return
        earlier = self._ledger.earlier(payment.claim_key)
        if earlier is not None and earlier.state is not State.RELEASED:
            self.recall(replace(listing, earlier=earlier), call)
            raise InProgress()

    def _limit_free(self, address: str) -> None:
        if (wait := self._limits.hit("free_template", address)) is not None:
            raise TooManyRequests(retry_after=wait)

    def _is_signed(self, payment: Payment) -> bool:
        """Whether the payer's own key signed, for its network's token; computed here, 1 ms."""
        network = self._pricing.networks.known(payment.network)
        if network is None:
            return False
        return self._facilitator.signer(payment, network) == payment.authorization.payer

    def _verify(self, admission: Admission) -> None:
        if (sale := admission.sale) is None:
            return
        outcome = self._facilitator.verify(sale.payment, sale.requirements)
        if isinstance(outcome, Refused):
            raise PaymentRequired(f"The payment was refused: {outcome.reason}.", sale.quote)
        admission.execution = replace(admission.execution, verified_at=self._clock.now())

    def _let_go(self, admission: Admission, error: BaseException) -> None:
        """Undo a claim whose money has not moved; owe a re-run that could not begin."""
        before, now = admission.execution, self._clock.now()
        code = error.code if isinstance(error, X402JobsError) else X402JobsError.code
        if before.kind is not Kind.PAID or before.state not in (State.CLAIMED, State.SETTLED):
            return
        if before.state is State.CLAIMED:
            after = before.become(State.RELEASED, code=code, ended_at=now)
        else:
            after = before.forgo(code, now)
        try:
            self._give_back(admission, before, after)
        except (StoreUnavailable, Superseded) as trouble:
            log.error("row_not_let_go", execution_id=before.id, code=trouble.code)
            if admission.may_be_settling:
                self._left.leave_unasked(before)
            else:
                self._left.leave(before)
            if isinstance(error, PaymentRequired):
                # Whoever may have the row now may be taking the money: ask for no other payment.
                raise trouble from error
            return
        log.info("row_let_go", execution_id=after.id, state=after.state, code=code)
        metrics.EXECUTIONS.labels(after.kind, after.state, code).inc()
        if isinstance(error, X402JobsError) and after.receipt is not None:
            error.execution = after

    def _give_back(self, admission: Admission, before: Execution, after: Execution) -> None:
        """Write the row's way back, from whichever state it has reached."""
        try:
            self._ledger.swap(before, after)
        except Superseded:
            if not admission.may_be_settling:
                raise
            self._ledger.swap(before.become(State.SETTLING), after)


def _check_network(payment: Payment | None, quote: Quote, networks: Sequence[Network]) -> None:
    """Have nobody sign another payment because their network cannot be taken just now.

    Raises FacilitatorUnavailable: the one that is signed stays good.
    """
    if payment is None:
        return
    taken = {each.network for each in quote.requirements}
    if any(each.is_called(payment.network) for each in networks if each not in taken):
        raise FacilitatorUnavailable()
