"""The shop behind the nginx configuration we ship: nothing is held back, forged or said in HTML."""

import json
import os
import re
import socket
import stat
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import RAIN, events, text_of
from tests.nginx import FRONTEND, SHIPPED, nginx
from tests.tools import need
from tests.waiting import eventually, free_port
from tests.wire.conftest import Answer, Connection, Server, serving
from x402jobs.blueprints import calls, replies
from x402jobs.blueprints.cors import EXPOSED
from x402jobs.devkit.wallet import Wallet
from x402jobs.settings import Settings
from x402jobs.worker import WRITE_SECONDS

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'
SILENT_AFTER_THREE = {"text": "one two three four", "afterDeltas": 3, "stallSeconds": 60}
JSON_SECONDS = 120
"""The limit on a reply that is not a stream (spec/instant.md)."""


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    with (
        nginx(directory, port),
        serving(
            directory,
            f"https://127.0.0.1:{port}",
            X402JOBS_BIND=f"unix:{directory}/x402jobs.sock",
            METRICS_TOKEN="a-token-without-which-it-would-be-401",
        ) as server,
    ):
        yield server


@pytest.fixture
def server(fronted: Server, tmp_path: Path) -> Server:
    return fronted.visit(Wallet.open(tmp_path / "wallet.key"))


def refused(answer: Answer) -> tuple[int, str]:
    """Status and code of an error in the one shape of every error, whoever said it."""
    said = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert "no-store" in answer.headers["cache-control"]
    assert said["requestId"] == answer.headers["x-request-id"]
    assert isinstance(said["error"], str) and said["error"]
    return answer.status, said["code"]


def heard(connection: Connection, last: str) -> str:
    """The text of the events up to the word that is waited for; heartbeats are passed over."""
    body, text = b"", ""
    while not text.endswith(last):
        body += connection.chunk()
        blocks = [block for block in body.split(b"\n\n")[:-1] if block != b": ping"]
        said = [json.loads(block.removeprefix(b"data: ")) for block in blocks]
        assert {event["type"] for event in said} <= {"text"}, "it ended before the word was heard"
        text = text_of(said)
    return text


def http_2(server: Server, path: str, *options: str) -> list[str]:
    """The command line of a curl that speaks HTTP/2."""
    command = [need("curl"), "-q", "-N", "-s", "-k", "--http2", "--noproxy", "*"]
    command += ["--header", "Content-Type: application/json", "--data", BODY.decode()]
    return [*command, *options, server.url + path]


def over_http_2(server: Server, *options: str) -> tuple[int, str]:
    """Status and body of a whole reply to a curl that speaks HTTP/2."""
    form = "\n%{http_version} %{http_code}"
    command = http_2(server, server.path, *options, "--write-out", form)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    body, _, numbers = done.stdout.rpartition("\n")
    version, status = numbers.split()
    assert version == "2"
    return int(status), body


# A stream


