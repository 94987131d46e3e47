"""The doctor: green where all is well, and each misconfiguration called by its name."""

import base64
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import X402JOBS, Command, environment, on_a_terminal
from tests.cli.front import Front
from tests.contract.conftest import HAIKU, SqliteStore, bought
from tests.waiting import free_port
from tests.wire.conftest import serving
from x402jobs.adapters.sqlite import SqliteCatalogue, SqliteLedger
from x402jobs.devkit.demo import Demo
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.facilitator_server import FacilitatorServer
from x402jobs.doctor import Check, clocks, examine, fail, not_run, ok, requests, warn
from x402jobs.domain.execution import State
from x402jobs.domain.networks import DEVELOPMENT

CANARY = "planted-canary-value"

Said = dict[str, tuple[str, str]]
"""What is said of each check: its word, and the rest."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("doctor") / "data", pace_ms=0, environ=environment()) as it:
        yield it


def told(command: Command, *arguments: str, **changes: str) -> tuple[int, Said]:
    """The exit code, and every finding."""
    ended = command("doctor", *arguments, **changes)
    document = json.loads(ended.stdout)
    said = {
        each["check"]: (each["status"], f"{each['says']} | {each['mend']}")
        for each in document["checks"]
    }
    assert len(said) == len(document["checks"]), "two checks have one name"
    assert CANARY not in ended.stdout + ended.stderr
    return ended.returncode, said


def amiss(said: Said) -> dict[str, str]:
    return {name: word for name, (word, _) in said.items() if word != "ok"}


# All is well


def test_against_the_demo_all_is_green(x402jobs: Command, demo: Demo) -> None:
    before = dump(demo.data)

    code, said = told(x402jobs, "--url", demo.url, "--data", str(demo.data))

    assert (code, amiss(said)) == (0, {})
    assert len(said) > 20
    assert dump(demo.data) == before, "it changes nothing"
    assert demo.ledger.transfers() == []


def test_on_a_terminal_it_prints_a_line_for_each(demo: Demo) -> None:
    code, shown = on_a_terminal(
        *X402JOBS, "doctor", "--url", demo.url, "--template", "@ada/haiku", "--data", str(demo.data)
    )

    assert code == 0
    assert "402: /@ada/haiku: amount, payee, networks and address are ours" in shown
    assert shown.splitlines()[-1].endswith(" ok")
    assert "FAIL" not in shown


@pytest.mark.parametrize("arguments", [["--template", "haiku"], ["--url", "ftp://x"]])
def test_wrong_usage_is_two(x402jobs: Command, arguments: list[str]) -> None:
    assert x402jobs("doctor", *arguments).returncode == 2


# From inside


@dataclass
class Node:
    """A node of a chain: whose, and how old its newest block is, in seconds."""

    chain_id: int = DEVELOPMENT.chain_id
    age: float = 1.0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{CANARY}"

    @contextmanager
    def running(self) -> Iterator["Node"]:
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": node.say(asked)})
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def say(self, asked: Mapping[str, Any]) -> Any:
        if asked["method"] == "eth_chainId":
            return hex(self.chain_id)
        stamp = hex(int(time.time() - self.age))
        return {"number": "0x5", "hash": "0x" + "ab" * 32, "timestamp": stamp}


@dataclass
class Deployment:
    """The demo's data in a directory of its own, and what the environment says beside it."""

    data: Path
    facilitator: FacilitatorServer
    node: Node
    environ: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def sql(self, text: str) -> None:
        with closing(sqlite3.connect(self.data / "x402jobs.sqlite3")) as connection:
            connection.executescript(text)

    def real_money(self, **changes: str) -> None:
        self.environ |= {
            "FACILITATOR_URL": self.facilitator.url,
            "X402_NETWORKS": DEVELOPMENT.id,
            "CHAIN_RPC_URL": self.node.url,
        } | changes


@pytest.fixture
def deployment(demo: Demo, tmp_path: Path) -> Iterator[Deployment]:
    data = copied(demo.data, tmp_path / "copy")
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(DevelopmentLedger(tmp_path / "play.sqlite3")))
        facilitator = stack.enter_context(FacilitatorServer(ledger.facilitator()))
        node = stack.enter_context(Node().running())
        yield Deployment(data, facilitator, node, url=demo.url)


