"""Who somebody is here."""

from flask import Blueprint, Response, jsonify

from x402jobs.blueprints import replies, services
from x402jobs.blueprints.callers import signed_in
from x402jobs.blueprints.schemas import ProfileSchema, load

bp = Blueprint("identity", __name__)
bp.after_request(replies.private)


@bp.get("/auth/me")
def show_me() -> Response:
    """The account behind the credential; `username` is null until one is chosen."""
    user_id = signed_in().user_id
    return jsonify(id=user_id, username=services.iam.username(user_id))


@bp.put("/user/profile")
def choose_username() -> Response:
    """Choose a username, once: it is part of every template's URL."""
    user_id = signed_in().user_id
    sent = load(ProfileSchema(), replies.read_object())
    return jsonify(id=user_id, username=services.iam.choose_username(user_id, sent["username"]))
