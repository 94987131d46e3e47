"""Secrets at rest: AES-256-GCM under a key ring, bound to their place (spec/storage.md)."""

import base64
import hashlib
import hmac
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from x402jobs.adapters import origin_cipher
from x402jobs.adapters.key_ring import KEY_ID, KeyRing, KeyRingFile
from x402jobs.adapters.origin_cipher import OriginCipher
from x402jobs.domain.errors import Unreadable
from x402jobs.domain.secret import Secret
from x402jobs.ports import Form, Place

FORMAT = "v1"
NONCE_BYTES, TAG_BYTES = 12, 16
MIN_CHARACTERS = (NONCE_BYTES + TAG_BYTES) * 8 // 6
_OURS = re.compile(rf"{FORMAT}\.({KEY_ID.pattern})\.(.*)", re.DOTALL)
"""What begins like this is ours, and whole or unreadable; anything else may be the origin's."""
_SPOILED = re.compile(
    rf"(?:.1\.|v.\.|v1.)\S{{0,33}}.\S{{0,33}}[A-Za-z0-9_-]{{{MIN_CHARACTERS},}}={{0,2}}", re.DOTALL
)
"""Ours with one character of its beginning changed. Nobody has written a prompt like this, and its
ciphertext must not be taken for one."""


class RingSecretBox:
    """ports.RotatingBox over a key ring, which also reads what the origin service has left."""

    def __init__(self, ring: KeyRing | KeyRingFile, origin: OriginCipher | None = None) -> None:
        """Without the origin's cipher its sealed rows are unreadable."""
        self._ring = ring
        self._origin = origin

    @property
    def key_ids(self) -> tuple[str, ...]:
        return self._ring.latest().ids

    def seal(self, text: str, place: Place) -> str:
        ring, nonce = self._ring.latest(), os.urandom(NONCE_BYTES)
        # A model may say half a surrogate pair, and what it said is kept.
        data = text.encode("utf-8", "surrogatepass")
        bound = _bound_to(place, ring.primary)
        sealed = AESGCM(ring[ring.primary]).encrypt(nonce, data, bound)
        return f"{FORMAT}.{ring.primary}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, place: Place) -> Secret:
        if ours := _OURS.fullmatch(sealed):
            return self._open_ours(ours[1], ours[2], place)
        if place.origin == "plaintext" and _SPOILED.fullmatch(sealed) is None:
            return Secret(sealed)
        if place.origin == "aes-256-cbc" and self._origin is not None:
            return self._origin.open(sealed)
        raise Unreadable()

    def form(self, sealed: str, place: Place) -> Form:
        if ours := _OURS.fullmatch(sealed):
            return Form(key_id=ours[1])
        if place.origin == "aes-256-cbc" and origin_cipher.SHAPE.fullmatch(sealed) is None:
            return Form()
        if place.origin == "plaintext" and _SPOILED.fullmatch(sealed) is not None:
            return Form()
        return Form(origin=place.origin)

    def sign(self, text: str) -> str:
        ring = self._ring.latest()
        return _signature(ring[ring.primary], text)

    def is_signed(self, text: str, token: str) -> bool:
        ring = self._ring.latest()  # another process may have signed with a key added just now
        made = [_signature(ring[key_id], text) for key_id in ring.ids]
        return any([hmac.compare_digest(each.encode(), token.encode()) for each in made])

    def _open_ours(self, key_id: str, encoded: str, place: Place) -> Secret:
        ring = self._ring.knowing(key_id)
        if key_id not in ring:
            raise Unreadable()
        try:
            raw = base64.b64decode(encoded.encode("ascii"), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw).decode() != encoded:  # other spellings decode as well
                raise Unreadable()
            opened = AESGCM(ring[key_id]).decrypt(
                raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound_to(place, key_id)
            )
            return Secret(opened.decode("utf-8", "surrogatepass"))
        except (InvalidTag, ValueError):
            raise Unreadable() from None


def _signature(key: bytes, text: str) -> str:
    signing = hmac.digest(key, b"x402jobs sign", hashlib.sha256)
    signed = hmac.digest(signing, text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def _bound_to(place: Place, key_id: str) -> bytes:
    return "\x1f".join((FORMAT, place.table, place.column, place.owner, key_id)).encode()
