"""`x402jobs serve`: gunicorn in the place of the command."""

import http.client
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import X402JOBS, Command, environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(port: int) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def test_it_serves_from_any_directory_until_it_is_told_to_stop(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen(
        [*X402JOBS, "serve", "--bind", f"127.0.0.1:{port}", "--data", "data"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            banner = process.stderr.readline()
            until = time.monotonic() + 20
            while (status := status_of(port)) is None and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGTERM)
        said = process.stderr.read()

    assert status == 200, said
    assert process.returncode == 0
    assert all(each in banner for each in ("embedded store data", "one worker", "development"))
    assert f"http://127.0.0.1:{port}" in banner
    assert (tmp_path / "data").is_dir()


def test_a_socket_file_lies_where_it_was_asked_for(tmp_path: Path) -> None:
    place = tmp_path / "x.sock"
    with subprocess.Popen(
        [*X402JOBS, "serve", "--bind", "unix:x.sock", "--data", "data"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until = time.monotonic() + 20
            while not place.is_socket() and time.monotonic() < until:
                time.sleep(0.1)
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(place))
                line.settimeout(20)
                line.sendall(b"GET /healthz HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
                reply = line.makefile("rb").read()
        finally:
            process.send_signal(signal.SIGTERM)

    assert reply.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("variable", "value"), [("HEARTBEAT_SECONDS", "soon"), ("ENV", "production")]
)
def test_a_bad_setting_is_named(x402jobs: Command, variable: str, value: str) -> None:
    refused = x402jobs("serve", **{variable: value})

    assert refused.returncode == 1
    assert f"{variable}: " in refused.stderr


def test_without_a_checkout_it_says_what_to_do(
    x402jobs: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("x402jobs.server.__file__", str(tmp_path / "site" / "pkg" / "server.py"))

    refused = x402jobs("serve")

    assert refused.returncode == 1
    assert "wsgi.py is not beside the package" in refused.stderr


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ("base,eip155:84532", "USDC on base, USDC on base-sepolia through facilitator.example, "),
        ("eip155:31337", "play dollars on eip155:31337 through facilitator.example, "),
    ],
)
def test_it_says_what_money_it_takes(
    x402jobs: Command, monkeypatch: pytest.MonkeyPatch, networks: str, said: str
) -> None:
    monkeypatch.setattr("os.execve", lambda *_: None)
    monkeypatch.setattr("os.chdir", lambda _: None)
    url = "https://user:password@facilitator.example/key"

    begun = x402jobs("serve", FACILITATOR_URL=url, X402_NETWORKS=networks)

    assert said in begun.stderr
    assert "development money" not in begun.stderr
    assert "password" not in begun.stderr and "/key" not in begun.stderr
