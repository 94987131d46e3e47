"""The checks from outside, as callers come: through the public URL, with whatever is before it."""

import base64
import http.client
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from x402jobs.doctor import Check, Finding, clocks, fail, not_run, ok, warn
from x402jobs.doctor.requests import FAULTS, Reply, ask, certificate_ends
from x402jobs.domain.listing import Listing
from x402jobs.domain.networks import DEVELOPMENT, Network
from x402jobs.ports import Catalogue
from x402jobs.settings import Settings

Name = tuple[str, str]
"""A creator and a slug."""

DAY = 86_400
ENDS_SOON_DAYS = 14
APART_SECONDS = 0.1
"""The events of /healthz/stream are 0.3 s apart; held back they come together."""
NOWHERE = "doctor.invalid"
"""A host that nobody has (RFC 6761)."""
FORGED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": NOWHERE,
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/nowhere",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Server": NOWHERE,
    "X-Real-IP": "127.0.0.1",
    "Forwarded": f"for=127.0.0.1;host={NOWHERE};proto=gopher",
    "X-Original-URL": "/metrics",
    "X-Rewrite-URL": "/metrics",
    "Script-Name": "/nowhere",
}
"""What a caller may say about who and where they are; no answer may depend on it."""
LONG = {"X-Doctor": "x" * 7500}
NGINX = "compare the proxy's configuration with deploy/nginx.conf"


def checks(settings: Settings, catalogue: Catalogue, named: Name | None) -> list[Check]:
    """`named` is the template to look at; without it the newest one on sale that has a price."""
    front, group = _Front(settings, catalogue, named), "outside"
    reached = ("answers",)
    found = [
        Check(group, "TLS", front.tls),
        Check(group, "answers", front.answers, ("TLS",)),
        Check(group, "clock", front.clock, reached),
        Check(group, "stream", front.stream, reached),
        Check(group, "long header", front.long_header, reached),
    ]
    if not settings.is_plain_loopback:
        found += [
            Check(group, "plain HTTP", front.plain_http, reached),
            Check(group, "other hosts", front.other_hosts, reached),
            Check(group, "private doors", front.private_doors, reached),
        ]
    return [
        *found,
        Check(group, "402", front.quote, (*reached, "database")),
        Check(group, "probes", front.probes, ("402",)),
        Check(group, "forged headers", front.forged_headers, ("402",)),
        Check(group, "chunked body", front.chunked_body, ("402",)),
    ]


