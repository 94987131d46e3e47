"""What a run says besides text, which is a `str`; the doors' dialects give all of it words."""

from dataclasses import dataclass

from x402jobs.domain.errors import X402JobsError
from x402jobs.domain.execution import Execution


@dataclass(frozen=True)
class Done:
    """Claude's end marker was seen and the whole answer is durable."""

    execution: Execution


@dataclass(frozen=True)
class Failed:
    """The answer did not reach its end; `execution` says what was paid and what is owed."""

    execution: Execution
    error: X402JobsError


@dataclass(frozen=True)
class PromptWritten:
    """What Claude is sent, for a task's caller who wants to know."""

    prompt: str


Ending = Done | Failed
