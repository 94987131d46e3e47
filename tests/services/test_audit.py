"""A debt that its operator has paid out by hand, from the command to the payer who comes back."""

import time
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import RAIN, Shop, events
from x402jobs import stores, wiring
from x402jobs.adapters.sqlite import SqliteLedger, embedded_database
from x402jobs.cli import main
from x402jobs.domain.errors import Conflict, InvalidRequest, NotFound
from x402jobs.domain.execution import Execution, State
from x402jobs.services.audit import Audit

BROKEN = {"text": "Rain taps the window.", "errorEvent": "overloaded_error", "afterDeltas": 1}
PAID_OUT, ANOTHER = "0x" + "cd" * 32, "0x" + "ef" * 32


@pytest.fixture
def audit(shop: Shop) -> Audit:
    return stores.audit(shop.settings)


def owed(shop: Shop) -> tuple[dict[str, str], str]:
    """A payment whose answer has broken off, and the id of its execution."""
    shop.claude.script(BROKEN)
    payment = shop.payment()
    assert events(shop.client.post(shop.url, json=RAIN, headers=payment))[-1]["type"] == "error"
    (row,) = shop.rows()
    assert row["state"] == "refund_due"
    return payment, row["id"]


def command(shop: Shop, *words: str) -> Result:
    return CliRunner().invoke(main, ["ledger", *words, "--data", str(shop.settings.data)])


def totals(shop: Shop) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {shop.token()}"}
    (template,) = shop.query("SELECT id FROM x402_resources")
    reply = shop.client.get(f"/resources/{template['id']}/usage", headers=headers)
    said: dict[str, Any] = reply.get_json()["totals"]
    return said


def test_a_payer_who_was_paid_back_is_told_so_and_the_books_agree(shop: Shop) -> None:
    payment, execution_id = owed(shop)
    before = totals(shop)

    paid_out = command(shop, "refund", execution_id, "--tx", PAID_OUT, "--yes")
    reply = shop.client.post(shop.url, json=RAIN, headers=payment)

    assert paid_out.exit_code == 0, paid_out.stderr
    body = reply.get_json()
    assert (reply.status_code, body["error"]) == (409, "This payment has been refunded.")
    assert body["receipt"]["paidUsdc"] == "0.01" and "credit" not in body
    assert len(shop.claude.calls) == 1
    assert (before["revenueUsdc"], before["refundsDueUsdc"]) == ("0.01", "0.01")
    after = totals(shop)
    assert (after["revenueUsdc"], after["refundsDueUsdc"], after["failed"]) == ("0.00", "0.00", 1)
    assert wiring.audit(shop.settings).check().broken == []


def test_a_shop_that_has_sold_in_every_way_is_in_order(shop: Shop) -> None:
    events(shop.buy())
    owner = {"Authorization": f"Bearer {shop.token()}", "X-OWNER-TEST": "true"}
    events(shop.client.post(shop.url, json=RAIN, headers=owner))
    shop.claude.script({"status": 401})
    assert shop.buy().status_code == 502
    shop.claude.script(BROKEN)
    payment = shop.payment()
    events(shop.client.post(shop.url, json=RAIN, headers=payment))
    shop.claude.script()
    events(shop.client.post(shop.url, json=RAIN, headers=payment))
    shop.claude.script(BROKEN)
    events(shop.buy())

    report = wiring.audit(shop.settings).check()

    states = sorted(row["state"] for row in shop.rows())
    assert states == ["completed", "completed", "completed", "refund_due", "released"]
    assert (report.broken, report.executions) == ([], 5)


def test_a_pay_out_is_written_down_once_however_often_it_is_said(shop: Shop, audit: Audit) -> None:
    _, execution_id = owed(shop)

    first = audit.pay_out(execution_id, PAID_OUT)
    again = audit.pay_out(execution_id, PAID_OUT)

    assert (first.state, first.refund_transaction) == (State.REFUNDED, PAID_OUT)
    assert again == first == audit.entry(execution_id).execution
    with pytest.raises(Conflict, match=f"refunded already, in {PAID_OUT}"):
        audit.pay_out(execution_id, ANOTHER)
    assert audit.entry(execution_id).execution == first


@pytest.mark.parametrize("state", [each for each in State if each is not State.REFUND_DUE])
def test_only_a_debt_can_be_paid_out(shop: Shop, audit: Audit, state: State) -> None:
    _, execution_id = owed(shop)
    shop.query("UPDATE x402_executions SET state = ?", state)

    with pytest.raises(Conflict, match=f"{execution_id} is {state}; only what is refund_due"):
        audit.pay_out(execution_id, PAID_OUT)

    (row,) = shop.rows()
    assert (row["state"], row["refund_transaction"]) == (state, None)


def test_the_payment_is_not_its_own_pay_out(shop: Shop, audit: Audit) -> None:
    _, execution_id = owed(shop)
    (row,) = shop.rows()

    with pytest.raises(InvalidRequest, match="is the payment itself"):
        audit.pay_out(execution_id, row["transaction"])

    assert shop.rows() == [row]


def test_a_debt_that_nobody_knows_cannot_be_paid_out(audit: Audit) -> None:
    with pytest.raises(NotFound, match="no execution e9"):
        audit.pay_out("e9", PAID_OUT)


class OvertakenLedger(SqliteLedger):
    """Somebody else is a moment faster, between this one's look and its swap."""

    def __init__(self, shop: Shop, transaction: str | None) -> None:
        super().__init__(embedded_database(shop.settings.data))
        self._transaction = transaction

    def swap(self, before: Execution, after: Execution, **kept: Any) -> None:
        if self._transaction is not None:
            super().swap(before, before.refund(self._transaction))
        else:
            super().swap(before, before.rerun("w2", time.time()))
        super().swap(before, after, **kept)


@pytest.mark.parametrize(
    ("somebody_else", "hears"),
    [
        (None, "is settled; only what is refund_due"),
        (ANOTHER, f"refunded already, in {ANOTHER}"),
        (PAID_OUT, None),
    ],
)
def test_whoever_is_faster_has_the_debt(
    shop: Shop, audit: Audit, somebody_else: str | None, hears: str | None
) -> None:
    _, execution_id = owed(shop)
    audit._ledger = OvertakenLedger(shop, somebody_else)

    if hears is None:
        assert audit.pay_out(execution_id, PAID_OUT).refund_transaction == PAID_OUT
    else:
        with pytest.raises(Conflict, match=hears):
            audit.pay_out(execution_id, PAID_OUT)

    (row,) = shop.rows()
    assert row["refund_transaction"] == somebody_else


def test_money_of_a_real_facilitator_is_not_compared_with_play_money(shop: Shop) -> None:
    events(shop.buy())
    shop.query("UPDATE x402_executions SET \"transaction\" = '0x1'")
    real = replace(shop.settings, facilitator_url="https://facilitator.example")

    (found,) = wiring.audit(shop.settings).check().broken

    assert found.name == "same_transaction"
    assert wiring.audit(real).check().broken == []
