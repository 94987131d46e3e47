"""Readers of server-sent events, as people have them: each turns a body into its events' data.

A body is an iterable of the pieces that arrived. What a reader gives back are the `data` of the
events in their order, an empty one included: that is what would break a caller's `json.loads`.
"""

from collections.abc import Callable, Iterable, Iterator

import anthropic._streaming
import httpx
import httpx_sse
import openai._streaming
import sseclient

Reader = Callable[[Iterable[bytes]], Iterator[str]]


def whatwg(pieces: Iterable[bytes]) -> Iterator[str]:
    """The algorithm of the HTML standard, section 9.2.6, to the letter: what a browser does."""
    text = b"".join(pieces).decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    data = ""
    # What follows the last line end is a line only in a stream that goes on; an event without its
    # blank line is discarded.
    for line in text.split("\n")[:-1]:
        if not line:
            if data:
                yield data.removesuffix("\n")
            data = ""
            continue
        field, _, value = line.partition(":")
        if field == "data":
            data += value.removeprefix(" ") + "\n"


def seed_loop(pieces: Iterable[bytes]) -> Iterator[str]:
    """The fetch loop printed in seed 3, which decodes and splits each piece by itself.

    It can read only pieces that hold whole events.
    """
    for value in pieces:
        chunk = value.decode("utf-8", "replace")
        for line in chunk.split("\n\n"):
            if line.startswith("data: "):
                yield line[6:]


def httpx_sse_reader(pieces: Iterable[bytes]) -> Iterator[str]:
    """The httpx-sse package, over a response of httpx."""
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    response = httpx.Response(200, headers=headers, content=iter(pieces))
    return (event.data for event in httpx_sse.EventSource(response).iter_sse())


def anthropic_decoder(pieces: Iterable[bytes]) -> Iterator[str]:
    """The decoder inside the anthropic package."""
    events = anthropic._streaming.SSEDecoder().iter_bytes(iter(pieces))
    return (event.data for event in events)


def openai_decoder(pieces: Iterable[bytes]) -> Iterator[str]:
    """The decoder inside the openai package."""
    events = openai._streaming.SSEDecoder().iter_bytes(iter(pieces))
    return (event.data for event in events)


def sseclient_py(pieces: Iterable[bytes]) -> Iterator[str]:
    """The sseclient-py package."""
    return (event.data for event in sseclient.SSEClient(iter(pieces)).events())


ANY_CHUNKING: dict[str, Reader] = {
    "whatwg": whatwg,
    "httpx-sse": httpx_sse_reader,
    "anthropic": anthropic_decoder,
    "openai": openai_decoder,
    "sseclient-py": sseclient_py,
}
"""Readers that join pieces by themselves."""

READERS: dict[str, Reader] = ANY_CHUNKING | {"seed 3's loop": seed_loop}
