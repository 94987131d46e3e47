"""Running a task from the command line: what is printed where, and what the exit code says."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import X402JOBS, Command, environment
from tests.cli.listener import listening
from tests.cli.person import Person
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import Demo

WORDS = "Swept –\nthe “leaves”, 葉\nare gone."
DOOR = "/api/stream/execute-task"


@pytest.fixture
def bob(shop: Demo, claude: ClaudeServer, x402jobs: Command) -> Person:
    """Somebody with a leaf at 0:1, whom Claude answers with our words."""
    claude.script({"text": WORDS, "deltaMs": 0})
    bob = Person(shop, x402jobs)
    bob.put("0:1", "Sweep the yard", content="Planted content of the tile.")
    return bob


@contextmanager
def running(bob: Person, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*X402JOBS, "task", "run", "0:1", *arguments],
        env=environment(**bob.shell),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def events(said: str) -> list[Any]:
    return [json.loads(line) for line in said.splitlines()]


def asked(claude: ClaudeServer) -> Any:
    """The one call that Claude has had."""
    (call,) = claude.calls
    return call["body"]


@pytest.mark.parametrize("has_account", [False, True])
def test_on_a_pipe_every_event_is_one_line_of_json(bob: Person, has_account: bool) -> None:
    ran = bob.run("task", "run", f"{bob.id},0:1" if has_account else "0:1")

    *words, done = events(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert "".join(event["text"] for event in words) == WORDS
    assert {event["type"] for event in words} == {"text_delta"}
    assert done["type"] == "done"
    assert ran.stderr.splitlines() == [
        f"tokens       {done['totalTokens']}",
        f"duration     {done['durationMs']} ms",
        f"execution    {done['executionId']}",
    ]


def test_on_a_terminal_the_words_are_text(bob: Person, claude: ClaudeServer) -> None:
    claude.script({"text": f"\x1b]0;title\x07{WORDS}", "deltaMs": 0})

    code, output = bob.on_a_terminal("task", "run", "0:1")

    assert code == 0
    assert re.fullmatch(
        re.escape(f"]0;title{WORDS}\n")
        + r"tokens       \d+\nduration     \d+ ms\nexecution    [0-9a-f-]{36}\n",
        output,
    )


def test_json_on_a_terminal_when_asked_for(bob: Person) -> None:
    code, output = bob.on_a_terminal("task", "run", "0:1", "--json")

    assert (code, json.loads(output.splitlines()[0])["type"]) == (0, "text_delta")


def test_the_words_come_while_claude_is_still_writing(bob: Person, claude: ClaudeServer) -> None:
    claude.script({"text": "one two three", "stallSeconds": 1.5, "afterDeltas": 1, "deltaMs": 0})

    with running(bob) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert claude.calls[0]["finishedAt"] is None
        rest = process.stdout.read()

    assert json.loads(first)["text"] == "one"
    assert events(rest)[-1]["type"] == "done"


@pytest.mark.parametrize("given", ["Mind the läves.", "@mind.txt", "@-"])
def test_an_instruction_reaches_claude_and_is_in_no_url(
    bob: Person, claude: ClaudeServer, tmp_path: Path, given: str
) -> None:
    (tmp_path / "mind.txt").write_text("Mind the läves.")

    ran = bob.run("task", "run", "0:1", "--instruction", given, input="Mind the läves.")

    assert ran.returncode == 0, ran.stderr
    assert "Mind the läves." in asked(claude)["messages"][0]["content"]
    with listening(401) as stranger:
        bob.run("task", "run", "u,0:1", "--instruction", "planted", "--url", stranger.url)
    assert [each.splitlines()[0] for each in stranger.heard] == [f"POST {DOOR} HTTP/1.1"]


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ([], "model", "claude-opus-5-5"),
        ([], "max_tokens", 4096),
        ([], "temperature", None),
        (["--model", "claude-simulated"], "model", "claude-simulated"),
        (["--max-tokens", "8192"], "max_tokens", 8192),
        (["--temperature", "0"], "temperature", 0),
        (["--temperature", "0.25"], "temperature", 0.25),
    ],
)
def test_what_was_wished_for_reaches_claude(
    bob: Person, claude: ClaudeServer, flags: list[str], field: str, value: Any
) -> None:
    ran = bob.run("task", "run", "0:1", *flags)

    assert ran.returncode == 0, ran.stderr
    assert asked(claude).get(field) == value


def test_a_task_with_steps_does_one_a_run_and_again_only_when_told_to(
    bob: Person, claude: ClaudeServer
) -> None:
    bob.put("0:1,1", "Rake")
    bob.put("0:1,2", "Burn")

    codes = [bob.run("task", "run", "0:1").returncode for _ in range(2)]
    plan = json.loads(bob.run("tile", "show", "0:1,0").stdout)["content"]
    nothing = events(bob.run("task", "run", "0:1").stdout)
    calls = len(claude.calls)
    again = bob.run("task", "run", "0:1", "--rerun")

    assert codes == [0, 0]
    assert re.findall(r"✅ \d\. (\w+)", plan) == ["Rake", "Burn"]
    assert "The plan is complete" in "".join(each.get("text", "") for each in nothing)
    assert (calls, again.returncode, len(claude.calls)) == (2, 0, 3)


def test_the_prompt_is_shown_when_asked_for(bob: Person, claude: ClaudeServer) -> None:
    told = events(bob.run("task", "run", "0:1", "--prompt").stdout)

    assert told[0] == {
        "type": "prompt_generated",
        "prompt": asked(claude)["messages"][0]["content"],
    }


def test_on_a_terminal_the_prompt_does_not_mix_with_the_answer(bob: Person, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    command = f'"{sys.executable}" -m x402jobs task run 0:1 --prompt 2>{beside}'

    code, output = bob.on_a_terminal_of("/bin/sh", "-c", command)

    assert (code, output) == (0, f"{WORDS}\n")
    assert "Planted content of the tile.\n" in beside.read_text()


def test_somebody_elses_public_tile_is_run_by_its_whole_coordinates(
    bob: Person, shop: Demo, claude: ClaudeServer, x402jobs: Command
) -> None:
    eve = Person(shop, x402jobs)
    eve.knock(f"/api/tiles/{eve.id},0", "PATCH", {"visibility": "public"})
    eve.put("0:1", "Prune", visibility="public")
    eve.put("0:2", "Hide")

    ran = bob.run("task", "run", f"{eve.id},0:1")
    hidden = bob.run("task", "run", f"{eve.id},0:2")

    assert (ran.returncode, claude.calls[0]["key"]) == (0, f"sk-of-{bob.name}")
    assert eve.places() == ["0", "0:1", "0:2"]
    assert (hidden.returncode, events(hidden.stdout)[-1]["code"]) == (1, "UNKNOWN")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["0:1", "--temperature", "3"], 4, "temperature: "),
        (["0:1", "--temperature", "warm"], 4, "temperature: Must be a decimal number"),
        (["0:1", "--temperature", "nan"], 4, "temperature: Must be a decimal number"),
        (["0:1", "--max-tokens", "0"], 4, "maxTokens: "),
        (["0:1", "--model", "no model"], 4, "model"),
        (["0:1", "--instruction", "x" * 8001], 4, "instruction: "),
        (["0:1,0"], 4, "taskCoords: Leads to a plan"),
        (["0:9"], 2, "coordinates must be like"),
        (["0:1", "--max-tokens", "many"], 2, "not a valid integer"),
        (["0:1", "--instruction", "@gone"], 2, "gone: No such file"),
        ([], 2, "Missing argument 'COORDS'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_claude(
    bob: Person, claude: ClaudeServer, arguments: list[str], code: int, said: str
) -> None:
    refused = bob.run("task", "run", *arguments)

    assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
    assert said in refused.stderr
    assert claude.calls == []


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ([{"status": 529}] * 3, 5, "(RATE_LIMIT, "),
        ([{"status": 401}], 1, "x402jobs integrations claude set. (INVALID_API_KEY, "),
        ([{"text": WORDS, "errorEvent": "api_error", "afterDeltas": 2, "deltaMs": 0}], 5, "("),
    ],
)
def test_a_claude_that_fails_is_told_with_the_runs_id(
    bob: Person, claude: ClaudeServer, script: list[Any], code: int, said: str
) -> None:
    claude.script(*script)

    ended = bob.run("task", "run", "0:1")

    last = events(ended.stdout)[-1]
    assert (ended.returncode, last["type"]) == (code, "error")
    assert said in ended.stderr
    assert ended.stderr.endswith(f" ({last['code']}, {last['executionId']})\n")


def test_without_a_key_nothing_runs_and_the_mend_is_said(
    shop: Demo, claude: ClaudeServer, x402jobs: Command
) -> None:
    poor = Person(shop, x402jobs, has_key=False)
    poor.put("0:1")

    ended = poor.run("task", "run", "0:1")

    assert (ended.returncode, claude.calls) == (1, [])
    assert "x402jobs integrations claude set. (INVALID_API_KEY, " in ended.stderr


def test_nobody_is_nobody(x402jobs: Command) -> None:
    refused = x402jobs("task", "run", "0:1")

    assert (refused.returncode, "X402JOBS_TOKEN" in refused.stderr) == (2, True)


SSE = {"Content-Type": "text/event-stream; charset=utf-8"}
TEXT = b'data: {"type":"text_delta","text":"a"}\n\n'


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "said"),
    [
        (200, SSE, TEXT + b'data: {"type":"done","totalTokens":7}\n\n', 0, "tokens       7"),
        (200, SSE, b": ping\n\n" + b'data: {"type":"done"}\n\n', 0, "execution    None"),
        (200, SSE, TEXT, 1, "The connection broke before the answer's end."),
        (200, SSE, b"", 1, "The connection broke before the answer's end."),
        (200, SSE, b'data: {"type":"error","recoverable":true,"message":"W"}\n\n', 5, "W"),
        (200, SSE, b'data: {"type":"error","code":"X","message":"No \\u001b[2J"}\n\n', 1, "No [2J"),
        (200, {"Content-Type": "application/json"}, b"{}", 1, "is not an x402jobs shop."),
        (200, {"Content-Type": "text/html"}, b"<p>hello", 1, "is not an x402jobs shop."),
        (302, {"Location": "http://127.0.0.1:9/"}, b"", 1, "a token does not go along"),
        (400, {}, b'{"error":"Bad.","code":"INVALID_REQUEST"}', 4, "Bad. (INVALID_REQUEST)"),
        (401, {}, b'{"error":"Unauthorized: x"}', 4, "Unauthorized: x"),
        (403, {}, b'{"error":"No."}', 4, "No."),
        (503, {"Retry-After": "5"}, b'{"error":"W","code":"UNAVAILABLE"}', 5, "again in 5 s."),
        (500, {}, b"<h1>Oh", 1, "status 500"),
    ],
)
def test_every_ending_has_its_exit_code(
    bob: Person, status: int, headers: dict[str, str], body: bytes, code: int, said: str
) -> None:
    with listening(status, headers, body) as stranger:
        ended = bob.run("task", "run", "u,0:1", "--url", stranger.url)

    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr


def test_ctrl_c_is_quiet_and_ends_the_run(bob: Person, claude: ClaudeServer) -> None:
    claude.script({"text": "word " * 300, "deltaMs": 100})

    with running(bob) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
    until = time.monotonic() + 20
    while not claude.calls[0]["hungUp"] and time.monotonic() < until:
        time.sleep(0.05)

    assert claude.calls[0]["hungUp"]


def test_a_reader_who_has_left_is_not_complained_to(bob: Person, claude: ClaudeServer) -> None:
    claude.script({"text": "one two three four", "deltaMs": 200})

    with running(bob) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(10)
        assert process.stderr.read() == ""
