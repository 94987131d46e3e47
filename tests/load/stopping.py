"""Ending, reloading and restarting under load: nothing is cut, nobody is refused."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.load import Recording
from tests.load.crowd import Crowd, Reply, Traffic, ask, percentiles, verdict
from tests.load.site import Report, Site
from tests.waiting import eventually


def drain(shop: Site, number: int, seconds: float) -> Report:
    """SIGTERM inside the grace period: every stream goes on to its end."""
    report = Report(f"SIGTERM with {number} open streams, inside the grace period")
    group = shop.groups[0]
    requests = shop.requests(shop.orders(number, 20, seconds + number / 50))
    with Crowd(shop.port, requests, ramp=number / 50) as crowd:
        report.expect("all have begun", _all_begun(crowd, number), crowd.begun)
        group.signal(signal.SIGTERM)
        endings = _endings(crowd.end())
    report.expect("none is cut", set(endings) == {"done"}, dict(endings))
    report.expect("it ends by itself", group.wait(30) == 0)
    report.counts = {"endings": dict(endings), "rows": dict(_states(shop))}
    report.expect("each is paid once", shop.transfers() == number, shop.transfers())
    return report


def past_grace(shop: Site, number: int, grace: int) -> Report:
    """SIGTERM, and the answers are longer: each has one terminal error, and is owed."""
    report = Report(f"SIGTERM with {number} open streams, past the grace period of {grace} s")
    group = shop.groups[0]
    requests = shop.requests(shop.orders(number, 100, 600))
    with Crowd(shop.port, requests, ramp=number / 50) as crowd:
        report.expect("all have begun", _all_begun(crowd, number), crowd.begun)
        group.signal(signal.SIGTERM)
        began = time.monotonic()
        endings = _endings(crowd.end())
        took = time.monotonic() - began
    report.expect("one terminal error each", set(endings) == {"STREAM_INTERRUPTED"}, dict(endings))
    report.expect("it ends by itself", group.wait(grace) == 0)
    states = _states(shop)
    group.start()
    settled = eventually(lambda: set(_states(shop)) == {"refund_due"}, 60)
    report.expect("every row is owed", bool(settled), dict(_states(shop)))
    report.counts = {
        "endings": dict(endings),
        "the last one after": f"{took:.1f} s",
        "rows when it had ended": dict(states),
        "rows after the next start": dict(_states(shop)),
    }
    report.expect("each is paid once", shop.transfers() == number, shop.transfers())
    return report


def reload(shop: Site, number: int, times: int, pause: float) -> Report:
    """SIGHUP again and again: old streams end where they began, new callers notice nothing."""
    report = Report(f"{times} x SIGHUP with {number} open streams")
    group = shop.groups[0]
    seconds = number / 50 + times * pause + 15
    requests = shop.requests(shop.orders(number, 20, seconds))
    with Crowd(shop.port, requests, ramp=number / 50) as crowd:
        report.expect("all have begun", _all_begun(crowd, number), crowd.begun)
        (old,) = group.workers()
        with Traffic(_calls(shop)) as traffic:
            for _ in range(times):
                group.signal(signal.SIGHUP)
                time.sleep(pause)
        report.expect("the old worker is still there", old in group.workers())
        endings = _endings(crowd.end())
    report.expect("none is cut", set(endings) == {"done"}, dict(endings))
    gone = eventually(lambda: len(group.workers()) == 1 and old not in group.workers(), 30)
    report.expect("one worker is left", bool(gone), group.workers())
    report.counts = {"endings": dict(endings), "meanwhile": _told(report, traffic.replies)}
    return report


def groups(shop: Site, times: int, pause: float, restarted: int = 2) -> Report:
    """Two groups behind nginx, one after the other ended and started again under traffic."""
    report = Report(f"two groups, {restarted} of them restarted {times} times")
    with Traffic(_calls(shop), hands=4) as traffic:
        for _ in range(times):
            for group in shop.groups[:restarted]:
                group.signal(signal.SIGTERM)
                report.expect("it ends by itself", group.wait(60) == 0)
                group.start()
                time.sleep(pause)
    report.counts = {"meanwhile": _told(report, traffic.replies)}
    states = _states(shop)
    report.expect("what was paid for is answered", set(states) <= {"completed"}, dict(states))
    return report


def _calls(shop: Site) -> Sequence[Callable[[], Reply]]:
    return [shop.unpaid, shop.paid, lambda: ask(shop.port, "GET", "/healthz")]


def _told(report: Report, replies: Sequence[Reply]) -> str:
    """What the others heard. A 503 that says when to come back is no fault, and is counted."""
    heard = Counter(
        f"{each} (Retry-After)" if each.is_deliberate else str(each) for each in replies
    )
    good = {"402 PAYMENT_REQUIRED", "200 done", "200", "503 UNAVAILABLE (Retry-After)"}
    report.expect("nobody is refused", set(heard) <= good, dict(heard))
    return f"{dict(heard)}, {percentiles([each.seconds for each in replies])}"


def _all_begun(crowd: Crowd, number: int) -> bool:
    return bool(eventually(lambda: crowd.begun == number, 60 + number / 10))


def _endings(recordings: Sequence[Recording]) -> Counter[str]:
    return Counter(verdict(each).ending for each in recordings)


def _states(shop: Site) -> Counter[str]:
    return Counter(row["state"] for row in shop.rows())
