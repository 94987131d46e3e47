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


def read_call(request: Request, networks: Networks, began: float) -> Call:
    """Everything the paid door takes from a request. Raises InvalidRequest naming the field.

    A HEAD request is read as if no payment and no wish came with it.
    """
    looks_only = request.method == "HEAD"
    wish = None if looks_only else request.headers.get("X-OWNER-TEST")
    asked = reading.query(request)
    streams = _streams(asked.pop("stream", None), request.accept_mimetypes)
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


def _streams(wish: str | None, accept: MIMEAccept) -> bool:
    """Whether the answer is streamed: the query's word, else what the Accept header admits."""
    if wish is None:
        return not _only_json(accept)
    if wish not in STREAMS:
        raise InvalidRequest("stream must be true or false.", field="stream")
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
