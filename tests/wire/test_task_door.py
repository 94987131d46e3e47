"""The task door behind nginx, as the programs of other people meet it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import events
from tests.readers import READERS, Reader
from tests.supabase.postgres import Postgres
from tests.test_readme import README
from tests.tools import need
from tests.waiting import eventually
from tests.wire.account import DOOR, Account, behind_nginx, documented, printed, prompts, text_of
from tests.wire.conftest import HEARTBEAT_SECONDS, Server
from tests.wire.test_leaving import released_after
from x402jobs.devkit.wallet import Wallet

pytestmark = pytest.mark.wire

WORDS = "The gutters are “clean”.\nNobody fell \U0001f327."
SILENT_AFTER_THREE = {"text": "one two three four", "afterDeltas": 3, "stallSeconds": 60}
LONG = WORDS + "\U0001f327" * 5_000
"""Its events are larger than a record of TLS, so that a reader gets them in pieces."""
BUSY = [{"status": 429, "headers": {"retry-after": "0"}}] * 3
"""As often as it is asked for one run."""


@pytest.fixture(scope="module")
def fronted(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None
) -> Iterator[Server]:
    with behind_nginx(tmp_path_factory.mktemp("tasks"), postgres) as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    need("nginx")  # each test says that it lacks it, not the first alone
    fronted: Server = request.getfixturevalue("fronted")
    return fronted.visit(Wallet.open(tmp_path / "wallet.key"))


@pytest.fixture
def account(server: Server) -> Account:
    server.claude.script(*[{"text": WORDS}] * 9)
    return Account.at(server)


@contextmanager
def shell(commands: str, home: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """What somebody types who has told curl to trust our certificate, which nobody signed."""
    need("curl")
    (home / ".curlrc").write_text('insecure\nnoproxy = "*"\nno-progress-meter\n')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        ["sh", "-e", "-c", commands],
        stdout=subprocess.PIPE,
        bufsize=0,
        env={"PATH": path, "HOME": str(home), "CURL_HOME": str(home)} | variables,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def output_of(commands: str, home: Path, **variables: str) -> bytes:
    with shell(commands, home, **variables) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return output


def node(script: str, home: Path, **variables: str) -> list[str]:
    """The lines that a program prints which trusts our certificate."""
    (file := home / "program.mjs").write_text(script)
    ran = subprocess.run(
        [need("node"), str(file)],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": os.environ["PATH"], "NODE_TLS_REJECT_UNAUTHORIZED": "0"} | variables,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def told(account: Account, coords: str, **asked: str) -> list[dict[str, Any]]:
    """What a run of the tile tells a program."""
    with account.server.http() as client:
        reply = client.get(account.door(coords, **asked), headers={"Authorization": account.bearer})
    assert reply.status_code == 200, reply.text
    return events(reply.content)


def ends_well(said: list[dict[str, Any]], text: str = WORDS) -> bool:
    return (text_of(said), said[-1]["type"]) == (text, "done") and said[-1]["totalTokens"] > 0


# Seed 3's examples


def test_the_curl_of_seed_3_runs_as_printed(account: Account, tmp_path: Path) -> None:
    command = printed(
        "curl.sh",
        host=account.server.url,
        coords=account.tile("1", "Clean the gutters"),
        key=account.api_key(),
    )

    said = events(output_of(command, tmp_path))

    assert ends_well(said)
    assert len(account.server.claude.calls) == 1


def test_curl_prints_what_claude_has_said_while_claude_is_still_silent(
    account: Account, tmp_path: Path
) -> None:
    account.server.claude.script(SILENT_AFTER_THREE)
    command = printed(
        "curl.sh",
        host=account.server.url,
        coords=account.tile("1", "Clean the gutters"),
        key=account.api_key(),
    )

    with shell(command, tmp_path) as process:
        heard = read_until(process, b"three")
        call = account.server.call()

    assert text_of(events(heard + b"\n")) == "one two three"
    assert (call["finishedAt"], call["hungUp"]) == (None, False)


@pytest.mark.parametrize("kind", ["external", "internal"])
def test_the_fetch_of_seed_3_runs_as_printed_in_node(
    account: Account, tmp_path: Path, kind: str
) -> None:
    """An internal key's hint is who it belongs to; beside another key it is ignored."""
    key, hint = account.api_key(), "user-id-hint"
    if kind == "internal":
        key, hint = account.internal_key(), account.id
    url = account.door(account.tile("1", "Clean the gutters"), instruction="Focus on the gutters")
    example = printed("fetch.js", key=key, hint=hint, handled="console.log(JSON.stringify(event));")

    lines = node(f"const url = new URL({json.dumps(url)});\n{example}", tmp_path)

    assert ends_well([json.loads(line) for line in lines])
    (prompt,) = prompts(account.server)
    assert "Focus on the gutters" in prompt


