"""The cookie of a browser that is signed in."""

from flask import Response, after_this_request, current_app, request

from x402jobs.services.iam.sessions import SESSION_SECONDS

NAME = "x402jobs_session"


def shown() -> str | None:
    """What the browser has, good or not. Several of this name are no good together."""
    values = request.cookies.getlist(NAME)
    return ",".join(values) if values else None


def give(token: str) -> None:
    """Put it into the reply, whatever the reply will be: for seven days from now."""

    @after_this_request
    def set_cookie(response: Response) -> Response:
        response.set_cookie(
            NAME,
            token,
            max_age=SESSION_SECONDS,
            path="/",
            secure=current_app.config["SESSION_COOKIE_SECURE"],
            httponly=True,
            samesite="Lax",
        )
        return response


def take_back() -> None:
    """Tell the browser to forget it."""

    @after_this_request
    def delete_cookie(response: Response) -> Response:
        response.delete_cookie(
            NAME,
            path="/",
            secure=current_app.config["SESSION_COOKIE_SECURE"],
            httponly=True,
            samesite="Lax",
        )
        return response
