"""What a caller sends is read strictly: one meaning, or an error that names the place."""

import io
import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import WatchedFacilitator, quoted, refused
from tests.conftest import RAIN, Shop, events

LIMIT = 64 * 1024

PARAMETERS: list[dict[str, Any]] = [
    {"name": "topic", "maxLength": 100},
    {"name": "season", "required": False, "enum": ["spring", "autumn"]},
    {"name": "mood", "default": "calm"},
]
PROMPT = "{topic}{/topic} {season}{/season} {mood}{/mood}"


def keys(count: int) -> bytes:
    return json.dumps({f"key{number}": "x" for number in range(count)}).encode()


def deep(depth: int) -> bytes:
    return b'{"topic": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


INVALID: dict[str, tuple[bytes, str]] = {
    # what is sent, the field that is named
    "no JSON": (b"topic=rain", "body"),
    "half an object": (b'{"topic": "rain"', "body"),
    "single quotes": (b"{'topic': 'rain'}", "body"),
    "a comment": (b'{"topic": "rain"} // ok', "body"),
    "trailing garbage": (b'{"topic": "rain"} x', "body"),
    "two objects": (b'{"topic": "rain"}{"topic": "rain"}', "body"),
    "a trailing comma": (b'{"topic": "rain",}', "body"),
    "an array": (b'[{"topic": "rain"}]', "body"),
    "an empty array": (b"[]", "body"),
    "a string": (b'"rain"', "body"),
    "a number": (b"7", "body"),
    "true": (b"true", "body"),
    "null": (b"null", "body"),
    "a duplicate key": (b'{"topic": "rain", "topic": "snow"}', "body"),
    "a duplicate key, escaped": (rb'{"topic": "rain", "\u0074opic": "snow"}', "body"),
    "a duplicate key inside": (b'{"topic": {"a": 1, "a": 2}}', "body"),
    "NaN": (b'{"topic": NaN}', "body"),
    "Infinity": (b'{"topic": Infinity}', "body"),
    "-Infinity": (b'{"topic": -Infinity}', "body"),
    "1e999": (b'{"topic": 1e999}', "body"),
    "a number of 5000 digits": (b'{"topic": ' + b"9" * 5000 + b"}", "body"),
    "nested nine deep": (deep(9), "body"),
    "nested far too deep": (deep(30_000), "body"),
    "NUL, escaped": (rb'{"topic": "ra\u0000in"}', "body"),
    "NUL, bare": (b'{"topic": "ra\x00in"}', "body"),
    "NUL in a name": (rb'{"to\u0000pic": "rain"}', "body"),
    "NUL alone": (b"\x00", "body"),
    "a control character, bare": (b'{"topic": "ra\x01in"}', "body"),
    "a new line, bare": (b'{"topic": "ra\nin"}', "body"),
    "half a surrogate pair": (rb'{"topic": "\ud83c"}', "body"),
    "surrogates the wrong way round": (rb'{"topic": "\udf27\ud83c"}', "body"),
    "half a surrogate pair in a name": (rb'{"\ud83c": "rain"}', "body"),
    "not UTF-8": (b'{"topic": "\xff"}', "body"),
    "Latin-1": ('{"topic": "pluie d\'été"}'.encode("latin-1"), "body"),
    "a surrogate in UTF-8": (b'{"topic": "\xed\xa0\x80"}', "body"),
    "too long a form": (b'{"topic": "\xc0\xaf"}', "body"),
    "UTF-16": ('{"topic": "rain"}'.encode("utf-16"), "body"),
    "UTF-32": ('{"topic": "rain"}'.encode("utf-32-le"), "body"),
    "a byte order mark": (b'\xef\xbb\xbf{"topic": "rain"}', "body"),
    "65 keys": (keys(65), "body"),
    "a missing parameter": (b'{"mood": "glad"}', "topic"),
    "an empty parameter": (b'{"topic": ""}', "topic"),
    "a parameter of null": (b'{"topic": null}', "topic"),
    "a number for a string": (b'{"topic": 7}', "topic"),
    "true for a string": (b'{"topic": true}', "topic"),
    "an array for a string": (b'{"topic": ["rain"]}', "topic"),
    "an object for a string": (b'{"topic": {"is": "rain"}}', "topic"),
    "a number for an optional one": (b'{"topic": "rain", "season": 7}', "season"),
    "none of the choices": (b'{"topic": "rain", "season": "winter"}', "season"),
    "a choice in capitals": (b'{"topic": "rain", "season": "Spring"}', "season"),
    "too long a value": (b'{"topic": "' + b"a" * 101 + b'"}', "topic"),
    "an unknown key": (b'{"topic": "rain", "colour": "grey"}', "colour"),
    "an unknown key of null": (b'{"topic": "rain", "colour": null}', "colour"),
    "a key in capitals": (b'{"topic": "rain", "Topic": "rain"}', "Topic"),
    "a key with a space": (b'{"topic": "rain", "topic ": "rain"}', "topic "),
    "a key of nothing": (b'{"topic": "rain", "": "rain"}', ""),
    "a key of other letters": ('{"topic": "rain", "thème": "pluie"}'.encode(), "thème"),
    "a look-alike key": ('{"t\u043epic": "rain"}'.encode(), "t\u043epic"),
    "a full-width key": ('{"\uff54opic": "rain"}'.encode(), "\uff54opic"),
    "a very long key": (json.dumps(RAIN | {"k" * 999: "x"}).encode(), "k" * 64),
    "stream in the body": (b'{"topic": "rain", "stream": "false"}', "stream"),
    "stream as false": (b'{"topic": "rain", "stream": false}', "stream"),
    "network in the body": (b'{"topic": "rain", "network": "base"}', "network"),
    "sse in the body": (b'{"topic": "rain", "sse": "ids"}', "sse"),
    "after in the body": (b'{"topic": "rain", "after": "7"}', "after"),
    "a message that is not taken": (b'{"topic": "rain", "user_message": "hi"}', "user_message"),
    "an empty message that is not taken": (
        b'{"topic": "rain", "user_message": ""}',
        "user_message",
    ),
    "a number for a message": (b'{"topic": "rain", "user_message": 7}', "user_message"),
    "an object for a message": (b'{"topic": "rain", "user_message": {}}', "user_message"),
}


