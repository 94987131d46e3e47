"""What docs/http-api.md says is so: its doors, fields, limits, examples and codes are ours."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from marshmallow import Schema, fields
from marshmallow.validate import Length, Range

from tests.blueprints.creators import SONNET, ada
from tests.conftest import Shop
from x402jobs.blueprints import calls, json_reply, replies
from x402jobs.blueprints.schemas import (
    LEAST_PRICE,
    MAX_TILE_BYTES,
    MOST_PRICE,
    ApiKeySchema,
    ClaudeConfigSchema,
    EventsSchema,
    PageSchema,
    ParameterSchema,
    ProfileSchema,
    TemplateSchema,
    TileSchema,
    WalletConfigSchema,
)
from x402jobs.domain.coords import MAX_DEPTH
from x402jobs.domain.errors import CallerLeft, X402JobsError
from x402jobs.domain.money import MICRO
from x402jobs.domain.prompt_template import RESERVED
from x402jobs.domain.template_draft import TemplateDraft

PAGE = (Path(__file__).parents[1] / "docs" / "http-api.md").read_text()


def section(heading: str) -> str:
    """What stands under a heading, up to the next one."""
    _, found, rest = PAGE.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(r"\n#+ ", rest)[0]


def table(text: str) -> Iterator[list[str]]:
    """The rows of a section's last table, without its head."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    last = max(number for number, row in enumerate(rows) if row[0].startswith("---"))
    return iter(rows[last + 1 :])


def bare(rule: str) -> str:
    """A rule without the names of its parts."""
    return re.sub(r"<\w+>", "<>", rule)


def test_the_page_has_every_door_and_verb_and_no_other(shop: Shop) -> None:
    hung: dict[str, set[str]] = {}
    for rule in shop.client.application.url_map.iter_rules():
        hung.setdefault(bare(rule.rule), set()).update(rule.methods or ())

    told = {}
    for verbs, door, *_ in table(section("## The doors")):
        said = set(verbs.split())
        told[bare(door.strip("`"))] = said | {"OPTIONS"} | ({"HEAD"} if "GET" in said else set())

    assert told == hung
    assert "**HEAD** is answered wherever GET is, **OPTIONS** everywhere." in PAGE


OTHER_PAGES = ("limits.md", "metrics.md", "streaming.md", "tasks.md")


def test_every_link_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }

    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        page, _, anchor = target.partition("#")
        assert anchor in headings if not page else page in OTHER_PAGES


