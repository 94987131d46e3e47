"""Supabase Auth's signing keys: what they sign, and the place where they are published."""

import json
import secrets
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.warnings import InsecureKeyLengthWarning

from x402jobs.devkit.loopback import Loopback

PATH = "/auth/v1/.well-known/jwks.json"
ABSENT = object()
"""In the place of a claim or a header: it is left out."""


@dataclass(frozen=True)
class Signer:
    """A key pair of a project's."""

    kid: str
    algorithm: str
    key: Any = field(repr=False)

    def published(self, **changes: Any) -> dict[str, Any]:
        """The public half, as a project's document has it."""
        algorithm = ECAlgorithm if self.algorithm.startswith("ES") else RSAAlgorithm
        jwk = algorithm.to_jwk(self.key.public_key(), as_dict=True)
        about = {"alg": self.algorithm, "kid": self.kid, "use": "sig", "key_ops": ["verify"]}
        return present(jwk | about | {"ext": True} | changes)

    def sign(self, said: Mapping[str, Any] | bytes, **headers: Any) -> str:
        """A token of these claims, or of these very bytes."""
        raw = said if isinstance(said, bytes) else json.dumps(said).encode()
        return signed(raw, self.key, self.algorithm, {"kid": self.kid} | headers)


def signed(raw: bytes, key: Any, algorithm: str, headers: Mapping[str, Any]) -> str:
    """A token of these very bytes, by any kind of key, weak ones too."""
    with warnings.catch_warnings(action="ignore", category=InsecureKeyLengthWarning):
        return jwt.api_jws.encode(raw, key, algorithm, headers=present(headers))


def present(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not ABSENT}


def es256(kid: str | None = None) -> Signer:
    """What a new project signs with."""
    return Signer(kid or str(uuid.uuid4()), "ES256", ec.generate_private_key(ec.SECP256R1()))


def rs256(kid: str | None = None, bits: int = 2048) -> Signer:
    return Signer(kid or str(uuid.uuid4()), "RS256", rsa.generate_private_key(65537, bits))


def document(*keys: Signer | dict[str, Any]) -> bytes:
    """The set that a project publishes."""
    published = [each.published() if isinstance(each, Signer) else each for each in keys]
    return json.dumps({"keys": published}).encode()


def claims(url: str, user_id: str, **changes: Any) -> dict[str, Any]:
    """What the project at this URL says in an access token of an hour."""
    now = int(time.time())
    whole = {
        "iss": f"{url}/auth/v1",
        "sub": user_id,
        "aud": "authenticated",
        "exp": now + 3600,
        "iat": now,
        "email": "ada@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email_verified": True},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now}],
        "session_id": str(uuid.uuid4()),
        "is_anonymous": False,
    }
    return present(whole | changes)


@dataclass
class Auth:
    """A project's sign-in. What it answers may be changed at any time.

    `seconds` pass before an answer, and it waits for `may_answer`. With `pace` it comes byte by
    byte, so many seconds apart. `down` is a line that is dropped without a word. `asked` are the
    requests that have come, with their headers.
    """

    url: str
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    pace: float = 0.0
    down: bool = False
    asked: list[str] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    def publish(self, *keys: Signer | dict[str, Any]) -> None:
        self.body = document(*keys)

    def token(self, signer: Signer, user_id: str, **changes: Any) -> str:
        """A good access token, with claims changed."""
        return signer.sign(claims(self.url, user_id, **changes))


class _Handler(BaseHTTPRequestHandler):
    server: "Loopback[Auth]"

    def do_GET(self) -> None:
        auth = self.server.owner
        auth.asked.append(f"{self.requestline}\n{self.headers}")
        self.server.stopping.wait(auth.seconds)
        auth.may_answer.wait()
        self.close_connection = True
        if auth.down:
            return
        found = self.path == PATH
        self.send_response(auth.status if found else 404)
        for name, value in auth.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # whoever asked has had enough
            for part in _parts(auth.body, auth.pace) if found else ():
                self.wfile.write(part)
                self.server.stopping.wait(auth.pace)

    def log_message(self, *_: Any) -> None:
        pass


def _parts(body: bytes, pace: float) -> Iterator[bytes]:
    return iter([body]) if not pace else (bytes([each]) for each in body)


@contextmanager
def auth(*keys: Signer | dict[str, Any]) -> Iterator[Auth]:
    """A project's sign-in on loopback, which publishes these keys."""
    project = Auth("", document(*keys))
    server = Loopback(("127.0.0.1", 0), _Handler, project)
    host, port = server.start()
    project.url = f"http://{host}:{port}"
    try:
        yield project
    finally:
        project.may_answer.set()
        server.stop()


def shared_secret() -> str:
    """A project's legacy JWT secret."""
    return secrets.token_urlsafe(48)
