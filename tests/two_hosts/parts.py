"""One shop on two hosts of two workers each: one Postgres, one Redis, one key ring."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from types import MappingProxyType
from typing import Any

import httpx

from tests.battery import invariants, replays
from tests.battery.callers import Heard, present
from tests.battery.house import Host, House, Report, Site, house
from tests.battery.money import Presented
from tests.redis import RedisServer, redis_server
from tests.waiting import eventually
from x402jobs.domain.errors import LimitsUnavailable

HOSTS = WORKERS = 2
BAD = {"Authorization": "Bearer bad"}


@dataclass
class Hosts:
    """A house on two hosts, and the Redis in which it counts, if it was told of one."""

    shop: House
    redis: RedisServer
    allowed: int

    def states(self, payments: list[Presented]) -> list[str]:
        """What the ledger says of these payments."""
        nonces = {payment.nonce for payment in payments}
        return sorted(r["state"] for r in self.shop.rows() if invariants.nonce_of(r) in nonces)


@contextmanager
def two_hosts(
    site: Site,
    seed: int,
    allowed: int = 20,
    *,
    hurry: Mapping[str, float] = MappingProxyType({}),
    has_redis: bool = True,
) -> Iterator[Hosts]:
    """Open it; an address may show so many bad credentials a day."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(site.directory / "redis"))
        told = {"LIMIT_FAILED_CREDENTIAL": f"{allowed} per day"}
        if has_redis:
            told["REDIS_URL"] = redis.url
        opened = house(site, seed, workers=WORKERS, hosts=HOSTS, hurry=hurry, **told)
        yield Hosts(stack.enter_context(opened), redis, allowed)


def common_limits(hosts: Hosts, asked: int) -> Report:
    """So many are let through by all four workers together, however they are asked."""
    shop, allowed = hosts.shop, hosts.allowed
    report = Report("limits are common", shop.seed)
    told = Counter(_together(shop, asked, lambda host: _knock(host, "/auth/me", BAD)))
    good = {"Authorization": f"Bearer {shop.beneath.token(shop.ada)}"}
    let_in = Counter(_knock(host, "/auth/me", good) for host in shop.hosts for _ in range(4))
    report.counts = {"asked": asked, **{str(status): told[status] for status in sorted(told)}}
    if told != {401: allowed, 429: asked - allowed}:
        report.violations.append(f"exactly {allowed} of {asked}: {dict(told)}")
    if let_in != {200: HOSTS * 4}:
        report.violations.append(f"who is known is let in meanwhile: {dict(let_in)}")
    return report


def one_account(hosts: Hosts) -> Report:
    """Sessions and keys that one host has made are good on the other, and over there when over."""
    shop, here = hosts.shop, {"Sec-Fetch-Site": "same-origin"}
    report = Report("one account on both", shop.seed)
    one, other = shop.hosts
    token = {"Authorization": f"Bearer {shop.beneath.token(shop.ada)}"}
    begun = _ask(one, "POST", "/auth/session", token)
    session = here | {"Cookie": begun.headers["set-cookie"].partition(";")[0]}
    made = _ask(other, "POST", "/api/keys", token, json={"name": "CI"}).json()
    key = {"X-API-Key": made["key"]}
    looks = {
        "a session of the one is good on the other": _knock(other, "/auth/me", session) == 200,
        "a key of the other is good on the one": _knock(one, "/api/tiles", key) == 200,
    }
    _ask(other, "DELETE", "/auth/session", session)
    _ask(one, "DELETE", f"/api/keys/{made['id']}", token)
    over = (401, 429)  # counted, and perhaps the one too many
    looks |= {
        "ended on the other, over on the one": _knock(one, "/auth/me", session) in over,
        "deleted on the one, over on the other": _knock(other, "/api/tiles", key) in over,
    }
    report.counts = {"looks": len(looks)}
    report.violations += [name for name, holds in looks.items() if not holds]
    return report


def one_run(hosts: Hosts, payments: int, presentations: int) -> Report:
    """The same payment at both hosts at once: one run, one transfer, for all the others a wait."""
    shop = hosts.shop
    report = Report(f"one payment at both, x{presentations}", shop.seed)
    words: Counter[str] = Counter()
    bought = [shop.purse.next() for _ in range(payments)]
    for payment in bought:
        buy = partial(_present, payment)
        said = _together(shop, presentations, buy)
        shop.heard += said
        words.update(each.brief for each in said)
        again = shop.insist(payment)
        runs, moved = shop.claude.asked[payment.topic], shop.moved(payment)
        if (runs, moved, again.text) != (1, 1, payment.answer):
            report.violations.append(f"one run, one transfer: {runs} and {moved}, {again.brief}")
    shop.settle_down()
    report.violations += shop.violations()
    runs = sum(shop.claude.asked[payment.topic] for payment in bought)
    transfers = sum(shop.moved(payment) for payment in bought)
    report.counts = {"payments": payments, "runs": runs, "transfers": transfers, **words}
    if not words.keys() <= replays.WITH_A_PROJECT or "200 done" not in words:
        report.violations.append(f"answered or told to wait: {dict(words)}")
    return report


