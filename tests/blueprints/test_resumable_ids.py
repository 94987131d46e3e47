"""Streams with ids, and requests that come with one: they resume, and start nothing."""

import json
import time
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import WatchedFacilitator, forge, headers_of, refused
from tests.blueprints.creators import ada, bad_credentials, bob, faulty
from tests.conftest import RAIN, Shop, events, text_of
from tests.readers import READERS
from x402jobs.blueprints import sse
from x402jobs.domain.events import Ending
from x402jobs.domain.execution import Execution

WORDS = "Rain taps the window. \U0001f327 Nobody is home."
LONG = "\U0001f327" * 3000
BROKEN = {"text": WORDS, "errorEvent": "overloaded_error", "afterDeltas": 2}
DAY = 24 * 3600
NOWHERE = "00000000-0000-4000-8000-000000000000"

Headers = dict[str, str]


def numbered(reply: TestResponse | bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream with ids, its bytes checked against that dialect."""
    body = reply if isinstance(reply, bytes) else reply.get_data()
    assert body.endswith(b"\n\n")
    found = []
    for block in body.decode("ascii").split("\n\n")[:-1]:
        pings = block.split("\n")
        while pings[0] == ": ping":
            pings.pop(0)
        name, data = pings
        assert name.startswith("id: ") and data.startswith("data: "), block
        found.append((name[4:], json.loads(data[6:])))
    return found


def texts(said: list[tuple[str, dict[str, Any]]]) -> str:
    return text_of([event for _, event in said])


def buy(shop: Shop, text: str = WORDS, query: str = "?sse=ids") -> tuple[Headers, TestResponse]:
    """A payment, and the whole reply to it."""
    shop.claude.script({"text": text})
    payment = shop.payment()
    reply = shop.client.post(shop.url + query, json=RAIN, headers=payment)
    reply.get_data()
    return payment, reply


def come_back(shop: Shop, last: str, headers: Headers, **request: Any) -> TestResponse:
    """As an EventSource does whose connection broke, or a program that read about it."""
    headers = headers | {"Last-Event-ID": last}
    return shop.client.post(shop.url, json=RAIN, headers=headers, **request)


def nothing_more(reply: TestResponse) -> bool:
    assert reply.get_data() == b""
    assert "no-store" in reply.headers["Cache-Control"]
    return reply.status_code == 204


# The dialect


@pytest.mark.parametrize("text", [WORDS, LONG, "\U0001f327", "a\u2028\n\nb\x00"])
def test_every_event_says_how_much_of_the_answer_has_been_delivered(shop: Shop, text: str) -> None:
    _, reply = buy(shop, text)

    said, delivered = numbered(reply), 0
    for name, event in said:
        delivered += len(event.get("content", ""))
        assert name == f"{reply.headers['X-Execution-Id']}.{delivered}"
    assert (texts(said), delivered, said[-1][1]["type"]) == (text, len(text), "done")


def test_the_events_are_those_of_the_other_dialect(shop: Shop) -> None:
    payment, _ = buy(shop, query="")

    bare = events(shop.client.post(shop.url, json=RAIN, headers=payment))
    reply = shop.client.post(f"{shop.url}?sse=ids", json=RAIN, headers=payment)

    assert [event for _, event in numbered(reply)] == bare
    token = {"X-Resume-Token": reply.headers["X-Resume-Token"]}
    door = f"/executions/{reply.headers['X-Execution-Id']}/events?sse=ids"
    assert shop.client.get(door, headers=token).get_data() == reply.get_data()


class Said:
    """A follower of something that has been said, and a line whose caller stays."""

    execution = Execution(NOWHERE, None, None, "t", 1, "d", "w", 0.0)  # type: ignore[arg-type]

    def __init__(self, *said: str | None, after: int = 0) -> None:
        self._said = said
        self.after = after

    def events(self, silence: float) -> Any:
        yield from self._said

    def gone(self) -> bool:
        return False

    def begin(self) -> None:
        """A delivery's: nobody counts here."""

    def end(self, *_: object) -> None:
        """The same."""


def dialect(event: str | Ending) -> dict[str, Any]:
    return {"type": "text", "content": event}


def test_a_heartbeat_among_ids_has_no_blank_line_and_nobody_mentions_it() -> None:
    said = Said(None, "a", None, None, "b", after=7)

    writes = list(sse.lines(said, dialect, said, 1.0, said, ids=True))  # type: ignore[arg-type]

    ping = b": ping\n"
    assert [each == ping for each in writes] == [True, False, True, True, False]
    assert [each[:44] for each in writes if each != ping] == [
        f"id: {NOWHERE}.8\nd".encode(),
        f"id: {NOWHERE}.9\nd".encode(),
    ]
    for name, reader in READERS.items():
        if name != "seed 3's loop":  # why ids have to be asked for: decision 0004
            assert [json.loads(data)["content"] for data in reader(writes)] == ["a", "b"], name


def test_no_event_with_an_id_is_longer_than_16_kib() -> None:
    said = Said("\U0001f327" * 4000, after=2**20 - 1)

    writes = list(sse.lines(said, dialect, said, 1.0, said, ids=True))  # type: ignore[arg-type]

    assert max(map(len, writes)) <= 16 * 1024


def test_nothing_but_data_id_and_comments_is_ever_said(shop: Shop) -> None:
    _, reply = buy(shop)

    fields = {line.partition(b":")[0] for line in reply.get_data().split(b"\n") if line}

    assert fields == {b"id", b"data"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("sse=", "sse"),
        ("sse=true", "sse"),
        ("sse=IDS", "sse"),
        ("sse=ids&sse=ids", "sse"),
        ("sse=ids&stream=false", "stream"),
    ],
)
def test_a_wish_for_ids_is_read_strictly(shop: Shop, query: str, field: str) -> None:
    payment = shop.payment()

    reply = shop.client.post(f"{shop.url}?{query}", json=RAIN, headers=payment)

    faulty(reply, 400, "INVALID_REQUEST", field)
    assert shop.rows() == []


