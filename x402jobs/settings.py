"""Everything the environment decides, read once, every fault reported at once."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class SettingsError(Exception):
    """The environment cannot be used; each line names a variable and the mend, never a value."""


def _text(value: str) -> str:
    return value


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= 3600:
        raise ValueError
    return seconds


def _environment(value: str) -> str:
    if value not in ("development", "production"):
        raise ValueError
    return value


def _level(value: str) -> str:
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError
    return value.upper()


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError
    return value.rstrip("/")


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError
    return value.rstrip("/")


def _bind(value: str) -> str:
    if re.fullmatch(r"unix:.+|[^:]+:\d{1,5}", value) is None:
        raise ValueError
    return value


def _setting(
    variable: str, read: Callable[[str], Any], default: str, says: str, *, secret: bool = False
) -> Any:
    about = {"variable": variable, "read": read, "default": default, "says": says}
    return field(default_factory=lambda: read(default), repr=not secret, metadata=about)


@dataclass(frozen=True)
class Settings:
    """The service's settings. `.env.example` is written from these lines."""

    environment: str = _setting(
        "ENV",
        _environment,
        "development",
        "development or production, which refuses play money",
    )
    data: Path = _setting(
        "X402JOBS_DATA", Path, ".x402jobs", "directory of the embedded store and its keys"
    )
    keys: str = _setting(
        "X402JOBS_KEYS",
        _text,
        "",
        "key ring id:base64,… of 32-byte keys, the first is primary; empty: kept in the directory",
        secret=True,
    )
    public_url: str = _setting(
        "PUBLIC_URL",
        _public_url,
        "http://127.0.0.1:4020",
        "the origin in every URL we give out",
    )
    bind: str = _setting(
        "X402JOBS_BIND", _bind, "127.0.0.1:4020", "where the server listens: host:port or unix:path"
    )
    claude_url: str = _setting(
        "CLAUDE_URL", _url, "https://api.anthropic.com", "Claude's API; plain http only on loopback"
    )
    connect_seconds: float = _setting(
        "CLAUDE_CONNECT_SECONDS", _seconds, "5", "limit on connecting to Claude"
    )
    first_content_seconds: float = _setting(
        "CLAUDE_FIRST_CONTENT_SECONDS",
        _seconds,
        "30",
        "limit on the first content, retries included",
    )
    idle_seconds: float = _setting(
        "CLAUDE_IDLE_SECONDS", _seconds, "60", "limit on a silence of Claude's"
    )
    total_seconds: float = _setting(
        "CLAUDE_TOTAL_SECONDS", _seconds, "600", "limit on a whole answer"
    )
    heartbeat_seconds: float = _setting(
        "HEARTBEAT_SECONDS", _seconds, "15", "silence on a stream before a comment is sent"
    )
    log_level: str = _setting("LOG_LEVEL", _level, "INFO", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read every variable. Raises SettingsError with a line for each fault."""
        values, faults = {}, []
        for each in fields(cls):
            about = each.metadata
            try:
                values[each.name] = about["read"](
                    environ.get(about["variable"]) or about["default"]
                )
            except ValueError:
                faults.append(f"{about['variable']}: {about['says']}")
        faults += [
            f"{name}: not used here, and the anthropic package would obey it; unset it"
            for name in POISON
            if environ.get(name)
        ]
        if values.get("environment") == "production":
            faults.append(
                "ENV: production needs a facilitator; this version has only the development ledger"
            )
        if faults:
            raise SettingsError("\n".join(faults))
        return cls(**values)


POISON = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_LOG",
    "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE",
)
"""What the anthropic package reads by itself: keys could go astray, prompts into logs."""


def env_example() -> str:
    """The text of `.env.example`: every variable, its sentence and its default."""
    lines = ["# Every setting and its default. An empty value means the default."]
    for each in fields(Settings):
        about = each.metadata
        lines += ["", f"# {about['says']}", f"{about['variable']}={about['default']}"]
    return "\n".join(lines) + "\n"
