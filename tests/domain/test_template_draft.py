"""What a creator writes before it is on the shelf: slugs, and prompts that fit their parameters."""

import re

import pytest

from x402jobs.domain.errors import InvalidRequest
from x402jobs.domain.template_draft import MAX_SLUG_CHARACTERS, SLUG, TemplateDraft, slug_of


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Haiku", "haiku"),
        ("My  First -- Haiku!", "my-first-haiku"),
        ("  spaces  ", "spaces"),
        ("a_b.c/d", "a-b-c-d"),
        ("Ünïcödé Ñame", "unicode-name"),
        ("ﬁne №1 ²", "fine-no1-2"),
        ("İstanbul", "istanbul"),
        ("Straße", "strae"),
        ("日本語", "template"),
        ("日本語 poem", "poem"),
        ("🌧", "template"),
        ("---", "template"),
        ("", "template"),
        ("\x00\n", "template"),
        ("-a-", "a"),
        ("0", "0"),
        ("x" * 100, "x" * 60),
        ("x" * 59 + " y", "x" * 59),
        ("x" * 60 + " y", "x" * 60),
    ],
)
def test_a_slug_is_what_is_left_of_a_name(name, slug):
    assert slug_of(name) == slug
    assert slug_of(name, 1) == slug


@pytest.mark.parametrize(
    ("name", "attempt", "slug"),
    [
        ("Haiku", 2, "haiku-2"),
        ("Haiku", 100, "haiku-100"),
        ("🌧", 2, "template-2"),
        ("x" * 100, 2, "x" * 58 + "-2"),
        ("x" * 100, 10, "x" * 57 + "-10"),
        ("x" * 57 + " yy", 2, "x" * 57 + "-2"),
        ("x" * 56 + " yy", 10, "x" * 56 + "-10"),
    ],
)
def test_a_clash_puts_a_number_behind_it(name, attempt, slug):
    assert slug_of(name, attempt) == slug


@pytest.mark.parametrize("attempt", [1, 2, 9, 10, 99, 100])
@pytest.mark.parametrize("name", ["", "a", "a" * 100, "a-" * 50, "é" * 100, "- -", "🌧 a", "A.B"])
def test_a_made_slug_is_one_that_could_have_been_asked_for(name, attempt):
    slug = slug_of(name, attempt)

    assert SLUG.fullmatch(slug) and len(slug) <= MAX_SLUG_CHARACTERS


def draft(prompt, *parameters, **more):
    return TemplateDraft(
        name="Haiku", price=10_000, system_prompt=prompt, parameters=parameters, **more
    )


@pytest.mark.parametrize(
    ("prompt", "parameters"),
    [
        ("Write.", []),
        ("Write {lone} {a}{/b} {a} {/a} { b}{/ b}.", []),
        ("{a}{/a}{a}{/a}", [{"name": "a"}]),
        ("{b}{/b}{a}{/a}", [{"name": "a"}, {"name": "b"}]),
        ("{a}{/a}", [{"name": "a", "default": "x", "maxLength": 1, "enum": ["x", "y"]}]),
        ("{a}{/a}", [{"name": "a", "default": "", "required": False, "enum": ["x"]}]),
        ("{A}{/A}{a}{/a}", [{"name": "a"}, {"name": "A"}]),
    ],
)
def test_a_prompt_whose_tags_are_its_parameters_is_a_template(prompt, parameters):
    draft(prompt, *parameters).check()


