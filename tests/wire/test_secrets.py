"""Nothing planted comes out: not in a response, not in a log at DEBUG, not unsealed at rest."""

import base64
import json
import os
import resource
import secrets as chance
import signal
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from tests.conftest import decoded, encoded, events, text_of
from tests.supabase.postgres import Postgres
from tests.waiting import eventually
from tests.wire.conftest import ROOT, Answer, Server, serving
from tests.wire.leaks import leaked
from x402jobs.app import create_app
from x402jobs.domain.secret import Secret

pytestmark = pytest.mark.wire

TAG = chance.token_hex(6)
KEY = f"sk-ant-planted-{TAG}-key"
PROMPT = f'Geheim „Prompt“ planted {TAG} "words" é'
VALUE = f"caller's „value“ planted {TAG} & more"
PLAIN = f"caller's plain value planted {TAG}"
ODD = f"state-planted-{TAG}"
ANSWER = f"answer’s planted {TAG} words"
METRICS_TOKEN = f"metrics-planted-{TAG}-0123456789abcdef"

THE_CREATORS_OWN = "shown to its creator: "
"""How the names of replies begin that a creator's own prompt may be in."""
SEALED = {
    "api_key_encrypted": "x402_user_claude_configs",
    "pt_system_prompt": "x402_resources",
    "sealed_answer": "x402_answers",
    "sealed_key": "x402_internal_api_keys",
    "sealed_pepper": "x402_peppers",
}


