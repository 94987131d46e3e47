"""What has been asked for: the list of an account, one execution, and its answer once more."""

from typing import Any

from flask import Blueprint, Response, jsonify, request
from marshmallow import Schema

from x402jobs.blueprints import answers, reading, replies, services
from x402jobs.blueprints.callers import PROGRAMS, address, recognise, signed_in
from x402jobs.blueprints.calls import LAST_EVENT_ID, RESUME_TOKEN
from x402jobs.blueprints.line import SocketLine
from x402jobs.blueprints.replies import iso, say_execution, say_page
from x402jobs.blueprints.schemas import EventsSchema, load
from x402jobs.domain.call import Mark
from x402jobs.domain.errors import NotFound
from x402jobs.domain.execution import Execution

bp = Blueprint("executions", __name__)


@bp.after_request
def keep_private(response: Response) -> Response:
    """A stream says so itself, and more."""
    return response if response.is_streamed else replies.private(response)


@bp.get("/api/v1/executions")
def list_executions() -> Response:
    """The caller's own runs, newest first: those made with a credential of theirs."""
    caller = signed_in(*PROGRAMS).user_id
    page = services.books.calls_of(caller, **replies.read_page())
    return jsonify(say_page("executions", page, say_execution))


@bp.get("/executions/<execution_id>")
def show_execution(execution_id: str) -> Response:
    """What became of an execution: for who asked for it, and for its template's creator."""
    caller, token = recognise(), request.headers.get(RESUME_TOKEN)
    load(Schema(), reading.query(request))
    return jsonify(say_state(services.access.to_state(execution_id, token, caller, address())))


@bp.get("/executions/<execution_id>/events")
def follow_execution(execution_id: str) -> Response:
    """Its answer, from so many code points on: for who asked for it alone."""
    line = SocketLine(request.environ)
    caller, token = recognise(), request.headers.get(RESUME_TOKEN)
    asked = load(EventsSchema(), reading.query(request))

    def find(mark: Mark) -> Execution:
        if mark.execution_id != execution_id:
            raise NotFound()
        return services.access.to_answer(execution_id, token, caller, address())

    # An EventSource that reconnects asks for the same address: its header is the younger word.
    if (last_event_id := request.headers.get(LAST_EVENT_ID)) is not None:
        return answers.resume(last_event_id, find, line)
    execution = services.access.to_answer(execution_id, token, caller, address())
    follower = services.runs.again(execution, asked["after"])
    return answers.stream(follower, line, ids=asked["sse"] is not None)


def say_state(execution: Execution) -> dict[str, Any]:
    """An execution by itself: what is null has not happened, or is not owed."""
    receipt, credit = execution.receipt, execution.credit
    return {
        "id": execution.id,
        "kind": execution.kind,
        "state": execution.state,
        "createdAt": iso(execution.created_at),
        "endedAt": iso(execution.ended_at),
        "model": execution.model,
        "usage": execution.usage,
        "code": execution.code,
        "receipt": receipt.as_json() if receipt is not None else None,
        "credit": credit.as_json() if credit is not None else None,
    }
