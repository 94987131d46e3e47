"""The creator's key: sealed, opened, never shown."""

import sqlite3
from contextlib import closing

import pytest

from tests.fakes import PlainBox
from x402jobs.adapters.sqlite import SqliteKeys, embedded_database
from x402jobs.domain.errors import InvalidRequest, TemplateUnavailable
from x402jobs.domain.listing import ClaudeConfig, Listing
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.domain.secret import Secret
from x402jobs.services.integrations import Integrations, claude_key_place

TEMPLATE = PromptTemplate("t", 1, "ada", "/@ada/h", "H", "", 0, "", [], "claude", 1, False)


ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def keys(tmp_path):
    database = embedded_database(tmp_path)
    yield SqliteKeys(database)
    database.close()


@pytest.fixture
def integrations(keys):
    return Integrations(keys, PlainBox())


def test_a_key_is_sealed_in_its_owners_place_before_it_is_stored(integrations, tmp_path):
    integrations.save_claude_config("ada", Secret("sk"))

    with closing(sqlite3.connect(tmp_path / "x402jobs.sqlite3")) as connection:
        (row,) = connection.execute("SELECT * FROM x402_user_claude_configs").fetchall()
    assert row == ("ada", "sealed|x402_user_claude_configs|api_key_encrypted|ada|sk", 1)


@pytest.mark.parametrize("enabled", [None, True, False])
def test_the_switch_works_without_the_key_and_not_before_there_is_one(integrations, enabled):
    with pytest.raises(InvalidRequest, match="^apiKey is required$"):
        integrations.save_claude_config("ada", None, enabled=enabled)
    assert integrations.claude_config("ada") == ClaudeConfig(False, False)

    integrations.save_claude_config("ada", Secret("sk"), enabled=False)

    expected = ClaudeConfig(True, bool(enabled))
    assert integrations.save_claude_config("ada", None, enabled=enabled) == expected
    assert integrations.claude_config("ada") == expected


def test_a_key_once_forgotten_is_gone(integrations):
    integrations.save_claude_config("ada", Secret("sk"))

    for _ in range(2):
        assert integrations.forget_claude_key("ada") == ClaudeConfig(False, False)

    assert integrations.claude_config("ada") == ClaudeConfig(False, False)


@pytest.mark.parametrize("spelling", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_an_address_is_stored_with_its_checksum(integrations, spelling):
    assert integrations.save_pay_to("ada", spelling) == ADDRESS
    assert integrations.pay_to("ada") == ADDRESS

    integrations.forget_pay_to("ada")

    assert integrations.pay_to("ada") is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "40 hexadecimal"),
        (ADDRESS[:-1], "40 hexadecimal"),
        (ADDRESS + "0", "40 hexadecimal"),
        (f" {ADDRESS}", "40 hexadecimal"),
        (f"{ADDRESS}\n", "40 hexadecimal"),
        (ADDRESS[2:], "40 hexadecimal"),
        ("0x" + "g" * 40, "40 hexadecimal"),
        (ADDRESS.replace("aA", "Aa"), "EIP-55"),
        ("0x" + "0" * 40, "zero address"),
        (DEVELOPMENT.token, "token's own"),
    ],
)
def test_an_address_nobody_could_be_paid_at_is_refused(integrations, address, reason):
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        integrations.save_pay_to("ada", address)

    assert refusal.value.field == "baseAddress"
    assert integrations.pay_to("ada") is None


def test_the_warnings_name_what_is_missing_and_the_door_that_mends_it(integrations):
    key, address = "PUT /integrations/claude/config", "PUT /integrations/wallet/config"

    before = integrations.warnings("ada", 10_000)
    integrations.save_claude_config("ada", Secret("sk"), enabled=False)
    off = integrations.warnings("ada", 0)
    integrations.save_claude_config("ada", None, enabled=True)
    integrations.save_pay_to("ada", ADDRESS)

    assert [key in before[0], address in before[1], len(before)] == [True, True, 2]
    assert len(off) == 1 and "switched off" in off[0] and key in off[0]
    assert integrations.warnings("ada", 10_000) == []


def test_the_templates_owners_key_is_opened(integrations):
    sealed = PlainBox().seal("sk", claude_key_place("ada"))

    key = integrations.claude_key(Listing(sealed_key=sealed), TEMPLATE)

    assert key == Secret("sk")


@pytest.mark.parametrize(
    "sealed", [None, "", "garbage", PlainBox().seal("sk", claude_key_place("bob"))]
)
def test_without_a_key_that_opens_the_shop_is_shut(integrations, sealed):
    with pytest.raises(TemplateUnavailable) as refusal:
        integrations.claude_key(Listing(sealed_key=sealed), TEMPLATE)

    assert refusal.value.message == TemplateUnavailable.sentence
