"""Buying an answer from the command line: what is printed where, and what the exit code says."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import X402JOBS, Command, environment, on_a_terminal
from tests.cli.listener import listening
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import PRICE, Demo
from x402jobs.domain.secret import Secret
from x402jobs.domain.template_draft import TemplateDraft
from x402jobs.wiring import build_services

HAIKU = "Rain on the harbour –\na lamp, a “gull”, 雨\nand nobody home."


@pytest.fixture
def buy(shell: Command, shop: Demo, claude: ClaudeServer) -> Command:
    """`x402jobs call` of the demo's template, with the demo's wallet."""

    def run(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        topic = () if "-p" in arguments else ("-p", "topic=rain")
        return shell(
            "call", shop.template_url, *topic, "--data", str(shop.data), *arguments, **changes
        )

    return run


@pytest.fixture
def spent(shop: Demo) -> Callable[[], int]:
    """What the demo's wallet has paid since the test began."""
    before = shop.ledger.balance(shop.wallet.address)
    return lambda: before - shop.ledger.balance(shop.wallet.address)


def test_on_a_pipe_every_event_is_one_line_of_json(
    buy: Command, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    claude.script({"text": HAIKU, "deltaMs": 0})

    bought = buy()

    said = [json.loads(line) for line in bought.stdout.splitlines()]
    assert bought.returncode == 0
    assert "".join(event["content"] for event in said[:-1]) == HAIKU
    assert (said[-1]["type"], said[-1]["receipt"]["paidUsdc"]) == ("done", "0.01")
    assert spent() == PRICE


def test_the_receipt_is_on_standard_error(buy: Command, shop: Demo) -> None:
    bought = buy()

    receipt = json.loads(bought.stdout.splitlines()[-1])["receipt"]
    assert bought.stderr.splitlines() == [
        "paid         0.01 USDC of development money",
        "network      eip155:31337",
        f"transaction  {receipt['transaction']}",
        f"payer        {shop.wallet.address}",
    ]


def test_on_a_terminal_the_words_are_text(shop: Demo, claude: ClaudeServer) -> None:
    claude.script({"text": f"\x1b]0;title\x07{HAIKU}", "deltaMs": 0})

    code, output = on_a_terminal(
        *X402JOBS, "call", shop.template_url, "-p", "topic=rain", "--data", str(shop.data)
    )

    assert code == 0
    assert HAIKU + "\npaid         0.01 USDC of development money\n" in output
    assert "\x1b" not in output


def test_json_on_a_terminal_when_asked_for(shop: Demo, claude: ClaudeServer) -> None:
    code, output = on_a_terminal(
        *X402JOBS, "call", shop.template_url, "-p", "topic=rain", "--data", str(shop.data), "--json"
    )

    assert code == 0
    assert json.loads(output.splitlines()[0])["type"] == "text"


def test_the_words_come_while_claude_is_still_writing(shop: Demo, claude: ClaudeServer) -> None:
    claude.script({"text": "one two three", "stallSeconds": 1.5, "afterDeltas": 1, "deltaMs": 0})

    with buying(shop) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert claude.calls[0]["finishedAt"] is None
        rest = process.stdout.read()

    assert json.loads(first)["content"] == "one"
    assert json.loads(rest.splitlines()[-1])["type"] == "done"


def test_a_price_over_the_cap_is_not_paid(
    buy: Command, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    refused = buy("--max-usd", "0.009999")

    assert (refused.returncode, refused.stdout) == (3, "")
    assert "The price is 0.01 USDC, over the cap of 0.009999 (--max-usd)." in refused.stderr
    assert (spent(), claude.calls) == (0, [])


def test_a_price_at_the_cap_is_paid(buy: Command) -> None:
    assert buy("--max-usd", "0.01").returncode == 0


def test_a_bad_parameter_is_refused_with_its_name(
    buy: Command, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    refused = buy("-p", "topik=rain")

    assert (refused.returncode, refused.stdout) == (4, "")
    assert re.search(
        r"Unknown parameter: topik \(INVALID_REQUEST, req_[0-9a-f]{24}\)", refused.stderr
    )
    assert (spent(), claude.calls) == (0, [])


def test_a_message_reaches_the_template(buy: Command) -> None:
    refused = buy("--message", "hello")

    assert refused.returncode == 4
    assert "This template does not accept user messages" in refused.stderr


def test_an_owner_test_costs_nothing_and_touches_no_wallet(
    buy: Command, shop: Demo, claude: ClaudeServer, spent: Callable[[], int], tmp_path: Path
) -> None:
    claude.script({"text": HAIKU, "deltaMs": 0})

    tested = buy("--owner-test", "--as", "ada", "--wallet", str(tmp_path / "no.key"))

    said = [json.loads(line) for line in tested.stdout.splitlines()]
    assert (tested.returncode, tested.stderr) == (0, "Nothing was charged.\n")
    assert "".join(event["content"] for event in said[:-1]) == HAIKU
    assert "receipt" not in said[-1]
    assert (spent(), (tmp_path / "no.key").exists()) == (0, False)


@pytest.mark.parametrize(
    ("user", "said"),
    [("ada", "UNAUTHENTICATED"), ("bob", "FORBIDDEN")],
)
def test_an_owner_test_that_is_refused_is_not_paid_instead(
    x402jobs: Command,
    buy: Command,
    shop: Demo,
    claude: ClaudeServer,
    spent: Callable[[], int],
    user: str,
    said: str,
) -> None:
    x402jobs("user", "add", user, "--data", "elsewhere" if user == "ada" else str(shop.data))
    token = x402jobs("token", user, "--data", "elsewhere" if user == "ada" else str(shop.data))

    refused = buy("--owner-test", X402JOBS_TOKEN=token.stdout)

    assert (refused.returncode, refused.stdout) == (4, "")
    assert said in refused.stderr
    assert (spent(), claude.calls) == (0, [])


def test_who_pays_sends_no_token(x402jobs: Command) -> None:
    with listening(402) as stranger:
        x402jobs("call", stranger.url, X402JOBS_TOKEN="planted-token", X402JOBS_AS="ada")

    assert "planted-token" not in "".join(stranger.heard)
    assert "authorization" not in "".join(stranger.heard).lower()


def test_an_overloaded_claude_costs_nothing_and_may_be_asked_later(
    buy: Command, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    claude.script(*[{"status": 529}] * 3)

    refused = buy()

    assert (refused.returncode, refused.stdout) == (5, "")
    assert "Claude is currently overloaded. Please try again shortly. (OVERLOADED, req_" in (
        refused.stderr
    )
    assert (spent(), len(claude.calls)) == (0, 3)


def test_claudes_own_retry_after_is_passed_on(buy: Command, claude: ClaudeServer) -> None:
    claude.script({"status": 429, "headers": {"retry-after": "90"}})

    refused = buy()

    assert refused.returncode == 5
    assert "Try again in 90 s." in refused.stderr


def test_an_address_that_asks_for_one_reply_is_read_as_one(
    shell: Command, shop: Demo, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    claude.script({"text": "Rain taps."})

    bought = shell(
        *("call", f"{shop.template_url}?stream=false", "-p", "topic=rain"),
        *("--data", str(shop.data)),
    )

    assert bought.returncode == 0, bought.stderr
    assert json.loads(bought.stdout)["response"] == "Rain taps."
    assert "paid         0.01 USDC" in bought.stderr
    assert spent() == PRICE


def test_a_shop_without_a_key_is_shut(
    buy: Command, shop: Demo, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    integrations = build_services(shop.settings).integrations
    integrations.save_claude_config(shop.creator_id, Secret("sk-stand-in"), enabled=False)
    try:
        refused = buy()
    finally:
        integrations.save_claude_config(shop.creator_id, Secret("sk-stand-in"), enabled=True)

    assert refused.returncode == 5
    assert "TEMPLATE_UNAVAILABLE" in refused.stderr
    assert (spent(), claude.calls) == (0, [])


def test_a_creators_bad_key_is_nothing_to_try_again(
    buy: Command, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    claude.script({"status": 401})

    refused = buy()

    assert (refused.returncode, spent()) == (1, 0)
    assert "The creator's API key is invalid." in refused.stderr


def test_an_answer_cut_after_settlement_leaves_receipt_and_credit(
    buy: Command, claude: ClaudeServer, spent: Callable[[], int]
) -> None:
    claude.script({"text": HAIKU * 9, "errorEvent": "api_error", "afterDeltas": 20, "deltaMs": 0})

    bought = buy()

    last = json.loads(bought.stdout.splitlines()[-1])
    assert bought.returncode == 6
    assert (last["type"], last["credit"]["rerunsLeft"]) == ("error", 3)
    assert f"transaction  {last['receipt']['transaction']}" in bought.stderr
    assert "credit       0.01 USDC: 3 free re-runs" in bought.stderr
    assert spent() == PRICE


def test_an_empty_purse_is_not_paid_from(
    x402jobs: Command, shop: Demo, claude: ClaudeServer, tmp_path: Path
) -> None:
    services = build_services(shop.settings)
    villa = TemplateDraft(
        slug="villa", name="Villa", price=101_000_000, system_prompt="Describe a villa."
    )
    services.resources.publish(shop.creator_id, villa)

    refused = x402jobs(
        "call", f"{shop.url}/@ada/villa", "--max-usd", "200", "--wallet", "new.key", "--json"
    )

    assert (refused.returncode, refused.stdout) == (3, "")
    assert "PAYMENT_REQUIRED" in refused.stderr
    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
    assert claude.calls == []


def test_nobody_there_is_one_sentence(x402jobs: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        refused = x402jobs("call", f"http://127.0.0.1:{port}/@ada/haiku")

    assert refused.returncode == 1
    assert refused.stderr == f"x402jobs: There is no connection to 127.0.0.1:{port}.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://127.0.0.1/x"],
        ["http://[::1/x"],
        ["http://127.0.0.1:99999/x"],
        ["http://example.com\\@127.0.0.1/x"],
        ["/@ada/haiku"],
        ["http://127.0.0.1:1/x", "-p", "topic"],
        ["http://127.0.0.1:1/x", "-p", "=rain"],
        ["http://127.0.0.1:1/x", "-p", "topic=a", "-p", "topic=b"],
        ["http://127.0.0.1:1/x", "-p", "user_message=a", "--message", "b"],
        ["http://127.0.0.1:1/x", "--as", "ada"],
        ["http://127.0.0.1:1/x", "--owner-test"],
        ["http://127.0.0.1:1/x", "--owner-test", "--as", "nobody"],
        ["http://shop.example/x", "--owner-test", "--as", "ada"],
        ["http://127.0.0.1:1/x", "--max-usd", "-1"],
        ["http://127.0.0.1:1/x", "--max-usd", "1e3"],
        ["http://127.0.0.1:1/x", "--max-usd", "NaN"],
        ["http://127.0.0.1:1/x", "--max-usd", "0.0000001"],
        [],
    ],
)
def test_wrong_usage_is_two(x402jobs: Command, arguments: list[str]) -> None:
    refused = x402jobs("call", *arguments)

    assert (refused.returncode, refused.stdout) == (2, "")


def test_a_file_that_is_no_wallet_is_not_shown(x402jobs: Command, tmp_path: Path) -> None:
    (tmp_path / "odd.key").write_text("a planted secret\n")

    refused = x402jobs("call", "http://127.0.0.1:1/x", "--wallet", "odd.key")

    assert refused.returncode == 1
    assert "odd.key does not hold a private key" in refused.stderr
    assert "planted" not in refused.stderr


def test_ctrl_c_is_quiet(shop: Demo, claude: ClaudeServer) -> None:
    claude.script({"text": "one two three", "stallSeconds": 3, "afterDeltas": 1, "deltaMs": 0})

    with buying(shop) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


def test_a_reader_who_has_left_is_not_complained_to(shop: Demo, claude: ClaudeServer) -> None:
    claude.script({"text": "one two three four", "deltaMs": 200})

    with buying(shop) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.wait(10)
        assert process.stderr.read() == ""


@contextmanager
def buying(shop: Demo) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*X402JOBS, "call", shop.template_url, "-p", "topic=rain", "--data", str(shop.data)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


SSE = {"Content-Type": "text/event-stream"}
PAID = {
    # success, 0x1, n, p, 10000
    "PAYMENT-RESPONSE": "eyJzdWNjZXNzIjp0cnVlLCJ0cmFuc2FjdGlvbiI6IjB4MSIsIm5ldHdvcmsiOiJuIiwicGF5"
    "ZXIiOiJwIiwiYW1vdW50IjoiMTAwMDAifQ=="
}


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "said"),
    [
        (200, SSE, b'data: {"type":"text","content":"a"}\n\n', 1, "connection broke"),
        (200, SSE | PAID, b'data: {"type":"text","content":"a"}\n\n', 6, "transaction  0x1"),
        (200, SSE, b'data: {"type":"done"}\n\n', 0, "Nothing was charged."),
        (200, SSE, b'data: {"type":"error","recoverable":true}\n\n', 5, "connection broke"),
        (200, {"Content-Type": "text/html"}, b"<p>hello", 1, "not a stream"),
        (302, {"Location": "http://127.0.0.1:9/"}, b"", 1, "status 302"),
        (402, {}, b"pay me", 3, "no offer"),
        (409, {}, b'{"error":"Twice.","code":"CONFLICT"}', 4, "Twice. (CONFLICT)"),
        (409, {"Retry-After": "2"}, b'{"error":"W","code":"IN_PROGRESS"}', 6, "may have been"),
        (503, {"Retry-After": "5"}, b'{"error":"W","code":"SETTLEMENT_UNKNOWN"}', 6, "new one"),
        (502, {}, b'{"error":"Broke.","code":"NETWORK_ERROR"}', 5, "Broke."),
        (502, {}, b"<h1>Bad gateway", 1, "status 502"),
        (410, {}, b'{"error":"Gone.","receipt":{"paidUsdc":"0.01"}}', 6, "0.01 USDC"),
        (500, {}, b'{"error":"Execution failed","message":"Oh."}', 1, "Oh."),
        (400, {}, b'{"error":{"odd":1},"code":7}', 4, "status 400"),
        (503, {}, b'{"error":"No.","code":[],"receipt":"x","credit":1}', 5, "No."),
    ],
)
def test_every_ending_has_its_exit_code(
    x402jobs: Command, status: int, headers: dict[str, str], body: bytes, code: int, said: str
) -> None:
    with listening(status, headers, body) as stranger:
        ended = x402jobs("call", f"{stranger.url}/x")

    assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr
