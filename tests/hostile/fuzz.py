"""Ten thousand requests over every door: `python -m tests.hostile.fuzz [--seed N] [--requests N]`.

Four of five are put to the application in this process; the others go through real sockets, half of
them through the shipped nginx. Prints what was sent and answered, the memory at the beginning, in
the middle and at the end, and every fault; ends with status 1 where there is one. The same seed
asks the same.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from threading import enumerate as threads
from typing import Any
from urllib.parse import unquote_to_bytes

import hypothesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings

from tests.beneath import beneath
from tests.blueprints.conftest import forge
from tests.conftest import PAY_TO
from tests.hostile.conversation import Said, Way, answers, converse
from tests.hostile.grammar import Asked, Headers, Known, requests
from tests.waiting import eventually
from tests.wire.account import behind_nginx
from tests.wire.conftest import Server
from tests.wire.leaks import leaked
from x402jobs.app import create_app
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.wallet import Wallet
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import X402JobsError
from x402jobs.domain.secret import Secret
from x402jobs.services import agentic
from x402jobs.services.iam.pepper import Pepper
from x402jobs.settings import Settings
from x402jobs.stores import audit, secret_box, store
from x402jobs.wiring import build_services, development_ledger

KEY = "sk-ant-planted-fuzzed-key"
PROMPT = "Planted prompt of the fuzzed shop about {topic}{/topic}"
SAID_OF_IT = "Planted prompt of the fuzzed shop"
ANSWER = "planted owlsong lanternlight"
AT_ONCE = 100
"""How many requests are drawn together; what Hypothesis remembers of them is forgotten then."""
SETTLES = 2_000
"""After so many requests, or half of them, memory may not grow much any more."""
GROWTH = 0.10
PAID = "/@<username>/<slug>"
TELL_ANSWERS = (
    *(PAID, "/executions/<execution_id>/events", "/api/stream/execute-task"),
    *("/api/tiles", "/api/tiles/<coords>"),  # a task's plan is Claude's, and a tile
)
MISBEHAVIOUR: tuple[Mapping[str, Any], ...] = (
    *[{}] * 12,
    *({"status": status, "text": f"invalid x-api-key {KEY}"} for status in (400, 401, 429, 529)),
    {"errorEvent": "overloaded_error", "afterDeltas": 1},
    {"cutAtByte": 900, "clean": True},
    {"text": ""},
)

Send = Callable[[Asked, int], Said]


@dataclass
class Report:
    """What was asked, what came of it, and everything that should not have."""

    name: str
    seed: int
    statuses: Counter[int] = field(default_factory=Counter)
    asked: set[tuple[str, str]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    bought: int = 0
    memory: dict[int, int] = field(default_factory=dict)
    """Kilobytes that the answering process has, by how many requests it had been sent."""

    def __str__(self) -> str:
        total = sum(self.statuses.values())
        by_status = ", ".join(f"{status} x {n}" for status, n in sorted(self.statuses.items()))
        sizes = ", ".join(f"{kb / 1024:.1f} after {n}" for n, kb in sorted(self.memory.items()))
        lines = [
            f"{self.name} (seed {self.seed}): {total} requests, {len(self.asked)} pairs of a door "
            f"and a verb; {by_status}; {self.bought} bought",
            f"  MB of memory: {sizes}; {len(self.faults)} faults",
        ]
        return "\n".join([*lines, *(f"  {each}" for each in self.faults[:20])])


def codes() -> set[str]:
    """Every code an error may have (spec/wire.md)."""
    found, left = set(), [X402JobsError]
    while left:
        each = left.pop()
        found.add(each.code)
        left += each.__subclasses__()
    return found


CODES = codes()


def furnish(server: Server) -> tuple[Known, dict[str, str]]:
    """Plant what must not come out, and collect what a caller could know; the secrets are named."""
    ada, doors = server.ada, dict[str, tuple[str, ...]]()
    for rule in create_app(server.settings, server.services).url_map.iter_rules():
        doors[rule.rule] = (*doors.get(rule.rule, ()), *sorted(rule.methods or ()))
    mend(server)
    mallory = server.store.catalogue.add_user("mallory")
    server.services.mapping.get(mallory, Coords(mallory))
    bearer, theirs = server.token(), server.token("mallory")
    internal = server.internal_key(ada)
    session = server.services.iam.sessions.begin(ada).reveal()
    _, key = server.services.iam.api_keys.make(ada, "CI", None)
    box = secret_box(server.settings)
    pepper = Pepper(server.store.identities, box)._pepper.reveal()
    tokens = {f"token of {who}": text for who, text in {"ada": bearer, "mallory": theirs}.items()}
    secrets = tokens | {
        "creator's key": KEY,
        "internal key": internal,
        "session": session,
        "API key": key.reveal()[20:],
        "pepper": pepper,
    }
    known = Known(
        doors=doors,
        names={
            "username": [*["ada"] * 5, "mallory"],
            "slug": [*["haiku"] * 5, "gift", "planted"],
            "template_id": [each.id for each in server.services.resources.page(ada, 25, 0).items],
            "coords": [ada, f"{ada},0", mallory, f"{mallory},0", f"{mallory},0:1", "x,0:7"],
            "execution_id": ["exec_" + "0" * 24],
            "key_id": ["key_nothing"],
        },
        credentials=[
            *[[]] * 6,
            *[[("Authorization", f"Bearer {theirs}")]] * 12,
            *[[("Cookie", f"x402jobs_session={session}"), ("Sec-Fetch-Site", "same-origin")]] * 2,
            [("Authorization", f"Bearer {bearer}")],
            [("Authorization", f"Bearer {bearer}"), ("X-OWNER-TEST", "true")],
            [("Authorization", f"Bearer {bearer[:-3]}")],
            [("Authorization", "Bearer " + "a" * 2000)],
            [("Authorization", "Basic YWRhOmFkYQ==")],
            [("X-API-Key", key.reveal())],
            [("X-API-Key", key.reveal()), ("Authorization", f"Bearer {theirs}")],
            [("X-API-Key", internal), ("X-User-Id", ada)],
            [("X-API-Key", internal), ("X-User-Id", mallory)],
            [("X-API-Key", internal[:-2])],
            [("Cookie", f"x402jobs_session={session[:-2]}")],
            [("Cookie", f"x402jobs_session={session}; x402jobs_session=a")],
        ],
        payments=[],
    )
    return known, secrets


def mend(server: Server) -> None:
    """Put back whatever those who know ada's credentials have taken away."""
    server.services.integrations.save_claude_config(server.ada, Secret(KEY), enabled=True)
    server.services.integrations.save_pay_to(server.ada, PAY_TO)
    server.publish("haiku", system_prompt=PROMPT)
    server.publish("gift", system_prompt=PROMPT, price=0)


