"""Who is let in: what can be read in one way only, and no more at once than we can hold."""

from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING

from flask import Flask, request

from x402jobs import metrics
from x402jobs.domain.errors import InvalidRequest, Unavailable
from x402jobs.ports import Trouble

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

EXEMPT = frozenset({"/healthz", "/readyz", "/metrics"})
"""How a shop that is full is looked at."""
OVER = "x402jobs.over_the_cap"
FULL = (
    "The service is busy. This request was not begun, and nothing was charged for it. Send it "
    "again shortly; one with a payment with the same payment: do not sign a new one."
)

CROWDED = Trouble("full", "As many requests are open as MAX_OPEN_REQUESTS allows this worker.")


class Cap:
    """The WSGI application behind a cap: how many requests are open, from the first line of ours to
    the closing of the response, streams included. One above `limit` is marked, and refused inside,
    where errors get their shape.
    """

    def __init__(self, application: "WSGIApplication", limit: int) -> None:
        self._application = application
        self._limit = limit
        self._lock = Lock()
        self._open = 0

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in EXEMPT:
            return self._application(environ, start_response)
        with self._lock:
            self._open += 1
            environ[OVER] = self._open > self._limit
        metrics.OPEN_REQUESTS.inc()
        try:
            return _Counted(self._application(environ, start_response), self._leave)
        except BaseException:
            self._leave()
            raise

    @property
    def is_full(self) -> bool:
        """Whether one more would be refused."""
        return self._open >= self._limit

    def _leave(self) -> None:
        with self._lock:
            self._open -= 1
        metrics.OPEN_REQUESTS.dec()


class _Counted:
    """A response; it hands out its own iterator, so that no event is slower for being counted."""

    def __init__(self, response: Iterable[bytes], leave: Callable[[], None]) -> None:
        self._response = response
        self._leave: Callable[[], None] | None = leave

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        """Count it out, once, whatever happens; servers call this for every response."""
        try:
            if hasattr(self._response, "close"):
                self._response.close()
        finally:
            leave, self._leave = self._leave, None
            if leave is not None:
                leave()


def install(app: Flask) -> None:
    """Look at every request before its door does."""
    cap = Cap(app.wsgi_app, app.config["MAX_OPEN_REQUESTS"])
    app.wsgi_app = cap  # type: ignore[method-assign]  # Flask's own way to wrap it
    app.extensions["x402jobs"].readiness.flag(
        "open_requests", lambda: CROWDED if cap.is_full else None
    )

    @app.before_request
    def admit() -> None:
        if request.environ.get(OVER):
            raise Unavailable(FULL)
        _check_form()


def _check_form() -> None:
    """What gunicorn lets pass and another server may read otherwise. Raises InvalidRequest."""
    protocol = request.environ.get("SERVER_PROTOCOL")
    if protocol not in ("HTTP/1.1", "HTTP/1.0"):
        raise InvalidRequest("This server speaks HTTP/1.1 and HTTP/1.0.")
    if protocol == "HTTP/1.1" and not request.headers.get("Host"):
        raise InvalidRequest("HTTP/1.1 needs a Host header.", field="Host")
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise InvalidRequest(
            "A body is taken as it is or chunked, in no other transfer coding.",
            field="Transfer-Encoding",
        )
