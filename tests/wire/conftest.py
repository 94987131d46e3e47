"""The shop as customers meet it: gunicorn in a process of its own, and real sockets."""

import itertools
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.beneath import Beneath, beneath
from tests.conftest import CREATOR_KEY, PAY_TO, PRICE, RAIN, SYSTEM_PROMPT, decoded
from tests.supabase.postgres import Postgres
from tests.waiting import eventually, free_port
from tests.wire.leaks import LEAST_BYTES, leaked
from x402jobs.adapters.clock import SystemClock
from x402jobs.devkit.claude_server import Call, ClaudeServer
from x402jobs.devkit.development_ledger import DevelopmentLedger, Transfer
from x402jobs.devkit.wallet import Wallet, sign
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.ports import Store
from x402jobs.services import Services
from x402jobs.services.iam import InternalKeys
from x402jobs.services.iam.pepper import Pepper
from x402jobs.settings import Settings
from x402jobs.stores import secret_box, store
from x402jobs.wiring import build_services, development_ledger

ROOT = Path(__file__).resolve().parents[2]
HEARTBEAT_SECONDS = 0.5
PLANTED_FILE = "planted.json"
"""Where a shop that has ended leaves what was planted in it, for tests/hostile/canaries.py."""
START_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """A whole response as it came: header names lower-cased, chunks as they were framed."""

    status: int
    headers: dict[str, str]
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return httpx.Response(self.status, content=self.body).json()


class Connection:
    """A caller's bare socket: nothing is read, sent or hidden that a test did not ask for."""

    def __init__(self, port: int, receive_buffer: int | None = None, tls: bool = False) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        if tls:
            self.socket = _any_certificate().wrap_socket(self.socket)
        self.port: int = self.socket.getsockname()[1]
        self.file = self.socket.makefile("rb")
        self.received = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[str, str]] = (),  # type: ignore[assignment]
        body: bytes | None = None,
    ) -> Self:
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return self

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers, once they are there. A header that comes twice fails."""
        status = int(self._line().split(b" ")[1])
        headers: dict[str, str] = {}
        while line := self._line().strip():
            name, _, value = line.decode("latin-1").partition(": ")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value
        return status, headers

    def chunk(self) -> bytes:
        """The next HTTP chunk; empty for the last."""
        size = int(self._line(), 16)
        data = self._take(size)
        assert self._take(2) == b"\r\n"
        return data

    def answer(self, method: str = "POST") -> Answer:
        """The whole response."""
        status, headers = self.head()
        if method == "HEAD" or status == 204:
            return Answer(status, headers, [])
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, list(iter(self.chunk, b"")))
        if "content-length" in headers:
            return Answer(status, headers, [self._take(int(headers["content-length"]))])
        return Answer(status, headers, [self._take(-1)])

    def rest(self) -> bytes:
        """What is left of a chunked body."""
        return b"".join(iter(self.chunk, b""))

    def remains(self) -> bytes:
        """Everything that still comes before the connection ends, well or badly."""
        received = bytearray()
        with suppress(ConnectionResetError):
            while data := self.file.read1():
                received += data
        return bytes(received)

    def leave(self) -> None:
        """Hang up as programs do: FIN."""
        self.file.close()
        self.socket.close()

    def reset(self) -> None:
        """Hang up as a crash does: RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.leave()

    def _line(self) -> bytes:
        line = self.file.readline()
        self.received += line
        assert line.endswith(b"\r\n"), f"the connection ended in {line!r}"
        return line

    def _take(self, size: int) -> bytes:
        data = self.file.read(size)
        self.received += data
        assert size < 0 or len(data) == size, f"the connection ended after {len(data)} of {size}"
        return data


