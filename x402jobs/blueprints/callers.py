"""A request's credentials become a Caller."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from flask import current_app, request

from x402jobs.blueprints import services, session_cookie
from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.credentials import Credentials
from x402jobs.domain.errors import Forbidden, Unauthenticated

CREATORS = (Method.BEARER, Method.SESSION)
"""What the creators' doors take (spec/http.md, B S)."""
PROGRAMS = (Method.BEARER, Method.SESSION, Method.EXTERNAL)
"""What takes an account's own keys too (B S E)."""
EVERYBODY = (Method.SESSION, Method.BEARER, Method.INTERNAL, Method.EXTERNAL)
"""What takes every kind (S B I E)."""

NAMES = {
    Method.SESSION: "a session cookie",
    Method.BEARER: "a bearer token",
    Method.INTERNAL: "an internal API key",
    Method.EXTERNAL: "an API key",
}
SAFE = ("GET", "HEAD", "OPTIONS")
UNKNOWN = "unknown"
"""Where a request came from that came from no address: all of those together."""
HOUSEHOLD_BITS = 64
"""Of an IPv6 address: the rest of it is its household's to choose, anew for every request."""


def recognise() -> Caller | None:
    """Who is calling, as a bearer token tells; other credentials are not looked at.

    For doors that are open without one. Cookies go with a browser unasked, and must neither help
    nor hurt there. Raises Unauthenticated for a token that is bad.
    """
    return _recognise(_shown(), (Method.BEARER,))


def signed_in(*methods: Method, spends: bool = False) -> Caller:
    """Who is calling, where only accounts may, by the kinds of credential that this door takes.

    Those are the creators' unless they are named. Raises Unauthenticated for none, a bad one, and
    one of another kind, which is not looked at; but for a cookie, which goes with a browser unasked
    and is ignored then. A session alone may change things only from our own pages (Forbidden); with
    `spends` it may not even GET from elsewhere. A page of somebody else's cannot add a header.
    """
    taken, shown = methods or CREATORS, _shown()
    if not shown.methods <= {*taken, Method.SESSION}:
        raise Unauthenticated(_takes(taken))
    caller = _recognise(shown, taken)
    if caller is None:
        raise Unauthenticated(_takes(taken))
    if shown.methods == {Method.SESSION} and (spends or request.method not in SAFE):
        check_site()
    return caller


def session_to_end() -> str:
    """The session that wants to be ended, good or not. Raises Unauthenticated and Forbidden."""
    shown = _shown()
    if shown.session is None or shown.methods != {Method.SESSION}:
        raise Unauthenticated(_takes((Method.SESSION,)))
    check_site()
    return shown.session


def check_site() -> None:
    """Let nothing pass that a page of somebody else's may have sent with our cookie.

    SameSite=Lax is not enough: it lets links through, and what runs on our neighbours' hosts.
    """
    if request.headers.get("Sec-Fetch-Site") in ("same-origin", "none"):
        return
    if request.headers.get("Origin") in current_app.config["OUR_ORIGINS"]:
        return
    raise Forbidden(
        "With a session cookie this is taken from the service's own pages alone, as the browser "
        "says in Sec-Fetch-Site or Origin. Programs send a token or an API key instead."
    )


def address() -> str:
    """Where the request came from, for limits and nothing else.

    Behind a unix socket there is no peer. There, and behind a proxy that the operator trusts, it is
    what the proxy has put in the place of whatever the caller said.
    """
    peer = request.remote_addr or ""
    if not peer or _is_trusted(peer):
        peer = request.headers.get("X-Real-IP") or peer
    return _counted(peer)


def is_on_this_machine() -> bool:
    """Whether the request came over the socket file and not through the proxy there, which says for
    whom it asks in X-Real-IP; or over loopback, where this is a service for one machine.

    Elsewhere a peer on loopback may be anybody's proxy, and many of those say nothing.
    """
    if any(name in request.headers for name in ("X-Real-IP", "X-Forwarded-For", "Forwarded")):
        return False
    peer = request.remote_addr or ""
    return not peer or (current_app.config["PLAIN_LOOPBACK"] and _plain(peer).is_loopback)


def _counted(said: str) -> str:
    """Whoever has this address, as one. What is none may not be a name of the caller's choice."""
    try:
        found = _plain(said)
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv4Address):
        return str(found)
    return str(IPv6Network((int(found), HOUSEHOLD_BITS), strict=False))


def _is_trusted(peer: str) -> bool:
    proxies = current_app.config["TRUSTED_PROXIES"]
    return bool(proxies) and any(_plain(peer) in network for network in proxies)


def _plain(peer: str) -> IPv4Address | IPv6Address:
    """A socket for both families writes 10.0.0.1 as ::ffff:10.0.0.1."""
    found = ip_address(peer)
    return getattr(found, "ipv4_mapped", None) or found


def _shown() -> Credentials:
    return Credentials(
        session=session_cookie.shown(),
        authorization=request.headers.get("Authorization"),
        api_key=request.headers.get("X-API-Key"),
        hint=request.headers.get("X-User-Id"),
    )


def _recognise(shown: Credentials, methods: Collection[Method]) -> Caller | None:
    caller = services.iam.recognise(shown.only(methods), address())
    if caller is not None and caller.is_renewed and shown.session is not None:
        session_cookie.give(shown.session)
    return caller


def _takes(methods: Collection[Method]) -> str:
    *names, last = (NAMES[method] for method in methods)
    return f"Sign in first. Taken here: {', '.join(names)}{' or ' if names else ''}{last}."
