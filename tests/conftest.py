"""The shop under test: the real thing over a temporary directory, with loopback peers."""

import base64
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.supabase import rig as supabase
from tests.supabase.rig import Rig
from tests.tools import missing, what_was_missing
from x402jobs.app import create_app
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.development_ledger import DevelopmentLedger
from x402jobs.devkit.wallet import Wallet, sign
from x402jobs.domain.networks import Networks
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.ports import Chain, Facilitator
from x402jobs.services import Services
from x402jobs.settings import Settings
from x402jobs.stores import catalogue, local_tokens, store
from x402jobs.wiring import build_services, development_ledger, money_of

RAIN = {"topic": "rain"}
PRICE = 10_000
PAY_TO = "0x00000000000000000000000000000000000AdA00"
CREATOR_KEY = "sk-ant-planted-creator-key"
SYSTEM_PROMPT = "You write haiku. Planted prompt words. Topic: {topic}{/topic}."


@dataclass
class Shop:
    """Creator `ada`, her template `haiku`, and everything that can be asked about them."""

    settings: Settings
    services: Services
    client: FlaskClient
    wallet: Wallet
    ledger: DevelopmentLedger
    claude: ClaudeServer
    ada: str

    url = "/@ada/haiku"

    def publish(self, **changes: Any) -> None:
        """Put ada's haiku template on the shelf, with changes."""
        template = {
            "name": "Haiku",
            "price": PRICE,
            "system_prompt": SYSTEM_PROMPT,
            "parameters": [{"name": "topic"}],
        } | changes
        self.services.resources.publish(self.ada, TemplateDraft(slug="haiku", **template))

    def token(self, username: str = "ada") -> str:
        """A good bearer token; the user is made when missing."""
        user_id = catalogue(self.settings).add_user(username)
        return local_tokens(self.settings).issue(user_id)

    def quote(self) -> dict[str, Any]:
        """The PAYMENT-REQUIRED document."""
        reply = self.client.post(self.url)
        assert reply.status_code == 402, reply.get_data(as_text=True)
        return decoded(reply.headers["PAYMENT-REQUIRED"])

    def payment(self) -> dict[str, str]:
        """The headers of a fresh payment at today's price."""
        return {"PAYMENT-SIGNATURE": sign(self.wallet, self.quote())}

    def buy(self, values: Any = RAIN, **headers: str) -> TestResponse:
        """Present a fresh payment with these values."""
        return self.client.post(self.url, json=values, headers=self.payment() | headers)

    def rows(self) -> list[dict[str, Any]]:
        """The ledger, oldest first."""
        return self.query("SELECT * FROM x402_executions ORDER BY rowid")

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Ask, or change, the store behind the product's back."""
        connection = sqlite3.connect(self.settings.data / "x402jobs.sqlite3")
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()


def decoded(header: str) -> Any:
    """The JSON in a base64 header."""
    return json.loads(base64.b64decode(header, validate=True))


def encoded(document: Any) -> str:
    """The base64 header of a JSON document."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def events(reply: TestResponse | bytes) -> list[dict[str, Any]]:
    """The events of a whole stream, its bytes checked against the default dialect."""
    body = reply if isinstance(reply, bytes) else reply.get_data()
    assert body.endswith(b"\n\n"), body[-80:]
    blocks = body.decode("ascii").split("\n\n")[:-1]
    assert all(block.startswith("data: ") or block == ": ping" for block in blocks)
    return [json.loads(block[6:]) for block in blocks if block != ": ping"]


def text_of(said: list[dict[str, Any]]) -> str:
    """The answer that text events make."""
    return "".join(event["content"] for event in said if event["type"] == "text")


def pytest_configure() -> None:
    """A run in the background is started deaf to Ctrl-C, and so would every child of it be.

    One that is told to end with SIGTERM ends what it has started, as after Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


