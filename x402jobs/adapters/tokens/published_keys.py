"""The public keys of a Supabase project."""

import json
from collections.abc import Iterator
from math import inf
from threading import Lock
from typing import Any

import httpcore
import httpx
import structlog
from jwt import PyJWK, PyJWKClient, PyJWKClientConnectionError, PyJWTError
from jwt.jwk_set_cache import JWKSetCache

from x402jobs.adapters.bounded_http import AnswerTooLong, Connections, within
from x402jobs.ports import Clock

ANSWER_SECONDS = 5.0
LARGEST = 64 * 1024
LIFESPAN_SECONDS = 600
"""How long a key counts after the project has taken it back."""
LAST_SECONDS = 24 * 3600
"""And how long while the project does not answer: as long as a token may live."""
REST_SECONDS = 5.0
"""After a question that has come to nothing, before the next one."""
SHORTEST_RSA = 2048

log = structlog.get_logger(__name__)


class PublishedKeys(PyJWKClient):
    """Asks for the keys when there is need, and keeps them.

    PyJWKClient has their lifespan, and its cooldown: 30 s between two questions on account of a key
    that is not there. But with it everybody waits behind whoever asks, each one asks anew while
    nobody answers, and keys past their lifespan are of no use then. Here those who need no answer
    do not wait for it, and one question that fails is enough for all, for a while.
    """

    def __init__(self, uri: str, clock: Clock) -> None:
        super().__init__(uri, lifespan=LIFESPAN_SECONDS, timeout=ANSWER_SECONDS)
        self._clock = clock
        self._turn = Lock()
        self._kept: dict[str, PyJWK] = {}
        self._kept_at = self._failed_at = -inf

    def get_signing_key(self, kid: str) -> PyJWK:
        """Raises PyJWKClientError where the project has none of this id.

        And PyJWKClientConnectionError when it cannot be known.
        """
        kept = self._known(kid)
        if kept is None:
            self._turn.acquire()
        elif not self._turn.acquire(blocking=False):  # somebody is asking at this moment
            return kept
        try:
            return super().get_signing_key(kid)
        except PyJWKClientConnectionError:
            if (kept := self._known(kid)) is None:
                raise
            return kept
        finally:
            self._turn.release()

    def fetch_data(self) -> dict[str, Any]:
        """Ask the project. Raises PyJWKClientConnectionError.

        Not with PyJWT's own connection: it obeys the environment's proxies, reads answers of any
        length, and takes as long as they drip.
        """
        if self._clock.monotonic() < self._failed_at + REST_SECONDS:
            raise PyJWKClientConnectionError
        try:
            found = self._ask()
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            httpx.HTTPError,
            AnswerTooLong,
            ValueError,
            RecursionError,
        ) as error:
            raise self._failure(type(error).__name__) from None
        self._kept = {str(key.key_id): key for key, _ in found}
        self._kept_at = self._clock.monotonic()
        if not found:
            # No answer for tokens, but one for keys: those there were have been taken back.
            self.jwk_set_cache = JWKSetCache(LIFESPAN_SECONDS)
            raise self._failure("no_keys")
        self._last_successful_fetch = self._kept_at  # which begins the cooldown
        return {"keys": [raw for _, raw in found]}

    def _known(self, kid: str) -> PyJWK | None:
        is_over = self._clock.monotonic() > self._kept_at + LAST_SECONDS
        return None if is_over else self._kept.get(kid)

    def _ask(self) -> list[tuple[PyJWK, dict[str, Any]]]:
        connections = Connections(LARGEST)
        try:
            with within(self.timeout):
                reply = connections.client().get(self.uri).raise_for_status()
        finally:
            connections.close()
        said = json.loads(reply.content)
        if not isinstance(said, dict) or not isinstance(said.get("keys"), list):
            raise ValueError
        return list(_usable(said["keys"]))

    def _failure(self, reason: str) -> PyJWKClientConnectionError:
        self._failed_at = self._clock.monotonic()
        log.warning("keys_not_fetched", reason=reason)
        return PyJWKClientConnectionError()


def _usable(published: list[Any]) -> Iterator[tuple[PyJWK, dict[str, Any]]]:
    """Those that Supabase signs tokens with. A private key that was published is anybody's."""
    for raw in published:
        match raw:
            case {"d": _} | {"k": _}:
                continue
            case {"use": "sig", "kid": str(), "kty": "EC", "crv": "P-256"}:
                algorithm = "ES256"
            case {"use": "sig", "kid": str(), "kty": "RSA"}:
                algorithm = "RS256"
            case _:
                continue
        try:
            key = PyJWK(raw)
        except (PyJWTError, ValueError, TypeError, AttributeError):
            continue
        if key.algorithm_name == algorithm and (
            algorithm != "RS256" or key.key.key_size >= SHORTEST_RSA
        ):
            yield key, raw
