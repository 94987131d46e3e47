"""Whatever is asked, the answer has its shape, nothing slips out, and nobody pays for nothing.

A sample of `python -m tests.hostile.fuzz`, which asks ten thousand times.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.hostile.conversation import Said
from tests.hostile.fuzz import ANSWER, KEY, MISBEHAVIOUR, Send, faults, fuzz, inside, outside
from tests.hostile.grammar import Asked
from tests.wire.conftest import Server


@pytest.mark.parametrize(
    ("shop", "number"),
    [(inside, 200), pytest.param(outside, 100, marks=pytest.mark.wire)],
    ids=["in process", "over sockets"],
)
def test_whatever_is_asked_is_answered_in_shape_and_in_good_order(
    tmp_path: Path,
    shop: Callable[[Path], AbstractContextManager[tuple[Server, Send]]],
    number: int,
) -> None:
    claude = MISBEHAVIOUR if shop is inside else ({},)

    with shop(tmp_path) as (server, send):
        report = fuzz("a sample", server, send, number, seed=1, claude=claude)

    assert report.faults == [], report
    assert {200, 400, 401, 404} <= report.statuses.keys()


def said(status: int, **document: str) -> Said:
    headers = {"content-type": "application/json", "x-request-id": "req_1"}
    return Said(status, headers, json.dumps({"requestId": "req_1"} | document).encode())


DOOR = "/@<username>/<slug>"
BAD = {
    "a crash": (DOOR, said(500, code="UNKNOWN", error="Oh.")),
    "a gateway's own word": (DOOR, Said(502, {"content-type": "text/html"}, b"<html>")),
    "an unknown code": (DOOR, said(400, code="OOPS", error="Oh.")),
    "no sentence": (DOOR, said(400, code="INVALID_REQUEST")),
    "another's id": (DOOR, said(400, code="NOT_FOUND", error="Oh.", requestId="req_2")),
    "HTML": (DOOR, Said(404, {"content-type": "text/html"}, b"<html>")),
    "a way to elsewhere": (DOOR, Said(308, {"location": "//evil.example"})),
    "a key": (DOOR, said(502, code="UPSTREAM_REJECTED", error=f"bad key {KEY}")),
    "a prompt": (DOOR, said(200, x="planted PROMPT of the fuzzed shop")),
    "an answer for nothing": (DOOR, said(200, response=ANSWER)),
    "an answer elsewhere": ("/api/v1/resources", said(200, response=ANSWER)),
}


@pytest.mark.parametrize(("rule", "answer"), BAD.values(), ids=BAD.keys())
def test_the_judge_sees(rule: str, answer: Said) -> None:
    asked = Asked("POST", rule, "/@ada/haiku")

    assert list(faults(asked, answer, {"creator's key": KEY}))
