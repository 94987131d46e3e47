"""A fast stand-in for Claude: streams what an order asks for, at its pace, and does nothing else.

The devkit's stand-in is faithful; this one is light. `python -m benchmarks.upstream PORT`.
"""

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

from benchmarks.order import Order

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nrequest-id: req_benchmark\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _event(kind: str, **fields: object) -> bytes:
    """One server-sent event in a chunk of its own, as Claude writes them."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    event = f"event: {kind}\ndata: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


_MESSAGE: dict[str, object] = {
    "id": "msg_benchmark",
    "type": "message",
    "role": "assistant",
    "model": "claude-benchmark",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 1},
}
_OPENING = (
    _HEAD
    + _event("message_start", message=_MESSAGE)
    + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
)
_DELTA = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    '"delta":{"type":"text_delta","text":"',
    '"}}\n\n',
)
"""What is around a piece of text, which never needs an escape: built here once, not a delta."""
_CLOSING = (
    _event("content_block_stop", index=0)
    + _event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"output_tokens": 200},
    )
    + _event("message_stop")
    + b"0\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """One kept-alive connection; one answer at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._said = 0
        self._begun = 0
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = bytes(self._received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or length is None or len(body) < int(length[1]):
            return
        self._received.clear()  # nobody here sends the next request before the answer
        self._order = Order.find(body)
        self._said = 0
        self._begun = int(self._loop.time() * 1_000_000)
        self._transport.write(_OPENING)
        self._say()

    def _say(self) -> None:
        order = self._order
        delta = order.piece(self._said, self._begun).join(_DELTA).encode()
        said = b"%x\r\n%b\r\n" % (len(delta), delta)
        self._said += 1
        if self._said == order.deltas:
            self._transport.write(said + _CLOSING)
        else:
            self._transport.write(said)
            due = order.due(self._said, self._begun) / 1_000_000
            self._next = self._loop.call_at(due, self._say)


async def serve(port: int) -> None:
    """Until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        uvloop.run(serve(int(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
