"""What creators do from the command line, at the doors of a running shop."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cli.conftest import X402JOBS, Command, on_a_terminal
from tests.cli.listener import listening
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import Demo

KEY = "sk-ant-planted-key"
ADDRESS = "0x" + "ab" * 20
PROMPT = "Planted prompt words about {topic}{/topic}."

Knock = Callable[..., Any]
"""The door's own reply, asked for without the command."""


@pytest.fixture
def ada(x402jobs: Command, shop: Demo) -> Command:
    """The command, speaking for the demo's creator."""

    def run(*arguments: str, **changes: Any) -> Any:
        who = {"X402JOBS_URL": shop.url, "X402JOBS_TOKEN": shop.creator_token}
        return x402jobs(*arguments, **who | changes)

    return run


@pytest.fixture
def knock(shop: Demo) -> Knock:
    def ask(door: str, method: str = "GET", send: Any = None) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {shop.creator_token}"}
            reply = session.request(method, shop.url + door, json=send, headers=headers, timeout=20)
        return reply.json() if reply.content else None

    return ask


@pytest.fixture(autouse=True)
def as_it_was(knock: Knock, claude: ClaudeServer) -> Iterator[None]:
    """Whatever a test has put on the shelf or changed is put right again."""
    wallet = knock("/integrations/wallet/config")
    yield
    knock("/integrations/wallet/config", "PUT", wallet)
    knock("/integrations/claude/config", "PUT", {"apiKey": "sk-stand-in", "isEnabled": True})
    for each in knock("/resources?limit=100")["resources"]:
        if each["slug"] != "haiku":
            knock(f"/resources/{each['id']}", "DELETE")


@pytest.fixture
def poem(knock: Knock) -> Any:
    """A template of ada's to try things on."""
    return knock(
        "/resources",
        "POST",
        {
            "name": "Poem",
            "priceUsdc": "0.02",
            "systemPrompt": PROMPT,
            "parameters": [{"name": "topic"}],
        },
    )


def test_on_a_pipe_each_reply_is_the_doors_own_document(
    ada: Command, knock: Knock, poem: Any
) -> None:
    door = f"/resources/{poem['id']}"
    for arguments, said in (
        (["template", "list"], knock("/resources")),
        (
            ["template", "list", "--limit", "1", "--offset", "1"],
            knock("/resources?limit=1&offset=1"),
        ),
        (["template", "show", "poem"], poem),
        (["template", "show", poem["id"]], poem),
        (
            ["template", "preview", "poem", "-p", "topic=rain"],
            knock(f"{door}/preview", "POST", {"topic": "rain"}),
        ),
        (["usage", "poem", "--limit", "1"], knock(f"{door}/usage?limit=1")),
        (["integrations", "claude"], {"hasApiKey": True, "isEnabled": True}),
        (["integrations", "claude", "show", "--json"], {"hasApiKey": True, "isEnabled": True}),
        (["integrations", "wallet"], knock("/integrations/wallet/config")),
        (["profile"], knock("/auth/me")),
    ):
        asked = ada(*arguments)

        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout) == said
        assert len(asked.stdout.splitlines()) == 1


FILE = """\
name = "Poem of the day"
priceUsdc = "0.02"
systemPrompt = "About {topic}{/topic}."
maxTokens = 100
[[parameters]]
name = "topic"
description = "What it is about."
"""


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ([], "name", "Poem of the day"),
        ([], "slug", "poem-of-the-day"),
        (["--name", "Ode"], "slug", "ode"),
        (["--slug", "daily"], "slug", "daily"),
        (["--description", "One a day."], "description", "One a day."),
        (["--price", "0"], "priceUsdc", "0.00"),
        (["--network", "eip155:31337"], "network", "eip155:31337"),
        (["--prompt", "On {topic}{/topic}!"], "systemPrompt", "On {topic}{/topic}!"),
        (["--prompt-file", "p.txt"], "systemPrompt", "Of {topic}{/topic}\n"),
        (
            ["--parameter", "topic=rain"],
            "parameters",
            [{"name": "topic", "required": False, "default": "rain"}],
        ),
        (["--parameter", "topic"], "parameters", [{"name": "topic"}]),
        ([], "maxTokens", 100),
        (["--max-tokens", "8192"], "maxTokens", 8192),
        (["--model", "claude-opus-5-5"], "model", "claude-opus-5-5"),
        ([], "allowsUserMessage", False),
        (["--user-message"], "allowsUserMessage", True),
        (["--no-user-message"], "allowsUserMessage", False),
        ([], "isActive", True),
        (["--pause"], "isActive", False),
        (["--resume"], "isActive", True),
    ],
)
def test_a_flag_says_it_instead_of_the_file(
    ada: Command, tmp_path: Path, flags: list[str], field: str, value: Any
) -> None:
    (tmp_path / "poem.toml").write_text(FILE)
    (tmp_path / "p.txt").write_text("Of {topic}{/topic}\n")

    added = ada("template", "add", "poem.toml", *flags)

    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)[field] == value


