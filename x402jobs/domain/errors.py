"""Everything that can go wrong, as one tree.

Each class carries the HTTP `status` it has before the first byte, the machine-readable `code`
and whether trying again may help (`recoverable`); the codes are those of spec/wire.md.

    X402JobsError                     500 UNKNOWN
    ├ InvalidRequest                  400 INVALID_REQUEST
    │ ├ AboveIsPrivate
    │ └ BelowIsPublic
    ├ InvalidPayment                  400 INVALID_PAYMENT
    ├ BodyTooSlow                     408 REQUEST_TIMEOUT
    ├ PayloadTooLarge                 413 PAYLOAD_TOO_LARGE
    ├ Unauthenticated                 401 UNAUTHENTICATED
    ├ PaymentRequired                 402 PAYMENT_REQUIRED
    ├ Unpaid                          402 PAYMENT_REQUIRED  said afterwards, without a quote
    ├ Forbidden                       403 FORBIDDEN
    ├ NotFound                        404 NOT_FOUND
    │ └ NothingAbove
    ├ Conflict                        409 CONFLICT
    │ ├ SlugTaken
    │ ├ PlaceTaken
    │ └ Stale
    ├ InProgress                      409 IN_PROGRESS
    ├ AnswerExpired                   410 ANSWER_EXPIRED
    ├ TooManyRequests                 429 RATE_LIMIT        our own limits
    ├ CallerLeft                      499 CALLER_LEFT       nobody is there to read it
    ├ TemplateUnavailable             503 TEMPLATE_UNAVAILABLE
    ├ SettlementUnknown               503 SETTLEMENT_UNKNOWN
    ├ FacilitatorUnavailable          503 FACILITATOR_UNAVAILABLE
    ├ StoreUnavailable                503 STORE_UNAVAILABLE
    ├ LimitsUnavailable               503 LIMITS_UNAVAILABLE
    ├ Unavailable                     503 UNAVAILABLE
    └ ModelError                      502 UPSTREAM_REJECTED any other refusal of Claude
      ├ RateLimited                   429 RATE_LIMIT
      ├ InvalidApiKey                 502 INVALID_API_KEY
      ├ ContextTooLong                400 CONTEXT_LENGTH_EXCEEDED
      ├ ModelUnknown                  503 TEMPLATE_UNAVAILABLE
      ├ Overloaded                    503 OVERLOADED
      ├ NetworkError                  502 NETWORK_ERROR
      ├ TimedOut                      504 TIMEOUT
      ├ EmptyAnswer                   502 EMPTY_ANSWER
      └ Truncated                     502 STREAM_INTERRUPTED
        └ Drained

A message is always our own sentence. A vendor's is never passed on: it can quote a key.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from x402jobs.domain.execution import Execution
    from x402jobs.domain.quote import Quote


class X402JobsError(Exception):
    """The family; raised itself only for a fault of ours that has no better name.

    `field` names what was wrong with the request; `retry_after` is in seconds; `execution` is the
    ledger row to show the caller when money has moved.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "UNKNOWN"
    recoverable: ClassVar[bool] = False
    sentence: ClassVar[str] = "Execution failed. Please try again."

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        execution: "Execution | None" = None,
    ) -> None:
        super().__init__(message or self.sentence)
        self.field = field
        self.retry_after = retry_after
        self.execution = execution

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self)


class InvalidRequest(X402JobsError):
    """The body, a parameter, the query or a header is not what the door takes."""

    status, code = 400, "INVALID_REQUEST"
    sentence = "The request is not valid."


class AboveIsPrivate(InvalidRequest):
    """A tile may be public only where every tile above it is."""

    def __init__(self, above: str) -> None:
        super().__init__(
            f"A tile can be public only under public ones. Make {above} public first.",
            field="visibility",
        )


class BelowIsPublic(InvalidRequest):
    """A tile cannot become private while tiles below it are public; names the lowest."""

    def __init__(self, count: int, below: str) -> None:
        super().__init__(
            f"Public tiles below this one: {count}. "
            f"Make those private first, from {below} upwards.",
            field="visibility",
        )


class InvalidPayment(X402JobsError):
    """A payment header that is malformed, or two of them."""

    status, code = 400, "INVALID_PAYMENT"
    sentence = "The payment header is malformed."


