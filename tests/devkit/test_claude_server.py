"""The stand-in Claude, seen through the SDK that will see it in the product."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx2
import pytest
from anthropic import Anthropic, APIStatusError
from anthropic.types import Message

from x402jobs.devkit.claude_reply import EXAMPLE_CALL, deltas
from x402jobs.devkit.claude_server import Call, ClaudeServer, ScriptError, recorded_stream

PROMPT = "You are the poet of a small harbour town. Write a haiku about autumn rain"
ASK: dict[str, Any] = {
    "model": "claude-simulated",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": PROMPT}],
}
EIGHT_WORDS = "Soft rain, a lamp, the harbour – ünder snow."


@pytest.fixture
def claude() -> Iterator[ClaudeServer]:
    with ClaudeServer(delta_ms=0) as server:
        yield server


@pytest.fixture
def sdk(claude: ClaudeServer) -> Iterator[Anthropic]:
    with Anthropic(api_key="sk-test", base_url=claude.url, max_retries=0, timeout=5) as client:
        yield client


def stream(sdk: Anthropic) -> Message:
    with sdk.messages.stream(**ASK) as speech:
        return speech.get_final_message()


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def control(claude: ClaudeServer, method: str, value: object = None) -> Any:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(claude.control_url, body, method=method)
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)


def connect(claude: ClaudeServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)


def post(
    line: http.client.HTTPConnection, call: object, key: str = "k"
) -> http.client.HTTPResponse:
    line.request("POST", "/v1/messages", json.dumps(call), {"x-api-key": key} if key else {})
    return line.getresponse()


def connected(claude: ClaudeServer) -> socket.socket:
    place = urlsplit(claude.url)
    return socket.create_connection((place.hostname, place.port), timeout=5)


def request(call: object) -> bytes:
    body = json.dumps(call).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nx-api-key: k\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def hear(reply: BinaryIO, words: bytes) -> None:
    """Read on to the end of the line that has these words, and not a byte further."""
    assert any(words in line for line in reply), f"the connection ended before {words!r}"


def settled(claude: ClaudeServer, within: float) -> Call:
    """The last call, once it has ended either way."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        call = claude.calls[-1]
        if call["hungUp"] or call["finishedAt"]:
            return call
        time.sleep(0.005)
    raise AssertionError(f"the call was still open after {within} s")


# An ordinary answer


def test_an_answer_is_streamed_in_the_order_of_the_messages_api(sdk: Anthropic) -> None:
    with sdk.messages.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line for line in response.iter_lines() if line.startswith("event: ")]

    names = list(dict.fromkeys(line.removeprefix("event: ") for line in lines))
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert 40 <= lines.count("event: content_block_delta") <= 80


def test_an_ordinary_answer_says_it_is_simulated_and_keeps_the_prompt_to_itself(
    sdk: Anthropic,
) -> None:
    first, second = stream(sdk), stream(sdk)

    assert "simulated" in text_of(first)
    assert "haiku about autumn rain" in text_of(first)
    assert "poet" not in text_of(first)
    assert (first.id, text_of(first)) == (second.id, text_of(second))


@pytest.mark.parametrize("prompt", ["", "rain", "rain\nfalls", "<b>&</b>", "sk-" + "x" * 99])
def test_a_short_prompt_is_never_repeated_whole(prompt: str) -> None:
    call = {**ASK, "messages": [{"role": "user", "content": prompt}]}

    body = recorded_stream(None, call).decode()

    assert "simulated" in "".join(body.split())
    assert not prompt or prompt not in body


def test_the_same_answer_can_be_had_whole(sdk: Anthropic) -> None:
    whole, streamed = sdk.messages.create(**ASK), stream(sdk)

    assert text_of(whole) == text_of(streamed)
    assert whole.stop_reason == streamed.stop_reason == "end_turn"
    assert whole.usage == streamed.usage


def test_usage_is_about_a_token_for_four_characters(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"text": "x" * 400})

    message = sdk.messages.create(**ASK, system=[{"type": "text", "text": "s" * 800}])

    assert message.usage.input_tokens == round((len(PROMPT) + 800) / 4)
    assert message.usage.output_tokens == 100


def test_a_stop_reason_and_a_usage_can_be_dictated(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"text": "No.", "stopReason": "refusal", "usage": {"output_tokens": 7}})

    message = stream(sdk)

    assert (message.stop_reason, message.usage.output_tokens) == ("refusal", 7)
    assert message.usage.input_tokens == round(len(PROMPT) / 4)


