"""An answer on its way out: its headers, its words, and what is left of it for who comes back."""

from collections.abc import Callable

from flask import Response, current_app

from x402jobs.blueprints import json_reply, services, sse
from x402jobs.blueprints.calls import RESUME_TOKEN
from x402jobs.blueprints.deliveries import Delivery
from x402jobs.blueprints.dialects import dialect_of
from x402jobs.blueprints.line import SocketLine
from x402jobs.blueprints.payment_headers import payment_response
from x402jobs.domain.call import Mark
from x402jobs.domain.errors import AnswerExpired, InProgress, NotFound, Unauthenticated
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.services.runs import Follower

Prompt = Callable[[], str | None]


def stream(
    follower: Follower, line: SocketLine, *, ids: bool, prompt: Prompt | None = None
) -> Response:
    """As server-sent events; with `prompt`, what it tells comes before the first words."""
    paid, receipt = _receipt(follower.execution)
    silence = current_app.config["HEARTBEAT_SECONDS"]
    dialect, delivery = dialect_of(follower.execution), Delivery(follower, "stream")
    said = sse.lines(follower, dialect, line, silence, delivery, ids, prompt)
    return sse.respond(follower, said, sse.headers_of(paid=paid) | receipt)


def in_one_piece(follower: Follower, line: SocketLine, *, began: float) -> Response:
    """As one JSON reply, so long after the request `began` (unix seconds) at the latest."""
    paid, receipt = _receipt(follower.execution)
    until = began + current_app.config["JSON_SECONDS"]
    return json_reply.respond(follower, line, until, json_reply.headers_of(paid=paid) | receipt)


def resume(last_event_id: str, find: Callable[[Mark], Execution], line: SocketLine) -> Response:
    """The rest of a stream that broke. Starts nothing, and charges nothing.

    What can never be resumed is 204: it ends the reconnecting of an EventSource (spec/wire.md).
    """
    nothing_more = Response(status=204, headers={"Cache-Control": "no-store", "Vary": sse.VARY})
    mark = Mark.parse(last_event_id)
    if mark is None:
        return nothing_more
    try:
        execution = find(mark)
        if execution.state is State.RELEASED:
            return nothing_more
        return stream(services.runs.again(execution, mark.after), line, ids=True)
    except InProgress as error:  # a task is told by the worker that runs it, or not at all
        if error.execution is None or error.execution.kind is not Kind.TASK:
            raise
        return nothing_more
    except (NotFound, Unauthenticated, AnswerExpired):
        return nothing_more


def _receipt(execution: Execution) -> tuple[bool, dict[str, str]]:
    """Whether it was paid for, and the headers that say so and let its reader come back."""
    if execution.receipt is None:
        return False, {}
    token = {RESUME_TOKEN: services.runs.resume_token(execution)}
    return True, payment_response(execution) | token
