"""What is not a purchase, or is badly made, is answered plainly and buys nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import decoded, encoded
from tests.wire.conftest import Answer, Connection, Server
from x402jobs.blueprints.calls import MAX_BODY_BYTES

pytestmark = pytest.mark.wire

BODY = b'{"topic":"rain"}'


@pytest.fixture(autouse=True)
def nothing_is_bought(server: Server) -> Iterator[None]:
    yield
    assert (server.rows(), server.transfers(), server.claude.calls) == ([], [], [])


def refused(answer: Answer) -> tuple[int, str]:
    """Status and code of an error, whose shape is the one of every error."""
    said = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert said["requestId"] == answer.headers["x-request-id"]
    assert isinstance(said["error"], str) and said["error"]
    return answer.status, said["code"]


def still_in_step(connection: Connection) -> None:
    """The next request on a connection is answered as such, or the connection is over."""
    try:
        connection.send("GET", "/healthz")
        status, headers = connection.head()
    except (AssertionError, ConnectionError, IndexError):
        return  # closed: safe as well
    assert (status, headers["content-type"]) == (200, "application/json")


def test_head_with_a_valid_payment_is_told_the_price_and_pays_nothing(server: Server) -> None:
    head = server.ask(server.payment(), None, method="HEAD", path=server.path + "?topic=rain")
    get = server.ask({}, None, method="GET", path=server.path + "?topic=rain")

    assert (head.status, get.status) == (402, 402)
    quoted = decoded(head.headers["payment-required"])
    assert quoted == decoded(get.headers["payment-required"])
    assert quoted["accepts"][0]["amount"] == "10000"
    assert head.headers.keys() == get.headers.keys()
    assert head.headers["cache-control"] == "no-store"


def test_head_of_a_free_template_runs_nothing(server: Server) -> None:
    head = server.ask({}, None, method="HEAD", path=server.free + "?topic=rain")

    assert head.status == 200
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["cache-control"] == "no-cache, no-transform"


def test_head_leaves_its_connection_in_step(server: Server) -> None:
    with server.dial() as connection:
        for path in (server.path, server.free + "?topic=rain", "/@ada/nothing"):
            connection.send("HEAD", path, server.payment()).answer("HEAD")

        still_in_step(connection)


@pytest.mark.parametrize(
    ("path", "status"), [("/@ada/nothing", 404), ("/@nobody/haiku", 404), ("/@ada/haiku?x=1", 400)]
)
def test_head_of_something_else_is_what_get_would_be(
    server: Server, path: str, status: int
) -> None:
    assert server.ask({}, None, method="HEAD", path=path).status == status
    assert server.ask({}, None, method="GET", path=path).status == status


def test_preflight_is_answered_for_any_origin(server: Server) -> None:
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,payment-signature",
    }

    answer = server.ask(asked | server.payment(), None, method="OPTIONS")

    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    methods = set(answer.headers["access-control-allow-methods"].split(", "))
    assert methods == {"GET", "HEAD", "POST", "OPTIONS"}
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert allowed == {
        *("Content-Type", "Authorization", "PAYMENT-SIGNATURE", "X-PAYMENT", "X-OWNER-TEST"),
        *(
            "X-Resume-Token",
            "X-Request-Id",
            "Last-Event-ID",
            "Payment-Retry",
            "Access-Control-Expose-Headers",
        ),
    }
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed == {
        *("PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE", "X-Execution-Id"),
        *("X-Resume-Token", "X-Request-Id", "Retry-After"),
    }


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_another_method_is_405_and_says_which_ones_there_are(server: Server, method: str) -> None:
    answer = server.ask(server.payment(), method=method)

    assert refused(answer) == (405, "INVALID_REQUEST")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/@ada", "/@ada/", "/@ada/nothing", "/@ada/haiku/more", "/@nobody/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404(server: Server, method: str, path: str) -> None:
    answer = server.ask({}, BODY if method == "POST" else None, method=method, path=path)

    assert refused(answer) == (404, "NOT_FOUND")


def chunked(*sizes: int) -> bytes:
    parts = [b"%x\r\n%b\r\n" % (size, b" " * size) for size in sizes]
    return b"".join(parts) + b"0\r\n\r\n"


def test_an_oversize_body_of_declared_length_is_413(server: Server) -> None:
    body = json.dumps({"topic": "x" * MAX_BODY_BYTES}).encode()
    with server.dial() as connection:
        answer = connection.send("POST", server.path, server.payment(), body).answer()

        assert refused(answer) == (413, "PAYLOAD_TOO_LARGE")
        still_in_step(connection)


def test_an_oversize_declaration_is_413_before_the_body_comes(server: Server) -> None:
    with server.dial() as connection:
        headers = server.payment() | {"Content-Length": str(10**9)}
        answer = connection.send("POST", server.path, headers).answer()

        assert refused(answer) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("sizes", [(MAX_BODY_BYTES + 1,), (4096,) * 17], ids=["one", "many"])
def test_an_oversize_chunked_body_is_413_never_a_silent_cut(
    server: Server, sizes: tuple[int, ...]
) -> None:
    with server.dial() as connection:
        connection.send("POST", server.path, server.payment() | {"Transfer-Encoding": "chunked"})
        connection.socket.sendall(chunked(*sizes))
        answer = connection.answer()

        assert refused(answer) == (413, "PAYLOAD_TOO_LARGE")
        still_in_step(connection)


def test_a_chunked_body_is_read_like_any_other(server: Server) -> None:
    with server.dial() as connection:
        connection.send("POST", server.path, {"Transfer-Encoding": "chunked"})
        connection.socket.sendall(b'5\r\n{"top\r\nb\r\nic":"rain"}\r\n0\r\n\r\n')
        answer = connection.answer()

        assert refused(answer) == (402, "PAYMENT_REQUIRED")
        still_in_step(connection)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"5\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}xx0\r\n\r\n",
    ],
    ids=["no number", "too short", "negative", "no end"],
)
def test_a_malformed_chunk_is_a_400(server: Server, body: bytes) -> None:
    with server.dial() as connection:
        connection.send("POST", server.path, server.payment() | {"Transfer-Encoding": "chunked"})
        connection.socket.sendall(body + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        status, _ = connection.head()
        rest = connection.remains()

    assert status == 400
    assert b"HTTP/1.1 200" not in rest, "what followed the bad chunk was taken for a request"


@pytest.mark.parametrize(
    "headers",
    [
        [("Transfer-Encoding", "chunked"), ("Content-Length", "4")],
        [("Content-Length", "4"), ("Content-Length", "40")],
        [("Transfer-Encoding", "chunked, identity")],
        [("Transfer-Encoding", "xchunked")],
    ],
    ids=["both lengths", "two lengths", "chunked is not last", "unknown coding"],
)
def test_a_body_with_two_readings_is_refused_and_its_connection_closed(
    server: Server, headers: list[tuple[str, str]]
) -> None:
    hidden = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.dial() as connection:
        connection.send("POST", server.path, [*server.payment().items(), *headers])
        connection.socket.sendall(hidden)
        status, _ = connection.head()
        rest = connection.remains()

    assert status in (400, 501)
    assert b"HTTP/1.1 200" not in rest


def test_the_same_payment_in_two_headers_is_refused(server: Server) -> None:
    (header,) = server.payment().items()

    assert refused(server.ask([header, header])) == (400, "INVALID_PAYMENT")


def test_two_payments_in_two_headers_are_refused(server: Server) -> None:
    headers = [*server.payment().items(), *server.payment().items()]

    assert refused(server.ask(headers)) == (400, "INVALID_PAYMENT")


def test_payments_of_both_versions_are_refused(server: Server) -> None:
    payment = server.payment()
    both = payment | {"X-PAYMENT": payment["PAYMENT-SIGNATURE"]}

    answer = server.ask(both)

    assert refused(answer) == (400, "INVALID_PAYMENT")
    assert answer.json()["field"] == "X-PAYMENT"


@pytest.mark.parametrize(
    "header", ["", "x", "e30=", "e30", "bnVsbA==", encoded([]), encoded({"x402Version": 2})]
)
def test_a_payment_that_is_none_is_refused(server: Server, header: str) -> None:
    assert refused(server.ask({"PAYMENT-SIGNATURE": header})) == (400, "INVALID_PAYMENT")


def test_a_payment_header_with_an_underscore_is_no_payment(server: Server) -> None:
    """Another spelling that a proxy could let through is not read as the real one."""
    (payment,) = server.payment().values()

    assert server.ask({"PAYMENT_SIGNATURE": payment}).status == 400


@pytest.mark.parametrize(
    "wish",
    [["true", "true"], ["True"], ["1"], ["TRUE"], ["yes"], ["false"], [""], ["true,"]],
    ids=lambda wish: "+".join(wish) or "empty",
)
@pytest.mark.parametrize("signed_in", [True, False], ids=["creator", "stranger"])
def test_a_botched_owner_test_is_refused_and_its_payment_not_claimed(
    server: Server, wish: list[str], signed_in: bool
) -> None:
    """Never a silent fall-back to charging (spec/instant.md, step 5)."""
    headers = [*server.payment().items()]
    headers += [("X-OWNER-TEST", each) for each in wish]
    if signed_in:
        headers += [("Authorization", f"Bearer {server.token()}")]

    answer = server.ask(headers)

    assert refused(answer) == (400, "INVALID_REQUEST")
    assert answer.json()["field"] == "X-OWNER-TEST"


def test_a_stranger_who_asks_for_an_owner_test_is_not_charged_instead(server: Server) -> None:
    wish = {"X-OWNER-TEST": "true"}

    nobody = server.ask(server.payment() | wish)
    stranger = server.ask(
        server.payment() | wish | {"Authorization": f"Bearer {server.token('grace')}"}
    )
    forged = server.ask(server.payment() | wish | {"Authorization": "Bearer no.such.token"})

    assert refused(nobody) == (401, "UNAUTHENTICATED")
    assert refused(stranger) == (403, "FORBIDDEN")
    assert refused(forged) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "body",
    [b"[]", b'"a"', b"{", b'{"topic":NaN}', b'{"topic":1}', b"\xff", b'{"topic":"a","topic":"b"}'],
)
def test_a_bad_body_is_refused_before_its_payment_is_claimed(server: Server, body: bytes) -> None:
    assert refused(server.ask(server.payment(), body)) == (400, "INVALID_REQUEST")


def test_a_bad_credential_is_refused_even_with_a_payment(server: Server) -> None:
    answer = server.ask(server.payment() | {"Authorization": "Bearer no.such.token"})

    assert refused(answer) == (401, "UNAUTHENTICATED")


def test_every_refusal_leaves_its_connection_in_step(server: Server) -> None:
    payment: dict[str, Any] = server.payment()
    with server.dial() as connection:
        for method, path, headers, body, status in [
            ("POST", server.path, {}, BODY, 402),
            ("POST", server.path, payment, b"{", 400),
            ("PUT", server.path, payment, BODY, 405),
            ("POST", "/nothing", payment, BODY * 5_000, 404),
            ("POST", server.path, payment | {"X-OWNER-TEST": "1"}, BODY, 400),
            ("OPTIONS", server.path, {}, None, 204),
            ("POST", server.path, {}, BODY, 402),
        ]:
            answer = connection.send(method, path, headers, body).answer(method)
            assert answer.status == status