def test_an_answer_without_text_ends_empty(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"text": ""}, {"text": ""})

    streamed, whole = stream(sdk), sdk.messages.create(**ASK)

    assert (streamed.content, streamed.stop_reason) == ([], "end_turn")
    assert (whole.content, whole.stop_reason) == ([], "end_turn")


@pytest.mark.parametrize("text", ["", " ", "\n\nrain \n", "雨" * 30, "x" * 100, EIGHT_WORDS])
def test_deltas_put_together_are_the_text(text: str) -> None:
    assert "".join(deltas(text)) == text
    assert all(len(piece.strip()) <= 12 for piece in deltas(text))


def test_the_recorded_stream_is_what_goes_over_the_wire(claude: ClaudeServer) -> None:
    claude.script({"text": EIGHT_WORDS, "stopReason": "max_tokens", "usage": {"output_tokens": 1}})

    line = connect(claude)
    body = post(line, EXAMPLE_CALL).read()
    line.close()

    assert body == recorded_stream(
        EIGHT_WORDS, EXAMPLE_CALL, stop_reason="max_tokens", usage={"output_tokens": 1}
    )


def test_an_answer_keeps_the_pace_it_was_given(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"text": EIGHT_WORDS, "deltaMs": 30})

    begun = time.monotonic()
    stream(sdk)

    assert 0.24 <= time.monotonic() - begun < 0.6


# A request that is not right


@pytest.mark.parametrize(
    "change, named",
    [
        ({"model": None}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": ["hello"]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
    ],
)
def test_a_misshapen_request_is_refused_by_name(
    claude: ClaudeServer, change: dict[str, Any], named: str
) -> None:
    claude.script({"text": "kept for a good call"})
    line = connect(claude)
    response = post(line, {**ASK, **change})
    refusal = json.load(response)

    assert (response.status, refusal["error"]["type"]) == (400, "invalid_request_error")
    assert refusal["error"]["message"].startswith(f"{named}:")
    assert refusal["request_id"] == response.headers["request-id"]
    assert "kept for a good call" in post(line, ASK).read().decode()
    line.close()


@pytest.mark.parametrize("body", ["", "{", "[]", '"hello"'])
def test_a_body_that_is_no_json_object_is_refused(claude: ClaudeServer, body: str) -> None:
    line = connect(claude)
    line.request("POST", "/v1/messages", body, {"x-api-key": "k", "content-length": len(body)})
    response = line.getresponse()
    response.read()
    line.close()

    assert response.status == 400


def test_a_call_without_a_key_is_refused_and_still_written_down(claude: ClaudeServer) -> None:
    line = connect(claude)
    response = post(line, ASK, key="")
    refusal = json.load(response)
    line.close()

    assert (response.status, refusal["error"]["type"]) == (401, "authentication_error")
    assert [call["key"] for call in claude.calls] == [None]


def test_only_loopback_addresses_are_listened_on() -> None:
    for host in ("0.0.0.0", "192.168.1.7", "example.com", ""):
        with pytest.raises(ValueError):
            ClaudeServer(host=host)


# The list of models


def test_the_list_of_models_is_one_the_sdk_can_read(claude: ClaudeServer, sdk: Anthropic) -> None:
    page = sdk.models.list(limit=1)

    assert [model.id for model in page.data] == ["claude-simulated"]
    assert not page.has_next_page()
    assert [(call["path"], call["body"], call["key"]) for call in claude.calls] == [
        ("/v1/models", None, "sk-test")
    ]


def test_the_list_of_models_takes_its_turn_in_the_scripts(
    claude: ClaudeServer, sdk: Anthropic
) -> None:
    claude.script({"status": 401}, {"text": "Rain."}, {"errorEvent": "overloaded_error"})

    with pytest.raises(APIStatusError) as first:
        sdk.models.list()
    message = sdk.messages.create(**ASK)
    with pytest.raises(APIStatusError) as third:
        sdk.models.list()

    assert (first.value.status_code, first.value.type) == (401, "authentication_error")
    assert text_of(message) == "Rain."
    assert (third.value.status_code, third.value.type) == (529, "overloaded_error")
    assert [call["path"] for call in claude.calls] == ["/v1/models", "/v1/messages", "/v1/models"]


@pytest.mark.parametrize(
    "headers, status, error_type",
    [
        ({"anthropic-version": "2023-06-01"}, 401, "authentication_error"),
        ({"x-api-key": "k"}, 400, "invalid_request_error"),
        ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, 200, None),
    ],
)
def test_the_list_of_models_asks_for_a_key_and_a_version(
    claude: ClaudeServer, headers: dict[str, str], status: int, error_type: str | None
) -> None:
    line = connect(claude)
    line.request("GET", "/v1/models?limit=1", headers=headers)
    response = line.getresponse()
    said = json.load(response)
    line.close()

    assert response.status == status
    assert said.get("error", {}).get("type") == error_type


