"""Claude's bytes become an answer, however they are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.adapters.claude.faults import MAX_RETRY_AFTER, seconds
from x402jobs.adapters.claude.stream import (
    MAX_ANSWER_CHARACTERS,
    MAX_EVENT_BYTES,
    Answer,
    EventStream,
)
from x402jobs.devkit.claude_server import recorded_stream
from x402jobs.domain.errors import (
    ContextTooLong,
    EmptyAnswer,
    ModelError,
    Overloaded,
    RateLimited,
    Truncated,
)

TEXT = "Über dem Dach – 雨 🌧 fällt\n\n  leise."


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def says(text):
    return event(type="content_block_delta", delta={"type": "text_delta", "text": text})


def hear(*chunks):
    """The answer to these chunks, and its whole text."""
    answer = Answer("asked-for")
    text = "".join(text for chunk in chunks if not answer.over for text in answer.feed(chunk))
    answer.finish()
    return answer, text


def cut(stream, places):
    places = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in zip(places, places[1:], strict=False)]


def cuts(stream):
    return st.lists(st.integers(0, len(stream)), max_size=30).map(lambda at: cut(stream, at))


WHOLE = recorded_stream(TEXT)
ENDINGS = {
    "end marker": WHOLE,
    "CRLF": WHOLE.replace(b"\n", b"\r\n"),
    "error event": says("Rain") + event(type="error", error={"type": "overloaded_error"}),
    "no JSON": says("Rain") + b"data: {\n\n" + says("never heard"),
    "nothing": b"",
    "comment": b": keep-alive\n\n:\n\n" + WHOLE,
}


@pytest.mark.parametrize("kind", ENDINGS)
@given(data=st.data())
def test_an_answer_does_not_depend_on_where_its_bytes_are_cut(kind, data):
    answer, text = hear(ENDINGS[kind])

    again, same = hear(*data.draw(cuts(ENDINGS[kind])))

    assert same == text
    assert (again.ended, type(again.failure)) == (answer.ended, type(answer.failure))
    assert (again.usage, again.model, again.stop_reason) == (
        answer.usage,
        answer.model,
        answer.stop_reason,
    )


@given(st.text())
def test_every_text_arrives_as_it_was_said(text):
    answer, heard = hear(recorded_stream(text))

    assert heard == text.encode("utf-8", "replace").decode()
    assert answer.ended == (text != "")


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_whatsoever_raise_or_look_like_an_end(noise, size):
    answer, _ = hear(*(noise[at : at + size] for at in range(0, len(noise), size)))

    assert not answer.ended
    assert isinstance(answer.failure, ModelError)


def test_an_answer_cut_at_any_byte_has_not_ended():
    for length in range(len(WHOLE)):
        answer, text = hear(WHOLE[:length])

        assert (length, answer.ended, type(answer.failure)) == (length, False, Truncated)
        assert TEXT.startswith(text)


def test_lines_may_end_either_way_and_data_may_have_many():
    events = EventStream()

    heard = [*events.feed(b"data:1\r\ndata: 2\n\r\ndata"), *events.feed(b":  3\n\nevent: x\n\n")]

    assert heard == [b"1\n2", b" 3"]


def test_usage_is_told_twice_and_the_later_numbers_count_unless_they_are_null():
    start = event(
        type="message_start",
        message={
            "model": "claude-real",
            "usage": {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4},
        },
    )
    end = event(
        type="message_delta",
        delta={"stop_reason": "end_turn"},
        usage={"output_tokens": 70, "cache_read_input_tokens": None},
    )

    answer, _ = hear(start + says("Rain") + end + event(type="message_stop"))

    assert answer.usage == {"input_tokens": 9, "output_tokens": 70, "cache_read_input_tokens": 4}
    assert (answer.model, answer.stop_reason) == ("claude-real", "end_turn")
    assert answer.ended


@pytest.mark.parametrize(
    ("stop_reason", "fault"),
    [
        ("end_turn", EmptyAnswer),
        ("refusal", EmptyAnswer),
        ("model_context_window_exceeded", ContextTooLong),
    ],
)
def test_an_end_without_text_is_no_answer(stop_reason, fault):
    answer, _ = hear(recorded_stream("", stop_reason=stop_reason))

    assert type(answer.failure) is fault


@pytest.mark.parametrize("stop_reason", ["refusal", "max_tokens", "model_context_window_exceeded"])
def test_an_end_with_text_is_an_answer_whatever_its_reason(stop_reason):
    answer, text = hear(recorded_stream(TEXT, stop_reason=stop_reason))

    assert (answer.ended, text, answer.stop_reason) == (True, TEXT, stop_reason)


def test_what_claude_thinks_or_newly_invents_is_passed_over():
    thinking = event(
        type="content_block_delta", delta={"type": "thinking_delta", "thinking": "Hmm"}
    )

    _, text = hear(thinking + event(type="new", of="kind") + b'data: {"no": "type"}\n\n' + WHOLE)

    assert text == TEXT


@pytest.mark.parametrize(
    "data",
    [
        b"not JSON",
        b"[]",
        b"null",
        b'"message_stop"',
        b"\xff",
        rb'{"type":"content_block_delta","delta":{"type":"text_delta","text":"\ud83c"}}',
        b"[" * 100_000,
        b'{"type":"content_block_delta"}',
        b'{"type":"content_block_delta","delta":"text"}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":7}}',
        b'{"type":"message_start"}',
        b'{"type":"message_delta","delta":[]}',
        b'{"type":"error"}',
    ],
)
def test_an_event_nobody_could_have_meant_ends_the_answer(data):
    answer, text = hear(says("Rain") + b"data: " + data + b"\n\n" + WHOLE)

    assert text == "Rain"
    assert type(answer.failure) is ModelError
    assert answer.failure.__context__ is None


@pytest.mark.parametrize("size", [65_536, 7_001])
@pytest.mark.parametrize("start", [b"data: ", b": ", b"data: x\n" * 200_000])
def test_an_event_over_a_megabyte_ends_the_answer(size, start):
    stream = start + b"x" * (MAX_EVENT_BYTES + 1)

    answer, _ = hear(*(stream[at : at + size] for at in range(0, len(stream), size)))

    assert type(answer.failure) is ModelError


def test_an_answer_over_a_megabyte_ends():
    piece = says("x" * 65_536)
    fits = MAX_ANSWER_CHARACTERS // 65_536

    full, _ = hear(piece * fits + event(type="message_stop"))
    over, text = hear(piece * fits + says("y") + event(type="message_stop"))

    assert full.ended
    assert type(over.failure) is ModelError
    assert len(text) == MAX_ANSWER_CHARACTERS


def test_text_said_before_an_error_is_not_lost():
    error = event(type="error", error={"type": "rate_limit_error", "message": "m"})

    answer, text = hear(says("Rain ") + says("falls") + error + says("never"))

    assert text == "Rain falls"
    assert type(answer.failure) is RateLimited


def test_nothing_after_the_end_marker_counts():
    error = event(type="error", error={"type": "overloaded_error"})

    answer, text = hear(WHOLE + error + says("more"))

    assert (answer.ended, answer.failure, text) == (True, None, TEXT)


def test_an_error_event_is_sorted_by_its_type_alone():
    error = event(type="error", error={"type": "overloaded_error", "message": "429 401 sk-ant"})

    answer, _ = hear(error)

    assert type(answer.failure) is Overloaded
    assert answer.failure.message == Overloaded.sentence


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("", None),
        ("3", 3),
        ("1.5", 1.5),
        ("0", 0),
        ("-5", 0),
        ("4294967", MAX_RETRY_AFTER),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("Sun Nov  6 08:49:37 1994", 0),
        ("Fri, 06 Nov 2999 08:49:37 GMT", MAX_RETRY_AFTER),
        ("Fri, 99 Foo 2999 08:49:37 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(header, wait):
    assert seconds(header) == wait


def test_retry_after_of_a_date_is_the_time_until_then(monkeypatch):
    monkeypatch.setattr("x402jobs.adapters.claude.faults.time.time", lambda: 784_111_770.0)

    assert seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 7


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Za-z]{3} -?\d+ [\d:]+ \w*")))
def test_retry_after_is_never_a_fault_of_ours(header):
    wait = seconds(header)

    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER
