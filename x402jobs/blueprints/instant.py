"""The paid door: run a creator's template for whoever pays its price."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, current_app, request

from x402jobs.blueprints import json_reply, services, sse
from x402jobs.blueprints.callers import recognise
from x402jobs.blueprints.calls import read_call
from x402jobs.blueprints.line import SocketLine
from x402jobs.blueprints.payment_headers import payment_response
from x402jobs.domain.call import Call
from x402jobs.domain.events import Done, Ending
from x402jobs.services.runs import Follower

bp = Blueprint("instant", __name__)
DOOR = "/@<username>/<slug>"


@bp.route(DOOR, methods=["HEAD"], provide_automatic_options=False)
def look_at_template(username: str, slug: str) -> Response:
    """What an unpaid GET would be told. Reads no payment, runs nothing (spec/instant.md)."""
    call = read_call(request, services.pricing.networks, services.clock.now())
    recognise()
    listing = services.templates.listing(username, slug, call)
    template = services.templates.find(listing)
    prompt = services.templates.fill(template, call)
    services.integrations.claude_key(listing, template)
    services.agentic.prepare(prompt)
    services.pricing.ask(template, listing, call)
    kind = sse if call.streams else json_reply
    return Response(content_type=kind.CONTENT_TYPE, headers=kind.headers_of(paid=False))


@bp.route(DOOR, methods=["GET", "POST"], provide_automatic_options=False)
def run_template(username: str, slug: str) -> Response:
    """Run a creator's template. The order of these lines is the promise (spec/money.md)."""
    call = read_call(request, services.pricing.networks, services.clock.now())
    line = SocketLine(request.environ)
    caller = recognise()
    listing = services.templates.listing(username, slug, call)
    if earlier := services.paygate.recall(listing, call):
        return answer(services.runs.again(earlier), call, line)
    template = services.templates.find(listing)
    prompt = services.templates.fill(template, call)
    owner_test = services.iam.owner_test(call.owner_test, caller, template)
    key = services.integrations.claude_key(listing, template)
    prompt = services.agentic.prepare(prompt)
    services.runs.check_open()
    with (
        services.paygate.admit(
            template, listing, call, caller=caller, owner_test=owner_test
        ) as admission,
        services.agentic.open(prompt, key, by=admission.deadline, line=line) as speech,
    ):
        line.still_there()
        execution = services.paygate.settle(admission)
        follower = services.runs.start(speech, execution)
    return answer(follower, call, line)


@bp.route(DOOR, methods=["OPTIONS"])
def answer_preflight(username: str, slug: str) -> Response:
    """Any origin may ask; the headers are added to every reply of this door."""
    return Response(status=204)


def answer(follower: Follower, call: Call, line: SocketLine) -> Response:
    """The answer in the form the caller wants, with the receipt in front of it."""
    execution = follower.execution
    is_paid = execution.receipt is not None
    headers = payment_response(execution)
    if is_paid:
        headers["X-Resume-Token"] = services.runs.resume_token(execution)
    if call.streams:
        silence = current_app.config["HEARTBEAT_SECONDS"]
        return sse.respond(follower, say, line, silence, sse.headers_of(paid=is_paid) | headers)
    until = call.began + current_app.config["JSON_SECONDS"]
    return json_reply.respond(follower, line, until, json_reply.headers_of(paid=is_paid) | headers)


def say(event: str | Ending) -> Mapping[str, Any]:
    """This door's words for each event (spec/wire.md, Dialect of the paid door)."""
    if isinstance(event, str):
        return {"type": "text", "content": event}
    execution = event.execution
    said: dict[str, Any]
    if isinstance(event, Done):
        said = {
            "type": "done",
            "usage": execution.usage,
            "model": execution.model,
            "stopReason": execution.stop_reason,
            "durationMs": execution.duration_ms,
            "executionId": execution.id,
        }
    else:
        said = {
            "type": "error",
            "message": event.error.message,
            "code": event.error.code,
            "recoverable": event.error.recoverable,
            "executionId": execution.id,
        }
    if execution.receipt is not None:
        said["receipt"] = execution.receipt.as_json()
    if execution.credit is not None:
        said["credit"] = execution.credit.as_json()
    return said