@dataclass
class Server:
    """A running shop: creator `ada`, her templates, and everything that can be asked about them.

    Rows, transfers and calls are those since the test began; the wallet is the test's own.
    """

    port: int
    pid: int
    log: Path
    settings: Settings
    beneath: Beneath
    store: Store
    services: Services
    ledger: DevelopmentLedger
    claude: ClaudeServer
    ada: str
    wallet: Wallet
    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    first_transfer: int = 0
    planted: dict[str, str] = field(default_factory=dict)
    """What its log must not have in it when it ends, by name."""

    path = "/@ada/haiku"
    free = "/@ada/gift"

    @property
    def url(self) -> str:
        return self.settings.public_url

    def visit(self, wallet: Wallet) -> "Server":
        """The same server for another test."""
        self.claude.script()
        self.claude.forget()
        return replace(
            self,
            wallet=wallet,
            known=frozenset(
                row["id"] for row in self.beneath.sql("SELECT id FROM x402_executions")
            ),
            first_transfer=len(self.ledger.transfers()),
        )

    def publish(self, slug: str, **changes: Any) -> str:
        """Put a template on ada's shelf; its path."""
        template = {
            "name": slug,
            "price": PRICE,
            "system_prompt": SYSTEM_PROMPT,
            "parameters": [{"name": "topic"}],
        } | changes
        self.services.resources.publish(self.ada, TemplateDraft(slug=slug, **template))
        return f"/@ada/{slug}"

    def token(self, username: str = "ada") -> str:
        """A good bearer token; the user is made when missing."""
        token = self.beneath.token(self.store.catalogue.add_user(username))
        return self._planted("token", token)

    def internal_key(self, user_id: str) -> str:
        """The key by which a trusted service speaks for this account."""
        identities, box = self.store.identities, secret_box(self.settings)
        keys = InternalKeys(identities, Pepper(identities, box), box, SystemClock())
        return self._planted("internal key", keys.get_or_create(user_id, "tools")[1].reveal())

    def owner_test(self) -> dict[str, str]:
        return {"X-OWNER-TEST": "true", "Authorization": f"Bearer {self.token()}"}

    def payment(self, path: str = path) -> dict[str, str]:
        """The headers of a fresh payment."""
        if path not in self.quotes:
            reply = self.post({}, path=path)
            assert reply.status_code == 402, reply.text
            self.quotes[path] = decoded(reply.headers["PAYMENT-REQUIRED"])
        payment = sign(self.wallet, self.quotes[path])
        self._planted("signature of a payment", decoded(payment)["payload"]["signature"])
        return {"PAYMENT-SIGNATURE": payment}

    def _planted(self, what: str, secret: str) -> str:
        self.planted[f"{what} {len(self.planted)}"] = secret
        return secret

    def post(
        self, values: Any = RAIN, headers: Mapping[str, str] = {}, path: str = path
    ) -> httpx.Response:
        """The whole reply to a POST."""
        with self.http() as client:
            return client.post(path, json=values, headers=dict(headers))

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=30)

    def dial(self, receive_buffer: int | None = None) -> Connection:
        return Connection(self.port, receive_buffer, tls=self.url.startswith("https:"))

    def ask(
        self,
        headers: Mapping[str, str] | list[tuple[str, str]],
        body: bytes | None = b'{"topic":"rain"}',
        *,
        method: str = "POST",
        path: str = path,
    ) -> Answer:
        """The whole answer, and how it was framed."""
        with self.dial() as connection:
            return connection.send(method, path, headers, body).answer(method)

    def rows(self) -> list[dict[str, Any]]:
        """The ledger's rows, oldest first."""
        rows = self.beneath.sql("SELECT * FROM x402_executions ORDER BY created_at, id")
        return [row for row in rows if row["id"] not in self.known]

    def states(self) -> list[str]:
        return [row["state"] for row in self.rows()]

    def transfers(self) -> list[Transfer]:
        return self.ledger.transfers()[self.first_transfer :]

    def balance(self) -> int:
        """What the wallet has, in micro-dollars."""
        return self.ledger.balance(self.wallet.address)

    def call(self) -> Call:
        """The one call that Claude received, once it has."""
        (call,) = eventually(lambda: self.claude.calls)
        return call


