"""Requests that two readers could take for two things, and what each of ours makes of them.

A row is what is sent, and what comes of it where gunicorn reads it first, over a port or its socket
file, and where the shipped nginx does: the status of each answer, and `mark` where the request that
follows on the same connection is answered as itself. Without it the connection was closed, which is
as good: a proxy in front cannot hand the next caller what this one has left behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass

HOST = "Host: 127.0.0.1"
PAID, FREE = "/@ada/haiku", "/@ada/gift"
BODY = b'{"topic":"rain"}'
HIDDEN = (
    f"POST {FREE} HTTP/1.1\r\n{HOST}\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY
"""Where this is read as a request, Claude is called: it runs a template that costs nothing."""


@dataclass(frozen=True)
class Attempt:
    sent: bytes
    gunicorn: str
    nginx: str
    method: str = "POST"


def head(*lines: str, of: str = f"POST {PAID} HTTP/1.1", host: str = HOST) -> bytes:
    """A request line, Host, and these lines; the blank one too."""
    return "\r\n".join([of, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def chunked(body: bytes, *lines: str) -> bytes:
    return head("Transfer-Encoding: chunked", *lines) + body


def get(target: str, *lines: str, version: str = "HTTP/1.1", host: str = HOST) -> bytes:
    return head(*lines, of=f"GET {target} {version}", host=host)


CHUNK = b"10\r\n" + BODY + b"\r\n"
END = b"0\r\n\r\n"
WHOLE = CHUNK + END
LENGTH = f"Content-Length: {len(BODY)}"
SMUGGLED = f"Content-Length: {len(HIDDEN)}"

LENGTHS: Mapping[str, Attempt] = {
    "a length and its body": Attempt(head(LENGTH) + BODY, "402 mark", "402 mark"),
    "a whole request in a body": Attempt(head(SMUGGLED) + HIDDEN, "400 mark", "400 mark"),
    "a whole request in an unread body": Attempt(
        head(SMUGGLED, of="POST /nowhere HTTP/1.1") + HIDDEN, "404 mark", "404 mark"
    ),
    "a whole request in a GET's body": Attempt(
        get("/healthz", SMUGGLED) + HIDDEN, "200 mark", "200 mark", "GET"
    ),
    "a whole request in a HEAD's body": Attempt(
        head(SMUGGLED, of=f"HEAD {PAID}?topic=rain HTTP/1.1") + HIDDEN,
        "402 mark",
        "402 mark",
        "HEAD",
    ),
    "a length of nothing": Attempt(head("Content-Length: 0"), "402 mark", "402 mark"),
    "two lengths": Attempt(head("Content-Length: 0", SMUGGLED) + HIDDEN, "400", "400"),
    "two lengths, turned": Attempt(head(SMUGGLED, "Content-Length: 0") + HIDDEN, "400", "400"),
    "the same length twice": Attempt(head(LENGTH, LENGTH) + BODY, "400", "400"),
    "a list of lengths": Attempt(head("Content-Length: 16, 16") + BODY, "400", "400"),
    "a length with a plus": Attempt(head("Content-Length: +16") + BODY, "400", "400"),
    "a length with a minus": Attempt(head("Content-Length: -1") + HIDDEN, "400", "400"),
    "a hexadecimal length": Attempt(head("Content-Length: 0x10") + BODY, "400", "400"),
    "a length with an underscore": Attempt(head("Content-Length: 1_6") + BODY, "400", "400"),
    "a length with a point": Attempt(head("Content-Length: 16.0") + BODY, "400", "400"),
    "a length in other digits": Attempt(head("Content-Length: \xb9\xb6") + BODY, "400", "400"),
    "a length of nothing at all": Attempt(head("Content-Length: ") + HIDDEN, "400", "400"),
    "a huge length": Attempt(
        head("Content-Length: 99999999999999999999", "Connection: close") + BODY, "413", "400"
    ),
    "a length with zeros before": Attempt(
        head("Content-Length: 00016") + BODY, "402 mark", "402 mark"
    ),
    "a length with an underscored name": Attempt(
        head(LENGTH, f"Content_Length: {len(BODY) + len(HIDDEN)}") + BODY, "400", "402 mark"
    ),
    "a blank before the colon": Attempt(head("Content-Length : 0") + HIDDEN, "400", "400"),
    "a tab before the colon": Attempt(head("Content-Length\t: 0") + HIDDEN, "400", "400"),
}

CODINGS: Mapping[str, Attempt] = {
    "chunks": Attempt(chunked(WHOLE), "402 mark", "402 mark"),
    "chunks, said in capitals": Attempt(
        head("TRANSFER-ENCODING: CHUNKED") + WHOLE, "402 mark", "402 mark"
    ),
    "a whole request in a chunk": Attempt(
        chunked(b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + END), "400 mark", "400 mark"
    ),
    "a length and chunks": Attempt(chunked(END + HIDDEN, SMUGGLED), "400", "400"),
    "chunks and a length": Attempt(
        head("Content-Length: 5", "Transfer-Encoding: chunked") + END + HIDDEN, "400", "400"
    ),
    "chunks twice": Attempt(chunked(END + HIDDEN, "Transfer-Encoding: chunked"), "400", "400"),
    "chunks, and as they are": Attempt(
        chunked(END + HIDDEN, "Transfer-Encoding: identity"), "400", "400"
    ),
    "as they are, and chunks": Attempt(
        head("Transfer-Encoding: identity, chunked") + WHOLE, "400 mark", "501"
    ),
    "as they are": Attempt(head("Transfer-Encoding: identity", LENGTH) + BODY, "400", "501"),
    "chunks in a list of twice": Attempt(
        head("Transfer-Encoding: chunked, chunked") + END + HIDDEN, "400", "501"
    ),
    "packed chunks": Attempt(head("Transfer-Encoding: gzip, chunked") + WHOLE, "400", "501"),
    "a coding nobody knows": Attempt(head("Transfer-Encoding: xchunked") + WHOLE, "501", "501"),
    "no coding at all": Attempt(head("Transfer-Encoding: ", LENGTH) + BODY, "501", "501"),
    "chunks in quotes": Attempt(head('Transfer-Encoding: "chunked"') + WHOLE, "501", "501"),
    "chunks after a vertical tab": Attempt(
        head("Transfer-Encoding: \x0bchunked") + WHOLE, "400", "501"
    ),
    "chunks before a NUL": Attempt(head("Transfer-Encoding: chunked\0") + WHOLE, "400", "400"),
    "chunks with a parameter": Attempt(
        head("Transfer-Encoding: chunked;q=1") + WHOLE, "501", "501"
    ),
    "chunks on a line of their own": Attempt(
        head("Transfer-Encoding:\r\n chunked") + WHOLE, "400", "400"
    ),
    "chunks with a blank before the colon": Attempt(
        head("Transfer-Encoding : chunked") + WHOLE, "400", "400"
    ),
    "chunks with an underscored name": Attempt(
        head("Transfer_Encoding: chunked", LENGTH) + BODY, "400", "402 mark"
    ),
    "chunks in HTTP/1.0": Attempt(
        head("Transfer-Encoding: chunked", of=f"POST {PAID} HTTP/1.0") + WHOLE, "400", "400"
    ),
    "chunks hidden by a bare line end": Attempt(
        head("X-A: b\nTransfer-Encoding: chunked", LENGTH) + BODY, "400", "400"
    ),
    "chunks hidden by a bare return": Attempt(
        head("X-A: b\rTransfer-Encoding: chunked", LENGTH) + BODY, "400", "400"
    ),
}
CHUNKS: Mapping[str, Attempt] = {
    "a size with zeros before": Attempt(chunked(b"000" + WHOLE), "402 mark", "402 mark"),
    "an extension": Attempt(chunked(b"10;a=b\r\n" + BODY + b"\r\n" + END), "402 mark", "402 mark"),
    "a trailer": Attempt(chunked(CHUNK + b"0\r\nX-Late: a\r\n\r\n"), "402 mark", "402 mark"),
    "a length among the trailers": Attempt(
        chunked(CHUNK + b"0\r\nContent-Length: 999\r\n\r\n"), "400", "402 mark"
    ),
    "an owner test among the trailers": Attempt(
        chunked(CHUNK + b"0\r\nX-OWNER-TEST: true\r\n\r\n"), "402 mark", "402 mark"
    ),
    "a size 0x10": Attempt(chunked(b"0x" + WHOLE), "400", "400"),
    "a size +10": Attempt(chunked(b"+" + WHOLE), "400", "400"),
    "a size -1": Attempt(chunked(b"-1\r\n" + END), "400", "400"),
    "a size with an underscore": Attempt(chunked(b"1_0\r\n" + BODY + b"\r\n" + END), "400", "400"),
    "a size after a blank": Attempt(chunked(b" " + WHOLE), "400", "400"),
    "no size": Attempt(chunked(b"\r\n" + WHOLE), "400", "400"),
    "a size that is no number": Attempt(chunked(b"zz\r\n" + WHOLE), "400", "400"),
    "a huge size": Attempt(
        chunked(b"f" * 16 + b"\r\n" + b" " * 70_000, "Connection: close"), "413", "400"
    ),
    "a size past every integer": Attempt(
        chunked(b"1" + b"0" * 16 + b"\r\n" + b" " * 70_000, "Connection: close"), "413", "400"
    ),
    "a chunk longer than its size": Attempt(chunked(b"3\r\n" + WHOLE), "400", "400"),
    "a chunk without its end": Attempt(chunked(b"10\r\n" + BODY + END), "400", "400"),
    "bare line ends": Attempt(chunked(b"10\n" + BODY + b"\n0\n\n"), "400", "402 mark"),
    "a bare return in an extension": Attempt(
        chunked(b"10;a\rb\r\n" + BODY + b"\r\n" + END), "400", "400"
    ),
    "a line end in an extension": Attempt(
        chunked(b"10;a\nb\r\n" + BODY + b"\r\n" + END), "400", "400"
    ),
    "an endless extension": Attempt(chunked(b"10;" + b"a" * 70_000 + b"\r\n" + BODY), "400", "400"),
    "a malformed trailer": Attempt(chunked(CHUNK + b"0\r\nno colon\r\n\r\n"), "400", "402 mark"),
}
LINES: Mapping[str, Attempt] = {
    "HTTP/1.0": Attempt(get("/healthz", version="HTTP/1.0"), "200", "200", "GET"),
    "HTTP/1.0 that stays": Attempt(
        get("/healthz", "Connection: keep-alive", version="HTTP/1.0"), "200 mark", "200 mark", "GET"
    ),
    "HTTP/1.2": Attempt(get("/healthz", version="HTTP/1.2"), "400 mark", "200 mark", "GET"),
    "HTTP/0.9": Attempt(b"GET /healthz\r\n\r\n", "400", "9", "GET"),
    "HTTP/2.0": Attempt(get("/healthz", version="HTTP/2.0"), "400", "505", "GET"),
    "HTTP/11.1": Attempt(get("/healthz", version="HTTP/11.1"), "400", "505", "GET"),
    "a version in small letters": Attempt(get("/healthz", version="http/1.1"), "400", "400", "GET"),
    "the preface of HTTP/2": Attempt(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", "400", "GET"),
    "an upgrade to h2c": Attempt(
        get(
            "/healthz",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
        ),
        "200 mark",
        "200 mark",
        "GET",
    ),
    "an upgrade to a websocket": Attempt(
        get(
            "/healthz",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        "400 mark",
        "200 mark",
        "GET",
    ),
    "a method in small letters": Attempt(
        get("/healthz").replace(b"GET", b"get"), "400", "400", "GET"
    ),
    "a method nobody knows": Attempt(
        get("/healthz").replace(b"GET", b"BREW"), "405 mark", "405 mark", "GET"
    ),
    "a method with a NUL": Attempt(get("/healthz").replace(b"GET", b"GE\0T"), "400", "400", "GET"),
    "TRACE": Attempt(get("/healthz").replace(b"GET", b"TRACE"), "405 mark", "405", "GET"),
    "CONNECT": Attempt(get("shop.example:443").replace(b"GET", b"CONNECT"), "404", "400", "GET"),
    "a method that is overridden": Attempt(
        get(f"{PAID}?topic=rain", "X-HTTP-Method-Override: DELETE", "X-Method-Override: PUT"),
        "402 mark",
        "402 mark",
        "GET",
    ),
    "two blanks": Attempt(get(" /healthz"), "400", "200 mark", "GET"),
    "a tab for a blank": Attempt(b"GET\t/healthz\tHTTP/1.1\r\n" + head()[20:], "400", "400", "GET"),
    "an empty line before": Attempt(b"\r\n" + get("/healthz"), "200 mark", "200 mark", "GET"),
    "bare line ends": Attempt(get("/healthz").replace(b"\r\n", b"\n"), "400", "200 mark", "GET"),
    "a NUL in the address": Attempt(get("/healthz\0"), "400", "400", "GET"),
    "a bare return in the address": Attempt(get("/health\rz"), "400", "400", "GET"),
    "a long address": Attempt(get("/" + "a" * 9000), "414", "414", "GET"),
}
TARGETS: Mapping[str, Attempt] = {
    "a whole URL": Attempt(get("http://127.0.0.1/healthz"), "200 mark", "200 mark", "GET"),
    "another shop's URL": Attempt(
        get("http://evil.example/healthz"), "200 mark", "421 mark", "GET"
    ),
    "a URL with a user": Attempt(
        get("http://user:password@127.0.0.1/healthz"), "200 mark", "400", "GET"
    ),
    "an asterisk": Attempt(get("*"), "400", "400", "GET"),
    "OPTIONS of everything": Attempt(
        get("*").replace(b"GET", b"OPTIONS"), "404 mark", "400", "GET"
    ),
    "no slash": Attempt(get("healthz"), "400", "400", "GET"),
    "two slashes": Attempt(get("//healthz"), "200 mark", "200 mark", "GET"),
    "another host after two slashes": Attempt(
        get("//evil.example/healthz"), "404 mark", "404 mark", "GET"
    ),
    "dots": Attempt(get("/nowhere/../healthz"), "404 mark", "404 mark", "GET"),
    "escaped dots": Attempt(get("/nowhere/%2e%2e/healthz"), "404 mark", "404 mark", "GET"),
    "dots past the root": Attempt(get("/../../healthz"), "404 mark", "400", "GET"),
    "an escaped slash": Attempt(get("/@ada%2fhaiku?topic=rain"), "402 mark", "402 mark", "GET"),
    "a backslash": Attempt(get("/@ada\\haiku"), "404 mark", "404 mark", "GET"),
    "an escaped NUL": Attempt(get("/@ada/haiku%00"), "404 mark", "400", "GET"),
    "an escaped line end": Attempt(get("/healthz%0d%0aX-A:%20b"), "404 mark", "404 mark", "GET"),
    "half an escape": Attempt(get("/healthz%2"), "404 mark", "400", "GET"),
    "bytes that are no text": Attempt(get("/\xff\xfe"), "400", "400 mark", "GET"),
    "escaped bytes that are no text": Attempt(get("/@ada/%ff%fe"), "404 mark", "404 mark", "GET"),
    "a fragment": Attempt(get("/healthz#/@ada/gift"), "200 mark", "200 mark", "GET"),
}
OPERATORS: Mapping[str, Attempt] = {
    target: Attempt(get(target), gunicorn, "404 mark", "GET")
    for target, gunicorn in {
        "/metrics": "200 mark",
        "/metrics?a": "200 mark",
        "/metrics#a": "200 mark",
        "//metrics": "200 mark",
        "/%6detrics": "200 mark",
        "/%2fmetrics": "200 mark",
        "/./metrics": "404 mark",
        "/a/../metrics": "404 mark",
        "/metrics/": "404 mark",
        "/METRICS": "404 mark",
        "http://127.0.0.1/metrics": "200 mark",
        "///readyz/a": "404 mark",
    }.items()
}
"""What is the operator's is not passed on, however it is written."""
HOSTS: Mapping[str, Attempt] = {
    "no Host": Attempt(get("/healthz", host=""), "400 mark", "400", "GET"),
    "no Host in HTTP/1.0": Attempt(
        get("/healthz", host="", version="HTTP/1.0"), "200", "200", "GET"
    ),
    "two": Attempt(get("/healthz", HOST), "400", "400", "GET"),
    "two different ones": Attempt(get("/healthz", "Host: evil.example"), "400", "400", "GET"),
    "another": Attempt(get("/healthz", host="Host: evil.example"), "200 mark", "421 mark", "GET"),
    "an empty one": Attempt(get("/healthz", host="Host: "), "400 mark", "400", "GET"),
    "a user in it": Attempt(
        get("/healthz", host="Host: user@127.0.0.1"), "200 mark", "421 mark", "GET"
    ),
    "a path in it": Attempt(get("/healthz", host="Host: 127.0.0.1/a"), "200 mark", "400", "GET"),
    "a list of them": Attempt(get("/healthz", host="Host: 127.0.0.1, a"), "200 mark", "400", "GET"),
    "another port": Attempt(
        get("/healthz", host="Host: 127.0.0.1:1"), "200 mark", "200 mark", "GET"
    ),
}
NAMES: Mapping[str, Attempt] = {
    "an owner test with underscores": Attempt(head("X_OWNER_TEST: true"), "400", "402 mark"),
    "an address with underscores": Attempt(head("X_REAL_IP: 1.2.3.4"), "400", "402 mark"),
    "SCRIPT_NAME": Attempt(head("SCRIPT_NAME: /evil"), "400", "402 mark"),
    "PATH_INFO": Attempt(head("PATH_INFO: /healthz"), "400", "402 mark"),
    "SCRIPT-NAME and PATH-INFO": Attempt(
        head("SCRIPT-NAME: /evil", "PATH-INFO: /healthz"), "402 mark", "402 mark"
    ),
    "REMOTE-USER and REMOTE-ADDR": Attempt(
        head("REMOTE-USER: ada", "REMOTE-ADDR: 1.2.3.4"), "402 mark", "402 mark"
    ),
    "every X-Forwarded-": Attempt(
        head(
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Proto: gopher",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Prefix: /evil",
            "X-Forwarded-Port: 1",
            "Forwarded: for=1.2.3.4",
        ),
        "402 mark",
        "402 mark",
    ),
    "a scheme": Attempt(
        head("X-Forwarded-Protocol: ssl", "X-Forwarded-Ssl: on"), "402 mark", "402 mark"
    ),
    "a renamed address": Attempt(
        head("X-Original-URL: /healthz", "X-Rewrite-URL: /healthz", "X-Accel-Redirect: /healthz"),
        "402 mark",
        "402 mark",
    ),
    "hop by hop": Attempt(
        get("/auth/me", "Connection: Authorization, X-OWNER-TEST", "Authorization: Bearer x"),
        "401 mark",
        "401 mark",
        "GET",
    ),
    "an owner test that is taken along": Attempt(
        head("Connection: X-OWNER-TEST", "X-OWNER-TEST: true", LENGTH) + BODY,
        "401 mark",
        "401 mark",
    ),
    "an owner test twice": Attempt(
        head("X-OWNER-TEST: true", "X-OWNER-TEST: true"), "400 mark", "400 mark"
    ),
    "folded": Attempt(head("X-A: b", " c"), "400", "400"),
    "folded first": Attempt(head(" X-A: b"), "400", "400"),
    "a NUL": Attempt(head("X-A: b\0c"), "400", "400"),
    "a bare return": Attempt(head("X-A: b\rX-OWNER-TEST: true"), "400", "400"),
    "a bare line end": Attempt(
        head("X-A: b\nX-OWNER-TEST: true", LENGTH) + BODY, "400", "401 mark"
    ),
    "no colon": Attempt(head("X-OWNER-TEST", LENGTH) + BODY, "400", "400 mark"),
    "no name": Attempt(head(": true"), "400", "400"),
    "a name in quotes": Attempt(head('"X-A": b'), "400", "402 mark"),
    "a name with a blank": Attempt(head("X A: b"), "400", "400"),
    "bytes that are no text": Attempt(head("X-A: \xff\xfe\x80"), "402 mark", "402 mark"),
    "no text for a token": Attempt(head("Authorization: Bearer \xff\xfe"), "401 mark", "401 mark"),
    "no text for an owner test": Attempt(head("X-OWNER-TEST: tr\xfce"), "400 mark", "400 mark"),
    "a long one": Attempt(head("X-A: " + "a" * 9000), "431", "431"),
    "too many": Attempt(head(*(f"X-{number}: a" for number in range(200))), "431", "431 mark"),
    "100-continue": Attempt(
        head("Expect: 100-continue", LENGTH) + BODY, "100 402 mark", "100 402 mark"
    ),
    "another expectation": Attempt(head("Expect: wonders"), "417", "402 mark"),
    "a range": Attempt(get("/healthz", "Range: bytes=0-1,1-2,2-"), "200 mark", "200 mark", "GET"),
    "a packed body": Attempt(head("Content-Encoding: gzip", LENGTH) + BODY, "402 mark", "402 mark"),
}
TABLES = {
    "length": LENGTHS,
    "coding": CODINGS,
    "chunk": CHUNKS,
    "line": LINES,
    "target": TARGETS,
    "operator": OPERATORS,
    "host": HOSTS,
    "header": NAMES,
}