def test_the_headers_are_those_of_seed_3(account: Account) -> None:
    path = account.door(account.tile("1", "Clean the gutters")).removeprefix(account.server.url)
    headers = {"Authorization": account.bearer}

    answer = account.server.ask(headers, None, method="GET", path=path)

    assert ends_well(events(answer.body))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["connection"] == "keep-alive"


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_everybodys_reader_gets_the_same_task(account: Account, reader: Reader) -> None:
    account.server.claude.script({"text": WORDS * 9, "deltaMs": 2})
    url, headers = account.door(account.tile("1", "Task")), {"Authorization": account.bearer}

    with account.server.http() as client, client.stream("GET", url, headers=headers) as reply:
        said = [json.loads(data) for data in reader(reply.iter_raw())]

    assert ends_well(said, WORDS * 9)


# The examples of docs/tasks.md, and of the README


def commands(block: str) -> str:
    """What is typed in a console: after each dollar, and the lines that go on."""
    typed = re.findall(r"^\$ (.*(?:(?<=\\)\n.*)*)", block, re.MULTILINE)
    return "\n".join(typed)


def test_the_curl_commands_of_the_page_lead_to_an_answer(server: Server, tmp_path: Path) -> None:
    server.claude.script({"text": WORDS})
    begin, run = (
        commands(block).replace("http://127.0.0.1:4020", server.url)
        for block in documented("curl", "console")
    )
    with shell(begin, tmp_path, X402JOBS_DATA=str(server.settings.data)) as process:
        tile, key = map(json.loads, process.communicate(timeout=30)[0].splitlines())

    said = output_of(run, tmp_path, ME=server.ada, KEY=key["key"])

    assert (tile["coords"], tile["title"]) == (f"{server.ada},0:1", "Clean the gutters")
    assert ends_well(events(said))


def test_the_javascript_of_the_page_prints_the_answer(account: Account, tmp_path: Path) -> None:
    (example,) = documented("Programs", "javascript")
    example = example.replace("http://127.0.0.1:4020", account.server.url)
    task, key = account.tile("1", "Clean the gutters"), account.api_key()
    account.server.claude.script({"text": LONG})

    lines = node(example, tmp_path, TASK=task, KEY=key)

    assert "\n".join(lines) == LONG


@pytest.fixture
def neighbour(running: Server, tmp_path: Path) -> Account:
    """Somebody at the shop without nginx, for programs that want a certificate somebody signed."""
    return Account.at(running.visit(Wallet.open(tmp_path / "neighbour.key")))