@pytest.mark.parametrize(
    "headers",
    [{}, {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "gzip, br", "Accept": "*/*"}],
    ids=["plain", "gzip", "browser"],
)
def test_what_claude_has_said_arrives_while_claude_is_still_silent(
    server: Server, headers: dict[str, str]
) -> None:
    server.claude.script(SILENT_AFTER_THREE)
    with server.dial() as connection:
        connection.send("POST", server.free, headers, BODY)
        status, said = connection.head()
        words = heard(connection, "three")
        call = server.call()

    assert (status, words) == (200, "one two three")
    assert call["finishedAt"] is None, "the rest had been written before this arrived"
    assert not call["hungUp"], "this arrived only when Claude had been given up"
    assert said["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-encoding" not in said


def test_a_heartbeat_arrives_in_the_middle_of_a_silence(server: Server) -> None:
    server.claude.script(SILENT_AFTER_THREE)
    with server.dial() as connection:
        connection.send("POST", server.free, {}, BODY).head()
        while connection.chunk() != b": ping\n\n":
            call = server.call()
            assert call["finishedAt"] is None and not call["hungUp"]


def test_compression_switched_on_for_all_of_nginx_holds_nothing_back(
    server: Server, fronted: Server, tmp_path: Path
) -> None:
    server.claude.script(SILENT_AFTER_THREE)
    port, inflate, heard = free_port(), zlib.decompressobj(31), b""
    shop = os.path.relpath(fronted.settings.data.parent / "x402jobs.sock", tmp_path)
    with nginx(tmp_path, port, groups=[shop], front="gzip on; gzip_types *; gzip_min_length 0;"):
        assert eventually(lambda: _listens(port))
        with Connection(port, tls=True) as connection:
            connection.send("POST", server.free, {"Accept-Encoding": "gzip"}, BODY)
            _, said = connection.head()
            while b"three" not in heard:
                heard += inflate.decompress(connection.chunk())
            call = server.call()

    assert said["content-encoding"] == "gzip"
    assert call["finishedAt"] is None and not call["hungUp"]


def test_http_2_holds_nothing_back_either(server: Server) -> None:
    server.claude.script(SILENT_AFTER_THREE)
    with subprocess.Popen(
        http_2(server, server.free, "--compressed"), stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        heard = b""
        while b"three" not in heard and (line := process.stdout.readline()):
            heard += line
        call = server.call()
        process.kill()

    assert b"three" in heard
    assert call["finishedAt"] is None and not call["hungUp"]


def test_a_paid_answer_is_whole_and_paid_once(server: Server) -> None:
    server.claude.script({"text": "Rain\nfalls on “us”."})

    answer = server.ask(server.payment())

    said = events(answer.body)
    assert text_of(said) == "Rain\nfalls on “us”."
    assert said[-1]["type"] == "done"
    assert len(server.transfers()) == 1
    assert answer.headers["payment-response"] and answer.headers["x-resume-token"]
    assert answer.headers["cache-control"] == "private, no-store, no-transform"
    assert "x-accel-buffering" not in answer.headers, "nginx is who it was said to"


def test_a_caller_who_leaves_before_the_answer_begins_is_not_charged(server: Server) -> None:
    """That somebody hung up is seen through nginx too."""
    server.claude.script({"afterDeltas": 0, "stallSeconds": 60})
    with server.dial() as connection:
        connection.send("POST", server.path, server.payment(), BODY)
        assert eventually(lambda: server.claude.calls)

    def paid() -> list[str]:  # a free run of an earlier test may have ended meanwhile
        return [row["state"] for row in server.rows() if row["kind"] == "paid"]

    assert eventually(lambda: paid() == ["released"], 10), paid()
    assert server.transfers() == []


def test_nginx_waits_longer_than_the_service_is_ever_silent() -> None:
    """Else it would say 503 while the money is being taken (spec/money.md)."""
    conf = SHIPPED.read_text()
    seconds = {name: int(number) for name, number in re.findall(r"(\w+_timeout) (\d+)s;", conf)}

    assert seconds["proxy_read_timeout"] > Settings().first_content_seconds + JSON_SECONDS
    assert seconds["proxy_read_timeout"] > 2 * Settings().heartbeat_seconds
    assert seconds["send_timeout"] > WRITE_SECONDS, "the service is the first to lose patience"


# Who is calling


def test_an_address_cannot_be_forged(server: Server) -> None:
    """Twenty bad credentials a minute for one address: another one cannot be pretended."""
    forged = [
        {name: f"203.0.113.{number}", "Authorization": "Bearer no.such.token"}
        for number, name in enumerate(["X-Real-IP", "X-Forwarded-For", "X-REAL-ip"] * 9)
    ]

    said = [refused(server.ask(headers, BODY)) for headers in forged]

    assert said[:20] == [(401, "UNAUTHENTICATED")] * 20
    assert said[20:] == [(429, "RATE_LIMIT")] * 7


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "evil.example"},
        {"Forwarded": "for=1.2.3.4;host=evil.example;proto=gopher"},
        {"X-Forwarded-Prefix": "/evil", "Script-Name": "/evil", "Path-Info": "/evil"},
        {"SCRIPT_NAME": "/evil", "PATH_INFO": "/evil", "X_REAL_IP": "1.2.3.4"},
    ],
)
def test_nothing_a_caller_says_moves_the_shop(server: Server, headers: dict[str, str]) -> None:
    plain, moved = server.ask({}), server.ask(headers)

    assert (plain.status, moved.status) == (402, 402)
    assert moved.headers["payment-required"] == plain.headers["payment-required"]
    assert "evil" not in moved.body.decode()


