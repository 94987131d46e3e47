"""The paid door: run a creator's template for whoever pays its price."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, current_app, request

from x402jobs.blueprints import services, sse
from x402jobs.blueprints.line import SocketLine
from x402jobs.blueprints.payment_headers import payment_response
from x402jobs.blueprints.reading import read_call
from x402jobs.domain.caller import Caller
from x402jobs.domain.events import Done, Ending
from x402jobs.services.runs import Follower

bp = Blueprint("instant", __name__)
DOOR = "/@<username>/<slug>"


@bp.route(DOOR, methods=["HEAD"], provide_automatic_options=False)
def look_at_template(username: str, slug: str) -> Response:
    """What an unpaid GET would be told. Reads no payment, runs nothing (spec/instant.md)."""
    call = read_call(request, services.clock.now())
    recognise(call.address)
    listing = services.templates.listing(username, slug, call)
    template = services.templates.find(listing)
    prompt = services.templates.fill(template, call)
    services.integrations.claude_key(listing, template)
    services.agentic.prepare(prompt)
    services.paygate.ask(template, listing)
    return Response(content_type=sse.CONTENT_TYPE, headers=sse.headers_of(paid=False))


@bp.route(DOOR, methods=["GET", "POST"], provide_automatic_options=False)
def run_template(username: str, slug: str) -> Response:
    """Run a creator's template. The order of these lines is the promise (spec/money.md)."""
    call, line = read_call(request, services.clock.now()), SocketLine(request.environ)
    caller = recognise(call.address)
    listing = services.templates.listing(username, slug, call)
    if earlier := services.paygate.recall(listing, call):
        return stream(services.runs.again(earlier), line)
    template = services.templates.find(listing)
    prompt = services.templates.fill(template, call)
    owner_test = services.iam.owner_test(call.owner_test, caller, template)
    key = services.integrations.claude_key(listing, template)
    prompt = services.agentic.prepare(prompt)
    with (
        services.paygate.admit(template, listing, call, owner_test=owner_test) as admission,
        services.agentic.open(prompt, key, by=admission.deadline, line=line) as speech,
    ):
        line.still_there()
        execution = services.paygate.settle(admission)
        follower = services.runs.start(speech, execution)
    return stream(follower, line)


@bp.route(DOOR, methods=["OPTIONS"])
def answer_preflight(username: str, slug: str) -> Response:
    """Any origin may ask; the headers are added to every reply of this door."""
    return Response(status=204)


def recognise(address: str) -> Caller | None:
    """Who is calling, when they say so."""
    return services.iam.recognise(request.headers.get("Authorization"), address)


def stream(follower: Follower, line: SocketLine) -> Response:
    """The answer as server-sent events, with the receipt in front of it."""
    execution = follower.execution
    headers = sse.headers_of(paid=execution.receipt is not None) | payment_response(execution)
    if execution.receipt is not None:
        headers["X-Resume-Token"] = services.runs.resume_token(execution)
    silence = current_app.config["HEARTBEAT_SECONDS"]
    return sse.respond(follower, say, line, silence, headers)


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
