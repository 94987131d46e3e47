"""For the operator: is the process alive?"""

from flask import Blueprint, Response, jsonify

bp = Blueprint("operations", __name__)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers. Says nothing about what it depends on."""
    return jsonify(status="ok")
