"""Limits, in this process's memory and in a Redis: the same answers from both."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from limits import parse_many
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.redis import RedisServer, redis_server
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.key_ring import KeyRing
from x402jobs.adapters.limits.memory import MemoryLimits
from x402jobs.adapters.limits.redis import RedisLimits
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.domain.errors import LimitsUnavailable
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock, Limits
from x402jobs.settings import Settings

MINUTE = 60
ALLOWED = {
    "owner_test": (10, MINUTE),
    "free_template": (30, MINUTE),
    "failed_credential": (20, MINUTE),
    "task": (10, 5 * MINUTE),
    "session": (20, MINUTE),
    "api_key": (20, 60 * MINUTE),
}
RING = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
HOME = "192.0.2.77"
"""An address that is nobody's."""

Build = Callable[..., Limits]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(running: RedisServer) -> RedisServer:
    """The one server, which remembers nothing."""
    running.client.flushall()
    return running


def limits_in(
    redis: RedisServer, clock: Clock | None = None, ring: str = RING, **rules: str
) -> RedisLimits:
    box = RingSecretBox(KeyRing(ring))
    told = Settings().limits | rules
    return RedisLimits(Secret(redis.url), told, clock or SystemClock(), box)


@pytest.fixture(params=["memory", "redis"])
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """Makes limits of one kind or the other, with some rules changed."""
    made: list[Limits] = []

    def limits(clock: Clock | None = None, **rules: str) -> Limits:
        if request.param == "memory":
            made.append(MemoryLimits(Settings().limits | rules, clock or SystemClock()))
        else:
            made.append(limits_in(request.getfixturevalue("redis"), clock, **rules))
        return made[-1]

    yield limits
    for each in made:
        each.close()


@pytest.mark.parametrize("limit", Settings().limits)
def test_a_limit_lets_so_many_through_in_its_time_and_then_says_how_long_to_wait(
    build: Build, limit: str
) -> None:
    limits, (allowed, seconds) = build(), ALLOWED[limit]

    through = [limits.hit(limit, "ada") for _ in range(allowed)]
    wait = limits.hit(limit, "ada")

    assert through == [None] * allowed
    assert wait is not None and 1 <= wait <= seconds
    (rule, *_) = parse_many(Settings().limits[limit])
    assert rule.get_expiry() == seconds


def test_one_callers_hits_are_not_anothers_nor_another_limits(build: Build) -> None:
    limits = build()
    for _ in range(11):
        limits.hit("owner_test", "ada")

    assert limits.hit("owner_test", "ada") is not None
    assert limits.hit("owner_test", "bob") is None
    assert limits.hit("free_template", "ada") is None


def test_the_day_has_a_limit_of_its_own(build: Build) -> None:
    limits = build(owner_test="1000 per minute; 100 per day")

    through = [limits.hit("owner_test", "ada") for _ in range(100)]

    assert through == [None] * 100
    assert 60 < (limits.hit("owner_test", "ada") or 0) <= 86_400


def test_a_limit_that_is_off_lets_everybody_through(build: Build) -> None:
    limits = build(free_template="off")

    assert {limits.hit("free_template", HOME) for _ in range(50)} == {None}


def test_a_wait_is_never_shorter_than_a_second(build: Build) -> None:
    class Late(SystemClock):
        def now(self) -> float:
            return super().now() + 10_000

    limits = build(Late())

    assert [limits.hit("owner_test", "ada") for _ in range(11)][-1] == 1.0


def test_building_limits_starts_no_thread_and_opens_no_socket(
    build: Build, running: RedisServer
) -> None:
    """A server may fork after building the app."""
    before, dialled = set(threading.enumerate()), running.client.info()["connected_clients"]

    build()

    assert set(threading.enumerate()) - before == set()
    assert running.client.info()["connected_clients"] <= dialled


def test_an_unknown_limit_is_a_fault_of_ours(build: Build) -> None:
    with pytest.raises(KeyError):
        build().hit("nothing", "ada")


# In Redis


def test_all_who_share_a_redis_let_so_many_through_together(redis: RedisServer) -> None:
    with (
        closing(limits_in(redis, task="20 per hour")) as one,
        closing(limits_in(redis, task="20 per hour")) as other,
        ThreadPoolExecutor(8) as hands,
    ):
        through = list(hands.map(lambda limits: limits.hit("task", "ada"), [one, other] * 30))

    assert through.count(None) == 20


