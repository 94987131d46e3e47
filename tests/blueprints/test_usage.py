"""What a template has sold: sums that agree with the ledger, and every run."""

from typing import Any

import pytest

from tests.blueprints.creators import ada, bob, haiku_id
from tests.conftest import RAIN, Shop, events
from x402jobs.domain.networks import DEVELOPMENT

NOTHING = {
    "calls": 0,
    "completed": 0,
    "failed": 0,
    "tests": 0,
    "inputTokens": 0,
    "outputTokens": 0,
    "revenueUsdc": "0.00",
    "refundsDueUsdc": "0.00",
}
TOKENS = {"input_tokens": 10, "output_tokens": 7}
CACHED = {"cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000}


def usage(shop: Shop, query: str = "") -> Any:
    return ada(shop).get(f"/resources/{haiku_id(shop)}/usage{query}")


def test_a_template_that_nobody_has_called_has_done_nothing(shop: Shop) -> None:
    assert usage(shop) == {
        "totals": NOTHING,
        "executions": [],
        "pagination": {"total": 0, "limit": 25, "offset": 0, "hasMore": False},
    }


def test_a_paid_call_is_revenue(shop: Shop) -> None:
    shop.claude.script({"text": "Rain.", "usage": TOKENS | CACHED})
    said = events(shop.buy())

    told = usage(shop)

    assert told["totals"] == NOTHING | {
        "calls": 1,
        "completed": 1,
        "inputTokens": 3210,
        "outputTokens": 7,
        "revenueUsdc": "0.01",
    }
    (run,) = told["executions"]
    assert run.pop("createdAt").endswith("Z")
    assert run == {
        "id": said[-1]["executionId"],
        "kind": "paid",
        "state": "completed",
        "durationMs": said[-1]["durationMs"],
        "model": said[-1]["model"],
        "inputTokens": 3210,
        "outputTokens": 7,
        "paidUsdc": "0.01",
        "network": DEVELOPMENT.id,
        "transaction": said[-1]["receipt"]["transaction"],
        "code": None,
    }


def test_an_answer_that_broke_off_is_owed_and_still_revenue(shop: Shop) -> None:
    events(shop.buy())
    shop.claude.script({"errorEvent": "overloaded_error", "afterDeltas": 1})
    assert events(shop.buy())[-1]["credit"]["amountUsdc"] == "0.01"

    told = usage(shop)

    totals = told["totals"]
    assert (totals["calls"], totals["completed"], totals["failed"]) == (2, 1, 1)
    assert (totals["revenueUsdc"], totals["refundsDueUsdc"]) == ("0.02", "0.01")
    assert [(run["state"], run["code"], run["paidUsdc"]) for run in told["executions"]] == [
        ("refund_due", "OVERLOADED", "0.01"),
        ("completed", None, "0.01"),
    ]


def test_an_owners_test_is_no_sale_and_its_tokens_are_counted(shop: Shop) -> None:
    shop.claude.script({"text": "Rain.", "usage": TOKENS})
    creator = ada(shop)

    events(creator.ask("POST", shop.url, RAIN, headers={"X-OWNER-TEST": "true"}))

    told = usage(shop)
    assert told["totals"] == NOTHING | {"tests": 1, "inputTokens": 10, "outputTokens": 7}
    (run,) = told["executions"]
    assert (run["kind"], run["state"], run["paidUsdc"]) == ("owner_test", "completed", "0.00")
    assert (run["network"], run["transaction"]) == (None, None)


def test_a_free_call_is_a_call_without_revenue(shop: Shop) -> None:
    ada(shop).patch(haiku_id(shop), priceUsdc="0")

    events(shop.client.post(shop.url, json=RAIN))

    told = usage(shop)
    assert (told["totals"]["calls"], told["totals"]["completed"]) == (1, 1)
    assert told["totals"]["revenueUsdc"] == "0.00"
    assert told["executions"][0]["kind"] == "free"


def test_a_claim_that_came_to_nothing_is_seen_and_counts_for_nothing(shop: Shop) -> None:
    shop.claude.script(*[{"status": 400, "text": "no"}] * 3)
    assert shop.buy().status_code == 502

    told = usage(shop)

    assert told["totals"] == NOTHING
    (run,) = told["executions"]
    assert (run["state"], run["code"], run["paidUsdc"]) == ("released", "UPSTREAM_REJECTED", "0.00")
    assert (run["network"], run["transaction"]) == (DEVELOPMENT.id, None)


def test_runs_come_newest_first_and_in_parts(shop: Shop) -> None:
    ids = [events(shop.buy())[-1]["executionId"] for _ in range(3)]

    first, second = usage(shop, "?limit=2"), usage(shop, "?limit=2&offset=2")

    assert [run["id"] for run in first["executions"] + second["executions"]] == ids[::-1]
    assert first["pagination"] == {"total": 3, "limit": 2, "offset": 0, "hasMore": True}
    assert second["pagination"] == {"total": 3, "limit": 2, "offset": 2, "hasMore": False}
    assert first["totals"] == second["totals"]


def test_what_one_template_has_sold_is_not_counted_for_another(shop: Shop) -> None:
    other = ada(shop).make()
    events(shop.buy())

    assert ada(shop).get(f"/resources/{other['id']}/usage")["totals"] == NOTHING
    assert usage(shop)["totals"]["calls"] == 1


@pytest.mark.parametrize("caller", ["nobody", "bob"])
def test_sales_are_the_templates_whoever_called(shop: Shop, caller: str) -> None:
    headers = bob(shop).headers if caller == "bob" else {}

    events(shop.buy(RAIN, **headers))

    told = usage(shop)
    assert told["totals"]["calls"] == 1
    assert "caller" not in str(told).lower()
