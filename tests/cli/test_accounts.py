"""Users, tokens and balances of the embedded store, from the command line."""

import os
import time
from pathlib import Path

import jwt
import pytest

from tests.cli.conftest import Command
from x402jobs.devkit.development_ledger import GRANT

ADDRESS = "0x" + "Ab" * 20


def test_a_user_is_added_once(x402jobs: Command) -> None:
    first, second = x402jobs("user", "add", "ada"), x402jobs("user", "add", "ada")

    assert (first.returncode, second.returncode) == (0, 0)
    assert "has been added" in first.stdout
    assert "was there already" in second.stdout
    assert first.stdout.split()[-1] == second.stdout.split()[-1]


@pytest.mark.parametrize("name", ["ad", "a" * 21, "Ada", "ada lovelace", "ada-l", "ädä", ""])
def test_a_name_that_is_no_username_is_wrong_usage(x402jobs: Command, name: str) -> None:
    refused = x402jobs("user", "add", name)

    assert refused.returncode == 2
    assert "3 to 20 lower-case letters" in refused.stderr


def test_a_token_is_all_there_is_on_standard_output(shell: Command) -> None:
    added = shell("user", "add", "ada")

    issued = shell("token", "ada")

    claims = jwt.decode(issued.stdout.strip(), options={"verify_signature": False})
    assert claims["sub"] == added.stdout.split()[-1]
    assert claims["exp"] > time.time()
    assert (issued.returncode, issued.stderr, len(issued.stdout.splitlines())) == (0, "", 1)


def test_an_unknown_user_gets_no_token_but_the_command_that_makes_them(x402jobs: Command) -> None:
    refused = x402jobs("token", "nobody")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.endswith("x402jobs user add nobody\n")


SUPABASE = {"SUPABASE_URL": "https://ref.supabase.co", "SUPABASE_SECRET_KEY": "sb_secret_planted"}


@pytest.mark.parametrize("command", [("user", "add", "ada"), ("token", "ada")])
@pytest.mark.parametrize("are_there", [True, False])
def test_where_accounts_are_supabases_nobody_is_added_or_signed_for_here(
    x402jobs: Command, tmp_path: Path, command: tuple[str, ...], are_there: bool
) -> None:
    if are_there:  # from before the shop moved
        x402jobs("user", "add", "ada")
    before = list(tmp_path.iterdir())

    refused = x402jobs(*command, **SUPABASE)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "accounts come from Supabase Auth" in refused.stderr
    assert "set X402JOBS_TOKEN to the access token." in refused.stderr
    assert list(tmp_path.iterdir()) == before


def test_half_a_project_is_a_fault_and_not_the_embedded_store(
    x402jobs: Command, tmp_path: Path
) -> None:
    refused = x402jobs("user", "add", "ada", SUPABASE_SECRET_KEY="sb_secret_planted")

    assert refused.returncode == 1
    assert "SUPABASE_URL: SUPABASE_SECRET_KEY needs it" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_nobody_has_used_has_its_grant(x402jobs: Command) -> None:
    asked = x402jobs("balance", ADDRESS)

    assert (asked.returncode, asked.stdout) == (0, f"{GRANT}\n")


@pytest.mark.parametrize("address", ["0x12", "ada", ADDRESS[2:], ADDRESS + "0", "0x" + "g" * 40])
def test_what_is_no_address_has_no_balance(x402jobs: Command, address: str) -> None:
    assert x402jobs("balance", address).returncode == 2


def test_the_data_directory_is_the_options_then_the_environments(
    x402jobs: Command, tmp_path: Path
) -> None:
    x402jobs("user", "add", "ada", X402JOBS_DATA="from-env")
    x402jobs("user", "add", "bob", "--data", "from-option", X402JOBS_DATA="from-env")
    x402jobs("user", "add", "eve")

    def knows(data: str, name: str) -> bool:
        return x402jobs("token", name, "--data", data).returncode == 0

    assert [knows("from-env", name) for name in ("ada", "bob")] == [True, False]
    assert knows("from-option", "bob")
    assert knows(".x402jobs", "eve")


def test_a_data_directory_that_cannot_be_is_a_sentence(x402jobs: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = x402jobs("user", "add", "ada", "--data", "file/data")

    assert refused.returncode == 1
    assert refused.stderr.startswith("x402jobs: ")


def test_help_is_quick(shell: Command) -> None:
    shell("--help")  # compiles what has to be compiled
    before = os.times()

    helped = shell("--help")

    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 0.5
    assert [name in helped.stdout for name in ("call", "demo", "serve", "token")] == [True] * 4