def test_ids_are_no_value_of_the_templates(shop: Shop) -> None:
    """By GET the values are in the query too: the wish is not among them, nor in the digest."""
    shop.claude.script({"text": WORDS})
    payment = shop.payment()

    bare = shop.client.get(f"{shop.url}?topic=rain", headers=payment)
    assert text_of(events(bare)) == WORDS

    again = shop.client.get(f"{shop.url}?topic=rain&sse=ids", headers=payment)
    assert texts(numbered(again)) == WORDS


# Coming back with one


KEYS = ["payment", "token", "both"]


def keys_of(payment: Headers, reply: TestResponse, which: str) -> Headers:
    token = {"X-Resume-Token": reply.headers["X-Resume-Token"]}
    return {"payment": payment, "token": token, "both": payment | token}[which]


@pytest.mark.parametrize("which", KEYS)
@pytest.mark.parametrize("after", [0, 1, 22, 23, len(WORDS) - 1, len(WORDS), len(WORDS) + 5])
def test_who_comes_back_gets_the_rest(
    shop: Shop, watched: WatchedFacilitator, which: str, after: int
) -> None:
    payment, first = buy(shop)
    watched.asked.clear()
    before = shop.rows()

    last = f"{first.headers['X-Execution-Id']}.{after}"
    reply = come_back(shop, last, keys_of(payment, first, which))
    said = numbered(reply)

    assert texts(said) == WORDS[after:]
    assert said[-1][1] == numbered(first)[-1][1]
    delivered = after
    for name, event in said:
        delivered += len(event.get("content", ""))
        assert name == f"{first.headers['X-Execution-Id']}.{delivered}"
    for name in ("PAYMENT-RESPONSE", "X-Resume-Token", "X-Execution-Id", "Cache-Control"):
        assert reply.headers[name] == first.headers[name]
    assert (watched.asked, shop.rows()) == ([], before)
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)


def test_the_account_that_asked_comes_back_with_its_own_token(shop: Shop) -> None:
    shop.claude.script({"text": WORDS})
    first = shop.buy(RAIN, **bob(shop).headers)
    first.get_data()
    last = f"{first.headers['X-Execution-Id']}.5"

    assert texts(numbered(come_back(shop, last, bob(shop).headers))) == WORDS[5:]
    assert nothing_more(come_back(shop, last, ada(shop).headers))