class BodyTooSlow(X402JobsError):
    """The body was not there in time. Nothing of the request was looked at."""

    status, code, recoverable = 408, "REQUEST_TIMEOUT", True
    sentence = "The request's body did not arrive in time. Nothing was begun. Please try again."


class PayloadTooLarge(X402JobsError):
    """The body is over the limit, declared or not."""

    status, code = 413, "PAYLOAD_TOO_LARGE"
    sentence = "The request body is too large."


class Unauthenticated(X402JobsError):
    """A credential is missing or bad; bad, expired and unknown look the same."""

    status, code = 401, "UNAUTHENTICATED"
    sentence = "The credential is not valid, or is not valid any more."


class PaymentRequired(X402JobsError):
    """No payment, or one that does not fit, is forged or was definitely refused.

    Carries the `quote` to answer with, and `refused`, the ledger row, when settling was refused.
    """

    status, code, recoverable = 402, "PAYMENT_REQUIRED", True
    sentence = "Payment required."

    def __init__(
        self, message: str | None, quote: "Quote", *, refused: "Execution | None" = None
    ) -> None:
        super().__init__(message)
        self.quote = quote
        self.refused = refused


class Unpaid(X402JobsError):
    """How a payment that was refused is spoken of later, when there is no quote to give."""

    status, code, recoverable = 402, "PAYMENT_REQUIRED", True
    sentence = "The payment was not taken. Nothing was charged."


class Forbidden(X402JobsError):
    """Known, and not allowed."""

    status, code = 403, "FORBIDDEN"
    sentence = "You may not do this."


class NotFound(X402JobsError):
    """There is no such thing, or none you may know of."""

    status, code = 404, "NOT_FOUND"
    sentence = "There is nothing at this address."


class NothingAbove(NotFound):
    """A new tile has no parent there, or none that is its creator's."""

    sentence = "You have no tile to put this one under. Make that one first."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, field="coords")


class Conflict(X402JobsError):
    """This authorization has already bought something else."""

    status, code = 409, "CONFLICT"
    sentence = "This payment has already bought something else. Sign a new one."


class SlugTaken(Conflict):
    """The creator has another template under this slug."""

    sentence = "You have another template under this slug."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, field="slug")


class PlaceTaken(Conflict):
    """The place of a new tile has one already."""

    sentence = "There is a tile at this place already."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, field="coords")


class Stale(Conflict):
    """What was to be changed has been changed meanwhile by somebody else."""

    sentence = "This has been changed meanwhile. Read it again, then repeat your change."


class InProgress(X402JobsError):
    """This authorization is being executed elsewhere."""

    status, code, recoverable = 409, "IN_PROGRESS", True
    sentence = "This payment is being executed. Retry with the same payment; do not sign a new one."

    def __init__(self, message: str | None = None, *, execution: "Execution | None" = None) -> None:
        super().__init__(message, retry_after=2, execution=execution)


class AnswerExpired(X402JobsError):
    """The answer was bought, and kept for its day."""

    status, code = 410, "ANSWER_EXPIRED"
    sentence = "This answer was bought more than 24 hours ago and is no longer kept."


class TooManyRequests(X402JobsError):
    """One of our own limits."""

    status, code, recoverable = 429, "RATE_LIMIT", True
    sentence = "Rate limit exceeded. Please try again in a moment."


class CallerLeft(X402JobsError):
    """The caller hung up before settlement: nothing is charged and nobody reads this."""

    status, code = 499, "CALLER_LEFT"
    sentence = "The caller left."


class TemplateUnavailable(X402JobsError):
    """The shop is shut: no readable key, no payout address, or a retired model."""

    status, code, recoverable = 503, "TEMPLATE_UNAVAILABLE", True
    sentence = "This template cannot be used right now. Please contact the template creator."


class SettlementUnknown(X402JobsError):
    """The money may have moved: the same payment may be retried, a new one must not be asked."""

    status, code, recoverable = 503, "SETTLEMENT_UNKNOWN", True
    sentence = (
        "The outcome of the payment is not known yet. "
        "Retry with the same payment; do not sign a new one."
    )

    def __init__(self, message: str | None = None, *, execution: "Execution | None" = None) -> None:
        super().__init__(message, retry_after=5, execution=execution)