def test_another_host_is_refused(server: Server) -> None:
    with server.dial() as connection:
        connection.socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n")

        assert refused(connection.answer()) == (421, "INVALID_REQUEST")


# Sizes, methods and addresses


@pytest.mark.parametrize("name", ["PAYMENT-SIGNATURE", "X-PAYMENT"])
@pytest.mark.parametrize(
    ("size", "told"),
    [
        (8_000, (400, "INVALID_PAYMENT")),
        (8_001, (431, "INVALID_REQUEST")),
        (16_384, (431, "INVALID_REQUEST")),
        (100_000, (431, "INVALID_REQUEST")),
    ],
)
def test_a_long_payment_is_read_or_refused_in_json(
    server: Server, name: str, size: int, told: tuple[int, str]
) -> None:
    """The limits of nginx and gunicorn meet without a gap, where gunicorn would speak HTML."""
    assert refused(server.ask({name: "A" * size})) == told


@pytest.mark.parametrize(("size", "told"), [(8_000, 400), (8_001, 431), (9_000, 431)])
def test_a_long_payment_is_read_or_refused_in_json_over_http_2_too(
    server: Server, size: int, told: int
) -> None:
    """A header that is too long even packed ends the connection, as HTTP/2 has it."""
    header = f"Payment-Signature: {'A' * size}"

    status, body = over_http_2(server, "--header", header)

    assert (status, json.loads(body)["code"][:8]) == (told, "INVALID_")


def test_the_longest_header_nginx_passes_on_is_one_gunicorn_reads(server: Server) -> None:
    longest, longer = ({"X-Filler": "x" * (size - len("X-Filler: "))} for size in (8_182, 8_183))

    assert refused(server.ask(longest)) == (402, "PAYMENT_REQUIRED")
    assert refused(server.ask(longer)) == (431, "INVALID_REQUEST")


def test_several_headers_of_the_largest_size_pass_together(server: Server) -> None:
    headers = {f"X-Filler-{number}": "x" * 7_000 for number in range(3)}

    assert refused(server.ask(headers)) == (402, "PAYMENT_REQUIRED")


@pytest.mark.parametrize(
    ("length", "status"), [(4_050, 404), (4_051, 414), (8_000, 414), (20_000, 414)]
)
def test_a_long_address_is_read_or_refused_in_json(
    server: Server, length: int, status: int
) -> None:
    path = "/" + "a" * (length - 1)

    assert refused(server.ask({}, None, method="GET", path=path))[0] == status


def test_a_body_over_the_paid_doors_limit_is_the_services_own_413(server: Server) -> None:
    for size in (calls.MAX_BODY_BYTES + 1, 1024 * 1024):
        answer = server.ask(server.payment(), b" " * size)

        assert refused(answer) == (413, "PAYLOAD_TOO_LARGE")
        assert str(calls.MAX_BODY_BYTES) in answer.json()["error"]
        assert answer.headers["access-control-expose-headers"] == EXPOSED, "the service's own"
    assert server.rows() == []


