"""Everything the environment decides, read once, every fault reported at once."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from x402jobs.domain.networks import Network
from x402jobs.domain.secret import Secret
from x402jobs.settings import readers
from x402jobs.settings.contradictions import COMPARED, contradictions
from x402jobs.settings.readers import Depth

__all__ = ["GROUPS", "POISON", "Depth", "Settings", "SettingsError", "env_example"]


class SettingsError(Exception):
    """The environment cannot be used; each line names a variable and the mend, never a value."""


GROUPS = ("service", "store", "keys", "money", "Claude", "server", "limits", "operations")


def _setting(
    variable: str,
    read: Callable[[str], Any],
    default: str,
    says: str,
    *,
    group: str,
    secret: bool = False,
) -> Any:
    """One of GROUPS is where docs/settings.md tells of it; a secret is in no text of ours."""
    about = {"variable": variable, "read": read, "default": default, "says": says}
    about |= {"group": group, "secret": secret}
    return field(default_factory=lambda: read(default), repr=not secret, metadata=about)


@dataclass(frozen=True)
class Settings:
    """The service's settings. `.env.example` and docs/settings.md are written from these lines."""

    environment: str = _setting(
        "ENV",
        readers.environment,
        "development",
        "development or production, which refuses play money",
        group="service",
    )
    data: Path = _setting(
        "X402JOBS_DATA",
        readers.path,
        ".x402jobs",
        "directory of the embedded store and its keys",
        group="store",
    )
    keys: str = _setting(
        "X402JOBS_KEYS",
        readers.text,
        "",
        "key ring id:base64,… of 32-byte keys, the first is primary; empty: kept in the directory",
        group="keys",
        secret=True,
    )
    supabase_url: str = _setting(
        "SUPABASE_URL",
        readers.project_url,
        "",
        "the Supabase project whose database is the store and whose accounts may sign in, such as "
        "https://ref.supabase.co, plain http only on loopback; empty: the embedded store",
        group="store",
    )
    supabase_secret_key: str = _setting(
        "SUPABASE_SECRET_KEY",
        readers.secret_key,
        "",
        "its secret key, sb_secret_… (or the older service_role one), not the publishable one",
        group="store",
        secret=True,
    )
    supabase_jwt_secret: str = _setting(
        "SUPABASE_JWT_SECRET",
        readers.jwt_secret,
        "",
        "only where the project still signs with HS256: its legacy JWT secret, 32 bytes or more; "
        "empty: tokens are checked with the keys that the project publishes",
        group="store",
        secret=True,
    )
    integration_secret: str = _setting(
        "INTEGRATION_ENCRYPTION_SECRET",
        readers.utf8,
        "",
        "the origin service's secret, to read the Claude keys it sealed; empty: there are none",
        group="keys",
        secret=True,
    )
    public_url: str = _setting(
        "PUBLIC_URL",
        readers.public_url,
        "http://127.0.0.1:4020",
        "the origin in every URL we give out",
        group="service",
    )
    frontend_origins: tuple[str, ...] = _setting(
        "FRONTEND_ORIGINS",
        readers.origins,
        "",
        "other origins whose pages may call every door but the paid one, cookies included, "
        "comma-separated, as browsers write them: https://app.example; plain http only on loopback",
        group="service",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "TRUSTED_PROXIES",
        readers.proxies,
        "",
        "addresses or networks, comma-separated, of proxies that set X-Real-IP themselves, for "
        "limits alone; one in front of a unix socket needs no naming",
        group="limits",
    )
    redis_url: str = _setting(
        "REDIS_URL",
        readers.redis_url,
        "",
        "the Redis in which limits are counted for all workers and hosts: redis://host:6379/0, "
        "rediss:// with TLS, unix:///path; empty: each worker counts for itself",
        group="limits",
        secret=True,  # it may hold a password
    )
    limit_owner_test: str = _setting(
        "LIMIT_OWNER_TEST",
        readers.rules,
        "10 per minute; 100 per day",
        "owner tests of one creator, whose Claude key pays for them; cannot be off",
        group="limits",
    )
    limit_free_template: str = _setting(
        "LIMIT_FREE_TEMPLATE",
        readers.rules_or_off,
        "30 per minute",
        "calls of free templates from one address, or off",
        group="limits",
    )
    limit_failed_credential: str = _setting(
        "LIMIT_FAILED_CREDENTIAL",
        readers.rules,
        "20 per minute",
        "bad credentials and resume tokens from one address; good ones pass all the same; "
        "cannot be off",
        group="limits",
    )
    limit_task: str = _setting(
        "LIMIT_TASK",
        readers.rules_or_off,
        "10 per 5 minutes",
        "task runs of one account, or off; not off together with TASKS_SHARE_SERVER_KEY",
        group="limits",
    )
    limit_session: str = _setting(
        "LIMIT_SESSION",
        readers.rules_or_off,
        "20 per minute",
        "sessions that one account begins, or off",
        group="limits",
    )
    limit_api_key: str = _setting(
        "LIMIT_API_KEY",
        readers.rules_or_off,
        "20 per hour",
        "API keys that one account makes, or off",
        group="limits",
    )
    payer_calls: int = _setting(
        "PAYER_CALLS_AT_ONCE",
        readers.count,
        "16",
        "calls of one payer that are open in one worker and not paid yet, at least 1",
        group="limits",
    )
    settlements: int = _setting(
        "SETTLEMENTS_AT_ONCE",
        readers.count,
        "64",
        "payments that one worker is having settled, at least 1",
        group="limits",
    )
    bind: str = _setting(
        "X402JOBS_BIND",
        readers.bind,
        "127.0.0.1:4020",
        "where the server listens: host:port or unix:path",
        group="server",
    )
    workers: int = _setting(
        "WEB_CONCURRENCY",
        readers.count,
        "1",
        "worker processes of this machine, about one a core; over the embedded store always one",
        group="server",
    )
    max_open_requests: int = _setting(
        "MAX_OPEN_REQUESTS",
        readers.count,
        "1500",
        "requests that one worker holds open at once, streams included; one above it is told 503 "
        "with Retry-After",
        group="server",
    )
    grace_seconds: int = _setting(
        "GRACE_SECONDS",
        readers.grace,
        "300",
        "how long streams may still run once the server is asked to end, 10 to 3600; whatever "
        "stops it has to wait longer",
        group="server",
    )
    claude_url: str = _setting(
        "CLAUDE_URL",
        readers.url,
        "https://api.anthropic.com",
        "Claude's API; plain http only on loopback",
        group="Claude",
    )
    connect_seconds: float = _setting(
        "CLAUDE_CONNECT_SECONDS",
        readers.seconds,
        "5",
        "limit on connecting to Claude",
        group="Claude",
    )
    first_content_seconds: float = _setting(
        "CLAUDE_FIRST_CONTENT_SECONDS",
        readers.seconds,
        "30",
        "limit on the first content, retries included",
        group="Claude",
    )
    idle_seconds: float = _setting(
        "CLAUDE_IDLE_SECONDS",
        readers.seconds,
        "60",
        "limit on a silence of Claude's",
        group="Claude",
    )
    total_seconds: float = _setting(
        "CLAUDE_TOTAL_SECONDS",
        readers.seconds,
        "600",
        "limit on a whole answer",
        group="Claude",
    )
    server_key: str = _setting(
        "ANTHROPIC_API_KEY",
        readers.text,
        "",
        "the operator's own Claude key; of use where TASKS_SHARE_SERVER_KEY allows it",
        group="Claude",
        secret=True,
    )
    shares_server_key: bool = _setting(
        "TASKS_SHARE_SERVER_KEY",
        readers.flag,
        "false",
        "true: tasks of accounts without a Claude key of their own run with ANTHROPIC_API_KEY",
        group="Claude",
    )
    facilitator_url: str = _setting(
        "FACILITATOR_URL",
        readers.optional_url,
        "",
        "whoever verifies and settles payments, https, plain http only on loopback; "
        "empty: the development ledger, play money",
        group="money",
        secret=True,  # it may end in a key
    )
    networks: tuple[Network, ...] = _setting(
        "X402_NETWORKS",
        readers.networks,
        "",
        "what FACILITATOR_URL is paid on, comma-separated, each once, the preferred one first: "
        "base, base-sepolia, polygon, avalanche, or their CAIP-2 names such as eip155:8453",
        group="money",
    )
    settle_seconds: float = _setting(
        "FACILITATOR_SETTLE_SECONDS",
        readers.seconds,
        "90",
        "limit on settling; longer than the facilitator itself waits for a confirmation",
        group="money",
    )
    rpc_urls: tuple[tuple[str, str], ...] = _setting(
        "CHAIN_RPC_URL",
        readers.rpc_urls,
        "",
        "a node to ask what became of a payment, https, plain http only on loopback; for several "
        "networks one each, comma-separated: eip155:8453=https://…,eip155:137=https://…",
        group="money",
        secret=True,  # it mostly holds a key
    )
    confirmations: Depth | None = _setting(
        "CHAIN_CONFIRMATIONS",
        readers.confirmations,
        "",
        "how deep a payment's block has to be: blocks on top of it, safe or finalized (minutes, "
        "which callers wait for); empty: the network's own, 1 to 8 blocks",
        group="money",
    )
    heartbeat_seconds: float = _setting(
        "HEARTBEAT_SECONDS",
        readers.seconds,
        "15",
        "silence on a stream before a comment is sent",
        group="server",
    )
    log_level: str = _setting(
        "LOG_LEVEL",
        readers.level,
        "INFO",
        "DEBUG, INFO, WARNING or ERROR",
        group="operations",
    )
    metrics_token: str = _setting(
        "METRICS_TOKEN",
        readers.metrics_token,
        "",
        "what who asks for /metrics shows as Authorization: Bearer …, 16 characters or more, no "
        "spaces; empty: it is told on this machine alone",
        group="operations",
        secret=True,
    )

    @property
    def shared_key(self) -> Secret | None:
        """The Claude key for whoever has none, None where the operator shares none."""
        return Secret(self.server_key) if self.shares_server_key and self.server_key else None

    @property
    def limits(self) -> dict[str, str]:
        """The rules of each limit that is counted over time, by the name it has in ports.Limits."""
        names = [each.name for each in fields(self) if each.name.startswith("limit_")]
        return {name.removeprefix("limit_"): getattr(self, name) for name in names}

    @property
    def is_embedded(self) -> bool:
        """Whether the store is the file in the data directory, and no Supabase project."""
        return not self.supabase_url

    @property
    def public_origin(self) -> str:
        """What a browser says it is on when it is on a page of ours."""
        return readers.origin(self.public_url)

    @property
    def is_plain_loopback(self) -> bool:
        """Whether this is one machine's own service, without TLS."""
        parts = urlsplit(self.public_url)
        return parts.scheme == "http" and parts.hostname in readers.LOOPBACK

    @property
    def nodes(self) -> dict[str, str]:
        """The URL to ask about each network, by its CAIP-2 name."""
        return {name or self.networks[0].id: url for name, url in self.rpc_urls}

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
        if values.keys() >= COMPARED:
            faults += contradictions(**values)
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
