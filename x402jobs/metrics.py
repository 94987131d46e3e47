"""Metrics: what the service counts and times, in Prometheus' terms; one obvious place for all."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "x402jobs_requests",
    "Requests that were answered, by the route's rule and the status.",
    ["method", "route", "status"],
)
EXECUTIONS = Counter(
    "x402jobs_executions",
    "Runs that have ended in this process, by kind, ending state and error code.",
    ["kind", "state", "code"],
)
READY = Gauge(
    "x402jobs_ready",
    "1 where the readiness check passes, 0 where it does not.",
    ["check"],
    multiprocess_mode="livemin",
)