def test_a_file_may_come_on_standard_input(ada: Command) -> None:
    added = ada("template", "add", "-", input=FILE)

    assert json.loads(added.stdout)["slug"] == "poem-of-the-day"


def test_flags_alone_are_enough_and_the_tags_become_parameters(ada: Command) -> None:
    added = ada("template", "add", "--name", "Two", "--price", "0.5", "--prompt", "{b}{/b}{a}{/a}")

    assert json.loads(added.stdout)["parameters"] == [{"name": "b"}, {"name": "a"}]
    assert "parameters made of the prompt's tags, each required: b, a." in added.stderr


def test_parameters_that_were_given_are_not_added_to(ada: Command) -> None:
    refused = ada("template", "add", "--name", "T", "--price", "0", "--prompt", "{a}{/a}{b}{/b}",
                  "--parameter", "a")  # fmt: skip

    assert refused.returncode == 4
    assert "Tags: a, b; parameters: a." in refused.stderr


def test_what_its_creator_should_know_is_on_standard_error(ada: Command) -> None:
    added = ada("template", "add", "--name", "T", "--price", "2", "--prompt", "Hi", "--pause")

    warnings = json.loads(added.stdout)["warnings"]
    assert len(warnings) >= 2
    assert added.stderr.splitlines() == [f"x402jobs: {warning}" for warning in warnings]


def test_an_edit_leaves_alone_what_it_does_not_name(ada: Command, knock: Knock, poem: Any) -> None:
    edited = ada("template", "edit", "poem", "--price", "0.03", "--slug", "verse")

    after = json.loads(edited.stdout)
    assert after == knock(f"/resources/{poem['id']}")
    changed = {name for name in after if after[name] != poem[name]}
    assert changed == {"priceUsdc", "slug", "url", "updatedAt"}


def test_a_template_that_was_shown_can_be_sent_back(
    ada: Command, knock: Knock, poem: Any, tmp_path: Path
) -> None:
    (tmp_path / "poem.json").write_text(ada("template", "show", "poem").stdout)

    edited = ada("template", "edit", "poem", "poem.json", "--description", "New")

    assert edited.returncode == 0, edited.stderr
    assert json.loads(edited.stdout)["description"] == "New"


