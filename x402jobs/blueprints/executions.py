"""What a signed-in caller has asked for."""

from flask import Blueprint, Response, jsonify

from x402jobs.blueprints import replies, services
from x402jobs.blueprints.callers import signed_in
from x402jobs.blueprints.replies import say_execution, say_page

bp = Blueprint("executions", __name__)
bp.after_request(replies.private)


@bp.get("/api/v1/executions")
def list_executions() -> Response:
    """The caller's own runs, newest first: those made with a credential of theirs."""
    caller = signed_in().user_id
    page = services.books.calls_of(caller, **replies.read_page())
    return jsonify(say_page("executions", page, say_execution))
