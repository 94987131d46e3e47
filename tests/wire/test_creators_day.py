"""A creator's whole day by HTTP alone, from an empty directory to a slug used again."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.beneath import beneath
from tests.cli.serving import served
from tests.conftest import decoded
from tests.supabase.postgres import Postgres
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.wallet import Wallet, paying_session, sign
from x402jobs.wiring import development_ledger

pytestmark = pytest.mark.wire

KEY = "sk-ant-planted-key-of-the-day"
PROMPT = "Planted prompt words. A haiku about {topic}{/topic}."
ADDRESS = "0x00000000000000000000000000000000000AdA00"
RAIN = {"topic": "rain"}


@dataclass
class Creator:
    """Who has an account and a token, and nothing else yet."""

    url: str
    session: requests.Session

    def ask(self, method: str, door: str, send: Any = None, status: int = 200) -> Any:
        reply = self.session.request(method, self.url + door, json=send, timeout=20)
        assert reply.status_code == status, reply.text
        return reply.json() if reply.content else None


@pytest.fixture
def creator(tmp_path: Path, claude: ClaudeServer, postgres: Postgres | None) -> Iterator[Creator]:
    with (
        beneath(tmp_path / "data", postgres) as store,
        served(tmp_path, claude, **store.environment) as url,
        requests.Session() as session,
    ):
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {store.token(str(uuid.uuid4()))}"
        yield Creator(url, session)


def test_a_creators_whole_day(creator: Creator, claude: ClaudeServer, tmp_path: Path) -> None:
    ask, stranger = creator.ask, Wallet.open(tmp_path / "stranger.key")
    haiku = {
        "name": "Haiku",
        "priceUsdc": "0.01",
        "systemPrompt": PROMPT,
        "parameters": [{"name": "topic"}],
    }

    # Connect. A template needs a name to stand under.
    assert "/user/profile" in ask("POST", "/resources", haiku, status=400)["error"]
    assert ask("PUT", "/user/profile", {"username": "ada"})["username"] == "ada"
    assert ask("PUT", "/integrations/claude/config?verify=true", {"apiKey": KEY})["isEnabled"]
    assert ask("PUT", "/integrations/wallet/config", {"baseAddress": ADDRESS.lower()}) == {
        "baseAddress": ADDRESS
    }

    # Publish, look at it, try it.
    added = ask("POST", "/resources", haiku, status=201)
    door, template = f"{creator.url}/@ada/haiku", f"/resources/{added['id']}"
    assert (added["url"], added["systemPrompt"]) == (door, PROMPT)
    assert "about rain." in ask("POST", f"{template}/preview", RAIN)["systemPrompt"]
    asked_so_far = len(claude.calls)
    headers = {"X-OWNER-TEST": "true"}
    tested = ending(creator.session.post(door, json=RAIN, headers=headers, timeout=20))
    assert (tested["type"], "receipt" in tested) == ("done", False)
    assert claude.calls[asked_so_far]["key"] == KEY

    # A stranger finds it and buys; the creator sees it in the books, and in the purse.
    shelf = get(f"{creator.url}/api/v1/resources").json()["resources"]
    assert [each["url"] for each in shelf] == [door]
    sold = ending(buy(stranger, door))
    assert sold["receipt"]["paidUsdc"] == "0.01"
    usage = ask("GET", f"{template}/usage")
    sums = [usage["totals"][name] for name in ("calls", "completed", "tests", "revenueUsdc")]
    assert sums == [1, 1, 1, "0.01"]
    assert usage["executions"][0]["transaction"] == sold["receipt"]["transaction"]
    assert purse(tmp_path, ADDRESS) == 100_010_000

    # Edit; then a dearer price, for which a payment of before is worth a fresh quote.
    assert ask("PATCH", template, {"description": "Three lines."})["priceUsdc"] == "0.01"
    old_payment = {"PAYMENT-SIGNATURE": sign(stranger, quote(post(door)))}
    assert ask("PATCH", template, {"priceUsdc": "0.02"})["priceUsdc"] == "0.02"
    assert quote(post(door, old_payment))["accepts"][0]["amount"] == "20000"
    assert purse(tmp_path, ADDRESS) == 100_010_000

    # Shut the shop: nobody is asked to pay. Open it again.
    assert not ask("PUT", "/integrations/claude/config", {"isEnabled": False})["isEnabled"]
    shut = post(door)
    assert (shut.status_code, shut.json()["code"]) == (503, "TEMPLATE_UNAVAILABLE")
    assert "PAYMENT-REQUIRED" not in shut.headers
    assert ask("PUT", "/integrations/claude/config", {"isEnabled": True})["isEnabled"]
    assert ending(buy(stranger, door))["receipt"]["paidUsdc"] == "0.02"

    # Take it away, and put another in its place.
    ask("DELETE", template, status=204)
    assert post(door).status_code == 404
    again = ask("POST", "/resources", haiku | {"priceUsdc": "0"}, status=201)
    assert (again["slug"], again["id"] != added["id"]) == ("haiku", True)
    assert ask("GET", f"/resources/{again['id']}/usage")["totals"]["calls"] == 0
    assert ending(post(door))["type"] == "done"
    assert purse(tmp_path, ADDRESS) == 100_030_000


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=20)


def post(door: str, headers: dict[str, str] | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(door, json=RAIN, headers=headers, timeout=20)


def buy(wallet: Wallet, door: str) -> requests.Response:
    with paying_session(wallet, Decimal(1)) as session:
        session.trust_env = False
        return session.post(door, json=RAIN, timeout=20)


def ending(reply: requests.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return json.loads(reply.text.rstrip().rpartition("data: ")[2])


def quote(reply: requests.Response) -> Any:
    assert reply.status_code == 402, reply.text
    return decoded(reply.headers["PAYMENT-REQUIRED"])


def purse(directory: Path, address: str) -> int:
    ledger = development_ledger(directory / "data")
    try:
        return ledger.balance(address)
    finally:
        ledger.close()
