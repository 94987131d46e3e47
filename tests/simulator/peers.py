"""Everybody outside: a chain that moves money once, a facilitator that may lie, Claude."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulator.schedule import Bell, Schedule
from x402jobs.domain.errors import (
    ContextTooLong,
    EmptyAnswer,
    FacilitatorUnavailable,
    ModelError,
    NetworkError,
    Overloaded,
    Truncated,
)
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization, Payment, PaymentRequirements
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.ports import (
    Canceled,
    Refused,
    Seen,
    Settled,
    SpentElsewhere,
    Transferred,
    Unknown,
    Unseen,
    Unused,
    Verified,
)

SIGNED, FORGED = b"\x01" * 65, b"\x02" * 65
Crossing = Callable[[str, Callable[[], object]], object]
Choose = Callable[[dict[str, int], str], str]
"""One of these by their weights; in calm weather the second argument."""


class Transfer(NamedTuple):
    transaction: str
    log_index: int
    at: float


@dataclass
class Case:
    """One authorization: what its payer holds, what the chain knows, what Claude was asked."""

    number: int
    payment: Payment
    transfer: Transfer | None = None
    void_at: float | None = None
    void: Canceled | SpentElsewhere = field(default_factory=Canceled)
    speeches: int = 0
    runs: int = 0
    reruns: int = 0
    forgone: int = 0
    told: set[str] = field(default_factory=set)
    """Answers whose end marker was seen."""


class ModelChain:
    """Uses an authorization once, inside its window, and shows it when it is deep enough."""

    def __init__(self, schedule: Schedule, finality: float, moved: Callable[[Case], None]) -> None:
        self._schedule = schedule
        self._moved = moved
        self._count = 0
        self.finality = finality
        self.is_away = False
        self.landing = 0

    def transfer(self, case: Case) -> Transfer | None:
        """The transfer of this authorization: made now, or the one there was. None: impossible."""
        now = self._schedule.now
        if case.transfer is not None:
            return case.transfer
        signed = case.payment.authorization
        if case.void_at is not None or not signed.valid_after < now < signed.valid_before:
            return None
        self._count += 1
        # Two of a block's transfers may well be in one transaction.
        case.transfer = Transfer(f"0x{self._count // 2}", self._count % 2, now)
        self._schedule.say(f"money moves for payment {case.number}: {case.transfer}")
        self._moved(case)
        return case.transfer

    def transfer_later(self, case: Case, seconds: float) -> None:
        """Broadcast now, mined then: or never, when the window has closed."""
        self.landing += 1

        def land() -> None:
            self.landing -= 1
            self.transfer(case)

        self._schedule.at(self._schedule.now + seconds, land)

    def make_void(self, case: Case, how: Canceled | SpentElsewhere) -> None:
        """The payer uses the nonce up some other way, if it is still there to be used."""
        if case.transfer is None and case.void_at is None:
            case.void_at, case.void = self._schedule.now, how
            self._schedule.say(f"payment {case.number} is void: {how}")

    def look(self, case: Case, lag: float) -> Seen:
        """What a node tells that is so many seconds behind."""
        if self.is_away:
            return Unseen("no_answer")
        head = self._schedule.now - lag
        deep = head - self.finality
        used_at = case.transfer.at if case.transfer else case.void_at
        if used_at is None or used_at > head:
            return Unused(deep)
        if used_at > deep:
            return Unseen("shallow")
        if case.transfer is None:
            return case.void
        return Transferred(case.transfer.transaction, case.transfer.log_index)


VERIFYING = {"verified": 88, "refused": 5, "unavailable": 7}
SETTLING = {
    "success": 44,
    "refused": 9,
    "answer lost": 8,
    "question lost": 8,
    "delayed": 7,
    "failure after mining": 6,
    "success of nothing": 4,
    "success too early": 4,
    "another transaction named": 3,
    "front-run": 4,
    "repeated": 3,
}
"""What a facilitator does with a question to settle, and how often in a hundred."""
LAGS = (0.0, 0.0, 0.0, 1.0, 2.0, 5.0, 40.0)


class WorkerFacilitator:
    """ports.Facilitator as one worker reaches it."""

    def __init__(
        self,
        chain: ModelChain,
        cases: dict[str, Case],
        cross: Crossing,
        choose: Choose,
        schedule: Schedule,
        note: Callable[[Case, str], None],
    ) -> None:
        self._chain = chain
        self._cases = cases
        self._cross = cross
        self._choose = choose
        self._schedule = schedule
        self._note = note

    def offers(self, network: Network) -> bool:
        return True

    def signer(self, payment: Payment, network: Network) -> str | None:
        return payment.authorization.payer if payment.signature == SIGNED else None

    def verify(self, payment: Payment, requirements: PaymentRequirements) -> Verified | Refused:
        case = self._cases[payment.claim_key]

        def answer() -> Verified | Refused:
            fate = self._choose(VERIFYING, "verified")
            if fate == "unavailable":
                raise FacilitatorUnavailable()
            is_spent = case.transfer is not None or case.void_at is not None
            if fate == "refused" or is_spent:
                return Refused("insufficient_funds")
            return Verified()

        return self._cross("verify", answer)  # type: ignore[return-value]

    def settle(
        self, payment: Payment, requirements: PaymentRequirements
    ) -> Settled | Refused | Unknown:
        case = self._cases[payment.claim_key]
        return self._cross("settle", lambda: self._settle(case))  # type: ignore[return-value]

    def _settle(self, case: Case) -> Settled | Refused | Unknown:
        fate, chain, random = self._choose(SETTLING, "success"), self._chain, self._schedule.random
        self._note(case, f"settle: {fate}")
        self._note(case, "settle: late")
        self._schedule.say(f"facilitator settles payment {case.number}: {fate}")
        match fate:
            case "refused":
                # Nothing was broadcast for this question: what was before, was.
                return Refused("insufficient_funds")
            case "question lost":
                return Unknown("timeout")
            case "delayed":
                chain.transfer_later(case, random() * 150)
                return Unknown("timeout")
            case "success too early":
                chain.transfer_later(case, random() * 40)
                return Settled("0xsoon")
            case "success of nothing":
                return Settled("0xlie")
            case "front-run":
                chain.transfer(case)
                return Unknown("transaction_failed")
            case "repeated":
                chain.transfer(case)
        moved = chain.transfer(case)
        if fate == "answer lost":
            return Unknown("timeout")
        if fate == "failure after mining":
            return Refused("transaction_failed") if random() < 0.5 else Unknown("failed")
        if moved is None:
            return Refused("expired") if random() < 0.5 else Unknown("expired")
        return Settled("0xother" if fate == "another transaction named" else moved.transaction)


class WorkerChain:
    """ports.Chain as one worker reaches it."""

    def __init__(
        self,
        chain: ModelChain,
        cases: dict[tuple[str, str], Case],
        cross: Crossing,
        lag: Callable[[], float],
        note: Callable[[Case, str], None],
    ) -> None:
        self._chain = chain
        self._cases = cases
        self._cross = cross
        self._lag = lag
        self._note = note

    def look(self, signed: Authorization, network: Network, since: float) -> Seen:
        case = self._cases[signed.payer, signed.nonce]
        seen = self._cross("look", lambda: self._chain.look(case, self._lag()))
        word = type(seen).__name__.lower()
        if isinstance(seen, Unused) and seen.at > signed.valid_before:
            word = "expired"
        self._note(case, f"chain: {word}")
        return seen  # type: ignore[return-value]


BEGINNING = {"begins": 80, "overloaded": 6, "refuses": 3, "empty": 3, "silent": 4, "breaks": 4}
SPEAKING = {"ends": 74, "truncated": 12, "breaks": 9, "slow": 5}


class ModelSpeech:
    """ports.Speech. Its text names the payment it is for, and no two speeches say the same."""

    model = "claude-that-answered"
    stop_reason: str | None = "end_turn"

    def __init__(
        self, case: Case, asked: str, cross: Crossing, choose: Choose, schedule: Schedule
    ) -> None:
        case.speeches += 1
        self.usage: dict[str, object] = {"output_tokens": 3}
        self._case = case
        self._text = f"{asked}, speech {case.speeches}"
        self._cross = cross
        self._choose = choose
        self._schedule = schedule
        self._closed = Bell()

    def begin(self) -> None:
        self._cross("begin", lambda: None)
        match self._choose(BEGINNING, "begins"):
            case "overloaded":
                raise Overloaded()
            case "refuses":
                raise ContextTooLong()
            case "empty":
                raise EmptyAnswer()
            case "breaks":
                raise NetworkError()
            case "silent":
                self._closed.wait()
            case _:
                self._closed.wait(self._schedule.random() * 3)
        if self._closed.is_set():
            raise NetworkError()

    def __iter__(self) -> Iterator[str]:
        case, fate = self._case, self._choose(SPEAKING, "ends")
        case.runs += 1
        self._cross("speak", lambda: None)
        yield self._text[:7]
        self._closed.wait(self._schedule.random() * (40 if fate == "slow" else 4))
        if fate == "breaks" or self._closed.is_set():
            raise NetworkError()
        if fate == "truncated":
            yield from self._cut_short()
            return
        yield self._text[7:]
        self._case.told.add(self._text)

    def _cut_short(self) -> Iterator[str]:
        raise Truncated()
        yield

    def close(self) -> None:
        self._closed.set()


class WorkerClaude:
    """ports.LanguageModel as one worker reaches it."""

    def __init__(
        self,
        cases: list[Case],
        cross: Crossing,
        choose: Choose,
        schedule: Schedule,
    ) -> None:
        self._cases = cases
        self._cross = cross
        self._choose = choose
        self._schedule = schedule

    def speech(self, prompt: Prompt, key: Secret) -> ModelSpeech:
        case = self._cases[int(prompt.user.split()[1])]
        return ModelSpeech(case, prompt.user, self._cross, self._choose, self._schedule)

    def check_key(self, key: Secret) -> None:
        raise ModelError()
