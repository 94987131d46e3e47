"""The image: what goes into it, who runs it, and whether its health check can tell."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread

import pytest

from x402jobs.settings import Settings

ROOT = Path(__file__).parents[1]


def instructions() -> list[list[tuple[str, str]]]:
    """Word and argument of every instruction, stage by stage; what precedes FROM is stage 0."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[tuple[str, str]]] = [[]]
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, argument = line.partition(" ")
            if word == "FROM":
                stages.append([])
            stages[-1].append((word, argument.strip()))
    return stages


PREAMBLE, BUILD, FINAL = instructions()


def arguments(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [argument for each, argument in stage if each == word]


def environment() -> dict[str, str]:
    """What the image sets."""
    words = [word for each in arguments(FINAL, "ENV") for word in shlex.split(each)]
    return dict(word.split("=", 1) for word in words)


def goes_in(path: str) -> bool:
    """Whether .dockerignore lets a file of the checkout into the build."""
    lets = True
    parts = PurePosixPath(path).parts
    ancestry = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        patterns = {pattern, pattern.removeprefix("**/")}
        if any(fnmatch(each, one) for each in ancestry for one in patterns):
            lets = line.startswith("!")
    return lets


def sources(stage: list[tuple[str, str]]) -> list[str]:
    """What a stage copies out of the checkout."""
    copies = [shlex.split(each) for each in arguments(stage, "COPY")]
    return [source for each in copies if not each[0].startswith("--from") for source in each[:-1]]


@pytest.mark.parametrize("source", sources(BUILD))
def test_whatever_is_copied_is_there_and_let_in(source: str) -> None:
    assert (ROOT / source).exists()
    assert goes_in(source)


def test_nothing_is_let_in_that_is_not_copied() -> None:
    let_in = [path.name for path in ROOT.iterdir() if goes_in(path.name)]

    assert sorted(let_in) == sorted({PurePosixPath(each).parts[0] for each in sources(BUILD)})


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".git/config", ".venv/bin/python", ".x402jobs/keys", "data/x402jobs.sqlite3"),
        *("wallet.key", "tests/conftest.py", "deploy/nginx.conf"),
        *("x402jobs/__pycache__/app.cpython-311.pyc", "x402jobs/domain/__pycache__/money.pyc"),
    ],
)
def test_keys_stores_history_and_tests_stay_outside(path: str) -> None:
    assert not goes_in(path)


def test_the_package_goes_in_with_its_data() -> None:
    for path in ("x402jobs/app.py", "x402jobs/adapters/sqlite/schema.sql", "x402jobs/py.typed"):
        assert goes_in(path)


def test_both_stages_stand_on_the_base_that_was_asked_for() -> None:
    (base,) = arguments(PREAMBLE, "ARG")

    assert base.startswith("BASE=python:3.11")
    assert [arguments(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)] == ["${BASE}"] * 2


def test_what_is_installed_is_pinned_and_needs_no_tool_of_ours() -> None:
    installs = [each for each in arguments(BUILD, "RUN") if " install " in each]

    assert installs
    for install in installs:
        assert "--constraint constraints.txt" in install
        assert "dev" not in install
    assert arguments(FINAL, "RUN") == [], "the final image is only copied together"


def test_nobody_in_it_is_root() -> None:
    (user,) = arguments(FINAL, "USER")
    (data,) = [each for each in arguments(FINAL, "COPY") if each.endswith(" /data")]

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert f"--chown={user}" in data, "and whoever runs it may write to the store, and only there"
    assert sum("--chown" in each for each in arguments(FINAL, "COPY")) == 1


def test_its_settings_are_settings_and_none_is_a_secret() -> None:
    ours = {name: value for name, value in environment().items() if name.startswith("X402JOBS_")}

    settings = Settings.from_env(ours)

    assert (settings.bind, str(settings.data)) == ("0.0.0.0:4020", "/data")
    assert arguments(FINAL, "VOLUME") == [str(settings.data)]
    assert arguments(FINAL, "EXPOSE") == [settings.bind.rpartition(":")[2]]
    assert ours.keys() == {"X402JOBS_BIND", "X402JOBS_DATA"}


def test_its_command_is_one_gunicorn_takes(tmp_path: Path) -> None:
    """In exec form: a shell in between would keep SIGTERM to itself and cut every stream."""
    (command,) = arguments(FINAL, "CMD")
    program, *options = json.loads(command)

    checked = subprocess.run(
        [sys.executable, "-m", program, *options, "--check-config"],
        cwd=ROOT,
        env=os.environ | {"X402JOBS_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (program, checked.returncode) == ("gunicorn", 0), checked.stderr
    assert {"gunicorn.conf.py", "wsgi:app"} <= set(options)
    assert arguments(FINAL, "STOPSIGNAL") == ["SIGTERM"]


# The health check


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server whose every answer has this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def healthy(port: int) -> bool:
    """What the image's health check says about a server on this port."""
    (check,) = arguments(FINAL, "HEALTHCHECK")
    program, *options = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    assert "4020" in options[-1]
    options[-1] = options[-1].replace("4020", str(port)).replace("timeout=4", "timeout=1")
    done = subprocess.run(
        [sys.executable, *options],
        env=os.environ | {"http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        timeout=60,
    )
    return done.returncode == 0


@pytest.mark.parametrize(
    ("status", "said"), [(200, True), (404, False), (500, False), (503, False)]
)
def test_only_a_server_that_says_it_is_well_is_healthy(status: int, said: bool) -> None:
    with answering(status) as port:
        assert healthy(port) is said


@pytest.mark.parametrize("listens", [True, False], ids=["silent", "absent"])
def test_a_server_that_does_not_answer_is_not_healthy(listens: bool) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if listens:
            sock.listen()
        assert not healthy(sock.getsockname()[1])
