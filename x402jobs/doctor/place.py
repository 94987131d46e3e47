"""The checks of this machine: the settings, the data directory, the processes."""

import os
import stat
from pathlib import Path

from x402jobs import stores
from x402jobs.doctor import Check, Finding, fail, ok, warn
from x402jobs.settings import Settings, SettingsError

KEYS = ("keys", "token-secret", "*.key")
"""Files of the data directory that are secrets by themselves."""


def checks(settings: Settings) -> list[Check]:
    group = "place"
    return [
        Check(group, "settings", lambda: _settings(settings)),
        Check(group, "workers", lambda: _workers(settings)),
        Check(group, "data directory", lambda: _directory(settings)),
        Check(group, "key files", lambda: _files(settings.data), ("data directory",)),
        Check(group, "key ring", lambda: _ring(settings), ("data directory",)),
    ]


def _settings(settings: Settings) -> Finding:
    """They could be read, or nobody would be here; what is lawful may still be unwise."""
    if not settings.facilitator_url and not settings.is_plain_loopback:
        return warn(
            f"play money at {settings.public_url}: whoever calls gets answers for nothing",
            "set ENV=production, FACILITATOR_URL, X402_NETWORKS and CHAIN_RPC_URL",
        )
    if settings.environment != "production" and settings.facilitator_url:
        return warn(
            "ENV is development while money is real", "set ENV=production, which refuses more"
        )
    return ok(f"{settings.environment}, nothing that would send a key or a call astray")


def _workers(settings: Settings) -> Finding:
    asked = os.environ.get("WEB_CONCURRENCY") or "1"
    if settings.is_embedded:
        if asked != "1":
            return warn(
                f"WEB_CONCURRENCY is {asked}, and the embedded store has one worker whatever it is",
                "unset it, or set SUPABASE_URL",
            )
        return ok("one, over the embedded store")
    return ok(f"{asked}, over the Supabase project")


def _directory(settings: Settings) -> Finding:
    data = settings.data
    if not data.is_dir():
        if settings.is_embedded or not settings.keys or not settings.facilitator_url:
            return fail(
                f"there is no directory {data}",
                "say --data, or set X402JOBS_DATA as the server has it",
            )
        return ok("none is needed")
    about = data.stat()
    if about.st_uid != os.geteuid():
        return fail(
            f"{data} is another user's: what is looked at here may not be what the server sees",
            "run the doctor as the user that serves",
        )
    if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return fail(f"{data} is open to other users of this machine", f"chmod 700 {data}")
    return ok(f"{data} is its owner's alone")


def _files(data: Path) -> Finding:
    found = [path for pattern in KEYS for path in data.glob(pattern) if path.is_file()]
    bare = [path.name for path in found if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if bare:
        return fail(
            f"other users may read {', '.join(sorted(bare))} in {data}",
            f"chmod 600 there; where anybody may have looked, replace them: {ROTATION}",
        )
    return ok("their owner's alone" if found else "none")


ROTATION = "docs/operations.md, Keys"


def _ring(settings: Settings) -> Finding:
    """The file is looked for first: the store's own way makes one where there is none."""
    if not settings.keys and not (settings.data / "keys").is_file():
        return fail(
            f"there is no key ring: X402JOBS_KEYS is not set, and {settings.data} has no file keys",
            "set what the server has; a server that starts with neither makes a new ring",
        )
    try:
        ids = stores.key_ring(settings).latest().ids
    except SettingsError as error:
        return fail(str(error), "put the ring back from where it is kept")
    return ok(f"{', '.join(ids)}; {ids[0]} seals")
