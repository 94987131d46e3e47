"""What docs/limits.md says of the limits is what the settings are."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from limits import parse_many

from x402jobs.settings import Settings, SettingsError, readers

PAGE = (Path(__file__).parent.parent / "docs" / "limits.md").read_text()
ROWS = [
    [cell.strip() for cell in row.split("|")[1:-1]] for row in PAGE.splitlines() if "`LIMIT_" in row
]
ABOUT = {each.metadata["variable"]: each.metadata for each in fields(Settings)}
SHARED = {"ANTHROPIC_API_KEY": "sk-ant-x", "TASKS_SHARE_SERVER_KEY": "true"}


def is_taken(environ: dict[str, str]) -> bool:
    try:
        Settings.from_env(environ)
    except SettingsError:
        return False
    return True


def test_the_page_has_every_limit_with_its_default() -> None:
    told = {row[2].strip("`"): row[3] for row in ROWS}

    assert told == {name: ABOUT[name]["default"] for name in ABOUT if name.startswith("LIMIT_")}
    for name in ("PAYER_CALLS_AT_ONCE", "SETTLEMENTS_AT_ONCE"):
        assert f"`{name}` | {ABOUT[name]['default']} |" in PAGE


def test_a_limit_is_off_where_the_page_allows_it() -> None:
    told = {row[2].strip("`"): row[4].startswith("yes") for row in ROWS}

    assert told == {name: is_taken({name: "off"}) for name in told}
    assert not is_taken(SHARED | {"LIMIT_TASK": "off"})
    assert is_taken(SHARED)


@pytest.mark.parametrize(
    "rule",
    [
        *("10 per minute", "10/minute", "10 per 5 minutes", "10 per 1 hour", "1 PER DAY"),
        *("10 per minute; 100 per day", "10/second,20/minute|100/hour", " 3  per  2 months "),
        "999999 per 999 years",
    ],
)
def test_a_rule_is_taken_as_the_library_reads_it(rule: str) -> None:
    assert readers.rules(rule) == rule
    assert len(parse_many(rule)) == len(re.split("[,;|]", rule))


@pytest.mark.parametrize(
    "rule",
    [
        *("", "10", "ten per minute", "10 per", "0 per minute", "-1 per minute", "1.5 per minute"),
        *("10 per 0 minutes", "10 per fortnight", "10 per minute;", "; 10 per minute", "Off"),
        *(
            "10 per minute and 100 per day",
            "1000000 per minute",
            "10 per minute\x00",
            "١٠ per minute",
        ),
    ],
)
def test_a_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(ValueError):
        readers.rules_or_off(rule)


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("redis://127.0.0.1", True),
        ("redis://redis:6379/0", True),
        ("rediss://user:pass%2Fword@redis.example:6380/12", True),
        ("unix:///run/redis.sock", True),
        ("unix://:password@/run/redis.sock?db=3", True),
        ("redis://", False),
        ("redis:///0", False),
        ("http://redis", False),
        ("127.0.0.1:6379", False),
        ("redis://redis:0", False),
        ("redis://redis:99999", False),
        ("redis://redis/zero", False),
        ("redis://redis/0/1", False),
        ("redis://redis?socket_timeout=60", False),
        ("rediss://redis?ssl_cert_reqs=none", False),
        ("redis://redis#0", False),
        ("redis://redis /0", False),
        ("unix://host/run/redis.sock", False),
        ("unix:///run/redis.sock?socket_timeout=60", False),
        ("unix:", False),
        ("redis+unix:///run/redis.sock", False),
    ],
)
def test_a_redis_is_named_by_a_url_that_nothing_else_hangs_on(url: str, fits: bool) -> None:
    assert is_taken({"REDIS_URL": url}) == fits
