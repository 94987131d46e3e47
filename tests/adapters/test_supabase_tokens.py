"""Access tokens of a Supabase project: which are good, by which keys, whatever becomes of it."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import HMACAlgorithm

from tests.conftest import Shop
from tests.fakes import FakeClock
from tests.supabase.jwks import (
    ABSENT,
    Auth,
    Signer,
    auth,
    claims,
    es256,
    rs256,
    shared_secret,
    signed,
)
from tests.waiting import eventually
from x402jobs.adapters.bounded_http import within
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.tokens.supabase import SupabaseTokens
from x402jobs.domain.errors import StoreUnavailable, Unauthenticated
from x402jobs.domain.secret import Secret
from x402jobs.logs import configure_logs
from x402jobs.ports import TokenVerifier
from x402jobs.settings import Settings
from x402jobs.stores import local_tokens
from x402jobs.stores import tokens as tokens_of

ADA = "0c5b6f2e-8f0e-4c3a-9b7e-1a2b3c4d5e6f"
BOB = "1c5b6f2e-8f0e-4c3a-9b7e-1a2b3c4d5e6f"
ROOT = Path(__file__).parents[2]
HOUR, DAY = 3600, 24 * 3600
ELSEWHERE = "https://elsewhere.example/auth/v1"


@dataclass(frozen=True)
class Keys:
    """Made once: a few of them take their time."""

    ec: Signer
    rsa: Signer
    stranger: Signer
    weak: Signer
    told: Signer
    lent: Signer
    wide: Signer
    unused: Signer

    @property
    def published(self) -> list[Any]:
        """As careless as a document can be: only the first two count."""
        private = self.told.key.private_numbers().private_value.to_bytes(32)
        wide = Signer(self.wide.kid, "ES256", es256().key).published(crv="P-384")
        return [
            self.ec,
            self.rsa,
            self.weak,
            self.told.published(d=base64.urlsafe_b64encode(private).rstrip(b"=").decode()),
            self.lent.published(use="enc"),
            wide,
            self.unused.published(use=ABSENT),
            {"kty": "oct", "use": "sig", "kid": "oct", "alg": "HS256", "k": OCTETS},
            self.ec.published(kid="x-missing", x=ABSENT),
            self.ec.published(kid="x-number", x=5),
            self.ec.published(kid="off-the-curve", x="AA"),
            self.ec.published(kid=["a", "list"]),
            self.ec.published(kid="as-rsa", kty="RSA"),
            self.rsa.published(kid="rs512", alg="RS512"),
            self.ec.published(kty=["EC"]),
            "no key",
            None,
        ]


OCTETS = base64.urlsafe_b64encode(b"published" * 5).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys(
        ec=es256(),
        rsa=rs256(),
        stranger=es256(),
        weak=rs256(bits=1024),
        told=es256(),
        lent=es256(),
        wide=Signer("wide", "ES384", ec.generate_private_key(ec.SECP384R1())),
        unused=es256(),
    )


@pytest.fixture
def project(keys: Keys) -> Iterator[Auth]:
    with auth(*keys.published) as running:
        yield running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Moves the ages of keys; tokens are still judged by the machine's clock."""
    clock = FakeClock()
    for module in ("api_jwk", "jwk_set_cache", "jwks_client"):
        monkeypatch.setattr(f"jwt.{module}.time", clock)
    return clock


@pytest.fixture
def tokens(project: Auth, clock: FakeClock) -> SupabaseTokens:
    return SupabaseTokens(project.url, None, clock)


# which tokens are good


