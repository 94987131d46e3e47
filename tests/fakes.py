"""Stand-ins for the ports, with memories; for what real peers cannot be made to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

from x402jobs.domain.errors import (
    NetworkError,
    StoreUnavailable,
    Superseded,
    Unauthenticated,
    Unreadable,
)
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.listing import Listing
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization, Payment, PaymentRequirements
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.ports import (
    Place,
    Refused,
    Seen,
    Settled,
    Unknown,
    Verified,
)

NOW = 1_800_000_000.0


@dataclass
class FakeClock:
    """Time passes when told to."""

    time: float = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class MemoryLedger:
    """ports.Ledger in a dict. `troubles` names the step at which the store is down, and how often.

    A step is "claim", "record" or the state a swap would write.
    """

    rows: dict[str, Execution] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    payments: dict[str, str | None] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    troubles: dict[str, int] = field(default_factory=dict)
    trouble: Callable[[], Exception] = StoreUnavailable

    def claim(self, execution: Execution) -> Execution | None:
        self._step("claim")
        for row in self.rows.values():
            if row.claim_key == execution.claim_key:
                if row.state is not State.RELEASED:
                    return None
                execution = replace(execution, id=row.id, attempt=row.attempt + 1)
        self.rows[execution.id] = execution
        return execution

    def swap(
        self,
        before: Execution,
        after: Execution,
        *,
        sealed_payment: str | None = None,
        sealed_answer: str | None = None,
    ) -> None:
        self._step(after.state)
        row = self.rows.get(before.id)
        if row is None or (row.attempt, row.state) != (before.attempt, before.state):
            raise Superseded()
        self.rows[after.id] = after
        if sealed_payment is not None:
            self.payments[after.id] = sealed_payment
        if sealed_answer is not None:
            self.answers[after.id] = sealed_answer

    def earlier(self, claim_key: str) -> Execution | None:
        self._step("earlier")
        return next((row for row in self.rows.values() if row.claim_key == claim_key), None)

    def record(self, execution: Execution) -> None:
        self._step("record")
        self.rows[execution.id] = execution

    def execution(self, execution_id: str) -> tuple[Execution, str | None] | None:
        row = self.rows.get(execution_id)
        return (row, None) if row is not None else None

    def sealed_answer(self, execution: Execution) -> str | None:
        self._step("sealed_answer")
        return self.answers.get(execution.id)

    def _step(self, name: str) -> None:
        self.steps.append(str(name))
        if self.troubles.get(name, 0) > 0:
            self.troubles[name] -= 1
            raise self.trouble()

    @property
    def row(self) -> Execution:
        """The only row."""
        (row,) = self.rows.values()
        return row


@dataclass
class FakeFacilitator:
    """ports.Facilitator that says what it is told to and remembers what it was asked."""

    signer_is: str | None = "the payer"
    verifies: Verified | Refused | BaseException = field(default_factory=Verified)
    settles: Settled | Refused | Unknown | BaseException = field(
        default_factory=lambda: Settled("0x1")
    )
    asked: list[str] = field(default_factory=list)
    at_settling: Callable[[], None] = lambda: None

    def offers(self, network: Network) -> bool:
        return True

    def signer(self, payment: Payment, network: Network) -> str | None:
        return payment.authorization.payer if self.signer_is == "the payer" else self.signer_is

    def verify(self, payment: Payment, requirements: PaymentRequirements) -> Verified | Refused:
        self.asked.append("verify")
        if isinstance(self.verifies, BaseException):
            raise self.verifies
        return self.verifies

    def settle(
        self, payment: Payment, requirements: PaymentRequirements
    ) -> Settled | Refused | Unknown:
        self.asked.append("settle")
        self.at_settling()
        if isinstance(self.settles, BaseException):
            raise self.settles
        return self.settles


@dataclass
class FakeChain:
    """ports.Chain that shows one thing after the other, the last for ever. A look takes 1 s."""

    clock: FakeClock
    shows: list[Seen] = field(default_factory=list)
    looks: int = 0

    def look(self, signed: Authorization, network: Network, since: float) -> Seen:
        self.looks += 1
        self.clock.advance(1)
        return self.shows.pop(0) if len(self.shows) > 1 else self.shows[0]


class PlainBox:
    """ports.SecretBox whose seal can be read: `sealed|table|column|owner|text`."""

    def seal(self, text: str, place: Place) -> str:
        return "|".join(("sealed", place.table, place.column, place.owner, text))

    def open(self, sealed: str, place: Place) -> Secret:
        before = self.seal("", place)
        if not sealed.startswith(before):
            raise Unreadable()
        return Secret(sealed.removeprefix(before))

    def sign(self, text: str) -> str:
        return f"signed {text}"

    def is_signed(self, text: str, token: str) -> bool:
        return token == self.sign(text)


@dataclass
class FakeLimits:
    """ports.Limits that are all open, or all shut for so many seconds."""

    shut: float | None = None
    hits: list[tuple[str, str]] = field(default_factory=list)

    def hit(self, limit: str, key: str) -> float | None:
        self.hits.append((limit, key))
        return self.shut

    def check(self) -> None:
        """Counts always."""

    def close(self) -> None:
        """Holds nothing."""


@dataclass
class FakeTokens:
    """ports.TokenVerifier that knows these tokens."""

    accounts: dict[str, str]

    def user_id(self, token: str) -> str:
        if token not in self.accounts:
            raise Unauthenticated()
        return self.accounts[token]


@dataclass
class FakeLine:
    """ports.Line of a caller who stays, or has left."""

    left: bool = False

    def gone(self) -> bool:
        return self.left


class FakeSpeech:
    """ports.Speech: says `texts`; an exception among them is raised, a callable is called.

    Blocks in `begin` when told to, until somebody closes it, as a silent Claude would.
    """

    model = "claude-that-answered"

    def __init__(
        self,
        *texts: str | BaseException | Callable[[], None],
        begins: BaseException | Callable[[], None] | None = None,
        silent: bool = False,
        usage: dict[str, Any] | None = None,
    ) -> None:
        self._texts = texts
        self._begins = begins
        self._silent = silent
        self.closed = Event()
        self.begun = Event()
        self.closings = 0
        self.usage: dict[str, object] = {"output_tokens": 3} if usage is None else usage
        self.stop_reason: str | None = "end_turn"

    def begin(self) -> None:
        self.begun.set()
        if callable(self._begins):
            self._begins()
        elif self._begins is not None:
            raise self._begins
        if self._silent:
            assert self.closed.wait(20), "nobody closed a silent speech"
            raise NetworkError()

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            if isinstance(text, BaseException):
                raise text
            if callable(text):
                text()
            else:
                yield text

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


class FakeModel:
    """ports.LanguageModel that gives out these speeches, one after the other.

    Every key works unless `refuses` says what to raise.
    """

    def __init__(self, *speeches: FakeSpeech, refuses: BaseException | None = None) -> None:
        self._speeches = list(speeches)
        self._refuses = refuses
        self.asked: list[tuple[Prompt, Secret]] = []
        self.checked: list[Secret] = []

    def speech(self, prompt: Prompt, key: Secret) -> FakeSpeech:
        self.asked.append((prompt, key))
        return self._speeches.pop(0)

    def check_key(self, key: Secret) -> None:
        self.checked.append(key)
        if self._refuses is not None:
            raise self._refuses


@dataclass
class FakeCatalogue:
    """The one read of ports.Catalogue that a call makes: one answer, and a memory."""

    answer: Listing = field(default_factory=Listing)
    looked_up: list[tuple[str, str, str | None]] = field(default_factory=list)

    def listing(self, username: str, slug: str, claim_key: str | None) -> Listing:
        self.looked_up.append((username, slug, claim_key))
        return self.answer