def test_a_dump_names_no_caller_and_holds_only_ours(redis: RedisServer) -> None:
    with closing(limits_in(redis)) as limits:
        for limit in Settings().limits:
            limits.hit(limit, HOME)
            limits.hit(limit, "ada")
        limits.check()

    keys = redis.keys()
    assert len(keys) == 2 * len(Settings().limits) + 3, keys  # two rules, and what the check writes
    assert all(key.startswith("x402jobs:") for key in keys)
    assert not any(HOME in key or "ada" in key for key in keys)
    assert all(0 < redis.client.ttl(key) <= 86_400 for key in keys)


def test_nobody_without_the_key_ring_can_tell_whose_count_it_is(redis: RedisServer) -> None:
    with closing(limits_in(redis)) as ours, closing(limits_in(redis, ring=_other_ring())) as others:
        ours.hit("task", HOME)
        (known,) = redis.keys()
        others.hit("task", HOME)

    assert len(redis.keys()) == 2
    assert known in redis.keys()


def _other_ring() -> str:
    return RING.replace("AAEC", "BBEC")


def gone(redis: RedisServer) -> None:
    redis.stop()


def full(redis: RedisServer) -> None:
    redis.client.config_set("maxmemory", 1)


def a_replica(redis: RedisServer) -> None:
    redis.client.replicaof("127.0.0.1", "1")


def with_a_password(redis: RedisServer) -> None:
    with redis.client as client:
        client.config_set("requirepass", "changed meanwhile")
        client.client_kill_filter(_type="normal", skipme=True)


AWAY = [gone, full, a_replica, with_a_password]


@pytest.mark.parametrize("happens", AWAY)
def test_where_redis_counts_nothing_it_is_said_and_nobody_is_let_through_uncounted(
    tmp_path: Path, happens: Callable[[RedisServer], None]
) -> None:
    with redis_server(tmp_path) as redis, closing(limits_in(redis)) as limits:
        assert limits.hit("task", "ada") is None
        happens(redis)

        with capture_logs() as logged:
            for ask in (lambda: limits.hit("task", "ada"), limits.check):
                with pytest.raises(LimitsUnavailable) as refusal:
                    ask()
                assert (refusal.value.retry_after, refusal.value.__cause__) == (2, None)
        assert {line["event"] for line in logged} == {"limits_unavailable"}


def test_once_redis_is_back_it_counts_again_from_nothing(tmp_path: Path) -> None:
    """Also over the sockets that it had before."""
    with redis_server(tmp_path) as redis, closing(limits_in(redis, task="1 per hour")) as limits:
        hits = [limits.hit("task", "ada") is None for _ in range(2)]
        redis.stop()
        redis.start()

        limits.check()

        assert [*hits, *(limits.hit("task", "ada") is None for _ in range(2))] == [
            *(True, False),
            *(True, False),
        ]


def test_who_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, closing(limits_in(redis)) as limits:
        limits.hit("task", "ada")
        redis.client.client_pause(60_000)

        with pytest.raises(LimitsUnavailable):
            limits.hit("task", "ada")


def test_no_password_is_told_by_what_goes_wrong(tmp_path: Path) -> None:
    url = Secret(f"unix://:canary-password@{tmp_path}/nowhere.sock")
    limits = RedisLimits(url, Settings().limits, SystemClock(), RingSecretBox(KeyRing(RING)))

    with capture_logs() as logged, pytest.raises(LimitsUnavailable) as refusal:
        limits.check()

    assert "canary" not in f"{logged} {refusal.value!r} {refusal.value} {limits!r}"
    settings = replace(Settings(), redis_url=url.reveal())
    assert "canary" not in repr(settings)


def test_whoever_is_over_a_limit_is_counted_by_the_limits_name(build: Build) -> None:
    limits = build(session="1 per hour")

    def counted() -> float:
        return REGISTRY.get_sample_value("x402jobs_limited_total", {"limit": "session"}) or 0

    before = counted()
    for _ in range(3):
        limits.hit("session", "ada")

    assert counted() == before + 2
