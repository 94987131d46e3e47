"""`x402jobs demo`: what a stranger sees first."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cli.conftest import X402JOBS, Command, environment, on_a_terminal
from tests.waiting import eventually
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import Demo


def test_once_shows_every_step_and_ends(shell: Command, tmp_path: Path) -> None:
    shown = shell("demo", "--once", "--port", "0", "--data", "data")

    assert (shown.returncode, shown.stderr) == (0, "")
    for step in (
        "402 Payment Required",
        "0.01 Development Dollar",
        "PAYMENT-SIGNATURE",
        "This is a simulated answer",
        "paid         0.01 USDC of development money",
        "-0.01",
        "+0.01",
        "7  Run a task",
        "✅ 1. Find three images",
        "📋 2. Write the haiku",
    ):
        assert step in shown.stdout
    assert re.search(r"transaction  0x[0-9a-f]{64}\n", shown.stdout)
    assert re.search(
        r"This is a simulated answer.*\n   \d+ tokens, in \d+ ms\n", shown.stdout, re.S
    )
    assert "\x1b" not in shown.stdout
    for name in ("wallet.key", "ada.key", "keys", "token-secret"):
        secret = tmp_path / "data" / name
        assert not secret.exists() or secret.read_text().strip() not in shown.stdout


def test_once_asks_the_real_claude_when_there_is_a_key_and_fails_when_it_does(
    shell: Command,
) -> None:
    with ClaudeServer(delta_ms=0) as real:
        real.script({"status": 401})

        shown = shell(
            *("demo", "--once", "--port", "0", "--data", "data"),
            ANTHROPIC_API_KEY="sk-planted",
            CLAUDE_URL=real.url,
        )

    assert shown.returncode == 1
    assert "the real one, 127.0.0.1" in shown.stdout
    assert "The creator's API key is invalid." in shown.stderr
    assert "sk-planted" not in shown.stdout + shown.stderr
    assert [call["key"] for call in real.calls] == ["sk-planted"]


def test_its_task_runs_again_with_all_steps_done(shell: Command, tmp_path: Path) -> None:
    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as earlier:
        headers = {"Authorization": f"Bearer {earlier.creator_token}"}
        for _ in range(2):
            assert '"done"' in requests.get(earlier.task_url, headers=headers, timeout=20).text

    shown = shell("demo", "--once", "--port", "0", "--data", "data")

    assert shown.returncode == 0, shown.stderr
    assert re.findall(r"^   (\S) \d\. ", shown.stdout, re.MULTILINE) == ["✅", "✅"]
    assert shown.stdout.count("This is a simulated answer") == 2


def test_once_fails_when_the_task_does(shell: Command) -> None:
    with ClaudeServer(delta_ms=0) as real:
        real.script(
            {"text": "Rain."}, {"text": "Half of it", "errorEvent": "api_error", "afterDeltas": 1}
        )

        shown = shell(
            *("demo", "--once", "--port", "0", "--data", "data"),
            ANTHROPIC_API_KEY="sk-planted",
            CLAUDE_URL=real.url,
        )

    assert shown.returncode == 1
    assert "x402jobs: the task did not finish: " in shown.stderr
    assert len(real.calls) == 2


def test_a_taken_port_is_one_sentence(shell: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        refused = shell("demo", "--port", str(port))

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"x402jobs: port {port} cannot be used (Address already in")


@pytest.mark.parametrize(
    "arguments", [["--once", "--no-call"], ["--json"], ["--port", "65536"], ["--json", "--once"]]
)
def test_wrong_usage_is_two(x402jobs: Command, arguments: list[str]) -> None:
    assert x402jobs("demo", *arguments).returncode == 2


@contextmanager
def running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The demo until the block ends. It is stopped as a script would, by SIGTERM."""
    with subprocess.Popen(
        [*X402JOBS, "demo", "--port", "0", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def descendants(pid: int) -> set[int]:
    """Every process below this one, read from /proc."""
    children = {
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    }
    return children.union(*map(descendants, children))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_script_reads_one_line_and_stops_it_without_a_trace(
    tmp_path: Path, how: signal.Signals
) -> None:
    with running("--json", "--no-call", "--data", str(tmp_path / "data")) as process:
        assert process.stdout is not None and process.stderr is not None
        facts: dict[str, Any] = json.loads(process.stdout.readline())
        below = descendants(process.pid)
        process.send_signal(how)
        code, rest = process.wait(15), process.stdout.read() + process.stderr.read()

    assert set(facts) == {
        "url",
        "templateUrl",
        "creatorToken",
        "walletKey",
        "claudeUrl",
        "claudeControlUrl",
    }
    assert facts["templateUrl"] == f"{facts['url']}/@ada/haiku"
    assert facts["claudeControlUrl"] == f"{facts['claudeUrl']}/control"
    assert (code, rest) == (0, "")
    assert len(below) == 2  # gunicorn and its worker
    # A worker that outlived its master is anybody's to bury, which takes a moment.
    assert eventually(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists()], 5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_server_that_dies_ends_the_demo(tmp_path: Path) -> None:
    with running("--json", "--no-call", "--data", str(tmp_path / "data")) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        below = descendants(process.pid)
        (server,) = descendants(process.pid) - set().union(*map(descendants, below))
        os.kill(server, signal.SIGTERM)

        assert process.wait(15) == 1
        assert "the server has ended" in process.stderr.read()


def test_the_lines_it_prints_work_as_they_are(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    with running("--data", str(data)) as process:
        assert process.stdout is not None
        output = ""
        while "Serving until Ctrl-C." not in output:
            output += process.stdout.readline()
        tried = output.partition("Go on, in another terminal")[2]
        price, owner_test, paid, task, asked = (
            subprocess.run(
                ["bash", "-ec", script],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=60,
            )
            for script in scripts(tried)
        )

    assert "402 PAYMENT REQUIRED" in price.stdout
    assert '"type":"done"' in owner_test.stdout and '"receipt"' not in owner_test.stdout
    assert paid.returncode == 0
    assert json.loads(paid.stdout.splitlines()[-1])["receipt"]["paidUsdc"] == "0.01"
    assert shlex.quote(str(data)) in tried
    for run in (task, asked):
        assert run.returncode == 0, run.stderr
        assert '"text_delta"' in run.stdout and '"type":"done"' in run.stdout


def scripts(text: str) -> list[str]:
    """The lines below each title."""
    blocks = re.split(r"\n\n", text.strip())
    return ["\n".join(line.strip() for line in block.splitlines()[1:]) for block in blocks][:5]


def test_colour_is_for_terminals_that_want_it(tmp_path: Path) -> None:
    command = [*X402JOBS, "demo", "--once", "--port", "0", "--data", str(tmp_path / "data")]
    code, coloured = on_a_terminal(*command)
    plain_code, plain = on_a_terminal("/usr/bin/env", "NO_COLOR=1", *command)

    assert (code, plain_code) == (0, 0)
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain


def test_it_can_be_stopped_while_it_starts(tmp_path: Path) -> None:
    with running("--no-call", "--data", str(tmp_path / "data")) as process:
        time.sleep(1.5)
        process.terminate()

        assert process.wait(15) in (0, 130, -signal.SIGTERM)
        assert process.stderr is not None and "Traceback" not in process.stderr.read()
