"""A creator's whole day by the command alone, from an empty directory to a slug used again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.cli.conftest import Command
from tests.cli.serving import served
from tests.conftest import decoded
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.wallet import Wallet, sign

KEY = "sk-ant-planted-key-of-the-day"
PROMPT = "Planted prompt words. A haiku about {topic}{/topic}, {mood}{/mood}.\n"
ADDRESS = "0x00000000000000000000000000000000000AdA00"

HAIKU = """\
name = "Haiku"
description = "A haiku about a topic of your choice."
priceUsdc = "0.01"
systemPromptFile = "haiku.txt"
maxTokens = 512

[[parameters]]
name = "topic"

[[parameters]]
name = "mood"
required = false
default = "calm"
"""


def test_a_creators_whole_day(shell: Command, claude: ClaudeServer, tmp_path: Path) -> None:
    (tmp_path / "haiku.toml").write_text(HAIKU)
    (tmp_path / "haiku.txt").write_text(PROMPT)
    told: list[str] = []

    def x402jobs(*arguments: str, code: int = 0, **more: Any) -> str:
        ended = shell(*arguments, X402JOBS_DATA="data", **more)
        assert ended.returncode == code, (arguments, ended.stderr)
        told.append(ended.stdout + ended.stderr)
        return ended.stdout if code == 0 else ended.stderr

    x402jobs("user", "add", "ada")
    with served(tmp_path, claude) as url:
        who = {"X402JOBS_URL": url, "X402JOBS_TOKEN": x402jobs("token", "ada").strip()}

        def ada(*arguments: str, **more: Any) -> Any:
            said = x402jobs(*arguments, **who, **more)
            return json.loads(said) if said.startswith("{") else said

        # Connect.
        keyed = ada("integrations", "claude", "set", "--verify", input=f"{KEY}\n")
        paid_at = ada("integrations", "wallet", "set", ADDRESS)
        assert (keyed["hasApiKey"], paid_at["baseAddress"]) == (True, ADDRESS)

        # Publish, look at it, try it.
        added = ada("template", "add", "haiku.toml")
        door = f"{url}/@ada/haiku"
        assert (added["url"], added["priceUsdc"], added["systemPrompt"]) == (door, "0.01", PROMPT)
        preview = ada("template", "preview", "haiku", "-p", "topic=rain")
        assert "A haiku about rain, calm." in preview["systemPrompt"]
        asked_so_far = len(claude.calls)
        last = events(x402jobs("call", door, "-p", "topic=rain", "--owner-test", **who))[-1]
        assert (last["type"], "receipt" in last) == ("done", False)
        assert claude.calls[asked_so_far]["key"] == KEY

        # A stranger buys; the creator sees it in the books, and in the purse.
        stranger = ("-p", "topic=rain", "--wallet", "stranger.key")
        sold = events(x402jobs("call", door, *stranger))[-1]
        assert sold["receipt"]["paidUsdc"] == "0.01"
        usage = ada("usage", "haiku")
        assert usage["totals"] | {"inputTokens": 0, "outputTokens": 0} == {
            **dict.fromkeys(("failed", "inputTokens", "outputTokens"), 0),
            **dict.fromkeys(("calls", "completed", "tests"), 1),
            **{"revenueUsdc": "0.01", "refundsDueUsdc": "0.00"},
        }
        assert usage["executions"][0]["transaction"] == sold["receipt"]["transaction"]
        assert purse(x402jobs, ADDRESS) == 100_010_000

        # Edit; then a dearer price, for which a payment of before is worth a fresh quote.
        edited = ada("template", "edit", "haiku", "--description", "Three lines.")
        assert (edited["description"], edited["priceUsdc"]) == ("Three lines.", "0.01")
        old_payment = sign(Wallet.open(tmp_path / "stranger.key"), quote(post(door)))
        assert ada("template", "edit", "haiku", "--price", "0.02")["priceUsdc"] == "0.02"
        told_anew = post(door, {"PAYMENT-SIGNATURE": old_payment})
        assert quote(told_anew)["accepts"][0]["amount"] == "20000"
        assert purse(x402jobs, ADDRESS) == 100_010_000
        assert "cap of 0.01 " in x402jobs("call", door, *stranger, "--max-usd", "0.01", code=3)

        # Shut the shop: nobody is asked to pay. Open it again.
        assert ada("integrations", "claude", "off")["isEnabled"] is False
        shut = post(door)
        assert (shut.status_code, shut.json()["code"]) == (503, "TEMPLATE_UNAVAILABLE")
        assert "PAYMENT-REQUIRED" not in shut.headers
        assert "TEMPLATE_UNAVAILABLE" in x402jobs("call", door, *stranger, code=5)
        assert ada("integrations", "claude", "on")["isEnabled"] is True
        assert events(x402jobs("call", door, *stranger))[-1]["receipt"]["paidUsdc"] == "0.02"

        # Take it away, and put another in its place.
        ada("template", "rm", "haiku", "--yes")
        assert "NOT_FOUND" in x402jobs("call", door, *stranger, code=4)
        again = ada("template", "add", "--name", "Haiku", "--price", "0", "--prompt", "Hi.")
        assert (again["slug"], again["id"] != added["id"]) == ("haiku", True)
        assert ada("usage", "haiku")["totals"]["calls"] == 0
        assert events(x402jobs("call", door, "--wallet", "stranger.key"))[-1]["type"] == "done"
        assert purse(x402jobs, ADDRESS) == 100_030_000

        # As somebody of this machine, without a token.
        alone = x402jobs("template", "list", "--as", "ada", "--url", url)
        assert [each["slug"] for each in json.loads(alone)["resources"]] == ["haiku"]

    assert KEY not in "".join(told)
    holding = {
        each.name
        for each in tmp_path.rglob("*")
        if each.is_file() and (KEY.encode() in each.read_bytes())
    }
    assert holding == set()
    assert b"Planted prompt words" not in (tmp_path / "server.log").read_bytes()


def events(said: str) -> list[Any]:
    return [json.loads(line) for line in said.splitlines()]


def purse(x402jobs: Callable[..., str], address: str) -> int:
    return int(x402jobs("balance", address))


def post(door: str, headers: dict[str, str] | None = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(door, json={"topic": "rain"}, headers=headers, timeout=20)


def quote(reply: requests.Response) -> Any:
    assert reply.status_code == 402, reply.text
    return decoded(reply.headers["PAYMENT-REQUIRED"])