def family(error: type[X402JobsError]) -> Iterator[type[X402JobsError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def test_the_page_has_every_code_with_its_status_and_no_other() -> None:
    known = {
        (error.code, str(error.status), "yes" if error.recoverable else "no")
        for error in family(X402JobsError)
        if error is not CallerLeft  # nobody is there to read it
    }

    assert {tuple(row[:3]) for row in table(section("## Errors"))} == known
    assert len(list(table(section("## Errors")))) == len({code for code, *_ in known})


def limits(field: fields.Field[Any]) -> set[int]:
    """The numbers of a field's limits, those of its items too."""
    found: set[int | None] = set()
    for validator in field.validators:
        if isinstance(validator, (Length, Range)):
            found |= {validator.min, validator.max}
    if isinstance(field, fields.List):
        found |= limits(field.inner)
    return {number for number in found if number is not None}


FIELDS: list[tuple[str, type[Schema]]] = [
    ("### Fields of a template", TemplateSchema),
    ("### Fields of a parameter", ParameterSchema),
    ("## Your Claude key", ClaudeConfigSchema),
    ("## Where you are paid", WalletConfigSchema),
    ("## Who you are", ProfileSchema),
    ("## API keys", ApiKeySchema),
    ("### Fields of a tile", TileSchema),
]


@pytest.mark.parametrize(("heading", "schema"), FIELDS)
def test_the_page_has_every_field_with_its_limits_and_no_other(
    heading: str, schema: type[Schema]
) -> None:
    told = {name.strip("`"): says for name, says in table(section(heading))}
    known = schema().fields

    assert told.keys() == known.keys()
    for name, field in known.items():
        says = re.sub(r"(?<=\d) (?=\d{3}\b)", "", told[name])
        assert limits(field) <= {int(number) for number in re.findall(r"\d+", says)}, name
        assert says.startswith("required; ") is field.required, name


def test_the_page_has_the_limits_that_no_validator_tells() -> None:
    template = {name.strip("`"): says for name, says in table(section("### Fields of a template"))}
    parameter = {
        name.strip("`"): says for name, says in table(section("### Fields of a parameter"))
    }
    default = TemplateDraft(name="", price=0, system_prompt="")
    paging = {name: limits(field) for name, field in PageSchema().fields.items()}

    assert f'"{LEAST_PRICE / MICRO}"` to `"{MOST_PRICE // MICRO}"' in template["priceUsdc"]
    assert template["maxTokens"].endswith(f"; {default.max_tokens}")
    assert f'"{default.model}"' in template["model"]
    assert RESERVED == set(re.findall(r"`(\w+)`", parameter["name"].partition("Not ")[2]))
    assert paging == {"limit": {1, 100}, "offset": {0, 10**9}}
    assert "`?limit=` (1 to 100; 25 when left out) and `?offset=` (0 to 1000000000; 0)" in PAGE
    assert replies.MAX_BODY_BYTES == 2 * 2**20 and "at most 2 MiB" in PAGE
    assert calls.MAX_BODY_BYTES == 64 * 2**10 and "on the paid door 64 KiB" in PAGE
    assert f"at most {calls.MAX_KEYS} of them" in PAGE
    assert MAX_TILE_BYTES == 64 * 2**10 and "`content` | at most 64 KiB of UTF-8" in PAGE
    assert f"A tree is at most {MAX_DEPTH} steps deep." in PAGE
    assert limits(EventsSchema().fields["after"]) == {0, 10**9}
    assert "`?after=` (0 to 1000000000; 0)" in PAGE
    assert f"after {json_reply.PATIENCE_SECONDS:.0f} seconds" in PAGE


def examples() -> dict[str, Any]:
    """Each whole JSON example, under the request that stands last before it."""
    found, before = {}, 0
    for block in re.finditer(r'```json\n(.*?)```|`(\{"[^`…]*\})`', PAGE, re.DOTALL):
        asked = re.findall(r"`((?:GET|POST) /[^`]*)`", PAGE[before : block.start()])
        before = block.end()
        if asked:
            found[asked[-1]] = json.loads(block[1] or block[2])
    return found


def shape(value: Any) -> Any:
    """What of a reply is its form: the names, and what kind of value stands under each."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value)


def test_the_examples_are_of_the_form_of_real_replies(shop: Shop) -> None:
    creator = ada(shop)
    made = creator.ask("POST", "/resources", SONNET).json
    one = f"/resources/{made['id']}"
    shop.url = "/@ada/sonnet"
    paid = {"json": {"mood": "glad"}, "headers": shop.payment()}
    answer = shop.client.post("/@ada/sonnet?stream=false", **paid)
    token = {"X-Resume-Token": answer.headers["X-Resume-Token"]}
    execution = f"/executions/{answer.headers['X-Execution-Id']}"
    replied = {
        "POST /@ada/haiku": shop.client.post("/@ada/haiku").json,
        "POST /@ada/haiku?stream=false": answer.json,
        "GET /executions/<id>": shop.client.get(execution, headers=token).json,
        "POST /resources": made,
        "POST /resources/<id>/preview": creator.ask("POST", f"{one}/preview", paid["json"]).json,
        "GET /resources/<id>/usage": creator.get(f"{one}/usage"),
        "GET /integrations/claude/config": creator.get("/integrations/claude/config"),
        "GET /integrations/wallet/config": creator.get("/integrations/wallet/config"),
        "GET /auth/me": creator.get("/auth/me"),
        "POST /api/keys": creator.ask("POST", "/api/keys", {"name": "CI"}).json,
        "POST /api/tiles": creator.ask(
            "POST", "/api/tiles", {"coords": f"{shop.ada},0:1", "title": "One"}
        ).json,
        "GET /api/v1/resources/@<username>/<slug>": creator.get("/api/v1/resources/@ada/sonnet"),
        "GET /api/v1/resources/@ada/nothing": shop.client.get(
            "/api/v1/resources/@ada/nothing"
        ).json,
    }

    told = examples()

    assert told.keys() == replied.keys()
    for asked, reply in replied.items():
        assert shape(told[asked]) == shape(reply), asked
    for exactly in ("POST /resources/<id>/preview", "GET /integrations/claude/config"):
        assert told[exactly] == replied[exactly]


def test_the_shorter_ones_are_too(shop: Shop) -> None:
    creator, wallet = ada(shop), examples()["GET /integrations/wallet/config"]

    assert creator.put("/integrations/wallet/config", wallet) == wallet
    saved = creator.put("/integrations/claude/config", {"isEnabled": True})
    assert list(saved) == ["success", "hasApiKey", "isEnabled"]
    assert '{"success":true,"hasApiKey":…,"isEnabled":…}' in PAGE
    assert shop.client.get("/healthz").json == {"status": "ok"}
    for path, name in [
        ("/resources", "resources"),
        ("/api/v1/resources", "resources"),
        ("/api/v1/executions", "executions"),
        ("/api/tiles", "tiles"),
    ]:
        assert list(creator.get(path)) == [name, "pagination"]
        assert f'{{"{name}":[…],"pagination":{{…}}}}' in PAGE