@dataclass(frozen=True)
class Forge:
    """Makes every token there is a line for below."""

    url: str
    keys: Keys

    def of(self, **changes: Any) -> str:
        """One that is right but for these claims."""
        return self.keys.ec.sign(claims(self.url, ADA, **changes))

    def by(self, signer: Signer, **headers: Any) -> str:
        """One that is right but for who has signed it, and how it says so."""
        return signer.sign(claims(self.url, ADA), **headers)

    def raw(self, payload: bytes) -> str:
        return self.keys.ec.sign(payload)

    def json(self, **changes: Any) -> str:
        return json.dumps(claims(self.url, ADA, **changes))

    def shared(self, secret: bytes, algorithm: str = "HS256", **headers: Any) -> str:
        return signed(self.json().encode(), secret, algorithm, {"kid": self.keys.ec.kid} | headers)

    def pem(self, signer: Signer) -> bytes:
        public = signer.key.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(public.public_bytes(serialization.Encoding.PEM, form))

    def parts(self) -> list[str]:
        return self.of().split(".")

    def headed(self, header: object) -> str:
        """Good claims and a good signature, of another header."""
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        return ".".join([b64(raw), *self.parts()[1:]])


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hmac(secret: bytes, head: bytes, body: bytes) -> str:
    said = f"{b64(head)}.{b64(body)}"
    return f"{said}.{b64(HMACAlgorithm(HMACAlgorithm.SHA256).sign(said.encode(), secret))}"


def now(seconds: float = 0) -> int:
    return int(time.time() + seconds)


Token = Callable[[Forge], str]

GOOD: dict[str, Token] = {
    "as Supabase makes it": lambda f: f.of(),
    "signed with RSA": lambda f: f.by(f.keys.rsa),
    "for several audiences": lambda f: f.of(aud=["authenticated", "other"]),
    "before anonymous users": lambda f: f.of(is_anonymous=ABSENT),
    "in capital letters": lambda f: f.of(sub=ADA.upper()),
    "with claims of a hook's": lambda f: f.of(team="ünïcode 🌧", deep=[[[[[[[[[[1]]]]]]]]]]),
    "of a whole day": lambda f: f.of(exp=now(DAY), iat=now()),
    "of fractions of a second": lambda f: f.of(exp=time.time() + HOUR, iat=time.time()),
    "over for five seconds": lambda f: f.of(exp=now(-5), iat=now(-HOUR)),
    "made in five seconds": lambda f: f.of(iat=now(5), exp=now(HOUR)),
    "good in five seconds": lambda f: f.of(nbf=now(5)),
    "without a type": lambda f: f.by(f.keys.ec, typ=ABSENT),
    "with a header of no weight": lambda f: f.by(f.keys.ec, x="y"),
}

