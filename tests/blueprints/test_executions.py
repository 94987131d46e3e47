"""What a signed-in caller has asked for: all of it, and nobody else's."""

from typing import Any

from tests.blueprints.creators import ada, bob, newcomer
from tests.conftest import RAIN, Shop, events
from x402jobs.domain.networks import DEVELOPMENT

DOOR = "/api/v1/executions"


def test_nobody_has_asked_for_anything_at_first(shop: Shop) -> None:
    nothing = {
        "executions": [],
        "pagination": {"total": 0, "limit": 25, "offset": 0, "hasMore": False},
    }

    assert bob(shop).get(DOOR) == newcomer(shop).get(DOOR) == nothing


def test_a_call_made_while_signed_in_is_the_callers_own(shop: Shop) -> None:
    said = events(shop.buy(RAIN, **bob(shop).headers))
    events(shop.buy())  # a stranger's

    told = bob(shop).get(DOOR)

    assert told["pagination"]["total"] == 1
    (run,) = told["executions"]
    assert run.pop("createdAt").endswith("Z")
    assert run == {
        "id": said[-1]["executionId"],
        "kind": "paid",
        "state": "completed",
        "durationMs": said[-1]["durationMs"],
        "model": said[-1]["model"],
        "inputTokens": said[-1]["usage"]["input_tokens"],
        "outputTokens": said[-1]["usage"]["output_tokens"],
        "paidUsdc": "0.01",
        "network": DEVELOPMENT.id,
        "transaction": said[-1]["receipt"]["transaction"],
        "code": None,
    }
    assert ada(shop).get(DOOR)["executions"] == []


def test_an_owners_test_is_the_owners(shop: Shop) -> None:
    events(ada(shop).ask("POST", shop.url, RAIN, headers={"X-OWNER-TEST": "true"}))

    assert [run["kind"] for run in ada(shop).get(DOOR)["executions"]] == ["owner_test"]
    assert bob(shop).get(DOOR)["executions"] == []


def test_calls_come_newest_first_and_in_parts(shop: Shop) -> None:
    caller = bob(shop)
    ids = [events(shop.buy(RAIN, **caller.headers))[-1]["executionId"] for _ in range(3)]

    def part(query: str) -> tuple[list[str], Any]:
        said = caller.get(f"{DOOR}{query}")
        return [run["id"] for run in said["executions"]], said["pagination"]["hasMore"]

    assert part("?limit=2") == (ids[:0:-1], True)
    assert part("?limit=2&offset=2") == (ids[:1], False)
    assert part("?offset=3") == ([], False)


def test_a_call_outlives_its_template_in_the_callers_list(shop: Shop) -> None:
    caller = bob(shop)
    events(shop.buy(RAIN, **caller.headers))
    shop.services.resources.delete(shop.ada, shop.rows()[0]["template_id"])

    assert len(caller.get(DOOR)["executions"]) == 1
