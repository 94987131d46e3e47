"""The demo as scripts and tests use it."""

import os
import socket
from pathlib import Path

import pytest
import requests

from tests.cli.conftest import environment
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import PRICE, SYSTEM_PROMPT, TREE, Demo, DemoError
from x402jobs.devkit.wallet import ONE_DOLLAR, paying_session
from x402jobs.domain.secret import Secret
from x402jobs.settings import SettingsError


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def buy(demo: Demo) -> str:
    with paying_session(demo.wallet, ONE_DOLLAR) as session:
        return session.post(demo.template_url, json={"topic": "rain"}, timeout=20).text


def test_what_it_serves_can_be_bought_and_tested_by_its_owner(tmp_path: Path) -> None:
    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        bought = buy(demo)
        headers = {"Authorization": f"Bearer {demo.creator_token}", "X-OWNER-TEST": "true"}
        tested = requests.post(
            demo.template_url, json={"topic": "sea"}, headers=headers, timeout=20
        )
        balances = [
            demo.ledger.balance(each.address) for each in (demo.wallet, demo.creator_wallet)
        ]
        assert demo.claude is not None
        asked = [call["body"]["system"] for call in demo.claude.calls]
        pid = demo.process.pid

    assert '"type":"done"' in bought and '"type":"done"' in tested.text
    assert balances == [100_000_000 - PRICE, 100_000_000 + PRICE]
    assert asked == [SYSTEM_PROMPT.replace("{topic}{/topic}", each) for each in ("rain", "sea")]
    assert gone(pid)


def ask(demo: Demo, method: str, door: str, **send: str) -> requests.Response:
    """What the creator is told at a door."""
    headers = {"Authorization": f"Bearer {demo.creator_token}"}
    return requests.request(method, demo.url + door, json=send or None, headers=headers, timeout=20)


def test_its_task_can_be_run_by_its_creator(tmp_path: Path) -> None:
    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        ran = ask(demo, "GET", demo.task_url.removeprefix(demo.url))
        tiles = ask(demo, "GET", "/api/tiles").json()["tiles"]
        assert demo.claude is not None
        (call,) = demo.claude.calls

    assert '"type":"done"' in ran.text
    places = [each["coords"].partition(",")[2] for each in tiles]
    assert places == ["0", "0:1", "0:1,0", "0:1,1", "0:1,2", "0:1,-1"]
    for _, title, content in TREE[:2]:
        assert title in call["body"]["messages"][0]["content"]
        assert content in call["body"]["messages"][0]["content"]


def test_what_its_creator_has_made_of_the_task_stays(tmp_path: Path) -> None:
    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        door = f"/api/tiles/{demo.task_coords}"
        ask(demo, "PATCH", door, title="Mine")
        ask(demo, "DELETE", f"{door},2")
        before = ask(demo, "GET", "/api/tiles").json()

    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        after = ask(demo, "GET", "/api/tiles").json()
        ask(demo, "DELETE", door)

    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        anew = ask(demo, "GET", "/api/tiles").json()

    assert after == before
    assert [each["title"] for each in before["tiles"]] == ["ada", "Mine", TREE[1][1], TREE[3][1]]
    assert {each["title"] for each in anew["tiles"]} == {"ada", *(title for _, title, _ in TREE)}


def test_the_same_data_is_used_again(tmp_path: Path) -> None:
    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        buy(demo)
        first = demo.wallet.address, demo.creator_wallet.address, demo.creator_id

    with Demo(tmp_path / "data", pace_ms=0, environ=environment()) as demo:
        buy(demo)
        second = demo.wallet.address, demo.creator_wallet.address, demo.creator_id
        paid = 100_000_000 - demo.ledger.balance(demo.wallet.address)

    assert first == second
    assert paid == 2 * PRICE


def test_with_a_key_it_asks_the_real_claude_with_that_key(tmp_path: Path) -> None:
    with ClaudeServer(delta_ms=0) as real:
        theirs = environment(CLAUDE_URL=real.url, ANTHROPIC_API_KEY="sk-mine", ANTHROPIC_LOG="info")
        with Demo(tmp_path / "data", claude_key=Secret("sk-mine"), environ=theirs) as demo:
            bought = buy(demo)
            assert demo.claude is None

    assert '"type":"done"' in bought
    assert [call["key"] for call in real.calls] == ["sk-mine"]


def test_a_taken_port_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(DemoError, match=f"port {port} cannot be used"):
            Demo(tmp_path / "data", port).__enter__()

    assert not (tmp_path / "data").exists()


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('planted fault')")

    with pytest.raises(DemoError, match="planted fault"):
        Demo(tmp_path / "data", environ=environment(PYTHONPATH=str(tmp_path))).__enter__()


def test_a_setting_that_cannot_be_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="HEARTBEAT_SECONDS"):
        Demo(tmp_path / "data", environ=environment(HEARTBEAT_SECONDS="no")).__enter__()
