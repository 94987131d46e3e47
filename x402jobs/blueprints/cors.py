"""Which origins may call: any, without credentials, on the paid door (spec/instant.md, The 402)."""

from flask import Flask, Response, request

ALLOWED = (
    "Content-Type, Authorization, PAYMENT-SIGNATURE, X-PAYMENT, X-OWNER-TEST, X-Resume-Token, "
    "Last-Event-ID, Payment-Retry, Access-Control-Expose-Headers"
)
"""x402 clients really send the last two."""
EXPOSED = (
    "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, X-Execution-Id, X-Resume-Token, "
    "X-Request-Id, Retry-After"
)


def install(app: Flask) -> None:
    """Answer for every reply under `/@…`, errors of routing included."""

    @app.after_request
    def open_paid_door(response: Response) -> Response:
        if request.path.startswith("/@"):
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, OPTIONS"
                response.headers["Access-Control-Allow-Headers"] = ALLOWED
                response.headers["Access-Control-Max-Age"] = "86400"
        return response
