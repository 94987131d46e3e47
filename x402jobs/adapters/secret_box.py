"""Secrets at rest: AES-256-GCM under a key ring, bound to their place (spec/storage.md)."""

import base64
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from x402jobs.domain.errors import Unreadable
from x402jobs.domain.secret import Secret
from x402jobs.ports import Place

FORMAT = "v1"
NONCE_BYTES = 12
KEY_BYTES = 32


class KeyRing:
    """Keys by id, the first of them primary: it seals, all of them open."""

    def __init__(self, text: str) -> None:
        """Read `id:base64,…`. Raises ValueError naming the entry, never its value."""
        self._keys: dict[str, bytes] = {}
        for place, entry in enumerate(text.strip().split(","), start=1):
            key_id, _, encoded = entry.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except ValueError:
                key = b""
            if re.fullmatch(r"[A-Za-z0-9_-]{1,32}", key_id) is None or len(key) != KEY_BYTES:
                raise ValueError(f"key ring entry {place} is not id:base64 of {KEY_BYTES} bytes")
            if len(set(key)) < KEY_BYTES // 4 or key_id in self._keys:
                raise ValueError(f"key ring entry {place} is weak or named twice")
            self._keys[key_id] = key
        self.primary = next(iter(self._keys))

    @classmethod
    def at(cls, path: Path) -> "KeyRing":
        """The ring in this file, made with one key, for its owner alone, when there is none."""
        fresh = f"k1:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"
        return cls(private_file(path, fresh))

    def __getitem__(self, key_id: str) -> bytes:
        return self._keys[key_id]

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys


class RingSecretBox:
    """ports.SecretBox over a key ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, text: str, place: Place) -> str:
        key_id, nonce = self._ring.primary, os.urandom(NONCE_BYTES)
        # A model may say half a surrogate pair, and what it said is kept.
        data = text.encode("utf-8", "surrogatepass")
        sealed = AESGCM(self._ring[key_id]).encrypt(nonce, data, _bound_to(place, key_id))
        return f"{FORMAT}.{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, place: Place) -> Secret:
        form, _, rest = sealed.partition(".")
        key_id, _, encoded = rest.partition(".")
        if form != FORMAT or key_id not in self._ring:
            raise Unreadable()
        try:
            raw = base64.b64decode(encoded.encode("ascii"), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw).decode() != encoded:  # other spellings decode as well
                raise Unreadable()
            opened = AESGCM(self._ring[key_id]).decrypt(
                raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound_to(place, key_id)
            )
            return Secret(opened.decode("utf-8", "surrogatepass"))
        except (InvalidTag, ValueError):
            raise Unreadable() from None

    def sign(self, text: str) -> str:
        key = hmac.digest(self._ring[self._ring.primary], b"x402jobs sign", hashlib.sha256)
        signed = hmac.digest(key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def _bound_to(place: Place, key_id: str) -> bytes:
    return "\x1f".join((FORMAT, place.table, place.column, place.owner, key_id)).encode()


def private_file(path: Path, fresh: str) -> str:
    """The file's text; written first, for its owner alone, when there is none.

    Two processes may come at once: whoever links first wins, and no reader sees half a file.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()
