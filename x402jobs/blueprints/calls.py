"""A request becomes a Call, strictly, once."""

from collections.abc import Mapping
from typing import Any

from flask import Request
from werkzeug.datastructures import MIMEAccept

from x402jobs.blueprints import callers, reading
from x402jobs.blueprints.payment_headers import read_payment
from x402jobs.domain.call import Call
from x402jobs.domain.errors import InvalidRequest
from x402jobs.domain.networks import Networks
from x402jobs.domain.prompt_template import CONTROLS

MAX_BODY_BYTES = 64 * 1024
MAX_KEYS = 64
STREAMS = {"true": True, "false": False}
LAST_EVENT_ID, RESUME_TOKEN = "Last-Event-ID", "X-Resume-Token"


def read_call(request: Request, networks: Networks, began: float) -> Call:
    """Everything the paid door takes from a request. Raises InvalidRequest naming the field.

    A HEAD request is read as if no payment, no wish and nothing to resume came with it.
    """
    looks_only = request.method == "HEAD"
    wish = None if looks_only else request.headers.get("X-OWNER-TEST")
    last_event_id = None if looks_only else request.headers.get(LAST_EVENT_ID)
    asked = reading.query(request)
    ids = _ids(asked.pop("sse", None)) or last_event_id is not None
    streams = _streams(asked.pop("stream", None), request.accept_mimetypes, ids)
    network = asked.pop("network", None)
    for name in asked:
        if name in CONTROLS or request.method == "POST":
            raise InvalidRequest(f"{name[:64]} is not offered in the query here.", field=name[:64])
    values = _body_values(request) if request.method == "POST" else _query_values(asked)
    is_paying = not looks_only and wish is None
    payment = read_payment(request.headers, networks) if is_paying else None
    if network is not None and payment is None:
        # A payment's is judged after recall: what was bought is told whatever is offered today.
        networks.choose(network)
    return Call(
        path=request.path,
        values=values,
        payment=payment,
        owner_test=wish,
        bare=not values and not request.query_string,
        address=callers.address(),
        began=began,
        network=network,
        streams=streams,
        ids=ids,
        last_event_id=last_event_id,
        resume_token=request.headers.get(RESUME_TOKEN),
    )


def check_values(document: Mapping[str, Any]) -> dict[str, str | None]:
    """The values in a body's object: text, or null. Raises InvalidRequest naming the field."""
    if len(document) > MAX_KEYS:
        raise InvalidRequest(f"The body may have at most {MAX_KEYS} keys.", field="body")
    for name, value in document.items():
        if name in CONTROLS:
            raise InvalidRequest(f"{name} belongs in the query: use ?{name}=…", field=name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name[:64]} must be a string", field=name[:64])
    return dict(document)


def _body_values(request: Request) -> dict[str, str | None]:
    body = reading.read_body(request, MAX_BODY_BYTES)
    return check_values(reading.read_object(body)) if body.strip() else {}


def _query_values(asked: dict[str, str]) -> dict[str, str | None]:
    if len(asked) > MAX_KEYS:
        raise InvalidRequest(f"The query may have at most {MAX_KEYS} keys.", field="query")
    return dict(asked)


def _ids(wish: str | None) -> bool:
    """Whether `?sse=` asks for resumable ids."""
    if wish not in (None, "ids"):
        raise InvalidRequest("sse must be ids, or absent.", field="sse")
    return wish is not None


def _streams(wish: str | None, accept: MIMEAccept, ids: bool) -> bool:
    """Whether the answer is streamed: the query's word, else what the Accept header admits.

    Ids are a stream's, so that asking for them, or coming with one, asks for a stream.
    """
    if wish is None:
        return ids or not _only_json(accept)
    if wish not in STREAMS:
        raise InvalidRequest("stream must be true or false.", field="stream")
    if ids and not STREAMS[wish]:
        raise InvalidRequest(
            "An answer in one piece has no event ids: leave out stream=false.", field="stream"
        )
    return STREAMS[wish]


def _only_json(accept: MIMEAccept) -> bool:
    """Whether application/json is accepted by its name, and an event stream by none.

    The most specific range that covers a type decides about it (RFC 9110, 12.5.1).
    """
    said: dict[str, float] = {}
    for value, quality in accept:
        said.setdefault(value.partition(";")[0].strip().lower(), quality)
    ranges = ("text/event-stream", "text/*", "*/*")
    stream = next((said[name] for name in ranges if name in said), 0)
    return said.get("application/json", 0) > 0 and not stream