def test_an_answer_on_its_way_is_followed_from_where_it_broke(shop: Shop) -> None:
    shop.claude.script({"text": WORDS, "deltaMs": 60})
    payment = shop.payment()
    client = shop.client.application.test_client()
    first = client.post(f"{shop.url}?sse=ids", json=RAIN, headers=payment)
    heard = first.response.__iter__()  # type: ignore[attr-defined]  # a generator of writes
    last, _ = numbered(next(heard))[-1]
    first.close()

    said = numbered(come_back(shop, last, payment))

    assert texts(said) == WORDS[int(last.rpartition(".")[2]) :]
    assert said[-1][1]["type"] == "done"
    assert (len(shop.claude.calls), len(shop.ledger.transfers())) == (1, 1)


def test_an_answer_that_broke_off_is_told_so_and_not_run_again(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    shop.claude.script(BROKEN)
    payment = shop.payment()
    first = shop.client.post(f"{shop.url}?sse=ids", json=RAIN, headers=payment)
    *_, (last, ending) = numbered(first)
    watched.asked.clear()

    for which in KEYS:
        ((name, said),) = numbered(come_back(shop, last, keys_of(payment, first, which)))
        assert (name, said) == (last, ending)
        assert said["credit"] == {"amountUsdc": "0.01", "rerunsLeft": 3}
    (row,) = shop.rows()
    assert (row["state"], row["reruns"]) == ("refund_due", 0)
    assert (watched.asked, len(shop.claude.calls)) == ([], 1)


NONE = ["", "x", ".5", "{id}", "{id}.", "{id}.-1", "{id}.1.5", "{id}.x", "{id}.5, {id}.5"]
FOREIGN = [f"{NOWHERE}.5", "{ID}.5", "another.5", "{other}.5"]


@pytest.mark.parametrize("which", KEYS)
@pytest.mark.parametrize("last", [*NONE, *FOREIGN])
def test_what_cannot_be_resumed_is_204_and_starts_nothing(
    shop: Shop, watched: WatchedFacilitator, last: str, which: str
) -> None:
    _, other = buy(shop)
    payment, first = buy(shop)
    watched.asked.clear()
    before = shop.rows()
    mine = first.headers["X-Execution-Id"]

    last = last.format(id=mine, ID=mine.upper() + "X", other=other.headers["X-Execution-Id"])
    reply = come_back(shop, last, keys_of(payment, first, which))

    assert nothing_more(reply)
    assert (watched.asked, shop.rows(), len(shop.claude.calls)) == ([], before, 2)


def test_a_payment_that_has_bought_nothing_yet_buys_nothing_by_coming_back(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    for last in ("", "x", f"{NOWHERE}.0"):
        assert nothing_more(come_back(shop, last, shop.payment()))

    assert (shop.rows(), watched.asked, shop.claude.calls) == ([], [], [])


@pytest.mark.parametrize("price", [0, 10_000])
def test_who_comes_back_with_nothing_gets_nothing(shop: Shop, price: int) -> None:
    _, first = buy(shop)
    shop.query("UPDATE x402_resources SET price_usdc = ?", price)

    last = f"{first.headers['X-Execution-Id']}.5"

    assert nothing_more(come_back(shop, last, {}))
    assert nothing_more(come_back(shop, last, {"X-Resume-Token": "garbage"}))
    assert (len(shop.rows()), len(shop.claude.calls)) == (1, 1)


def test_a_wish_for_an_owners_test_starts_none_by_coming_back(shop: Shop) -> None:
    wish = ada(shop).headers | {"X-OWNER-TEST": "true"}

    assert nothing_more(come_back(shop, f"{NOWHERE}.0", wish))
    assert (shop.rows(), shop.claude.calls) == ([], [])


def test_the_same_payment_for_something_else_gets_nothing(shop: Shop) -> None:
    payment, first = buy(shop)
    headers = payment | {"Last-Event-ID": f"{first.headers['X-Execution-Id']}.5"}

    assert nothing_more(shop.client.post(shop.url, json={"topic": "snow"}, headers=headers))


def test_a_forger_who_knows_the_nonce_and_the_id_gets_nothing(shop: Shop) -> None:
    shop.claude.script({"text": WORDS})
    known = forge(shop.wallet)
    first = shop.client.post(shop.url, json=RAIN, headers=headers_of(known))
    first.get_data()
    known["payload"]["signature"] = "0x" + "11" * 64 + "1b"

    assert nothing_more(come_back(shop, f"{first.headers['X-Execution-Id']}.0", headers_of(known)))


def test_what_is_no_longer_kept_or_was_cancelled_is_204(shop: Shop) -> None:
    payment, first = buy(shop)
    last = f"{first.headers['X-Execution-Id']}.0"

    shop.query("UPDATE x402_executions SET ended_at = ?", time.time() - DAY - 1)
    assert nothing_more(come_back(shop, last, payment))

    shop.query("UPDATE x402_executions SET state = 'released', \"transaction\" = NULL")
    assert nothing_more(come_back(shop, last, payment))
    assert len(shop.claude.calls) == 1


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("claimed", 409, "IN_PROGRESS"),
        ("settling", 503, "SETTLEMENT_UNKNOWN"),
        ("settled", 409, "IN_PROGRESS"),
    ],
)
def test_what_has_not_ended_elsewhere_has_to_be_asked_for_again(
    shop: Shop, state: str, status: int, code: str
) -> None:
    payment, first = buy(shop)
    shop.query("UPDATE x402_executions SET state = ?, ended_at = NULL", state)

    reply = come_back(shop, f"{first.headers['X-Execution-Id']}.3", payment)

    refused(reply, status, code)
    assert int(reply.headers["Retry-After"]) >= 1
    assert len(shop.claude.calls) == 1