@pytest.fixture(autouse=True)
def three_parameters(shop: Shop) -> None:
    shop.publish(parameters=PARAMETERS, system_prompt=PROMPT)


def send(shop: Shop, body: bytes, headers: dict[str, str], **options: Any) -> TestResponse:
    headers = {"Content-Type": "application/json"} | headers
    return shop.client.post(shop.url, data=body, headers=headers, **options)


def nothing_happened(shop: Shop, watched: WatchedFacilitator) -> None:
    assert (shop.rows(), watched.asked, shop.claude.calls) == ([], [], [])


@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
@pytest.mark.parametrize("what", INVALID)
def test_an_invalid_body_is_an_error_that_names_the_field(
    shop: Shop, watched: WatchedFacilitator, what: str, paying: bool
) -> None:
    body, field = INVALID[what]

    reply = send(shop, body, shop.payment() if paying else {})

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == field
    nothing_happened(shop, watched)


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
@pytest.mark.parametrize(
    "body", [b"a" * (LIMIT + 1), b" " * (LIMIT + 1), b" " * LIMIT + b'{"topic": "rain"}']
)
def test_a_body_over_the_limit_is_refused_and_never_cut(
    shop: Shop, watched: WatchedFacilitator, body: bytes, paying: bool, chunked: bool
) -> None:
    options: dict[str, Any] = {}
    if chunked:  # as gunicorn shows it: no length, an end
        options = {
            "input_stream": io.BytesIO(body),
            "environ_overrides": {"wsgi.input_terminated": True},
        }

    reply = send(shop, b"" if chunked else body, shop.payment() if paying else {}, **options)

    refused(reply, 413, "PAYLOAD_TOO_LARGE")
    nothing_happened(shop, watched)