def test_a_template_is_found_on_any_page(
    ada: Command, knock: Knock, poem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x402jobs.cli.template.MOST_IN_A_PAGE", 1)
    assert [each["slug"] for each in knock("/resources")["resources"]] == ["poem", "haiku"]

    assert json.loads(ada("template", "show", "haiku").stdout)["slug"] == "haiku"


def test_rm_wants_to_be_sure(ada: Command, knock: Knock, poem: Any) -> None:
    unsure = ada("template", "rm", "poem")
    after_that = knock("/resources")["pagination"]["total"]
    sure = ada("template", "rm", "poem", "--yes")

    assert (unsure.returncode, after_that) == (2, 2)
    assert "say --yes" in unsure.stderr
    assert (sure.returncode, sure.stdout) == (0, "")
    assert "its slug is free" in sure.stderr
    assert knock("/resources")["pagination"]["total"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["template", "show", "nope"], 4, "none of your templates is nope."),
        (["usage", "nope"], 4, "none of your templates is nope."),
        (["template", "add", "--name", "x"], 4, "priceUsdc: Missing data for required field."),
        (["template", "edit", "haiku", "--price", "0.0001"], 4, "priceUsdc: Must be a decimal"),
        (["template", "edit", "haiku", "--prompt", "{a}{/a}"], 4, "Tags: a; parameters: topic."),
        (["template", "edit", "haiku", "--slug", "Ü"], 4, "slug: Must be lower-case"),
        (["template", "add", "unknown.json"], 4, "planet: Unknown field."),
        (["template", "preview", "haiku"], 4, "Missing required parameter: topic"),
        (["template", "preview", "haiku", "--message", "hi"], 4, "does not accept user messages"),
        (["template", "list", "--limit", "101"], 4, "limit: Must be"),
        (["usage", "haiku", "--offset", "-1"], 4, "offset: Must be"),
        (["profile", "set", "bob"], 4, "You are called ada; a username is chosen once."),
        (["integrations", "wallet", "set", "0x12"], 4, "baseAddress: "),
        (["template", "add"], 2, "A FILE, or the flags"),
        (["template", "edit", "haiku"], 2, "A FILE, or the flags"),
        (["template", "add", "missing.toml"], 2, "missing.toml: No such file or directory."),
        (["template", "add", "float.toml"], 2, "a float is not money"),
        (["template", "add", "--prompt-file", "missing"], 2, "missing: No such file or directory."),
        (["template", "add", "--prompt-file", "p", "--prompt", "x"], 2, "are two prompts"),
        (["template", "preview", "haiku", "-p", "user_message=a", "--message", "b"], 2, "the same"),
        (["template", "preview", "haiku", "-p", "topic"], 2, "is not NAME=VALUE"),
        (["integrations", "claude", "rm"], 2, "say --yes"),
        (["integrations", "wallet", "rm"], 2, "say --yes"),
        (["integrations", "claude", "set"], 2, "Standard input holds no key."),
        (["integrations", "claude", "set", "--from-env"], 2, "ANTHROPIC_API_KEY holds no key."),
    ],
)
def test_what_cannot_be_is_a_sentence_and_an_exit_code(
    ada: Command, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "unknown.json").write_text(
        '{"name":"x","priceUsdc":"0","systemPrompt":"Hi","planet":"Mars"}'
    )
    (tmp_path / "float.toml").write_text("priceUsdc = 0.01")

    refused = ada(*arguments)

    assert (refused.returncode, refused.stdout) == (code, "")
    assert said in refused.stderr
    named = re.search(r"\([A-Z_]+, (field \w+, )?req_[0-9a-f]{24}\)", refused.stderr)
    assert bool(named) == (code == 4 and "none of your" not in said)


def test_a_taken_slug_is_refused_with_its_field(ada: Command, poem: Any) -> None:
    refused = ada("template", "edit", "poem", "--slug", "haiku")

    assert refused.returncode == 4
    assert "CONFLICT" in refused.stderr and "slug" in refused.stderr


def test_a_token_that_is_not_good_is_refused(ada: Command) -> None:
    refused = ada("template", "list", X402JOBS_TOKEN="no.good.token")

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "UNAUTHENTICATED" in refused.stderr
    assert "no.good.token" not in refused.stderr


def test_no_shop_there_is_one_sentence(ada: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"

        refused = ada("profile", "--url", f"http://{place}")

    assert refused.returncode == 1
    assert refused.stderr == f"x402jobs: There is no connection to {place}.\n"


@pytest.mark.parametrize("command", ["template list", "template show x", "usage x", "profile",
                                     "integrations claude", "integrations wallet"])  # fmt: skip
@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (200, b"<p>hello", 1, "is not an x402jobs shop."),
        (200, b"[]", 1, "is not an x402jobs shop."),
        (200, b'{"ok":true}', 1, "is not an x402jobs shop."),
        (204, b"", 1, "is not an x402jobs shop."),
        (304, b"", 1, "is not an x402jobs shop."),
        (404, b"<h1>Not here", 4, "The server answered with status 404."),
        (400, b'{"error":"Odd.","code":"X","field":"place"}', 4, "Odd. (X, field place)"),
        (400, b'{"error":"Odd \\u001b[2J.","field":1}', 4, "x402jobs: Odd [2J."),
        (429, b'{"error":"Slower.","code":"RATE_LIMIT"}', 5, "Slower. (RATE_LIMIT)"),
        (500, b"", 1, "The server answered with status 500."),
        (502, b'{"error":"Broke.","code":"NETWORK_ERROR"}', 5, "Broke."),
        (503, b'{"error":"Away.","code":"STORE_UNAVAILABLE"}', 5, "Away."),
    ],
)
def test_whatever_a_server_says_there_is_a_sentence_for_it(
    ada: Command, command: str, status: int, body: bytes, code: int, said: str
) -> None:
    with listening(status, {}, body) as stranger:
        refused = ada(*command.split(), "--url", stranger.url)

    assert (refused.returncode, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("flags", "typed", "variables"),
    [
        ([], KEY, {}),
        ([], f"{KEY}\n", {}),
        ([], f"{KEY}\r\n", {}),
        (["--from-env"], "", {"ANTHROPIC_API_KEY": KEY}),
        (["--verify"], KEY, {}),
    ],
)
def test_a_key_is_read_from_where_nobody_else_can_read_it(
    ada: Command, claude: ClaudeServer, shop: Demo, knock: Knock, flags: list[str], typed: str,
    variables: dict[str, str],
) -> None:  # fmt: skip
    stored = ada("integrations", "claude", "set", *flags, input=typed, **variables)
    ada("call", f"{shop.url}/@ada/haiku", "-p", "topic=rain", "--owner-test")

    assert json.loads(stored.stdout) == {"success": True, "hasApiKey": True, "isEnabled": True}
    assert KEY not in stored.stdout + stored.stderr
    assert {call["key"] for call in claude.calls} == {KEY}
    assert len(claude.calls) == 1 + ("--verify" in flags)
    assert KEY.encode() not in b"".join(
        each.read_bytes() for each in shop.data.rglob("*") if each.is_file()
    )


