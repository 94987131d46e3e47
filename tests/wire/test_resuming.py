"""Connections that break in the middle of an answer, and what programs do about it."""

import json
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.conftest import PRICE, RAIN
from tests.waiting import eventually
from tests.wire.conftest import ROOT, Connection, Server

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'
WORDS = "Rain taps the window \U0001f327 and nobody is home. " * 12
PAGE = (Path(ROOT) / "docs" / "streaming.md").read_text()


@contextmanager
def cutter(port: int, *after: int) -> Iterator[tuple[int, list[int]]]:
    """A line to the server that breaks: each connection after so many bytes, the later ones never.

    Yields its own port, and how much each connection has let through so far.
    """
    limits, passed = list(after), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(caller: socket.socket, limit: int | None, number: int) -> None:
            with caller, socket.create_connection(("127.0.0.1", port)) as server:
                asking = threading.Thread(target=relay, args=(caller, server), daemon=True)
                asking.start()
                with suppress(OSError):
                    while data := server.recv(4096):
                        room = len(data) if limit is None else limit - passed[number]
                        caller.sendall(data[:room])
                        passed[number] += min(room, len(data))
                        if room < len(data):
                            break
                for each in (caller, server):
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                asking.join(5)

        def relay(caller: socket.socket, server: socket.socket) -> None:
            with suppress(OSError):
                while data := caller.recv(4096):
                    server.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    caller, _ = listener.accept()
                    passed.append(0)
                    limit = limits.pop(0) if limits else None
                    arguments = (caller, limit, len(passed) - 1)
                    threading.Thread(target=serve, args=arguments, daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], passed
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def documented() -> dict[str, Any]:
    """The program that docs/streaming.md shows, with less patience."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    names["time"] = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.02)))
    return names


@pytest.mark.parametrize("pace", [{"deltaMs": 15}, {}], ids=["live", "from the store"])
def test_the_documented_program_reads_every_answer_to_its_end(
    server: Server, pace: dict[str, Any]
) -> None:
    server.claude.script({"text": WORDS} | pace)
    session = requests.Session()
    session.trust_env = False
    session.headers.update(server.payment())
    before = server.balance()

    with cutter(server.port, 1800, 1000, 300, 0, 700) as (port, passed):
        text = documented()["whole_answer"](
            session,
            f"http://127.0.0.1:{port}{server.path}",
            RAIN,
            f"http://127.0.0.1:{port}/executions",
        )

    assert text == WORDS
    assert passed[:5] == [1800, 1000, 300, 0, 700]
    assert len(passed) == 6
    assert server.states() == ["completed"]
    assert (len(server.claude.calls), len(server.transfers())) == (1, 1)
    assert server.balance() == before - PRICE


def test_the_documented_program_says_what_is_owed(server: Server) -> None:
    server.claude.script({"text": WORDS, "errorEvent": "overloaded_error", "afterDeltas": 2})
    session = requests.Session()
    session.trust_env = False
    session.headers.update(server.payment())

    with pytest.raises(RuntimeError, match="overloaded"):
        documented()["whole_answer"](
            session, server.url + server.path, RAIN, f"{server.url}/executions"
        )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("key", ["payment", "token"])
def test_an_answer_cut_anywhere_is_put_together_without_gap_or_repeat(
    server: Server, seed: int, key: str
) -> None:
    chance = random.Random(f"402 {key} {seed}")
    pace = {"deltaMs": 4} if seed % 3 else {}
    server.claude.script({"text": WORDS} | pace)
    payment = server.payment()
    text, last, headers, door, cuts = "", None, payment, f"{server.path}?sse=ids", 0
    while True:
        asked = headers | ({"Last-Event-ID": last} if last is not None else {})
        with (
            server.http() as client,
            client.stream("POST", door, json=RAIN, headers=asked) as reply,
        ):
            assert reply.status_code == 200
            if key == "token":
                headers = {"X-Resume-Token": reply.headers["X-Resume-Token"]}
            room, got = chance.randint(0, 1500 if cuts else 500), bytearray()
            for data in reply.iter_raw():
                got += data
                if len(got) >= room:
                    break
        cuts += 1
        for block in bytes(got[:room]).split(b"\n\n")[:-1]:
            name, data = block.split(b"\n")
            last = name.removeprefix(b"id: ").decode()
            event = json.loads(data.removeprefix(b"data: "))
            text += event.get("content", "")
        if last is not None and event["type"] == "done":
            break
        if last is None:  # broken before the first event: the same payment once more
            headers = payment

    assert (text, last) == (WORDS, f"{event['executionId']}.{len(WORDS)}")
    assert cuts > 1
    assert (len(server.claude.calls), len(server.transfers())) == (1, 1)


def test_heartbeats_among_ids_are_single_lines(server: Server) -> None:
    server.claude.script({"text": "Rain taps.", "afterDeltas": 1, "stallSeconds": 1.3})

    answer = server.ask(server.payment(), path=f"{server.path}?sse=ids")

    pings = [chunk for chunk in answer.chunks if b"ping" in chunk]
    assert pings and set(pings) == {b": ping\n"}
    assert all(chunk.startswith(b"id: ") for chunk in answer.chunks if chunk not in pings)
    assert b"retry" not in answer.body and b"event:" not in answer.body
    assert answer.headers["cache-control"] == "private, no-store, no-transform"


def test_a_204_ends_the_matter_and_leaves_its_connection_in_step(server: Server) -> None:
    with server.dial() as connection:
        for _ in range(2):
            for door, body in ((server.path, BODY), ("/executions/x/events", None)):
                method = "POST" if body else "GET"
                headers = {"Last-Event-ID": "nothing.5"}
                answer = connection.send(method, door, headers, body).answer()
                assert (answer.status, answer.body) == (204, b"")
    assert (server.rows(), server.claude.calls) == ([], [])


def test_who_comes_back_and_leaves_again_disturbs_nobody(server: Server) -> None:
    server.claude.script({"text": WORDS, "deltaMs": 5})
    payment = server.payment()
    with server.dial().send("POST", server.path, payment, BODY) as connection:
        _, headers = connection.head()
        door = f"/executions/{headers['x-execution-id']}/events"
        token = {"X-Resume-Token": headers["x-resume-token"]}

        for leave in (Connection.leave, Connection.reset) * 3:
            again = server.dial().send("GET", door, token)
            assert again.head()[0] == 200
            again.chunk()
            leave(again)
        head = server.ask(token, None, method="HEAD", path=door)
        whole = connection.rest()

    assert head.status == 200
    assert b'"type":"done"' in whole
    assert eventually(lambda: server.states() == ["completed"])
    assert len(server.claude.calls) == 1
