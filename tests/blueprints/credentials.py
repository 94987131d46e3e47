"""Credentials of every kind, come by as their owners would."""

from collections.abc import Iterator
from http.cookies import SimpleCookie

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.conftest import Shop
from x402jobs.domain.caller import Method
from x402jobs.stores import catalogue, internal_keys

HERE = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a page that asks its own origin."""
LETTERS = {
    "S": Method.SESSION,
    "B": Method.BEARER,
    "I": Method.INTERNAL,
    "E": Method.EXTERNAL,
}
"""As docs/http-api.md abbreviates them."""


def stranger(shop: Shop) -> FlaskClient:
    """A client that sends what it is told to and keeps no cookie."""
    return shop.client.application.test_client(use_cookies=False)


def signed_in(shop: Shop, name: str = "ada", **headers: str) -> TestResponse:
    """The reply to a browser that signs in."""
    shown = {"Authorization": f"Bearer {shop.token(name)}"} | headers
    return stranger(shop).post("/auth/session", headers=shown)


def cookies(reply: TestResponse) -> SimpleCookie:
    """What the reply tells a browser to keep."""
    return SimpleCookie("\r\n".join(reply.headers.getlist("Set-Cookie")))


def session(shop: Shop, name: str = "ada") -> str:
    """The token of a fresh session."""
    return cookies(signed_in(shop, name))["x402jobs_session"].value


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"x402jobs_session={token}"}


def external_key(shop: Shop, who: str = "ada", **fields: str) -> str:
    reply = stranger(shop).post(
        "/api/keys",
        json={"name": "CI"} | fields,
        headers={"Authorization": f"Bearer {shop.token(who)}"},
    )
    assert reply.status_code == 201, reply.text
    return str(reply.json["key"])


def internal_key(shop: Shop, name: str = "ada", purpose: str = "tools") -> str:
    user_id = catalogue(shop.settings).add_user(name)
    return internal_keys(shop.settings).get_or_create(user_id, purpose)[1].reveal()


def shown_by(shop: Shop, name: str, method: Method) -> dict[str, str]:
    """The headers of a good credential of this kind."""
    match method:
        case Method.SESSION:
            return cookie(session(shop, name)) | HERE
        case Method.BEARER:
            return {"Authorization": f"Bearer {shop.token(name)}"}
        case Method.INTERNAL:
            return {"X-API-Key": internal_key(shop, name)}
        case Method.EXTERNAL:
            return {"X-API-Key": external_key(shop, name)}


def each_kind(shop: Shop, name: str = "ada") -> Iterator[tuple[Method, dict[str, str]]]:
    for method in Method:
        yield method, shown_by(shop, name, method)
