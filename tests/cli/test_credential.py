"""Whom a creator's token is sent to, and whom not."""

from pathlib import Path

import click
import pytest
import requests

from tests.cli.conftest import Command
from tests.cli.listener import listening
from x402jobs.cli.credential import signed_in
from x402jobs.devkit.demo import Demo

TOKEN = "planted-token"


def test_a_token_goes_to_the_shop(x402jobs: Command) -> None:
    with listening(200, {}, b'{"id":"1","username":null}') as shop:
        asked = x402jobs("profile", "--url", shop.url, X402JOBS_TOKEN=f"{TOKEN}\n")

    assert (asked.returncode, len(shop.heard)) == (0, 1)
    assert f"Authorization: Bearer {TOKEN}\n" in shop.heard[0]


def test_what_netrc_has_for_the_host_does_not_take_the_tokens_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine shop.example login ada password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("X402JOBS_TOKEN", TOKEN)
    url = "https://shop.example"

    with click.Context(click.Command("profile")), signed_in(url, None, tmp_path) as session:
        sent = session.prepare_request(requests.Request("GET", url))

    assert sent.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_nothing_with_it(x402jobs: Command, status: int) -> None:
    with (
        listening(200, {}, b'{"hasApiKey":true}') as elsewhere,
        listening(status, {"Location": f"{elsewhere.url}/x"}) as shop,
    ):
        refused = x402jobs(
            *("integrations", "claude", "set", "--url", shop.url),
            input="sk-planted",
            X402JOBS_TOKEN=TOKEN,
        )

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "redirects, and a token does not go along" in refused.stderr
    assert (len(shop.heard), elsewhere.heard) == (1, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://shop.example"], "Use https://shop.example"),
        (["--url", "http://127.0.0.1.shop.example:81"], "Use https://127.0.0.1.shop.example:81"),
        (["--url", "http://127.0.0.1@shop.example"], "a name or a password"),
        (["--url", "https://ada:planted@shop.example"], "a name or a password"),
        (["--url", "http://shop.example\\@127.0.0.1"], "http or https URL"),
        (["--url", "ftp://127.0.0.1"], "http or https URL"),
        (["--url", "127.0.0.1:4020"], "http or https URL"),
        (["--url", "https://shop.example/path"], "without a path"),
        (["--url", "https://shop.example/?a=b"], "without a path"),
        (["--url", "https://shop.example", "--as", "ada"], "set X402JOBS_TOKEN"),
    ],
)
def test_what_is_no_place_for_a_token_is_wrong_usage_and_nothing_is_sent(
    x402jobs: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    def no_connection(*_: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("socket.getaddrinfo", no_connection)

    refused = x402jobs("profile", *arguments, X402JOBS_TOKEN=TOKEN)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert TOKEN not in refused.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "add --as USER (and --data DIR). For any other shop, set X402JOBS_TOKEN"),
        ({"X402JOBS_TOKEN": " "}, "Who is asking?"),
        ({"X402JOBS_TOKEN": "two words"}, "X402JOBS_TOKEN does not hold a token."),
        ({"X402JOBS_TOKEN": "täken"}, "X402JOBS_TOKEN does not hold a token."),
        ({"X402JOBS_TOKEN": TOKEN, "X402JOBS_AS": "ada"}, "are both set; unset one of them."),
        ({"X402JOBS_AS": "ada"}, "There is no data directory .x402jobs; name the shop's"),
    ],
)
def test_without_a_credential_it_says_what_to_do(
    x402jobs: Command, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    with listening() as shop:
        refused = x402jobs("profile", "--url", shop.url, **variables)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert "two words" not in refused.stderr
    assert (shop.heard, list(tmp_path.iterdir())) == ([], [])


def test_a_user_nobody_knows_is_wrong_usage_with_the_mend(x402jobs: Command, shop: Demo) -> None:
    refused = x402jobs("profile", "--url", shop.url, "--data", str(shop.data), "--as", "nobody")

    assert refused.returncode == 2
    assert "To add one: x402jobs user add nobody" in refused.stderr


@pytest.mark.parametrize("directory", ["the shop's", "none"])
def test_where_accounts_are_supabases_the_command_signs_for_nobody(
    x402jobs: Command, shop: Demo, directory: str
) -> None:
    data = str(shop.data) if directory == "the shop's" else "none"

    refused = x402jobs(
        *("profile", "--url", shop.url, "--data", data, "--as", "ada"),
        SUPABASE_URL="https://ref.supabase.co",
        SUPABASE_SECRET_KEY="sb_secret_planted",
    )

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "accounts come from Supabase Auth" in refused.stderr
    assert "set X402JOBS_TOKEN to the access token." in refused.stderr


def test_as_on_the_command_line_comes_before_a_token(x402jobs: Command, shop: Demo) -> None:
    asked = x402jobs(
        *("profile", "--url", shop.url, "--data", str(shop.data), "--as", "ada"),
        X402JOBS_TOKEN=TOKEN,
    )

    assert (asked.returncode, shop.creator_id in asked.stdout) == (0, True), asked.stderr


def test_on_this_machine_no_proxy_is_asked(shell: Command, shop: Demo) -> None:
    asked = shell("profile", X402JOBS_URL=shop.url, X402JOBS_TOKEN=shop.creator_token)

    assert (asked.returncode, asked.stderr) == (0, "")
