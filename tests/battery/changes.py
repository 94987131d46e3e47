"""Whatever happens to the template once it has been paid for, the payer gets what they paid for."""

from collections.abc import Callable, Mapping
from threading import Event, Thread

from tests.battery.callers import Heard
from tests.battery.house import HURRIED, House, Report, Site, house
from tests.conftest import CREATOR_KEY, PAY_TO, PRICE
from x402jobs.domain.listing import StoredTemplate
from x402jobs.domain.secret import Secret

Change = Callable[[House, StoredTemplate], object]


def _edit(**changes: object) -> Change:
    return lambda shop, template: shop.services.resources.edit(shop.ada, template.id, changes)


CHANGES: Mapping[str, tuple[Change, str]] = {
    "paused": (_edit(is_active=False), "200 done"),
    "edited": (_edit(system_prompt="Other words about {topic}{/topic}."), "200 done"),
    "repriced": (_edit(price=PRICE * 7), "200 done"),
    "free": (_edit(price=0), "200 done"),
    "renamed": (_edit(slug="tanka"), "200 done"),
    "keyless": (
        lambda shop, template: shop.services.integrations.forget_claude_key(shop.ada),
        "503 TEMPLATE_UNAVAILABLE",
    ),
    "unpayable": (
        lambda shop, template: shop.services.integrations.forget_pay_to(shop.ada),
        "200 done",
    ),
    "deleted": (
        lambda shop, template: shop.services.resources.delete(shop.ada, template.id),
        "200 done",
    ),
}
"""Each change, and what its payer hears who is owed a re-run: never that they should pay again."""


def changes(site: Site, seed: int, times: int) -> Report:
    """Changed while an answer is on its way: it goes on and is there again. Debts stay."""
    report = Report("template changed after settlement", seed)
    with house(site, seed, workers=1, hurry=HURRIED) as shop:
        for _ in range(times):
            for name in CHANGES:
                _change(shop, name, report)
        shop.settle_down()
        report.violations += shop.violations()
        report.counts = {"changes": len(CHANGES), "each": times}
    return report


def _change(shop: House, name: str, report: Report) -> None:
    change, rerun = CHANGES[name]
    template = next(
        each
        for each in shop.services.resources.page(shop.ada, 100, 0).items
        if each.slug == "haiku" and each.is_active
    )
    cut = shop.purse.next()
    shop.claude.play = lambda topic: {"cutAtByte": 1500, "deltaMs": 0}
    if (owed := shop.present(cut)).brief != "200 error":
        report.violations.append(f"{name}: the debt did not come about: {owed.brief}")
    shop.claude.play = lambda topic: {"deltaMs": 60}
    payment, begun, told = shop.purse.next(), Event(), list[Heard]()
    follower = Thread(
        target=lambda: told.append(shop.present(payment, heard=lambda said: begun.set()))
    )
    follower.start()
    begun.wait(20)
    change(shop, template)
    follower.join(60)
    shop.claude.play = lambda topic: {}
    again, debt = shop.present(payment, wrapping=1), shop.present(cut)
    for said in (*told, again):
        if (said.brief, said.text) != ("200 done", payment.answer):
            report.violations.append(f"{name}: who has paid heard {said.brief}")
    if debt.brief != rerun:
        report.violations.append(f"{name}: who is owed heard {debt.brief}")
    if (row := shop.row(cut)) is None or row["state"] not in ("refund_due", "completed"):
        report.violations.append(f"{name}: the debt is {row and row['state']}")
    _restore(shop, template)


def _restore(shop: House, template: StoredTemplate) -> None:
    shop.services.integrations.save_claude_config(shop.ada, Secret(CREATOR_KEY))
    shop.services.integrations.save_pay_to(shop.ada, PAY_TO)
    page = shop.services.resources.page(shop.ada, 100, 0).items
    if any(each.id == template.id for each in page):
        shop.services.resources.delete(shop.ada, template.id)
    shop.publish()
