"""An error before the first byte is a JSON reply."""

import math
import re
import secrets
from typing import Any

import structlog
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from x402jobs import logs, metrics
from x402jobs.blueprints.payment_headers import payment_required, payment_response
from x402jobs.domain.errors import (
    AnswerExpired,
    Conflict,
    InProgress,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    PaymentRequired,
    X402JobsError,
)

log = structlog.get_logger(__name__)

ROUTING: dict[int, X402JobsError] = {
    404: NotFound(),
    405: InvalidRequest("This method is not offered here."),
    413: PayloadTooLarge(),
}
NOT_A_FAILURE = (InProgress, AnswerExpired, Conflict)
"""What is said about a purchase of which nothing has failed."""
MAX_RETRY_AFTER_SECONDS = 3600
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
"""What a caller may name its own request. Anything else is nobody's mistake, and ignored."""


def install(app: Flask) -> None:
    """Give every request an id and an account of its time, and every error the same shape."""

    @app.before_request
    def begin_request() -> None:
        g.request_id, g.code = _request_id(), ""
        logs.begin_request(g.request_id)
        metrics.account(metrics.Spent())

    @app.after_request
    def end_request(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        _count(response)
        return response

    app.register_error_handler(X402JobsError, say)
    app.register_error_handler(HTTPException, _say_http)
    app.register_error_handler(Exception, _say_unexpected)


def say(error: X402JobsError) -> Response:
    """The JSON body of spec/wire.md, with the headers the error asks for."""
    body: dict[str, Any] = {"error": error.message, "code": error.code, "requestId": g.request_id}
    if error.field is not None:
        body["field"] = error.field
    execution, headers = error.execution, {}
    if execution is not None:
        body["executionId"] = execution.id
        headers = payment_response(execution)
        if execution.receipt is not None:
            # Seed 1's shape once money has moved.
            body |= {"message": error.message, "receipt": execution.receipt.as_json()}
            if not isinstance(error, NOT_A_FAILURE):
                body["error"] = "Execution failed"
        if execution.credit is not None:
            body["credit"] = execution.credit.as_json()
    if isinstance(error, PaymentRequired):
        body, headers = _quote(error)
    response = jsonify(body)
    response.status_code = error.status
    response.headers.update(headers)
    response.headers["Cache-Control"] = "no-store"
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        wait = min(max(1, math.ceil(error.retry_after)), MAX_RETRY_AFTER_SECONDS)
        response.headers["Retry-After"] = str(wait)
    g.code = error.code
    about = {"execution_id": execution.id} if execution is not None else {}
    log.info("refused", code=error.code, status=error.status, **about)
    return response


def _request_id() -> str:
    """The caller's own, where it is one; else one of ours."""
    theirs = request.headers.get("X-Request-Id", "")
    return theirs if REQUEST_ID.fullmatch(theirs) else f"req_{secrets.token_hex(12)}"


def _count(response: Response) -> None:
    """A stream has only begun here: deliveries.py times its first event."""
    method = request.method if request.method in metrics.METHODS else "other"
    route = request.url_rule.rule if request.url_rule is not None else "none"
    metrics.REQUESTS.labels(method, route, str(response.status_code), g.code).inc()
    spent = metrics.spent()
    if spent is not None and spent.is_alone and not response.is_streamed:
        metrics.OVERHEAD.labels(request.blueprint or "none").observe(spent.overhead)


def _quote(error: PaymentRequired) -> tuple[dict[str, Any], dict[str, str]]:
    """The 402: version 2 in the header; a body for people and for version 1's clients."""
    said = {"code": error.code, "requestId": g.request_id}
    headers = payment_required(error.quote.as_json(error.message))
    if error.refused is not None:
        headers |= payment_response(error.refused, reason=error.refused.code)
    return error.quote.as_v1_json(error.message) | said, headers


def _say_http(error: HTTPException) -> Response:
    """Routing's own errors, in our shape and words."""
    status = error.code or 500
    ours = ROUTING.get(status) or (InvalidRequest() if status < 500 else X402JobsError())
    response = say(ours)
    response.status_code = status
    if status == 405:
        response.headers["Allow"] = dict(error.get_headers(request.environ)).get("Allow", "")
    return response


def _say_unexpected(error: Exception) -> Response:
    """A bug of ours: logged with its kind and place, said with a neutral sentence."""
    log.error("unexpected", exc_info=error)
    return say(X402JobsError())
