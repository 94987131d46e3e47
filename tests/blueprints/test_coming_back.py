"""Coming back to an execution: who sees what became of it, and who may read its answer."""

import time
from threading import Thread
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import refused
from tests.blueprints.creators import ada, bad_credentials, bob, faulty, newcomer
from tests.conftest import RAIN, Shop, events, text_of
from x402jobs.domain.errors import AnswerExpired, InProgress, SettlementUnknown
from x402jobs.stores import key_ring

WORDS = "Rain taps the window. \U0001f327 Nobody is home."
BROKEN = {"text": WORDS, "errorEvent": "overloaded_error", "afterDeltas": 2}
DAY = 24 * 3600
NOWHERE = "00000000-0000-4000-8000-000000000000"

Headers = dict[str, str]


def buy(shop: Shop, script: Any = None, **headers: str) -> tuple[str, Headers, list[Any]]:
    """The door of an execution, the token that opens it, and what was said."""
    shop.claude.script(script or {"text": WORDS})
    reply = shop.buy(RAIN, **headers)
    said = events(reply)
    door = f"/executions/{reply.headers['X-Execution-Id']}"
    return door, {"X-Resume-Token": reply.headers["X-Resume-Token"]}, said


def row_of(shop: Shop) -> dict[str, Any]:
    (row,) = shop.rows()
    return row


def put_back(shop: Shop, state: str, **columns: object) -> None:
    """Make the row one of another worker's."""
    columns = {"state": state, "worker": "another", "ended_at": None} | columns
    names = ", ".join(f'"{name}" = ?' for name in columns)
    shop.query(f"UPDATE x402_executions SET {names}", *columns.values())
    shop.query("DELETE FROM x402_answers")


# What became of it


def test_an_execution_says_what_became_of_it(shop: Shop) -> None:
    door, token, said = buy(shop)

    reply = shop.client.get(door, headers=token)

    assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "private, no-store")
    told = reply.json
    assert told is not None
    assert told.pop("createdAt") <= told.pop("endedAt")
    assert told == {
        "id": said[-1]["executionId"],
        "kind": "paid",
        "state": "completed",
        "model": said[-1]["model"],
        "usage": said[-1]["usage"],
        "code": None,
        "receipt": said[-1]["receipt"],
        "credit": None,
    }


def test_an_execution_that_broke_off_says_what_is_owed(shop: Shop) -> None:
    door, token, said = buy(shop, BROKEN)

    told = shop.client.get(door, headers=token).json

    assert told is not None
    assert (told["state"], told["code"]) == ("refund_due", "OVERLOADED")
    assert (told["receipt"], told["credit"]) == (said[-1]["receipt"], said[-1]["credit"])


# Who may see it, and who may read it


def credentials(shop: Shop) -> dict[str, Headers]:
    """Everybody who might knock at the door of what `carla` has bought at ada's."""
    carla = {"Authorization": f"Bearer {shop.token('carla')}"}
    door, token, _ = buy(shop, **carla)
    _, another, _ = buy(shop)
    unsigned = {"X-Resume-Token": door.rpartition("/")[2]}
    return {
        "the token": token,
        "the account that asked": carla,
        "the token, and a stranger's account": token | bob(shop).headers,
        "the template's creator": ada(shop).headers,
        "the creator, and another token": ada(shop).headers | another,
        "a stranger": bob(shop).headers,
        "an account without a name": newcomer(shop).headers,
        "another execution's token": another,
        "a stranger with another token": bob(shop).headers | another,
        "its id as the token": unsigned,
        "an empty token": {"X-Resume-Token": ""},
        "a token in strange letters": {"X-Resume-Token": "\xe9"},
    }


WHO = {
    # who: what they are told of the state, and of the answer
    "the token": (200, 200),
    "the account that asked": (200, 200),
    "the token, and a stranger's account": (200, 200),
    "the template's creator": (200, 404),
    "the creator, and another token": (200, 404),
    "a stranger": (404, 404),
    "an account without a name": (404, 404),
    "another execution's token": (404, 404),
    "a stranger with another token": (404, 404),
    "its id as the token": (404, 404),
    "an empty token": (404, 404),
    "a token in strange letters": (404, 404),
}


def test_who_may_see_an_execution_and_who_may_read_its_answer(shop: Shop) -> None:
    callers = credentials(shop)
    door = f"/executions/{shop.rows()[0]['id']}"

    told = {
        who: (
            shop.client.get(door, headers=headers).status_code,
            shop.client.get(f"{door}/events", headers=headers).status_code,
        )
        for who, headers in callers.items()
    }

    assert told == WHO


@pytest.mark.parametrize("more", ["", "/events"])
def test_hidden_and_missing_look_the_same(shop: Shop, more: str) -> None:
    callers = credentials(shop)
    hidden, missing = f"/executions/{shop.rows()[0]['id']}", f"/executions/{NOWHERE}"

    for who, headers in callers.items():
        if 404 not in WHO[who]:
            continue
        there = shop.client.get(hidden + more, headers=headers)
        not_there = shop.client.get(missing + more, headers=headers)
        if there.status_code == 200:  # the creator sees the state
            continue
        bodies = [faulty(each, 404, "NOT_FOUND") | {"requestId": ""} for each in (there, not_there)]
        assert bodies[0] == bodies[1], who
        assert sorted(there.headers.keys()) == sorted(not_there.headers.keys())


