"""The image: what goes into it, who runs it, and whether its health check can tell."""

import functools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from socketserver import TCPServer
from threading import Thread

import pytest
import yaml

from deploy import healthcheck
from x402jobs.settings import Settings
from x402jobs.version import VERSION

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy" / "compose.yaml"


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


def matches(pattern: str, path: str) -> bool:
    """As Docker reads it: `*` stays within a directory, `**` is any number of them, or none."""
    parts = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(parts, path) is not None


def goes_in(path: str) -> bool:
    """Whether .dockerignore lets a file of the checkout into the build."""
    lets = True
    parts = PurePosixPath(path).parts
    ancestry = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if any(matches(line.removeprefix("!"), each) for each in ancestry):
            lets = line.startswith("!")
    return lets


def sources(stage: list[tuple[str, str]]) -> list[str]:
    """What a stage copies out of the checkout."""
    copies = [shlex.split(each) for each in arguments(stage, "COPY")]
    return [source for each in copies if not each[0].startswith("--from") for source in each[:-1]]


@functools.cache
def let_in() -> frozenset[str]:
    """Every file of the checkout, kept by git or not, that the build is given."""
    found: set[str] = set()
    for directory, inside, files in os.walk(ROOT):
        here = PurePosixPath(Path(directory).relative_to(ROOT))
        large = ("build", "node_modules")  # test_keys_stores_… asks about these
        inside[:] = [each for each in inside if not each.startswith(".") and each not in large]
        found |= {str(here / each) for each in [*files, *inside] if goes_in(str(here / each))}
    return frozenset(found)


@pytest.mark.parametrize("source", sources(BUILD))
def test_whatever_is_copied_is_there_and_let_in(source: str) -> None:
    assert (ROOT / source).exists()
    assert any(PurePosixPath(each).is_relative_to(source) for each in let_in())


def test_nothing_is_let_in_that_is_not_copied() -> None:
    copied = sources(BUILD)

    for path in let_in():
        assert any(PurePosixPath(path).is_relative_to(each) for each in copied), path


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".git/config", ".venv/bin/python", ".x402jobs/keys", "data/x402jobs.sqlite3"),
        *("wallet.key", "tests/conftest.py", "deploy/nginx.conf", "deploy/.env"),
        *("deploy/certificate-key.pem", "deploy/audit.py", "build/sbom.json"),
        *(
            "x402jobs/.env",
            "x402jobs/keys",
            "x402jobs/adapters/backup.sqlite3",
            "migrations/dump.csv",
        ),
        *("x402jobs/__pycache__/app.cpython-311.pyc", "x402jobs/domain/__pycache__/money.pyc"),
    ],
)
def test_keys_stores_history_and_tests_stay_outside(path: str) -> None:
    assert not goes_in(path)


def test_the_package_goes_in_with_its_data() -> None:
    """All of it that git keeps, by whichever name: nothing else would be missed before it runs."""
    (data,) = re.findall(r"^x402jobs =\n((?:    .+\n)+)", (ROOT / "setup.cfg").read_text(), re.M)
    patterns = ["*.py", *data.split()]
    for pattern in patterns:
        for path in (ROOT / "x402jobs").rglob(pattern):
            assert goes_in(str(path.relative_to(ROOT))), path
    assert {"x402jobs/app.py", "x402jobs/py.typed", "x402jobs/migrations"} <= let_in()


def test_both_stages_stand_on_the_base_that_was_asked_for() -> None:
    (base,) = arguments(PREAMBLE, "ARG")

    assert base.startswith("BASE=python:3.11")
    assert [arguments(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)] == ["${BASE}"] * 2


def test_only_wheels_whose_bytes_are_locked_are_installed() -> None:
    """And ourselves, from the checkout, with nothing fetched for it."""
    runs = " && ".join(arguments(BUILD, "RUN")).split("&&")
    installs = [shlex.split(each) for each in runs if " install " in each]
    locked = [each for each in installs if "--requirement" in each]
    (ours,) = [each for each in installs if "--requirement" not in each]

    assert [each[-1] for each in locked] == ["requirements.lock", "build.lock"]
    for install in locked:
        assert {"--require-hashes", "--only-binary", ":all:"} <= set(install)
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(ours)


