"""Whose pages may call: anybody's, without credentials, on the paid door; elsewhere those that the
operator has named (spec/instant.md, The 402; spec/identity.md, Guards).
"""

from flask import Flask, Response, request

ALLOWED = (
    "Content-Type, Authorization, PAYMENT-SIGNATURE, X-PAYMENT, X-OWNER-TEST, X-Resume-Token, "
    "X-Request-Id, Last-Event-ID, Payment-Retry, Access-Control-Expose-Headers"
)
"""x402 clients really send the last two."""
EXPOSED = (
    "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, X-Execution-Id, X-Resume-Token, "
    "X-Request-Id, Retry-After"
)
ALLOWED_ELSEWHERE = (
    "Content-Type, Authorization, X-API-Key, X-User-Id, X-Resume-Token, X-Request-Id, Last-Event-ID"
)
EXPOSED_ELSEWHERE = "X-Execution-Id, X-Request-Id, Retry-After, Location"
DAY_SECONDS = "86400"


def install(app: Flask) -> None:
    """Answer for every reply, errors of routing included."""
    admitted = app.config["FRONTEND_ORIGINS"]

    @app.after_request
    def say_who_may_call(response: Response) -> Response:
        if request.path.startswith("/@"):
            _admit_everybody(response)
        elif admitted:
            response.vary.add("Origin")
            origin = request.headers.get("Origin")
            if origin is not None and origin in admitted:
                _admit(origin, response)
        return response


def _admit_everybody(response: Response) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = ALLOWED
        response.headers["Access-Control-Max-Age"] = DAY_SECONDS


def _admit(origin: str, response: Response) -> None:
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Access-Control-Expose-Headers"] = EXPOSED_ELSEWHERE
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_ELSEWHERE
        response.headers["Access-Control-Max-Age"] = DAY_SECONDS
