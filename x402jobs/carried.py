"""Threads that work for a request: its ids are in their log lines, their waits in its account."""

from collections.abc import Callable
from typing import ParamSpec

from structlog.contextvars import bind_contextvars, get_contextvars

from x402jobs import metrics

Arguments = ParamSpec("Arguments")


def carried(work: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """The same work, for a thread of its own that belongs to the request at hand.

    Not `contextvars.copy_context`: Flask's request is in there too, payment header and all, and a
    run may outlive it by minutes.
    """
    ids, spent = get_contextvars(), metrics.spent()

    def begin(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        bind_contextvars(**ids)
        metrics.account(spent)
        work(*args, **kwargs)

    return begin
