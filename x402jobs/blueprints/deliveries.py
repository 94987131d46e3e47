"""Deliveries: how an answer reached whoever followed it, in one line of the log and in figures."""

from time import monotonic
from typing import Literal

import structlog
from flask import g, request

from x402jobs import metrics
from x402jobs.domain.events import Done, Failed
from x402jobs.services.runs import Follower

log = structlog.get_logger(__name__)

Form = Literal["stream", "json"]
Outcome = Literal["whole", "caller_left", "too_slow", "too_long", "broken_off"]
"""All of it was taken, its ending included, be that an error; the caller hung up; or did not take
an event in time; the answer was longer than one JSON reply waits for; the server had to end."""


class Delivery:
    """One answer on its way to one caller. Made in their request, which a stream outlives."""

    def __init__(self, follower: Follower, form: Form) -> None:
        self._execution = follower.execution
        self._form = form
        self._request_id, self._door = g.request_id, request.blueprint or "none"
        self._spent = metrics.spent() or metrics.Spent()
        self._first_event_ms: int | None = None

    def begin(self) -> None:
        """The first event is ready to go."""
        spent = self._spent
        self._first_event_ms = round(spent.seconds * 1000)
        metrics.FIRST_EVENT.labels(self._execution.kind).observe(spent.seconds)
        if spent.is_alone:
            metrics.OVERHEAD.labels(self._door).observe(spent.overhead)

    def end(
        self, outcome: Outcome, deltas: int, characters: int, ending: Done | Failed | None
    ) -> None:
        """Say how it ended for the caller, and how the run did where they were told."""
        log.info(
            "delivered",
            request_id=self._request_id,
            execution_id=self._execution.id,
            kind=self._execution.kind,
            form=self._form,
            outcome=outcome,
            code=ending.error.code if isinstance(ending, Failed) else None,
            deltas=deltas,
            characters=characters,
            first_event_ms=self._first_event_ms,
            duration_ms=round((monotonic() - self._spent.began) * 1000),
        )
        metrics.DELIVERIES.labels(self._form, outcome).inc()
