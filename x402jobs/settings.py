"""Everything the environment decides, read once, every fault reported at once."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from x402jobs.domain.networks import DEVELOPMENT, NETWORKS, Network, Networks
from x402jobs.domain.secret import Secret

Depth = int | Literal["safe", "finalized"]
"""How deep a block has to be: so many others on top of it, or the node's own word for it."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


class SettingsError(Exception):
    """The environment cannot be used; each line names a variable and the mend, never a value."""


def _text(value: str) -> str:
    return value


def _utf8(value: str) -> str:
    value.encode()
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


def _flag(value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError
    return value == "true"


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


def _optional_url(value: str) -> str:
    return _url(value) if value else ""


def _project_url(value: str) -> str:
    """In the one way in which tokens name it as their issuer."""
    return _origin(_optional_url(_public_url(value))) if value else ""


def _secret_key(value: str) -> str:
    """Supabase's other key, for browsers, looks much alike and would find every door shut."""
    if value.startswith("sb_publishable_") or re.fullmatch(r"[\x21-\x7e]*", value) is None:
        raise ValueError
    return value


def _jwt_secret(value: str) -> str:
    if value and len(value.encode()) < 32:
        raise ValueError
    return value


def _networks(value: str) -> tuple[Network, ...]:
    known = Networks(tuple(NETWORKS.values()))
    found = [known.find(name.strip()) for name in value.split(",")] if value else []
    networks = tuple(network for network in found if network is not None)
    if len({network.id for network in networks}) != len(found):  # an unknown one, or one twice
        raise ValueError
    return networks


def _rpc_url(value: str) -> str:
    """Providers put their key into the path, the query, or a user's name."""
    parts = urlsplit(value)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or parts.port == 0 or parts.fragment:
        raise ValueError
    if parts.scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError
    if any(character <= " " for character in value):
        raise ValueError
    return value


def _rpc_urls(value: str) -> tuple[tuple[str, str], ...]:
    """A node's URL for each network's CAIP-2 name; one URL alone is under the empty name."""
    known = Networks(tuple(NETWORKS.values()))
    urls = []
    for part in value.split(",") if value else []:
        name, _, url = part.strip().partition("=")
        network = known.find(name)
        urls.append((network.id, _rpc_url(url)) if network else ("", _rpc_url(part.strip())))
    names = {name for name, _ in urls}
    if len(names) != len(urls) or ("" in names and len(urls) > 1):
        raise ValueError
    return tuple(urls)


def _confirmations(value: str) -> Depth | None:
    match value:
        case "":
            return None
        case "safe" | "finalized":
            return value
    if re.fullmatch(r"0|[1-9]\d{0,3}", value, re.ASCII) is None:
        raise ValueError
    return int(value)


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError
    _origin(value)  # a port that is none
    return value.rstrip("/")


def _origin(url: str) -> str:
    """A URL's origin as a browser writes it: lower-case, without the port that goes unsaid."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _origins(value: str) -> tuple[str, ...]:
    """Exactly what browsers send: anything else would never be equal to it."""
    origins = tuple(each.strip() for each in value.split(",")) if value else ()
    for each in origins:
        if not each.isascii() or _origin(_url(each)) != each or re.search(r"[\s*@\\]", each):
            raise ValueError
    if len(set(origins)) != len(origins):
        raise ValueError
    return origins


def _proxies(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(each.strip()) for each in value.split(",")) if value else ()


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
    supabase_url: str = _setting(
        "SUPABASE_URL",
        _project_url,
        "",
        "the Supabase project whose database is the store and whose accounts may sign in, such as "
        "https://ref.supabase.co, plain http only on loopback; empty: the embedded store",
    )
    supabase_secret_key: str = _setting(
        "SUPABASE_SECRET_KEY",
        _secret_key,
        "",
        "its secret key, sb_secret_… (or the older service_role one), not the publishable one",
        secret=True,
    )
    supabase_jwt_secret: str = _setting(
        "SUPABASE_JWT_SECRET",
        _jwt_secret,
        "",
        "only where the project still signs with HS256: its legacy JWT secret, 32 bytes or more; "
        "empty: tokens are checked with the keys that the project publishes",
        secret=True,
    )
    integration_secret: str = _setting(
        "INTEGRATION_ENCRYPTION_SECRET",
        _utf8,
        "",
        "the origin service's secret, to read the Claude keys it sealed; empty: there are none",
        secret=True,
    )
    public_url: str = _setting(
        "PUBLIC_URL",
        _public_url,
        "http://127.0.0.1:4020",
        "the origin in every URL we give out",
    )
    frontend_origins: tuple[str, ...] = _setting(
        "FRONTEND_ORIGINS",
        _origins,
        "",
        "other origins whose pages may call every door but the paid one, cookies included, "
        "comma-separated, as browsers write them: https://app.example; plain http only on loopback",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "TRUSTED_PROXIES",
        _proxies,
        "",
        "addresses or networks, comma-separated, of proxies that set X-Real-IP themselves, for "
        "limits alone; one in front of a unix socket needs no naming",
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
    server_key: str = _setting(
        "ANTHROPIC_API_KEY",
        _text,
        "",
        "the operator's own Claude key; of use where TASKS_SHARE_SERVER_KEY allows it",
        secret=True,
    )
    shares_server_key: bool = _setting(
        "TASKS_SHARE_SERVER_KEY",
        _flag,
        "false",
        "true: tasks of accounts without a Claude key of their own run with ANTHROPIC_API_KEY",
    )
    facilitator_url: str = _setting(
        "FACILITATOR_URL",
        _optional_url,
        "",
        "whoever verifies and settles payments, https, plain http only on loopback; "
        "empty: the development ledger, play money",
        secret=True,  # it may end in a key
    )
    networks: tuple[Network, ...] = _setting(
        "X402_NETWORKS",
        _networks,
        "",
        "what FACILITATOR_URL is paid on, comma-separated, each once, the preferred one first: "
        "base, base-sepolia, polygon, avalanche, or their CAIP-2 names such as eip155:8453",
    )
    settle_seconds: float = _setting(
        "FACILITATOR_SETTLE_SECONDS",
        _seconds,
        "90",
        "limit on settling; longer than the facilitator itself waits for a confirmation",
    )
    rpc_urls: tuple[tuple[str, str], ...] = _setting(
        "CHAIN_RPC_URL",
        _rpc_urls,
        "",
        "a node to ask what became of a payment, https, plain http only on loopback; for several "
        "networks one each, comma-separated: eip155:8453=https://…,eip155:137=https://…",
        secret=True,  # it mostly holds a key
    )
    confirmations: Depth | None = _setting(
        "CHAIN_CONFIRMATIONS",
        _confirmations,
        "",
        "how deep a payment's block has to be: blocks on top of it, safe or finalized (minutes, "
        "which callers wait for); empty: the network's own, 1 to 8 blocks",
    )
    heartbeat_seconds: float = _setting(
        "HEARTBEAT_SECONDS", _seconds, "15", "silence on a stream before a comment is sent"
    )
    log_level: str = _setting("LOG_LEVEL", _level, "INFO", "DEBUG, INFO, WARNING or ERROR")

    @property
    def shared_key(self) -> Secret | None:
        """The Claude key for whoever has none, None where the operator shares none."""
        return Secret(self.server_key) if self.shares_server_key and self.server_key else None

    @property
    def is_embedded(self) -> bool:
        """Whether the store is the file in the data directory, and no Supabase project."""
        return not self.supabase_url

    @property
    def public_origin(self) -> str:
        """What a browser says it is on when it is on a page of ours."""
        return _origin(self.public_url)

    @property
    def is_plain_loopback(self) -> bool:
        """Whether this is one machine's own service, without TLS."""
        parts = urlsplit(self.public_url)
        return parts.scheme == "http" and parts.hostname in LOOPBACK

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
            faults += _contradictions(**values)
        if faults:
            raise SettingsError("\n".join(faults))
        return cls(**values)


COMPARED = frozenset(
    {
        *("environment", "facilitator_url", "networks", "rpc_urls"),
        *("server_key", "shares_server_key"),
        *("supabase_url", "supabase_secret_key", "supabase_jwt_secret", "keys"),
    }
)
"""The settings that may contradict one another."""


def _contradictions(
    *,
    environment: str,
    server_key: str,
    shares_server_key: bool,
    facilitator_url: str,
    networks: tuple[Network, ...],
    rpc_urls: tuple[tuple[str, str], ...],
    supabase_url: str,
    supabase_secret_key: str,
    supabase_jwt_secret: str,
    keys: str,
    **_: Any,
) -> list[str]:
    """What is wrong with some settings together, though each may be good alone."""
    faults = []
    if supabase_url and not supabase_secret_key:
        faults.append("SUPABASE_SECRET_KEY: SUPABASE_URL needs it; set both, or neither")
    if supabase_secret_key and not supabase_url:
        faults.append("SUPABASE_URL: SUPABASE_SECRET_KEY needs it; set both, or neither")
    if supabase_jwt_secret and not supabase_url:
        faults.append("SUPABASE_JWT_SECRET: without SUPABASE_URL nobody signs with it; unset it")
    if environment == "production" and supabase_url and not keys:
        faults.append(
            "X402JOBS_KEYS: a ring in a directory is one machine's, and the store may be several "
            "machines'; set it"
        )
    if shares_server_key and not server_key:
        faults.append("TASKS_SHARE_SERVER_KEY: there is none to share; set ANTHROPIC_API_KEY")
    if facilitator_url and not networks:
        faults.append("X402_NETWORKS: FACILITATOR_URL needs it; name a network, such as base")
    if networks and not facilitator_url:
        faults.append(
            f"X402_NETWORKS: the development ledger serves {DEVELOPMENT.id} alone; "
            "set FACILITATOR_URL, or unset this"
        )
    if environment == "production" and not facilitator_url:
        faults.append("ENV: production needs a facilitator; set FACILITATOR_URL and X402_NETWORKS")
    if environment == "production" and any(network.development for network in networks):
        faults.append(f"X402_NETWORKS: production refuses {DEVELOPMENT.id}, play money; drop it")
    if environment == "production" and facilitator_url and networks and not rpc_urls:
        faults.append("CHAIN_RPC_URL: production needs a node that tells what money has moved")
    return faults + _chain_contradictions(facilitator_url, networks, dict(rpc_urls))


def _chain_contradictions(
    facilitator_url: str, networks: tuple[Network, ...], rpc_urls: dict[str, str]
) -> list[str]:
    """A network that is offered no longer may keep its node: rows may still be settling there."""
    if not rpc_urls:
        return []
    if not facilitator_url:
        return ["CHAIN_RPC_URL: the development ledger is a chain of its own; unset this"]
    if "" in rpc_urls:
        if len(networks) > 1:
            return ["CHAIN_RPC_URL: there are several networks; say which with eip155:…=https://…"]
        return []
    bare = [network.id for network in networks if network.id not in rpc_urls]
    return [f"CHAIN_RPC_URL: names no node for {name}; add {name}=https://…" for name in bare]


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
