"""No request has two meanings: each is refused, or read once and as what it says."""

import pytest

from tests.hostile.attempts import HIDDEN, OPERATORS, TABLES, Attempt
from tests.hostile.conftest import Exposed
from tests.hostile.conversation import Said, answers, converse, marked
from tests.wire.attacker import nothing_happened

pytestmark = pytest.mark.wire

ROWS = {f"{table}: {name}": row for table, rows in TABLES.items() for name, row in rows.items()}
NOT_OFFERED = (501, 505)
"""A transfer coding and an HTTP that nobody here speaks: the right word for each is a 5xx."""


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_what_can_be_read_in_two_ways_is_refused_or_read_in_one(
    exposed: Exposed, row: Attempt
) -> None:
    expected = {way: row.nginx if way == "nginx" else row.gunicorn for way in exposed.ways}
    if row in OPERATORS.values() and "200" in row.gunicorn and b"etrics" in row.sent:
        # A shop for everybody tells its figures over the socket file alone.
        expected["a port of gunicorn's"] = row.gunicorn.replace("200", "404")
    heard = {}
    for name, way in exposed.ways.items():
        mark, second = marked()
        said = answers(converse(way, row.sent + second), row.method)
        heard[name] = " ".join(_told(each, mark) for each in said)
        refused = [each for each in said if each.status >= 400]
        assert all(each.status < 500 or each.status in NOT_OFFERED for each in refused)
        if name == "nginx" and row.method != "HEAD":
            assert all(each.document.keys() >= {"error", "code", "requestId"} for each in refused)

    assert heard == expected
    assert nothing_happened(exposed.server)


@pytest.mark.parametrize("way", ["a port of gunicorn's", "its socket file", "nginx"])
def test_what_is_hidden_above_would_be_seen_to_run(exposed: Exposed, way: str) -> None:
    """Sent in the open it is a request like any other: the silence above is not one of this test's
    own making."""
    mark, second = marked()

    said = answers(converse(exposed.ways[way], HIDDEN + second), "POST")

    assert [_told(each, mark) for each in said] == ["200", "mark"]
    assert len(exposed.server.claude.calls) == 1


def test_there_are_enough_of_them() -> None:
    assert len(ROWS) >= 60


def _told(said: Said, mark: str) -> str:
    return "mark" if said.document.get("field") == mark else str(said.status)
