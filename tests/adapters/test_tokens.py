"""Bearer tokens of the embedded issuer, good and bad."""

import base64
import json
import stat
import time

import jwt
import pytest

from x402jobs.adapters.clock import SystemClock
from x402jobs.adapters.tokens import LocalTokens
from x402jobs.domain.errors import Unauthenticated

ADA = "0c5b6f2e-8f0e-4c3a-9b7e-1a2b3c4d5e6f"
ABSENT = object()


@pytest.fixture
def tokens(tmp_path):
    return LocalTokens(tmp_path / "data" / "token-secret", SystemClock())


@pytest.fixture
def forge(tokens, tmp_path):
    """A token of our own secret, with claims changed."""
    tokens.issue(ADA)
    secret = (tmp_path / "data" / "token-secret").read_text().strip()

    def make(claims, secret=secret, algorithm="HS256", headers=None):
        now = int(time.time())
        whole = {
            "iss": "urn:x402jobs:local",
            "aud": "authenticated",
            "role": "authenticated",
            "sub": ADA,
            "iat": now,
            "exp": now + 3600,
        } | claims
        whole = {name: value for name, value in whole.items() if value is not ABSENT}
        return jwt.api_jws.encode(
            json.dumps(whole).encode(), secret, algorithm=algorithm, headers=headers
        )

    return make


def test_a_token_speaks_for_the_account_it_was_issued_to(tokens):
    assert tokens.user_id(tokens.issue(ADA)) == ADA


def test_the_secret_is_made_once_for_its_owner_alone(tokens, tmp_path):
    token = tokens.issue(ADA)

    path = tmp_path / "data" / "token-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert LocalTokens(path, SystemClock()).user_id(token) == ADA


@pytest.mark.parametrize(("asked", "life"), [(60, 60), (86_400, 86_400), (10**9, 86_400)])
def test_no_token_lives_longer_than_a_day(tokens, asked, life):
    claims = jwt.decode(tokens.issue(ADA, asked), options={"verify_signature": False})

    assert claims["exp"] - claims["iat"] == life


def ago(seconds):
    return int(time.time()) - seconds


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": ["authenticated", "other"]},
        {"is_anonymous": False},
        {"sub": ADA.upper()},
        {"iat": ago(60), "exp": ago(60) + 86_400},
        {"nbf": ago(5)},
        {"unknown": "claim"},
    ],
)
def test_a_token_with_the_specified_claims_is_good(tokens, forge, claims):
    assert tokens.user_id(forge(claims)) == ADA


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": ago(1)},
        {"exp": ago(-3600) + 86_400},
        {"exp": 10**30},
        {"exp": ABSENT},
        {"exp": None},
        {"exp": "soon"},
        {"exp": str(ago(-3600))},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": [1]},
        {"iat": ABSENT},
        {"iat": None},
        {"iat": ago(-600)},
        {"iat": 0},
        {"iat": "now"},
        {"iat": str(ago(0))},
        {"nbf": ago(-600)},
        {"nbf": "later"},
        {"iss": "https://elsewhere"},
        {"iss": ABSENT},
        {"iss": ["urn:x402jobs:local"]},
        {"aud": "anon"},
        {"aud": ABSENT},
        {"aud": None},
        {"aud": 5},
        {"role": "anon"},
        {"role": "service_role"},
        {"role": ABSENT},
        {"role": ["authenticated"]},
        {"is_anonymous": True},
        {"is_anonymous": "yes"},
        {"sub": ABSENT},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": [ADA]},
        {"sub": "ada"},
        {"sub": ADA + "0"},
    ],
)
def test_a_token_with_any_claim_wrong_is_bad(tokens, forge, claims):
    with pytest.raises(Unauthenticated):
        tokens.user_id(forge(claims))


@pytest.mark.parametrize(
    "forgery",
    [
        {"secret": "0" * 64},
        {"algorithm": "HS512"},
        {"secret": None, "algorithm": "none"},
        {"headers": {"crit": ["exp"]}},
    ],
)
def test_a_token_signed_in_any_other_way_is_bad(tokens, forge, forgery):
    with pytest.raises(Unauthenticated):
        tokens.user_id(forge({}, **forgery))


def test_a_token_changed_in_any_part_is_bad(tokens):
    head, body, signature = tokens.issue(ADA).split(".")
    other = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")

    for changed in (
        f"{other}.{body}.",
        f"{other}.{body}.{signature}",
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-6]}",
        f"{head}.{body[:-4]}.{signature}",
        f"{head}.{body}.{signature}.{signature}",
        f"{head}..{signature}",
    ):
        with pytest.raises(Unauthenticated):
            tokens.user_id(changed)


@pytest.mark.parametrize(
    "garbage", ["", " ", ".", "..", "a.b.c", "Bearer", "ünïcode", "\ud800", "\x00", "a" * 8000]
)
def test_garbage_is_no_token(tokens, garbage):
    with pytest.raises(Unauthenticated):
        tokens.user_id(garbage)


def test_another_installations_token_is_bad_here(tokens, tmp_path):
    elsewhere = LocalTokens(tmp_path / "elsewhere", SystemClock())

    with pytest.raises(Unauthenticated):
        tokens.user_id(elsewhere.issue(ADA))


def test_every_bad_token_is_refused_with_the_same_words(tokens, forge):
    def words(token):
        with pytest.raises(Unauthenticated) as refusal:
            tokens.user_id(token)
        assert refusal.value.__cause__ is None
        return refusal.value.message

    assert len({words(each) for each in ("", forge({"exp": 1}), forge({"role": "anon"}))}) == 1
