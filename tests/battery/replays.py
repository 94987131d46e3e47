"""One authorization presented a hundred times at once, over two workers and across restarts."""

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tests.battery.callers import Heard, one_of
from tests.battery.house import House, Report, Site, house
from tests.battery.money import Presented

MAY_HEAR = frozenset({"200 done", "409 IN_PROGRESS", "503 SETTLEMENT_UNKNOWN"})
"""spec/money.md, Presenting a payment again: the same request, whatever its row is at."""
WITH_A_PROJECT = MAY_HEAR | {"503 STORE_UNAVAILABLE"}
"""A hundred at once may be more than a project can answer in time: nothing was charged."""


def replays(
    site: Site,
    seed: int,
    authorizations: int,
    presentations: int = 100,
    restarts: int = 2,
    bug: str | None = None,
) -> Report:
    """So many model runs and so many transfers; every other presentation is a replay or refused."""
    report = Report(f"replays x{presentations}", seed)
    words: Counter[str] = Counter()
    stops = {authorizations * number // (restarts + 1) for number in range(1, restarts + 1)}
    with (
        house(site, seed, hosts=site.hosts, bug=bug) as shop,
        ThreadPoolExecutor(presentations) as callers,
    ):
        for number in range(1, authorizations + 1):
            payment = shop.purse.next()
            said = _at_once(shop, callers, payment, presentations)
            words.update(each.brief for each in said)
            _judge(said, MAY_HEAR if site.postgres is None else WITH_A_PROJECT, report)
            if number in stops:
                _restart(shop)
        for payment in shop.purse.taken:
            _once_more(shop, payment, report)
        shop.settle_down()
        report.violations += shop.violations()
        runs, rows = sum(shop.claude.asked.values()), shop.rows()
        completed = sum((row["state"], row["attempt"]) == ("completed", 1) for row in rows)
        transfers = len(shop.transfers())
        if not runs == transfers == completed == len(rows) == authorizations:
            report.violations.append(
                f"one run, one transfer: {runs} runs, {transfers} transfers, {completed} completed,"
                f" {len(rows)} rows of {authorizations}"
            )
        report.counts = {
            "authorizations": authorizations,
            "presentations": authorizations * presentations,
            "model runs": runs,
            "transfers": transfers,
            **words,
        }
    return report


def _at_once(
    shop: House, callers: ThreadPoolExecutor, payment: Presented, presentations: int
) -> list[Heard]:
    together = Barrier(presentations)
    rng = random.Random(f"{shop.seed} {payment.nonce}")
    ways = [(one_of(rng, payment), rng.random() < 0.3) for _ in range(presentations)]

    def come(way: tuple[int, bool]) -> Heard:
        together.wait(60)
        return shop.present(payment, wrapping=way[0], as_json=way[1])

    return list(callers.map(come, ways))


def _judge(said: list[Heard], may_hear: frozenset[str], report: Report) -> None:
    for each in said:
        if each.brief not in may_hear:
            report.violations.append(f"replayed or refused: {each.brief}")
        if each.status in (409, 503) and "retry-after" not in each.headers:
            report.violations.append(f"replayed or refused: {each.brief} without Retry-After")
    if not any(each.brief == "200 done" for each in said):
        report.violations.append("replayed or refused: nobody was answered")
    if len({_receipt(each) for each in said if each.done}) > 1:
        report.violations.append("one receipt: two were heard")


def _receipt(said: Heard) -> str:
    return json.dumps((said.done or {}).get("receipt"), sort_keys=True)


def _once_more(shop: House, payment: Presented, report: Report) -> None:
    """Later, on whichever worker: the stored answer; for another request, a refusal."""
    again = shop.present(payment, wrapping=1)
    if (again.brief, again.text) != ("200 done", payment.answer):
        report.violations.append(f"replayed later: {again.brief}")
    other = shop.present(payment, topic="topic-0000000000000000")
    if other.brief != "409 CONFLICT":
        report.violations.append(f"another request is refused: {other.brief}")


def _restart(shop: House) -> None:
    if shop.random.random() < 0.5:
        shop.stop()
    else:
        shop.kill_group()
    shop.start()