@contextmanager
def serving(
    directory: Path,
    url: str | None = None,
    app: str = "wsgi:app",
    postgres: Postgres | None = None,
    **environment: str,
) -> Iterator[Server]:
    """Start a shop over a Claude of its own; end it, and every process of it, afterwards.

    What it has written down at DEBUG until then has no secret in it.
    `url` is where its callers find it, when something stands in front of it; `app` what gunicorn
    imports; `postgres` where a Supabase project is made for it, which else has the embedded store.
    """
    with ExitStack() as stack:
        claude = stack.enter_context(ClaudeServer(delta_ms=0))
        url = url or f"http://127.0.0.1:{free_port()}"
        port = int(url.rpartition(":")[2])
        under = stack.enter_context(beneath(directory / "data", postgres))
        settings = replace(
            Settings(), data=directory / "data", claude_url=claude.url, public_url=url
        )
        settings = under.told(settings)
        services = build_services(settings)
        stack.callback(services.close)
        ours = store(settings)
        stack.callback(ours.database.close)
        ada = ours.catalogue.add_user("ada")
        services.integrations.save_claude_config(ada, Secret(CREATOR_KEY))
        services.integrations.save_pay_to(ada, PAY_TO)
        ledger = development_ledger(settings.data)
        stack.callback(ledger.close)
        log, planted = directory / "server.log", _planted(under.environment | environment)
        stack.callback(check_log, log, planted)
        pid = stack.enter_context(
            _process(
                app,
                log,
                {
                    "X402JOBS_DATA": str(settings.data),
                    "X402JOBS_BIND": f"127.0.0.1:{port}",
                    "PUBLIC_URL": url,
                    "CLAUDE_URL": claude.url,
                    "HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
                    "PAYER_CALLS_AT_ONCE": "20",  # a test's one wallet may be a crowd's
                    "LOG_LEVEL": "DEBUG",
                    **under.environment,
                    **environment,
                },
            )
        )
        server = Server(
            port=port,
            pid=pid,
            log=log,
            settings=settings,
            beneath=under,
            store=ours,
            services=services,
            ledger=ledger,
            claude=claude,
            ada=ada,
            wallet=Wallet.open(directory / "wallet.key"),
            planted=planted,
        )
        server.publish("haiku", name="Haiku")
        server.publish("gift", name="Gift", price=0)
        if not eventually(lambda: _answers(url), START_SECONDS):
            pytest.fail(f"gunicorn did not start:\n{log.read_text()}")
        yield server


def check_log(log: Path, planted: Mapping[str, str]) -> None:
    """Nothing planted is in it, in whatever form. The report names the secret, and not its text."""
    log.with_name(PLANTED_FILE).write_text(json.dumps(planted))
    assert leaked(planted, log.read_bytes() if log.exists() else b"") == []


def _planted(environment: Mapping[str, str]) -> dict[str, str]:
    """What every shop has: its creator's key, her prompt, and the secrets among its settings."""
    named = {
        name: value
        for name, value in environment.items()
        if name.endswith(("_KEY", "_KEYS", "_TOKEN", "_SECRET")) and len(value) >= LEAST_BYTES
    }
    return {"creator's key": CREATOR_KEY, "prompt": SYSTEM_PROMPT.partition(" Topic")[0]} | named


@contextmanager
def _process(app: str, log: Path, environment: Mapping[str, str]) -> Iterator[int]:
    ours = (
        *("ANTHROPIC_", "X402JOBS_", "CLAUDE_", "GUNICORN_", "LOG_LEVEL", "ENV"),
        *("FRONTEND_", "SUPABASE_", "TASKS_", "TRUSTED_", "PUBLIC_URL"),
        *("LIMIT_", "PAYER_", "REDIS_", "SETTLEMENTS_"),
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", app],
            cwd=ROOT,
            # What a killed one leaves behind lies with the rest of its test.
            env={
                **inherited,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(log.parent),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that master and worker can be ended together
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _answers(url: str) -> bool:
    try:
        reply = httpx.get(f"{url}/healthz", trust_env=False, verify=_any_certificate())
        return reply.status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def postgres() -> Postgres | None:
    """None: these shops have the embedded store. tests/supabase/wire brings a server."""
    return None


@pytest.fixture(scope="session")
def running(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None
) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("wire"), postgres=postgres) as server:
        yield server


_visitors = itertools.count()


@pytest.fixture
def server(running: Server) -> Server:
    """The one running shop, met with a new wallet, nothing scripted and nothing remembered."""
    wallet = running.settings.data.parent / f"visitor-{next(_visitors)}.key"
    return running.visit(Wallet.open(wallet))
