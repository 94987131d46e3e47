"""The checks of who moves money and who tells whether it has moved."""

import base64
import json
import time
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from x402jobs.adapters.bounded_http import Connections, within
from x402jobs.adapters.chain import AHEAD_SECONDS, BEHIND_SECONDS, LARGEST_ANSWER
from x402jobs.adapters.chain.node import Node
from x402jobs.doctor import Check, Finding, clocks, fail, ok, warn
from x402jobs.doctor.requests import FAULTS, ask
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import SCHEME
from x402jobs.settings import Settings

ASK_SECONDS = 10.0
SLOW_SECONDS = 60
"""A node whose newest block is older falls behind, though it still counts."""


def checks(settings: Settings) -> list[Check]:
    if not settings.facilitator_url:
        return [
            Check("money", "facilitator", lambda: ok("none: the development ledger, play money"))
        ]
    asked = _Supported(settings.facilitator_url)
    found = [
        Check("money", "facilitator", asked.answers),
        Check("money", "its clock", asked.clock, ("facilitator",)),
    ]
    for network in settings.networks:
        name = network.short_name or network.id
        pays, node = partial(asked.covers, network), partial(_node, settings, network)
        found += [
            Check("money", f"pays {name}", pays, ("facilitator",)),
            Check("money", f"node {name}", node),
        ]
    return found


class _Supported:
    """What the facilitator says of itself, asked once; its URL is told by its host alone."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._host = urlsplit(url).hostname or ""
        self._kinds: list[Any] = []
        self._date: str | None = None
        self._asked = (0.0, 0.0)

    def answers(self) -> Finding:
        mend = "see its status page; nobody can pay meanwhile: docs/operations.md, facilitator"
        before, path = time.time(), urlsplit(self._url).path
        try:
            # Not by the adapter's connections, which leave every header behind, the Date too.
            reply = ask(self._url, f"{path}/supported", headers=self._credentials())
        except FAULTS:
            return fail(f"{self._host} does not answer", mend)
        self._asked, self._date = (before, time.time()), reply.headers.get("date")
        if reply.status != 200:
            return fail(f"{self._host} answers /supported with {reply.status}", mend)
        try:
            self._kinds = json.loads(reply.body)["kinds"]
            assert isinstance(self._kinds, list)
        except (ValueError, KeyError, TypeError, AssertionError):
            return fail(f"{self._host} does not say what it supports", "is FACILITATOR_URL right?")
        return ok(f"{self._host} answers, and supports {len(self._kinds)} kinds of payment")

    def _credentials(self) -> dict[str, str]:
        """Those of the URL, as clients send them."""
        parts = urlsplit(self._url)
        if parts.username is None:
            return {}
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def covers(self, network: Network) -> Finding:
        for kind in self._kinds:
            if isinstance(kind, dict) and (
                kind.get("scheme"),
                kind.get("network"),
                kind.get("x402Version"),
            ) == (SCHEME, network.id, 2):
                return ok(f"{SCHEME} on {network.id}")
        return fail(
            f"{self._host} does not offer {SCHEME} on {network.id}, so nobody can pay there",
            "take it out of X402_NETWORKS, or use a facilitator that offers it",
        )

    def clock(self) -> Finding:
        return clocks.dated("the facilitator's", self._date, *self._asked)


def _node(settings: Settings, network: Network) -> Finding:
    url = settings.nodes.get(network.id)
    if url is None:
        return warn("none: a settlement whose answer is lost stays unknown", "set CHAIN_RPC_URL")
    host, connections = urlsplit(url).hostname, Connections(LARGEST_ANSWER)
    node = Node(url, connections)
    try:
        with within(ASK_SECONDS), closing(connections):
            if not node.is_of(network.chain_id):
                return fail(
                    f"{host} is a node of another chain than {network.id}",
                    "name the right one in CHAIN_RPC_URL: no settlement can be told",
                )
            age = time.time() - node.block("latest").time
    except Exception as error:  # its words can quote the URL, and that mostly holds a key
        return fail(
            f"{host} does not answer as a node does ({type(error).__name__})",
            "see its provider's status page, and whether the key in CHAIN_RPC_URL is still good",
        )
    if age > BEHIND_SECONDS:
        return fail(
            f"{host} has not kept up: its newest block is {age:.0f} s old",
            "use another node in CHAIN_RPC_URL, or compare this host's clock",
        )
    if age < -AHEAD_SECONDS:
        return fail(
            f"{host} has a block from {-age:.0f} s in the future",
            "compare this host's clock with others; docs/operations.md, chain",
        )
    if age > SLOW_SECONDS:
        return warn(f"{host}: its newest block is {age:.0f} s old", "watch it, or use another")
    return ok(f"{host} is on the chain, its newest block {max(age, 0):.0f} s old")