BAD: dict[str, Token] = {
    # how it is signed
    "unsigned": lambda f: signed(f.json().encode(), None, "none", {"kid": f.keys.ec.kid}),
    "unsigned, as None": lambda f: f.headed({"alg": "None", "kid": f.keys.ec.kid}),
    "unsigned, without its signature": lambda f: (
        f"{b64(json.dumps({'alg': 'none', 'kid': f.keys.ec.kid}).encode())}.{f.parts()[1]}."
    ),
    "HS256 with the public key": lambda f: hmac(
        f.pem(f.keys.ec),
        json.dumps({"alg": "HS256", "kid": f.keys.ec.kid}).encode(),
        f.json().encode(),
    ),
    "HS256 with the public RSA key": lambda f: hmac(
        f.pem(f.keys.rsa),
        json.dumps({"alg": "HS256", "kid": f.keys.rsa.kid}).encode(),
        f.json().encode(),
    ),
    "HS256 with a key that was published": lambda f: f.shared(b"published" * 5, kid="oct"),
    "HS256 with nothing": lambda f: hmac(b"", b'{"alg":"HS256","kid":""}', f.json().encode()),
    "HS512": lambda f: f.shared(b"x" * 64, "HS512"),
    "said to be RS256": lambda f: f.headed({"alg": "RS256", "kid": f.keys.ec.kid}),
    "said to be ES384": lambda f: f.headed({"alg": "ES384", "kid": f.keys.ec.kid}),
    "said to be nothing": lambda f: f.headed({"kid": f.keys.ec.kid}),
    "said to be a list": lambda f: f.headed({"alg": ["ES256"], "kid": f.keys.ec.kid}),
    "said to be a number": lambda f: f.headed({"alg": 256, "kid": f.keys.ec.kid}),
    "said to be null": lambda f: f.headed({"alg": None, "kid": f.keys.ec.kid}),
    "of another project's key": lambda f: f.by(f.keys.stranger),
    "of another key under our id": lambda f: f.by(f.keys.stranger, kid=f.keys.ec.kid),
    "of our other key's id": lambda f: f.by(f.keys.ec, kid=f.keys.rsa.kid),
    "of a weak RSA key": lambda f: f.by(f.keys.weak),
    "of a key that is public whole": lambda f: f.by(f.keys.told),
    "of a key for encryption": lambda f: f.by(f.keys.lent),
    "of a key for nothing said": lambda f: f.by(f.keys.unused),
    "of a key on another curve": lambda f: f.by(f.keys.wide),
    "of a key for RS512": lambda f: f.by(f.keys.rsa, kid="rs512"),
    # which key it names
    "without a key's id": lambda f: f.by(f.keys.ec, kid=ABSENT),
    "of an empty key id": lambda f: f.by(f.keys.ec, kid=""),
    "of a key id in capitals": lambda f: f.by(f.keys.ec, kid=f.keys.ec.kid.upper()),
    "of a path for a key id": lambda f: f.by(f.keys.ec, kid="../../dev/null"),
    "of a query for a key id": lambda f: f.by(f.keys.ec, kid="' OR 1=1 --"),
    "of a URL for a key id": lambda f: f.by(f.keys.ec, kid=ELSEWHERE),
    "of an endless key id": lambda f: f.by(f.keys.ec, kid="a" * 5000),
    "of a key id with a NUL": lambda f: f.by(f.keys.ec, kid=f"{f.keys.ec.kid}\x00"),
    "of a key id beyond ASCII": lambda f: f.by(f.keys.ec, kid="ünïcode"),
    "of a number for a key id": lambda f: f.headed({"alg": "ES256", "kid": 5}),
    "of null for a key id": lambda f: f.headed({"alg": "ES256", "kid": None}),
    "of an object for a key id": lambda f: f.headed({"alg": "ES256", "kid": {"a": "b"}}),
    "that says where its key is": lambda f: f.by(f.keys.ec, jku=ELSEWHERE),
    "that says where its certificate is": lambda f: f.by(f.keys.ec, x5u=ELSEWHERE),
    "that brings its key": lambda f: f.by(f.keys.stranger, jwk=f.keys.stranger.published()),
    "that brings its key beside ours": lambda f: f.by(f.keys.ec, jwk=f.keys.ec.published()),
    "that brings a certificate": lambda f: f.by(f.keys.ec, x5c=["MIIB"]),
    "that demands something": lambda f: f.by(f.keys.ec, crit=["exp"], exp=now(HOUR)),
    "that demands nothing": lambda f: f.by(f.keys.ec, crit=[]),
    "with its payload elsewhere": lambda f: f.by(f.keys.ec, b64=False, crit=["b64"]),
    # what it claims
    "over": lambda f: f.of(exp=now(-11), iat=now(-HOUR)),
    "over for ever": lambda f: f.of(exp=0, iat=0),
    "without an end": lambda f: f.of(exp=ABSENT),
    "of a null end": lambda f: f.of(exp=None),
    "of an end in words": lambda f: f.of(exp="soon"),
    "of an end in a string": lambda f: f.of(exp=str(now(HOUR))),
    "of an end in a list": lambda f: f.of(exp=[now(HOUR)]),
    "of an infinite end": lambda f: f.of(exp=float("inf")),
    "of an end that is no number": lambda f: f.of(exp=float("nan")),
    "of more than a day": lambda f: f.of(exp=now(DAY + 1), iat=now()),
    "of ten years": lambda f: f.of(exp=now(3650 * DAY)),
    "of an unthinkable end": lambda f: f.of(exp=10**400),
    "of a day that began long ago": lambda f: f.of(iat=now(-2 * DAY)),
    "without a beginning": lambda f: f.of(iat=ABSENT),
    "of a null beginning": lambda f: f.of(iat=None),
    "of a beginning in words": lambda f: f.of(iat="today"),
    "of a beginning in a string": lambda f: f.of(iat=str(now())),
    "made tomorrow": lambda f: f.of(iat=now(DAY), exp=now(DAY + HOUR)),
    "made in a minute": lambda f: f.of(iat=now(60)),
    "good in a minute": lambda f: f.of(nbf=now(60)),
    "good in words": lambda f: f.of(nbf="later"),
    "for nobody": lambda f: f.of(aud=ABSENT),
    "for the anonymous": lambda f: f.of(aud="anon"),
    "for others": lambda f: f.of(aud=["other"]),
    "for a number": lambda f: f.of(aud=5),
    "for a list of lists": lambda f: f.of(aud=[["authenticated"]]),
    "from nobody": lambda f: f.of(iss=ABSENT),
    "from another project": lambda f: f.of(iss=ELSEWHERE),
    "from a slash more": lambda f: f.of(iss=f"{f.url}/auth/v1/"),
    "from the project, not its sign-in": lambda f: f.of(iss=f.url),
    "from the embedded issuer": lambda f: f.of(iss="urn:x402jobs:local"),
    "from several": lambda f: f.of(iss=[f"{f.url}/auth/v1"]),
    "without a role": lambda f: f.of(role=ABSENT),
    "of the anonymous role": lambda f: f.of(role="anon"),
    "of the service's role": lambda f: f.of(role="service_role"),
    "of several roles": lambda f: f.of(role=["authenticated"]),
    "of an anonymous user": lambda f: f.of(is_anonymous=True),
    "of a user said to be anonymous": lambda f: f.of(is_anonymous="false"),
    "about nobody": lambda f: f.of(sub=ABSENT),
    "about null": lambda f: f.of(sub=None),
    "about nothing": lambda f: f.of(sub=""),
    "about a name": lambda f: f.of(sub="ada"),
    "about a number": lambda f: f.of(sub=5),
    "about several": lambda f: f.of(sub=[ADA]),
    "about an id without dashes": lambda f: f.of(sub=ADA.replace("-", "")),
    "about an id in braces": lambda f: f.of(sub=f"{{{ADA}}}"),
    "about a URN": lambda f: f.of(sub=f"urn:uuid:{ADA}"),
    "about an id and a space": lambda f: f.of(sub=f"{ADA} "),
    "about an id and a NUL": lambda f: f.of(sub=f"{ADA}\x00"),
    "about an id in other digits": lambda f: f.of(sub=ADA.replace("0", "\uff10")),
    "about two": lambda f: f.raw(f.json()[:-1].encode() + f', "sub": "{BOB}"}}'.encode()),
    "of two roles": lambda f: f.raw(b'{"role": "service_role", ' + f.json()[1:].encode()),
    "as an API key of old": lambda f: hmac(
        b"x" * 32, b'{"alg":"HS256","typ":"JWT"}', b'{"iss":"supabase","role":"service_role"}'
    ),
    # what it is made of
    "a list": lambda f: f.raw(f"[{f.json()}]".encode()),
    "a string": lambda f: f.raw(json.dumps(f.json()).encode()),
    "a token in a token": lambda f: f.raw(f.of().encode()),
    "no JSON": lambda f: f.raw(b"{"),
    "no UTF-8": lambda f: f.raw(b'{"sub": "\xff"}'),
    "nothing": lambda f: f.raw(b""),
    "nested without end": lambda f: f.raw(b"[" * 5000),
    "nested without end in its header": lambda f: f.headed(b"[" * 3000),
    "headed by a list": lambda f: f.headed([]),
    "headed by no JSON": lambda f: f.headed(b"{"),
    "headed by no UTF-8": lambda f: f.headed(b'{"alg": "\xff"}'),
    "of another body": lambda f: ".".join(
        [f.parts()[0], f.of(sub=BOB).split(".")[1], f.parts()[2]]
    ),
    "of two parts": lambda f: ".".join(f.parts()[:2]),
    "of four parts": lambda f: f"{f.of()}.{f.parts()[2]}",
    "without a signature": lambda f: ".".join([*f.parts()[:2], ""]),
    "of half a signature": lambda f: f.of()[:-43],
    "of a signature of zeros": lambda f: ".".join([*f.parts()[:2], b64(bytes(64))]),
    "with padding": lambda f: f"{f.of()}==",
    "with a blank": lambda f: f.of().replace(".", ". ", 1),
    "with a line's end": lambda f: f.of() + "\n",
    "in the other base64": lambda f: f"{f.parts()[0]}+/.{f.parts()[1]}.{f.parts()[2]}",
    "in letters beyond ASCII": lambda f: f"ü{f.of()}",
    "in letters that only look right": lambda f: f.of().replace("e", "\u0435", 1),
    "of five parts, encrypted": lambda f: "a.b.c.d.e",
    "a word": lambda f: "unknown",
    "a dot": lambda f: ".",
    "two dots": lambda f: "..",
    "empty": lambda f: "",
    "too long": lambda f: f.of(more="a" * 8192),
    "much too long": lambda f: "a." * 500_000,
}


