"""A request's credentials become a Caller."""

from flask import request

from x402jobs.blueprints import services
from x402jobs.domain.caller import Caller
from x402jobs.domain.errors import Unauthenticated


def recognise() -> Caller | None:
    """Who is calling, when they say so. Raises Unauthenticated for a credential that is bad."""
    return services.iam.recognise(request.headers.get("Authorization"), address())


def signed_in() -> Caller:
    """Who is calling, where only accounts may. Raises Unauthenticated."""
    caller = recognise()
    if caller is None:
        raise Unauthenticated()
    return caller


def address() -> str:
    """Where the request came from.

    Behind a unix socket there is no peer; the proxy in front of it overwrites this header.
    """
    return request.remote_addr or request.headers.get("X-Real-IP", "")
