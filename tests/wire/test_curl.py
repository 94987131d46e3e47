"""Live on a terminal: curl prints each event while Claude is still writing."""

import json
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.conftest import text_of
from tests.tools import need
from tests.wire.conftest import Server

pytestmark = pytest.mark.wire

WORDS = "Rain taps at the glass and every drop tells the next one where to go"


def curl(*arguments: str) -> Iterator[tuple[float, str]]:
    """Each line curl prints and when it did; the connection ends well, or this fails."""
    with subprocess.Popen(
        [need("curl"), "-q", "-N", "--silent", "--show-error", "--noproxy", "*", *arguments],
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield time.time(), line.decode("ascii")
            assert process.wait(5) == 0
        finally:
            process.kill()


def test_data_lines_arrive_one_by_one_as_claude_writes_them(server: Server) -> None:
    server.claude.script({"text": WORDS, "deltaMs": 100})
    deltas = len(WORDS.split())
    (header,) = server.payment().items()

    lines, while_writing = [], 0
    for at, line in curl(
        server.url + server.path,
        *("--data", '{"topic":"rain"}'),
        *("--header", ": ".join(header)),
    ):
        lines.append((at, line))
        while_writing += line != "\n" and server.call()["finishedAt"] is None

    finished = server.call()["finishedAt"]
    assert finished is not None
    said = [json.loads(line.removeprefix("data: ")) for _, line in lines if line != "\n"]
    assert [line for _, line in lines[1::2]] == ["\n"] * len(said)
    assert text_of(said) == WORDS
    assert said[-1]["type"] == "done"
    # Joining a few deltas is allowed on a busy machine; waiting for the end is not.
    assert deltas / 2 < len(said) - 1 <= deltas
    assert while_writing > deltas / 2
    moments = [at for at, line in lines if line != "\n"]
    assert moments[0] < finished - 0.5
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert sum(pause > 0.03 for pause in pauses) > deltas / 2


def test_the_first_event_is_there_while_claude_is_silent_after_it(server: Server) -> None:
    server.claude.script({"text": "Rain falls.", "afterDeltas": 1, "stallSeconds": 1})
    (header,) = server.payment().items()

    lines = curl(server.url + server.path + "?topic=rain", "--header", ": ".join(header))
    _, first = next(lines)
    then = server.call()
    rest = list(lines)

    assert json.loads(first.removeprefix("data: ")) == {"type": "text", "content": "Rain"}
    assert then["finishedAt"] is None
    assert rest


def test_the_whole_answer_comes_without_any_option_but_the_payment(server: Server) -> None:
    (header,) = server.payment().items()

    printed = "".join(
        line
        for _, line in curl(
            server.url + server.path, "--data", '{"topic":"rain"}', "-H", ": ".join(header)
        )
    )

    assert printed.count('"type":"done"') == 1
    assert printed.endswith("}\n\n")


def test_curls_json_option_asks_for_one_json_reply(server: Server) -> None:
    """It sends `Accept: application/json`, and nothing that admits a stream."""
    server.claude.script({"text": WORDS})
    (header,) = server.payment().items()

    (printed,) = curl(
        server.url + server.path, "--json", '{"topic":"rain"}', "-H", ": ".join(header)
    )

    assert json.loads(printed[1])["response"] == WORDS