def test_a_bad_credential_or_request_is_still_refused(shop: Shop) -> None:
    payment, first = buy(shop)
    last = {"Last-Event-ID": f"{first.headers['X-Execution-Id']}.3"}

    for header in bad_credentials(shop).values():
        reply = shop.client.post(
            shop.url, json=RAIN, headers=payment | last | {"Authorization": header}
        )
        faulty(reply, 401, "UNAUTHENTICATED")
    in_one = shop.client.post(f"{shop.url}?stream=false", json=RAIN, headers=payment | last)
    faulty(in_one, 400, "INVALID_REQUEST", "stream")
    garbage = shop.client.post(shop.url, json=RAIN, headers=last | {"PAYMENT-SIGNATURE": "x"})
    faulty(garbage, 400, "INVALID_PAYMENT", "PAYMENT-SIGNATURE")


def test_who_only_looks_resumes_nothing(shop: Shop) -> None:
    payment, first = buy(shop)
    last = {"Last-Event-ID": f"{first.headers['X-Execution-Id']}.3"}

    assert shop.client.head(shop.url, headers=payment | last).status_code == 402


# At the execution's own door


def test_an_execution_is_resumed_at_its_own_door_too(shop: Shop) -> None:
    payment, first = buy(shop)
    _, other = buy(shop)
    mine, token = first.headers["X-Execution-Id"], keys_of(payment, first, "token")
    door = f"/executions/{mine}/events"

    def back(last: str, headers: Headers = token, query: str = "") -> TestResponse:
        return shop.client.get(door + query, headers=headers | {"Last-Event-ID": last})

    assert texts(numbered(back(f"{mine}.5"))) == WORDS[5:]
    assert texts(numbered(back(f"{mine}.7", query="?after=3"))) == WORDS[7:]
    for last in ("", "x", mine, f"{NOWHERE}.5", f"{other.headers['X-Execution-Id']}.5"):
        assert nothing_more(back(last))
    assert nothing_more(back(f"{mine}.5", headers={}))
    assert nothing_more(back(f"{mine}.5", headers=ada(shop).headers))
    shop.query("UPDATE x402_executions SET ended_at = ?", time.time() - DAY - 1)
    assert nothing_more(back(f"{mine}.5"))
