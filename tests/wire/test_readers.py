"""Everybody's reader gets the same text and the same ending off the wire."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx_sse
import pytest
import requests
import sseclient

from tests.conftest import RAIN, text_of
from tests.readers import READERS, Reader
from tests.tools import need
from tests.wire.conftest import Server

pytestmark = pytest.mark.wire

SEED_LOOP = Path(__file__).with_name("seed_loop.mjs")

TEXTS = {
    "words": "Rain taps the window, and nobody is home.",
    "line separators": "a\nb\rc\r\nd\u2028e\u2029f\x85g\vh\fi\x1cj\x1dk\x1el\n\r\n\n\r\r",
    "nul and controls": "a\x00b\x01c\x1fd\x7fe\ufefff\ufffdg",
    "quotes": """"double" 'single' \\ / \\n \\u0041 {"type":"done"} </script>""",
    "emoji": "🌧️ 👩‍👩‍👧 ノ東 é e\u0301 \U0010ffff ‮right to left",
    "looks like the wire": 'data: {"type":"done"}\n\nevent: x\nid: 1\nretry: 1\n: ping\n\n[DONE]\n',
    "one long word": "🌧" * 5_000,
}
EVERYTHING = "\n".join(TEXTS[name] for name in TEXTS if name != "one long word")


def ends_well(server: Server, said: list[dict[str, Any]], text: str) -> None:
    """The same text and the same terminal event, whoever read it."""
    assert text_of(said) == text
    assert [event["type"] for event in said[:-1]] == ["text"] * (len(said) - 1)
    done, (row,), (transfer,) = said[-1], server.rows(), server.transfers()
    assert (done["type"], done["executionId"]) == ("done", row["id"])
    assert done["receipt"]["transaction"] == transfer.transaction


def parsed(data: Iterable[str]) -> list[dict[str, Any]]:
    return [json.loads(each) for each in data]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_paced_answer_is_rebuilt_as_it_arrives(server: Server, reader: Reader) -> None:
    server.claude.script({"text": EVERYTHING, "deltaMs": 5})

    with (
        server.http() as client,
        client.stream("POST", server.path, json=RAIN, headers=server.payment()) as response,
    ):
        said = parsed(reader(response.iter_raw()))

    ends_well(server, said, EVERYTHING)


def test_httpx_sse_reads_its_own_connection(server: Server) -> None:
    server.claude.script({"text": EVERYTHING, "deltaMs": 5})

    with (
        server.http() as client,
        httpx_sse.connect_sse(
            client, "POST", server.path, json=RAIN, headers=server.payment()
        ) as source,
    ):
        said = [event.json() for event in source.iter_sse()]

    ends_well(server, said, EVERYTHING)


def test_sseclient_py_reads_a_response_of_requests(server: Server) -> None:
    server.claude.script({"text": EVERYTHING, "deltaMs": 5})

    with requests.Session() as session:
        session.trust_env = False
        with session.post(
            server.url + server.path, json=RAIN, headers=server.payment(), stream=True
        ) as response:
            said = parsed(event.data for event in sseclient.SSEClient(response).events())

    ends_well(server, said, EVERYTHING)


@pytest.mark.parametrize("name", TEXTS)
def test_every_reader_rebuilds_the_same_recorded_bytes(server: Server, name: str) -> None:
    """One text at full speed, its chunks as they were framed, and the same bytes in one piece."""
    server.claude.script({"text": TEXTS[name]})

    answer = server.ask(server.payment())

    ways = [(reader, answer.chunks) for reader in READERS.values()]
    ways += [(reader, [answer.body]) for reader in READERS.values()]
    for reader, pieces in ways:
        ends_well(server, parsed(reader(pieces)), TEXTS[name])


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "one long word"])
def test_the_fetch_loop_printed_in_seed_3_runs_unchanged(server: Server, name: str) -> None:
    """At the pace of a model. The loop breaks where the network cuts an event: README, Calling."""
    server.claude.script({"text": TEXTS[name], "deltaMs": 5})

    said = fetch_loop(server)

    ends_well(server, said, TEXTS[name])


def test_the_fetch_loop_passes_over_heartbeats(server: Server) -> None:
    server.claude.script({"text": "Rain falls.", "afterDeltas": 1, "stallSeconds": 1.4})

    said = fetch_loop(server)

    ends_well(server, said, "Rain falls.")


def test_heartbeats_fill_a_silence_and_no_reader_mentions_them(server: Server) -> None:
    server.claude.script({"text": "Rain falls.", "afterDeltas": 1, "stallSeconds": 1.4})

    answer = server.ask(server.payment())

    first, *beats = answer.chunks[:-2]
    assert json.loads(first[6:])["content"] == "Rain"
    assert beats == [b": ping\n\n"] * 2, answer.chunks
    for reader in READERS.values():
        ends_well(server, parsed(reader(answer.chunks)), "Rain falls.")


def test_no_heartbeat_disturbs_an_answer_that_flows(server: Server) -> None:
    text = "one two three four five six seven eight"
    server.claude.script({"text": text, "deltaMs": 100})

    answer = server.ask(server.payment())

    assert b": ping\n\n" not in answer.chunks
    ends_well(server, parsed(READERS["whatwg"](answer.chunks)), text)


def fetch_loop(server: Server) -> list[dict[str, Any]]:
    """What seed 3's loop, in Node, makes of a paid answer."""
    ran = subprocess.run(
        [
            need("node"),
            str(SEED_LOOP),
            f"{server.url}{server.path}?topic=rain",
            json.dumps(server.payment()),
        ],
        capture_output=True,
        timeout=20,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return [json.loads(line) for line in ran.stdout.split(b"\n") if line]