@dataclass
class Visit:
    """A shop with everything planted, and every answer it gave."""

    server: Server
    secrets: dict[str, str]
    heard: list[tuple[str, Answer]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    sealed: dict[str, str] = field(default_factory=dict)

    def payment(self) -> dict[str, str]:
        """A fresh payment, which is a secret from now on."""
        headers = self.server.payment()
        (header,) = headers.values()
        number = sum(name.startswith("payment") for name in self.secrets)
        self.secrets[f"payment {number}"] = header
        self.secrets[f"signature of payment {number}"] = decoded(header)["payload"]["signature"]
        return headers

    def ask(self, name: str, headers: Any, body: bytes | None = None, **request: str) -> Answer:
        answer = self.server.ask(
            headers, json.dumps({"topic": VALUE}).encode() if body is None else body, **request
        )
        self.heard.append((name, answer))
        return answer

    def plant_ciphertexts(self) -> None:
        """What rests sealed in the store is a secret as well."""
        for column, table in SEALED.items():
            rows = self.server.beneath.sql(f"SELECT {column} FROM {table}")
            for number, row in enumerate(rows):
                if row[column] is not None:
                    self.sealed[f"{table} {number}"] = row[column]

    def log(self) -> bytes:
        return self.server.log.read_bytes()

    def rests(self) -> dict[str, bytes]:
        """Every file of the data directory, and every table that is not in one."""
        files = (path for path in self.server.settings.data.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in files} | self.server.beneath.tables()


@contextmanager
def large_cores() -> Iterator[None]:
    """What is started meanwhile may write core dumps as large as they come, unless it minds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None) -> Iterator[Visit]:
    """Everything that can be made to go well or wrong, done once."""
    with (
        large_cores(),
        serving(
            tmp_path_factory.mktemp("secrets"),
            postgres=postgres,
            METRICS_TOKEN=METRICS_TOKEN,
            CLAUDE_FIRST_CONTENT_SECONDS="1.5",
            CLAUDE_IDLE_SECONDS="1",
        ) as server,
    ):
        server.services.integrations.save_claude_config(server.ada, Secret(KEY))
        server.publish("haiku", system_prompt=f"{PROMPT} {{topic}}{{/topic}}")
        server.publish("gift", system_prompt=f"{PROMPT} {{topic}}{{/topic}}", price=0)
        owner = server.owner_test()
        token = owner["Authorization"].removeprefix("Bearer ")
        visit = Visit(
            server,
            {
                "creator's key": KEY,
                "system prompt": PROMPT,
                "caller's value": VALUE,
                "caller's plain value": PLAIN,
                "bearer token": token,
                "signature of the token": token.rpartition(".")[2],
                "token for metrics": METRICS_TOKEN,
            }
            | {name: value for name, value in server.beneath.environment.items() if "KEY" in name},
        )
        server.planted.update({"her own key": KEY, "her own prompt": PROMPT, "answer": ANSWER})
        go_well(visit, owner)
        let_claude_fail(visit)
        be_refused(visit, owner)
        be_misread(visit)
        be_a_creator(visit, {"Authorization": owner["Authorization"]})
        be_signed_in(visit, {"Authorization": owner["Authorization"]})
        run_tasks(visit, {"Authorization": owner["Authorization"]})
        visit.plant_ciphertexts()
        break_the_store(visit)
        be_the_operator(visit, {"Authorization": owner["Authorization"]})
        eventually(lambda: visit.log().count(b"run_ended") >= 4)
        yield visit


def go_well(visit: Visit, owner: dict[str, str]) -> None:
    server, payment = visit.server, visit.payment()
    server.claude.script({"text": ANSWER}, {"text": ANSWER}, {"text": ANSWER}, {"text": ANSWER})
    visit.answers = [
        visit.ask("a purchase", payment),
        visit.ask("a replay", payment),
        visit.ask("an owner test", owner),
        visit.ask("a gift", {}, path=server.free),
        visit.ask(
            "a purchase by GET",
            visit.payment(),
            b"",
            method="GET",
            path=f"{server.path}?topic={quote_plus(VALUE)}",
        ),
    ]
    visit.ask("a conflict", payment, b'{"topic":"other"}')


def let_claude_fail(visit: Visit) -> None:
    """Claude's messages quote the key, the prompt and the value, as real ones have done."""
    quoting = f"invalid x-api-key {KEY}: {PROMPT} {VALUE}"
    for status in (400, 401, 402, 403, 404, 408, 409, 413, 418, 429, 500, 504, 529):
        for message in (quoting, f"prompt is too long: {quoting}"):
            visit.server.claude.script(
                {"status": status, "text": message, "headers": {"retry-after": "9"}}
            )
            visit.ask(f"Claude's {status}", visit.payment())
    whole = {"text": ANSWER}
    for name, script in {
        "an odd header": {"status": 429, "headers": {"retry-after": KEY}, "text": quoting},
        "another content type": {"headers": {"content-type": "text/html"}},
        "an early error event": {"errorEvent": "overloaded_error"},
        "an unheard-of error": {"errorEvent": f"error-{KEY}"},
        "a late error event": {"errorEvent": f"error-{KEY}", "afterDeltas": 1},
        "a cut before the content": {"cutAtByte": 100},
        "a cut": {"cutAtByte": 900},
        "a clean cut": {"cutAtByte": 900, "clean": True},
        "an empty answer": {"text": ""},
        "a silence": {"stallSeconds": 3, "afterDeltas": 0},
        "a later silence": {"stallSeconds": 3, "afterDeltas": 1},
    }.items():
        visit.server.claude.script(*[whole | script] * 3)
        visit.ask(name, visit.payment())
    for name, script in {
        "a late error event, in one piece": {"errorEvent": f"error-{KEY}", "afterDeltas": 1},
        "a clean cut, in one piece": {"cutAtByte": 900, "clean": True},
    }.items():
        visit.server.claude.script(whole | script)
        visit.ask(name, visit.payment(), path=f"{visit.server.path}?stream=false")
    visit.server.claude.script()


def be_refused(visit: Visit, owner: dict[str, str]) -> None:
    server = visit.server
    body = json.dumps({"topic": VALUE})
    for bad in (
        body[:-1],
        f"[{body}]",
        f'{{"topic":"{VALUE}","topic":"{VALUE}"}}',
        f'{{"topic":["{VALUE}"]}}',
        f'{{"topic":"{VALUE}\\u0000"}}',
        f'{{"topic":"{VALUE}\\ud800"}}',
        f'{{"topic":"{VALUE}","user_message":"{VALUE}"}}',
        f'{{"topic":"{VALUE}","stream":"{VALUE}"}}',
        f'{{"topic":"{VALUE}","other":"{VALUE}"}}',
        f'{{"topic":"{VALUE}{"x" * 70_000}"}}',
        f'{{"topic":"{VALUE}{"x" * 40_000}"}}',
        f"{VALUE}",
    ):
        visit.ask("a bad body", visit.payment(), bad.encode())
    visit.ask("a body in Latin-1", visit.payment(), body.encode("utf-16"))

    good = decoded(visit.payment()["PAYMENT-SIGNATURE"])
    for place, value in (
        (("payload", "signature"), good["payload"]["signature"][:-4] + "001b"),
        (("payload", "signature"), VALUE),
        (("payload", "authorization", "value"), "1"),
        (("payload", "authorization", "validBefore"), "1"),
        (("payload", "authorization", "nonce"), VALUE),
        (("accepted", "network"), VALUE),
        (("accepted", "amount"), "1"),
        (("x402Version",), VALUE),
    ):
        forged = json.loads(json.dumps(good))
        spot = forged
        for name in place[:-1]:
            spot = spot[name]
        spot[place[-1]] = value
        header = encoded(forged)
        visit.secrets[f"forged {'.'.join(place)}"] = header
        visit.ask(f"a forged {'.'.join(place)}", {"PAYMENT-SIGNATURE": header})
    (header,) = visit.payment().values()
    visit.ask("a torn payment", {"PAYMENT-SIGNATURE": header[:-7]})
    visit.ask("a payment twice", [("PAYMENT-SIGNATURE", header)] * 2)
    visit.ask("a payment in the wrong header", {"X-PAYMENT": header})
    v1 = {"x402Version": 1, "scheme": "exact", "payload": good["payload"]}
    for network in ("base-sepolia", VALUE):
        wrapped = encoded(v1 | {"network": network})
        visit.secrets[f"version 1 on {network}"] = wrapped
        visit.ask("a payment of version 1", {"X-PAYMENT": wrapped})
    visit.ask("an odd network", {}, path=f"{server.path}?network={quote(VALUE)}")

    token = visit.secrets["bearer token"]
    visit.ask("a torn token", {"Authorization": f"Bearer {token[:-4]}"})
    visit.ask("a bare token", {"Authorization": token})
    visit.ask("a key for a token", {"Authorization": f"Bearer {KEY}"})
    visit.ask("a botched owner test", owner | {"X-OWNER-TEST": PLAIN})
    visit.ask("no payment", {})
    visit.ask("a look", {}, b"", method="HEAD", path=f"{server.path}?topic={quote(VALUE)}")
    visit.ask("another method", visit.payment(), method="DELETE")
    visit.ask("another path", visit.payment(), path=f"/{quote(VALUE)}")
    visit.ask("another slug", visit.payment(), path=f"/@ada/{quote(VALUE)}")
    visit.ask("a control", {}, b"", method="GET", path=f"{server.path}?stream={quote(VALUE)}")
    visit.ask(
        "twice in the query",
        {},
        b"",
        method="GET",
        path=f"{server.path}?topic={quote(VALUE)}&topic={quote(VALUE)}",
    )


def be_a_creator(visit: Visit, owner: dict[str, str]) -> None:
    """Every door of a creator's, with and without their token, with good bodies and bad ones."""
    token = visit.server.token("eve")
    visit.secrets["another's token"] = token
    eve = {"Authorization": f"Bearer {token}"}
    template = {"name": "Planted", "priceUsdc": "0.01", "systemPrompt": f"{PROMPT} again"}
    made = visit.ask(
        f"{THE_CREATORS_OWN}a template",
        owner,
        json.dumps(template).encode(),
        path="/resources",
    ).json()
    one = f"/resources/{made['id']}"
    doors: dict[str, list[tuple[str, object]]] = {
        "/integrations/claude/config": [
            ("GET", None),
            ("PUT", {"apiKey": KEY}),
            ("PUT", {"apiKey": f"{KEY} "}),
            ("PUT", {"apiKey": [KEY]}),
            ("PUT", {"apiKey": KEY, "isEnabled": KEY}),
            ("PUT", {"apiKey": KEY, "key": KEY}),
            ("PUT", KEY),
        ],
        "/integrations/claude/config?verify=true": [("PUT", {"apiKey": KEY})],
        f"/integrations/claude/config?verify={quote(KEY)}": [("PUT", {"apiKey": KEY})],
        "/integrations/wallet/config": [("GET", None), ("PUT", {"baseAddress": KEY})],
        "/resources": [
            ("GET", None),
            ("POST", template | {"priceUsdc": PROMPT}),
            ("POST", template | {"systemPrompt": [PROMPT]}),
            ("POST", template | {"parameters": [{"name": "other"}]}),
            ("POST", template | {"slug": made["slug"]}),
            ("POST", template | {"model": VALUE}),
        ],
        one: [
            ("GET", None),
            ("PATCH", {"systemPrompt": f"{PROMPT} once more"}),
            ("PATCH", {"systemPrompt": f"{PROMPT} {{other}}{{/other}}"}),
            ("PATCH", {"network": VALUE}),
            ("PUT", template),
        ],
        f"{one}/preview": [("POST", {}), ("POST", {"topic": VALUE}), ("POST", VALUE)],
        f"{one}/usage": [("GET", None)],
        f"{one}/usage?limit={quote(VALUE)}": [("GET", None)],
        "/api/v1/resources": [("GET", None)],
        f"/api/v1/resources/@ada/{made['slug']}": [("GET", None), ("POST", template)],
        "/api/v1/resources/@ada/haiku": [("GET", None)],
        "/api/v1/executions": [("GET", None)],
        "/auth/me": [("GET", None)],
        "/user/profile": [("PUT", {"username": KEY})],
    }
    before = len(visit.server.claude.calls)
    visit.server.claude.script(*[{"status": 401, "text": f"invalid x-api-key {KEY}"}] * 2)
    for path, requests in doors.items():
        for method, body in requests:
            sent = b"" if body is None else json.dumps(body).encode()
            mine = path.startswith("/resources")
            begins = THE_CREATORS_OWN if mine else "said to its creator: "
            visit.ask(f"{begins}{method} {path}", owner, sent, method=method, path=path)
            for whose, headers in {
                "nobody": {},
                "eve": eve,
                "a torn token": {"Authorization": owner["Authorization"][:-4]},
            }.items():
                if not (whose == "eve" and (method != "GET" or not mine)):
                    name = f"{method} {path} by {whose}"
                    visit.ask(name, headers, sent, method=method, path=path)
    assert len(visit.server.claude.calls) > before
    visit.server.claude.script()
    visit.ask("a deletion", owner, b"", method="DELETE", path=one)


def be_signed_in(visit: Visit, owner: dict[str, str]) -> None:
    """With a cookie and with keys, good and torn. The replies that show them are not heard."""
    server, named = visit.server, b'{"name":"CI"}'
    begun = server.ask(owner, b"", path="/auth/session")
    token = begun.headers["set-cookie"].partition("=")[2].partition(";")[0]
    made = server.ask(owner, named, path="/api/keys").json()
    internal = server.internal_key(server.ada)
    pepper = server.services.iam.sessions._pepper._pepper.reveal()
    kinds = {
        "a session": {"Cookie": f"x402jobs_session={token}"},
        "a key": {"X-API-Key": made["key"]},
        "an internal key": {"X-API-Key": internal, "X-User-Id": server.ada},
        "a torn session": {"Cookie": f"x402jobs_session={token[:-4]}"},
        "a torn key": {"X-API-Key": made["key"][:-4]},
        "a torn internal key": {"X-API-Key": internal[:-4], "X-User-Id": internal},
        "a session and a key": {"Cookie": f"x402jobs_session={token}", "X-API-Key": made["key"]},
        "a key for a token": {"Authorization": f"Bearer {made['key']}"},
    }
    visit.secrets |= {
        "session": token,
        "key": made["key"][20:],
        "internal key": internal[20:],
        "pepper": pepper,
    }
    for kind, shown in kinds.items():
        for page in ({}, {"Sec-Fetch-Site": "same-origin"}):
            for method, path, body in (
                ("GET", "/auth/me", b""),
                ("GET", "/api/keys", b""),
                ("POST", "/api/keys", b'{"name":"' + token.encode() * 3 + b'"}'),
                ("GET", "/api/v1/executions", b""),
                ("POST", "/auth/session", b""),
                ("GET", f"/api/tiles?under={quote(internal)}", b""),
            ):
                asked = f"{method} {path.partition('?')[0]} with {kind}"
                visit.ask(asked, shown | page, body, method=method, path=path)
    heard = dict(visit.heard)
    for door, kind in (("/auth/me", "a session"), ("/api/v1/executions", "a key")):
        assert heard[f"GET {door} with {kind}"].status == 200
    assert heard["GET /api/tiles with an internal key"].status == 400
    one = f"/api/keys/{made['id']}"
    visit.ask("a key is taken back", owner, b"", method="DELETE", path=one)
    leaving = kinds["a session"] | {"Sec-Fetch-Site": "same-origin"}
    visit.ask("signing out", leaving, b"", method="DELETE", path="/auth/session")


def run_tasks(visit: Visit, owner: dict[str, str]) -> None:
    """With an instruction that nobody may remember, well and badly."""
    server, door = visit.server, "/api/stream/execute-task"
    told = quote(VALUE)
    place = f"taskCoords={server.ada},0&instruction={told}"
    for name, query, script in (
        ("well", place, {}),
        ("with Claude failing", place, {"status": 401}),
        ("with Claude breaking off", place, {"cutAtByte": 900}),
        ("with a word too much", f"{place}&temperature={told}", {}),
        ("nowhere", f"taskCoords={server.ada},0:6&instruction={told}", {}),
    ):
        server.claude.script(script)
        asked = f"GET {door} {name}"
        visit.ask(asked, owner, None, method="GET", path=f"{door}?{query}")


def be_misread(visit: Visit) -> None:
    """Requests that the server itself refuses, before any code of ours."""
    (payment,) = visit.payment().values()
    for request in (
        f"POST {visit.server.path}?topic={PLAIN} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"POST {visit.server.path} HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE : {payment}\r\n\r\n",
        f"POST {visit.server.path} HTTP/1.1\r\nHost: a\r\nPAYMENT_SIGNATURE: {payment}\r\n\r\n",
        f"POST {visit.server.path} HTTP/1.1\r\nHost: a\r\nX: a\r\n {payment}\r\n\r\n",
        f"POST {visit.server.path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n\r\n",
        f"POST {visit.server.path} HTTP/1.1\r\nHost: a\r\nX: {payment}\0\r\n\r\n",
        f"{payment} / HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET / {payment}\r\nHost: a\r\n\r\n",
        f"GET /?{PLAIN.replace(' ', '+')}{'x' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX: {payment}{'x' * 9000}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nExpect: {payment}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {payment}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {payment}\r\n\r\n",
        f"POST {visit.server.path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"{PLAIN}\r\n",
    ):
        with visit.server.dial() as connection:
            with suppress(OSError):  # the server may have closed it already
                connection.socket.sendall(request.encode())
                connection.socket.shutdown(socket.SHUT_WR)
            connection.remains()


def be_the_operator(visit: Visit, owner: dict[str, str]) -> None:
    """What has been counted of all this, and what stands in the way of work."""
    for name, headers in {
        "the operator": {"Authorization": f"Bearer {METRICS_TOKEN}"},
        "a torn token": {"Authorization": f"Bearer {METRICS_TOKEN[:-1]}"},
        "a creator": owner,
        "nobody": {},
    }.items():
        visit.ask(f"GET /metrics by {name}", headers, None, method="GET", path="/metrics")
    visit.ask("GET /readyz", {}, None, method="GET", path="/readyz")
    visit.ask("GET /healthz/stream", {}, None, method="GET", path="/healthz/stream")
    counted = dict(visit.heard)["GET /metrics by the operator"]
    assert counted.status == 200 and b"x402jobs_requests" in counted.body


def break_the_store(visit: Visit) -> None:
    """Faults nobody foresaw, whose exceptions would quote what they tripped over."""
    server = visit.server
    server.claude.script({"text": ANSWER})
    payment = visit.payment()
    visit.ask("one more purchase", payment)
    visit.answers.append(visit.heard[-1][1])
    (*_, last) = server.rows()
    server.beneath.damage("UPDATE x402_executions SET state = %s WHERE id = %s", ODD, last["id"])
    broken = visit.ask("a row that cannot be read", payment)
    assert (broken.status, broken.json()["code"]) == (500, "UNKNOWN")


def test_the_visit_went_as_planned(visit: Visit) -> None:
    """Otherwise the silence below would prove nothing."""
    assert [text_of(events(answer.body)) for answer in visit.answers] == [ANSWER] * 6
    statuses = {answer.status for _, answer in visit.heard}
    assert statuses >= {200, 400, 401, 402, 404, 405, 409, 413, 429, 500, 502, 503, 504}
    endings = [
        events(answer.body)[-1]["code"]
        for _, answer in visit.heard
        if answer.headers["content-type"].startswith("text/event-stream")
        and events(answer.body)[-1]["type"] == "error"
    ]
    assert {"UPSTREAM_REJECTED", "STREAM_INTERRUPTED", "TIMEOUT"} <= set(endings)
    body = visit.server.claude.calls[0]["body"]
    assert body["system"] == f"{PROMPT} {VALUE}"
    assert visit.server.claude.calls[0]["key"] == KEY


def test_no_response_contains_a_secret(visit: Visit) -> None:
    told = visit.secrets | visit.sealed | {"what a fault quotes": ODD}
    theirs = {name: told[name] for name in told if name not in ("system prompt", "caller's value")}
    found = {
        name: leaks
        for name, answer in visit.heard
        if (
            leaks := leaked(
                theirs if name.startswith(THE_CREATORS_OWN) else told,
                f"{answer.headers}".encode() + answer.body,
            )
        )
    }

    assert found == {}


def test_every_door_was_visited(visit: Visit) -> None:
    rules = {rule.rule for rule in create_app(visit.server.settings).url_map.iter_rules()}
    # The server's log names no path, so this list is checked against the visit's own words.
    words = " ".join(name for name, _ in visit.heard)
    unseen = {rule for rule in rules if rule.startswith("/") and "<" not in rule} - set(
        words.split()
    )

    assert unseen == {"/healthz"}


def test_the_key_ring_is_in_no_response_and_no_log(visit: Visit) -> None:
    ring = (visit.server.settings.data / "keys").read_text().split()
    keys = {f"key {number}": line.rpartition(":")[2] for number, line in enumerate(ring)}
    told = b"".join(f"{answer.headers}".encode() + answer.body for _, answer in visit.heard)

    assert keys
    assert leaked(keys, told + visit.log()) == []


def test_an_answer_is_in_its_own_responses_alone(visit: Visit) -> None:
    found = [
        name
        for name, answer in visit.heard
        if answer not in visit.answers and leaked({"answer": ANSWER}, answer.body)
    ]

    assert found == []


def test_no_log_line_at_debug_contains_a_secret(visit: Visit) -> None:
    log = visit.log()

    assert b'"event": "run_ended"' in log and b'"event": "unexpected"' in log
    told = visit.secrets | visit.sealed | {"answer": ANSWER, "what a fault quotes": ODD}
    assert leaked(told, log) == []


def test_nothing_that_rests_contains_a_secret_unsealed(visit: Visit) -> None:
    rests = visit.rests()

    assert {"x402jobs.sqlite3", "x402_executions"} & rests.keys()
    found = {
        name: leaks
        for name, content in rests.items()
        if (leaks := leaked(visit.secrets | {"answer": ANSWER}, content))
    }
    assert found == {}


def test_a_worker_that_crashes_leaves_no_core_behind(visit: Visit) -> None:
    """In its memory are keys, prompts and answers in the clear: it may go to no file."""
    master = visit.server.pid
    children = Path(f"/proc/{master}/task/{master}/children")
    (worker, *_) = (int(pid) for pid in children.read_text().split())

    limits = [Path(f"/proc/{pid}/limits").read_text() for pid in (master, worker)]
    os.kill(worker, signal.SIGSEGV)
    assert eventually(lambda: str(worker) not in children.read_text().split(), 20)

    cores = [*ROOT.glob("core"), *ROOT.glob("core.[0-9]*")]
    for core in cores:
        core.unlink()
    assert cores == []
    for each in limits:
        (line,) = (line for line in each.splitlines() if line.startswith("Max core file size"))
        assert line.split()[4:6] == ["0", "0"]


SECRET = 'planted „secret“ "words" & more'
HIDINGS = {
    "raw": SECRET.encode(),
    "in capitals": SECRET.upper().encode(),
    "hex": SECRET.encode().hex().encode(),
    "HEX": SECRET.encode().hex().upper().encode(),
    "URL": quote(SECRET, safe="").encode(),
    "form": quote_plus(SECRET).encode(),
    "JSON": json.dumps({"a": SECRET}).encode(),
    "JSON in JSON": json.dumps(json.dumps(SECRET)).encode(),
    "a Python literal": ascii(SECRET).encode(),
    "UTF-16": SECRET.encode("utf-16"),
    "base64": base64.b64encode(SECRET.encode()),
    "base64, one further": base64.b64encode(b"x" + SECRET.encode() + b"tail"),
    "base64, two further": base64.b64encode(b"xy" + SECRET.encode() + b"ta"),
    "base64url": base64.urlsafe_b64encode(b"a" + SECRET.encode() + b"\xff\xff\xff"),
}


@pytest.mark.parametrize("hidden", HIDINGS.values(), ids=HIDINGS.keys())
def test_the_checker_finds_a_secret_in_every_form(hidden: bytes) -> None:
    assert leaked({"secret": SECRET}, b"before " + hidden + b" after")


def test_the_checker_finds_a_signature_as_bytes_and_as_digits() -> None:
    signature = "0x" + chance.token_hex(65)

    assert leaked({"signature": signature}, b"\0\1" + bytes.fromhex(signature[2:]))
    assert leaked({"signature": signature}, signature[2:].upper().encode())


def test_the_checker_does_not_cry_wolf() -> None:
    assert leaked({"secret": SECRET}, zlib.compress(SECRET.encode()) + b"planted words") == []