def copied(data: Path, to: Path) -> Path:
    """As docs/operations.md has it: SQLite's own backup, and the files beside it."""
    to.mkdir(mode=0o700)
    for name in ("x402jobs.sqlite3", "development-ledger.sqlite3"):
        if (data / name).is_file():
            with (
                closing(sqlite3.connect(data / name)) as source,
                closing(sqlite3.connect(to / name)) as target,
            ):
                source.backup(target)
    for name in ("keys", "token-secret"):
        if (data / name).is_file():
            shutil.copy2(data / name, to / name)
    return to


def dump(data: Path) -> tuple[list[str], list[str]]:
    """Every file but the logs of writing, and every row but the beats of workers."""
    with closing(sqlite3.connect(data / "x402jobs.sqlite3")) as connection:
        rows = [line for line in connection.iterdump() if '"x402_workers"' not in line]
    names = {path.name for path in data.iterdir() if not path.name.endswith(("-shm", "-wal"))}
    return sorted(names), rows


def late(by: float) -> dict[str, Any]:
    return {"at": "supported", "headers": {"date": formatdate(time.time() - by, usegmt=True)}}


Plant = Callable[[Deployment], object]

RING = "k1:" + base64.b64encode(os.urandom(32)).decode()

PLANTED: dict[str, tuple[Plant, dict[str, str], str]] = {
    # what is wrong: how it came about, what is called amiss, and words that are said of it
    "a key file that others may read": (
        lambda it: (it.data / "keys").chmod(0o644),
        {"key files": "FAIL"},
        "may read keys",
    ),
    "a data directory that others may enter": (
        lambda it: it.data.chmod(0o755),
        {"data directory": "FAIL", **dict.fromkeys(("key files", "key ring"), "not run")},
        "chmod 700",
    ),
    "another ring": (
        lambda it: it.environ.update(X402JOBS_KEYS=RING),
        {"its key ring": "FAIL", "creators": "FAIL"},
        "not the one that the store is sealed with",
    ),
    "no ring": (
        lambda it: (it.data / "keys").unlink(),
        {"key ring": "FAIL", **dict.fromkeys(("its key ring", "creators", "Redis"), "not run")},
        "there is no key ring",
    ),
    "a store of an earlier release": (
        lambda it: it.sql("PRAGMA user_version = 2"),
        {"database": "FAIL"},
        "of version 2",
    ),
    "a store of a later release": (
        lambda it: it.sql("PRAGMA user_version = 99"),
        {"database": "FAIL"},
        "use the release that wrote it",
    ),
    "a file that is no database": (
        lambda it: (it.data / "x402jobs.sqlite3").write_bytes(b"x" * 9000),
        {"database": "FAIL"},
        "cannot be read as a database",
    ),
    "a retired model": (
        lambda it: it.sql("UPDATE x402_resources SET pt_model = 'claude-2.1'"),
        {"models": "FAIL"},
        "@ada/haiku",
    ),
    "no payout address": (
        lambda it: it.sql("DELETE FROM x402_payout_addresses"),
        {"creators": "warn", "402": "not run"},
        "ada (No payout address is stored)",
    ),
    "no Claude key": (
        lambda it: it.sql("DELETE FROM x402_user_claude_configs"),
        {"creators": "warn", "402": "not run"},
        "ada (No Claude key is stored)",
    ),
    "another payout address than the server asks for": (
        lambda it: it.sql(f"UPDATE x402_payout_addresses SET base_address = '0x{'12' * 20}'"),
        {"402": "FAIL"},
        "payTo 0x",
    ),
    "another price than the server asks": (
        lambda it: it.sql("UPDATE x402_resources SET price_usdc = 70000"),
        {"402": "FAIL"},
        "amount 10000",
    ),
    "another PUBLIC_URL": (
        lambda it: setattr(it, "url", it.url.replace("127.0.0.1", "localhost")),
        {"402": "FAIL"},
        "its URL is http://127.0.0.1",
    ),
    "nobody at PUBLIC_URL": (
        lambda it: setattr(it, "url", f"http://127.0.0.1:{free_port()}"),
        {"answers": "FAIL"},
        "cannot be reached (Connection refused)",
    ),
    "several workers for the embedded store": (
        lambda it: it.environ.update(WEB_CONCURRENCY="4"),
        {"workers": "warn"},
        "WEB_CONCURRENCY is 4",
    ),
    "a facilitator that does not offer the pair": (
        lambda it: (
            it.real_money(),
            it.facilitator.script({"at": "supported", "change": {"kinds": []}}),
        ),
        {"settings": "warn", "its clock": "warn", f"pays {DEVELOPMENT.id}": "FAIL"},
        f"does not offer exact on {DEVELOPMENT.id}",
    ),
    "a facilitator whose clock is 60 s behind": (
        lambda it: (it.real_money(), it.facilitator.script(late(60))),
        {"settings": "warn", "its clock": "FAIL"},
        "s behind this host's",
    ),
    "a facilitator that fails": (
        lambda it: (it.real_money(), it.facilitator.script({"at": "supported", "status": 503})),
        {"settings": "warn", "facilitator": "FAIL"},
        "with 503",
    ),
    "a facilitator that is away": (
        lambda it: it.real_money(FACILITATOR_URL=f"http://127.0.0.1:{free_port()}/{CANARY}"),
        {"settings": "warn", "facilitator": "FAIL"},
        "127.0.0.1 does not answer",
    ),
    "a node of another chain": (
        lambda it: (
            it.real_money(),
            setattr(it.node, "chain_id", 1),
            it.facilitator.script(late(0)),
        ),
        {"settings": "warn", f"node {DEVELOPMENT.id}": "FAIL"},
        f"of another chain than {DEVELOPMENT.id}",
    ),
    "a node that has not kept up": (
        lambda it: (it.real_money(), setattr(it.node, "age", 600), it.facilitator.script(late(0))),
        {"settings": "warn", f"node {DEVELOPMENT.id}": "FAIL"},
        "has not kept up",
    ),
    "no node": (
        lambda it: (it.real_money(CHAIN_RPC_URL=""), it.facilitator.script(late(0))),
        {"settings": "warn", f"node {DEVELOPMENT.id}": "warn"},
        "set CHAIN_RPC_URL",
    ),
    "a Redis that is down": (
        lambda it: it.environ.update(REDIS_URL=f"redis://:{CANARY}@127.0.0.1:{free_port()}/0"),
        {"Redis": "FAIL"},
        "the one at 127.0.0.1 does not answer",
    ),
}

