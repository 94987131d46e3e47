"""Every field a creator may send, from both sides of its limits, and everything it is not."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blueprints.creators import SONNET, Creator, ada, faulty, haiku_id, newcomer
from tests.conftest import Shop
from x402jobs.blueprints.replies import MAX_BODY_BYTES
from x402jobs.blueprints.schemas import (
    ClaudeConfigSchema,
    ParameterSchema,
    ProfileSchema,
    TemplateSchema,
    WalletConfigSchema,
)

MOOD = "You write. Mood: {mood}{/mood}."
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
EVERY_TYPE: list[Any] = [None, True, False, 0, 1, -1, 1.0, 1.5, "1", "", [], ["1"], {}, {"a": 1}]


def many(count: int) -> dict[str, Any]:
    """A template of so many parameters, sent as one change."""
    names = [f"p{number}" for number in range(count)]
    return {
        "systemPrompt": "Write. " + " ".join(f"{{{name}}}{{/{name}}}" for name in names),
        "parameters": [{"name": name} for name in names],
    }


GOOD: dict[str, list[Any]] = {
    "name": ["n", "n" * 100, "🌧" * 100, "Ünïcode 'quoted' \"twice\" {x}{/x} <b>"],
    "slug": ["a", "0", "a-b", "a" * 60, "-".join("a" * 30) + "b"],
    "description": ["", "d" * 500, "🌧" * 500, "two\nlines\tand\r\nmore"],
    "priceUsdc": ["0", "0.0", "0.000000", "0.001", "0.001001", "1", "1000", "1000.000000", "007"],
    "network": ["eip155:31337"],
    "systemPrompt": [MOOD + "x" * (100_000 - len(MOOD)), MOOD + "🌧" * (100_000 - len(MOOD))],
    "maxTokens": [1, 8192],
    "model": ["m", "m" * 100, "claude-opus-5-5", "a.b_c:d-E"],
    "allowsUserMessage": [True, False],
    "isActive": [True, False],
}
BAD: dict[str, list[Any]] = {
    "name": ["n" * 101, "two\nlines", "tab\t", "\x1b[31m", "\x7f", "\x85", "line\u2028", "\u2029"],
    "slug": ["a" * 61, "A", "a_b", "-a", "a-", "a--b", "a b", "é", "a\n", "../x", "a/b", "@a", "🌧"],
    "description": ["d" * 501],
    "priceUsdc": [
        "0.0009", "0.000999", "0.0000001", "1000.000001", "1001", "1e2", "1E-2", "-1", "-0", "+1",
        " 1", "1 ", "1\n", "1.", ".5", "1,5", "1_000", "0x1", "NaN", "Infinity", "free", "١",
        "0" * 13, "9" * 1000,
    ],
    "network": ["eip155:1", "base", "Base", "eip155:31337 ", "solana", "n" * 65],
    "systemPrompt": [MOOD + "x" * (100_001 - len(MOOD))],
    "maxTokens": [8193, 10**30, 2**63],
    "model": ["m" * 101, "a b", "claude\n", "é", "a/b", "a;b"],
    "allowsUserMessage": ["true", "yes"],
    "isActive": ["true", "no"],
}  # fmt: skip
TYPES: dict[str, list[Any]] = {
    "name": ["1"],
    "slug": ["1"],
    "description": ["1", ""],
    "priceUsdc": ["1"],
    "network": [],
    "systemPrompt": [],
    "maxTokens": [1],
    "model": ["1"],
    "allowsUserMessage": [True, False],
    "isActive": [True, False],
}
"""Which of EVERY_TYPE each field takes. A prompt of "1" lacks the tag, and is refused for that."""


def same(one: Any, other: Any) -> bool:
    """Equal and of one type: 1 is not True, nor 1.0."""
    return type(one) is type(other) and bool(one == other)


WRONG_TYPES = {
    name: [value for value in EVERY_TYPE if not any(same(value, each) for each in taken)]
    for name, taken in TYPES.items()
}


def test_the_tables_have_every_field_there_is() -> None:
    fields = set(TemplateSchema().fields) - {"parameters"}

    assert set(GOOD) == set(BAD) == set(TYPES) == fields
    assert set(GOOD_PARAMETERS) == set(BAD_PARAMETERS) == set(ParameterSchema().fields) - {"name"}
    assert set(ClaudeConfigSchema().fields) == {"apiKey", "isEnabled"}
    assert set(WalletConfigSchema().fields) == {"baseAddress"}
    assert set(ProfileSchema().fields) == {"username"}


@pytest.mark.parametrize("name", GOOD)
def test_a_field_within_its_limits_is_kept_as_it_was_sent(shop: Shop, name: str) -> None:
    creator, edited = ada(shop), haiku_id(shop)

    for value in GOOD[name]:
        made = creator.make(**{name: value})
        changes = {"systemPrompt": MOOD, "parameters": [{"name": "mood"}], name: value}
        assert creator.ask("DELETE", f"/resources/{made['id']}").status_code == 204
        changed = creator.patch(edited, **changes)
        for said in (made, changed, creator.get(f"/resources/{edited}")):
            if name == "priceUsdc":
                assert float(said[name]) == float(value)
            else:
                assert same(said[name], value)


@pytest.mark.parametrize("name", BAD)
def test_a_field_outside_its_limits_is_refused_by_its_name(shop: Shop, name: str) -> None:
    creator, edited = ada(shop), haiku_id(shop)
    before = shop.query("SELECT * FROM x402_resources")

    for value in BAD[name] + WRONG_TYPES[name]:
        field = "parameters" if (name, value) == ("systemPrompt", "1") else name
        made = creator.ask("POST", "/resources", SONNET | {name: value})
        changed = creator.ask("PATCH", f"/resources/{edited}", {name: value})
        for reply in (made, changed):
            faulty(reply, 400, "INVALID_REQUEST", field)

    assert shop.query("SELECT * FROM x402_resources") == before


GOOD_PARAMETERS: dict[str, list[Any]] = {
    "description": ["", "d" * 500, "two\nlines"],
    "required": [True, False],
    "default": ["", "d", "🌧" * 32_768],
    "maxLength": [1, 32_768],
    "enum": [["a"], ["🌧" * 500, "a b"], [f"e{number}" for number in range(100)]],
}
BAD_PARAMETERS: dict[str, list[Any]] = {
    "description": ["d" * 501, None, True, 1, 1.0, [], {}],
    "required": [None, 0, 1, 1.0, "true", "", [], {}],
    "default": ["d" * 32_769, None, True, 1, 1.0, [], {}],
    "maxLength": [0, -1, 32_769, None, True, 1.0, "1", "", [], {}],
    "enum": [[], None, True, 1, "a", "", {}, [f"e{number}" for number in range(101)]],
}
NAMES = ["a", "_", "A9_", "n" * 64, "__proto__", "constructor"]
NO_NAMES: list[Any] = [
    "", "n" * 65, "1a", "a b", "a-b", "a.b", "é", "a\n", "{a}", "user_message", "stream",
    "network", "sse", "after", None, True, 1, 1.0, [], {},
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_PARAMETERS)
def test_a_word_of_a_definition_is_kept_as_it_was_sent(shop: Shop, name: str) -> None:
    creator = ada(shop)

    for value in GOOD_PARAMETERS[name]:
        definition = {"name": "mood", name: value}
        made = creator.make(parameters=[definition])
        assert made["parameters"] == [definition]
        assert creator.get(f"/resources/{made['id']}") == made


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_a_word_of_a_definition_outside_its_limits_is_refused_by_its_place(
    shop: Shop, name: str
) -> None:
    creator, body = ada(shop), many(2)

    for value in BAD_PARAMETERS[name]:
        body["parameters"][1][name] = value
        reply = creator.ask("POST", "/resources", SONNET | body)
        faulty(reply, 400, "INVALID_REQUEST", f"parameters.1.{name}")


def called(name: Any) -> dict[str, Any]:
    """A template whose only parameter has this name."""
    return {"systemPrompt": f"Write. {{{name}}}{{/{name}}}", "parameters": [{"name": name}]}


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_be_called_so(shop: Shop, name: str) -> None:
    made = ada(shop).make(**called(name))

    assert {word: made[word] for word in called(name)} == called(name)


def test_a_parameter_may_not_be_called_otherwise(shop: Shop) -> None:
    creator = ada(shop)

    for name in NO_NAMES:
        reply = creator.ask("POST", "/resources", SONNET | called(name))
        assert (reply.status_code, reply.json["code"]) == (400, "INVALID_REQUEST"), name
        assert reply.json["field"] in ("parameters.0", "parameters.0.name")


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        (None, "parameters"),
        (True, "parameters"),
        (1, "parameters"),
        ("mood", "parameters"),
        ({}, "parameters"),
        ({"mood": {}}, "parameters"),
        (["mood"], "parameters.0"),
        ([None], "parameters.0"),
        ([[]], "parameters.0"),
        ([1], "parameters.0"),
        ([{}], "parameters.0.name"),
        ([{"name": "mood", "pattern": "a*"}], "parameters.0.pattern"),
        ([{"name": "mood", "Required": True}], "parameters.0.Required"),
        ([{"name": "mood"}, {"name": "mood"}], "parameters.1.name"),
        ([{"name": "mood", "enum": ["a", ""]}], "parameters.0.enum.1"),
        ([{"name": "mood", "enum": ["a" * 501]}], "parameters.0.enum.0"),
        ([{"name": "mood", "enum": ["a", 1]}], "parameters.0.enum.1"),
        ([{"name": "mood", "enum": [None]}], "parameters.0.enum.0"),
        ([{"name": "mood", "enum": [["a"]]}], "parameters.0.enum.0"),
        ([{"name": "mood", "maxLength": 2, "default": "abc"}], "parameters.0.default"),
        ([{"name": "mood", "enum": ["a", "b"], "default": "c"}], "parameters.0.default"),
        ([], "parameters"),
        ([{"name": "other"}], "parameters"),
        ([{"name": "mood"}, {"name": "other"}], "parameters"),
        ([{"name": "Mood"}], "parameters"),
    ],
)
def test_parameters_that_make_no_template_are_refused(
    shop: Shop, parameters: Any, field: str
) -> None:
    creator = ada(shop)

    reply = creator.ask("POST", "/resources", SONNET | {"parameters": parameters})

    faulty(reply, 400, "INVALID_REQUEST", field)
    made = creator.make()
    reply = creator.ask("PATCH", f"/resources/{made['id']}", {"parameters": parameters})
    faulty(reply, 400, "INVALID_REQUEST", field)
    assert creator.get(f"/resources/{made['id']}") == made


def test_tags_and_definitions_that_disagree_are_told_side_by_side(shop: Shop) -> None:
    body = SONNET | {"systemPrompt": "{a}{/a} {mood}{/mood} {b}{/c} {lone}"}

    reply = ada(shop).ask("POST", "/resources", body)

    said = faulty(reply, 400, "INVALID_REQUEST", "parameters")
    assert "Tags: a, mood; parameters: mood." in said["error"]


def test_there_may_be_as_many_parameters_as_a_call_has_keys_for(shop: Shop) -> None:
    creator = ada(shop)

    assert len(creator.make(**many(63))["parameters"]) == 63
    reply = creator.ask("POST", "/resources", SONNET | many(64))
    faulty(reply, 400, "INVALID_REQUEST", "parameters")


@pytest.mark.parametrize("missing", ["name", "priceUsdc", "systemPrompt"])
def test_what_a_template_cannot_do_without_is_asked_for_by_its_name(
    shop: Shop, missing: str
) -> None:
    body = {name: value for name, value in SONNET.items() if name != missing}

    faulty(ada(shop).ask("POST", "/resources", body), 400, "INVALID_REQUEST", missing)


WRITING = [
    ("POST", "/resources", SONNET),
    ("PATCH", "/resources/{haiku}", {"name": "Other"}),
    ("POST", "/resources/{haiku}/preview", {"topic": "rain"}),
    ("PUT", "/integrations/claude/config", {"apiKey": "sk-new"}),
    ("PUT", "/integrations/wallet/config", {"baseAddress": ADDRESS}),
    ("PUT", "/user/profile", {"username": "ada"}),
    ("POST", "/api/tiles", {"coords": "u,0:1", "title": "One"}),
    ("PATCH", "/api/tiles/u,0", {"title": "Other"}),
]
UNKNOWN = ["unknown", "id", "Name", "price", "systemprompt", "ownerId", "__class__", "é", ""]


@pytest.mark.parametrize(("verb", "path", "body"), WRITING)
def test_a_field_nobody_knows_is_refused_by_its_name(
    shop: Shop, verb: str, path: str, body: Any
) -> None:
    creator, path = ada(shop), path.format(haiku=haiku_id(shop))

    for unknown in UNKNOWN:
        reply = creator.ask(verb, path, body | {unknown: "x"})
        faulty(reply, 400, "INVALID_REQUEST", unknown)


NOT_OBJECTS: dict[str, bytes] = {
    "nothing": b"",
    "spaces": b"  \n",
    "a list": b"[]",
    "a list of one": b'[{"name": "x"}]',
    "a string": b'"name"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "a form": b"name=x&slug=y",
    "cut off": b'{"name": "x"',
    "single quotes": b"{'name': 'x'}",
    "a trailing comma": b'{"name": "x",}',
    "two objects": b'{"name": "x"}{"name": "y"}',
    "a BOM": b'\xef\xbb\xbf{"name": "x"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "not UTF-8": b'{"name": "\xff"}',
    "a key twice": b'{"name": "x", "name": "y"}',
    "a key twice inside": b'{"parameters": [{"name": "x", "name": "y"}]}',
    "NUL": b'{"name": "a\\u0000b"}',
    "NUL in a key": b'{"na\\u0000me": "x"}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "NaN": b'{"maxTokens": NaN}',
    "Infinity": b'{"maxTokens": -Infinity}',
    "a huge number": b'{"maxTokens": 1e999}',
    "a long number": b'{"maxTokens": ' + b"9" * 5000 + b"}",
    "too deep": b'{"a":' * 9 + b"1" + b"}" * 9,
    "far too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_what_is_not_one_json_object_changes_nothing(shop: Shop, body: bytes) -> None:
    creator, before = ada(shop), shop.query("SELECT * FROM x402_resources")

    for verb, path, _ in WRITING:
        if path.endswith("/preview") and not body.strip():
            continue  # a call without a body has no values, and so has its preview
        path = path.format(haiku=haiku_id(shop))
        faulty(creator.ask(verb, path, data=body), 400, "INVALID_REQUEST", "body")

    assert shop.query("SELECT * FROM x402_resources") == before


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "application/x-what"])
def test_a_body_is_json_whatever_it_is_called(shop: Shop, kind: str) -> None:
    body = json.dumps(SONNET).encode()

    reply = ada(shop).ask("POST", "/resources", data=body, content_type=kind)

    assert reply.status_code == 201


def test_a_body_may_be_two_mebibytes_and_no_more(shop: Shop) -> None:
    creator, body = ada(shop), json.dumps(SONNET).encode()

    fits = creator.ask("POST", "/resources", data=body.ljust(MAX_BODY_BYTES))
    over = creator.ask("POST", "/resources", data=body.ljust(MAX_BODY_BYTES + 1))

    assert MAX_BODY_BYTES == 2 * 1024 * 1024
    assert fits.status_code == 201
    faulty(over, 413, "PAYLOAD_TOO_LARGE")


def test_the_longest_prompt_fits_in_its_widest_spelling(shop: Shop) -> None:
    prompt = "🌧" * 100_000
    body = json.dumps(SONNET | {"systemPrompt": prompt, "parameters": []}).encode()

    made = ada(shop).ask("POST", "/resources", data=body)

    assert len(body) > 1_200_000
    assert made.json["systemPrompt"] == prompt


LISTS = [
    "/resources",
    "/resources/{haiku}/usage",
    "/api/v1/resources",
    "/api/v1/executions",
    "/api/tiles",
]


PARTS = {
    "": (25, 0),
    "?limit=1": (1, 0),
    "?limit=100&offset=1000000000": (100, 1_000_000_000),
    "?offset=0&limit=007": (7, 0),
}


@pytest.mark.parametrize("path", LISTS)
def test_a_list_says_where_in_the_whole_it_stands(shop: Shop, path: str) -> None:
    creator, path = ada(shop), path.format(haiku=haiku_id(shop))

    for query, part in PARTS.items():
        said = creator.get(path + query)["pagination"]
        assert (said["limit"], said["offset"]) == part
        assert said.keys() == {"total", "limit", "offset", "hasMore"}


NO_PARTS = {
    "limit=0": "limit",
    "limit=101": "limit",
    "limit=-1": "limit",
    "limit=": "limit",
    "limit=1.0": "limit",
    "limit=1e1": "limit",
    "limit=+1": "limit",
    "limit=%201": "limit",
    "limit=all": "limit",
    "limit=%D9%A1": "limit",
    "offset=-1": "offset",
    "offset=1000000001": "offset",
    "offset=x": "offset",
    "limit=1&limit=2": "limit",
    "page=2": "page",
    "Limit=1": "Limit",
    "limit=1%00": "limit",
    "%ff": "query",
    "limit=" + "9" * 5000: "limit",
}


@pytest.mark.parametrize("path", LISTS)
def test_a_part_of_a_list_is_asked_for_plainly(shop: Shop, path: str) -> None:
    creator, path = ada(shop), path.format(haiku=haiku_id(shop))

    for query, field in NO_PARTS.items():
        faulty(creator.ask("GET", f"{path}?{query}"), 400, "INVALID_REQUEST", field)


def test_a_list_goes_on_until_it_says_that_there_is_no_more(shop: Shop) -> None:
    creator = ada(shop)
    for number in range(4):
        creator.make(name=f"Sonnet {number}")

    def walk() -> Iterator[tuple[list[str], int, bool]]:
        for offset in (0, 2, 4, 5, 6):
            said = creator.get(f"/resources?limit=2&offset={offset}")
            names = [each["name"] for each in said["resources"]]
            yield names, said["pagination"]["total"], said["pagination"]["hasMore"]

    assert list(walk()) == [
        (["Sonnet 3", "Sonnet 2"], 5, True),
        (["Sonnet 1", "Sonnet 0"], 5, True),
        (["Haiku"], 5, False),
        ([], 5, False),
        ([], 5, False),
    ]


KEYS = ["k", "k" * 500, "sk-ant-api03-" + "aA0_-" * 20, "!~"]
NO_KEYS: list[Any] = [
    "", " ", "k" * 501, "a b", "k\n", "\tk", "k\x7f", "clé", "🌧", None, True, 0, 1, 1.0, [], ["k"],
    {},
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_within_its_limits_is_used_as_it_was_sent(shop: Shop, key: str) -> None:
    ada(shop).put("/integrations/claude/config", {"apiKey": key})

    shop.buy().get_data()

    assert [call["key"] for call in shop.claude.calls] == [key]


def test_what_cannot_be_a_key_is_refused_and_not_repeated(shop: Shop) -> None:
    creator, before = ada(shop), shop.query("SELECT * FROM x402_user_claude_configs")

    for key in NO_KEYS:
        reply = creator.ask("PUT", "/integrations/claude/config", {"apiKey": key})
        faulty(reply, 400, "INVALID_REQUEST", "apiKey")
        assert "k" * 501 not in reply.text

    assert shop.query("SELECT * FROM x402_user_claude_configs") == before


def test_a_switch_is_on_or_off_and_nothing_else(shop: Shop) -> None:
    creator, before = ada(shop), shop.query("SELECT * FROM x402_user_claude_configs")

    for switch in [None, 0, 1, 1.0, "true", "", [], {}]:
        body = {"apiKey": "sk", "isEnabled": switch}
        reply = creator.ask("PUT", "/integrations/claude/config", body)
        faulty(reply, 400, "INVALID_REQUEST", "isEnabled")

    assert shop.query("SELECT * FROM x402_user_claude_configs") == before


def test_what_is_no_address_is_refused(shop: Shop) -> None:
    creator, door = ada(shop), "/integrations/wallet/config"
    before = creator.get(door)

    for address in [None, True, 1, 1.0, [], {}, "", "0x", ADDRESS[:-1], "ada.eth"]:
        reply = creator.ask("PUT", door, {"baseAddress": address})
        faulty(reply, 400, "INVALID_REQUEST", "baseAddress")

    faulty(creator.ask("PUT", door, {}), 400, "INVALID_REQUEST", "baseAddress")
    assert creator.get(door) == before


@pytest.mark.parametrize("username", ["abc", "a" * 20, "0_9", "___"])
def test_a_username_within_its_limits_is_taken(shop: Shop, username: str) -> None:
    creator: Creator = newcomer(shop)

    said = creator.put("/user/profile", {"username": username})

    assert said["username"] == username
    assert creator.get("/auth/me") == said


NO_USERNAMES: list[Any] = [
    "", "ab", "a" * 21, "Abc", "a-b", "a b", "abc\n", "été", "@ada", "a/b", None, True, 1, 1.0, [],
    {},
]  # fmt: skip


def test_what_is_no_username_is_refused(shop: Shop) -> None:
    creator = newcomer(shop)

    for username in NO_USERNAMES:
        reply = creator.ask("PUT", "/user/profile", {"username": username})
        faulty(reply, 400, "INVALID_REQUEST", "username")

    faulty(creator.ask("PUT", "/user/profile", {}), 400, "INVALID_REQUEST", "username")
    assert creator.get("/auth/me")["username"] is None