def test_nothing_is_installed_or_fetched_in_the_final_image(tmp_path: Path) -> None:
    """Its one command takes away what a base installs packages with, and nothing else."""
    (clean,) = arguments(FINAL, "RUN")
    there = ("local/bin/pip", "local/bin/pip3.11", "lib/site-packages/pip/__init__.py")
    there += ("lib/site-packages/setuptools-65.5.1.dist-info/METADATA", "lib/ensurepip/pip.whl")
    stays = ("local/bin/python", "bin/pipesz", "lib/site-packages/flask/__init__.py")
    for name in (*there, *stays):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    subprocess.run(clean.replace("find /", f"find {tmp_path}", 1), shell=True, check=True)

    assert clean.startswith("find / ") and clean.count("find /") == 1
    assert {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()} == {
        *stays
    }


def test_nobody_in_it_is_root() -> None:
    (user,) = arguments(FINAL, "USER")
    theirs = [each for each in arguments(FINAL, "COPY") if "--chown" in each]

    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert [each.split()[-1] for each in theirs] == ["/data", "/run/x402jobs"]
    assert all(f"--chown={user}" in each for each in theirs)


def test_its_labels_say_which_release_it_is() -> None:
    labels = " ".join(arguments(FINAL, "LABEL"))

    assert f'org.opencontainers.image.version="{VERSION}"' in labels
    assert 'org.opencontainers.image.licenses="MIT"' in labels
    assert yaml.safe_load(COMPOSE.read_text())["services"]["x402jobs"]["image"] == (
        f"x402jobs:{VERSION}"
    )


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
def answering(status: int, unix: Path | None = None) -> Iterator[str]:
    """A server whose every answer has this status; where it listens, as X402JOBS_BIND says it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def address_string(self) -> str:
            return "a socket file has none"

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        address_family = socket.AF_UNIX if unix else socket.AF_INET

        def server_bind(self) -> None:
            TCPServer.server_bind(self)

    with Server(str(unix) if unix else ("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"unix:{unix}" if unix else f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def health_of(bind: str) -> int:
    """What the image's health check exits with, about a server that listens there."""
    (check,) = arguments(FINAL, "HEALTHCHECK")
    program, file = json.loads(check.partition("CMD ")[2])
    (copied,) = [each for each in sources(BUILD) if PurePosixPath(each).name == file]
    done = subprocess.run(
        [{"python": sys.executable}[program], ROOT / copied],
        env={"X402JOBS_BIND": bind, "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        timeout=60,
    )
    return done.returncode


@pytest.mark.parametrize("by", ["port", "socket"])
@pytest.mark.parametrize(("status", "said"), [(200, 0), (404, 1), (500, 1), (503, 1)])
def test_only_a_server_that_says_it_is_well_is_healthy(
    tmp_path: Path, by: str, status: int, said: int
) -> None:
    with answering(status, tmp_path / "socket" if by == "socket" else None) as bind:
        assert health_of(bind) == said


def test_a_server_on_every_address_is_asked_on_its_own() -> None:
    with answering(200) as bind:
        assert health_of(bind.replace("127.0.0.1", "0.0.0.0")) == 0


def test_a_server_that_is_not_there_is_not_healthy(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert health_of(f"127.0.0.1:{sock.getsockname()[1]}") == 1
    assert health_of(f"unix:{tmp_path}/none") == 1


def test_a_server_that_does_not_answer_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("X402JOBS_BIND", f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SystemExit) as ended:
            healthcheck.main()

    assert ended.value.code == "no answer: TimeoutError"


def test_the_health_check_gives_up_before_it_is_given_up() -> None:
    (check,) = arguments(FINAL, "HEALTHCHECK")

    assert int(re.findall(r"--timeout=(\d+)s", check)[0]) > healthcheck.SECONDS
