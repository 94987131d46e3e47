"""How values are written down for programs: times, money, pages (spec/http.md)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Response, jsonify, request

from x402jobs.blueprints import reading
from x402jobs.blueprints.schemas import PageSchema, load
from x402jobs.domain.execution import Execution
from x402jobs.domain.money import as_usdc
from x402jobs.domain.page import Page

Item = TypeVar("Item")

MAX_BODY_BYTES = 2 * 1024 * 1024
"""A prompt of 100 000 characters fits, even as JSON escapes of twelve bytes each."""


def read_object(empty: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object a creator has sent, for a schema to load; `empty` for no body at all."""
    body = reading.read_body(request, MAX_BODY_BYTES)
    if empty is not None and not body.strip():
        return empty
    return reading.read_object(body)


def read_page() -> dict[str, int]:
    """The `limit` and `offset` of a list's query; nothing else may be in it."""
    return load(PageSchema(), reading.query(request))


def iso(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC, to the millisecond."""
    if seconds is None:
        return None
    time = datetime.fromtimestamp(seconds, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def say_page(name: str, page: Page[Item], say: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """A list under its name, and where in the whole it stands."""
    return {
        name: [say(each) for each in page.items],
        "pagination": {
            "total": page.total,
            "limit": page.limit,
            "offset": page.offset,
            "hasMore": page.has_more,
        },
    }


def say_execution(execution: Execution) -> dict[str, Any]:
    """A run in a list. `paidUsdc` is what has moved, which a quote or a claim is not."""
    receipt = execution.receipt
    return {
        "id": execution.id,
        "kind": execution.kind,
        "state": execution.state,
        "createdAt": iso(execution.created_at),
        "durationMs": execution.duration_ms if execution.ended_at is not None else None,
        "model": execution.model,
        "inputTokens": execution.input_tokens,
        "outputTokens": execution.output_tokens,
        "paidUsdc": as_usdc(receipt.amount if receipt is not None else 0),
        "network": execution.network,
        "transaction": execution.transaction,
        "code": execution.code,
    }


def private(response: Response) -> Response:
    """For `after_request` of the doors that only their owner may look through."""
    response.headers["Cache-Control"] = "private, no-store"
    return response


def created(body: dict[str, Any], url: str) -> Response:
    """201, and where to find it again."""
    response = jsonify(body)
    response.status_code = 201
    response.headers["Location"] = url
    return response