@pytest.mark.parametrize("more", ["", "/events"])
def test_who_shows_nothing_is_told_what_to_show(shop: Shop, more: str) -> None:
    door, _, _ = buy(shop)

    for path in (door, f"/executions/{NOWHERE}"):
        said = faulty(shop.client.get(path + more), 401, "UNAUTHENTICATED")
        assert "X-Resume-Token" in said["error"] and "bearer" in said["error"]


@pytest.mark.parametrize("more", ["", "/events"])
def test_a_bad_bearer_is_refused_even_with_the_token(shop: Shop, more: str) -> None:
    door, token, _ = buy(shop)

    for header in bad_credentials(shop).values():
        reply = shop.client.get(door + more, headers=token | {"Authorization": header})
        faulty(reply, 401, "UNAUTHENTICATED")


def test_a_token_outlives_the_key_that_it_was_made_with_being_the_first(shop: Shop) -> None:
    door, token, _ = buy(shop)

    ring = key_ring(shop.settings)
    assert not hasattr(ring, "_keys")  # the ring in the file, which `keys add` changes
    ring.add()  # type: ignore[union-attr]

    assert shop.client.get(door, headers=token).status_code == 200
    fresh = shop.client.get(f"{door}/events", headers=token).headers["X-Resume-Token"]
    assert fresh != token["X-Resume-Token"]
    assert shop.client.get(door, headers={"X-Resume-Token": fresh}).status_code == 200


def test_an_owners_test_is_seen_by_its_owner_alone_and_has_no_token(shop: Shop) -> None:
    shop.claude.script({"text": WORDS})
    reply = ada(shop).ask("POST", shop.url, RAIN, headers={"X-OWNER-TEST": "true"})
    events(reply)
    door = f"/executions/{reply.headers['X-Execution-Id']}"

    assert "X-Resume-Token" not in reply.headers
    told = ada(shop).get(door)
    assert (told["kind"], told["state"], told["receipt"]) == ("owner_test", "completed", None)
    faulty(bob(shop).ask("GET", door), 404, "NOT_FOUND")
    body = refused_privately(ada(shop).ask("GET", f"{door}/events"), 410, "ANSWER_EXPIRED")
    assert "unpaid" in body["error"]


def refused_privately(reply: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert reply.headers["Cache-Control"] == "private, no-store"
    reply.headers["Cache-Control"] = "no-store"
    return refused(reply, status, code)


# The answer


LENGTH = len(WORDS)


@pytest.mark.parametrize(
    "after", [None, 0, 1, 21, 22, 23, 24, LENGTH - 1, LENGTH, LENGTH + 1, 10**9]
)
def test_an_answer_is_read_from_any_code_point_on(shop: Shop, after: int | None) -> None:
    door, token, first = buy(shop)
    query = "" if after is None else f"?after={after}"

    reply = shop.client.get(f"{door}/events{query}", headers=token)
    said = events(reply)

    assert text_of(said) == WORDS[after or 0 :]
    assert said[-1] == first[-1]
    assert len(shop.claude.calls) == len(shop.ledger.transfers()) == 1


def test_the_stream_has_the_headers_of_the_first_one(shop: Shop) -> None:
    shop.claude.script({"text": WORDS})
    first = shop.buy()
    first.get_data()
    token = {"X-Resume-Token": first.headers["X-Resume-Token"]}
    door = f"/executions/{first.headers['X-Execution-Id']}/events"

    again = shop.client.get(door, headers=token)

    def told(reply: TestResponse) -> dict[str, str]:
        cors = "Access-Control-"
        own = {"X-Request-Id"}
        return {n: v for n, v in reply.headers if n not in own and not n.startswith(cors)}

    assert told(again) == told(first)
    # Deltas may be joined differently; the words and the ending are the same.
    said, before = events(again), events(first)
    assert (text_of(said), said[-1]) == (text_of(before), before[-1])


AFTER = ["-1", "+1", "1.5", "x", "", " 1", "1e3", "1000000001", "\u0665"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"after={each}", "after") for each in AFTER),
        *(("sse=true", "sse"), ("sse=", "sse"), ("sse=IDS", "sse")),
        *(("stream=false", "stream"), ("topic=rain", "topic"), ("after=1&after=2", "after")),
    ],
)
def test_a_wish_that_cannot_be_granted_is_named(shop: Shop, query: str, field: str) -> None:
    door, token, _ = buy(shop)

    reply = shop.client.get(f"{door}/events?{query.replace('+', '%2B')}", headers=token)

    assert field in faulty(reply, 400, "INVALID_REQUEST", field)["error"]


