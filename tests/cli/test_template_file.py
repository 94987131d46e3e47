"""A template's file: every form of it, and what is wrong with one."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from x402jobs.cli.template_file import parameter, parameters_of, read_template

HAIKU = {
    "name": "Haiku ü",
    "priceUsdc": "0.01",
    "systemPrompt": "About {topic}{/topic}.\n",
    "parameters": [{"name": "topic", "required": False, "default": "rain", "maxLength": 99}],
    "maxTokens": 1024,
    "isActive": True,
}

TOML = """\
name = "Haiku ü"
priceUsdc = "0.01"
systemPrompt = \"\"\"
About {topic}{/topic}.
\"\"\"
maxTokens = 1024
isActive = true

[[parameters]]
name = "topic"
required = false
default = "rain"
maxLength = 99
"""

YAML = """\
name: Haiku ü
priceUsdc: "0.01"
systemPrompt: |
  About {topic}{/topic}.
maxTokens: 1024
isActive: true
parameters:
  - {name: topic, required: false, default: rain, maxLength: 99}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("haiku.toml", TOML),
        ("haiku.TOML", TOML),
        ("haiku.yaml", YAML),
        ("haiku.yml", YAML),
        ("haiku.json", json.dumps(HAIKU)),
    ],
)
def test_every_form_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    assert read_template(str(tmp_path / name)) == HAIKU


def test_the_prompt_may_lie_beside_the_file_from_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "prompt.txt").write_text("Write – well.\n")
    (tmp_path / "shelf" / "t.toml").write_text('systemPromptFile = "prompt.txt"')
    monkeypatch.chdir(tmp_path)

    assert read_template("shelf/t.toml") == {"systemPrompt": "Write – well.\n"}


def test_what_the_shop_has_printed_may_be_sent_back(tmp_path: Path) -> None:
    printed = HAIKU | {
        "id": "1",
        "url": "http://127.0.0.1/@ada/haiku",
        "createdAt": "2026-11-21T00:00:00.000Z",
        "updatedAt": "2026-11-21T00:00:00.000Z",
        "warnings": ["…"],
    }
    (tmp_path / "t.json").write_text(json.dumps(printed))

    assert read_template(str(tmp_path / "t.json")) == HAIKU


MONEY = 'priceUsdc must be quoted, as in "0.01": a float is not money.'


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.toml", b"priceUsdc = 0.01", MONEY),
        ("t.toml", b"priceUsdc = 1", MONEY),
        ("t.yaml", b"priceUsdc: 0.01", MONEY),
        ("t.json", b'{"priceUsdc": 0.01}', MONEY),
        ("t.toml", b'name = "planted', "not TOML, "),
        ("t.toml", b"planted", "not TOML, end of document."),
        ("t.toml", b'a = "planted"\nb = =', "not TOML, line 2, column 5."),
        ("t.toml", b'a = "planted"\na = "b"', "not TOML, "),
        ("t.yaml", b"name: a\nslug: [planted", "not YAML, line 2."),
        ("t.yaml", b"name: !!python/object:planted.x {}", "not YAML, line 1."),
        ("t.yaml", b"name: \x01planted", "not YAML."),
        ("t.yaml", b"name: a\nslug: b\nname: planted", "there twice, or is no text, line 3."),
        ("t.yaml", b"? [planted]\n: b", "there twice, or is no text, line 1."),
        ("t.yaml", b"1: planted", "a field has a name that is no text; quote it."),
        ("t.yaml", b"a: &x [planted]\nb: *x", "an alias (*name), of line 1: write the value out."),
        ("t.yaml", b"a: &x [*x]", "an alias (*name), of line 1: write the value out."),
        ("t.yaml", b"a: " + b"[" * 5000, "nested too deeply."),
        ("t.yaml", b"name: 2026-11-21", "name is read as a date, or as bytes; quote it"),
        ("t.toml", b"[[parameters]]\ndefault = 2026-11-21", "parameters.0.default is read as a da"),
        ("t.toml", b"maxTokens = inf", "maxTokens is not a number that JSON has."),
        ("t.yaml", b"maxTokens: .nan", "maxTokens is not a number that JSON has."),
        ("t.json", b'{"name": "planted"', "not JSON at character 18."),
        ("t.json", b'{"name": "a", "name": "planted"}', "duplicate key 'name'."),
        ("t.json", b"[]", "it holds no template: fields and their values, please."),
        ("t.yaml", b"", "it holds no template: fields and their values, please."),
        ("t.toml", b'name = "\xff"', "not UTF-8."),
        ("t.yaml", b'name: "\xff"', "not UTF-8."),
        ("t.txt", b"name = 'planted'", "must end in one of: .toml, .yaml, .yml, .json."),
        ("t", b"name = 'planted'", "must end in one of: .toml, .yaml, .yml, .json."),
        ("t.toml", b'systemPromptFile = "no.txt"', "no.txt: No such file or directory."),
        ("t.toml", b'systemPromptFile = "."', "Is a directory."),
        ("t.toml", b'systemPromptFile = "bytes"', "bytes: not UTF-8."),
        ("t.toml", b"systemPromptFile = 1", "systemPromptFile must be the name of a file."),
        ("t.toml", b'systemPromptFile = "\\u0000"', "the name of the file cannot be one."),
        (
            "t.toml",
            b'systemPrompt = "a"\nsystemPromptFile = "bytes"',
            "systemPrompt and systemPromptFile are two prompts; keep one.",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_a_sentence_that_does_not_quote_it(
    tmp_path: Path, name: str, text: bytes, said: str
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / name).write_bytes(text)

    with pytest.raises(click.UsageError) as refusal:
        read_template(str(tmp_path / name))

    assert said in refusal.value.message
    assert "planted" not in refusal.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"no\.toml: No such file or directory\."):
        read_template(str(tmp_path / "no.toml"))


def test_each_tag_makes_one_parameter_in_the_order_of_the_text() -> None:
    prompt = "{b}{/b} {a}{/a} {b}{/b} {c}{/d} {e}"

    assert parameters_of(prompt) == [{"name": "b"}, {"name": "a"}]


@pytest.mark.parametrize(
    ("text", "definition"),
    [
        ("topic", {"name": "topic"}),
        ("topic=rain", {"name": "topic", "required": False, "default": "rain"}),
        ("topic=a=b", {"name": "topic", "required": False, "default": "a=b"}),
        ("topic=", {"name": "topic", "required": False, "default": ""}),
    ],
)
def test_a_default_is_what_callers_get_who_leave_a_parameter_out(
    text: str, definition: dict[str, Any]
) -> None:
    context = click.Context(click.Command("add"))

    assert parameter(context, click.Option(["--parameter"]), (text,)) == [definition]