# Things that go wrong on request


@pytest.mark.parametrize(
    "status, error_type",
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (418, "api_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_status_brings_its_error_type(
    claude: ClaudeServer, sdk: Anthropic, status: int, error_type: str
) -> None:
    claude.script({"status": status, "text": "Not today", "headers": {"Retry-After": "3"}})

    with pytest.raises(APIStatusError) as refused:
        stream(sdk)

    error = refused.value
    assert (error.status_code, error.type, error.api_message) == (status, error_type, "Not today")
    assert error.response.headers["retry-after"] == "3"
    assert error.request_id == error.body["request_id"]  # type: ignore[index]


def test_a_status_can_have_another_error_type(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"status": 400, "errorEvent": "billing_error"})

    with pytest.raises(APIStatusError) as refused:
        stream(sdk)

    assert (refused.value.status_code, refused.value.type) == (400, "billing_error")


@pytest.mark.parametrize("spoken", [0, 3, 8, 99])
def test_an_error_event_ends_a_stream_after_the_deltas_before_it(
    claude: ClaudeServer, sdk: Anthropic, spoken: int
) -> None:
    claude.script({"text": EIGHT_WORDS, "errorEvent": "overloaded_error", "afterDeltas": spoken})

    heard: list[str] = []
    with pytest.raises(APIStatusError) as failed, sdk.messages.stream(**ASK) as speech:
        heard.extend(speech.text_stream)

    assert (failed.value.status_code, failed.value.type) == (200, "overloaded_error")
    assert heard == deltas(EIGHT_WORDS)[:spoken]


def test_an_error_event_asked_of_a_whole_answer_becomes_its_status(
    claude: ClaudeServer, sdk: Anthropic
) -> None:
    claude.script({"errorEvent": "overloaded_error"})

    with pytest.raises(APIStatusError) as refused:
        sdk.messages.create(**ASK)

    assert (refused.value.status_code, refused.value.type) == (529, "overloaded_error")


def test_a_cut_leaves_exactly_the_bytes_before_it(claude: ClaudeServer) -> None:
    whole = recorded_stream("Rain – snow", EXAMPLE_CALL)
    line = connect(claude)
    for end in range(len(whole)):
        claude.script({"text": "Rain – snow", "cutAtByte": end, "clean": True})
        assert post(line, EXAMPLE_CALL).read() == whole[:end]
    line.close()
    for end in (0, 1, 700, len(whole)):
        claude.script({"text": "Rain – snow", "cutAtByte": end})
        line = connect(claude)
        with pytest.raises(http.client.IncompleteRead) as dropped:
            post(line, EXAMPLE_CALL).read()
        assert dropped.value.partial == whole[:end]
        line.close()

    assert all(call["finishedAt"] and not call["hungUp"] for call in claude.calls)


def test_a_cut_beyond_the_end_never_happens(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"text": EIGHT_WORDS, "cutAtByte": 100_000})

    assert text_of(stream(sdk)) == EIGHT_WORDS


def test_a_dirty_cut_breaks_the_sdk_and_a_clean_one_does_not(
    claude: ClaudeServer, sdk: Anthropic
) -> None:
    claude.script({"cutAtByte": 900}, {"cutAtByte": 900, "clean": True})

    with pytest.raises(httpx2.RemoteProtocolError):
        stream(sdk)
    assert stream(sdk).stop_reason is None


@pytest.mark.parametrize("place, heard_before", [(-1, 0), (0, 0), (3, 3), (8, 8)])
def test_a_stall_is_silence_in_one_place(
    claude: ClaudeServer, sdk: Anthropic, place: int, heard_before: int
) -> None:
    claude.script({"text": EIGHT_WORDS, "stallSeconds": 0.25, "afterDeltas": place})

    begun = time.monotonic()
    moments: list[tuple[str, float]] = []
    with sdk.messages.create(**ASK, stream=True) as events:
        headers_after = time.monotonic() - begun
        for event in events:
            moments.append((event.type, time.monotonic() - begun))

    before = [kind for kind, moment in moments if moment < 0.2]
    assert (headers_after > 0.2) == (place == -1)
    assert ("message_start" in before) == (place >= 0)
    assert ("content_block_start" in before) == (place > 0)
    assert before.count("content_block_delta") == heard_before
    assert moments[-1][0] == "message_stop" and moments[-1][1] < 0.5


