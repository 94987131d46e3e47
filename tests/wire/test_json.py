"""The answer in one piece, over real sockets."""

import time
from collections.abc import Callable

import pytest

from tests.conftest import PRICE, RAIN, decoded, events, text_of
from tests.waiting import eventually
from tests.wire.conftest import Connection, Server

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'
WORDS = "Rain taps the window and nobody is home."
WHOLE = "?stream=false"


def test_one_reply_with_a_length_and_the_connection_stays(server: Server) -> None:
    server.claude.script(*[{"text": WORDS}] * 2)
    with server.dial() as connection:
        for headers in (server.payment(), server.owner_test()):
            answer = connection.send("POST", server.path + WHOLE, headers, BODY).answer()

            assert (answer.status, len(answer.chunks)) == (200, 1)
            assert answer.headers["content-type"] == "application/json"
            assert int(answer.headers["content-length"]) == len(answer.body)
            assert answer.headers["vary"] == "Accept, Authorization, PAYMENT-SIGNATURE, X-PAYMENT"
            assert answer.json()["response"] == WORDS
            assert answer.body.isascii()


def test_a_program_that_asks_for_json_gets_it(server: Server) -> None:
    server.claude.script({"text": WORDS})

    reply = server.post(RAIN, server.payment() | {"Accept": "application/json"})

    said = reply.json()
    assert (reply.status_code, said["response"]) == (200, WORDS)
    assert reply.headers["cache-control"] == "private, no-store"
    paid = decoded(reply.headers["payment-response"])
    assert paid["transaction"] == said["receipt"]["transaction"]
    assert server.states() == ["completed"]


def test_a_look_says_which_form_a_get_would_have(server: Server) -> None:
    with server.dial() as connection:
        for wish, kind in (("false", "application/json"), ("true", "text/event-stream")):
            path = f"{server.free}?topic=rain&stream={wish}"
            looked = connection.send("HEAD", path).answer("HEAD")
            assert (looked.status, looked.headers["content-type"].partition(";")[0]) == (200, kind)
            got = server.ask({}, None, method="GET", path=path)
            assert got.headers["content-type"] == looked.headers["content-type"]


@pytest.mark.parametrize("leave", [Connection.leave, Connection.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("pace", [{"deltaMs": 150}, {"afterDeltas": 2, "stallSeconds": 1.5}])
def test_who_leaves_while_waiting_finds_the_whole_answer_later(
    server: Server, pace: dict[str, object], leave: Callable[[Connection], None]
) -> None:
    server.claude.script({"text": WORDS} | pace)
    payment, before = server.payment(), server.balance()
    with server.dial().send("POST", server.path + WHOLE, payment, BODY) as connection:
        assert eventually(lambda: server.states() == ["settled"])

        leave(connection)

    assert eventually(lambda: server.states() == ["completed"])
    assert (server.call()["hungUp"], len(server.transfers())) == (False, 1)

    again = server.post(RAIN, payment, path=server.path + WHOLE)

    assert again.json()["response"] == text_of(events(server.post(RAIN, payment).content)) == WORDS
    assert server.balance() == before - PRICE
    assert len(server.claude.calls) == 1


@pytest.mark.parametrize("silence", [{"deltaMs": 200}, {"afterDeltas": 2, "stallSeconds": 8}])
def test_an_unpaid_run_ends_when_nobody_waits_for_it(
    server: Server, silence: dict[str, object]
) -> None:
    server.claude.script({"text": " ".join([WORDS] * 10)} | silence)
    with server.dial().send("POST", server.free + WHOLE, {}, BODY) as connection:
        assert eventually(lambda: server.claude.calls)
        time.sleep(1)  # into the middle of an answer of sixteen

        connection.leave()

    assert eventually(lambda: server.claude.calls[-1]["hungUp"], 6)
    (row,) = eventually(server.rows)
    assert (row["kind"], row["state"]) == ("free", "released")
