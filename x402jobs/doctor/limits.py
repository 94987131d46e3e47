"""The check of what counts for all workers and hosts."""

import os
from urllib.parse import urlsplit

from x402jobs import stores, wiring
from x402jobs.adapters.clock import SystemClock
from x402jobs.doctor import Check, Finding, fail, ok, warn
from x402jobs.domain.errors import X402JobsError
from x402jobs.settings import Settings


def checks(settings: Settings) -> list[Check]:
    return [Check("limits", "Redis", lambda: _redis(settings), ("key ring",))]


def _redis(settings: Settings) -> Finding:
    if not settings.redis_url:
        if settings.is_embedded:
            return ok("none is needed: one worker counts for itself")
        if (os.environ.get("WEB_CONCURRENCY") or "1") != "1":
            return warn("none: each worker counts limits for itself", "set REDIS_URL")
        return ok("none; on more than one host, or with more workers, set REDIS_URL")
    where = urlsplit(settings.redis_url).hostname or "the socket file"
    limits = wiring.limits_of(settings, SystemClock(), stores.secret_box(settings))
    try:
        limits.check()
    except X402JobsError:
        return fail(
            f"the one at {where} does not answer, or counts nothing",
            "is REDIS_URL right, is it full, is it a replica? docs/operations.md, limits",
        )
    finally:
        limits.close()
    return ok(f"the one at {where} counts")
