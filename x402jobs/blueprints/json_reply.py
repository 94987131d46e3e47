"""The answer in one piece: a JSON reply when the run has ended (spec/instant.md)."""

from collections.abc import Mapping

from flask import Response, jsonify

from x402jobs.blueprints import errors, services
from x402jobs.blueprints.deliveries import Delivery, Outcome
from x402jobs.blueprints.line import SocketLine
from x402jobs.blueprints.sse import VARY
from x402jobs.domain.errors import CallerLeft, TimedOut
from x402jobs.domain.events import Done, Ending, Failed
from x402jobs.domain.execution import Execution, Kind
from x402jobs.services.runs import Follower

CONTENT_TYPE = "application/json"
PATIENCE_SECONDS = 120.0
"""From the request to the reply: spec/instant.md, What a caller sends. Proxies wait no longer."""
LOOK_SECONDS = 1.0
"""How often the caller's socket is looked at meanwhile."""


def headers_of(*, paid: bool) -> dict[str, str]:
    """The headers of every answer in one piece."""
    return {"Cache-Control": "private, no-store" if paid else "no-store", "Vary": VARY}


def respond(
    follower: Follower, line: SocketLine, until: float, headers: Mapping[str, str]
) -> Response:
    """Wait for the ending, at the latest `until` (unix seconds), and say it.

    Who leaves is not waited for: raises CallerLeft. A paid run goes on without its followers.
    """
    delivery = Delivery(follower, "json")
    outcome: Outcome = "broken_off"
    pieces: list[str] = []
    ending: Ending | None = None
    try:
        ending = _wait(follower, line, until, pieces)
        outcome = "whole" if ending is not None else "too_long"
    except CallerLeft:
        outcome = "caller_left"
        raise
    finally:
        follower.close()
        delivery.end(outcome, len(pieces), sum(map(len, pieces)), ending)
    response = _reply(follower, pieces, ending)
    response.headers.update(headers)
    response.headers["X-Execution-Id"] = follower.execution.id
    return response


def _wait(follower: Follower, line: SocketLine, until: float, pieces: list[str]) -> Ending | None:
    """Collect the pieces until the ending; None when there is none in time."""
    for event in follower.events(max(0.0, min(LOOK_SECONDS, until - services.clock.now()))):
        if isinstance(event, Done | Failed):
            return event
        if event is not None:
            pieces.append(event)
        if line.gone():
            raise CallerLeft()
        if services.clock.now() >= until and not follower.is_over:
            break
    return None


def _reply(follower: Follower, pieces: list[str], ending: Ending | None) -> Response:
    match ending:
        case Done(execution):
            return jsonify(_whole("".join(pieces), execution))
        case Failed(execution, error):
            error.execution = execution
            return errors.say(error)
    return errors.say(_too_long(follower.execution))


def _whole(answer: str, execution: Execution) -> dict[str, object]:
    said: dict[str, object] = {
        "response": answer,
        "usage": execution.usage,
        "model": execution.model,
        "stopReason": execution.stop_reason,
        "executionId": execution.id,
    }
    if execution.receipt is not None:
        said["receipt"] = execution.receipt.as_json()
    return said


def _too_long(execution: Execution) -> TimedOut:
    if execution.kind is Kind.PAID:
        mend = (
            "It goes on: send the same request with the same payment again later to fetch it, "
            "or now with ?stream=true to follow it."
        )
    else:
        mend = "Ask for it as a stream, with ?stream=true."
    return TimedOut(
        f"The answer is longer than one JSON reply waits for. {mend}", execution=execution
    )
