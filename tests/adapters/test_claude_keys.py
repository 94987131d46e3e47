"""Whether a creator's key works: Claude is asked, nothing is spent, and the key goes nowhere else.

It runs over threads, and then once more under gevent (the last test).
"""

import gc
import logging
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread

import pytest

from x402jobs.adapters.claude import Claude, keys
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.domain.errors import (
    InvalidApiKey,
    ModelError,
    NetworkError,
    Overloaded,
    RateLimited,
    TimedOut,
    Truncated,
)
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.settings import Settings

CANARY = "sk-ant-canary-key"
KEY = Secret(CANARY)
PAGE = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'


@pytest.fixture(scope="module")
def server():
    with ClaudeServer(delta_ms=0) as server:
        yield server
    gc.collect()  # whatever was left open is a ResourceWarning now, and so an error


@pytest.fixture
def claude(server):
    server.script()
    server.forget()
    with connected_to(server.url) as claude:
        yield claude


@contextmanager
def connected_to(url, **settings) -> Iterator[Claude]:
    claude = Claude(Settings(claude_url=url, **settings))
    try:
        yield claude
    finally:
        claude.close()


def fault(claude, key=KEY):
    """What the check comes to when it is not a good key."""
    with pytest.raises(ModelError) as caught:
        claude.check_key(key)
    return caught.value


@contextmanager
def answering(reply):
    """A server that says `reply` to every connection, raw; and what it was told."""
    told = []

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.settimeout(10)
                    told.append(connection.recv(65_536))
                    connection.sendall(reply)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", told
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(body, status="200 OK", **headers):
    headers = {"content-type": "application/json", "connection": "close"} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def test_a_key_that_claude_takes_is_good_and_costs_no_tokens(claude, server):
    claude.check_key(KEY)

    (call,) = server.calls
    assert (call["path"], call["body"]) == ("/v1/models", None)
    assert call["key"] == CANARY
    assert call["headers"]["anthropic-version"]


REFUSALS = [
    ({"status": 401}, InvalidApiKey),
    ({"status": 403}, InvalidApiKey),
    ({"status": 402, "errorEvent": "billing_error"}, InvalidApiKey),
    ({"status": 429}, RateLimited),
    ({"status": 500}, Overloaded),
    ({"status": 503}, Overloaded),
    ({"status": 529}, Overloaded),
    ({"status": 400}, ModelError),
    ({"status": 418, "errorEvent": "something_new"}, ModelError),
    ({"cutAtByte": 20, "clean": True}, ModelError),
    ({"cutAtByte": 20}, Truncated),
    ({"cutAtByte": 0, "clean": True}, ModelError),
]


@pytest.mark.parametrize(("script", "expected"), REFUSALS)
def test_only_claude_saying_no_makes_a_key_bad(claude, server, script, expected):
    server.script(script)

    assert type(fault(claude)) is expected
    assert len(server.calls) == 1, "a check is not tried again"


def test_claudes_wish_to_wait_is_passed_on(claude, server):
    server.script({"status": 529, "headers": {"retry-after": "7"}})

    assert fault(claude).retry_after == 7


@pytest.mark.parametrize("key", ["", " ", "sk ant", "sk-ant\n", "schlüssel", "sk\x00"])
def test_a_key_that_cannot_be_one_is_bad_without_being_sent(claude, server, key):
    assert type(fault(claude, Secret(key))) is InvalidApiKey
    assert server.calls == []


@pytest.mark.parametrize(
    ("check_seconds", "idle_seconds"), [(0.2, 60.0), (30.0, 0.2)], ids=["whole", "silence"]
)
@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_slow_claude_is_not_waited_for(server, monkeypatch, where, check_seconds, idle_seconds):
    """By the limit on the whole check, or on a silence; who waited on would find a good key."""
    monkeypatch.setattr(keys, "CHECK_SECONDS", check_seconds)
    server.script({"stallSeconds": 5})

    with ExitStack() as stack:
        url = server.url if where == "headers" else stack.enter_context(halting(http(PAGE)))
        claude = stack.enter_context(connected_to(url, idle_seconds=idle_seconds))
        assert type(fault(claude)) is TimedOut


