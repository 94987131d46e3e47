"""Bytes are made in one place, and everybody's reader gets the same text out of them."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.readers import ANY_CHUNKING, READERS, Reader
from x402jobs.blueprints import sse
from x402jobs.domain.events import Ending

SEPARATORS = "\n\r\u2028\u2029\u0085\v\f\x1c\x1d\x1e"
AWKWARD = SEPARATORS + '\x00\x7f"\\/:{}[]\ufeff\ufffe\U0001f327\U0010ffff\ud800\udfff é漢'
MAX_EVENT_BYTES = 16 * 1024

texts = st.text(st.one_of(st.sampled_from(AWKWARD), st.characters()), max_size=60)
"""Any text, lone surrogates included, rich in what line splitters trip over."""
pieces_of_text = st.lists(st.one_of(texts, st.none()), max_size=12)
"""What a follower says: text, and None for a silence."""


class Said:
    """A follower of something that has been said, and a line whose caller stays."""

    def __init__(self, *events: str | None) -> None:
        self._events = events

    def events(self, silence: float) -> Iterator[str | Ending | None]:
        yield from self._events

    def gone(self) -> bool:
        return False

    def begin(self) -> None:
        """A delivery's: nobody counts here."""

    def end(self, *_: object) -> None:
        """The same."""


def dialect(event: Any) -> dict[str, Any]:
    return {"type": "text", "content": event}


def written(*events: str | None) -> list[bytes]:
    """What the writer gives the server for these, write by write."""
    said = Said(*events)
    return list(sse.lines(said, dialect, said, 1.0, said))  # type: ignore[arg-type]


def said_by(*pieces: str | None) -> str:
    """The text that pieces make for a reader of JSON, to whom two halves are one character."""
    halves = [(piece or "").encode("utf-16-le", "surrogatepass") for piece in pieces]
    return "".join(half.decode("utf-16-le", "surrogatepass") for half in halves)


def rebuilt(reader: Reader, chunks: list[bytes]) -> str:
    return "".join(json.loads(data)["content"] for data in reader(chunks))


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ({"type": "text", "content": "a b"}, b'data: {"type":"text","content":"a b"}\n\n'),
        ({"a": "\n\r\x00"}, b'data: {"a":"\\n\\r\\u0000"}\n\n'),
        ({"a": "\u2028\u2029\x85"}, b'data: {"a":"\\u2028\\u2029\\u0085"}\n\n'),
        ({"a": "é"}, b'data: {"a":"\\u00e9"}\n\n'),
        ({"a": "\U0001f327"}, b'data: {"a":"\\ud83c\\udf27"}\n\n'),
        ({"a": "\ud800"}, b'data: {"a":"\\ud800"}\n\n'),
        ({"a": 'say "hi" \\'}, b'data: {"a":"say \\"hi\\" \\\\"}\n\n'),
    ],
)
def test_an_event_is_one_line_of_ascii(payload: dict[str, Any], line: bytes) -> None:
    assert sse.encode(payload) == line


@given(texts)
@example(AWKWARD)
def test_no_text_can_end_its_own_line(text: str) -> None:
    event = sse.encode({"type": "text", "content": text})

    assert event.startswith(b"data: ") and event.endswith(b"\n\n")
    assert all(0x20 <= byte < 0x80 for byte in event[:-2])
    assert event.decode("ascii").splitlines() == [event[:-2].decode("ascii"), ""]


@given(pieces=pieces_of_text, data=st.data())
@pytest.mark.parametrize("reader", ANY_CHUNKING.values(), ids=ANY_CHUNKING.keys())
def test_every_reader_rebuilds_any_text_from_any_chunks(
    reader: Reader, pieces: list[str | None], data: st.DataObject
) -> None:
    body = b"".join(written(*pieces))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    edges = sorted({0, len(body), *cuts})
    chunks = [body[start:end] for start, end in pairwise(edges)]

    assert rebuilt(reader, chunks) == said_by(*pieces)


@given(pieces_of_text)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_every_reader_rebuilds_any_text_byte_by_byte_or_write_by_write(
    reader: Reader, pieces: list[str | None]
) -> None:
    writes = written(*pieces)
    text = said_by(*pieces)

    assert rebuilt(reader, writes) == text
    if reader in ANY_CHUNKING.values():
        assert rebuilt(reader, [bytes([byte]) for byte in b"".join(writes)]) == text


