"""Server-sent events: the only writer of bytes (spec/wire.md)."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flask import Response

from x402jobs import metrics
from x402jobs.blueprints.deliveries import Delivery, Outcome
from x402jobs.blueprints.dialects import Dialect
from x402jobs.blueprints.line import SocketLine
from x402jobs.domain.call import Mark
from x402jobs.domain.events import Ending, PromptWritten
from x402jobs.services.runs import Follower

CONTENT_TYPE = "text/event-stream; charset=utf-8"
PING = b": ping\n\n"
PING_AMONG_IDS = b": ping\n"
"""Without a blank line, it belongs to the event that comes next: no reader sees an empty one."""
VARY = "Accept, Authorization, PAYMENT-SIGNATURE, X-PAYMENT"
"""What decides about an answer besides its address and body."""
PIECE_CHARACTERS = 1300
"""Escaped, a character takes at most 12 bytes, so an event stays below 16 KiB."""

_json = json.JSONEncoder(separators=(",", ":")).encode  # built once: dumps would, per event


def encode(payload: Mapping[str, Any]) -> bytes:
    """One event: one ``data:`` line, one blank line, ASCII only."""
    return f"data: {_json(payload)}\n\n".encode("ascii")


def lines(
    follower: Follower,
    dialect: Dialect,
    line: SocketLine,
    silence: float,
    delivery: Delivery,
    ids: bool = False,
    prompt: Callable[[], str | None] | None = None,
) -> Iterator[bytes]:
    """Say each event in one write; a comment after a silence; the ending last.

    With `ids` every event has one, from which the stream can be resumed; with `prompt` that is
    told before the first of them, where there is one by then. `silence` is in seconds.

    What becomes of it is told to `delivery`: counted here, said once, at the end.
    """
    said = numbered(follower, dialect) if ids else lambda event: encode(dialect(event))
    deltas, characters, ending, has_begun = 0, 0, None, False
    outcome: Outcome = "broken_off"
    metrics.OPEN_STREAMS.inc()
    try:
        for event in follower.events(silence):
            if event is None:
                if line.gone():
                    outcome = "caller_left"
                    return
                yield PING_AMONG_IDS if ids else PING
                continue
            if not has_begun:
                has_begun = True
                delivery.begin()
                if prompt is not None and (written := prompt()) is not None:
                    yield said(PromptWritten(written))
            if isinstance(event, str):
                deltas, characters = deltas + 1, characters + len(event)
                for start in range(0, len(event), PIECE_CHARACTERS):
                    yield said(event[start : start + PIECE_CHARACTERS])
            else:
                ending = event
                yield said(event)
        outcome = "whole"
    except GeneratorExit:  # the server could not write: to nobody, or to who does not read
        outcome = "caller_left" if line.gone() else "too_slow"
        raise
    finally:
        metrics.OPEN_STREAMS.dec()
        delivery.end(outcome, deltas, characters, ending)


def numbered(
    follower: Follower, dialect: Dialect
) -> Callable[[str | PromptWritten | Ending], bytes]:
    """Events that say how much of the answer has been delivered once they are read."""
    delivered = follower.after

    def say(event: str | PromptWritten | Ending) -> bytes:
        nonlocal delivered
        delivered += len(event) if isinstance(event, str) else 0
        return f"id: {Mark(follower.execution.id, delivered)}\n".encode() + encode(dialect(event))

    return say


def headers_of(*, paid: bool) -> dict[str, str]:
    """The headers of every stream. `Connection` is the server's to send, not ours."""
    return {
        "Cache-Control": "private, no-store, no-transform" if paid else "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "Vary": VARY,
    }


def respond(follower: Follower, said: Iterator[bytes], headers: Mapping[str, str]) -> Response:
    """The stream; its follower is closed when it ends or its caller goes."""
    response = Response(said, content_type=CONTENT_TYPE, headers=dict(headers))
    response.headers["X-Execution-Id"] = follower.execution.id
    response.call_on_close(follower.close)
    return response