@contextmanager
def halting(reply):
    """A server that says `reply` with a rest of five seconds in the middle of the body."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        over = Event()

        def serve():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65_536)
                connection.sendall(reply[:-9])
                over.wait(5)
                connection.sendall(reply[-9:])

        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


def test_nobody_at_the_address_is_a_network_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with connected_to(f"http://127.0.0.1:{taken.getsockname()[1]}") as claude:
            assert type(fault(claude)) is NetworkError


GARBAGE = {
    "a captive portal": (http(b"<html>Sign in</html>", content_type="text/html"), ModelError),
    "not JSON": (http(b"{"), ModelError),
    "no object": (http(b"[]"), ModelError),
    "no list": (http(b'{"data":{}}'), ModelError),
    "too deep": (http(b"[" * 60_000), ModelError),
    "too large": (http(b'{"data":[' + b" " * 100_000 + b"]}"), ModelError),
    "not gzip": (http(PAGE, content_encoding="gzip"), ModelError),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", NetworkError),
    "no bytes": (b"", NetworkError),
    "a body cut off": (http(PAGE, content_length=99_999), Truncated),
    "a refusal without a body": (http(b"", "401 No"), InvalidApiKey),
    "a refusal that is not JSON": (http(b"<html>", "529 Busy"), Overloaded),
    "nothing": (http(b"", "204 No Content"), ModelError),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_not_claude_says_nothing_about_a_key(kind):
    reply, expected = GARBAGE[kind]

    with answering(reply) as (url, _), connected_to(url) as claude:
        assert type(fault(claude)) is expected


def test_the_page_that_the_garbage_differs_from_is_good():
    with answering(http(PAGE)) as (url, _), connected_to(url) as claude:
        claude.check_key(KEY)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirection_does_not_take_the_key_elsewhere(status):
    with answering(http(PAGE)) as (elsewhere, told):
        redirection = http(b"", status, location=f"{elsewhere}/v1/models")
        with answering(redirection) as (url, _), connected_to(url) as claude:
            assert type(fault(claude)) is ModelError

    assert told == []


def test_the_environment_sends_no_key_astray(server, claude, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "ANTHROPIC_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-environment")

    with connected_to(server.url) as fresh:
        fresh.check_key(KEY)

    assert [call["key"] for call in server.calls] == [CANARY]


def test_a_check_and_a_speech_share_their_connections(claude, server):
    claude.check_key(KEY)
    speech = claude.speech(Prompt("claude-simulated", 9, "", "Say rain."), Secret("sk-another"))
    speech.begin()
    said = "".join(speech)
    claude.check_key(KEY)

    assert said
    assert [call["key"] for call in server.calls] == [CANARY, "sk-another", CANARY]


LEAKS = [{"status": 401}, {"status": 400, "text": CANARY}, {"cutAtByte": 9}, {"status": 529}]


def test_no_failure_shows_the_key_nor_holds_it(claude, server, caplog):
    """An error in a crash report takes along all that its traceback refers to."""
    caplog.set_level(logging.DEBUG, logger="x402jobs")
    failures = []
    for script in LEAKS:
        server.script(script)
        failures.append(fault(claude))
    failures.append(fault(claude, Secret(f"{CANARY}\n")))

    for error in failures:
        shown = str(error) + repr(error) + "".join(traceback.format_exception(error))
        frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
        shown += "".join(repr(value) for each in frames for value in each.values())
        assert "canary" not in shown
        assert (error.__cause__, error.__context__) == (None, None)
        assert error.message == type(error).sentence
    logged = [each.getMessage() for each in caplog.records if each.name.startswith("x402jobs")]
    assert "canary" not in "".join(logged)


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_all_of_this_holds_under_gevent():
    arguments = [__file__, "-q", "--noconftest", "-W", "error", "-p", "no:cacheprovider"]

    run = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, *arguments, "-k", "not under_gevent"],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert run.returncode == 0, run.stdout + run.stderr
