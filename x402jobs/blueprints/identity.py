"""Who somebody is here, and what they sign in with."""

from typing import Any

from flask import Blueprint, Response, jsonify
from marshmallow import Schema

from x402jobs.blueprints import replies, services, session_cookie
from x402jobs.blueprints.callers import session_to_end, signed_in
from x402jobs.blueprints.replies import iso, say_page
from x402jobs.blueprints.schemas import ApiKeySchema, ProfileSchema, load
from x402jobs.domain.caller import Method
from x402jobs.domain.credentials import ApiKey

bp = Blueprint("identity", __name__)
bp.after_request(replies.private)

SESSION, KEYS = "/auth/session", "/api/keys"


@bp.get("/auth/me")
def show_me() -> Response:
    """The account behind the credential; `username` is null until one is chosen."""
    return jsonify(say_account(signed_in().user_id))


@bp.put("/user/profile")
def choose_username() -> Response:
    """Choose a username, once: it is part of every template's URL."""
    user_id = signed_in().user_id
    sent = load(ProfileSchema(), replies.read_object())
    return jsonify(id=user_id, username=services.iam.choose_username(user_id, sent["username"]))


@bp.post(SESSION)
def begin_session() -> Response:
    """Sign a browser in with a bearer token. A session that it had is over."""
    user_id = signed_in(Method.BEARER).user_id
    load(Schema(), replies.read_object(empty={}))
    token = services.iam.sessions.begin(user_id)
    if (before := session_cookie.shown()) is not None:
        services.iam.sessions.end(before)
    session_cookie.give(token.reveal())
    return jsonify(say_account(user_id))


@bp.delete(SESSION)
def end_session() -> Response:
    """Sign the browser out. A session that is over already is no fault."""
    services.iam.sessions.end(session_to_end())
    session_cookie.take_back()
    return Response(status=204)


@bp.get(KEYS)
def list_keys() -> Response:
    """The account's keys for its programs, newest first. Never the keys themselves."""
    user_id = signed_in().user_id
    page = services.iam.api_keys.page(user_id, **replies.read_page())
    return jsonify(say_page("keys", page, say_key))


@bp.post(KEYS)
def make_key() -> Response:
    """A new key. This reply alone shows it."""
    user_id = signed_in().user_id
    sent = load(ApiKeySchema(), replies.read_object())
    key, text = services.iam.api_keys.make(user_id, sent["name"], sent["expiresAt"])
    return replies.created(say_key(key) | {"key": text.reveal()}, f"{KEYS}/{key.id}")


@bp.delete(f"{KEYS}/<key_id>")
def delete_key(key_id: str) -> Response:
    """It is taken no more, from now on."""
    services.iam.api_keys.delete(signed_in().user_id, key_id)
    return Response(status=204)


def say_account(user_id: str) -> dict[str, Any]:
    """An account as it sees itself."""
    return {"id": user_id, "username": services.iam.username(user_id)}


def say_key(key: ApiKey) -> dict[str, Any]:
    """A key as its owner sees it."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "createdAt": iso(key.created_at),
        "lastUsedAt": iso(key.last_used_at),
        "expiresAt": iso(key.expires_at),
    }
