"""A node in front of the chain: JSON-RPC over HTTP on loopback, honest until told otherwise."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from eth_tester.exceptions import BlockNotFound, TransactionFailed, TransactionNotFound

from tests.chain.evm import Evm

SAFE, FINALIZED = 2, 4
"""So many blocks below the newest one are those that the node calls by these names."""


@dataclass(frozen=True)
class Script:
    """How a method is answered. `change` is given the honest result, and says another.

    `body` stands in for the whole answer, `silence` and `drip` are seconds before the first byte
    and after each of them, and `cut_at` is how much of the body is sent.
    """

    change: Callable[[Any], Any] = lambda said: said
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    silence: float = 0
    drip: float = 0
    cut_at: int | None = None


class Declined(Exception):
    """An error in JSON-RPC's sense: its code, and words that the node has for it."""


class RpcNode:
    """Serves one chain until the `with` is left. `largest_page` caps the blocks of eth_getLogs."""

    def __init__(self, evm: Evm) -> None:
        self._evm = evm
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()
        self._listener: _Listener | None = None
        self._port = 0
        self.asked: list[str] = []
        self.largest_page = 10_000

    @property
    def url(self) -> str:
        """Where it is served, with a key in its path."""
        return f"http://127.0.0.1:{self._port}/v2/planted-node-key"

    def script(self, method: str, script: Script) -> None:
        """From now on this method is answered like that."""
        self._scripts[method] = script

    def forget(self) -> None:
        """Be honest again, and remember nothing."""
        self._scripts.clear()
        self.asked.clear()
        self.largest_page = 10_000

    def start(self) -> None:
        """Serve, at the port of the last time."""
        self._listener = _Listener(("127.0.0.1", self._port), self)
        self._port = self._listener.server_port

    def stop(self) -> None:
        """Hang up on everybody."""
        if self._listener is not None:
            self._listener.stop()
        self._listener = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, question: dict[str, Any]) -> tuple[Script, str]:
        """How to say it, and what."""
        method, params = question["method"], question["params"]
        self.asked.append(method)
        script = self._scripts.get(method, Script())
        if script.body is not None:
            return script, script.body
        envelope = {"jsonrpc": "2.0", "id": question["id"]}
        try:
            with self._lock:
                said = script.change(getattr(self, f"_{method}", self._unknown)(*params))
        except Declined as declined:
            code, words = declined.args
            return script, json.dumps(envelope | {"error": {"code": code, "message": words}})
        return script, json.dumps(envelope | {"result": said})

    def _unknown(self, *_: Any) -> Any:
        raise Declined(-32601, "the method does not exist")

    def _eth_chainId(self) -> str:
        return hex(self._evm.network.chain_id)

    def _eth_getBlockByNumber(self, name: str, full: bool) -> Any:
        try:
            block = self._evm.tester.get_block_by_number(self._number(name), full)
        except BlockNotFound:
            return None
        return {
            "number": hex(block["number"]),
            "hash": block["hash"],
            "parentHash": block["parent_hash"],
            "timestamp": hex(block["timestamp"]),
            "transactions": list(block["transactions"]),
        }

    def _eth_call(self, call: dict[str, str], name: str) -> Any:
        try:
            return self._evm.tester.call({"from": self._evm.owner} | call, self._number(name))
        except (TransactionFailed, BlockNotFound):
            raise Declined(-32000, "header not found") from None

    def _eth_getLogs(self, wanted: dict[str, Any]) -> Any:
        first, last = (self._number(wanted[name]) for name in ("fromBlock", "toBlock"))
        if last - first >= self.largest_page:
            raise Declined(-32602, f"ranges over {self.largest_page} blocks are not supported")
        found = []
        for number in range(first, last + 1):
            for log in self._logs(number):
                if log["address"] == wanted["address"] and _fits(log["topics"], wanted["topics"]):
                    found.append(log)
        return found

    def _eth_getTransactionReceipt(self, transaction: str) -> Any:
        try:
            receipt = self._evm.tester.get_transaction_receipt(transaction)
        except TransactionNotFound:
            return None
        logs = self._logs(receipt["block_number"])
        return {
            "transactionHash": receipt["transaction_hash"],
            "blockNumber": hex(receipt["block_number"]),
            "blockHash": receipt["block_hash"],
            "status": hex(receipt["status"]),
            "logs": [each for each in logs if each["transactionHash"] == transaction],
        }

    def _logs(self, number: int) -> list[dict[str, Any]]:
        """A block's logs, counted through the whole block as nodes do and eth-tester does not."""
        block = self._evm.tester.get_block_by_number(number)
        receipts = map(self._evm.tester.get_transaction_receipt, block["transactions"])
        return [
            {
                "address": log["address"].lower(),
                "topics": list(log["topics"]),
                "data": log["data"],
                "logIndex": hex(index),
                "transactionHash": log["transaction_hash"],
                "blockNumber": hex(log["block_number"]),
                "blockHash": log["block_hash"],
                "removed": False,
            }
            for index, log in enumerate(log for receipt in receipts for log in receipt["logs"])
        ]

    def _number(self, name: str) -> int:
        below = {"latest": 0, "safe": SAFE, "finalized": FINALIZED}
        if name in below:
            return max(self._evm.number - below[name], 0)
        return int(name, 16)


def _fits(topics: list[str], wanted: list[Any]) -> bool:
    if len(topics) < len(wanted):
        return False
    pairs = zip(topics, wanted, strict=False)
    return all(topic in (asked if isinstance(asked, list) else [asked]) for topic, asked in pairs)


class _Listener(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], node: RpcNode) -> None:
        self.node = node
        self.stopping = threading.Event()
        self.lines: set[socket.socket] = set()
        super().__init__(address, _Handler)
        self._accepting = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._accepting.start()

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self._accepting.join()
        for line in tuple(self.lines):
            with suppress(OSError):  # its reader was faster
                line.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who leaves is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.lines.add(self.connection)

    def finish(self) -> None:
        self.server.lines.discard(self.connection)
        super().finish()

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        script, said = self.server.node.answer(question)
        body = said.encode()
        self.server.stopping.wait(script.silence)
        lines = [f"HTTP/1.1 {script.status} {responses.get(script.status, 'Unnamed')}"]
        lines += [f"{name}: {value}" for name, value in script.headers]
        lines += ["content-type: application/json", f"content-length: {len(body)}", "", ""]
        reply = "\r\n".join(lines).encode() + body[: script.cut_at]
        self.close_connection |= script.cut_at is not None
        if not script.drip:
            return self.connection.sendall(reply)
        for place in range(len(reply)):
            if self.server.stopping.wait(script.drip):
                return
            self.connection.sendall(reply[place : place + 1])

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
