"""A node behind a URL, asked over JSON-RPC."""

import json
from itertools import count
from typing import Any

from x402jobs.adapters.bounded_http import Connections
from x402jobs.adapters.chain.words import Block, Log, Malformed, Receipt, logs, number, truth

_AUTHORIZATION_STATE = "0xe94a0102"
"""The selector of `authorizationState(address,bytes32)`, EIP-3009."""

TOO_MANY_REQUESTS = 429


class NoAnswer(Exception):
    """Not one that can be used. Whatever the node said about it is left behind: it can quote a
    key of the URL."""


class Declined(NoAnswer):
    """The node answers others, but not this question."""


class Node:
    """One node, on shared connections. Every question may raise NoAnswer, Malformed, or whatever
    goes wrong on the way; to be asked `within` a limit."""

    def __init__(self, url: str, connections: Connections) -> None:
        self._url = url
        self._connections = connections
        self._numbers = count(1)
        self._is_known = False

    def is_of(self, chain_id: int) -> bool:
        """Whether this node is one of that chain. Asked until it is: a URL keeps to its chain."""
        if not self._is_known:
            self._is_known = number(self._ask("eth_chainId")) == chain_id
        return self._is_known

    def block(self, at: int | str) -> Block:
        """The block of this number or tag."""
        name = hex(at) if isinstance(at, int) else at
        block = Block.read(self._ask("eth_getBlockByNumber", name, False))
        if isinstance(at, int) and block.number != at:
            raise Malformed
        return block

    def is_used(self, token: str, payer: str, nonce: str, block: Block) -> bool:
        """Whether the payer's nonce is used up, or cancelled, at the end of this block."""
        data = f"{_AUTHORIZATION_STATE}{payer[2:]:0>64}{nonce[2:]}"
        return truth(self._ask("eth_call", {"to": token, "data": data}, hex(block.number)))

    def logs(
        self, token: str, topics: list[str | list[str]], first: int, last: int
    ) -> tuple[Log, ...]:
        """The token's events of these topics, in these blocks."""
        wanted = {
            "address": token,
            "topics": topics,
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        found = logs(self._ask("eth_getLogs", wanted))
        if any(log.address != token or not first <= log.block <= last for log in found):
            raise Malformed
        return found

    def receipt(self, transaction: str) -> Receipt:
        """What this transaction has done."""
        receipt = Receipt.read(self._ask("eth_getTransactionReceipt", transaction))
        if receipt.transaction != transaction:
            raise Malformed
        return receipt

    def _ask(self, method: str, *params: object) -> Any:
        ours = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        reply = self._connections.client().post(self._url, json=ours)
        if 400 <= reply.status_code < 500 and reply.status_code != TOO_MANY_REQUESTS:
            raise Declined
        if reply.status_code != 200:
            raise NoAnswer
        try:
            said = json.loads(reply.content.decode())
        except (ValueError, RecursionError):
            raise Malformed from None
        if not isinstance(said, dict) or said.get("jsonrpc") != "2.0":
            raise Malformed
        if said.get("error") is not None:
            raise Declined
        if type(said.get("id")) is not int or said["id"] != ours["id"] or "result" not in said:
            raise Malformed
        return said["result"]