@pytest.mark.parametrize("padding", [0, 1])
def test_the_last_byte_of_the_limit_is_still_read(shop: Shop, padding: int) -> None:
    shop.publish(
        parameters=[{"name": "topic"}, {"name": "more"}],
        system_prompt="{topic}{/topic}{more}{/more}",
    )
    words = json.dumps({"topic": "x" * 32_000, "more": "y" * 32_000}).encode()
    body = words + b" " * (LIMIT - len(words) + padding)

    status = send(shop, body, shop.payment()).status_code

    assert status == (413 if padding else 200)


WORTH = {
    "escapes": rb'{"topic": "\u0072ain \ud83c\udf27"}',
    "spaces around": b'\r\n\t {"topic": "rain"} \n',
    "a choice": b'{"topic": "rain", "season": "autumn"}',
    "null for an optional one": b'{"topic": "rain", "season": null, "mood": null}',
    "empty for an optional one": b'{"topic": "rain", "season": "", "mood": ""}',
    "no message": b'{"topic": "rain", "user_message": null}',
    "the longest value": json.dumps({"topic": "é" * 100}).encode(),
    "something that looks like a tag": b'{"topic": "{mood}{/mood} \\\\1 $& {"}',
}


@pytest.mark.parametrize("what", WORTH)
def test_a_good_body_buys(shop: Shop, what: str) -> None:
    reply = send(shop, WORTH[what], shop.payment())

    assert events(reply)[-1]["type"] == "done"


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_is_json_whatever_it_says_it_is(shop: Shop, content_type: str) -> None:
    headers = shop.payment() | {"Content-Type": content_type}

    assert send(shop, b'{"topic": "rain"}', headers).status_code == 200


@pytest.mark.parametrize("message, fine", [("why?", True), ("", True), (None, True), (7, False)])
def test_a_message_is_text_where_the_template_takes_one(
    shop: Shop, message: object, fine: bool
) -> None:
    shop.publish(allows_user_message=True)

    reply = shop.buy(RAIN | {"user_message": message})

    if not fine:
        body = refused(reply, 400, "INVALID_REQUEST")
        assert (body["error"], body["field"]) == ("user_message must be a string", "user_message")
        return
    assert events(reply)[-1]["type"] == "done"
    (turn,) = shop.claude.calls[0]["body"]["messages"]
    assert turn["content"] == (message or "Please respond based on the system prompt.")


SENTENCES = {
    b'{"topic": ""}': "Missing required parameter: topic",
    b'{"mood": "glad"}': "Missing required parameter: topic",
    b'{"topic": "rain", "colour": "grey"}': "Unknown parameter: colour",
    b'{"topic": "rain", "user_message": "hi"}': "This template does not accept user messages",
    b'{"topic": 7}': "topic must be a string",
    b'{"stream": "false"}': "stream belongs in the query: use ?stream=…",
}


@pytest.mark.parametrize("body", SENTENCES)
def test_the_sentence_says_what_to_do(shop: Shop, body: bytes) -> None:
    assert refused(send(shop, body, {}), 400, "INVALID_REQUEST")["error"] == SENTENCES[body]


def test_values_that_together_grow_too_large_are_refused_before_payment(
    shop: Shop, watched: WatchedFacilitator
) -> None:
    shop.publish(system_prompt="{topic}{/topic}" * 10)

    reply = shop.buy({"topic": "x" * 30_000})

    refused(reply, 400, "CONTEXT_LENGTH_EXCEEDED")
    nothing_happened(shop, watched)


# Probes (spec/instant.md, Quote)


