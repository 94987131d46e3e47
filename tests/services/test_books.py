"""What has been sold, read from the ledger."""

import pytest

from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Networks
from x402jobs.domain.page import Page
from x402jobs.domain.sales import Sales
from x402jobs.services.books import Books

SHOP = Networks((DEVELOPMENT,))


class RememberingLedger:
    """The two questions of ports.Ledger that books ask, and a memory of them."""

    def __init__(self, sales):
        self._sales = sales
        self.asked = []

    def sales(self, template_ids, uncounted):
        self.asked.append([*template_ids, *uncounted])
        return self._sales

    def executions_of(self, limit, offset, **which):
        self.asked.append((limit, offset, which))
        return Page([], 0, limit, offset)


def test_the_sales_of_many_templates_are_asked_for_once_and_told_in_order():
    ledger = RememberingLedger({"b": Sales(calls=2), "a": Sales(calls=1)})

    assert Books(ledger, SHOP).sales_of_all(["a", "nothing", "b"]) == [
        Sales(calls=1),
        Sales(),
        Sales(calls=2),
    ]
    assert ledger.asked == [["a", "nothing", "b"]]


def test_the_sales_of_no_templates_are_not_asked_for():
    ledger = RememberingLedger({})

    assert Books(ledger, SHOP).sales_of_all([]) == []
    assert ledger.asked == []


@pytest.mark.parametrize(("template_id", "calls"), [("a", 1), ("nothing", 0)])
def test_the_sales_of_one_template_are_its_own(template_id, calls):
    books = Books(RememberingLedger({"a": Sales(calls=1), "b": Sales(calls=2)}), SHOP)

    assert books.sales(template_id) == Sales(calls=calls)


def test_runs_are_asked_for_by_template_or_by_caller_never_by_both():
    ledger = RememberingLedger({})

    Books(ledger, SHOP).runs_of("t1", 5, 10)
    Books(ledger, SHOP).calls_of("bob", 7, 0)

    assert ledger.asked == [(5, 10, {"template_id": "t1"}), (7, 0, {"caller_id": "bob"})]


@pytest.mark.parametrize(
    ("offered", "left_out"),
    [((DEVELOPMENT,), []), ((NETWORKS["eip155:8453"],), [DEVELOPMENT.id])],
)
def test_play_money_is_not_added_to_what_a_shop_earns(offered, left_out):
    ledger = RememberingLedger({})

    Books(ledger, Networks(offered)).sales("a")

    assert ledger.asked == [["a", *left_out]]