BEHIND = {
    "database": (
        *("migrations", "its key ring", "invariants", "debts", "settlements", "models"),
        *("creators", "402"),
    ),
    "data directory": ("database",),
    "key ring": ("Redis",),
    "402": ("probes", "forged headers", "chunked body"),
    "answers": ("clock", "stream", "long header", "402"),
    "facilitator": ("its clock", f"pays {DEVELOPMENT.id}"),
}
"""What nobody can look at where this is amiss."""


def with_what_is_behind(named: Mapping[str, str]) -> dict[str, str]:
    found = dict(named)
    waiting = list(named)
    while waiting:
        name = waiting.pop()
        if found[name] != "warn":
            waiting += [each for each in BEHIND.get(name, ()) if each not in found]
            found = {**dict.fromkeys(BEHIND.get(name, ()), "not run"), **found}
    return found


@pytest.mark.parametrize("what", PLANTED)
def test_a_misconfiguration_is_named_and_nothing_else_is(
    x402jobs: Command, deployment: Deployment, what: str
) -> None:
    plant, named, words = PLANTED[what]
    plant(deployment)

    code, said = told(
        x402jobs,
        *("--url", deployment.url, "--data", str(deployment.data)),
        **deployment.environ,
    )

    assert amiss(said) == with_what_is_behind(named)
    assert words in " ".join(rest for word, rest in said.values() if word in ("FAIL", "warn"))
    failed = "FAIL" in named.values()
    assert code == (1 if failed else 2 if "not run" in amiss(said).values() else 0)