def test_a_chunked_body_is_read_whole_and_limited_like_any_other(server: Server) -> None:
    def chunked(*parts: bytes) -> Answer:
        with server.dial() as connection:
            connection.send("POST", server.path, {"Transfer-Encoding": "chunked"})
            for part in (*parts, b""):
                connection.socket.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            return connection.answer()

    assert refused(chunked(b'{"top', b'ic":"rain"}')) == (402, "PAYMENT_REQUIRED")
    assert refused(chunked(*[b" " * 4096] * 17)) == (413, "PAYLOAD_TOO_LARGE")


def test_a_body_nginx_will_not_take_is_a_413_in_json_too(server: Server) -> None:
    with server.dial() as connection:
        connection.send("POST", server.path, {"Content-Length": str(10**9)})

        assert refused(connection.answer()) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "size", "told"),
    [
        ("/resources", replies.MAX_BODY_BYTES, 400),
        ("/resources", replies.MAX_BODY_BYTES + 1, 413),
        ("/nothing", replies.MAX_BODY_BYTES, 404),
    ],
)
def test_a_creators_largest_body_is_judged_by_the_service(
    server: Server, path: str, size: int, told: int
) -> None:
    """Also when it answers before it has read a body, again and again."""
    creator = {"Authorization": f"Bearer {server.token()}"}
    for _ in range(10):
        answer = server.ask(creator, b" " * size, path=path)

        assert refused(answer)[0] == told, "503 is nginx, whose writing broke"


def test_the_paid_doors_other_verbs_come_through(server: Server) -> None:
    head = server.ask(server.payment(), None, method="HEAD", path=server.path + "?topic=rain")
    preflight = server.ask({"Origin": "https://shop.example"}, None, method="OPTIONS")
    delete = server.ask({}, method="DELETE")

    assert (head.status, preflight.status) == (402, 204)
    assert head.headers["payment-required"]
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert refused(delete) == (405, "INVALID_REQUEST")
    assert set(delete.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    assert server.transfers() == []


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_a_method_nginx_itself_refuses_is_405_in_json(server: Server, method: str) -> None:
    assert refused(server.ask({}, None, method=method, path="/")) == (405, "INVALID_REQUEST")


@pytest.mark.parametrize("path", ["/nothing", "/@nobody/x", "/.said-by-nginx", "/@ada/haiku/more"])
def test_an_unknown_path_is_404_in_json(server: Server, path: str) -> None:
    assert refused(server.ask({}, None, method="GET", path=path)) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: +3\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
    ids=["two hosts", "no host", "odd length", "odd coding"],
)
def test_a_malformed_request_is_refused_in_json(server: Server, request_head: bytes) -> None:
    with server.dial() as connection:
        connection.socket.sendall(request_head)
        answer = connection.answer()

    assert refused(answer)[1] == "INVALID_REQUEST"
    assert answer.status in (400, 501)
    assert answer.headers["server"] == "nginx", "no version is told"


