"""Creators who knock at their doors over HTTP, as ada and bob would with curl."""

import json
import time
import uuid
from typing import Any

import jwt
from werkzeug.test import TestResponse

from tests.conftest import Shop
from x402jobs.stores import local_tokens

SONNET = {
    "name": "Sonnet",
    "priceUsdc": "0.05",
    "systemPrompt": "You write sonnets. Mood: {mood}{/mood}.",
    "parameters": [{"name": "mood"}],
}
"""The least that a template needs."""


class Creator:
    """Somebody with a token of their own."""

    def __init__(self, shop: Shop, token: str) -> None:
        self._client = shop.client
        self.headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> TestResponse:
        if body is not None:
            options["json"] = body
        headers = self.headers | options.pop("headers", {})
        return self._client.open(path, method=method, headers=headers, **options)

    def get(self, path: str) -> Any:
        reply = self.ask("GET", path)
        assert reply.status_code == 200, reply.text
        return reply.json

    def put(self, path: str, body: Any) -> Any:
        reply = self.ask("PUT", path, body)
        assert reply.status_code == 200, reply.text
        return reply.json

    def make(self, **changes: Any) -> Any:
        """A template of theirs, as the reply to its POST shows it."""
        reply = self.ask("POST", "/resources", SONNET | changes)
        assert reply.status_code == 201, reply.text
        return reply.json

    def patch(self, template_id: str, **changes: Any) -> Any:
        reply = self.ask("PATCH", f"/resources/{template_id}", changes)
        assert reply.status_code == 200, reply.text
        return reply.json


def ada(shop: Shop) -> Creator:
    """She has a key, an address and the template `haiku`."""
    return Creator(shop, shop.token("ada"))


def bob(shop: Shop) -> Creator:
    """He has a name and nothing else."""
    return Creator(shop, shop.token("bob"))


def newcomer(shop: Shop) -> Creator:
    """A token for an account that nothing is known of, not even a name."""
    return Creator(shop, local_tokens(shop.settings).issue(str(uuid.uuid4())))


def haiku_id(shop: Shop) -> str:
    (row,) = shop.query("SELECT id FROM x402_resources WHERE slug = 'haiku'")
    return str(row["id"])


def expired_token(shop: Shop) -> str:
    """What was ada's good token, an hour too late."""
    now = int(time.time())
    claims = {
        "sub": shop.ada,
        "aud": "authenticated",
        "iss": "urn:x402jobs:local",
        "role": "authenticated",
        "iat": now - 7200,
        "exp": now - 3600,
    }
    secret = (shop.settings.data / "token-secret").read_text().strip()
    return jwt.encode(claims, secret, "HS256")


def bad_credentials(shop: Shop) -> dict[str, str]:
    """Authorization headers that nobody gets in with."""
    good = shop.token("ada")
    return {
        "another scheme": f"Basic {good}",
        "no scheme": good,
        "garbage": "Bearer garbage",
        "empty": "Bearer ",
        "expired": f"Bearer {expired_token(shop)}",
        "signed by somebody else": f"Bearer {good[:-4]}AAAA",
    }


def faulty(reply: TestResponse, status: int, code: str, field: str | None = None) -> Any:
    """The body of an error, its shape checked (spec/wire.md)."""
    said = json.loads(reply.get_data())
    assert (reply.status_code, said["code"], said.get("field")) == (status, code, field), said
    assert reply.mimetype == "application/json"
    assert isinstance(said["error"], str) and said["error"]
    assert said["requestId"] == reply.headers["X-Request-Id"]
    assert "no-store" in reply.headers["Cache-Control"]
    assert said.keys() <= {"error", "code", "requestId", "field"}
    return said
