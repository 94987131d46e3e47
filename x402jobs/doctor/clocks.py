"""Whether another clock agrees with this host's."""

from email.utils import parsedate_to_datetime

from x402jobs.doctor import Finding, fail, ok, warn

APART_SECONDS = 5.0
"""Signatures live two minutes, and leases fifteen seconds: this much does no harm."""


def compared(whose: str, then: float, before: float, after: float) -> Finding:
    """`then` was told at some moment from `before` to `after` of our own clock, in unix seconds."""
    apart = then - min(max(then, before), after)
    if abs(apart) <= APART_SECONDS:
        return ok(f"{whose} clock agrees with this host's")
    ahead = "ahead of" if apart > 0 else "behind"
    return fail(
        f"{whose} clock is {abs(apart):.0f} s {ahead} this host's",
        "let both follow NTP (timedatectl, chronyc tracking): signatures and leases are timed",
    )


def dated(whose: str, header: str | None, before: float, after: float) -> Finding:
    """The same by a Date header, which is told in whole seconds."""
    try:
        then = parsedate_to_datetime(header or "").timestamp()
    except ValueError:
        return warn(f"{whose} answer has no Date", "compare the clocks by hand")
    return compared(whose, then, before - 1, after)
