"""What the environment decides, and what it is told when it is wrong."""

from dataclasses import fields
from pathlib import Path

import pytest

from x402jobs.settings import POISON, Settings, SettingsError, env_example
from x402jobs.wiring import key_ring

CANARY = "canary-value"
ROOT = Path(__file__).parent.parent

WRONG = {
    "ENV": "staging",
    "PUBLIC_URL": f"ftp://{CANARY}",
    "X402JOBS_BIND": CANARY,
    "CLAUDE_URL": f"http://{CANARY}.example",
    "CLAUDE_CONNECT_SECONDS": CANARY,
    "CLAUDE_FIRST_CONTENT_SECONDS": "0",
    "CLAUDE_IDLE_SECONDS": "-5",
    "CLAUDE_TOTAL_SECONDS": "1e9",
    "HEARTBEAT_SECONDS": "nan",
    "LOG_LEVEL": CANARY,
}


def refused(environ):
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env(environ)
    return str(refusal.value).splitlines()


def test_an_empty_environment_is_the_defaults():
    assert Settings.from_env({}) == Settings()


def test_an_empty_value_means_the_default():
    empty = {each.metadata["variable"]: "" for each in fields(Settings)}

    assert Settings.from_env(empty) == Settings()


def test_every_fault_is_told_at_once_by_its_variable_and_never_by_its_value():
    faults = refused(WRONG | {name: CANARY for name in POISON})

    assert [fault.split(":")[0] for fault in faults] == [*WRONG, *POISON]
    assert CANARY not in "\n".join(faults)
    assert not any(
        value in faults[place] for place, value in enumerate(WRONG.values()) if value != "0"
    )


@pytest.mark.parametrize("name", POISON)
def test_what_the_vendors_package_would_obey_is_refused(name):
    (fault,) = refused({name: CANARY})

    assert fault.startswith(f"{name}: ")
    assert CANARY not in fault


def test_production_is_refused_as_long_as_there_is_only_play_money():
    (fault,) = refused({"ENV": "production"})

    assert fault.startswith("ENV: production needs a facilitator")


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("X402JOBS_DATA", "/var/lib/x", "data", Path("/var/lib/x")),
        ("X402JOBS_KEYS", "k1:abc", "keys", "k1:abc"),
        ("PUBLIC_URL", "https://jobs.example", "public_url", "https://jobs.example"),
        ("PUBLIC_URL", "https://jobs.example/", "public_url", "https://jobs.example"),
        ("X402JOBS_BIND", "0.0.0.0:80", "bind", "0.0.0.0:80"),
        ("X402JOBS_BIND", "unix:/run/x.sock", "bind", "unix:/run/x.sock"),
        ("CLAUDE_URL", "https://claude.example/v1/", "claude_url", "https://claude.example/v1"),
        ("CLAUDE_URL", "http://127.0.0.1:9", "claude_url", "http://127.0.0.1:9"),
        ("CLAUDE_URL", "http://localhost:9", "claude_url", "http://localhost:9"),
        ("CLAUDE_URL", "http://[::1]:9", "claude_url", "http://[::1]:9"),
        ("CLAUDE_IDLE_SECONDS", "0.5", "idle_seconds", 0.5),
        ("HEARTBEAT_SECONDS", "3600", "heartbeat_seconds", 3600.0),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("ENV", "development", "environment", "development"),
    ],
)
def test_a_setting_is_read(variable, value, name, expected):
    assert getattr(Settings.from_env({variable: value}), name) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENV", "Production"),
        ("PUBLIC_URL", "jobs.example"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://jobs.example/shop"),
        ("PUBLIC_URL", "https://jobs.example?shop=1"),
        ("PUBLIC_URL", "https://jobs.example/?shop=1"),
        ("PUBLIC_URL", "https://jobs.example#shop"),
        ("PUBLIC_URL", "https://[jobs"),
        ("X402JOBS_BIND", "4020"),
        ("X402JOBS_BIND", "localhost:"),
        ("X402JOBS_BIND", "localhost:http"),
        ("X402JOBS_BIND", "unix:"),
        ("CLAUDE_URL", "http://claude.example"),
        ("CLAUDE_URL", "http://127.0.0.1.example"),
        ("CLAUDE_URL", "https://claude.example?x=1"),
        ("CLAUDE_URL", "https://claude.example#x"),
        ("CLAUDE_URL", "file:///etc/passwd"),
        ("CLAUDE_IDLE_SECONDS", "ten"),
        ("CLAUDE_IDLE_SECONDS", "inf"),
        ("CLAUDE_IDLE_SECONDS", "3601"),
        ("LOG_LEVEL", "TRACE"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(variable, value):
    (fault,) = refused({variable: value})

    assert fault.startswith(f"{variable}: ")


def test_the_key_ring_does_not_show_itself():
    assert CANARY not in repr(Settings.from_env({"X402JOBS_KEYS": CANARY}))


@pytest.mark.parametrize("ring", [CANARY, f"k1:{CANARY}", "k1:ünïcode"])
def test_a_broken_key_ring_is_refused_by_its_variable_and_entry(ring):
    with pytest.raises(SettingsError) as refusal:
        key_ring(Settings.from_env({"X402JOBS_KEYS": ring}))

    assert str(refusal.value).startswith("X402JOBS_KEYS: key ring entry 1 ")
    assert CANARY not in str(refusal.value)


def test_the_example_environment_is_written_from_the_settings():
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_example_environment_says_every_setting_and_is_itself_good():
    lines = [line for line in env_example().splitlines() if line and not line.startswith("#")]
    environ = dict(line.split("=", 1) for line in lines)

    assert set(environ) == {each.metadata["variable"] for each in fields(Settings)}
    assert Settings.from_env(environ) == Settings()
