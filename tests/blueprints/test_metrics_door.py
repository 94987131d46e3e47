"""Who is told the metrics: whoever has the token, or, where there is none, this machine alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import Shop
from x402jobs.app import create_app
from x402jobs.settings import Settings, SettingsError
from x402jobs.wiring import build_services

TOKEN = "prometheus-0123456789"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FlaskClient]:
    """A service whose operator has set this token, or none."""
    data = tmp_path_factory.mktemp("door") / "data"
    services = build_services(replace(Settings(), data=data))

    def client(token: str) -> FlaskClient:
        settings = replace(Settings(), data=data, metrics_token=token)
        return create_app(settings, services).test_client()

    return client


@pytest.fixture(scope="module")
def unguarded(door: Callable[[str], FlaskClient]) -> FlaskClient:
    return door("")


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 404), ("::1", 404), ("", 200)])
def test_where_the_shop_is_everybodys_loopback_may_be_a_proxy(
    tmp_path_factory: pytest.TempPathFactory, peer: str, status: int
) -> None:
    data = tmp_path_factory.mktemp("public") / "data"
    settings = replace(Settings(), data=data, public_url="https://shop.example")
    client = create_app(settings, build_services(settings)).test_client()

    assert client.get("/metrics", environ_overrides={"REMOTE_ADDR": peer}).status_code == status


@pytest.fixture(scope="module")
def guarded(door: Callable[[str], FlaskClient]) -> FlaskClient:
    return door(TOKEN)


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.8.8.8", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("", {}, 200),  # the socket file
        ("10.0.0.7", {}, 404),
        ("203.0.113.9", {}, 404),
        ("2001:db8::1", {}, 404),
        ("", {"X-Real-IP": "127.0.0.1"}, 404),
        ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}, 404),
        ("127.0.0.1", {"X-Real-IP": ""}, 404),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 404),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, 404),
        ("203.0.113.9", {"X-Real-IP": "127.0.0.1"}, 404),
        ("203.0.113.9", {"Authorization": f"Bearer {TOKEN}"}, 404),
    ],
)
def test_without_a_token_only_this_machine_is_told(
    unguarded: FlaskClient, peer: str, headers: dict[str, str], status: int
) -> None:
    reply = unguarded.get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": peer})

    assert reply.status_code == status
    assert ("x402jobs_requests_total" in reply.text) == (status == 200)


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN.upper()}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer \xe9\xe9\xe9", 401),
    ],
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.9"])
def test_with_a_token_whoever_shows_it_is_told_and_nobody_else(
    guarded: FlaskClient, peer: str, shown: str | None, status: int
) -> None:
    headers = {} if shown is None else {"Authorization": shown}

    reply = guarded.get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": peer})

    assert reply.status_code == status
    if status == 401:
        assert reply.json is not None and reply.json["code"] == "UNAUTHENTICATED"
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in reply.text


def test_it_is_prometheus_text_that_nobody_keeps(unguarded: FlaskClient) -> None:
    reply, head = unguarded.get("/metrics"), unguarded.head("/metrics")

    assert reply.content_type.startswith("text/plain; version=")
    assert reply.headers["Cache-Control"] == "no-store"
    assert (head.status_code, head.get_data()) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_it_is_read_and_nothing_else(unguarded: FlaskClient, method: str) -> None:
    assert unguarded.open("/metrics", method=method).status_code == 405


def test_it_is_told_while_the_database_is_away(shop: Shop) -> None:
    shop.services.close()
    (shop.settings.data / "x402jobs.sqlite3").write_bytes(b"no database")

    assert shop.client.get(shop.url).status_code == 503
    assert shop.client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "token", ["short", "x" * 15, "with a space in it", "ünïcode-token-0123456789"]
)
def test_a_token_that_is_guessed_or_cannot_be_sent_is_no_setting(token: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_env({"METRICS_TOKEN": token})

    assert str(refusal.value).startswith("METRICS_TOKEN: ")
    assert token not in str(refusal.value)


def test_the_token_is_in_no_text_about_the_settings(guarded: FlaskClient) -> None:
    settings = Settings.from_env({"METRICS_TOKEN": TOKEN})
    config: Any = guarded.application.config

    assert TOKEN not in repr(settings) + repr(config)