def test_the_python_of_the_page_prints_the_answer_at_the_second_try(
    neighbour: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = documented("Programs", "python")
    example = example.replace("http://127.0.0.1:4020", neighbour.server.url)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TASK", neighbour.tile("1", "Clean the gutters"))
    monkeypatch.setenv("KEY", neighbour.api_key())
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    neighbour.server.claude.script(*BUSY, {"text": WORDS})

    exec(example, {})

    assert capsys.readouterr().out == WORDS + "\n"
    assert waits == [2]


def test_the_commands_of_the_readme_run_a_task(neighbour: Account, tmp_path: Path) -> None:
    (block,) = re.findall(r"```console\n(\$ x402jobs tile .*?)```", README, re.DOTALL)
    neighbour.server.claude.script({"text": WORDS})
    ours = {
        "X402JOBS_URL": neighbour.server.url,
        "NO_PROXY": "*",
        **neighbour.server.beneath.as_user(neighbour.name, neighbour.id),
    }

    tile, _, told = output_of(commands(block), tmp_path, **ours).partition(b"}\n")

    assert b"Clean the gutters" in tile
    said = [json.loads(line) for line in told.splitlines()]
    assert ends_well(said)
    (prompt,) = prompts(neighbour.server)
    assert "The north side first." in prompt


# Leaving, and asking again


def read_until(process: "subprocess.Popen[bytes]", word: bytes) -> bytes:
    """What has been printed when the word is."""
    assert process.stdout is not None
    heard = b""
    while word not in heard:
        line = process.stdout.readline()
        assert line, heard
        heard += line
    return heard


def test_a_killed_curl_ends_claudes_stream(account: Account, tmp_path: Path) -> None:
    account.server.claude.script(SILENT_AFTER_THREE)
    url = account.door(account.tile("1", "Clean the gutters"))
    with shell(f"curl -N '{url}' -H 'x-api-key: {account.api_key()}'", tmp_path) as process:
        read_until(process, b"three")

        os.killpg(process.pid, signal.SIGKILL)
        left = time.time()

    assert released_after(account.server, left) < HEARTBEAT_SECONDS + 1


def test_after_a_429_a_retry_asks_claude_again(account: Account) -> None:
    """What Claude was too busy for is still to be done."""
    account.server.claude.script(*BUSY, {"text": WORDS})
    house = account.tile("1", "The house")
    account.tile("1,1", "Sweep", content="With the old broom.")

    (busy,) = told(account, house)
    calls = len(account.server.claude.calls)
    again = told(account, house)

    assert (busy["type"], busy["code"], busy["recoverable"]) == ("error", "RATE_LIMIT", True)
    assert ends_well(again)
    assert len(account.server.claude.calls) == calls + 1
    assert "With the old broom." in prompts(account.server)[-1]


def test_a_leaf_asked_twice_with_two_instructions_runs_twice(account: Account) -> None:
    task = account.tile("1", "Clean the gutters")

    for instruction in ("Use the ladder.", "Use the crane."):
        assert ends_well(told(account, task, instruction=instruction))

    first, second = prompts(account.server)
    assert "Use the ladder." in first and "Use the crane." not in first
    assert "Use the crane." in second and "Use the ladder." not in second


def test_a_parent_walks_through_its_steps(account: Account) -> None:
    house = account.tile("1", "The house")
    account.tile("1,1", "Sweep", content="With the old broom.")
    account.tile("1,2", "Mop", content="With cold water.")

    assert ends_well(told(account, house))
    assert ends_well(told(account, house))
    nothing_left = told(account, house)

    first, second = prompts(account.server)
    assert "With the old broom." in first and "With cold water." not in first
    assert "With cold water." in second
    assert (nothing_left[-1]["type"], nothing_left[-1]["totalTokens"]) == ("done", 0)


def test_an_instruction_too_long_for_an_address_goes_in_a_body(account: Account) -> None:
    task, instruction = account.tile("1", "Clean the gutters"), "x" * 8000
    headers = {"Authorization": account.bearer}
    with account.server.http() as client:
        get = client.get(account.door(task, instruction=instruction), headers=headers)
        body = {"taskCoords": task, "instruction": instruction}
        post = client.post(DOOR, json=body, headers=headers)

    assert (get.status_code, get.json()["code"]) == (414, "INVALID_REQUEST")
    assert "POST" in get.json()["error"]
    assert ends_well(events(post.content))
    assert instruction in prompts(account.server)[0]


def test_no_log_holds_an_instruction_or_a_credential(account: Account) -> None:
    server, planted = account.server, "canary-instruction"
    url, key = account.door(account.tile("1", "Task"), instruction=planted), account.api_key()
    with server.http() as client:
        client.get(url, headers={"X-API-Key": key})
        client.get(url, headers={"X-API-Key": key + "x", "Cookie": "x402jobs_session=canary-no"})
        last = client.get(url, headers={"Authorization": "Bearer canary-token"})

    directory = server.settings.data.parent
    access = directory / "access.log"
    assert eventually(lambda: last.headers["x-request-id"] in access.read_text())
    written = "".join((directory / name).read_text() for name in ("access.log", "error.log"))
    written += server.log.read_text()
    assert [secret for secret in ("canary", key) if secret in written] == []
