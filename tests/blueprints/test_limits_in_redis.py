"""Limits that are counted in a Redis: what goes on while it is away, and what does not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.blueprints.creators import bob
from tests.blueprints.credentials import each_kind, shown_by, stranger
from tests.blueprints.test_limits import EVERY, GUARDED, Ask
from tests.conftest import Shop, events
from tests.redis import RedisServer, redis_server
from x402jobs.domain.caller import Method
from x402jobs.settings import Settings


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def settings(settings: Settings, redis: RedisServer) -> Settings:
    return replace(settings, redis_url=redis.url)


@pytest.mark.parametrize("ask", GUARDED.values(), ids=GUARDED)
def test_while_it_is_away_nothing_is_done_uncounted(
    shop: Shop, redis: RedisServer, ask: Ask
) -> None:
    again, status = ask
    assert again(shop).status_code == status
    asked = len(shop.claude.calls)
    redis.stop()

    refused = again(shop)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert refused.json is not None and refused.json["code"] == "LIMITS_UNAVAILABLE"
    assert len(shop.claude.calls) == asked
    redis.start()
    assert again(shop).status_code == status


def test_while_it_is_away_who_pays_is_served_and_who_is_known_is_let_in(
    shop: Shop, redis: RedisServer
) -> None:
    shown = dict(each_kind(shop))
    redis.stop()

    assert events(shop.buy())[-1]["type"] == "done"
    assert events(shop.buy(**bob(shop).headers))[-1]["type"] == "done"
    for method, each in shown.items():
        assert stranger(shop).get(EVERY, headers=each).status_code == 200, method


def test_while_it_is_away_a_task_ends_with_an_event(shop: Shop, redis: RedisServer) -> None:
    door, headers = (
        f"/api/stream/execute-task?taskCoords={shop.ada},0",
        shown_by(shop, "ada", Method.BEARER),
    )
    redis.stop()

    (said,) = events(shop.client.get(door, headers=headers))

    assert (said["type"], said["code"], said["recoverable"]) == ("error", "NETWORK_ERROR", True)
    assert shop.rows() == []


def test_whoever_pays_asks_it_for_nothing(shop: Shop, redis: RedisServer) -> None:
    events(shop.buy(**bob(shop).headers))

    assert redis.keys() == []