class _Front:
    def __init__(self, settings: Settings, catalogue: Catalogue, named: Name | None) -> None:
        self._settings = settings
        self._url = settings.public_url
        self._catalogue = catalogue
        self._named = named
        self._path = ""
        self._healthy: tuple[Reply, float, float]

    def tls(self) -> Finding:
        if self._url.startswith("http:"):
            if self._settings.is_plain_loopback:
                return ok("none: plain HTTP on loopback, for this machine alone")
            return fail(
                f"{self._url} is plain HTTP: payments and keys travel bare",
                "put it behind TLS (deploy/nginx.conf), and say https:// in PUBLIC_URL",
            )
        try:
            days = (certificate_ends(self._url) - time.time()) / DAY
        except ssl.SSLCertVerificationError as error:
            return fail(
                f"callers refuse the certificate: {error.verify_message}",
                "install one for this host, with its whole chain",
            )
        except OSError as error:
            return fail(f"{self._url} cannot be reached ({_kind(error)})", REACH)
        if days < ENDS_SOON_DAYS:
            return warn(f"the certificate ends in {days:.0f} days", "renew it; see its automation")
        return ok(f"good for {days:.0f} days more")

    def answers(self) -> Finding:
        before = time.time()
        try:
            reply = ask(self._url, "/healthz")
        except FAULTS as error:
            return fail(f"{self._url} cannot be reached ({_kind(error)})", REACH)
        self._healthy = reply, before, time.time()
        if reply.status != 200 or _document(reply).get("status") != "ok":
            return fail(
                f"{self._url}/healthz answers {reply.status}, not as the service does",
                "is PUBLIC_URL right, and does the service run behind it?",
            )
        return ok(f"{self._url}/healthz")

    def clock(self) -> Finding:
        reply, before, after = self._healthy
        return clocks.dated("the public URL's", reply.headers.get("date"), before, after)

    def stream(self) -> Finding:
        """With compression asked for: it is what holds events back where a proxy has it on."""
        try:
            reply = ask(self._url, "/healthz/stream", headers={"Accept-Encoding": "gzip, br"})
        except FAULTS as error:
            return fail(f"a stream breaks off ({_kind(error)})", NGINX)
        if "content-encoding" in reply.headers:
            return fail(
                f"streams are compressed ({reply.headers['content-encoding']}), which holds them "
                "back",
                f"gzip off for text/event-stream; {NGINX}",
            )
        if reply.status != 200 or not reply.headers.get("content-type", "").startswith(
            "text/event-stream"
        ):
            return fail(f"/healthz/stream answers {reply.status}, no stream", NGINX)
        gaps = [later - sooner for sooner, later in pairwise(reply.arrivals)]
        if sum(gap >= APART_SECONDS for gap in gaps) < 2:
            return fail(
                "streams are held back: events that left apart arrived together",
                f"proxy_buffering off; {NGINX}",
            )
        return ok(f"three events, {min(sorted(gaps)[-2:]):.1f} s and more apart")

    def long_header(self) -> Finding:
        size = len(LONG["X-Doctor"])
        try:
            reply = ask(self._url, "/healthz", headers=LONG)
        except FAULTS as error:
            return fail(f"a header of {size} bytes ends the connection ({_kind(error)})", HEADERS)
        if reply.status != 200:
            return fail(f"a header of {size} bytes is answered {reply.status}", HEADERS)
        return ok(f"one of {size} bytes passes")

    def plain_http(self) -> Finding:
        host = urlsplit(self._url).hostname or ""
        bare = f"http://[{host}]" if ":" in host else f"http://{host}"
        try:
            reply = ask(bare, "/healthz")
        except ConnectionRefusedError:
            return ok("nobody answers on port 80")
        except FAULTS as error:
            return not_run(f"port 80 did not say anything ({_kind(error)})")
        if reply.headers.get("location", "").startswith("https://"):
            return ok("port 80 leads to https")
        if reply.status >= 400:
            return ok(f"port 80 refuses ({reply.status})")
        return fail(
            f"{bare} answers {reply.status} without TLS: payments and keys may travel bare",
            "listen on 443 alone, or redirect",
        )

    def other_hosts(self) -> Finding:
        try:
            reply = ask(self._url, "/healthz", headers={"Host": NOWHERE})
        except (ConnectionResetError, http.client.RemoteDisconnected):
            return ok("another host's name ends the connection")
        except FAULTS as error:
            return not_run(f"another host's name was not answered ({_kind(error)})")
        if reply.status < 400:
            return fail(
                f"it answers for any host ({NOWHERE}: {reply.status})", f"refuse them; {NGINX}"
            )
        return ok(f"another host's name is refused ({reply.status})")

    def private_doors(self) -> Finding:
        """A forged address among them: /metrics is told to loopback."""
        bare = []
        for path in ("/readyz", "/metrics"):
            for headers in ({}, FORGED):
                status = ask(self._url, path, headers=headers).status
                if status not in (401, 403, 404) and path not in bare:
                    bare.append(path)
        if bare:
            return fail(
                f"public: {' and '.join(bare)}",
                f"answer 404 there for whoever comes from outside; {NGINX}",
            )
        return ok("/readyz and /metrics are not public")

    def quote(self) -> Finding:
        listing = self._listing()
        if listing is None or listing.template is None:
            if self._named is not None:
                return fail(f"there is no template @{'/'.join(self._named)}", "name another")
            return not_run("no template with a price is on sale; name one with --template")
        template = listing.template
        self._path = f"/@{template.username}/{template.slug}"
        if not template.price or not template.is_active:
            return not_run(f"{self._path[1:]} is free or paused; name another with --template")
        head = self._probe("HEAD", body=None)  # runs nothing, wherever it leads
        reply = self._probe() if head.status >= 400 else head
        if reply.status != 402:
            code = _document(reply).get("code")
            return fail(
                f"{self._path} asks for no payment: {reply.status} {_word(code)}",
                "what its creator lacks is said under templates; else docs/operations.md",
            )
        faults = _differences(_decoded(reply), listing, self._settings, self._path)
        if faults:
            return fail(
                f"{self._path} asks otherwise than the store and the settings here: "
                + "; ".join(faults),
                "does the server have this environment, PUBLIC_URL and X402_NETWORKS included?",
            )
        return ok(f"{self._path}: amount, payee, networks and address are ours")

    def probes(self) -> Finding:
        """As discovery crawlers come: nothing may run, and nothing may be charged."""
        said = {
            "GET": self._probe("GET", body=None),
            "HEAD": self._probe("HEAD", body=None),
            "POST": self._probe(body=None),
            "OPTIONS": self._probe("OPTIONS", body=None, headers={"Origin": f"https://{NOWHERE}"}),
        }
        wrong = [
            f"{method} {reply.status}"
            for method, reply in said.items()
            if reply.status not in ((200, 204) if method == "OPTIONS" else (402,))
            or "payment-response" in reply.headers
        ]
        if wrong:
            return fail(f"{self._path} answers {', '.join(wrong)}", f"let them through; {NGINX}")
        return ok("GET, HEAD, OPTIONS and an empty POST are answered, and charge nothing")

    def forged_headers(self) -> Finding:
        plain, forged = self._probe(), self._probe(headers=FORGED)
        names = ("payment-required", "location")
        if forged.status != plain.status or NOWHERE in forged.body.decode(errors="replace"):
            return fail(f"forged headers change the answer: {forged.status}", OVERWRITE)
        if any(forged.headers.get(name) != plain.headers.get(name) for name in names):
            return fail("forged headers change the quote", OVERWRITE)
        return ok("X-Forwarded-*, Forwarded and X-Real-IP change nothing")

    def chunked_body(self) -> Finding:
        try:
            reply = self._probe(body=(b"{", b"}"))
        except FAULTS as error:
            return fail(f"a chunked body ends the connection ({_kind(error)})", NGINX)
        if reply.status != 402:
            return fail(f"a chunked body is answered {reply.status}", NGINX)
        return ok("passes")

    def _probe(
        self,
        method: str = "POST",
        headers: Mapping[str, str] = {},
        body: bytes | Sequence[bytes] | None = b"{}",
    ) -> Reply:
        kind = {"Content-Type": "application/json"} if body is not None else {}
        return ask(self._url, self._path, method, {**kind, **headers}, body)

    def _listing(self) -> Listing | None:
        if self._named is not None:
            return self._catalogue.listing(*self._named, None)
        for template in self._catalogue.shelf(200, 0).items:
            listing = self._catalogue.listing(template.username, template.slug, None)
            if template.price and listing.sealed_key and listing.pay_to:
                return listing
        return None


