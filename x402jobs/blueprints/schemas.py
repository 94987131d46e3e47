"""What may be sent, field by field (spec/instant.md, Creator's side; spec/tasks.md, Tiles)."""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from marshmallow import Schema, ValidationError, fields
from marshmallow.exceptions import SCHEMA
from marshmallow.validate import Length, OneOf, Range, Regexp

from x402jobs.domain.caller import USERNAME
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import InvalidRequest
from x402jobs.domain.money import MICRO, parse_usdc
from x402jobs.domain.prompt_template import MAX_VALUE_CHARACTERS
from x402jobs.domain.task import MAX_INSTRUCTION_CHARACTERS, MAX_TOKENS
from x402jobs.domain.template_draft import MAX_SLUG_CHARACTERS, SLUG
from x402jobs.domain.tile import Visibility

LEAST_PRICE, MOST_PRICE = MICRO // 1000, 1000 * MICRO
MAX_PROMPT_CHARACTERS = 100_000
MAX_TILE_BYTES = 64 * 1024
MAX_PARAMETERS = 63
"""A call may have 64 keys, and `user_message` is one of them."""

_ONE_LINE = Regexp(
    re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"), error="Must be one line of text."
)
_NOT_BLANK = Regexp(re.compile(r".*\S", re.DOTALL), error="Must not be blank.")
_KEY = Regexp(
    re.compile(r"[\x21-\x7e]{1,500}\Z"), error="Must be 1 to 500 visible ASCII characters."
)


class Flag(fields.Field[bool]):
    """true or false; not "yes", not 1."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class Digits(fields.Field[int]):
    """A whole number in a query, as plain digits."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if re.fullmatch(r"[0-9]{1,10}", value) is None:
            raise ValidationError("Must be a whole number.")
        return int(value)


class Answer(Enum):
    """Yes or no in a query."""

    YES, NO = "true", "false"


class Price(fields.Field[int]):
    """A decimal string of USDC, read as micro-USDC."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        try:
            price = parse_usdc(value)
        except (ValueError, TypeError):
            price = -1
        if price != 0 and not LEAST_PRICE <= price <= MOST_PRICE:
            raise ValidationError(
                'Must be a decimal string of USDC with at most six places: "0" (free), '
                'or "0.001" to "1000".'
            )
        return price


class Place(fields.Field[Coords]):
    """The coordinates of a tile."""

    def _deserialize(self, value: Any, attr: str | None, *_: Any, **__: Any) -> Coords:
        if not isinstance(value, str):
            raise ValidationError("Must be text.")
        try:
            return Coords.parse(value, "It")
        except InvalidRequest as fault:
            raise ValidationError(fault.message) from None


def _fits_a_tile(text: str) -> None:
    if len(text.encode()) > MAX_TILE_BYTES:
        raise ValidationError(f"Must be at most {MAX_TILE_BYTES} bytes of UTF-8.")


def _no_plan(coords: Coords) -> None:
    if 0 in coords.path:
        raise ValidationError("Leads to a plan, at direction 0. Run the task that it is of.")


class Time(fields.Field[float]):
    """A moment as replies write it, read as unix seconds."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        try:
            if re.fullmatch(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]{1,6})?Z", value) is None:
                raise ValueError
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, TypeError):
            raise ValidationError('Must be a time in UTC, like "2030-01-31T12:00:00Z".') from None


class ParameterSchema(Schema):
    """One parameter's definition."""

    name = fields.String(required=True, validate=Length(1, 64))
    description = fields.String(validate=Length(max=500))
    required = Flag()
    default = fields.String(validate=Length(max=MAX_VALUE_CHARACTERS))
    maxLength = fields.Integer(strict=True, validate=Range(1, MAX_VALUE_CHARACTERS))
    enum = fields.List(fields.String(validate=Length(1, 500)), validate=Length(1, 100))


class TemplateSchema(Schema):
    """A template as POST /resources takes it; the names behind `attribute` are TemplateDraft's."""

    name = fields.String(required=True, validate=[Length(1, 100), _ONE_LINE, _NOT_BLANK])
    slug = fields.String(
        validate=[
            Length(1, MAX_SLUG_CHARACTERS),
            Regexp(
                re.compile(rf"{SLUG.pattern}\Z"),
                error="Must be lower-case letters and digits, with single hyphens between.",
            ),
        ]
    )
    description = fields.String(validate=Length(max=500))
    priceUsdc = Price(required=True, attribute="price")
    network = fields.String(validate=Length(1, 64))
    systemPrompt = fields.String(
        required=True, attribute="system_prompt", validate=Length(1, MAX_PROMPT_CHARACTERS)
    )
    parameters = fields.List(fields.Nested(ParameterSchema), validate=Length(max=MAX_PARAMETERS))
    maxTokens = fields.Integer(strict=True, attribute="max_tokens", validate=Range(1, 8192))
    model = fields.String(validate=Length(1, 100))
    allowsUserMessage = Flag(attribute="allows_user_message")
    isActive = Flag(attribute="is_active")


