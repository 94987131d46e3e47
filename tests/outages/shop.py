"""A shop under gunicorn, and everything it depends on, to be taken away and brought back."""

import json
import resource
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.chain.evm import Evm
from tests.chain.node import RpcNode
from tests.chain.node import Script as Answer
from tests.conftest import PAY_TO, RAIN, decoded, events, text_of
from tests.redis import RedisServer, redis_server
from tests.waiting import eventually
from tests.wire.conftest import Server, serving
from x402jobs.devkit.facilitator_server import Call, FacilitatorServer
from x402jobs.devkit.facilitator_server import Script as Fault
from x402jobs.devkit.wallet import sign
from x402jobs.wiring import audit

HURRIED = {
    "x402jobs.services.settlement.CONFIRM_SECONDS": 2,
    "x402jobs.services.settlement.LOOK_SECONDS": 0.2,
}
"""Only how long a caller waits for a chain that shows nothing: 2 s for 30."""
SILENCE = 60.0


class Facilitator(FacilitatorServer):
    """The chain's own facilitator, which answers as `fault` says while there is one."""

    def __init__(self, evm: Evm, node: RpcNode) -> None:
        super().__init__(evm.facilitator())
        self._one_at_a_time = node._lock  # py-evm has none
        self.fault: dict[str, Any] | None = None

    def receive(self, at: str, body: Any) -> tuple[Call, Fault, bytes]:
        if self.fault is None:
            return super().receive(at, body)
        fault = Fault(at, unheard=True, **self.fault)
        return Call(at=at, body=None, hungUp=False), fault, (fault.body or "").encode()

    def _answer(self, at: str, body: Any) -> dict[str, Any]:
        with self._one_at_a_time:
            return super()._answer(at, body)


@dataclass
class Shop:
    """What its callers, its operator and its peers see of it."""

    server: Server
    evm: Evm
    node: RpcNode
    facilitator: Facilitator
    redis: RedisServer
    http: httpx.Client
    quote: dict[str, Any]

    def payment(self) -> dict[str, str]:
        """The headers of a fresh payment."""
        signed = sign(self.server.wallet, self.quote, networks=[self.evm.network])
        return {"PAYMENT-SIGNATURE": signed}

    def told(self, payment: Mapping[str, str]) -> str:
        """How a call with this payment ends: "done", or a code."""
        reply = self.http.post(self.server.path, json=RAIN, headers=dict(payment))
        if reply.status_code == 200:
            last = events(reply.content)[-1]
            return str(last.get("code") or last["type"])
        assert reply.status_code != 503 or "Retry-After" in reply.headers, reply.headers
        return str(reply.json()["code"])

    def free(self) -> str:
        """How a call of the template that costs nothing ends, which only a limit is asked about."""
        reply = self.http.post(self.server.free, json=RAIN)
        return "done" if reply.status_code == 200 else str(reply.json()["code"])

    def answer(self, payment: Mapping[str, str]) -> str:
        """The text that this payment has bought."""
        reply = self.http.post(self.server.path, json=RAIN, headers=dict(payment))
        return text_of(events(reply.content)) if reply.status_code == 200 else ""

    def readiness(self) -> tuple[int, dict[str, Any]]:
        reply = self.http.get("/readyz")
        return reply.status_code, reply.json()["checks"]

    def names(self, check: str) -> str | None:
        """Why this check fails, and nothing where it does not."""
        reason = self.readiness()[1][check].get("reason")
        return str(reason) if reason else None

    def is_ready(self) -> bool:
        return self.readiness()[0] == 200

    def health(self) -> float:
        """Seconds until the process has said that it lives."""
        began = time.monotonic()
        assert self.http.get("/healthz").json() == {"status": "ok"}
        return time.monotonic() - began

    def paid(self) -> int:
        """All that the creator has, in micro-dollars."""
        with self.node._lock:
            return self.evm.balance(PAY_TO)

    def findings(self) -> list[str]:
        """What `x402jobs ledger check` finds."""
        found = audit(self.server.settings).check()
        return [f"{each.name}: {each.rows}" for each in found.broken]

    # Outages

    @contextmanager
    def facilitator_says(self, **fault: Any) -> Iterator[None]:
        self.facilitator.fault = fault
        try:
            yield
        finally:
            self.facilitator.fault = None

    @contextmanager
    def facilitator_gone(self) -> Iterator[None]:
        self.facilitator.stop()
        try:
            yield
        finally:
            self.facilitator.start()

    @contextmanager
    def node_says(self, **answer: Any) -> Iterator[None]:
        for method in ("eth_chainId", "eth_getBlockByNumber", "eth_call", "eth_getLogs"):
            self.node.script(method, Answer(**answer))
        try:
            yield
        finally:
            self.node.forget()

    @contextmanager
    def node_gone(self) -> Iterator[None]:
        self.node.stop()
        try:
            yield
        finally:
            self.node.start()

    @contextmanager
    def file_locked(self) -> Iterator[None]:
        """By another process: SQLite's locks are a process's, and the server is one."""
        file = self.server.settings.data / "x402jobs.sqlite3"
        with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as another:
            another.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """No file of the worker's can grow: to it that is a full disk."""
        (worker,) = _children(self.server.pid)
        limits = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, limits)

    @contextmanager
    def redis_gone(self) -> Iterator[None]:
        self.redis.stop()
        try:
            yield
        finally:
            self.redis.start()


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def open_shop(directory: Path, evm: Evm, **hurry: float) -> Iterator[Shop]:
    """A shop that sells over this chain."""
    with ExitStack() as stack:
        node = stack.enter_context(RpcNode(evm))
        facilitator = stack.enter_context(Facilitator(evm, node))
        redis = stack.enter_context(redis_server(directory / "redis"))
        server = stack.enter_context(
            serving(
                directory,
                app="tests.outages.wsgi:app",
                OUTAGES_NETWORK=json.dumps(asdict(evm.network)),
                OUTAGES_FACILITATOR=facilitator.url,
                OUTAGES_NODE=node.url,
                OUTAGES_HURRY=json.dumps(HURRIED | hurry),
                REDIS_URL=redis.url,
            )
        )
        http = stack.enter_context(
            httpx.Client(base_url=server.url, trust_env=False, timeout=SILENCE)
        )
        evm.mint(server.wallet.address)
        reply = eventually(lambda: _quoted(http, server), 30)
        assert reply is not None, server.log.read_text()[-2000:]
        quote = decoded(reply.headers["PAYMENT-REQUIRED"])
        shop = Shop(server, evm, node, facilitator, redis, http, quote)
        assert eventually(shop.is_ready, 30), shop.readiness()
        yield shop


def _quoted(http: httpx.Client, server: Server) -> httpx.Response | None:
    with suppress(httpx.TransportError):
        reply = http.post(server.path, json={})
        return reply if reply.status_code == 402 else None
    return None