def redis_goes(hosts: Hosts) -> Report:
    """Redis is killed and comes back: what it guards waits, who pays does not notice."""
    shop = hosts.shop
    report = Report("Redis goes and comes back", shop.seed)
    before = {_knock(host, "/auth/me", BAD) for host in shop.hosts}
    hosts.redis.stop()
    away = [_ask(host, "GET", "/auth/me", BAD) for host in shop.hosts for _ in range(4)]
    paid = [shop.present(shop.purse.next()) for _ in range(8)]
    hosts.redis.start()
    began = time.monotonic()

    def counts() -> bool:
        return {_knock(host, "/auth/me", BAD) for host in shop.hosts} == {401}

    is_back = eventually(counts, 30)
    back = time.monotonic() - began
    shop.settle_down()
    report.violations += shop.violations()
    codes = Counter((each.status_code, each.json()["code"]) for each in away)
    slowest = max(each.elapsed.total_seconds() for each in away)
    report.counts = {
        "refused": len(away),
        "slowest refusal, seconds": round(slowest, 3),
        "paid meanwhile": sum(each.brief == "200 done" for each in paid),
        "seconds until it counts again": round(back, 2),
    }
    if not before <= {401, 429} or not is_back:
        report.violations.append(f"it counts before and after: {before}, {is_back}")
    if codes != {(503, LimitsUnavailable.code): len(away)}:
        report.violations.append(f"nothing passes uncounted: {dict(codes)}")
    if any(each.brief != "200 done" for each in paid):
        report.violations.append(f"who pays is served: {[each.brief for each in paid]}")
    return report


def one_dies(hosts: Hosts, streams: int) -> Report:
    """kill -9 of a host amid paid streams: the other takes its rows, and serves its payers.

    It stays dead.
    """
    shop = hosts.shop
    report = Report("one host of two is killed", shop.seed)
    shop.claude.play = lambda topic: {"deltaMs": 1000}
    dying, other = shop.hosts
    payments = [shop.purse.next() for _ in range(streams)]
    with ThreadPoolExecutor(streams) as callers:
        begun = [callers.submit(present, dying.port, payment) for payment in payments]
        if not eventually(lambda: hosts.states(payments) == ["settled"] * streams, 60):
            report.violations.append(f"they did not begin: {Counter(hosts.states(payments))}")
        dying.kill_group()
        killed = time.monotonic()
        cut = [each.result() for each in begun]
    eventually(lambda: hosts.states(payments) == ["refund_due"] * streams, 60)
    taken = time.monotonic() - killed
    states = Counter(hosts.states(payments))
    if states != {"refund_due": streams}:
        report.violations.append(f"the other host takes its rows: {dict(states)}")
    shop.claude.play = lambda topic: {}
    with ThreadPoolExecutor(streams) as callers:
        again = list(callers.map(lambda each: present(other.port, each), payments))
    shop.heard += [*cut, *again]
    served = sum((each.brief, each.text) == ("200 done", each.payment.answer) for each in again)
    if served != streams:
        report.violations.append(f"who paid is served: {[each.brief for each in again]}")
    shop.settle_down(5)
    report.violations += shop.violations()
    report.counts = {
        "streams": streams,
        "seconds from the kill to the last debt": round(taken, 1),
        "re-runs served": served,
        "transfers": sum(shop.moved(payment) for payment in payments),
    }
    return report


def _present(payment: Presented, host: Host) -> Heard:
    return present(host.port, payment)


def _together(shop: House, times: int, ask: Callable[[Host], Any]) -> list[Any]:
    """Ask the hosts in turn, all at once."""
    together = Barrier(times)

    def come(number: int) -> Any:
        together.wait(60)
        return ask(shop.hosts[number % HOSTS])

    with ThreadPoolExecutor(times) as callers:
        return list(callers.map(come, range(times)))


def _ask(
    host: Host, method: str, path: str, headers: Mapping[str, str], **more: object
) -> httpx.Response:
    url = f"http://127.0.0.1:{host.port}{path}"
    return httpx.request(method, url, headers=dict(headers), trust_env=False, timeout=60, **more)  # type: ignore[arg-type]


def _knock(host: Host, path: str, headers: Mapping[str, str]) -> int:
    return _ask(host, "GET", path, headers).status_code