REACH = "does the proxy run, and does the name lead here? docs/operations.md"
HEADERS = f"payments are 1.5 KB, tokens several; large_client_header_buffers 4 8184; {NGINX}"
OVERWRITE = f"overwrite them all; {NGINX}"


def _differences(
    said: dict[str, Any], listing: Listing, settings: Settings, path: str
) -> list[str]:
    """What in a quote is not as it should be, by the names of its fields."""
    if said.get("x402Version") != 2:
        return ["PAYMENT-REQUIRED is not a quote of version 2"]
    faults = []
    resource = said.get("resource")
    url = resource.get("url") if isinstance(resource, dict) else None
    if url != settings.public_url + path:
        faults.append(f"its URL is {_word(url)}, not {settings.public_url}{path}")
    ours = {each.id: each for each in settings.networks or (DEVELOPMENT,)}
    accepts = said.get("accepts")
    asked = (
        [each for each in accepts if isinstance(each, dict)] if isinstance(accepts, list) else []
    )
    if not asked:
        faults.append("nothing is accepted")
    for each in asked:
        network = ours.get(str(each.get("network")))
        if network is None:
            faults.append(f"network {_word(each.get('network'))}")
        else:
            faults += _wrong(each, listing, network)
    return faults


def _wrong(asked: dict[str, Any], listing: Listing, network: Network) -> list[str]:
    assert listing.template is not None
    expected = {
        "scheme": "exact",
        "amount": str(listing.template.price),
        "payTo": listing.pay_to or "",
        "asset": network.token,
    }
    return [
        f"{name} {_word(asked.get(name))} on {network.id}"
        for name, value in expected.items()
        if str(asked.get(name)).lower() != value.lower()
    ]


def _decoded(reply: Reply) -> dict[str, Any]:
    try:
        said = json.loads(base64.b64decode(reply.headers.get("payment-required", "")))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _document(reply: Reply) -> dict[str, Any]:
    try:
        said = json.loads(reply.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _word(said: object) -> str:
    """What somebody else's server has said, on one line and not for ever."""
    return " ".join(str(said).split())[:100]


def _kind(error: BaseException) -> str:
    """What went wrong on the way; the system's own word for it holds nothing of ours."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return error.strerror
    return type(error).__name__