def test_plain_http_is_refused_in_json(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send("GET", "/healthz")

        assert refused(connection.answer()) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("name", ["Cookie", "X-API-Key", "User-Agent"])
def test_a_header_that_is_long_once_unpacked_is_refused_in_json(server: Server, name: str) -> None:
    """gunicorn would refuse it in HTML."""
    header = f"{name}: {'a' * 8_191}"

    status, body = over_http_2(server, "--header", header)

    assert (status, json.loads(body)["code"]) == (431, "INVALID_REQUEST")


def test_headers_that_are_long_only_together_pass(server: Server) -> None:
    long = {"Cookie": "a=" + "a" * 6_000, "User-Agent": "a" * 6_000}

    assert refused(server.ask(long)) == (402, "PAYMENT_REQUIRED")


# For the operator alone


@pytest.mark.parametrize("name", ["readyz", "metrics"])
@pytest.mark.parametrize(
    "spelling", ["/{}", "//{}", "/./{}", "/x/../{}", "/{}?x", "/%{:02x}{}", "/{}/", "/{};x"]
)
def test_what_is_for_the_operator_is_nothing_from_outside(
    server: Server, name: str, spelling: str
) -> None:
    path = spelling.format(ord(name[0]), name[1:]) if "02x" in spelling else spelling.format(name)

    assert refused(server.ask({}, None, method="GET", path=path)) == (404, "NOT_FOUND")


def test_the_socket_file_is_for_the_service_and_its_group(fronted: Server) -> None:
    """Whoever can open it may say that they call from any address."""
    socket_file = fronted.settings.data.parent / "x402jobs.sock"

    assert stat.S_IMODE(socket_file.stat().st_mode) == 0o770


# One id for one request


@pytest.mark.parametrize("path", ["/@ada/haiku", "/readyz"], ids=["the service", "nginx"])
@pytest.mark.parametrize(
    ("theirs", "is_good"),
    [
        ("order-0815", True),
        ("a" * 64, True),
        ("short", False),
        ("a" * 65, False),
        ('quoted"and\\more', False),
    ],
)
def test_one_id_is_in_the_answer_and_in_the_log(
    server: Server, fronted: Server, theirs: str, is_good: bool, path: str
) -> None:
    answer = server.ask({"X-Request-Id": theirs}, None, method="GET", path=path)

    said = answer.headers["x-request-id"]
    assert refused(answer)[0] in (400, 402, 404)
    assert (said == theirs) is is_good
    assert eventually(lambda: _line(fronted.settings.data.parent / "access.log", said))


# Pages of others


@pytest.mark.parametrize(
    ("path", "origin", "admitted"),
    [
        ("/@ada/haiku", "https://anybody.example", ("*", None)),
        ("/integrations/claude/config", FRONTEND, (FRONTEND, "true")),
        ("/integrations/claude/config", "https://anybody.example", (None, None)),
        ("/integrations/claude/config", "", (None, None)),
    ],
)
def test_a_page_can_read_why_nginx_refused(
    server: Server, path: str, origin: str, admitted: tuple[str | None, str | None]
) -> None:
    headers = {"Origin": origin, "Authorization": "a" * 8_001}

    answer = server.ask(headers, None, method="GET", path=path)

    said = [
        answer.headers.get(f"access-control-allow-{name}") for name in ("origin", "credentials")
    ]
    assert refused(answer)[0] == 431
    assert tuple(said) == admitted
    assert answer.headers["vary"] == "Origin"


# Several groups of workers


@dataclass
class Group:
    """Workers that remember what they were sent, and answer it, or hang up instead."""

    answers: bool
    received: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    self.received.append(connection.recv(65536))
                    if self.answers:
                        body = b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
                        connection.sendall(b"HTTP/1.1 200 OK\r\n" + body)


@contextmanager
def listening(path: Path, group: Group) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        thread = threading.Thread(target=group.serve, args=[listener], daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.fixture
def behind_two(tmp_path: Path) -> Iterator[int]:
    """nginx before the groups `one` and `two`, of which none is there yet; its port."""
    port = free_port()
    with nginx(tmp_path, port, groups=("one", "two"), an_address=10):
        assert eventually(lambda: _listens(port))
        yield port


def ask(port: int, method: str, body: bytes | None = None) -> int:
    with Connection(port, tls=True) as connection:
        return connection.send(method, "/@ada/haiku", {}, body).answer(method).status


@pytest.mark.parametrize("is_left_behind", [True, False], ids=["killed", "ended"])
def test_while_one_group_is_away_the_other_one_is_asked(
    behind_two: int, tmp_path: Path, is_left_behind: bool
) -> None:
    """With a socket file where nobody listens, and without one. No request is lost or doubled."""
    one, two = Group(answers=True), Group(answers=True)
    with listening(tmp_path / "two", two):
        with listening(tmp_path / "one", one):
            both = [ask(behind_two, "POST", BODY) for _ in range(6)]
        if not is_left_behind:
            (tmp_path / "one").unlink()
        alone = [ask(behind_two, *call) for call in [("POST", BODY), ("GET",), ("DELETE",)] * 4]

    assert both + alone == [200] * 18
    assert len(one.received) == 3
    assert len(two.received) == 15
    assert all(each.endswith(BODY) for each in two.received if each.startswith(b"POST"))


@pytest.mark.parametrize("call", [("GET",), ("POST", BODY), ("DELETE",), ("HEAD",)])
def test_what_has_been_sent_to_one_group_is_never_sent_to_another(
    behind_two: int, tmp_path: Path, call: tuple[str, bytes]
) -> None:
    """Whoever was sent it may have run it, and taken money: a GET runs templates and tasks too."""
    one, two = Group(answers=False), Group(answers=False)
    with listening(tmp_path / "one", one), listening(tmp_path / "two", two):
        status = ask(behind_two, *call)

    assert status == 503
    assert len(one.received + two.received) == 1


def test_where_no_group_is_there_each_call_is_told_so(behind_two: int) -> None:
    assert [ask(behind_two, "POST", BODY) for _ in range(4)] == [503] * 4


def test_one_address_holds_so_much_open_and_no_more(behind_two: int, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            dripping = stack.enter_context(Connection(behind_two, tls=True))
            dripping.send("POST", "/@ada/haiku", {"Content-Length": "16"})
        more = stack.enter_context(Connection(behind_two, tls=True))

        def is_refused() -> bool:
            answer = more.send("GET", "/readyz").answer()
            more.send("POST", "/@ada/haiku", {}, BODY)
            said = more.answer()
            return answer.status == 404 and refused(said) == (429, "RATE_LIMIT")

        assert eventually(is_refused)


# When the service is away


@pytest.fixture
def deserted(tmp_path: Path) -> Iterator[int]:
    """nginx alone: nobody listens behind it."""
    port = free_port()
    with nginx(tmp_path, port):
        assert eventually(lambda: _listens(port))
        yield port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_service_that_is_away_is_503_and_no_new_payment_is_asked_for(deserted: int) -> None:
    def ask(**headers: str) -> Answer:
        with Connection(deserted, tls=True) as connection:
            return connection.send("POST", "/@ada/haiku", headers, BODY).answer()

    unpaid, paid, paid_before = ask(), ask(**{"PAYMENT-SIGNATURE": "x"}), ask(**{"X-PAYMENT": "x"})

    assert refused(unpaid) == (503, "UNKNOWN")
    assert refused(paid) == refused(paid_before) == (503, "SETTLEMENT_UNKNOWN")
    assert "do not sign a new one" in paid.json()["error"]
    for answer in (unpaid, paid):
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["access-control-allow-origin"] == "*"


# What is written down


def test_no_log_of_nginx_holds_a_value_a_payment_or_a_token(
    server: Server, fronted: Server
) -> None:
    logs = fronted.settings.data.parent
    (payment,), token = server.payment().values(), server.token()
    headers = {"PAYMENT-SIGNATURE": payment, "Authorization": f"Bearer {token}"}
    server.ask(headers, None, method="GET", path=f"{server.path}?topic=canary-value")
    last = server.ask({}, json.dumps(RAIN).encode(), path=f"{server.path}?topic=canary-value")

    line = eventually(lambda: _line(logs / "access.log", last.headers["x-request-id"]))
    written = (logs / "access.log").read_text() + (logs / "error.log").read_text()
    assert not [secret for secret in ("canary", payment[:40], token[:40]) if secret in written]
    assert line["path"] == server.path
    assert (line["status"], line["upstream_status"]) == ("400", "400")
    assert line["address"] == "127.0.0.1"


def _line(log: Path, request_id: str) -> dict[str, str]:
    said = [json.loads(line) for line in log.read_text().splitlines()]
    return next((line for line in said if line["request_id"] == request_id), {})