def outcome(tokens: TokenVerifier, token: str) -> str | int:
    """The account, or the status that it comes to."""
    try:
        return tokens.user_id(token)
    except Unauthenticated as refusal:
        assert (refusal.message, refusal.__cause__) == (Unauthenticated.sentence, None)
        return refusal.status
    except StoreUnavailable as fault:
        return fault.status


def test_only_the_good_tokens_are_good(keys: Keys, project: Auth, tokens: SupabaseTokens) -> None:
    forge = Forge(project.url, keys)

    found = {name: outcome(tokens, make(forge)) for name, make in (GOOD | BAD).items()}

    assert found == {name: ADA for name in GOOD} | {name: 401 for name in BAD}
    assert (len(GOOD), len(project.asked)) == (13, 1)
    assert len(BAD) > 100


@pytest.fixture
def over_supabase(project: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded store, with a project's accounts."""
    monkeypatch.setattr(
        "x402jobs.stores.tokens", lambda _, clock: SupabaseTokens(project.url, None, clock)
    )


def knock(shop: Shop, token: str, address: int = 0) -> int:
    """The status of a door that only accounts pass."""
    # What a server would not let through whole, the framework's client refuses to send.
    header = token.encode().decode("latin-1").replace("\n", "")
    return shop.client.get(
        "/auth/me",
        headers={"Authorization": f"Bearer {header}"},
        environ_overrides={"REMOTE_ADDR": f"10.0.0.{address}"},
    ).status_code


def test_at_the_door_they_are_let_in_or_turned_away_and_nothing_breaks(
    keys: Keys, project: Auth, over_supabase: None, shop: Shop
) -> None:
    forge = Forge(project.url, keys)
    # A header's blanks and line's end are not the token's: the door takes them off.
    bad = {name: make for name, make in BAD.items() if name != "with a line's end"}

    found = {
        name: knock(shop, make(forge), number)
        for number, (name, make) in enumerate((GOOD | bad).items())
    }

    assert found == {name: 200 for name in GOOD} | {name: 401 for name in bad}


def test_the_embedded_issuers_token_is_nothing_to_a_project(
    over_supabase: None, shop: Shop
) -> None:
    assert knock(shop, shop.token("ada")) == 401


def test_a_refusal_does_not_tell_what_was_wrong(
    keys: Keys, project: Auth, over_supabase: None, shop: Shop
) -> None:
    forge = Forge(project.url, keys)

    said = {
        shop.client.get("/auth/me", headers={"Authorization": f"Bearer {BAD[name](forge)}"}).json[
            "error"
        ]
        for name in ("over", "unsigned", "of an anonymous user", "of another project's key")
    }

    assert said == {Unauthenticated.sentence}


# a project that signs with its legacy secret


@pytest.fixture
def secret() -> str:
    return shared_secret()


@pytest.fixture
def of_old(project: Auth, clock: FakeClock, secret: str) -> SupabaseTokens:
    return SupabaseTokens(project.url, Secret(secret), clock)


@pytest.mark.parametrize("kid", [ABSENT, "any", "oct"])
def test_a_legacy_secret_is_taken_where_it_is_set(
    keys: Keys, project: Auth, of_old: SupabaseTokens, secret: str, kid: Any
) -> None:
    token = Forge(project.url, keys).shared(secret.encode(), kid=kid)

    assert of_old.user_id(token) == ADA
    assert project.asked == []


@pytest.mark.parametrize(
    "make",
    [
        lambda f, secret: f.of(),
        lambda f, secret: f.by(f.keys.rsa),
        lambda f, secret: f.shared(secret[:-1]),
        lambda f, secret: f.shared(secret, "HS512"),
        lambda f, secret: f.shared(f.pem(f.keys.rsa).replace(b"-", b" ")),
        lambda f, secret: f.shared(b"published" * 5, kid="oct"),
        lambda f, secret: f.shared(secret, jku=ELSEWHERE),
        lambda f, secret: signed(f.json(exp=1).encode(), secret, "HS256", {}),
        lambda f, secret: signed(f.json(role="service_role").encode(), secret, "HS256", {}),
        lambda f, secret: signed(f.json(iss="supabase").encode(), secret, "HS256", {}),
        lambda f, secret: signed(f.json().encode(), None, "none", {}),
    ],
)
def test_and_then_nothing_else_is(
    keys: Keys, project: Auth, of_old: SupabaseTokens, secret: str, make: Callable[..., str]
) -> None:
    assert outcome(of_old, make(Forge(project.url, keys), secret.encode())) == 401
    assert project.asked == []


def test_the_settings_decide_whose_tokens_count(
    keys: Keys, project: Auth, secret: str, tmp_path: Path
) -> None:
    embedded = Settings(data=tmp_path / "data")
    moved = replace(embedded, supabase_url=project.url, supabase_secret_key="sb_secret_x")
    legacy = replace(moved, supabase_jwt_secret=secret)
    forge = Forge(project.url, keys)
    shown = (local_tokens(embedded).issue(ADA), forge.of(), forge.shared(secret.encode()))

    found = [
        [outcome(tokens_of(each, SystemClock()), token) for token in shown]
        for each in (embedded, moved, legacy)
    ]

    assert found == [[ADA, 401, 401], [401, ADA, 401], [401, 401, ADA]]


# asking for the keys


def test_the_keys_are_asked_for_at_the_first_token_and_once(
    keys: Keys, project: Auth, tokens: SupabaseTokens
) -> None:
    assert project.asked == []

    for signer in (keys.ec, keys.rsa, keys.ec):
        assert tokens.user_id(project.token(signer, ADA)) == ADA

    (asked,) = project.asked
    assert asked.startswith("GET /auth/v1/.well-known/jwks.json HTTP/1.1\n")


def test_a_token_that_cannot_be_good_costs_no_question(
    keys: Keys, project: Auth, tokens: SupabaseTokens
) -> None:
    forge = Forge(project.url, keys)

    for name in (
        "unsigned",
        "HS256 with the public key",
        "HS512",
        "of an endless key id",
        "that brings its key",
        "too long",
    ):
        assert outcome(tokens, BAD[name](forge)) == 401, name

    assert project.asked == []


def test_a_new_key_is_found_when_it_is_first_used(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock
) -> None:
    tokens.user_id(project.token(keys.ec, ADA))
    fresh = es256()
    project.publish(keys.ec, fresh)
    clock.advance(31)

    assert tokens.user_id(project.token(fresh, ADA)) == ADA
    assert tokens.user_id(project.token(keys.ec, ADA)) == ADA
    assert len(project.asked) == 2


def test_a_revoked_key_is_good_for_ten_minutes_at_most(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock
) -> None:
    token = project.token(keys.ec, ADA)
    tokens.user_id(token)
    project.publish(keys.rsa)
    clock.advance(600)
    assert outcome(tokens, token) == ADA

    clock.advance(1)

    assert outcome(tokens, token) == 401
    assert outcome(tokens, project.token(keys.rsa, ADA)) == ADA


def test_when_every_key_is_revoked_none_is_good(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock
) -> None:
    token = project.token(keys.ec, ADA)
    tokens.user_id(token)
    project.publish()
    clock.advance(601)

    assert outcome(tokens, token) == 503
    project.publish(keys.rsa)
    clock.advance(6)
    assert outcome(tokens, token) == 401
    assert outcome(tokens, project.token(keys.rsa, ADA)) == ADA


def test_a_flood_of_unknown_keys_makes_one_question_in_half_a_minute(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock
) -> None:
    def flood() -> int:
        before = len(project.asked)
        with ThreadPoolExecutor(10) as threads:
            strange = [keys.stranger.sign(claims(project.url, ADA), kid=f"k{n}") for n in range(50)]
            assert set(threads.map(lambda each: outcome(tokens, each), strange)) == {401}
        return len(project.asked) - before

    assert flood() == 1
    assert flood() == 0
    clock.advance(31)
    assert flood() == 1
    assert outcome(tokens, project.token(keys.ec, ADA)) == ADA


# a project that does not answer


def down(project: Auth) -> None:
    project.down = True


def failing(project: Auth) -> None:
    project.status = 503


def elsewhere(project: Auth) -> None:
    project.status, project.headers = 302, {"Location": f"{project.url}/elsewhere"}


def garbled(project: Auth) -> None:
    project.body = b"<html>not json</html>"


def nested(project: Auth) -> None:
    project.body = b"[" * 60_000


def another_document(project: Auth) -> None:
    project.body = b'{"keys": {"a": "b"}}'


def no_document(project: Auth) -> None:
    project.body = b"[]"


def not_text(project: Auth) -> None:
    project.body = b"\xff\xfe\xfd"


def endless(project: Auth) -> None:
    project.body = project.body[:-2] + b" " * 70_000 + b"]}"


AWAY = [down, failing, elsewhere, garbled, nested, another_document, no_document, not_text, endless]


@pytest.mark.parametrize("away", AWAY)
def test_without_an_answer_a_stranger_is_told_to_come_back(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock, away: Callable[..., None]
) -> None:
    body, token = project.body, project.token(keys.ec, ADA)
    away(project)

    with pytest.raises(StoreUnavailable) as fault:
        tokens.user_id(token)

    assert (fault.value.code, fault.value.retry_after) == ("STORE_UNAVAILABLE", 5)
    assert outcome(tokens, token) == 503
    assert len(project.asked) == 1  # one question for both
    project.down, project.status, project.body = False, 200, body
    clock.advance(5)
    assert outcome(tokens, token) == ADA


@pytest.mark.parametrize("away", AWAY)
def test_without_an_answer_the_keys_there_are_go_on_for_a_day(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock, away: Callable[..., None]
) -> None:
    token = project.token(keys.ec, ADA)
    tokens.user_id(token)
    away(project)

    clock.advance(601)
    assert outcome(tokens, token) == ADA
    assert outcome(tokens, token) == ADA
    assert len(project.asked) == 2
    assert outcome(tokens, project.token(keys.stranger, ADA)) == 503
    assert outcome(tokens, project.token(keys.ec, ADA, role="anon")) == 401

    clock.advance(DAY - 601)
    assert outcome(tokens, token) == ADA
    clock.advance(1)
    assert outcome(tokens, token) == 503


def test_at_the_door_it_is_503_with_the_time_to_come_back(
    keys: Keys, project: Auth, over_supabase: None, shop: Shop
) -> None:
    project.down = True

    reply = shop.client.get(
        "/auth/me", headers={"Authorization": f"Bearer {project.token(keys.ec, ADA)}"}
    )

    assert (reply.status_code, reply.json["code"]) == (503, "STORE_UNAVAILABLE")
    assert reply.headers["Retry-After"] == "5"


def test_while_an_answer_is_waited_for_known_keys_work_at_once(
    keys: Keys, project: Auth, tokens: SupabaseTokens, clock: FakeClock
) -> None:
    token = project.token(keys.ec, ADA)
    tokens.user_id(token)
    clock.advance(601)
    project.may_answer.clear()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(outcome, tokens, token)
        assert eventually(lambda: len(project.asked) == 2)

        found = {outcome(tokens, token) for _ in range(20)}

        assert (found, waiting.done()) == ({ADA}, False)
        project.may_answer.set()
        assert waiting.result() == ADA


@pytest.mark.parametrize(("seconds", "pace"), [(60, 0), (0, 0.1)])
def test_an_answer_is_waited_for_five_seconds_however_it_comes(
    keys: Keys,
    project: Auth,
    tokens: SupabaseTokens,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    pace: float,
) -> None:
    given = []
    monkeypatch.setattr(
        "x402jobs.adapters.tokens.published_keys.within",
        lambda limit: given.append(limit) or within(0.3),
    )
    project.seconds, project.pace = seconds, pace

    assert outcome(tokens, project.token(keys.ec, ADA)) == 503
    assert given == [5.0]


def test_neither_a_proxy_nor_a_redirect_is_followed(
    keys: Keys, project: Auth, tokens: SupabaseTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    with auth(keys.stranger) as other:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
        project.status = 302
        project.headers = {"Location": f"{other.url}/auth/v1/.well-known/jwks.json"}

        assert outcome(tokens, project.token(keys.stranger, ADA)) == 503
        assert (len(project.asked), other.asked) == (1, [])


COLD = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.tokens.supabase import SupabaseTokens

url, token = sys.argv[1:]
tokens = SupabaseTokens(url, None, SystemClock())
greenlets = [gevent.spawn(tokens.user_id, token) for _ in range(100)]
gevent.joinall(greenlets)
print({greenlet.get() for greenlet in greenlets})
"""


def test_a_hundred_cold_greenlets_ask_once(keys: Keys, project: Auth) -> None:
    project.seconds = 0.2

    ran = subprocess.run(
        [sys.executable, "-c", COLD, project.url, project.token(keys.ec, ADA)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.stdout.strip() == str({ADA}), ran.stderr
    assert len(project.asked) == 1


def test_what_goes_wrong_is_logged_without_a_token(
    keys: Keys, project: Auth, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("INFO")
    tokens = SupabaseTokens(project.url, None, SystemClock())
    project.status = 500
    token = project.token(keys.ec, ADA)

    outcome(tokens, token)

    said = capsys.readouterr().err
    assert json.loads(said)["event"] == "keys_not_fetched"
    assert token[:20] not in said and project.url not in said


def test_many_threads_see_one_set_of_keys(keys: Keys, project: Auth) -> None:
    tokens = SupabaseTokens(project.url, None, SystemClock())
    token, together, found = project.token(keys.ec, ADA), threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        found.extend(outcome(tokens, token) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert (len(found), set(found), len(project.asked)) == (160, {ADA}, 1)