class FacilitatorUnavailable(X402JobsError):
    """The payment could not be taken: nobody verifies, or nobody could tell what became of it."""

    status, code, recoverable = 503, "FACILITATOR_UNAVAILABLE", True
    sentence = (
        "Payments cannot be taken right now. Nothing was charged. Please try again shortly; one "
        "that is signed stays good: do not sign another."
    )

    def __init__(self, message: str | None = None, *, retry_after: float = 5) -> None:
        super().__init__(message, retry_after=retry_after)


class StoreUnavailable(X402JobsError):
    """The database does not answer."""

    status, code, recoverable = 503, "STORE_UNAVAILABLE", True
    sentence = "The service cannot reach its database. Please try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: float = 2) -> None:
        super().__init__(message, retry_after=retry_after)


class LimitsUnavailable(X402JobsError):
    """Limits cannot be counted, and what they guard is not done uncounted."""

    status, code, recoverable = 503, "LIMITS_UNAVAILABLE", True
    sentence = "The service cannot count this request right now. Please try again shortly."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after=2)


class Unavailable(X402JobsError):
    """This server takes nothing new: it is about to end, or full."""

    status, code, recoverable = 503, "UNAVAILABLE", True
    sentence = "The service is restarting. Nothing was charged. Please try again shortly."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after=5)


class ModelError(X402JobsError):
    """Claude refused, or failed; also the name of any refusal that has no class below."""

    status, code = 502, "UPSTREAM_REJECTED"
    sentence = "Execution failed. Please try again."


class RateLimited(ModelError):
    """Claude's 429."""

    status, code, recoverable = 429, "RATE_LIMIT", True
    sentence = "Rate limit exceeded. Please try again in a moment."


class InvalidApiKey(ModelError):
    """Claude's 401 or 403, or a billing error: the creator's key does not work."""

    code = "INVALID_API_KEY"
    sentence = "The creator's API key is invalid. Please contact the template creator."


class ContextTooLong(ModelError):
    """The prompt does not fit."""

    status, code = 400, "CONTEXT_LENGTH_EXCEEDED"
    sentence = "Input too long for this template. Please reduce your input size."


class ModelUnknown(ModelError):
    """Claude does not know the template's model (its 404)."""

    status, code, recoverable = 503, "TEMPLATE_UNAVAILABLE", True
    sentence = TemplateUnavailable.sentence


class Overloaded(ModelError):
    """Claude's 529, any other 5xx, or a conflict on its side."""

    status, code, recoverable = 503, "OVERLOADED", True
    sentence = "Claude is currently overloaded. Please try again shortly."


class NetworkError(ModelError):
    """The connection to Claude failed or broke."""

    code, recoverable = "NETWORK_ERROR", True


class TimedOut(ModelError):
    """Claude did not connect, begin, go on or finish in time."""

    status, code, recoverable = 504, "TIMEOUT", True
    sentence = "Claude took too long to answer. Please try again."


class EmptyAnswer(ModelError):
    """Claude ended without saying anything."""

    code, recoverable = "EMPTY_ANSWER", True
    sentence = "Claude gave no answer. Please try again."


class Truncated(ModelError):
    """Claude's stream ended without its end marker."""

    code, recoverable = "STREAM_INTERRUPTED", True
    sentence = "The answer was interrupted before its end. Please try again."


class Drained(Truncated):
    """Our own server had to end before the answer did."""

    sentence = "The service was restarted before the answer's end. Please try again."


class Superseded(InProgress):
    """Somebody else has taken the ledger row; whoever hears this stops at once."""


class TransferUsed(Exception):
    """This transfer has paid for another execution already; it cannot pay for a second one."""


class Unreadable(Exception):
    """A sealed value does not open: wrong key, tampered with, or moved from another row."""


def remembered(code: str | None) -> X402JobsError:
    """The error whose code a ledger row has kept, in its own words.

    What is no code of ours is a facilitator's reason to refuse.
    """
    if code is None:
        return X402JobsError()
    known = (each for each in _family(X402JobsError) if each is not PaymentRequired)
    return next((each for each in known if each.code == code), Unpaid)()


def _family(error: type[X402JobsError]) -> Iterator[type[X402JobsError]]:
    yield error
    for child in error.__subclasses__():
        yield from _family(child)