class ClaudeConfigSchema(Schema):
    """A Claude key and its switch, either alone or both."""

    apiKey = fields.String(validate=_KEY)
    isEnabled = Flag()


class WalletConfigSchema(Schema):
    """A payout address; its own rules are the domain's."""

    baseAddress = fields.String(required=True)


class ProfileSchema(Schema):
    """A username."""

    username = fields.String(
        required=True,
        validate=Regexp(
            re.compile(rf"{USERNAME.pattern}\Z"),
            error="Must be 3 to 20 lower-case letters, digits and underscores.",
        ),
    )


class TileSchema(Schema):
    """A tile as POST /api/tiles takes it."""

    coords = Place(required=True)
    title = fields.String(required=True, validate=[Length(1, 200), _ONE_LINE, _NOT_BLANK])
    content = fields.String(validate=_fits_a_tile)
    preview = fields.String(validate=Length(max=2000))
    visibility = fields.Enum(Visibility, by_value=True)


class TileChangeSchema(TileSchema):
    """What PATCH may change of a tile, and from what it was made."""

    class Meta:
        exclude = ("coords",)

    updatedAt = Time(attribute="read_at")


class ApiKeySchema(Schema):
    """A key for an account's programs."""

    name = fields.String(required=True, validate=[Length(1, 100), _ONE_LINE, _NOT_BLANK])
    expiresAt = Time(load_default=None, allow_none=False)


class PageSchema(Schema):
    """Which part of a list; from a query, where everything is text."""

    limit = Digits(load_default=25, validate=Range(1, 100))
    offset = Digits(load_default=0, validate=Range(0, 10**9))


class TilesSchema(PageSchema):
    """Which part of a list of tiles, and below which of them; from a query."""

    under = Place(load_default=None)


class Decimals(fields.Field[float]):
    """A plain decimal number, from a query or from JSON."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", value):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise ValidationError("Must be a decimal number.")


class Count(fields.Field[int]):
    """A whole number, from a query or from JSON."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValidationError("Must be a whole number.")


class TaskSchema(Schema):
    """What a task is asked for with, in the query of a GET or the body of a POST."""

    taskCoords = Place(required=True, attribute="coords", validate=_no_plan)
    instruction = fields.String(validate=Length(max=MAX_INSTRUCTION_CHARACTERS))
    model = fields.String()
    temperature = Decimals(validate=Range(0, 2))
    maxTokens = Count(attribute="max_tokens", validate=Range(1, MAX_TOKENS))


class WishesSchema(Schema):
    """How a task is to be run and told; from a query."""

    rerun = fields.String(validate=OneOf(["true", "false"], error="Must be true or false."))
    events = fields.String(validate=OneOf(["prompt"], error="Must be prompt, or absent."))
    sse = fields.String(validate=OneOf(["ids"], error="Must be ids, or absent."))


class EventsSchema(Schema):
    """From where on an answer is followed, and with what events; from a query."""

    after = Digits(load_default=0, validate=Range(0, 10**9))
    sse = fields.String(load_default=None, validate=OneOf(["ids"], error="Must be ids, or absent."))


class VerifySchema(Schema):
    """Whether a key is to be tried before it is stored; from a query."""

    verify = fields.Enum(Answer, by_value=True, load_default=Answer.NO)


def load(schema: Schema, document: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """The document's fields as values. Raises InvalidRequest naming the first that is wrong.

    With `partial` nothing is required on the first level. What a schema does not know is refused.
    """
    try:
        # By name, because a bare True would reach into the parameters.
        return dict(schema.load(document, partial=tuple(schema.fields) if partial else ()))
    except ValidationError as error:
        field, reason = _first(error.messages_dict)
        raise InvalidRequest(f"{field}: {reason}", field=field) from None


def _first(messages: Any) -> tuple[str, str]:
    """The path of the first fault, dotted, and its sentence."""
    path: list[str] = []
    while isinstance(messages, dict):
        name, messages = next(iter(messages.items()))
        if name != SCHEMA:  # a fault of the whole: its path ends here
            path.append(str(name)[:64])
    return ".".join(path), str(messages[0])
