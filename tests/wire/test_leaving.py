"""Callers who hang up, and callers who do not read."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PRICE, RAIN, events, text_of
from tests.supabase.postgres import Postgres
from tests.waiting import eventually
from tests.wire.conftest import Connection, Server, serving

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'
WORDS = "Rain taps the window and nobody is home."

LEAVING: dict[str, Callable[[Connection], None]] = {
    "FIN": Connection.leave,
    "RST": Connection.reset,
    "half a FIN": lambda connection: connection.socket.shutdown(socket.SHUT_WR),
}
SILENT = {
    "before the headers": {"afterDeltas": -1, "stallSeconds": 8},
    "before the first content": {"afterDeltas": 0, "stallSeconds": 8},
    "before a third try": {"status": 529, "headers": {"retry-after": "8"}},
}


def released_after(server: Server, left: float) -> float:
    """How long Claude was kept waiting after the caller left."""
    assert eventually(lambda: server.claude.calls[-1]["hungUp"], 8), "Claude's call was kept"
    hung_up = server.claude.calls[-1]["hungUpAt"]
    assert hung_up is not None
    return hung_up - left


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
@pytest.mark.parametrize("silence", SILENT.values(), ids=SILENT.keys())
def test_a_caller_who_leaves_before_settlement_is_not_charged(
    server: Server, silence: dict[str, object], leave: Callable[[Connection], None]
) -> None:
    server.claude.script(silence, {"text": WORDS})
    payment, before = server.payment(), server.balance()
    with server.dial().send("POST", server.path, payment, BODY) as connection:
        assert eventually(lambda: server.claude.calls)
        assert server.states() == ["claimed"]

        left = time.time()
        leave(connection)

        assert eventually(lambda: server.states() == ["released"])
    if "status" not in silence:
        assert released_after(server, left) < 2
    assert time.time() - left < 2.5
    assert server.transfers() == []
    assert server.balance() == before

    again = server.post(RAIN, payment)

    assert (again.status_code, text_of(events(again.content))) == (200, WORDS)
    (row,) = server.rows()
    assert (row["state"], row["attempt"]) == ("completed", 2)
    assert server.balance() == before - PRICE


def test_a_caller_who_left_before_settlement_disturbs_nobody_else(server: Server) -> None:
    server.claude.script({"afterDeltas": 0, "stallSeconds": 8}, {"text": WORDS})

    with server.dial().send("POST", server.path, server.payment(), BODY) as connection:
        assert eventually(lambda: server.claude.calls)
        connection.reset()
        other = server.post(RAIN, server.payment())

    assert text_of(events(other.content)) == WORDS
    assert eventually(lambda: server.states() == ["released", "completed"])


@pytest.mark.parametrize("leave", [Connection.leave, Connection.reset], ids=["FIN", "RST"])
@pytest.mark.parametrize("pace", [{"deltaMs": 100}, {"afterDeltas": 2, "stallSeconds": 1.5}])
def test_who_leaves_after_settlement_finds_the_whole_answer_later(
    server: Server, pace: dict[str, object], leave: Callable[[Connection], None]
) -> None:
    server.claude.script({"text": WORDS} | pace)
    payment, before = server.payment(), server.balance()
    with server.dial().send("POST", server.path, payment, BODY) as connection:
        connection.head()
        connection.chunk()

        leave(connection)

    assert server.states() == ["settled"]
    assert eventually(lambda: server.states() == ["completed"])
    call = server.call()
    assert (call["hungUp"], call["finishedAt"] is not None) == (False, True)

    again = server.post(RAIN, payment)

    assert (again.status_code, text_of(events(again.content))) == (200, WORDS)
    assert server.balance() == before - PRICE
    assert len(server.claude.calls) == len(server.transfers()) == 1


@pytest.mark.parametrize("kind", ["owner_test", "free"])
@pytest.mark.parametrize(
    "pace",
    [{"deltaMs": 200}, {"afterDeltas": 2, "stallSeconds": 8}],
    ids=["speaking", "silent"],
)
def test_an_unpaid_run_ends_with_its_last_follower(
    server: Server, kind: str, pace: dict[str, object]
) -> None:
    server.claude.script({"text": " ".join([WORDS] * 10)} | pace)
    headers = server.owner_test() if kind == "owner_test" else {}
    path = server.path if kind == "owner_test" else server.free
    with server.dial().send("POST", path, headers, BODY) as connection:
        assert connection.head()[0] == 200
        connection.chunk()

        left = time.time()

    assert released_after(server, left) < 2
    (row,) = eventually(server.rows)
    assert (row["kind"], row["state"], row["amount"]) == (kind, "released", 0)
    assert server.transfers() == []


def test_a_caller_who_does_not_read_ends_alone(server: Server) -> None:
    """They are followed for ten seconds more; their run, and everybody else, notice nothing."""
    # Line separators: Claude says many of them at once, and each is six bytes to the caller.
    text = "Rain" + ("\u2028" * 200_000 + "and rain ") * 4
    server.claude.script({"text": text}, {"text": WORDS, "deltaMs": 100})
    payment = server.payment()

    with server.dial(receive_buffer=4096).send("POST", server.path, payment, BODY) as slow:
        began = time.monotonic()
        assert slow.head()[0] == 200

        other = server.post(RAIN, server.payment())
        took = time.monotonic() - began

        assert text_of(events(other.content)) == WORDS
        assert took < 5, "somebody else waited for a caller who does not read"
        assert eventually(lambda: server.states() == ["completed"] * 2)
        assert is_open(server, slow), "the caller was given up too early to prove anything"
        assert eventually(lambda: not is_open(server, slow), 15), "the follower never ended"
        assert 9 < time.monotonic() - began < 14
        assert b"done" not in slow.remains()[-2000:]

    again = server.post(RAIN, payment)

    assert text_of(events(again.content)) == text
    assert len(server.transfers()) == 2
    assert len(server.claude.calls) == 2


def is_open(server: Server, connection: Connection) -> bool:
    """Whether the server still holds its end of a connection, as the kernel sees it."""
    ends = f"0100007F:{server.port:04X} 0100007F:{connection.port:04X} 01"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(ends in " ".join(line.split()) for line in lines)


def test_a_server_that_ends_first_tells_what_a_caller_who_has_left_has_paid_for(
    tmp_path: Path, postgres: Postgres | None
) -> None:
    with serving(tmp_path, postgres=postgres) as shop:
        shop.claude.script({"text": WORDS * 20, "deltaMs": 20})
        with shop.dial().send("POST", shop.path, shop.payment(), BODY) as connection:
            assert connection.head()[0] == 200
            connection.leave()

        os.kill(shop.pid, signal.SIGTERM)

        assert eventually(lambda: "Worker exiting" in shop.log.read_text(), 20)
        assert shop.states() == ["completed"]