LONGEST = (
    "battery/test_battery.py",
    "battery/test_supabase.py",
    "cli/test_demo.py",
    "contract/test_audit.py",
    "contract/test_tiles.py",
    "cli/test_creators_day.py",
    "supabase/test_operator.py",
    "test_simulator.py",
    "cli/test_call.py",
    "supabase/test_rotation.py",
    "blueprints/test_after_settlement.py",
    "wire/test_browser.py",
    "contract/test_ledger.py",
    "cli/test_ledger.py",
    "wire/test_attacks.py",
    "supabase/wire/test_task_door.py",
    "interop/test_paying.py",
    "chain/test_lies.py",
    "chain/test_judging.py",
)
"""The files that take longest, which must not be begun last: the run would end with one of them."""
ELSEWHERE = ("battery/", "interop/", "supabase/wire/", "wire/")
"""Where the product is another process's, in which no lines are counted: tracing what these tests
do themselves would cost half as much again, and show nothing.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they come; each process of a run says the same."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(_name(item), len(places)))
    for item in items:
        if _name(item).startswith(ELSEWHERE):
            item.add_marker("untraced")


def _name(item: pytest.Item) -> str:
    """The file's, below tests."""
    return item.path.relative_to(Path(__file__).parent).as_posix()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """What goes over the same lines thousands of times goes twice as fast untraced."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    ours, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(ours)
        threading.settrace(of_threads)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the developer's own shell decides a test."""
    for name in os.environ:
        ours = (
            "ANTHROPIC_",
            "CHAIN_",
            "CLAUDE_",
            "FACILITATOR_",
            "FRONTEND_",
            "INTEGRATION_",
            "LIMIT_",
            "PAYER_",
            "REDIS_",
            "SETTLEMENTS_",
            "SUPABASE_",
            "TASKS_",
            "TRUSTED_",
            "X402_",
            "X402JOBS_",
        )
        if name.startswith(ours) or name in ("LOG_LEVEL", "PUBLIC_URL", "ENV"):
            if name != "X402JOBS_REQUIRE_TOOLS":
                monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def certificates() -> Iterator[None]:
    """Loaded once, as a server does, and not for every shop: it takes 20 ms."""
    with pytest.MonkeyPatch.context() as patch:
        for package in (httpx, httpx2):
            patch.setattr(package, "create_ssl_context", cache(package.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """The one Supabase project of a run, or of each of its processes."""
    with supabase.rig() as running:
        yield running


@pytest.fixture(scope="session")
def claude_server() -> Iterator[ClaudeServer]:
    with ClaudeServer(delta_ms=0) as server:
        yield server


@pytest.fixture
def claude(claude_server: ClaudeServer) -> ClaudeServer:
    """The stand-in Claude, with nothing scripted and nothing remembered."""
    claude_server.script()
    claude_server.forget()
    return claude_server


@pytest.fixture
def settings(tmp_path: Path, claude: ClaudeServer) -> Settings:
    return replace(
        Settings(),
        data=tmp_path / "data",
        claude_url=claude.url,
        first_content_seconds=4.0,
        idle_seconds=2.0,
        heartbeat_seconds=0.5,
    )


@pytest.fixture
def facilitator() -> Facilitator | None:
    """The development ledger's own, unless a directory of tests brings another."""
    return None


@pytest.fixture
def networks() -> Networks | None:
    """The development network alone, unless a module of tests brings more."""
    return None


@pytest.fixture
def chain() -> Chain | None:
    """The development ledger, unless a module of tests brings another."""
    return None


@pytest.fixture
def shop(
    settings: Settings,
    claude: ClaudeServer,
    tmp_path: Path,
    facilitator: Facilitator | None,
    networks: Networks | None,
    chain: Chain | None,
) -> Iterator[Shop]:
    """The product in process: only the server in front is Flask's test client."""
    money = money_of(settings)
    money = replace(
        money,
        facilitator=facilitator or money.facilitator,
        networks=networks or money.networks,
        chain=chain or money.chain,
    )
    services = build_services(settings, money)
    books = store(settings)
    ada = books.catalogue.add_user("ada")
    books.database.close()
    services.integrations.save_claude_config(ada, Secret(CREATOR_KEY))
    services.integrations.save_pay_to(ada, PAY_TO)
    app = create_app(settings, services)
    shop = Shop(
        settings=settings,
        services=services,
        client=app.test_client(),
        wallet=Wallet.open(tmp_path / "wallet.key"),
        ledger=development_ledger(settings.data),
        claude=claude,
        ada=ada,
    )
    shop.publish()
    yield shop
    shop.ledger.close()
    services.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The very last line of a run says which tools were missing, and what was not run for it.

    One process of several tells the first one, which prints it.
    """
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["missing"] = {tool: sorted(tests) for tool, tests in missing.items()}
    yield
    if told is None and (line := what_was_missing()):
        print(f"\n{line}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What another process of this run has looked for in vain; nothing from one that died."""
    for tool, tests in getattr(node, "workeroutput", {}).get("missing", {}).items():
        missing.setdefault(tool, set()).update(tests)
