"""What a hostile caller could send: every door and verb, good words, and words bent."""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from marshmallow import Schema

from tests.blueprints.conftest import as_v1
from tests.conftest import encoded
from x402jobs.blueprints import schemas

Headers = list[tuple[str, str]]

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
NASTY = (
    *("", " ", "\0", "a\0b", "\u2028", "\u202e", "\ufeff", "é" * 300, "a" * 3000, "💧" * 100),
    *("null", "true", "-1", "0", "1e999", "NaN", "0x10", "1_0", "９", "99999999999999999999", "²"),
    *("'", '"', "' OR 1=1 --", "'; DROP TABLE x402_resources; --", "%", "%00", "%s", "\\", "`id`"),
    *("{topic}{/topic}", "{{7*7}}", "${jndi:ldap://127.0.0.1/a}", "{0.__class__}", "$&", "\\g<0>"),
    *("../../etc/passwd", "//evil.example", "http://127.0.0.1/", "<script>alert(1)</script>"),
    *("a\r\nX-A: b", "data: x\n\n", "id: 1\n", "*", "a,b", "a;b", "a=b", "[]", "{}"),
)
COSTLY = ("/@<username>/<slug>", "/api/stream/execute-task")
"""Asked for more often than the others: behind them is most of what can go wrong."""
SCHEMAS: Mapping[str, tuple[type[Schema], ...]] = {
    "/resources": (schemas.TemplateSchema,),
    "/integrations/claude/config": (schemas.ClaudeConfigSchema,),
    "/integrations/wallet/config": (schemas.WalletConfigSchema,),
    "/user/profile": (schemas.ProfileSchema,),
    "/api/tiles": (schemas.TileSchema, schemas.TileChangeSchema),
    "/api/keys": (schemas.ApiKeySchema,),
    "/api/stream/execute-task": (schemas.TaskSchema,),
}
"""Whose fields a body has; the longest beginning of a path decides, and elsewhere it is values."""
QUERIES = (
    "PageSchema",
    "TilesSchema",
    "EventsSchema",
    "VerifySchema",
    "WishesSchema",
    "TaskSchema",
)
GOOD: Mapping[str, Any] = {
    "name": "Planted",
    "slug": "planted",
    "description": "Some words.",
    "priceUsdc": "0.01",
    "network": "eip155:84532",
    "systemPrompt": "Words about {topic}{/topic}.",
    "parameters": [{"name": "topic", "maxLength": 40, "enum": ["rain", "snow"]}],
    "maxTokens": 100,
    "model": "claude-sonnet-4-5",
    "allowsUserMessage": True,
    "isActive": True,
    "apiKey": "sk-ant-somebody-elses",
    "isEnabled": True,
    "baseAddress": "0x00000000000000000000000000000000000AdA00",
    "username": "mallory",
    "title": "A tile",
    "content": "Its words",
    "preview": "Words",
    "visibility": "private",
    "updatedAt": "2030-01-31T12:00:00Z",
    "expiresAt": "2030-01-31T12:00:00Z",
    "instruction": "Be brief",
    "temperature": 0.5,
    "limit": "10",
    "offset": "0",
    "after": "0",
    "sse": "ids",
    "verify": "true",
    "rerun": "true",
    "events": "prompt",
    "stream": "false",
    "topic": "rain",
    "user_message": "Please",
}
NAMES = (
    *("Accept", "Accept-Encoding", "Origin", "Sec-Fetch-Site", "Last-Event-ID", "X-Resume-Token"),
    *("X-OWNER-TEST", "X-User-Id", "X-API-Key", "Authorization", "Cookie", "PAYMENT-SIGNATURE"),
    *("X-PAYMENT", "Payment-Identifier", "Range", "If-None-Match", "Content-Encoding", "Forwarded"),
    *("X-Forwarded-For", "X-Forwarded-Host", "X-HTTP-Method-Override", "X-Request-Id", "Referer"),
    *("User-Agent", "X-Original-URL", "Access-Control-Request-Method", "Idempotency-Key", "Via"),
)
USUAL: Headers = [
    ("Accept", "application/json"),
    ("Accept", "text/event-stream"),
    ("Origin", "https://evil.example"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Site", "cross-site"),
    ("X-OWNER-TEST", "true"),
]
TYPES = ("application/json", "", "text/plain", "multipart/form-data; boundary=a", "\xff",
         "application/x-www-form-urlencoded", "application/json; charset=utf-16")  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One request, and what Claude does if it comes to that."""

    method: str
    rule: str
    target: str
    headers: Headers = field(default_factory=list)
    body: bytes | None = None
    is_chunked: bool = False
    claude: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Known:
    """What a caller can know of a shop."""

    doors: Mapping[str, tuple[str, ...]]
    """The methods of each rule; what is between <> in a rule is a name of `names`."""
    names: Mapping[str, list[str]]
    credentials: list[Headers]
    payments: list[dict[str, Any]]
    claude: tuple[Mapping[str, Any], ...] = ({},)


words = st.sampled_from(NASTY) | st.text(max_size=30)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.sampled_from(["rain", "1"])
)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=6,
)
often = st.integers(0, 9).map(bool)
"""Nine times of ten."""


@st.composite
def requests(draw: st.DrawFn, known: Known) -> Asked:
    """One request: mostly well-formed, so that it comes far, and with something bent."""
    doors = sorted(known.doors)
    rule = draw(st.sampled_from([COSTLY[0]] * 20 + [COSTLY[1]] * 5 + doors))
    method = draw(st.sampled_from(known.doors[rule] if draw(often) else VERBS))
    query = draw(queries(known, rule, method))
    target = draw(paths(known, rule)) + (f"?{query}" if query else "")
    headers: Headers = []
    if rule == COSTLY[0] and draw(often):
        headers += draw(payments(known))
    elif draw(often):
        headers += draw(st.sampled_from(known.credentials))
    if draw(st.integers(0, 4)) == 0:
        headers.append(draw(st.sampled_from(USUAL)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        headers.append((draw(st.sampled_from(NAMES)), header_value(draw(words))))
    body = None
    if method in ("POST", "PUT", "PATCH") or draw(st.integers(0, 9)) == 0:
        kind = header_value("application/json" if draw(often) else draw(st.sampled_from(TYPES)))
        headers.append(("Content-Type", kind))
        body = draw(bodies(rule))
    return Asked(
        method=method,
        rule=rule,
        target=target[:4000],
        headers=headers,
        body=body,
        is_chunked=body is not None and draw(st.integers(0, 9)) == 0,
        claude=draw(st.sampled_from(known.claude)),
    )


@st.composite
def paths(draw: st.DrawFn, known: Known, rule: str) -> str:
    """The rule with its names filled in; seldom with something else."""
    parts = []
    for part in rule.split("/"):
        at, is_named, name = part.partition("<")
        if is_named:
            good = known.names[name.rstrip(">")]
            filled = draw(st.sampled_from(good) if draw(often) else words)
            part = at + quote(filled.encode(errors="replace"), safe="")
        parts.append(part)
    path = "/".join(parts)
    if not draw(often):
        path = draw(st.sampled_from([f"/{path}", f"{path}/", f"{path}%00", f"{path}/x", "/", path]))
    return path


@st.composite
def queries(draw: st.DrawFn, known: Known, rule: str, method: str) -> str:
    """Names the doors know, and others, with good values and bad ones; or no query at all."""
    if "slug" in rule and method in ("GET", "HEAD") and draw(often):
        return "topic=rain" + draw(st.sampled_from(["", "&stream=false", "&sse=ids"]))
    if rule.endswith("execute-task") and method == "GET" and draw(often):
        return "taskCoords=" + quote(draw(st.sampled_from(known.names["coords"])))
    if draw(st.booleans()):
        return ""
    schema = getattr(schemas, draw(st.sampled_from(QUERIES)))()
    names = draw(
        st.lists(st.sampled_from([*schema.fields, "stream", "network"]) | words, max_size=3)
    )
    pairs = []
    for name in names:
        value = str(GOOD.get(name, "rain")) if draw(st.booleans()) else draw(words)
        pairs.append(f"{_escaped(name)}={_escaped(value)}")
    if not draw(often):
        pairs.append(
            draw(st.sampled_from(["%ff=%fe", "%", "&&&", "=", "a", "a=1&a=2", "x" * 3000]))
        )
    return "&".join(pairs)


@st.composite
def bodies(draw: st.DrawFn, rule: str) -> bytes:
    """A document of the door's own fields, bent; sometimes no document at all."""
    if not draw(often):
        return draw(st.sampled_from(ODD_BODIES) | st.binary(max_size=60))
    known = max((each for each in SCHEMAS if rule.startswith(each)), key=len, default=None)
    if known is None:
        document: dict[str, Any] = {"topic": "rain"}
    else:
        schema = draw(st.sampled_from(SCHEMAS[known]))()
        document = {
            name: GOOD.get(name, "rain")
            for name, each in schema.fields.items()
            if each.required or draw(st.booleans())
        }
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        place = draw(st.sampled_from([*document, "other"]) if draw(often) else words)
        document[place] = draw(documents)
    text = json.dumps(document)
    return text.encode()[: len(text) if draw(often) else draw(st.integers(0, len(text)))]


ODD_BODIES = (
    *(b"", b" ", b"null", b"[]", b'""', b"{}", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"\0"),
    *(b"[" * 30_000, b'{"a":' * 6000 + b"1" + b"}" * 6000, b'{"topic":"a","topic":"b"}'),
    *(b'{"topic":NaN}', b'{"topic":1e999}', b'{"topic":"\\ud800"}', b'{"topic":"\\u0000"}'),
    *('{"topic":"rain"}'.encode("utf-16"), gzip.compress(b'{"topic":"rain"}'), b" " * 70_000),
    *(b'{"topic":"' + b"a" * 65_000 + b'"}', b'{"n":' + b"9" * 5000 + b"}", b"topic=rain&a=b"),
    *(b'--a\r\nContent-Disposition: form-data; name="topic"\r\n\r\nrain\r\n--a--\r\n',),
    *(json.dumps({f"p{number}": "x" for number in range(80)}).encode(),),
)


@st.composite
def payments(draw: st.DrawFn, known: Known) -> Headers:
    """A payment: as it should be, of version 1, bent in one place, torn, or two of them."""
    document = json.loads(json.dumps(draw(st.sampled_from(known.payments))))
    how = draw(st.sampled_from(["good"] * 5 + ["v1", "bent", "bent", "torn", "twice"]))
    if how == "v1":
        return [("X-PAYMENT", encoded(as_v1(document)))]
    if how == "bent":
        inner = document
        for _ in range(4):
            name = draw(st.sampled_from(sorted(inner)))
            if not isinstance(inner[name], dict) or not draw(often):
                break
            inner = inner[name]
        inner[name] = draw(documents)
    header = base64.b64encode(json.dumps(document).encode()).decode()
    if how == "torn":
        place = draw(st.integers(0, len(header)))
        header = (
            header[:place] + draw(st.sampled_from(["", "=", "%", ",", "é"])) + header[place + 1 :]
        )
    shown: Headers = [("PAYMENT-SIGNATURE", header[:7000])]
    return shown * 2 if how == "twice" else shown


def header_value(text: str) -> str:
    """What of it may stand in a header: the table of raw requests is for the rest."""
    kept = "".join(each for each in text if each == "\t" or (each >= " " and each != "\x7f"))
    return kept.encode("latin-1", "replace").decode("latin-1").strip()[:2000]


def _escaped(text: str) -> str:
    return quote(text.encode(errors="replace"), safe="")