def test_the_state_takes_no_wishes(shop: Shop) -> None:
    door, token, _ = buy(shop)

    faulty(shop.client.get(f"{door}?after=1", headers=token), 400, "INVALID_REQUEST", "after")


@pytest.mark.parametrize("after", [0, 5, LENGTH + 9])
def test_an_answer_on_its_way_is_followed_from_anywhere_on(shop: Shop, after: int) -> None:
    shop.claude.script({"text": WORDS, "deltaMs": 60})
    payment, first = shop.payment(), []
    client = shop.client.application.test_client()
    caller = Thread(
        target=lambda: first.extend(events(client.post(shop.url, json=RAIN, headers=payment)))
    )
    caller.start()
    until = time.monotonic() + 3
    while [each["state"] for each in shop.rows()] != ["settled"]:
        assert time.monotonic() < until, shop.rows()
        time.sleep(0.005)
    row = row_of(shop)
    token = {
        "X-Resume-Token": shop.services.runs.resume_token(shop.services.runs.running(row["id"]))
    }  # type: ignore[arg-type]  # it runs
    door = f"/executions/{row['id']}"

    told = shop.client.get(door, headers=token).json
    said = events(shop.client.get(f"{door}/events?after={after}", headers=token))

    caller.join()
    assert told is not None
    assert (told["state"], told["endedAt"], told["credit"]) == ("settled", None, None)
    assert told["receipt"]["transaction"] == row["transaction"]
    assert text_of(said) == WORDS[after:]
    assert said[-1] == first[-1] and said[-1]["type"] == "done"
    assert len(shop.claude.calls) == 1


def test_an_answer_that_broke_off_is_an_error_event_with_what_is_owed(shop: Shop) -> None:
    door, token, first = buy(shop, BROKEN)

    reply = shop.client.get(f"{door}/events", headers=token)
    said = events(reply)

    assert reply.status_code == 200
    assert said == [first[-1]]
    assert said[0]["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    assert (row_of(shop)["reruns"], len(shop.claude.calls)) == (0, 1)


def test_a_refunded_answer_says_so(shop: Shop) -> None:
    door, token, first = buy(shop, BROKEN)
    shop.query("UPDATE x402_executions SET state = 'refunded'")

    (said,) = events(shop.client.get(f"{door}/events", headers=token))

    assert (said["type"], said["code"], said["recoverable"]) == ("error", "CONFLICT", False)
    assert "refunded" in said["message"]
    assert said["receipt"] == first[-1]["receipt"] and "credit" not in said


def test_a_call_that_came_to_nothing_says_why(shop: Shop) -> None:
    shop.claude.script({"status": 401})
    refused(shop.buy(RAIN, **bob(shop).headers), 502, "INVALID_API_KEY")
    door = f"/executions/{row_of(shop)['id']}"

    assert bob(shop).get(door)["state"] == "released"
    (said,) = events(bob(shop).ask("GET", f"{door}/events"))

    assert (said["type"], said["code"]) == ("error", "INVALID_API_KEY")
    assert not {"receipt", "credit"} & said.keys()


@pytest.mark.parametrize("state", ["claimed", "settled"])
def test_an_answer_that_another_worker_tells_is_in_progress(shop: Shop, state: str) -> None:
    door, token, _ = buy(shop)
    put_back(shop, state, **({"transaction": None} if state == "claimed" else {}))

    reply = shop.client.get(f"{door}/events", headers=token)

    body = refused_privately(reply, 409, "IN_PROGRESS")
    assert InProgress.sentence in (body["error"], body.get("message"))
    assert int(reply.headers["Retry-After"]) >= 1


def test_an_answer_whose_settlement_is_unknown_has_to_wait(shop: Shop) -> None:
    door, token, _ = buy(shop)
    put_back(shop, "settling", transaction=None)

    reply = shop.client.get(f"{door}/events", headers=token)

    body = refused_privately(reply, 503, "SETTLEMENT_UNKNOWN")
    assert body["error"] == SettlementUnknown.sentence
    assert int(reply.headers["Retry-After"]) >= 1


def test_after_a_day_the_answer_is_gone_and_the_receipt_stays(shop: Shop) -> None:
    door, token, first = buy(shop)
    shop.query("UPDATE x402_executions SET ended_at = ?", time.time() - DAY - 1)

    body = refused_privately(
        shop.client.get(f"{door}/events", headers=token), 410, "ANSWER_EXPIRED"
    )
    told = shop.client.get(door, headers=token).json

    assert (body["message"], body["receipt"]) == (AnswerExpired.sentence, first[-1]["receipt"])
    assert told is not None and told["receipt"] == first[-1]["receipt"]


def test_a_head_of_an_answer_is_its_headers(shop: Shop) -> None:
    door, token, _ = buy(shop)

    for path in (door, f"{door}/events"):
        got, head = shop.client.get(path, headers=token), shop.client.head(path, headers=token)
        assert (head.status_code, head.get_data()) == (200, b"")
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert head.headers["Cache-Control"] == got.headers["Cache-Control"]