def test_a_key_typed_as_an_argument_is_neither_taken_nor_repeated(
    ada: Command, claude: ClaudeServer, knock: Knock
) -> None:
    for arguments in (["set", KEY], ["set", "--from-env", KEY], [KEY], ["show", "--verify", KEY]):
        refused = ada("integrations", "claude", *arguments)

        assert refused.returncode == 2
        assert KEY not in refused.stdout + refused.stderr


def test_a_key_that_claude_refuses_is_not_stored(
    ada: Command, claude: ClaudeServer, knock: Knock, shop: Demo
) -> None:
    claude.script({"status": 401})

    refused = ada("integrations", "claude", "set", "--verify", input=KEY)
    ada("call", f"{shop.url}/@ada/haiku", "-p", "topic=rain", "--owner-test")

    assert refused.returncode == 4
    assert "Claude does not accept this key. Nothing was stored." in refused.stderr
    assert KEY not in refused.stderr
    assert claude.calls[-1]["key"] == "sk-stand-in"


@pytest.mark.parametrize("key", ["two words", "schlüssel", "\x1b", "k" * 501])
def test_a_key_that_can_be_none_is_refused_without_repeating_it(ada: Command, key: str) -> None:
    refused = ada("integrations", "claude", "set", input=key)

    assert refused.returncode == 4
    assert "apiKey: Must be 1 to 500 visible ASCII characters." in refused.stderr
    assert key not in refused.stderr


def test_the_key_is_switched_off_and_on_and_removed(ada: Command, knock: Knock) -> None:
    said = [
        json.loads(ada("integrations", "claude", *verb).stdout)
        for verb in (["off"], ["on"], ["rm", "--yes"], ["rm", "--yes"])
    ]
    refused = ada("integrations", "claude", "on")

    assert [each["isEnabled"] for each in said] == [False, True, False, False]
    assert [each["hasApiKey"] for each in said] == [True, True, False, False]
    assert (refused.returncode, "apiKey is required" in refused.stderr) == (4, True)


def test_the_payout_address_is_stored_shown_and_removed(ada: Command) -> None:
    stored = ada("integrations", "wallet", "set", ADDRESS)
    shown = ada("integrations", "wallet", "show")
    removed = ada("integrations", "wallet", "rm", "--yes")

    address = json.loads(stored.stdout)["baseAddress"]
    assert address.lower() == ADDRESS
    assert json.loads(shown.stdout) == {"baseAddress": address}
    assert json.loads(removed.stdout) == {"baseAddress": None}


def test_a_username_is_chosen_once(ada: Command, x402jobs: Command, shop: Demo) -> None:
    from x402jobs.stores import local_tokens

    nameless = local_tokens(shop.settings).issue("7b1c8d9e-0000-4000-8000-000000000001")

    before = ada("profile", X402JOBS_TOKEN=nameless)
    taken = ada("profile", "set", "ada", X402JOBS_TOKEN=nameless)
    chosen = ada("profile", "set", "grace", X402JOBS_TOKEN=nameless)

    assert json.loads(before.stdout)["username"] is None
    assert (taken.returncode, "This username is taken." in taken.stderr) == (4, True)
    assert json.loads(chosen.stdout)["username"] == "grace"


def terminal(shop: Demo, *arguments: str, **answer: str) -> tuple[int, str]:
    return on_a_terminal(
        *(*X402JOBS, *arguments),
        X402JOBS_URL=shop.url,
        X402JOBS_TOKEN=shop.creator_token,
        **answer,
    )