def fuzz(
    name: str,
    server: Server,
    send: Send,
    number: int,
    seed: int,
    claude: tuple[Mapping[str, Any], ...] = ({},),
) -> Report:
    """So many requests, drawn from this seed; `send` takes each with its number."""
    report = Report(name, seed)
    known, secrets = furnish(server)
    sent, looks = 0, [0, *sorted({min(SETTLES, number // 2), number // 2})]
    while sent < number:
        if looks and sent >= looks[0]:
            report.memory[looks.pop(0)] = memory(server)
        mend(server)
        wallet = Wallet.open(server.settings.data.parent / f"fuzzed-{seed}-{sent}.key")
        drawn = requests(replace(known, payments=[forge(wallet) for _ in range(12)], claude=claude))

        @hypothesis.seed(seed * 1_000_000 + sent)
        @settings(
            max_examples=min(AT_ONCE, max(1, number // 4), number - sent),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn)
        def ask(asked: Asked) -> None:
            nonlocal sent
            server.claude.script(*[{"text": ANSWER, **asked.claude}] * 4)
            try:
                said = send(asked, sent)
            except (OSError, ValueError, IndexError) as error:  # no answer, or more than one
                report.faults.append(f"{error!r}: {asked!r:.600}")
                said = Said(0)
            sent += 1
            report.statuses[said.status] += 1
            report.asked.add((asked.rule, asked.method))
            for fault in faults(asked, said, secrets):
                report.faults.append(f"{fault}: {asked!r:.600} -> {said.body[:200]!r}")

        ask()
        server.claude.forget()
    report.memory[number] = memory(server)
    report.faults += afterwards(server, secrets)
    report.bought = len(server.transfers())
    if report.memory[number] > report.memory[min(SETTLES, number // 2)] * (1 + GROWTH):
        report.faults.append("memory grows")
    return report


def faults(asked: Asked, said: Said, secrets: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with this answer."""
    if asked.rule == "/readyz" and said.status == 503:
        return  # who says why, and has a shape of its own
    code = said.document.get("code")
    is_known = code in CODES or asked.method == "HEAD"  # which has no body to say it in
    if said.status >= 500 and not (said.status in (502, 503, 504) and is_known):
        yield f"a {said.status}"
    if 300 <= said.status < 400:
        yield "a way to elsewhere"
    if said.status >= 400 and asked.method != "HEAD":
        yield from _misshapen(said)
    told = f"{dict(said.headers)}".encode() + said.body
    if leaks := leaked(dict(secrets), told):
        yield f"secrets: {leaks}"
    if not asked.target.lstrip("/").startswith("resources") and leaked(
        {"prompt": SAID_OF_IT}, told
    ):
        yield "a prompt"
    if ANSWER.encode() in said.body:
        names = {name for name, _ in asked.headers}
        if said.status != 200 or asked.rule not in TELL_ANSWERS:
            yield "an answer in the wrong place"
        is_free = "gift" in asked.target or "X-OWNER-TEST" in names
        if asked.rule == PAID and not is_free and "payment-response" not in said.headers:
            if "x-payment-response" not in said.headers:
                yield "an answer nobody paid for"


def _misshapen(said: Said) -> Iterator[str]:
    """An error has one shape, whoever says it (spec/wire.md)."""
    document = said.document
    if not said.headers.get("content-type", "").startswith("application/json"):
        yield "an error that is not JSON"
    elif document.get("code") not in CODES or not document.get("error"):
        yield "an error without a code or a sentence"
    elif document.get("requestId") != said.headers.get("x-request-id"):
        yield "an error without its request's id"


def afterwards(server: Server, secrets: Mapping[str, str]) -> Iterator[str]:
    """What is wrong once everything has ended: with the books, and with what was written down."""
    open_states = {"claimed", "settling", "settled"}
    if not eventually(lambda: not open_states & set(server.states()), 20):
        yield f"rows that do not end: {Counter(server.states())}"
    yield from (f"the books: {each.name}" for each in audit(server.settings).check().broken)
    bought = [row["transaction"] for row in server.rows() if row["state"] != "released"]
    if sorted(filter(None, bought)) != sorted(each.transaction for each in server.transfers()):
        yield "a transfer without its row, or a row without its transfer"
    planted = {**secrets, "prompt": SAID_OF_IT, "answer": ANSWER}
    yield from (f"the log: {leak}" for leak in leaked(planted, server.log.read_bytes()))


def memory(server: Server) -> int:
    """What the process that answers has in memory, in kilobytes."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    answering = int(children[0]) if children and server.pid != os.getpid() else server.pid
    pages = int(Path(f"/proc/{answering}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


# Two ways to ask


@contextmanager
def inside(directory: Path) -> Iterator[tuple[Server, Send]]:
    """The application in this process, logging at DEBUG into a file."""
    with ExitStack() as stack:
        claude = stack.enter_context(ClaudeServer(delta_ms=0))
        under = stack.enter_context(beneath(directory / "data", None))
        data, log = directory / "data", directory / "server.log"
        stack.enter_context(redirect_stderr(stack.enter_context(log.open("w", buffering=1))))
        chosen = replace(Settings(), data=data, claude_url=claude.url, log_level="DEBUG")
        services = build_services(chosen)
        stack.callback(services.close)
        ours = store(chosen)
        stack.callback(ours.database.close)
        ledger = development_ledger(data)
        stack.callback(ledger.close)
        server = Server(
            port=0,
            pid=os.getpid(),
            log=log,
            settings=chosen,
            beneath=under,
            store=ours,
            services=services,
            ledger=ledger,
            claude=claude,
            ada=ours.catalogue.add_user("ada"),
            wallet=Wallet.open(directory / "wallet.key"),
        )
        app = create_app(chosen, services)
        pause, agentic.FIRST_PAUSE_SECONDS = agentic.FIRST_PAUSE_SECONDS, 0.01
        try:
            yield server, lambda asked, number: put_to(app, asked, number)
        finally:
            agentic.FIRST_PAUSE_SECONDS = pause
            for thread in threads():
                if thread.name.startswith("run-"):
                    thread.join(10)


def put_to(app: Flask, asked: Asked, number: int) -> Said:
    """Ask as gunicorn would: WSGI, with nothing mended on the way."""
    path, _, query = asked.target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": asked.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "4020",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": _address(number),
        "HTTP_HOST": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(asked.body or b""),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if asked.body is not None and not asked.is_chunked:
        environ["CONTENT_LENGTH"] = str(len(asked.body))
    for name, value in asked.headers:
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    begun: list[tuple[int, dict[str, str]]] = []

    def start_response(status: str, headers: Headers, exc_info: Any = None) -> Any:
        begun.append((int(status[:3]), {name.lower(): value for name, value in headers}))

    said = app(environ, start_response)
    try:
        body = b"".join(said)
    finally:
        getattr(said, "close", lambda: None)()
    status, headers = begun[-1]
    return Said(status, headers, b"" if asked.method == "HEAD" else body)


@contextmanager
def outside(directory: Path) -> Iterator[tuple[Server, Send]]:
    """Real gunicorn on its socket file, and every other time real nginx in front of it."""
    with behind_nginx(directory, LOG_LEVEL="DEBUG") as server:
        ways = Way(file=directory / "x402jobs.sock"), Way(port=server.port, tls=True)

        def send(asked: Asked, number: int) -> Said:
            way = ways[number % 2]
            given = [("X-Real-IP", _address(number))] if way.file is not None else []
            received = converse(way, written(asked, given))
            return answers(received, asked.method)[-1]

        yield server, send


def written(asked: Asked, more: Headers) -> bytes:
    """The request as bytes; the connection is closed after it."""
    headers = [("Host", "127.0.0.1"), ("Connection", "close"), *asked.headers, *more]
    body = asked.body or b""
    if asked.is_chunked:
        headers.append(("Transfer-Encoding", "chunked"))
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    elif asked.body is not None:
        headers.append(("Content-Length", str(len(body))))
    lines = [f"{asked.method} {asked.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _address(number: int) -> str:
    """Another one every ten requests: an address that shows bad credentials is soon left alone."""
    place = number // 10
    return f"10.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=10_000)
    wanted = parser.parse_args()
    outer = wanted.requests // 5
    reports = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        for name, shop, number, claude in (
            ("in process", inside, wanted.requests - outer, MISBEHAVIOUR),
            ("over sockets", outside, outer, ({},)),
        ):
            directory = Path(place) / name.partition(" ")[0]
            directory.mkdir()
            with shop(directory) as (server, send):
                reports.append(fuzz(name, server, send, number, wanted.seed, claude))
            print(reports[-1], flush=True)
    if any(each.faults for each in reports):
        sys.exit(1)


if __name__ == "__main__":
    main()
