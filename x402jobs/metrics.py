"""Metrics: what the service counts and times, in Prometheus' terms; one obvious place for all.

docs/metrics.md says what each is good for. A label has few values, and never one a caller chose.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from time import monotonic

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Where gunicorn's workers count together; unset in a process that is alone (gunicorn.conf.py)."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each, of no use to us

REQUESTS = Counter(
    "x402jobs_requests",
    "Requests that were answered, by the route's rule, the status and the error's code.",
    ["method", "route", "status", "code"],
)
EXECUTIONS = Counter(
    "x402jobs_executions",
    "Runs that have ended in this process, by kind, ending state and error code.",
    ["kind", "state", "code"],
)
DELIVERIES = Counter(
    "x402jobs_deliveries",
    "Answers that somebody followed, by form and by how it ended for them.",
    ["form", "outcome"],
)
OPEN_STREAMS = Gauge(
    "x402jobs_open_streams",
    "Event streams that are being written now.",
    multiprocess_mode="livesum",
)
OPEN_REQUESTS = Gauge(
    "x402jobs_open_requests",
    "Requests that are open now, streams included, as MAX_OPEN_REQUESTS counts them.",
    multiprocess_mode="livesum",
)
FIRST_EVENT = Histogram(
    "x402jobs_first_event_seconds",
    "From a request's beginning to the first event of its stream, everything included.",
    ["kind"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60),
)
OVERHEAD = Histogram(
    "x402jobs_overhead_seconds",
    "From a request's beginning to its first event or its reply, less its waits for others.",
    ["door"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
WAITS = Histogram(
    "x402jobs_wait_seconds",
    "Waits for others, each by itself, whether they answered or not.",
    ["on"],
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
DELTAS = Counter("x402jobs_deltas", "Pieces of answers, as they came from Claude.")
TOKENS = Counter("x402jobs_tokens", "Tokens of runs that have ended.", ["direction"])
SETTLED = Counter(
    "x402jobs_settled_micro_usdc",
    "Micro-USDC whose settling was written down, by network; eip155:31337 is play money.",
    ["network"],
)
REFUNDS_DUE = Gauge(
    "x402jobs_refunds_due",
    "Executions in the ledger that are paid for and owed.",
    multiprocess_mode="livemostrecent",
)
UNKNOWN_SETTLEMENTS = Gauge(
    "x402jobs_unknown_settlements",
    "Executions in the ledger whose settlement has begun and is not decided.",
    multiprocess_mode="livemostrecent",
)
OLDEST_UNKNOWN_SETTLEMENT = Gauge(
    "x402jobs_oldest_unknown_settlement_seconds",
    "Age of the oldest of them, since its request; 0 where there is none.",
    multiprocess_mode="livemostrecent",
)
LEDGER_SEEN = Gauge(
    "x402jobs_ledger_seen_timestamp_seconds",
    "When the three gauges about the ledger were last read from it, in unix seconds.",
    multiprocess_mode="livemostrecent",
)
TAKEN_OVER = Counter(
    "x402jobs_rows_taken_over",
    "Rows that recovery has taken from workers that were gone, by what became of them.",
    ["outcome"],
)
FACILITATOR_DOWN = Gauge(
    "x402jobs_facilitator_down",
    "1 while a worker has stopped asking the facilitator, because it did not answer.",
    multiprocess_mode="livemax",
)
LIMITED = Counter("x402jobs_limited", "Hits that were over a limit, by its name.", ["limit"])
DRAINING = Gauge(
    "x402jobs_draining",
    "Workers that take nothing new, because they are about to end.",
    multiprocess_mode="livesum",
)
READY = Gauge(
    "x402jobs_ready",
    "1 where the readiness check passes, 0 where it does not.",
    ["check"],
    multiprocess_mode="livemin",
)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OURS = frozenset({"store"})
"""What is waited for on our own side, and so is part of our overhead."""


@dataclass
class Spent:
    """One request's time: when it began (monotonic), and seconds of it that went to others.

    `is_alone` is false for who follows a run that another request has begun: what they wait for is
    in that one's account.
    """

    began: float = field(default_factory=monotonic)
    elsewhere: float = 0.0
    is_alone: bool = True

    @property
    def seconds(self) -> float:
        """All of it, up to now."""
        return monotonic() - self.began

    @property
    def overhead(self) -> float:
        """What of it was ours, up to now."""
        return max(0.0, self.seconds - self.elsewhere)


_spent: ContextVar[Spent | None] = ContextVar("spent", default=None)


def account(spent: Spent | None) -> None:
    """Put the waits of this thread or greenlet down to this request from here on."""
    _spent.set(spent)


def spent() -> Spent | None:
    """The account of the request that this thread or greenlet works for."""
    return _spent.get()


@cache
def _waits(on: str) -> Histogram:
    """The series of one thing that is waited for: thirty waits a call need not look for theirs."""
    return WAITS.labels(on)


@contextmanager
def waiting(on: str) -> Iterator[None]:
    """Time what is waited for in this block, and leave it out of the request's overhead."""
    began = monotonic()
    try:
        yield
    finally:
        seconds = monotonic() - began
        _waits(on).observe(seconds)
        if on not in OURS and (request := _spent.get()) is not None:
            request.elsewhere += seconds


def exposition() -> bytes:
    """Everything, in Prometheus' text format: of all workers of this server where there are any."""
    if DIRECTORY not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