def test_a_refusal_can_be_slow(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script({"status": 529, "stallSeconds": 0.2})

    begun = time.monotonic()
    with pytest.raises(APIStatusError):
        stream(sdk)

    assert 0.2 <= time.monotonic() - begun < 0.5


# Readers who leave


@pytest.mark.parametrize(
    "script, heard",
    [
        pytest.param({"deltaMs": 40}, 4, id="pacing"),
        pytest.param({"deltaMs": 5000}, 2, id="pacing slowly"),
        pytest.param({"stallSeconds": 30}, 1, id="stalling before any content"),
        pytest.param({"stallSeconds": 30, "afterDeltas": 3}, 5, id="stalling"),
        pytest.param({"text": "rain " * 50_000}, 2, id="as fast as possible"),
    ],
)
def test_a_reader_who_hangs_up_is_noticed_at_once(
    claude: ClaudeServer, sdk: Anthropic, script: dict[str, Any], heard: int
) -> None:
    claude.script(script)

    with sdk.messages.create(**ASK, stream=True) as events:
        for _ in range(heard):
            next(events)
    left_at = time.time()
    call = settled(claude, within=1)

    assert (call["hungUp"], call["finishedAt"]) == (True, None)
    assert call["hungUpAt"] and call["hungUpAt"] - left_at < 0.2


def test_a_reader_who_leaves_before_the_headers_is_noticed_too(claude: ClaudeServer) -> None:
    claude.script({"stallSeconds": 30, "afterDeltas": -1})

    line = connect(claude)
    line.request("POST", "/v1/messages", json.dumps(ASK), {"x-api-key": "k"})
    while not claude.calls:
        time.sleep(0.005)
    line.close()

    assert settled(claude, within=0.2)["hungUp"]


def test_closing_after_the_end_is_not_hanging_up(claude: ClaudeServer) -> None:
    with Anthropic(api_key="sk-test", base_url=claude.url, max_retries=0) as sdk:
        stream(sdk)
    time.sleep(0.1)

    (call,) = claude.calls
    assert call["finishedAt"] and not call["hungUp"]


def test_leaving_on_the_last_event_is_not_hanging_up(claude: ClaudeServer) -> None:
    with connected(claude) as line, line.makefile("rb") as reply:
        line.sendall(request(EXAMPLE_CALL))
        hear(reply, b"event: message_stop")
    time.sleep(0.1)

    (call,) = claude.calls
    assert call["finishedAt"] and not call["hungUp"]


def test_a_request_sent_early_does_not_hurry_the_one_before(claude: ClaudeServer) -> None:
    claude.script({"text": "One.", "stallSeconds": 0.2}, {"text": "Two."})

    begun = time.monotonic()
    with connected(claude) as line, line.makefile("rb") as reply:
        line.sendall(request(EXAMPLE_CALL))
        hear(reply, b"event: message_start")
        line.sendall(request(EXAMPLE_CALL))
        hear(reply, b"One.")
        waited = time.monotonic() - begun
        hear(reply, b"Two.")

    assert waited >= 0.2


# The control address


def test_scripts_are_queued_replaced_and_cleared_from_outside(
    claude: ClaudeServer, sdk: Anthropic
) -> None:
    control(claude, "POST", [{"text": "never said"}])
    control(claude, "POST", [{"text": "first"}, {"text": "second"}, {"text": "third"}])
    said = [text_of(stream(sdk)), text_of(stream(sdk))]
    control(claude, "POST", [])
    said.append(text_of(stream(sdk)))

    assert said[:2] == ["first", "second"]
    assert "simulated" in said[2]


@pytest.mark.parametrize(
    "scripts, named",
    [
        ({"text": "alone"}, "list"),
        (["text"], "script 1"),
        ([{}, {"colour": "blue"}], "script 2: unknown key 'colour'"),
        ([{"text": 3}], "text"),
        ([{"text": None}], "text"),
        ([{"status": 204}], "status"),
        ([{"status": "429"}], "status"),
        ([{"headers": {"retry-after": 3}}], "headers"),
        ([{"headers": {"a": "b\r\nc: d"}}], "headers"),
        ([{"headers": {"Content-Length": "3"}}], "headers"),
        ([{"errorEvent": True}], "errorEvent"),
        ([{"afterDeltas": -2}], "afterDeltas"),
        ([{"afterDeltas": 1.5}], "afterDeltas"),
        ([{"cutAtByte": True}], "cutAtByte"),
        ([{"clean": 1}], "clean"),
        ([{"stallSeconds": -1}], "stallSeconds"),
        ([{"stallSeconds": float("nan")}], "stallSeconds"),
        ([{"deltaMs": "fast"}], "deltaMs"),
        ([{"stopReason": 1}], "stopReason"),
        ([{"usage": [1]}], "usage"),
    ],
)
def test_a_bad_script_is_refused_by_name_and_changes_nothing(
    claude: ClaudeServer, sdk: Anthropic, scripts: object, named: str
) -> None:
    claude.script({"text": "still queued"})

    with pytest.raises(urllib.error.HTTPError) as refused:
        control(claude, "POST", scripts)
    with refused.value as response:
        said = json.load(response)["error"]["message"]

    assert (refused.value.code, named in said) == (400, True)
    assert text_of(stream(sdk)) == "still queued"


def test_a_bad_script_is_refused_in_process_too(claude: ClaudeServer) -> None:
    with pytest.raises(ScriptError, match="script 2: unknown key 'txt'"):
        claude.script({"text": "good"}, {"txt": "bad"})


def test_calls_are_remembered_without_the_key_among_their_headers(
    claude: ClaudeServer, sdk: Anthropic
) -> None:
    before = time.time()
    stream(sdk)
    line = connect(claude)
    post(line, ASK, key="sk-other").read()
    line.close()
    calls = control(claude, "GET")

    assert calls == claude.calls
    assert [call["key"] for call in calls] == ["sk-test", "sk-other"]
    assert calls[0]["body"] == {**ASK, "stream": True}
    assert "anthropic-version" in calls[0]["headers"]
    assert not any("sk-" in json.dumps(call["headers"]) for call in calls)
    assert before <= calls[0]["startedAt"] <= calls[0]["finishedAt"] <= time.time()
    assert (calls[0]["hungUp"], calls[0]["hungUpAt"]) == (False, None)


def test_calls_can_be_forgotten(claude: ClaudeServer, sdk: Anthropic) -> None:
    stream(sdk)
    control(claude, "DELETE")

    assert control(claude, "GET") == claude.calls == []


# Many readers, one server


def test_one_connection_serves_many_answers(claude: ClaudeServer) -> None:
    claude.script({"status": 429}, {"errorEvent": "api_error"}, {"cutAtByte": 9, "clean": True})
    line = connect(claude)
    line.connect()
    own_end = line.sock
    for call in (EXAMPLE_CALL, EXAMPLE_CALL, EXAMPLE_CALL, ASK, EXAMPLE_CALL):
        post(line, call).read()

    assert line.sock is own_end
    line.close()


def test_a_hundred_answers_are_streamed_side_by_side(claude: ClaudeServer, sdk: Anthropic) -> None:
    claude.script(*[{"text": EIGHT_WORDS, "deltaMs": 60}] * 100)
    sdk = sdk.with_options(timeout=10)

    begun = time.monotonic()
    with ThreadPoolExecutor(100) as readers:
        messages = list(readers.map(lambda _: stream(sdk), range(100)))

    assert [text_of(message) for message in messages] == [EIGHT_WORDS] * 100
    assert time.monotonic() - begun < 5  # 48 s one after another
    assert all(call["finishedAt"] and not call["hungUp"] for call in claude.calls)


def test_stopping_ends_a_stalled_stream_at_once_and_blames_nobody(
    claude: ClaudeServer, sdk: Anthropic
) -> None:
    claude.script({"stallSeconds": 60})

    with sdk.messages.create(**ASK, stream=True) as events:
        next(events)
        begun = time.monotonic()
        claude.stop()
        with pytest.raises(httpx2.RemoteProtocolError):
            next(events)

    assert time.monotonic() - begun < 0.5
    assert [call["hungUp"] for call in claude.calls] == [False]


def test_a_stopped_server_comes_back_at_the_same_address(claude: ClaudeServer) -> None:
    address = claude.url
    claude.stop()
    claude.start()

    assert claude.url == address
    assert control(claude, "GET") == []
