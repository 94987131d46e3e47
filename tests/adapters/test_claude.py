"""The real anthropic package in front of a stand-in Claude that does everything Claude may do.

It runs over threads, and then once more under gevent, without the long tables (the last test).
"""

import gc
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from http.client import HTTPResponse
from ipaddress import ip_address
from threading import Barrier, Thread

import anthropic
import httpx2
import pytest
from anthropic.resources.messages import DEPRECATED_MODELS

from x402jobs.adapters.claude import Claude, retirements, transport
from x402jobs.adapters.claude.call import Call
from x402jobs.devkit.claude_reply import simulated_text
from x402jobs.devkit.claude_server import ClaudeServer, recorded_stream
from x402jobs.domain.errors import (
    ContextTooLong,
    EmptyAnswer,
    InvalidApiKey,
    ModelError,
    ModelUnknown,
    NetworkError,
    Overloaded,
    RateLimited,
    TimedOut,
    Truncated,
)
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.settings import Settings

KEY = Secret("sk-ant-canary-key")
PROMPT = Prompt("claude-simulated", 1024, system="canary-system", user="canary-user says rain")
AT_ONCE = 0.2
"""Seconds. It takes about one millisecond; a test machine may be busy."""
LONG = {"text": "word " * 200, "deltaMs": 20}


@pytest.fixture(scope="module", autouse=True)
def certificates():
    """Loaded once, not for every client: it takes 20 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx2, "create_ssl_context", cache(httpx2.create_ssl_context))
        yield


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


@pytest.fixture
def dialled(monkeypatch):
    """The connections made."""
    made, dial = [], transport.dial
    monkeypatch.setattr(transport, "dial", lambda *about: made.append(about) or dial(*about))
    return made


@contextmanager
def connected_to(url, **settings):
    claude = Claude(Settings(claude_url=url, **{"idle_seconds": 10, **settings}))
    try:
        yield claude
    finally:
        claude.close()


def speech(claude, prompt=PROMPT, key=KEY):
    return claude.speech(prompt, key)


def hear(speech):
    speech.begin()
    return "".join(speech)


def fault(speech):
    """What the call comes to, and the text before it."""
    heard = []
    with pytest.raises(ModelError) as caught:
        speech.begin()
        for text in speech:
            heard.append(text)
    speech.close()
    return caught.value, "".join(heard)


@contextmanager
def hung_up_on(speech, after=0.1):
    """Have another thread close the speech; what runs meanwhile must end at once."""
    closed = []

    def close():
        time.sleep(after)
        closed.append(time.monotonic())
        speech.close()

    thread = Thread(target=close)
    thread.start()
    with pytest.raises(NetworkError):
        yield
    ended = time.monotonic()
    thread.join()
    assert ended - closed[0] < AT_ONCE


@contextmanager
def listener(backlog=128):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(backlog)
        yield sock


def address(sock, scheme="http"):
    return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def answering(*replies, tls=None):
    """A server that gives each connection the next reply, raw, and then closes it."""

    def serve():
        for reply in replies:
            with suppress(OSError):
                connection, _ = sock.accept()
                with (
                    connection
                    if tls is None
                    else tls.wrap_socket(connection, server_side=True) as c
                ):
                    while b"canary-user" not in c.recv(65_536):
                        pass
                    c.sendall(reply)
                    if tls is not None:  # keep it until the other end hangs up
                        while c.recv(65_536):
                            c.sendall(reply)

    with listener() as sock:
        thread = Thread(target=serve)
        thread.start()
        yield address(sock, "http" if tls is None else "https")
        thread.join()


def http(body, status="200 OK", kind="text/event-stream", **headers):
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says_hung_up(server):
    until = time.monotonic() + 2
    while time.monotonic() < until and not server.calls[-1]["hungUp"]:
        time.sleep(0.005)
    return server.calls[-1]["hungUp"]


# An answer


def test_claude_is_asked_exactly_what_the_template_says(claude, server):
    hear(speech(claude))

    call = server.calls[-1]
    assert call["key"] == "sk-ant-canary-key"
    assert call["body"] == {
        "model": "claude-simulated",
        "max_tokens": 1024,
        "system": "canary-system",
        "messages": [{"role": "user", "content": "canary-user says rain"}],
        "stream": True,
    }


def test_an_answer_is_heard_from_its_first_character_to_its_last(claude, server):
    server.script({"text": "Über dem Dach – 雨 🌧 fällt.", "usage": {"output_tokens": 7}})
    answer = speech(claude)

    answer.begin()

    assert "".join(answer) == "Über dem Dach – 雨 🌧 fällt."
    assert answer.usage["output_tokens"] == 7
    assert answer.usage["input_tokens"] > 0
    assert (answer.model, answer.stop_reason) == ("claude-simulated", "end_turn")
    assert list(answer) == []


def test_beginning_returns_with_the_first_content(claude, server):
    server.script({"text": "one two three", "afterDeltas": 1, "stallSeconds": 0.3})
    answer = speech(claude)

    started = time.monotonic()
    answer.begin()
    begun = time.monotonic() - started

    assert begun < 0.2
    assert "".join(answer) == "one two three"
    assert time.monotonic() - started > 0.3


def test_nothing_is_called_before_the_beginning(claude, server):
    answer = speech(claude)
    answer.close()

    assert server.calls == []


def test_a_hundred_speeches_at_once_keep_to_themselves(claude, server):
    barrier, heard = Barrier(100), {}

    def run(number):
        asks = f"one two three four and number {number}"
        answer = speech(claude, Prompt("claude-simulated", 99, asks, asks), Secret(f"key-{number}"))
        barrier.wait()
        heard[f"key-{number}"] = hear(answer)

    threads = [Thread(target=run, args=[number]) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert heard == {call["key"]: simulated_text(call["body"]) for call in server.calls}
    assert len(set(heard.values())) == 100


def test_a_connection_is_used_again(claude, dialled):
    for _ in range(5):
        hear(speech(claude))

    assert len(dialled) == 1


def test_a_connection_claude_has_closed_meanwhile_is_not_used_again(server, dialled):
    with ClaudeServer(delta_ms=0) as brief, connected_to(brief.url) as claude:
        hear(speech(claude))
        brief.stop()
        brief.start()
        hear(speech(claude))

    assert len(dialled) == 2


@pytest.mark.parametrize(
    "script", [{"status": 529}, {"cutAtByte": 400}, {"errorEvent": "api_error"}]
)
def test_a_failed_call_does_no_harm_to_the_next(claude, server, script):
    server.script(script)
    fault(speech(claude))

    assert hear(speech(claude))


def test_cookies_do_not_travel_with_another_creators_key(claude, server):
    server.script({"headers": {"set-cookie": "who=ada"}})
    hear(speech(claude))
    hear(speech(claude, key=Secret("sk-another")))

    assert "cookie" not in server.calls[-1]["headers"]


def test_the_environment_sends_no_key_astray(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "ANTHROPIC_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-environment")

    with connected_to(server.url) as claude:
        hear(speech(claude))

    assert server.calls[-1]["key"] == "sk-ant-canary-key"


def test_an_answer_lasts_as_long_as_its_limit_and_no_longer(server):
    server.script(
        LONG, {"stallSeconds": 5, "afterDeltas": -1}, {"stallSeconds": 5, "afterDeltas": 3}
    )
    with connected_to(server.url, total_seconds=0.3) as claude:
        for _ in range(3):
            started = time.monotonic()
            assert type(fault(speech(claude))[0]) is TimedOut
            assert 0.25 < time.monotonic() - started < 0.3 + AT_ONCE


def test_a_worker_makes_its_own_connections_after_a_fork(claude):
    hear(speech(claude))

    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            heard = hear(speech(claude))
            os._exit(0 if heard else 1)
        os._exit(2)

    assert os.waitpid(child, 0)[1] == 0
    assert hear(speech(claude))


# A refusal

REFUSALS = [
    (401, None, InvalidApiKey),
    (403, None, InvalidApiKey),
    (402, "billing_error", InvalidApiKey),
    (400, "billing_error", InvalidApiKey),
    (404, None, ModelUnknown),
    (413, None, ContextTooLong),
    (429, None, RateLimited),
    (408, None, TimedOut),
    (504, None, TimedOut),
    (400, "timeout_error", TimedOut),
    (409, None, Overloaded),
    (500, None, Overloaded),
    (502, None, Overloaded),
    (503, "something_new", Overloaded),
    (529, None, Overloaded),
    (400, None, ModelError),
    (402, "something_new", ModelError),
    (418, "something_new", ModelError),
    (422, "invalid_request_error", ModelError),
]

EVENTS = {
    "api_error": Overloaded,
    "authentication_error": InvalidApiKey,
    "billing_error": InvalidApiKey,
    "conflict_error": Overloaded,
    "invalid_request_error": ModelError,
    "not_found_error": ModelUnknown,
    "overloaded_error": Overloaded,
    "permission_error": InvalidApiKey,
    "rate_limit_error": RateLimited,
    "request_too_large": ContextTooLong,
    "timeout_error": TimedOut,
    "something_new": ModelError,
}


@pytest.mark.parametrize(("status", "kind", "expected"), REFUSALS)
def test_a_refusal_is_sorted_by_status_and_type(claude, server, status, kind, expected):
    server.script({"status": status} | ({"errorEvent": kind} if kind else {}))

    assert type(fault(speech(claude))[0]) is expected


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("kind", EVENTS)
def test_an_error_event_is_sorted_by_type_before_content_and_after(claude, server, kind, after):
    server.script({"text": "one two three four", "errorEvent": kind, "afterDeltas": after})

    error, heard = fault(speech(claude))

    assert type(error) is EVENTS[kind]
    assert heard == ("one two three" if after else "")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("prompt is too long: 214290 tokens > 200000 maximum", ContextTooLong),
        ("input length and `max_tokens` exceed context limit", ContextTooLong),
        ("messages: the prompt is too long", ModelError),
        ("429 529 overloaded_error rate_limit_error", ModelError),
    ],
)
def test_only_the_beginning_of_a_400_is_read(claude, server, message, expected):
    server.script({"status": 400, "text": message})

    assert type(fault(speech(claude))[0]) is expected


@pytest.mark.parametrize(
    ("status", "header", "wait"),
    [(429, "7", 7), (529, "7", 7), (503, "1e9", 3600), (429, "soon", None), (401, "7", None)],
)
def test_claudes_wish_to_wait_is_passed_on_and_bounded(claude, server, status, header, wait):
    server.script({"status": status, "headers": {"retry-after": header}})

    assert fault(speech(claude))[0].retry_after == wait


@pytest.mark.parametrize("key", ["", " ", "sk ant", "sk-ant\n", "schlüssel", "sk\x00"])
def test_a_key_that_cannot_be_one_is_not_sent(claude, server, key):
    assert type(fault(speech(claude, key=Secret(key)))[0]) is InvalidApiKey
    assert server.calls == []


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [("end_turn", EmptyAnswer), ("model_context_window_exceeded", ContextTooLong)],
)
def test_an_end_without_text_is_no_beginning(claude, server, stop_reason, expected):
    server.script({"text": "", "stopReason": stop_reason})

    with pytest.raises(expected):
        speech(claude).begin()


MALFORMED = {
    "another content type": (http(recorded_stream("Rain"), kind="application/json"), ModelError),
    "no content type": (b"HTTP/1.1 200 OK\r\n\r\n" + recorded_stream("Rain"), ModelError),
    "a redirection": (http(b"", "307 Temporary Redirect", location="http://x.invalid"), ModelError),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", NetworkError),
    "no bytes": (b"", NetworkError),
    "not JSON": (http(b"data: {\n\n"), ModelError),
    "too large": (http(b"data: " + b"x" * 1_100_000), ModelError),
    "not gzip": (http(b"data: {}\n\n", content_encoding="gzip"), ModelError),
    "an error that is not JSON": (http(b"<html>", "529 Busy", kind="text/html"), Overloaded),
    "an error of odd types": (http(b'{"error": {"type": [], "message": 4}}', "400 No"), ModelError),
    "an error without a body": (http(b"", "401 No"), InvalidApiKey),
    "an error cut off": (http(b"{", "429 Later", content_length=99), NetworkError),
    "no end marker": (http(recorded_stream("Rain")[:-40]), Truncated),
    "a body cut off": (http(recorded_stream("Rain")[:-40], content_length=99_999), Truncated),
    "no chunk size": (http(b"zz\r\n", transfer_encoding="chunked"), Truncated),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_not_claudes_protocol_is_still_an_error_of_ours(kind):
    reply, expected = MALFORMED[kind]

    with answering(reply) as url, connected_to(url) as claude:
        assert type(fault(speech(claude))[0]) is expected


# A broken connection


@pytest.mark.untraced  # the same lines a thousand times
def test_an_answer_cut_at_any_byte_never_looks_complete(claude, server):
    prompt = Prompt("m", 1, "", "u")
    asked = {"model": "m", "messages": [{"role": "user", "content": "u"}], "system": ""}
    whole = recorded_stream("Rain, 雨.", asked)
    for clean in (True, False):
        server.script(
            *({"text": "Rain, 雨.", "cutAtByte": n, "clean": clean} for n in range(len(whole)))
        )
        for length in range(len(whole)):
            error, heard = fault(speech(claude, prompt))

            assert (length, type(error)) == (length, Truncated)
            assert "Rain, 雨.".startswith(heard)
    assert hear(speech(claude, prompt))


@pytest.mark.parametrize("after", [-1, 0, 2])
def test_a_silence_is_not_waited_out(server, after):
    server.script({"text": "one two three", "afterDeltas": after, "stallSeconds": 5})
    with connected_to(server.url, idle_seconds=0.1) as claude:
        started = time.monotonic()
        error, heard = fault(speech(claude))

    assert type(error) is TimedOut
    assert heard == ("one two" if after == 2 else "")
    assert time.monotonic() - started < 0.1 + AT_ONCE


def test_closing_the_adapter_ends_what_is_being_said(claude, server):
    server.script({"text": "one two three", "afterDeltas": 2, "stallSeconds": 5})
    answer, heard = speech(claude), []
    answer.begin()
    thread = Thread(target=lambda: heard.append(fault_of(answer)))
    thread.start()
    time.sleep(0.1)
    claude.close()
    thread.join(1)

    assert isinstance(heard[0], ModelError)
    assert says_hung_up(server)


def fault_of(answer):
    """What the rest of an answer comes to."""
    try:
        return "".join(answer)
    except ModelError as error:
        return error


def test_who_does_not_listen_for_a_while_has_lost_nothing(server):
    """A settlement may take longer than Claude may be silent."""
    server.script({"text": "one two three", "deltaMs": 10})
    with connected_to(server.url, idle_seconds=0.2) as claude:
        answer = speech(claude)
        answer.begin()
        time.sleep(0.7)

        assert "".join(answer) == "one two three"


def test_nobody_at_the_address_is_a_network_error(claude):
    with listener() as sock:
        url = address(sock)
    with connected_to(url) as claude:
        assert type(fault(speech(claude))[0]) is NetworkError


def test_a_name_nobody_knows_is_a_network_error():
    with connected_to("http://x402jobs.invalid") as claude:
        assert type(fault(speech(claude))[0]) is NetworkError


def test_a_connection_that_is_not_taken_up_is_not_waited_for():
    with unreachable() as url, connected_to(url, connect_seconds=0.1) as claude:
        started = time.monotonic()
        assert type(fault(speech(claude))[0]) is TimedOut
        assert time.monotonic() - started < 0.1 + AT_ONCE


@contextmanager
def unreachable():
    """An address where a connection attempt gets no reply: its queue is full."""
    with listener(backlog=0) as sock:
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(sock.getsockname())
        yield address(sock)
        for each in waiting:
            each.close()


# A hang-up


def test_hanging_up_beforehand_leaves_nothing_to_begin(claude, server):
    answer = speech(claude)
    answer.close()

    with pytest.raises(NetworkError):
        answer.begin()
    assert server.calls == []


def test_hanging_up_ends_a_connection_attempt():
    with unreachable() as url, connected_to(url) as claude:
        answer = speech(claude)
        with hung_up_on(answer):
            answer.begin()


@pytest.mark.parametrize("after", [-1, 0])
def test_hanging_up_ends_the_wait_for_the_first_content(claude, server, after):
    server.script({"afterDeltas": after, "stallSeconds": 5})
    answer = speech(claude)

    with hung_up_on(answer):
        answer.begin()

    assert says_hung_up(server)


def test_hanging_up_works_on_a_connection_used_before(claude, server, dialled):
    hear(speech(claude))
    server.script({"afterDeltas": -1, "stallSeconds": 5})
    answer = speech(claude)

    with hung_up_on(answer):
        answer.begin()

    assert says_hung_up(server)
    assert len(dialled) == 1


def test_hanging_up_ends_a_wait_for_more(claude, server):
    server.script({"text": "one two three", "afterDeltas": 2, "stallSeconds": 5})
    answer, heard = speech(claude), []
    answer.begin()

    with hung_up_on(answer):
        for text in answer:
            heard.append(text)

    assert "".join(heard) == "one two"
    assert says_hung_up(server)


def test_hanging_up_between_two_pieces_ends_the_answer_there(claude, server):
    server.script(LONG)
    answer = speech(claude)
    answer.begin()
    pieces = iter(answer)
    next(pieces)

    answer.close()

    assert says_hung_up(server)
    with pytest.raises(NetworkError):
        next(pieces)
    with pytest.raises(NetworkError):
        list(answer)


def test_a_speech_that_is_not_wanted_is_hung_up_on(claude, server):
    server.script(LONG)
    answer = speech(claude)
    answer.begin()

    answer.close()
    answer.close()

    assert says_hung_up(server)


def test_hanging_up_after_the_end_changes_nothing(claude, server, dialled):
    answer = speech(claude)
    whole = hear(answer)

    answer.close()
    answer.close()

    assert whole
    assert list(answer) == []
    assert hear(speech(claude)) == whole
    assert len(dialled) == 1


def test_a_late_hang_up_does_not_reach_the_next_call_on_the_connection(claude, server, dialled):
    first, second = speech(claude), speech(claude)
    hear(first)
    server.script({"text": "one two three", "deltaMs": 30})

    second.begin()
    first.close()

    assert "".join(second) == "one two three"
    assert len(dialled) == 1


def test_a_connection_is_let_go_of_before_it_is_given_back():
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    call, line = Call(), transport.Line(ours)
    line.work_for(call)
    call.listen(1.0)
    response = HTTPResponse(line)
    response.begin()

    def keep(_):
        call.hang_up()  # the worst moment: the next call may have the line already

    transport.Body(response, line, keep).close()

    with ours, theirs:
        theirs.sendall(b"for the next call")
        assert ours.recv(100) == b"for the next call"


def test_hanging_up_at_any_moment_harms_nobody_else(claude, server):
    """Half of the speeches are hung up on, at every stage; the others share their connections."""
    server.script()
    failures = []

    def run(number):
        for turn in range(12):
            answer = speech(claude)
            if number % 2:
                try:
                    if hear(answer)[:4] != "This":
                        failures.append("wrong answer")
                except ModelError as error:
                    failures.append(error)
            else:
                closer = Thread(target=lambda a=answer, t=turn: (time.sleep(t * 0.002), a.close()))
                closer.start()
                with suppress(NetworkError):
                    hear(answer)
                closer.join()

    threads = [Thread(target=run, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(loopback, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls(certificate, monkeypatch):
    """The server's side of TLS; Claude's adapter trusts its certificate."""
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(httpx2, "create_ssl_context", lambda **_: trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


WHOLE = recorded_stream("Rain.")
TLS_REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(WHOLE)
) + WHOLE


def test_an_encrypted_connection_is_used_again(tls, dialled):
    with answering(TLS_REPLY, tls=tls) as url, connected_to(url) as claude:
        assert [hear(speech(claude)), hear(speech(claude))] == ["Rain.", "Rain."]
        claude.close()

    assert len(dialled) == 1


def test_a_certificate_nobody_vouches_for_is_a_network_error(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    with answering(TLS_REPLY, tls=context) as url, connected_to(url) as claude:
        assert type(fault(speech(claude))[0]) is NetworkError


def test_hanging_up_ends_a_handshake(tls):
    with listener() as silent, connected_to(address(silent, "https")) as claude:
        answer = speech(claude)
        with hung_up_on(answer):
            answer.begin()


def test_a_handshake_has_the_limit_of_a_connection(tls):
    with listener() as silent:
        with connected_to(address(silent, "https"), connect_seconds=0.1) as claude:
            assert type(fault(speech(claude))[0]) is TimedOut


@pytest.mark.parametrize("length", [0, 30, len(TLS_REPLY) - 5])
def test_hanging_up_ends_an_encrypted_wait(tls, length):
    with answering(TLS_REPLY[:length], tls=tls) as url, connected_to(url) as claude:
        answer = speech(claude)
        with hung_up_on(answer):
            hear(answer)


def test_an_encrypted_silence_is_not_waited_out(tls):
    with answering(TLS_REPLY[:-5], tls=tls) as url, connected_to(url, idle_seconds=0.1) as claude:
        assert type(fault(speech(claude))[0]) is TimedOut


# Secrets


@pytest.mark.parametrize(
    "script",
    [
        {"status": 400, "text": "canary-vendor"},
        {"status": 401, "text": "canary-vendor sk-ant-canary-key is not valid"},
        {"status": 429, "text": "canary-vendor"},
        {"status": 529, "text": "canary-vendor"},
        {"text": "canary-vendor words", "errorEvent": "api_error", "afterDeltas": 1},
        {"text": "canary-vendor words", "cutAtByte": 700},
        {"text": "canary-vendor words", "cutAtByte": 700, "clean": True},
        {"text": "canary-vendor words", "stallSeconds": 5, "afterDeltas": -1},
        {"text": "canary-vendor words", "stallSeconds": 5, "afterDeltas": 1},
    ],
)
def test_no_error_carries_a_key_a_prompt_or_a_vendors_words(server, script, caplog):
    server.script(script)
    caplog.set_level(logging.DEBUG, logger="x402jobs")
    with connected_to(server.url, idle_seconds=0.1) as claude:
        answer = speech(claude)
        error, _ = fault(answer)

    shown = "".join([str(error), repr(error), repr(answer), repr(claude), caplog.text])
    shown += "".join(traceback.format_exception(error))
    assert "canary" not in shown
    assert (error.__cause__, error.__context__) == (None, None)
    assert error.message == type(error).sentence


def test_a_prompt_that_cannot_be_sent_is_not_quoted(claude):
    error, _ = fault(speech(claude, Prompt("m", 1, "canary \ud800", "canary")))

    assert "canary" not in "".join(traceback.format_exception(error))
    assert (error.__cause__, error.__context__) == (None, None)


# Models


def test_the_package_tells_when_models_end_in_a_form_we_can_read():
    known = retirements()

    assert known.keys() == DEPRECATED_MODELS.keys()
    assert known["claude-sonnet-4-20250514"] == date(2026, 6, 15)


def test_a_date_nobody_can_read_is_left_out(monkeypatch):
    monkeypatch.setitem(DEPRECATED_MODELS, "claude-1.3", "in the fullness of time")

    assert "claude-1.3" not in retirements()


def test_the_package_is_the_one_whose_habits_are_described():
    assert anthropic.__version__.startswith("2.")


# The same under gevent

UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_all_of_this_holds_under_gevent():
    tables = "at_any_byte or sorted_by or protocol or a_400 or wish_to_wait or cannot_be_one"
    skipped = f"not (under_gevent or after_a_fork or {tables})"
    arguments = [__file__, "-q", "--noconftest", "-W", "error", "-p", "no:cacheprovider"]

    run = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, *arguments, "-k", skipped],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert run.returncode == 0, run.stdout + run.stderr
