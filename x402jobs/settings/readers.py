"""How each kind of setting is read. The first line of a reader is what the reference calls it.

Whatever cannot be read is a ValueError, whose text nobody is told: it quotes the value.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from x402jobs.domain.networks import NETWORKS, Network, Networks

Depth = int | Literal["safe", "finalized"]
"""How deep a block has to be: so many others on top of it, or the node's own word for it."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


def path(value: str) -> Path:
    """path"""
    return Path(value)


def text(value: str) -> str:
    """any text"""
    return value


def utf8(value: str) -> str:
    """any text"""
    value.encode()
    return value


def seconds(value: str) -> float:
    """seconds, above 0 and at most 3600"""
    seconds = float(value)
    if not 0 < seconds <= 3600:
        raise ValueError
    return seconds


def environment(value: str) -> str:
    """`development` or `production`"""
    if value not in ("development", "production"):
        raise ValueError
    return value


def flag(value: str) -> bool:
    """`true` or `false`"""
    if value not in ("true", "false"):
        raise ValueError
    return value == "true"


def level(value: str) -> str:
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`"""
    if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError
    return value.upper()


def url(value: str) -> str:
    """URL, https, or http on loopback"""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise ValueError
    return value.rstrip("/")


def optional_url(value: str) -> str:
    """URL, https, or http on loopback"""
    return url(value) if value else ""


def project_url(value: str) -> str:
    """origin, https, or http on loopback

    In the one way in which tokens name it as their issuer.
    """
    return origin(optional_url(public_url(value))) if value else ""


def secret_key(value: str) -> str:
    """printable ASCII, no `sb_publishable_…`

    Supabase's other key, for browsers, looks much alike and would find every door shut.
    """
    if value.startswith("sb_publishable_") or re.fullmatch(r"[\x21-\x7e]*", value) is None:
        raise ValueError
    return value


def jwt_secret(value: str) -> str:
    """text of 32 bytes or more"""
    if value and len(value.encode()) < 32:
        raise ValueError
    return value


def networks(value: str) -> tuple[Network, ...]:
    """names of networks, comma-separated"""
    known = Networks(tuple(NETWORKS.values()))
    found = [known.find(name.strip()) for name in value.split(",")] if value else []
    networks = tuple(network for network in found if network is not None)
    if len({network.id for network in networks}) != len(found):  # an unknown one, or one twice
        raise ValueError
    return networks


def rpc_url(value: str) -> str:
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


def rpc_urls(value: str) -> tuple[tuple[str, str], ...]:
    """one URL, or `network=URL` for each, comma-separated

    A node's URL for each network's CAIP-2 name; one URL alone is under the empty name.
    """
    known = Networks(tuple(NETWORKS.values()))
    urls = []
    for part in value.split(",") if value else []:
        name, _, url = part.strip().partition("=")
        network = known.find(name)
        urls.append((network.id, rpc_url(url)) if network else ("", rpc_url(part.strip())))
    names = {name for name, _ in urls}
    if len(names) != len(urls) or ("" in names and len(urls) > 1):
        raise ValueError
    return tuple(urls)


def confirmations(value: str) -> Depth | None:
    """0 to 9999, `safe` or `finalized`"""
    match value:
        case "":
            return None
        case "safe" | "finalized":
            return value
    if re.fullmatch(r"0|[1-9]\d{0,3}", value, re.ASCII) is None:
        raise ValueError
    return int(value)


def public_url(value: str) -> str:
    """origin, http or https"""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError
    origin(value)  # a port that is none
    return value.rstrip("/")


def origin(url: str) -> str:
    """A URL's origin as a browser writes it: lower-case, without the port that goes unsaid."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def origins(value: str) -> tuple[str, ...]:
    """origins, comma-separated

    Exactly what browsers send: anything else would never be equal to it.
    """
    origins = tuple(each.strip() for each in value.split(",")) if value else ()
    for each in origins:
        if not each.isascii() or origin(url(each)) != each or re.search(r"[\s*@\\]", each):
            raise ValueError
    if len(set(origins)) != len(origins):
        raise ValueError
    return origins


def proxies(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """addresses or networks, comma-separated"""
    return tuple(ip_network(each.strip()) for each in value.split(",")) if value else ()


def bind(value: str) -> str:
    """`host:port` or `unix:path`"""
    if re.fullmatch(r"unix:.+|[^:]+:\d{1,5}", value) is None:
        raise ValueError
    return value


def redis_url(value: str) -> str:
    """URL of a Redis

    Its package takes every option of a connection from the query, time limits too.
    """
    if not value:
        return ""
    parts = urlsplit(value)
    is_socket = parts.scheme == "unix"
    if not is_socket and (parts.scheme not in ("redis", "rediss") or not parts.hostname):
        raise ValueError
    if not is_socket and (parts.port == 0 or re.fullmatch(r"/?|/\d{1,4}", parts.path) is None):
        raise ValueError
    if is_socket and (parts.hostname or not parts.path.startswith("/")):
        raise ValueError
    if re.fullmatch(r"|db=\d{1,4}" if is_socket else "", parts.query) is None:
        raise ValueError
    if parts.fragment or not value.isascii() or any(character <= " " for character in value):
        raise ValueError
    return value


RULE = re.compile(
    r"\s*[1-9]\d{0,5}\s*(/|per)\s*([1-9]\d{0,2}\s*)?(second|minute|hour|day|month|year)s?\s*",
    re.ASCII | re.IGNORECASE,
)
"""What the `limits` package reads, which takes 0.4 s to load, and of that no nonsense."""


def metrics_token(value: str) -> str:
    """16 to 256 characters of printable ASCII

    What can stand behind "Bearer " in a header, and is not guessed.
    """
    if value and re.fullmatch(r"[!-~]{16,256}", value) is None:
        raise ValueError
    return value


def rules(value: str) -> str:
    """so many per time, `10 per minute; 100 per day`"""
    if not all(RULE.fullmatch(rule) for rule in re.split("[,;|]", value)):
        raise ValueError
    return value


def rules_or_off(value: str) -> str:
    """so many per time, `10 per minute; 100 per day`, or `off`"""
    return value if value == "off" else rules(value)


def count(value: str) -> int:
    """a whole number, 1 to 1000000"""
    if re.fullmatch(r"[1-9]\d{0,6}", value, re.ASCII) is None or int(value) > 1_000_000:
        raise ValueError
    return int(value)


def grace(value: str) -> int:
    """whole seconds, 10 to 3600"""
    if not 10 <= count(value) <= 3600:  # the last runs are ended 5 seconds before its end
        raise ValueError
    return int(value)
