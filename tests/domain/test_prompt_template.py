"""A creator's blanks, a caller's values, and nothing read twice."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402jobs.domain.errors import ContextTooLong, InvalidRequest
from x402jobs.domain.prompt_template import (
    MAX_PROMPT_BYTES,
    MAX_VALUE_CHARACTERS,
    NEUTRAL_TURN,
    TAG,
    Parameter,
    PromptTemplate,
)


def template(prompt, *parameters, allows_user_message=False):
    """A template with these parameters, given by name or as stored definitions."""
    definitions = [{"name": each} if isinstance(each, str) else each for each in parameters]
    return PromptTemplate(
        id="t",
        version=1,
        owner_id="ada",
        path="/@ada/haiku",
        name="Haiku",
        description="",
        price=10_000,
        system_prompt=prompt,
        parameters=[Parameter.parse(each) for each in definitions],
        model="claude",
        max_tokens=100,
        allows_user_message=allows_user_message,
    )


def filled(prompt, **values):
    """The system prompt that comes of it, every value being a parameter."""
    return template(prompt, *values).fill(values).system


@pytest.mark.parametrize(
    "value",
    [
        "{x}{/x}",
        "{y}{/y}",
        "{x}",
        "{/x}",
        "}{",
        "{{x}}{{/x}}",
        "{0}",
        "{x!r}",
        "%(x)s %s %%",
        r"\1",
        r"\g<0>",
        r"\g<x>",
        r"\x41\n\\",
        "$&",
        "$$",
        "$1",
        "${x}",
        "`id`",
        "line\nline\r\n\ttab",
        "日本語 🌧 e\u0301",
        " ",
    ],
)
def test_a_value_stays_as_it_was_typed(value):
    assert filled("Say {x}{/x}, {y}{/y}.", x=value, y="why") == f"Say {value}, why."


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("{x}{/x}", "1"),
        ("{x}{/x}{x}{/x}", "11"),
        ("{x}{/x}{y}{/y}{x}{/x}", "121"),
        ("{x}{/x} and again {x}{/x}; {y}{/y}", "1 and again 1; 2"),
        ("{{x}{/x}}", "{1}"),
        ("{{{x}{/x}}}", "{{1}}"),
        ("{x}{x}{/x}{/x}", "{x}1{/x}"),
        ("{x}{y}{/y}{/x}", "{x}2{/x}"),
        ("{/x}{x}{/x}{x}", "{/x}1{x}"),
        ("\\{x}{/x}", "\\1"),
        ("a\n{x}{/x}\nb", "a\n1\nb"),
    ],
)
def test_adjacent_repeated_and_nested_looking_tags_are_each_read_once(prompt, expected):
    values = {"x": "1", "y": "2"}
    names = set(TAG.findall(prompt))

    made = template(prompt, *names).fill({name: values[name] for name in names})

    assert made.system == expected


@pytest.mark.parametrize(
    "literal",
    [
        "{x}",
        "{/x}",
        "{x}{/y}",
        "{x}{/X}",
        "{x} {/x}",
        "{x}\n{/x}",
        "{x}inside{/x}",
        "{ x}{/ x}",
        "{x }{/x }",
        "{x}{ /x}",
        "{x}{/x",
        "x}{/x}",
        "{}{/}",
        "{1x}{/1x}",
        "{x-y}{/x-y}",
        "{x.y}{/x.y}",
        "{straße}{/straße}",
        "{ｘ}{/ｘ}",
        "{x\u0301}{/x\u0301}",
        "{é}{/é}",
        "{x1٣}{/x1٣}",
        "{" + "n" * 65 + "}{/" + "n" * 65 + "}",
        "{x}{/x\n}",
        "{{x}}{{/x}}",
        "<x></x>",
    ],
)
def test_whatever_is_not_exactly_a_tag_is_literal_text(literal):
    assert template(literal).fill({}).system == literal


@pytest.mark.parametrize("name", ["x", "_", "_1", "Topic", "n" * 64, "a_b_C9"])
def test_a_name_is_a_letter_or_underscore_and_at_most_64_characters(name):
    assert filled(f"<{{{name}}}{{/{name}}}>", **{name: "rain"}) == "<rain>"


PIECES = st.one_of(
    st.sampled_from(["x", "y", "topic"]).map(lambda name: (name, f"{{{name}}}{{/{name}}}")),
    st.text(alphabet=st.sampled_from("xy{}/ \\$1é"), max_size=8).map(lambda text: (None, text)),
    st.sampled_from(["{x}", "{/x}", "{x}{/y}", "{", "}", "{/"]).map(lambda text: (None, text)),
)
VALUES = st.one_of(
    st.text(min_size=1, max_size=20),
    st.sampled_from(["{x}{/x}", "{y}{/y}", "{topic}{/topic}", "{x}", "{/x}", r"\1", r"\g<0>"]),
).filter(lambda text: not any("\ud800" <= each <= "\udfff" for each in text))


def oracle(prompt, values):
    """What the specification says, character by character and with no regular expression."""
    said, at = [], 0
    while at < len(prompt):
        for name, value in values.items():
            tag = f"{{{name}}}{{/{name}}}"
            if prompt.startswith(tag, at):
                said.append(value)
                at += len(tag)
                break
        else:
            said.append(prompt[at])
            at += 1
    return "".join(said)


@given(
    pieces=st.lists(PIECES, max_size=12),
    values=st.fixed_dictionaries({"x": VALUES, "y": VALUES, "topic": VALUES}),
)
def test_the_result_is_the_literals_and_the_values_interleaved(pieces, values):
    prompt = "".join(text for _, text in pieces)
    names = sorted({name for name in values if f"{{{name}}}{{/{name}}}" in prompt})

    made = template(prompt, *names).fill({name: values[name] for name in names})

    assert made.system == oracle(prompt, values)


@given(
    words=st.lists(st.text(alphabet="abc ", max_size=5), min_size=1, max_size=8),
    value=VALUES,
)
def test_between_two_literals_stands_the_value_and_nothing_else(words, value):
    prompt = "{x}{/x}".join(["", *words, ""])

    assert filled(prompt, x=value) == value.join(["", *words, ""])


NEAR_MISSES = {
    "braces": "{",
    "opened": "{x}",
    "closed": "{/x}",
    "almost": "{x}{/y}",
    "long names": "{" + "n" * 64,
    "too long names": "{" + "n" * 65 + "}{/" + "n" * 65 + "}",
    "half a tag": "{" + "n" * 64 + "}{/" + "n" * 63,
}


@pytest.mark.parametrize("near_miss", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_a_megabyte_of_near_misses_takes_time_in_proportion(near_miss):
    def least_seconds(size):
        text = (near_miss * (size // len(near_miss) + 1))[:size]
        took = []
        for _ in range(3):
            began = time.process_time()
            assert TAG.search(text) is None
            took.append(time.process_time() - began)
        return min(took)

    small, large = least_seconds(250_000), least_seconds(1_000_000)

    # Four times the text: a quadratic search would take sixteen times as long.
    assert large < 10 * small + 0.005


def test_a_megabyte_of_tags_and_near_misses_is_found_as_the_oracle_finds_it():
    seeded = random.Random(402)
    prompt = "".join(seeded.choice(["{x}{/x}", *NEAR_MISSES.values()]) for _ in range(4000))

    assert "".join("1" if n % 2 else t for n, t in enumerate(TAG.split(prompt))) == oracle(
        prompt, {"x": "1"}
    )


@pytest.mark.parametrize(
    ("definition", "given", "expected"),
    [
        ({}, {"x": "rain"}, "rain"),
        ({}, {"x": " "}, " "),
        ({"default": "snow"}, {"x": "rain"}, "rain"),
        ({"default": "snow"}, {}, "snow"),
        ({"default": "snow"}, {"x": None}, "snow"),
        ({"default": "snow"}, {"x": ""}, "snow"),
        ({"required": False}, {}, ""),
        ({"required": False}, {"x": None}, ""),
        ({"required": False}, {"x": ""}, ""),
        ({"required": False, "default": ""}, {}, ""),
        ({"required": False, "default": "snow"}, {}, "snow"),
        ({"required": True, "default": None}, {"x": "rain"}, "rain"),
        ({"enum": ["rain", "snow"]}, {"x": "snow"}, "snow"),
        ({"enum": ["rain"], "required": False}, {}, ""),
        ({"enum": ["rain", "snow"], "default": "snow"}, {}, "snow"),
        ({"enum": []}, {"x": "hail"}, "hail"),
        ({"maxLength": None}, {"x": "rain"}, "rain"),
        ({"maxLength": 4}, {"x": "rain"}, "rain"),
        ({"maxLength": 4}, {"x": "🌧🌧🌧🌧"}, "🌧🌧🌧🌧"),
    ],
)
def test_a_blank_is_filled_by_the_value_or_the_default(definition, given, expected):
    assert template("{x}{/x}", {"name": "x"} | definition).fill(given).system == expected


@pytest.mark.parametrize(
    ("definition", "given", "sentence"),
    [
        ({}, {}, "Missing required parameter: x"),
        ({}, {"x": None}, "Missing required parameter: x"),
        ({}, {"x": ""}, "Missing required parameter: x"),
        ({"default": ""}, {}, "Missing required parameter: x"),
        ({"required": None}, {}, "Missing required parameter: x"),
        ({"enum": ["rain", "snow"]}, {"x": "hail"}, "x must be one of: rain, snow."),
        ({"enum": ["rain"]}, {"x": "Rain"}, "x must be one of: rain."),
        ({"maxLength": 4}, {"x": "rains"}, "x must be at most 4 characters."),
        ({}, {"x": "a" * (MAX_VALUE_CHARACTERS + 1)}, "x must be at most 32768 characters."),
        ({}, {"x": "rain", "y": "why"}, "Unknown parameter: y"),
        ({}, {"x": "rain", "X": None}, "Unknown parameter: X"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(definition, given, sentence):
    with pytest.raises(InvalidRequest) as refusal:
        template("{x}{/x}", {"name": "x"} | definition).fill(given)

    assert refusal.value.message == sentence
    assert refusal.value.field in sentence.split(": ")[-1] + sentence.split()[0]


def test_the_name_of_an_unknown_parameter_is_quoted_only_so_far():
    with pytest.raises(InvalidRequest) as refusal:
        template("").fill({"n" * 5000: "rain"})

    assert refusal.value.message == "Unknown parameter: " + "n" * 64
    assert refusal.value.field == "n" * 64


@pytest.mark.parametrize(
    "name",
    ["user_message", "stream", "network", "sse", "after", "1x", "", "x y", "é", "n" * 65, "x\n"],
)
def test_a_reserved_or_odd_name_cannot_be_a_parameter(name):
    with pytest.raises(ValueError, match="cannot be a parameter name"):
        Parameter.parse({"name": name})


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"name": None},
        {"name": 5},
        {"name": "x", "default": 5},
        {"name": "x", "default": ["rain"]},
        {"name": "x", "description": {"en": "…"}},
        {"name": "x", "enum": "rain"},
        {"name": "x", "enum": ["rain", 5]},
        {"name": "x", "enum": 5},
        {"name": "x", "maxLength": "40"},
        {"name": "x", "maxLength": 4.5},
        {"name": "x", "maxLength": -1},
        {"name": "x", "maxLength": MAX_VALUE_CHARACTERS + 1},
        "x",
        None,
    ],
)
def test_a_stored_definition_that_breaks_the_rules_is_found_out_when_it_is_read(definition):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Parameter.parse(definition)


@pytest.mark.parametrize(
    ("prompt", "names", "lists"),
    [
        ("{x}{/x}", [], "tags ['x'] and parameters []"),
        ("", ["x"], "tags [] and parameters ['x']"),
        ("{b}{/b}{a}{/a}", ["b", "c"], "tags ['a', 'b'] and parameters ['b', 'c']"),
        ("{x}{/x}", ["x", "x"], "tags ['x'] and parameters ['x', 'x']"),
        ("{x}{/X}", ["x"], "tags [] and parameters ['x']"),
    ],
)
def test_tags_and_parameters_that_disagree_are_both_listed(prompt, names, lists):
    with pytest.raises(ValueError) as refusal:
        template(prompt, *names)

    assert lists in str(refusal.value)


@pytest.mark.parametrize(
    ("prompt", "values"),
    [
        ("a" * MAX_PROMPT_BYTES, {}),
        ("a" * (MAX_PROMPT_BYTES - 10) + "{x}{/x}", {"x": "b" * 10}),
        ("a" * (MAX_PROMPT_BYTES - 6) + "{x}{/x}", {"x": "é" * 3}),
        ("{x}{/x}" * 10, {"x": "b" * (MAX_PROMPT_BYTES // 10)}),
    ],
)
def test_a_prompt_of_exactly_200_kilobytes_is_taken(prompt, values):
    assert len(filled(prompt, **values).encode()) == MAX_PROMPT_BYTES


@pytest.mark.parametrize(
    ("prompt", "values"),
    [
        ("a" * (MAX_PROMPT_BYTES + 1), {}),
        ("a" * (MAX_PROMPT_BYTES - 10) + "{x}{/x}", {"x": "b" * 11}),
        ("a" * (MAX_PROMPT_BYTES - 5) + "{x}{/x}", {"x": "é" * 3}),
        ("{x}{/x}" * 11, {"x": "b" * (MAX_PROMPT_BYTES // 10)}),
    ],
)
def test_a_prompt_over_200_kilobytes_is_too_long(prompt, values):
    with pytest.raises(ContextTooLong):
        filled(prompt, **values)


def test_a_text_that_would_be_too_long_is_never_built(monkeypatch):
    """14 000 tags of 7 characters and a value of 32 KB would make 458 MB."""
    import tracemalloc

    many = template("{x}{/x}" * 14_000, "x")
    tracemalloc.start()
    try:
        with pytest.raises(ContextTooLong):
            many.fill({"x": "b" * MAX_VALUE_CHARACTERS})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20_000_000


def test_the_callers_own_turn_counts_towards_the_200_kilobytes():
    talkative = template("a" * MAX_PROMPT_BYTES, allows_user_message=True)

    assert talkative.fill({}).user == NEUTRAL_TURN
    with pytest.raises(ContextTooLong):
        talkative.fill({"user_message": "b"})


@pytest.mark.parametrize(
    ("given", "turn"),
    [
        ({}, NEUTRAL_TURN),
        ({"user_message": None}, NEUTRAL_TURN),
        ({"user_message": ""}, NEUTRAL_TURN),
        ({"user_message": "Hello"}, "Hello"),
        ({"user_message": "{x}{/x}"}, "{x}{/x}"),
    ],
)
def test_the_callers_own_turn_is_their_message_or_a_neutral_sentence(given, turn):
    prompt = template("{x}{/x}", "x", allows_user_message=True).fill({"x": "rain"} | given)

    assert (prompt.system, prompt.user) == ("rain", turn)


@pytest.mark.parametrize("message", ["Hello", ""])
def test_a_message_to_a_template_that_takes_none_is_refused_and_not_ignored(message):
    with pytest.raises(InvalidRequest) as refusal:
        template("").fill({"user_message": message})

    assert refusal.value.message == "This template does not accept user messages"
    assert refusal.value.field == "user_message"


def test_an_absent_message_is_no_message():
    assert template("").fill({"user_message": None}).user == NEUTRAL_TURN


def test_a_probe_sees_the_blanks_as_they_are():
    prompt = template("Say {x}{/x}.", "x").unfilled()

    assert (prompt.system, prompt.user) == ("Say {x}{/x}.", NEUTRAL_TURN)


def test_neither_a_template_nor_a_prompt_shows_the_creators_words():
    made = template("Planted words {x}{/x}.", "x")

    assert "Planted" not in repr(made)
    assert "Planted" not in repr(made.fill({"x": "Planted value"}))
