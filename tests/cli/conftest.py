"""The command under test, against a demo that serves for real."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from x402jobs.cli import main
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import Demo

Command = Callable[..., "subprocess.CompletedProcess[str]"]
"""Runs `x402jobs` with these arguments to its end; its output is not a terminal."""

ROOT = Path(__file__).parents[2]
X402JOBS = [sys.executable, "-m", "x402jobs"]


def environment(**changes: str) -> dict[str, str]:
    """What a stranger's shell holds: nothing of ours, and a proxy that must never be asked."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "HTTP_PROXY": "http://127.0.0.1:9"} | changes


def on_a_terminal(
    *command: str, question: str = "", typed: str = "", **changes: str
) -> tuple[int, str]:
    """Exit code and output of a command on a terminal, where somebody answers its question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, environment(TERM="xterm", **changes))
    output, answered = b"", not typed
    try:
        while True:
            # What is typed while readline is only just taking the terminal over can get lost:
            # whoever hears nothing types it again.
            heard = select.select([terminal], [], [], 3)[0]
            if heard and not (chunk := os.read(terminal, 4096)):
                break
            output += chunk if heard else b""
            if typed and question.encode() in output and (not answered or not heard):
                os.write(terminal, typed.encode())
                answered = True
    except OSError:
        pass  # Linux's way to say that the other end has closed
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode().replace("\r\n", "\n")


@pytest.fixture
def x402jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process, which spares each test two seconds of imports."""
    monkeypatch.chdir(tmp_path)

    def run(
        *arguments: str, input: str | None = None, **changes: str
    ) -> "subprocess.CompletedProcess[str]":
        ended = CliRunner(env=changes).invoke(main, arguments, input, catch_exceptions=False)
        return subprocess.CompletedProcess(
            ["x402jobs", *arguments], ended.exit_code, ended.stdout, ended.stderr
        )

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Command:
    """The command as a process of its own."""

    def run(*arguments: str, input: str = "", **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*X402JOBS, *arguments],
            cwd=tmp_path,
            env=environment(**changes),
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("shop") / "data", pace_ms=0, environ=environment()) as demo:
        yield demo


@pytest.fixture
def claude(shop: Demo) -> ClaudeServer:
    """The stand-in that the demo's server asks, with nothing scripted and nothing remembered."""
    assert shop.claude is not None
    shop.claude.script()
    shop.claude.forget()
    return shop.claude
