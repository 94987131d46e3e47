"""What is wrong with some settings together, though each may be good alone."""

from typing import Any

from x402jobs.domain.networks import DEVELOPMENT, Network

COMPARED = frozenset(
    {
        *("environment", "facilitator_url", "networks", "rpc_urls"),
        *("server_key", "shares_server_key", "limit_task"),
        *("supabase_url", "supabase_secret_key", "supabase_jwt_secret", "keys"),
    }
)
"""The settings that may contradict one another."""


def contradictions(
    *,
    environment: str,
    server_key: str,
    shares_server_key: bool,
    limit_task: str,
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
    if shares_server_key and limit_task == "off":
        faults.append("LIMIT_TASK: TASKS_SHARE_SERVER_KEY makes it your own bill; set a rule")
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
