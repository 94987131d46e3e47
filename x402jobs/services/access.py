"""Who may come back: with the payment, with the token of the first answer, or with an account."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from x402jobs.domain.call import Call
from x402jobs.domain.caller import Caller
from x402jobs.domain.errors import (
    InProgress,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    X402JobsError,
)
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.listing import Listing
from x402jobs.domain.networks import Networks
from x402jobs.ports import Facilitator, Ledger, Limits
from x402jobs.services.runs import Runs


class Access:
    """Only lets in; what somebody then finds is for Runs and Paygate to say."""

    def __init__(
        self,
        ledger: Ledger,
        runs: Runs,
        facilitator: Facilitator,
        networks: Networks,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._runs = runs
        self._facilitator = facilitator
        self._networks = networks
        self._limits = limits

    def to_state(
        self, execution_id: str, token: str | None, caller: Caller | None, address: str
    ) -> Execution:
        """An execution, for whoever asked for it and for its template's creator.

        Raises NotFound for everybody else, whether there is one or not, Unauthenticated for
        whoever shows nothing at all, and TooManyRequests for the address that sends too many bad
        tokens.
        """
        execution, owner_id, asked = self._look(execution_id, token, caller, address)
        if not asked and (caller is None or caller.user_id != owner_id):
            raise self._nothing(token, address)
        return execution

    def to_answer(
        self, execution_id: str, token: str | None, caller: Caller | None, address: str
    ) -> Execution:
        """An execution whose answer may be read: by who asked for it, not by its creator.

        Raises what `to_state` raises.
        """
        execution, _, asked = self._look(execution_id, token, caller, address)
        if not asked:
            raise self._nothing(token, address)
        return execution

    def by_payment(self, listing: Listing, call: Call) -> Execution | None:
        """What this payment has bought, when its payer asks for the very same thing again.

        A nonce is public once it is used; only a signature of the payer's shows whose it is.
        """
        earlier, payment = listing.earlier, call.payment
        if earlier is None or payment is None or earlier.digest != call.digest:
            return None
        network = self._networks.known(payment.network)
        if network is None:
            return None
        is_payer = self._facilitator.signer(payment, network) == payment.authorization.payer
        return earlier if is_payer else None

    @contextmanager
    def to_debt(self, listing: Listing, call: Call) -> Iterator[Listing]:
        """The listing that a call is served from: for a debt of this payer's the debt's own.

        What they paid for is run, whatever has become of it or stands at its address now. An error
        on the way carries the debt, for its receipt and credit to be shown.
        """
        debt = self.by_payment(listing, call)
        if debt is None or debt.state is not State.REFUND_DUE:
            yield listing
            return
        try:
            yield replace(listing, template=listing.owed, sealed_key=listing.owed_key)
        except InProgress:  # somebody else has just taken it up: what is owed is no longer known
            raise
        except X402JobsError as error:
            error.execution = error.execution or debt
            raise

    def _look(
        self, execution_id: str, token: str | None, caller: Caller | None, address: str
    ) -> tuple[Execution, str | None, bool]:
        """The execution, its template's creator, and whether this is who asked for it."""
        if token is None and caller is None:
            raise Unauthenticated(
                "Send the X-Resume-Token of the first answer, or a bearer token of the account "
                "that made the call."
            )
        has_token = token is not None and self._runs.is_resume_token(token, execution_id)
        if not has_token and caller is None:
            raise self._nothing(token, address)
        running = self._runs.running(execution_id)
        found = self._ledger.execution(execution_id) or (running and (running, None))
        if not found:
            raise self._nothing(None if has_token else token, address)
        execution, owner_id = found
        is_own = caller is not None and execution.caller_id == caller.user_id
        return execution, owner_id, has_token or is_own

    def _nothing(self, bad_token: str | None, address: str) -> NotFound | TooManyRequests:
        """What is said to whom nothing is shown. A token that did not help has been a guess."""
        if bad_token is not None:
            wait = self._limits.hit("failed_credential", address)
            if wait is not None:
                return TooManyRequests(retry_after=wait)
        return NotFound("There is no such execution.")