def test_a_debt_and_a_settlement_that_nobody_knows_about_are_told(
    x402jobs: Command, deployment: Deployment
) -> None:
    deployment.real_money()
    deployment.facilitator.script(late(0))
    with closing(SqliteStore(deployment.data).database) as database:
        ada = SqliteCatalogue(database).add_user("ada")
        SqliteCatalogue(database).add_template(replace(HAIKU, owner_id=ada, slug="old"))
        ledger = SqliteLedger(database)
        for name in ("settling", "owed"):
            row = bought(id=name, claim_key=name)
            ledger.claim(row)
            ledger.swap(row, row := row.become(State.SETTLING), sealed_payment="v1.k1.sealed")
        paid = row.become(
            State.SETTLED, transaction="0x" + "ab" * 32, log_index=0, settled_at=1003.5
        )
        ledger.swap(row, paid)
        ledger.swap(paid, paid.become(State.REFUND_DUE, code="STREAM_INTERRUPTED", ended_at=1004.0))

    code, said = told(
        x402jobs, "--url", deployment.url, "--data", str(deployment.data), **deployment.environ
    )

    assert said["debts"][0] == "warn" and "1 refunds are due 0.01 USDC" in said["debts"][1]
    assert said["settlements"][0] == "FAIL" and "settling" in said["settlements"][1]
    assert code == 1


def test_a_directory_with_nothing_in_it_is_left_as_it_is(
    x402jobs: Command, demo: Demo, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)

    code, said = told(x402jobs, "--url", demo.url, "--data", str(empty))

    assert code == 1
    assert {"database", "key ring"} <= amiss(said).keys()
    assert list(empty.iterdir()) == []


def test_settings_that_cannot_be_read_are_each_a_line_and_nothing_else_is_looked_at(
    x402jobs: Command,
) -> None:
    ended = x402jobs("doctor", ANTHROPIC_BASE_URL=CANARY, LOG_LEVEL=CANARY)

    document = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert document["counts"] == {"ok": 0, "warn": 0, "FAIL": 2, "not run": 1}
    said = [each["says"] for each in document["checks"]]
    assert said[0].startswith("LOG_LEVEL: ") and said[1].startswith("ANTHROPIC_BASE_URL: ")
    assert CANARY not in ended.stdout + ended.stderr


# From outside, through the nginx we ship


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A shop behind nothing yet, which is to be found at the front's URL."""
    directory = tmp_path_factory.mktemp("front")
    front = Front(directory, free_port())
    front.certify(days=60)
    with ExitStack() as stack:
        with front.running():
            bind = f"unix:{directory}/x402jobs.sock"
            stack.enter_context(serving(directory, front.url, X402JOBS_BIND=bind))
        yield front


def through(command: Command, front: Front, **changes: str) -> tuple[int, Said]:
    """What is told of the shop behind the front, to callers who trust its certificate."""
    environ = {"SSL_CERT_FILE": str(front.certificate), "PUBLIC_URL": front.url} | changes
    return told(command, "--data", str(front.directory / "data"), **environ)


PLAY = {"settings": "warn"}
"""Play money at an address that is not loopback's plain HTTP: told whatever else there is."""
IN = "        location / {\n"


@pytest.mark.wire
def test_behind_the_nginx_we_ship_all_is_green(x402jobs: Command, front: Front) -> None:
    with front.running():
        code, said = through(x402jobs, front)

    assert (code, amiss(said)) == (0, PLAY)
    assert {"plain HTTP", "other hosts", "private doors"} <= said.keys()


CHANGED: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    # what is wrong with a front: what was changed, what is called amiss, and words for it
    "streams are buffered": (
        {"proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"},
        {"stream": "FAIL"},
        "events that left apart arrived together",
    ),
    "streams are compressed": (
        {"gzip off;": "gzip on; gzip_types text/event-stream; gzip_min_length 0;"},
        {"stream": "FAIL"},
        "compressed (gzip)",
    ),
    "any host is answered for": (
        {"if ($host != $server_name) {": 'if ($host = "") {'},
        {"other hosts": "FAIL"},
        "it answers for any host",
    ),
    "a forwarded host is trusted": (
        {
            IN: IN + "if ($http_x_forwarded_host) "
            "{ return 307 https://$http_x_forwarded_host$request_uri; }\n"
        },
        {"forged headers": "FAIL"},
        "forged headers change the answer: 307",
    ),
    "readiness is public": (
        {"location = /readyz {\n            return 404;": "location = /readyz {\n" + "PASS"},
        {"private doors": "FAIL"},
        "public: /readyz",
    ),
    "metrics are public": (
        {
            "location = /metrics {\n            return 404;": "location = /metrics {\n"
            'proxy_set_header X-Real-IP ""; PASS'
        },
        {"private doors": "FAIL"},
        "public: /metrics",
    ),
    "long headers are refused": (
        {"large_client_header_buffers 4 8184;": "large_client_header_buffers 4 4k;"},
        {"long header": "FAIL"},
        "a header of 7500 bytes is answered 431",
    ),
    "chunked bodies are refused": (
        {IN: IN + "if ($http_transfer_encoding) { return 400; }\n"},
        {"chunked body": "FAIL"},
        "a chunked body is answered 400",
    ),
    "browsers cannot ask first": (
        {IN: IN + "if ($request_method = OPTIONS) { return 405; }\n"},
        {"probes": "FAIL"},
        "OPTIONS 405",
    ),
}


