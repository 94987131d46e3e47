"""SIGTERM and SIGHUP: no stream is cut inside the grace period, past it each is owed."""

import http.client
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Semaphore

from tests.battery.callers import PATH, Heard
from tests.battery.house import HURRIED, House, Report, Site, house
from tests.battery.money import Presented
from tests.waiting import eventually


@contextmanager
def _streams(shop: House, number: int) -> Iterator[list[Future[Heard]]]:
    """So many streams, all of them begun."""
    begun = Semaphore(0)

    def follow(payment: Presented) -> Heard:
        return shop.present(payment, heard=lambda said: begun.release())

    with ThreadPoolExecutor(number) as crowd:
        told = [crowd.submit(follow, shop.purse.next()) for _ in range(number)]
        for _ in told:
            assert begun.acquire(timeout=60)
        yield told


def drains(site: Site, seed: int, streams: int) -> Report:
    """Inside the grace period: every stream to its end, and whoever comes meanwhile is told so."""
    report = Report("SIGTERM, inside the grace period", seed)
    with house(site, seed, workers=1, options=("--graceful-timeout", "60")) as shop:
        shop.claude.play = lambda topic: {"deltaMs": 150}
        late = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)
        with _streams(shop, streams) as told:
            late.request("GET", "/healthz")
            late.getresponse().read()
            assert shop.process is not None
            shop.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: "draining" in shop.log(), 10)
            answer = _ask(late, shop.purse.next())
            heard = Counter(each.result(60).brief for each in told)
        if heard != {"200 done": streams}:
            report.violations.append(f"none is cut: {dict(heard)}")
        if answer != (503, "UNAVAILABLE"):
            report.violations.append(f"new ones are refused: {answer}")
        late.close()
        if shop.process.wait(30) != 0:
            report.violations.append("it ends by itself: it did not")
        report.violations += shop.violations()
        report.counts = {"streams": streams, **heard}
    return report


def _ask(connection: http.client.HTTPConnection, payment: Presented) -> tuple[int, str]:
    body = json.dumps({"topic": payment.topic})
    headers = payment.wrappings[0] | {"Content-Type": "application/json"}
    try:
        connection.request("POST", PATH, body, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()).get("code")
    except (OSError, http.client.HTTPException) as error:
        return 0, type(error).__name__


def past_grace(site: Site, seed: int, streams: int) -> Report:
    """One terminal error with receipt and credit for each; the debts run again after a restart."""
    report = Report("SIGTERM, past the grace period", seed)
    options = ("--graceful-timeout", "8")
    with house(site, seed, workers=1, hurry=HURRIED, options=options) as shop:
        shop.claude.play = lambda topic: {"deltaMs": 1000}
        with _streams(shop, streams) as told:
            assert shop.process is not None
            shop.process.send_signal(signal.SIGTERM)
            heard = [each.result(60) for each in told]
        shop.process.wait(30)
        for said in heard:
            row, error = shop.row(said.payment), said.error or {}
            if said.brief != "200 error" or not {"receipt", "credit"} <= error.keys():
                report.violations.append(f"past the grace: {said.brief}, {sorted(error)}")
            if row is None or row["state"] != "refund_due":
                report.violations.append(f"past the grace: the row is {row and row['state']}")
        shop.claude.play = lambda topic: {}
        shop.start()
        again = Counter(shop.insist(said.payment).brief for said in heard)
        if again != {"200 done": streams}:
            report.violations.append(f"run again: {dict(again)}")
        report.violations += shop.violations()
        codes = Counter((said.error or {}).get("code") for said in heard)
        report.counts = {"streams": streams, **codes, "re-runs": sum(again.values())}
    return report


def reloads(site: Site, seed: int, streams: int) -> Report:
    """SIGHUP: old streams end where they began, new callers are served meanwhile."""
    report = Report("SIGHUP", seed)
    with house(site, seed, workers=1, options=("--graceful-timeout", "60")) as shop:
        (old,) = shop.workers()
        shop.claude.play = lambda topic: {"deltaMs": 200}
        with _streams(shop, streams) as told:
            assert shop.process is not None
            shop.process.send_signal(signal.SIGHUP)
            assert eventually(lambda: len(shop.workers()) > 1, 20)
            shop.claude.play = lambda topic: {}
            meanwhile = shop.insist(shop.purse.next()).brief
            heard = Counter(each.result(60).brief for each in told)
        if heard != {"200 done": streams} or meanwhile != "200 done":
            report.violations.append(f"none is cut: {dict(heard)}, meanwhile {meanwhile}")
        _expect(lambda: old not in shop.workers(), "the old worker stays", report)
        report.violations += shop.violations()
        report.counts = {"streams": streams, **heard}
    return report


def _expect(look: Callable[[], bool], otherwise: str, report: Report) -> None:
    if not eventually(look, 20):
        report.violations.append(otherwise)
