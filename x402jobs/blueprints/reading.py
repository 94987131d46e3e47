"""What a request carries, read strictly: one meaning, or an error that names the place."""

from typing import Any
from urllib.parse import parse_qsl

from flask import Request

from x402jobs.domain import strict_json
from x402jobs.domain.errors import BodyTooSlow, InvalidRequest, PayloadTooLarge


def read_body(request: Request, limit: int) -> bytes:
    """The whole body, or PayloadTooLarge: one cut at the limit is not what was sent.

    Raises BodyTooSlow when the server has waited for it long enough (x402jobs/worker.py).
    """
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(f"The request body is limited to {limit} bytes.")
    try:
        body = request.stream.read(limit + 1)
    except TimeoutError:
        raise BodyTooSlow() from None
    except Exception:
        # The server's parser raises its own exceptions here for malformed chunks.
        raise InvalidRequest("The request body could not be read.") from None
    if len(body) > limit:
        raise PayloadTooLarge(f"The request body is limited to {limit} bytes.")
    return body


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that this body is. Raises InvalidRequest."""
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise InvalidRequest(f"The body must be a JSON object: {error}.", field="body") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.", field="body")
    return document


def query(request: Request) -> dict[str, str]:
    """The query's names and values, in order. Raises InvalidRequest naming the field.

    `request.args` breaks on what is not UTF-8, or quietly mends it.
    """
    try:
        text = request.query_string.decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidRequest("The query must be UTF-8 text.", field="query") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidRequest(f"{name[:64]} was given twice.", field=name[:64])
        if "\x00" in name + value:
            raise InvalidRequest("The query must be text without NUL.", field=name[:64])
        values[name] = value
    return values