@pytest.mark.parametrize(
    ("prompt", "parameters", "field", "says"),
    [
        ("", [], "systemPrompt", "can no longer be read"),
        ("{a}{/a}", [], "parameters", "Tags: a; parameters: none."),
        ("Write.", [{"name": "a"}], "parameters", "Tags: none; parameters: a."),
        ("{a}{/a}", [{"name": "A"}], "parameters", "Tags: a; parameters: A."),
        ("{b}{/b}{a}{/a}", [{"name": "b"}], "parameters", "Tags: a, b; parameters: b."),
        ("{a}{/a}", [{"name": "a"}, {"name": "a"}], "parameters.1.name", "a is defined twice."),
        ("{1}{/1}", [{"name": "1"}], "parameters.0", "cannot be a parameter name"),
        ("{sse}{/sse}", [{"name": "sse"}], "parameters.0", "cannot be a parameter name"),
        ("{a}{/a}", [{"name": "a"}, {"name": "a b"}], "parameters.1", "cannot be a parameter"),
        ("{a}{/a}", [{"name": "a", "maxLength": 0}], "parameters.0", "maxLength"),
        (
            "{a}{/a}",
            [{"name": "a", "default": "xx", "maxLength": 1}],
            "parameters.0.default",
            "parameters.0.default does not fit: a must be at most 1 characters.",
        ),
        (
            "{a}{/a}",
            [{"name": "a", "default": "z", "enum": ["x", "y"]}],
            "parameters.0.default",
            "parameters.0.default does not fit: a must be one of: x, y.",
        ),
        ("{a}{/a}", [{}], "parameters.0", "cannot be read"),
        ("{a}{/a}", [{"name": None}], "parameters.0", "cannot be read"),
        ("{a}{/a}", [{"name": "a", "enum": 5}], "parameters.0", "cannot be read"),
    ],
)
def test_what_makes_no_template_together_is_refused_with_its_place(prompt, parameters, field, says):
    with pytest.raises(InvalidRequest, match=re.escape(says)) as refusal:
        draft(prompt, *parameters).check()

    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        ({"price": 0}, []),
        ({"price": 1_000_000}, []),
        ({"price": 1_000_001}, ["Most clients refuse to pay more than 1.00 USDC"]),
        ({"is_active": False}, ["The template is paused"]),
        ({"system_prompt": ""}, ["Nobody can call the template. The stored prompt can no longer"]),
        (
            {"system_prompt": "{a}{/a}", "is_active": False, "price": 2_000_000},
            ["Nobody can call the template. The prompt's tags", "Most clients", "The template is"],
        ),
    ],
)
def test_the_creator_is_warned_of_what_keeps_callers_away(changes, says):
    fine = {"name": "Haiku", "price": 10_000, "system_prompt": "Write."}

    warnings = TemplateDraft(**fine | changes).warnings()

    assert [each[: len(part)] for each, part in zip(warnings, says, strict=True)] == says


@pytest.mark.parametrize("almost", ["{topic}", "{{topic}}", "{topic} {/topic}", "{topic}{/style}"])
def test_what_is_almost_a_tag_is_pointed_out(almost):
    (said,) = TemplateDraft(name="Haiku", price=0, system_prompt=f"On {almost}.").warnings()

    assert said.startswith("{topic} is not a tag and is sent as it stands; ")


@pytest.mark.parametrize("plain", ["{}", "{ topic }", '{"a": 1}', "{a-b}", "topic", "{a}{/a}"])
def test_other_braces_are_nobodys_mistake(plain):
    parameters = [{"name": "a"}] if "{a}" in plain else []
    written = TemplateDraft(name="H", price=0, system_prompt=plain, parameters=parameters)

    assert written.warnings() == []


def test_a_prompt_that_no_call_could_send_is_pointed_out():
    (said,) = TemplateDraft(name="H", price=0, system_prompt="é" * 100_001).warnings()

    assert said.startswith("Nobody can call the template. Its prompt is longer than 200000 bytes")


def test_definitions_are_limited_together():
    each = {"name": "a", "enum": ["é" * 500] * 100}
    several = [each | {"name": f"a{number}"} for number in range(3)]
    tags = "".join(f"{{a{number}}}{{/a{number}}}" for number in range(3))

    TemplateDraft(name="H", price=0, system_prompt="{a}{/a}", parameters=[each]).check()
    with pytest.raises(InvalidRequest, match="196608 bytes") as refusal:
        TemplateDraft(name="H", price=0, system_prompt=tags, parameters=several).check()

    assert refusal.value.field == "parameters"


def test_a_choice_its_own_parameter_refuses_is_refused_when_saving():
    parameter = {"name": "a", "maxLength": 2, "enum": ["yy", "yyy"]}

    with pytest.raises(InvalidRequest, match="at most 2 characters") as refusal:
        TemplateDraft(name="H", price=0, system_prompt="{a}{/a}", parameters=[parameter]).check()

    assert refusal.value.field == "parameters.0.enum.1"


def test_a_draft_does_not_show_its_prompt():
    assert "canary" not in repr(draft("canary"))
