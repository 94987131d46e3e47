"""Limits in Redis, common to every worker and host that is told of the same one."""

from collections.abc import Mapping
from functools import cached_property

import structlog
from limits.storage import RedisStorage
from redis import BlockingConnectionPool, Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Broken
from redis.retry import Retry

from x402jobs.adapters.limits.windows import Windows
from x402jobs.domain.errors import LimitsUnavailable
from x402jobs.domain.secret import Secret
from x402jobs.ports import Clock, SecretBox

PREFIX = "x402jobs"
WAIT_SECONDS = 1.0
"""For a connection, for each answer, and for one of ours that is free."""
CONNECTIONS = 32
"""Of one worker. Each is busy for one round trip, and only while a limit is asked about."""

log = structlog.get_logger(__name__)


class RedisLimits:
    """ports.Limits that several processes share.

    No key names a caller. It is a MAC under the key ring: a plain digest of an address is undone by
    trying all addresses, and the ring is what all hosts have in common without asking anybody.
    Where the ring gets another primary key the windows that are open begin anew.
    """

    def __init__(self, url: Secret, rules: Mapping[str, str], clock: Clock, box: SecretBox) -> None:
        self._url = url
        self._box = box
        self._windows = Windows(rules, clock, self._storage)

    def hit(self, limit: str, key: str) -> float | None:
        try:
            return self._windows.hit(limit, self._box.sign(f"limit {limit} {key}"))
        except (RedisError, OSError) as error:
            raise _unavailable(error) from None

    def check(self) -> None:
        """Writes: a Redis that is full, or a replica, answers a PING and counts nothing."""
        try:
            Redis(connection_pool=self._pool).set(f"{PREFIX}:check", 1, ex=60)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from None

    def close(self) -> None:
        if "_pool" in self.__dict__:
            self._pool.disconnect()

    @cached_property
    def _pool(self) -> BlockingConnectionPool:
        """Made on first use: no socket may be shared by what a server forks."""
        return BlockingConnectionPool.from_url(
            self._url.reveal(),
            max_connections=CONNECTIONS,
            timeout=WAIT_SECONDS,
            socket_timeout=WAIT_SECONDS,
            socket_connect_timeout=WAIT_SECONDS,
            # One of the pool's may have been closed since; who does not answer is not asked twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(Broken,)),
        )

    def _storage(self) -> RedisStorage:
        return RedisStorage("redis://", connection_pool=self._pool, key_prefix=PREFIX)


def _unavailable(error: Exception) -> LimitsUnavailable:
    """The package's own words may quote the URL, password and all."""
    log.error("limits_unavailable", reason=type(error).__name__)
    return LimitsUnavailable()
