"""For the operator: is the process alive, and can it take work?"""

import math
import time
from collections.abc import Iterator
from hmac import compare_digest

from flask import Blueprint, Response, current_app, jsonify, request

from x402jobs import metrics
from x402jobs.blueprints import callers, services, sse
from x402jobs.blueprints.replies import iso
from x402jobs.domain.errors import NotFound, Unauthenticated
from x402jobs.services import readiness
from x402jobs.services.readiness import Standing

bp = Blueprint("operations", __name__)

APART_SECONDS = 0.3


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers. Says nothing about what it depends on."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> Response:
    """Whether this worker can take work, by the last look at each thing it needs."""
    standings = services.readiness.standings()
    is_ready = all(standing.trouble is None for standing in standings.values())
    reply = jsonify(
        status="ready" if is_ready else "not_ready",
        checks={name: _said(standing) for name, standing in standings.items()},
    )
    reply.headers["Cache-Control"] = "no-store"
    if not is_ready:
        reply.status_code = 503
        reply.headers["Retry-After"] = str(math.ceil(readiness.LOOK_SECONDS))
    return reply


def _said(standing: Standing) -> dict[str, object]:
    trouble = standing.trouble
    if trouble is None:
        return {"ok": True}
    since = iso(standing.since)
    return {"ok": False, "reason": trouble.reason, "message": trouble.sentence, "since": since}


@bp.get("/metrics")
def tell_metrics() -> Response:
    """Everything of metrics.py, of all workers of this server. Asks nothing of the store."""
    _check_reader()
    reply = Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
    reply.headers["Cache-Control"] = "no-store"
    return reply


def _check_reader() -> None:
    """Raises Unauthenticated without METRICS_TOKEN where there is one.

    Else NotFound for who is not on this machine, or came through a proxy that is.
    """
    token = current_app.config["METRICS_TOKEN"]
    if token is not None:
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        good = compare_digest(shown.encode(), token.reveal().encode())
        if not (good and kind.lower() == "bearer"):
            raise Unauthenticated("This is for who shows METRICS_TOKEN.")
    elif not callers.is_on_this_machine():
        raise NotFound()


@bp.get("/healthz/stream")
def stream() -> Response:
    """Three events, a moment apart: whether they arrive apart says whether a proxy holds them back.

    Starts nothing and costs nobody anything (`x402jobs doctor` asks for it).
    """
    return Response(_three(), content_type=sse.CONTENT_TYPE, headers=sse.headers_of(paid=False))


def _three() -> Iterator[bytes]:
    for number in range(3):
        if number:
            time.sleep(APART_SECONDS)
        yield sse.encode({"type": "diagnostic", "number": number})