@pytest.mark.wire
@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_front_is_named_and_nothing_else_is(
    x402jobs: Command, front: Front, what: str
) -> None:
    changes, named, words = CHANGED[what]
    passed = {before: to.replace("PASS", PASS) for before, to in changes.items()}

    with front.running(passed):
        code, said = through(x402jobs, front)

    assert (code, amiss(said)) == (1, PLAY | with_what_is_behind(named))
    assert words in " ".join(rest for word, rest in said.values() if word == "FAIL")


PASS = "proxy_pass http://x402jobs;"

CERTIFICATES = {
    # days until its end: what is said
    3: ("warn", "ends in 3 days"),
    -1: ("FAIL", "certificate has expired"),
}


@pytest.mark.wire
@pytest.mark.parametrize("days", CERTIFICATES)
def test_a_certificate_is_looked_at_as_callers_do(
    x402jobs: Command, front: Front, days: int
) -> None:
    front.certify(days=days + 0.1)
    try:
        with front.running():
            _, said = through(x402jobs, front)
    finally:
        front.certify(days=60)

    word, words = CERTIFICATES[days]
    assert said["TLS"][0] == word
    assert words in said["TLS"][1]


@pytest.mark.wire
def test_a_certificate_nobody_trusts_is_named(x402jobs: Command, front: Front) -> None:
    with front.running():
        code, said = through(x402jobs, front, SSL_CERT_FILE="")

    assert (code, said["TLS"][0]) == (1, "FAIL")
    assert "self-signed certificate" in said["TLS"][1]
    assert said["answers"] == ("not run", "TLS comes first | None")


# How it looks


def test_a_check_that_hangs_or_breaks_is_never_ok() -> None:
    def hang() -> Any:
        threading.Event().wait(5)

    def break_off() -> Any:
        raise RuntimeError(CANARY)

    checks = [
        Check("group", "hangs", hang, seconds=0.05),
        Check("group", "breaks", break_off),
        Check("group", "waits", lambda: ok("fine"), after=("hangs",)),
        Check("group", "warned", lambda: warn("well", "look")),
        Check("group", "after a warning", lambda: ok("fine"), after=("warned",)),
        Check("group", "failed", lambda: fail("no", "mend")),
        Check("group", "after a failure", lambda: ok("fine"), after=("failed",)),
    ]

    said = {check.name: finding for check, finding in examine(checks)}

    assert said["hangs"] == not_run("it took longer than 0.05 s")
    assert said["breaks"] == not_run("the check itself broke: RuntimeError")
    assert said["waits"] == not_run("hangs comes first")
    assert said["after a warning"] == ok("fine")
    assert said["after a failure"] == not_run("failed comes first")


@pytest.mark.parametrize(
    ("then", "word"),
    [(100.0, "ok"), (95.0, "ok"), (94.9, "FAIL"), (107.0, "ok"), (107.1, "FAIL"), (160.0, "FAIL")],
)
def test_clocks_may_be_five_seconds_apart_beside_what_the_asking_took(
    then: float, word: str
) -> None:
    assert clocks.compared("its", then, 100.0, 102.0).word == word


@pytest.mark.parametrize("header", [None, "", "yesterday", "Sun, 06 Nov 2999"])
def test_an_answer_without_a_date_is_a_warning(header: str | None) -> None:
    assert clocks.dated("its", header, 100.0, 102.0).word == "warn"


def test_the_streams_door_is_a_stream_like_the_others(demo: Demo) -> None:
    reply = requests.ask(demo.url, "/healthz/stream")

    assert reply.body == b"".join(
        b'data: {"type":"diagnostic","number":%d}\n\n' % number for number in range(3)
    )
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["cache-control"] == "no-cache, no-transform"
