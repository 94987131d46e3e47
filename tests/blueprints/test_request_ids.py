"""A request's id: the caller's own where it is one, ours else; the same in header, body and log."""

import re
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from tests.conftest import Shop
from x402jobs.app import create_app
from x402jobs.settings import Settings

OURS = re.compile(r"req_[0-9a-f]{24}")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A service that nobody has bought anything of."""
    data = tmp_path_factory.mktemp("ids") / "data"
    return create_app(replace(Settings(), data=data)).test_client()


@pytest.mark.parametrize(
    "said", ["12345678", "a" * 64, "01J9Z-caller.request_7", "00000000-0000-4000-8000-000000000000"]
)
def test_a_callers_own_is_taken(client: FlaskClient, said: str) -> None:
    refused = client.get("/nothing/here", headers={"X-Request-Id": said})
    served = client.get("/healthz", headers={"X-Request-Id": said})

    assert refused.headers["X-Request-Id"] == refused.json["requestId"] == said
    assert served.headers["X-Request-Id"] == said


@pytest.mark.parametrize(
    "said",
    [
        "",
        "1234567",
        "a" * 65,
        "has a space",
        "has,a comma",
        "has/a/slash",
        "ünïcode-id",
        "١٢٣٤٥٦٧٨٩",
        '"}{"event":"forged"',
        "newline-8\x0b",
    ],
)
def test_anything_else_is_ignored(client: FlaskClient, said: str) -> None:
    refused = client.get(
        "/nothing/here", headers={"X-Request-Id": said.encode("utf-8").decode("latin-1")}
    )

    assert refused.status_code == 404
    assert refused.json["requestId"] == refused.headers["X-Request-Id"]
    assert OURS.fullmatch(refused.headers["X-Request-Id"])


def test_two_of_them_are_none(client: FlaskClient) -> None:
    reply = client.get(
        "/healthz", headers=[("X-Request-Id", "first-0123"), ("X-Request-Id", "second-0123")]
    )

    assert OURS.fullmatch(reply.headers["X-Request-Id"])


def test_the_quote_a_stream_and_a_json_reply_carry_it(shop: Shop) -> None:
    named = {"X-Request-Id": "caller-0123"}

    quote = shop.client.post(shop.url, headers=named)
    stream = shop.client.post(shop.url, json={"topic": "rain"}, headers=shop.payment() | named)
    whole = shop.client.post(
        f"{shop.url}?stream=false", json={"topic": "rain"}, headers=shop.payment() | named
    )

    assert quote.json["requestId"] == "caller-0123"
    assert [each.headers["X-Request-Id"] for each in (quote, stream, whole)] == ["caller-0123"] * 3


def test_a_page_of_another_origin_may_send_and_read_it(shop: Shop) -> None:
    reply = shop.client.options(shop.url)

    for header in ("Access-Control-Allow-Headers", "Access-Control-Expose-Headers"):
        assert "X-Request-Id" in reply.headers[header].split(", ")
