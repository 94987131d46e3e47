"""gunicorn as it is configured here: how much it holds, how long it waits, what it lets through."""

import random
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.waiting import eventually
from tests.wire.conftest import Answer, Connection, Server, serving
from x402jobs.blueprints.admission import EXEMPT
from x402jobs.devkit.wallet import Wallet

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'
CAP = 5
FULL = (503, "UNAVAILABLE")
SILENT = {"text": "one two three", "afterDeltas": 1, "stallSeconds": 60}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A shop that holds five requests, and waits for a body for a second."""
    with serving(
        tmp_path_factory.mktemp("small"),
        app="tests.wire.hurried:app",
        MAX_OPEN_REQUESTS=str(CAP),
        LIMIT_FREE_TEMPLATE="off",
    ) as server:
        yield server


@pytest.fixture
def server(small: Server, tmp_path: Path) -> Server:
    """Met when whoever was there before has gone."""
    server = small.visit(Wallet.open(tmp_path / "wallet.key"))
    assert is_empty(server)
    return server


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json().get("code")


def stream(server: Server, stack: ExitStack) -> int:
    """The status of a stream that stays open."""
    connection = stack.enter_context(server.dial())
    return connection.send("POST", server.free, {}, BODY).head()[0]


def open_requests(server: Server) -> int:
    """How many it counts."""
    said = server.ask({}, None, method="GET", path="/metrics").body.decode()
    (number,) = re.findall(r"^x402jobs_open_requests (\S+)$", said, re.MULTILINE)
    return int(float(number))


def is_empty(server: Server) -> bool:
    """Whether every place is free again, soon."""
    return bool(eventually(lambda: open_requests(server) == 0, 20))


# How much it holds


def test_one_request_above_the_cap_is_told_to_come_back(server: Server) -> None:
    server.claude.script(*[SILENT] * 20)
    payment = server.payment()
    with ExitStack() as stack:
        opened = [stream(server, stack) for _ in range(CAP)]
        unpaid, paid = server.ask({}), server.ask(payment)
        nowhere = server.ask({}, None, method="GET", path="/nothing")

    assert opened == [200] * CAP
    for answer in (unpaid, paid, nowhere):
        assert told(answer) == FULL
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["requestId"] == answer.headers["x-request-id"]
    assert "do not sign a new one" in paid.json()["error"]
    assert paid.headers["access-control-allow-origin"] == "*"
    assert "paid" not in [row["kind"] for row in server.rows()]


def test_a_payment_refused_at_the_cap_is_good_afterwards(server: Server) -> None:
    server.claude.script(*[SILENT] * 20)
    payment = server.payment()
    with ExitStack() as stack:
        for _ in range(CAP):
            stream(server, stack)
        assert told(server.ask(payment)) == FULL

    server.claude.script(*[{"text": "rain"}] * 20)
    assert eventually(lambda: server.ask(payment).status == 200)
    assert len(server.transfers()) == 1


def test_a_full_shop_is_still_looked_after(server: Server) -> None:
    server.claude.script(*[SILENT] * 20)
    with ExitStack() as stack:
        for _ in range(CAP):
            stream(server, stack)
        for _ in range(3):
            looks = {path: server.ask({}, None, method="GET", path=path) for path in EXEMPT}
            full = server.ask({})

    assert told(full) == FULL
    assert {path: answer.status for path, answer in looks.items()} == {
        "/healthz": 200,
        "/metrics": 200,
        "/readyz": 503,
    }
    assert looks["/readyz"].json()["checks"]["open_requests"]["reason"] == "full"


@pytest.mark.parametrize(
    "leave",
    ["whole", "hung up", "reset", "before the answer", "refused", "head", "model fails", "nowhere"],
)
def test_a_place_is_free_again_however_its_request_ended(server: Server, leave: str) -> None:
    for _ in range(CAP * 2):
        server.claude.script(*[{"text": "rain"}] * 20)
        match leave:
            case "whole":
                assert server.ask({}, path=server.free).status == 200
            case "refused":
                assert server.ask({}, b"{", path=server.free).status == 400
            case "head":
                server.ask({}, None, method="HEAD", path=f"{server.path}?topic=rain")
            case "model fails":
                server.claude.script({"status": 401})
                assert server.ask({}, path=server.free).status == 502
            case "nowhere":
                assert server.ask({}, path="/nothing").status == 404
            case _:
                server.claude.script(*[SILENT] * 20)
                with server.dial() as connection:
                    connection.send("POST", server.free, {}, BODY)
                    if leave != "before the answer":
                        connection.head()
                    if leave == "reset":
                        connection.reset()

    assert is_empty(server)


def test_a_thousand_callers_who_leave_anyhow_leave_no_place_taken(server: Server) -> None:
    server.claude.script(*[{"text": "one two three four", "deltaMs": 5}] * 1000)
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    request = _request(server.free, BODY)
    for _ in range(1000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as caller:
            caller.sendall(request[: dice.choice([len(request), dice.randrange(len(request))])])
            if dice.random() < 0.3:
                caller.settimeout(dice.uniform(0.001, 0.02))
                try:
                    caller.recv(dice.choice([1, 4096]))
                except TimeoutError:
                    pass
            if dice.random() < 0.5:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert is_empty(server), f"seed {seed}"


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system has no /dev/shm")
def test_figures_lie_in_memory_where_no_full_disk_can_end_a_worker(server: Server) -> None:
    assert list(Path("/dev/shm").glob(f"x402jobs-metrics-{server.pid}-*/*.db"))


# How long it waits


def drip(connection: Connection, piece: bytes) -> None:
    """The same again and again, until an answer comes."""

    def is_answered() -> bool:
        connection.socket.send(piece)
        try:
            return bool(connection.socket.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False

    connection.socket.settimeout(0.05)
    assert eventually(is_answered, 10), "it still waits"
    connection.socket.settimeout(20)


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        ({"Content-Length": "60000"}, b" "),
        ({"Transfer-Encoding": "chunked"}, b"1\r\n \r\n"),
        ({"Transfer-Encoding": "chunked"}, b"0"),
        ({"Content-Length": "60000", "Expect": "100-continue"}, b" "),
    ],
    ids=["counted", "chunked", "inside a chunk's size", "expecting 100"],
)
def test_a_body_that_drips_is_not_waited_for(
    server: Server, framing: dict[str, str], piece: bytes
) -> None:
    with server.dial() as connection:
        connection.send("POST", server.path, server.payment() | framing)
        if "Expect" in framing:
            assert connection.head()[0] == 100
        drip(connection, piece)
        answer = connection.answer()
        rest = connection.remains()

    assert told(answer) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert rest == b"", "the connection ends"
    assert server.rows() == []


def test_a_body_that_does_not_come_at_all_is_not_waited_for_either(server: Server) -> None:
    with server.dial() as connection:
        connection.send("POST", server.path, {"Content-Length": "16"})

        assert told(connection.answer()) == (408, "REQUEST_TIMEOUT")


def test_a_body_that_comes_in_pieces_but_in_time_is_taken(server: Server) -> None:
    server.claude.script(*[{"text": "rain"}] * 20)
    with server.dial() as connection:
        connection.send("POST", server.free, {"Content-Length": str(len(BODY))})
        for byte in BODY:
            connection.socket.sendall(bytes([byte]))

        assert connection.answer().status == 200


def test_the_limit_on_a_body_is_no_limit_on_its_answer(server: Server) -> None:
    server.claude.script({"text": "one two three four five", "deltaMs": 400})

    answer = server.ask({}, path=server.free)

    assert b'"done"' in answer.body


def test_a_body_nobody_reads_ends_the_connection_soon(server: Server) -> None:
    """The door has answered; what it left unread is not read for ever."""
    with server.dial() as connection:
        connection.send("POST", "/nothing", {"Content-Length": "60000"})
        status = connection.answer().status
        ended = eventually(lambda: _has_ended(connection), 10)

    assert (status, ended) == (404, True)


def test_who_reads_no_answer_is_not_waited_for_at_any_door(server: Server) -> None:
    """Quotes, and more of them than the kernel keeps."""
    head = f"GET {server.path}?topic=rain HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with server.dial(receive_buffer=4096) as connection:
        connection.socket.setblocking(False)
        unsent = head * 3000

        def is_full() -> bool:
            nonlocal unsent
            try:
                unsent = unsent[connection.socket.send(unsent) :]
            except BlockingIOError:
                return not unsent or open_requests(server) == 0
            except OSError:
                return True  # hung up on
            return False

        assert eventually(is_full, 30)
        assert is_empty(server)
        assert eventually(lambda: _has_ended(connection), 20)


def test_a_malformed_body_nobody_reads_is_answered_once(server: Server) -> None:
    with server.dial() as connection:
        connection.send("POST", "/nothing", {"Transfer-Encoding": "chunked"})
        connection.socket.sendall(b"ZZ\r\n")
        answer, rest = connection.answer(), connection.remains()

    assert (answer.status, rest) == (404, b"")


def _has_ended(connection: Connection) -> bool:
    try:
        connection.socket.settimeout(0.2)
        connection.socket.sendall(b" ")
        return connection.socket.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


# What it lets through


@pytest.mark.parametrize(
    ("head", "field"),
    [
        (b"POST %b HTTP/1.1\r\nContent-Length: 16\r\n\r\n", "Host"),
        (b"POST %b HTTP/1.2\r\nHost: x\r\nContent-Length: 16\r\n\r\n", None),
        (
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n10\r\n",
            "Transfer-Encoding",
        ),
        (
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n10\r\n",
            "Transfer-Encoding",
        ),
    ],
    ids=["no host", "HTTP/1.2", "gzip, chunked", "identity, chunked"],
)
def test_what_another_server_might_read_otherwise_is_refused(
    server: Server, head: bytes, field: str | None
) -> None:
    with server.dial() as connection:
        end = b"\r\n0\r\n\r\n" if b"chunked" in head else b""
        connection.socket.sendall(head % server.free.encode() + BODY + end)
        answer = connection.answer()

    assert told(answer) == (400, "INVALID_REQUEST")
    assert answer.json().get("field") == field
    assert server.rows() == []
