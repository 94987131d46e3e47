"""A request becomes a Call, strictly, once."""

from urllib.parse import parse_qsl

from flask import Request

from x402jobs.blueprints.payment_headers import read_payment
from x402jobs.domain import strict_json
from x402jobs.domain.call import Call
from x402jobs.domain.errors import InvalidRequest, PayloadTooLarge
from x402jobs.domain.prompt_template import CONTROLS

MAX_BODY_BYTES = 64 * 1024
MAX_KEYS = 64


def read_call(request: Request, began: float) -> Call:
    """Everything the paid door takes from a request. Raises InvalidRequest naming the field.

    A HEAD request is read as if no payment and no wish came with it.
    """
    wish = request.headers.get("X-OWNER-TEST")
    looks_only = request.method == "HEAD"
    if request.method == "POST":
        _refuse_query(request)
        values = _read_values(_read_body(request))
    else:
        values = _read_query(request)
    return Call(
        path=request.path,
        values=values,
        payment=None if looks_only or wish is not None else read_payment(request.headers),
        owner_test=None if looks_only else wish,
        bare=not values and not request.query_string,
        # Behind a unix socket there is no peer; the proxy in front of it overwrites this header.
        address=request.remote_addr or request.headers.get("X-Real-IP", ""),
        began=began,
    )


def _read_body(request: Request) -> bytes:
    """The whole body, or PayloadTooLarge: one cut at the limit is not what was signed for."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"The request body is limited to {MAX_BODY_BYTES} bytes.")
    try:
        body = request.stream.read(MAX_BODY_BYTES + 1)
    except Exception:
        # The server's parser raises its own exceptions here for malformed chunks.
        raise InvalidRequest("The request body could not be read.") from None
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"The request body is limited to {MAX_BODY_BYTES} bytes.")
    return body


def _read_values(body: bytes) -> dict[str, str | None]:
    if not body.strip():
        return {}
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise InvalidRequest(f"The body must be a JSON object: {error}.", field="body") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.", field="body")
    if len(document) > MAX_KEYS:
        raise InvalidRequest(f"The body may have at most {MAX_KEYS} keys.", field="body")
    for name, value in document.items():
        if name in CONTROLS:
            raise InvalidRequest(f"{name} belongs in the query: use ?{name}=…", field=name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name[:64]} must be a string", field=name[:64])
    return document


def _read_query(request: Request) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for name, value in _query(request):
        if name in CONTROLS:
            raise _unknown_control(name)
        if name in values:
            raise InvalidRequest(f"{name[:64]} was given twice.", field=name[:64])
        if "\x00" in name + value:
            raise InvalidRequest("The query must be text without NUL.", field=name[:64])
        values[name] = value
    if len(values) > MAX_KEYS:
        raise InvalidRequest(f"The query may have at most {MAX_KEYS} keys.", field="query")
    return values


def _refuse_query(request: Request) -> None:
    for name, _ in _query(request):
        raise _unknown_control(name)


def _query(request: Request) -> list[tuple[str, str]]:
    """Name and value, in order. `request.args` breaks on what is not UTF-8, or quietly mends it."""
    try:
        return parse_qsl(request.query_string.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidRequest("The query must be UTF-8 text.", field="query") from None


def _unknown_control(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name[:64]} is not offered in the query here.", field=name[:64])
