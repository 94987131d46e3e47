"""The task door: run a tile of one's own, or a public one, and follow it (spec/tasks.md)."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request
from marshmallow import Schema, ValidationError

from x402jobs.blueprints import answers, reading, services, sse
from x402jobs.blueprints.callers import EVERYBODY, address, signed_in
from x402jobs.blueprints.calls import LAST_EVENT_ID, MAX_BODY_BYTES
from x402jobs.blueprints.line import SocketLine
from x402jobs.blueprints.schemas import TaskSchema, WishesSchema
from x402jobs.domain.call import Mark
from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.errors import InvalidRequest, Unauthenticated
from x402jobs.domain.execution import Execution
from x402jobs.domain.task import DEFAULT_MODEL, Task

bp = Blueprint("tasks", __name__)
DOOR = "/api/stream/execute-task"


@bp.route(DOOR, methods=["HEAD"], provide_automatic_options=False)
def look_at_door() -> Response:
    """What a GET would be told before it is accepted. Runs nothing."""
    read_task()
    caller()
    return Response(content_type=sse.CONTENT_TYPE, headers=sse.headers_of(paid=False))


@bp.route(DOOR, methods=["GET", "POST"])
def execute_task() -> Response:
    """Run a tile. From its acceptance on everything is an event, faults included (seed 3)."""
    task = read_task()
    line = SocketLine(request.environ)
    who = caller()
    if task.last_event_id is not None:

        def find(mark: Mark) -> Execution:
            return services.access.to_answer(mark.execution_id, None, who, address())

        return answers.resume(task.last_event_id, find, line)
    services.runs.check_open()
    started = services.tasks.run(task, who)
    prompt = started.prompt if task.tells_prompt else None
    return answers.stream(started.follower, line, ids=task.ids or is_browser(who), prompt=prompt)


def caller() -> Caller:
    """Who runs it. Raises Unauthenticated in seed 3's words, Forbidden for another site's page."""
    try:
        return signed_in(*EVERYBODY, spends=True)
    except Unauthenticated:
        raise Unauthenticated("Unauthorized: Authentication required") from None


def is_browser(who: Caller) -> bool:
    """Whether an EventSource asks: it comes back by itself, and must not start a second run."""
    return who.method is Method.SESSION and request.accept_mimetypes.best == "text/event-stream"


def read_task() -> Task:
    """What is asked for. Raises InvalidRequest with everything that is wrong with it."""
    asked = reading.query(request)
    wishes = {name: asked.pop(name) for name in WishesSchema().fields if name in asked}
    if request.method == "POST":
        sent = reading.read_object(reading.read_body(request, MAX_BODY_BYTES))
        if asked:
            known = TaskSchema().fields
            raise _invalid(
                {
                    name: "Belongs in the body here." if name in known else "Unknown field."
                    for name in asked
                }
            )
    else:
        sent = dict(asked)
    fields, faults = _load(TaskSchema(), sent)
    steering, wrong = _load(WishesSchema(), wishes)
    faults |= wrong
    try:
        services.agentic.accept_model(fields.get("model", DEFAULT_MODEL))
    except InvalidRequest as refusal:
        faults.setdefault("model", refusal.message.removeprefix("model").lstrip(": "))
    if faults:
        raise _invalid(faults)
    last_event_id = None if request.method == "HEAD" else request.headers.get(LAST_EVENT_ID)
    return Task(
        **fields,
        began=services.clock.now(),
        reruns=steering.get("rerun") == "true",
        tells_prompt=steering.get("events") == "prompt",
        ids=steering.get("sse") == "ids",
        last_event_id=last_event_id,
    )


def _load(schema: Schema, sent: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that are right, and what is wrong with the others. An empty one is none."""
    given = {name: value for name, value in sent.items() if value not in ("", None)}
    try:
        return dict(schema.load(given)), {}
    except ValidationError as error:
        right = error.valid_data if isinstance(error.valid_data, dict) else {}
        return right, {str(name)[:64]: str(why[0]) for name, why in error.messages_dict.items()}


def _invalid(faults: Mapping[str, str]) -> InvalidRequest:
    told = "; ".join(f"{name}: {why.rstrip('.')}" for name, why in faults.items())
    return InvalidRequest(f"Invalid parameters: {told}", field=next(iter(faults)))