def test_on_a_terminal_templates_are_a_table(shop: Demo, knock: Knock) -> None:
    knock("/resources", "POST", {"name": "雨の俳句" * 3, "slug": "rain", "priceUsdc": "1.25",
                                 "systemPrompt": "Hi", "isActive": False})  # fmt: skip

    code, output = terminal(shop, "template", "list", NO_COLOR="1")

    head, rain, haiku = output.splitlines()
    assert code == 0
    assert head.split() == ["slug", "price", "state", "name", "url"]
    assert rain.split()[:3] == ["rain", "1.25", "paused"]
    assert haiku.split() == ["haiku", "0.01", "active", "Haiku", f"{shop.url}/@ada/haiku"]
    # A Japanese character takes two columns of a terminal.
    assert rain.index("http") + 4 * 3 == haiku.index("http")


def test_a_table_says_when_there_is_more(shop: Demo, poem: Any) -> None:
    code, output = terminal(shop, "template", "list", "--limit", "1")

    assert code == 0
    assert output.splitlines()[-1] == "1 to 1 of 2; the next: --offset 1"


def test_on_a_terminal_a_template_is_shown_in_words(shop: Demo, poem: Any) -> None:
    code, output = terminal(shop, "template", "show", "poem", NO_COLOR="1")

    assert code == 0
    assert "price         0.02 USDC on eip155:31337\n" in output
    assert "parameters    topic\n" in output
    assert f"\n\n{PROMPT}\n" in output
    assert "\x1b" not in output


def test_what_a_terminal_would_obey_is_not_printed(shop: Demo, knock: Knock) -> None:
    knock("/resources", "POST", {"name": "T", "slug": "trap", "priceUsdc": "0",
                                 "description": "\x1b]0;title\x07here",
                                 "systemPrompt": "\x1b[2Jthere"})  # fmt: skip
    for command in (["show", "trap"], ["preview", "trap"]):
        code, output = terminal(shop, "template", *command, NO_COLOR="1")

        assert code == 0
        assert "\x1b" not in output and "[2Jthere" in output


def test_on_a_terminal_usage_is_sums_and_runs(
    shop: Demo, ada: Command, poem: Any, x402jobs: Command
) -> None:
    ada("call", poem["url"], "-p", "topic=rain", "--owner-test")
    x402jobs("call", poem["url"], "-p", "topic=rain", "--data", str(shop.data))

    code, output = terminal(shop, "usage", "poem", "--limit", "1", NO_COLOR="1")

    lines = output.splitlines()
    assert code == 0
    assert lines[0] == "calls        1: 1 completed, 0 failed"
    assert lines[1] == "your tests   1"
    assert lines[3] == "revenue      0.02 USDC"
    assert lines[6].split() == ["when", "kind", "state", "paid", "tokens", "ms", "code", "id"]
    assert lines[7].split()[1:4] == ["paid", "completed", "0.02"]
    assert lines[8] == "1 to 1 of 2; the next: --offset 1"


def test_json_on_a_terminal_when_asked_for(shop: Demo) -> None:
    code, output = terminal(shop, "integrations", "claude", "--json")

    assert (code, json.loads(output)) == (0, {"hasApiKey": True, "isEnabled": True})


def test_on_a_terminal_the_key_is_asked_for_and_not_echoed(
    shop: Demo, claude: ClaudeServer
) -> None:
    code, output = terminal(
        *(shop, "integrations", "claude", "set", "--verify"),
        question="Claude key: ",
        typed=f"{KEY}\n",
    )

    assert code == 0
    assert "stored" in output and KEY not in output
    assert [call["key"] for call in claude.calls] == [KEY]


def test_nobody_is_asked_for_a_key_that_could_not_be_sent(shop: Demo) -> None:
    command = ("integrations", "claude", "set", "--url", "http://shop.example")

    code, output = on_a_terminal(
        *X402JOBS, *command, question="Claude key: ", typed=f"{KEY}\n", X402JOBS_TOKEN="t"
    )

    assert (code, "in clear text" in output, "Claude key" in output) == (2, True, False)


@pytest.mark.parametrize(
    ("typed", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 2), ("\n", 1, 2), ("\x03", 130, 2)]
)
def test_on_a_terminal_rm_asks(
    shop: Demo, knock: Knock, poem: Any, typed: str, code: int, left: int
) -> None:
    ended, output = terminal(
        *(shop, "template", "rm", "poem"), question="for good? [y/N]: ", typed=typed
    )

    assert (ended, knock("/resources")["pagination"]["total"]) == (code, left), output


def test_help_says_what_the_exit_codes_say(x402jobs: Command) -> None:
    for noun in (["template"], ["usage"], ["integrations", "claude"], ["profile"]):
        assert "4  the shop has refused" in x402jobs(*noun, "--help").stdout