@given(pieces=pieces_of_text, data=st.data())
def test_the_loop_of_seed_3_reads_any_joining_of_whole_events(
    pieces: list[str | None], data: st.DataObject
) -> None:
    writes = written(*pieces)
    cuts = data.draw(st.lists(st.integers(0, len(writes)), max_size=6))
    edges = sorted({0, len(writes), *cuts})
    chunks = [b"".join(writes[start:end]) for start, end in pairwise(edges)]

    assert rebuilt(READERS["seed 3's loop"], chunks) == said_by(*pieces)


@pytest.mark.parametrize("character", ["a", "é", "\U0001f327", "\ud800", "\n", '"', "\x00"])
@pytest.mark.parametrize("length", [1, 1299, 1300, 1301, 100_000])
def test_no_event_is_longer_than_16_kib_whatever_is_said_at_once(
    character: str, length: int
) -> None:
    writes = written(character * length)

    assert max(map(len, writes)) <= MAX_EVENT_BYTES
    assert rebuilt(READERS["whatwg"], writes) == character * length


def test_a_silence_is_a_comment_that_no_reader_mentions() -> None:
    writes = written(None, "a", None, None, "b", None)

    assert writes.count(b": ping\n\n") == 4
    for reader in READERS.values():
        assert [json.loads(data)["content"] for data in reader(writes)] == ["a", "b"]


def test_a_caller_who_left_during_a_silence_is_written_to_no_more() -> None:
    said = Said("a", None, "b")
    said.gone = lambda: True  # type: ignore[method-assign]

    assert list(sse.lines(said, dialect, said, 1.0, said)) == [  # type: ignore[arg-type]
        sse.encode(dialect("a"))
    ]


@pytest.mark.parametrize(
    ("body", "reader", "loses"),
    [
        (b'id: 1\ndata: {"a":1}\n\n', "seed 3's loop", "every event"),
        (b'event: text\ndata: {"a":1}\n\n', "seed 3's loop", "every event"),
        (b'\xef\xbb\xbfdata: {"a":1}\n\n', "sseclient-py", "the first event"),
        (b'data: {"a":1}\n', "whatwg", "the last event"),
    ],
)
def test_the_other_spellings_would_have_cost_somebody(body: bytes, reader: str, loses: str) -> None:
    """Why the default dialect is bare: research/field.md, section 4.2. Also proves the readers."""
    assert list(READERS[reader]([body])) == [], f"{reader} was expected to lose {loses}"


@pytest.mark.parametrize("reader", ["httpx-sse", "anthropic", "openai"])
def test_a_lone_retry_would_have_been_an_empty_event(reader: str) -> None:
    assert list(READERS[reader]([b'retry: 100\n\ndata: {"a":1}\n\n'])) == ["", '{"a":1}']


class Noted(Said):
    """A delivery that remembers how it ended."""

    ended: tuple[object, ...] = ()
    leaves = False

    def gone(self) -> bool:
        return self.leaves

    def end(self, *how: object) -> None:
        self.ended = how


@pytest.mark.parametrize(
    ("taken", "leaves", "ended"),
    [
        (3, False, ("whole", 2, 7, None)),
        (1, True, ("caller_left", 1, 4, None)),
        (1, False, ("too_slow", 1, 4, None)),
    ],
    ids=["all of it was taken", "the caller left", "the caller did not read"],
)
def test_how_it_ended_for_the_caller_is_said_once(
    taken: int, leaves: bool, ended: tuple[object, ...]
) -> None:
    said = Noted("Rain", None, "...") if not leaves else Noted("Rain", "...")
    said.leaves = leaves
    telling = sse.lines(said, dialect, said, 1.0, said)  # type: ignore[arg-type]

    for _ in range(taken):
        next(telling)
    if taken == 3:
        assert list(telling) == []
    telling.close()  # type: ignore[attr-defined]  # as the server does when it cannot write

    assert said.ended == ended


def test_a_caller_who_has_gone_in_a_silence_has_left() -> None:
    said = Noted("Rain", None, "...")
    said.leaves = True

    assert len(list(sse.lines(said, dialect, said, 1.0, said))) == 1  # type: ignore[arg-type]

    assert said.ended == ("caller_left", 1, 4, None)