@pytest.mark.parametrize("body", [b"", b"{}", b" \n", b" { } "])
def test_a_probe_of_a_priced_template_meets_its_price(
    shop: Shop, watched: WatchedFacilitator, body: bytes
) -> None:
    quoted(send(shop, body, {}))
    quoted(shop.client.get(shop.url))
    nothing_happened(shop, watched)


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_payment_is_not_a_probe(shop: Shop, watched: WatchedFacilitator, body: bytes) -> None:
    reply = send(shop, body, shop.payment())

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == "topic"
    nothing_happened(shop, watched)


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_there_are_no_probes_of_a_free_template(shop: Shop, body: bytes) -> None:
    shop.publish(price=0)

    assert refused(send(shop, body, {}), 400, "INVALID_REQUEST")["field"] == "topic"


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_an_owner_test_is_not_a_probe(shop: Shop, body: bytes) -> None:
    headers = {"X-OWNER-TEST": "true", "Authorization": f"Bearer {shop.token()}"}

    assert refused(send(shop, body, headers), 400, "INVALID_REQUEST")["field"] == "topic"


@pytest.mark.parametrize("body", [b'{"topic": ""}', b'{"topic": null}', b'{"mood": "glad"}'])
def test_a_body_with_a_name_in_it_is_not_a_probe(shop: Shop, body: bytes) -> None:
    assert refused(send(shop, body, {}), 400, "INVALID_REQUEST")["field"] == "topic"


# The query


@pytest.mark.parametrize(
    "query, field", [("topic=rain", "topic"), ("x=1", "x"), ("a", "a"), ("%ff", "query")]
)
@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
def test_a_post_takes_nothing_from_the_query(
    shop: Shop, watched: WatchedFacilitator, query: str, field: str, paying: bool
) -> None:
    headers = shop.payment() if paying else {}

    reply = shop.client.post(f"{shop.url}?{query}", json=RAIN, headers=headers)

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == field
    nothing_happened(shop, watched)


@pytest.mark.parametrize("name", ["sse", "after", "network", "stream"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wish_that_is_not_offered_is_refused_by_name(
    shop: Shop, watched: WatchedFacilitator, method: str, name: str
) -> None:
    reply = shop.client.open(f"{shop.url}?{name}=x", method=method, json=RAIN)

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == name
    nothing_happened(shop, watched)


QUERIES = {
    "given twice": ("topic=rain&topic=rain", "topic"),
    "unknown": ("topic=rain&colour=grey", "colour"),
    "empty": ("topic=", "topic"),
    "missing": ("mood=glad", "topic"),
    "NUL": ("topic=ra%00in", "topic"),
    "NUL in a name": ("to%00pic=rain", "to\0pic"),
    "not UTF-8": ("topic=%ff", "query"),
    "not UTF-8 in a name": ("%ff=rain", "query"),
    "a surrogate in UTF-8": ("topic=%ed%a0%80", "query"),
    "not UTF-8, in the clear": ("topic=\xff", "query"),
    "a message": ("topic=rain&user_message=hi", "user_message"),
    "65 names": ("&".join(f"k{number}=x" for number in range(65)), "query"),
}


@pytest.mark.parametrize("paying", [False, True], ids=["unpaid", "paid"])
@pytest.mark.parametrize("what", QUERIES)
def test_an_invalid_query_of_a_get_is_an_error_that_names_the_field(
    shop: Shop, watched: WatchedFacilitator, what: str, paying: bool
) -> None:
    query, field = QUERIES[what]

    headers = shop.payment() if paying else {}

    reply = shop.client.get(shop.url, headers=headers, environ_overrides={"QUERY_STRING": query})

    assert refused(reply, 400, "INVALID_REQUEST")["field"] == field
    nothing_happened(shop, watched)


def test_a_get_buys_what_a_post_would(shop: Shop) -> None:
    """The same values are the same request: whoever bought by GET may come back by POST."""
    payment = shop.payment()
    by_get = shop.client.get(f"{shop.url}?mood=a%20b&topic=r%C3%A9", headers=payment)
    first = events(by_get)

    by_post = shop.client.post(shop.url, json={"topic": "ré", "mood": "a b"}, headers=payment)

    assert (by_get.status_code, first[-1]["type"]) == (200, "done")
    assert events(by_post)[-1] == first[-1]
    assert len(shop.claude.calls) == len(shop.ledger.transfers()) == 1
    assert shop.claude.calls[0]["body"]["system"] == "ré  a b"
    refused(shop.client.get(f"{shop.url}?topic=r", headers=payment), 409, "CONFLICT")
