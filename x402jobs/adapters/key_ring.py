"""The keys that secrets are sealed with: a ring given once, or kept in a file."""

import base64
import os
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from x402jobs.adapters.private_file import alone_with, private_file, replace_private_file

KEY_BYTES = 32
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
SETTLING_SECONDS = 60
"""How long after a change of the ring a server may still write what it sealed before.

An answer is held for 15 seconds when the store is away; the rest is patience.
"""

log = structlog.get_logger(__name__)


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
            if KEY_ID.fullmatch(key_id) is None or len(key) != KEY_BYTES:
                raise ValueError(f"key ring entry {place} is not id:base64 of {KEY_BYTES} bytes")
            if len(set(key)) < KEY_BYTES // 4 or key_id in self._keys:
                raise ValueError(f"key ring entry {place} is weak or named twice")
            self._keys[key_id] = key
        self.ids = tuple(self._keys)
        self.primary = self.ids[0]

    def __getitem__(self, key_id: str) -> bytes:
        return self._keys[key_id]

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def latest(self) -> "KeyRing":
        """Itself: what was given once does not change."""
        return self

    def knowing(self, key_id: str) -> "KeyRing":
        """Itself, whether it knows this key or not."""
        return self

    def fresh_entry(self, key_id: str | None = None) -> str:
        """A new key for this ring, as `id:base64`; unnamed it takes the next number.

        Raises ValueError for an id that is taken or none.
        """
        if key_id is None:
            numbers = [int(each[1:]) for each in self.ids if re.fullmatch(r"k[0-9]{1,9}", each)]
            key_id = f"k{max(numbers, default=0) + 1}"
        if KEY_ID.fullmatch(key_id) is None:
            raise ValueError("a key id is 1 to 32 letters, digits, - and _")
        if key_id in self:
            raise ValueError(f"the ring already has a key {key_id}")
        return _entry(key_id, secrets.token_bytes(KEY_BYTES))

    def text(self, *ids: str) -> str:
        """These keys in this order, as a file has them."""
        return ",".join(_entry(each, self[each]) for each in ids) + "\n"


class KeyRingFile:
    """A ring in a file, made with one key when there is none, and followed while it changes.

    A running server so learns of a new primary by itself: before it seals it looks whether the
    file is another one (1 µs), and so it does for a key id it has never heard of.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError naming the entry, never its value."""
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._ring = KeyRing(
            private_file(path, _entry("k1", secrets.token_bytes(KEY_BYTES)) + "\n")
        )

    def latest(self) -> KeyRing:
        """The ring as the file has it now; the last good one while the file is missing or broken.

        A server with requests in its hands is not stopped by a slip of an editor.
        """
        try:
            stat = os.stat(self._path)
            mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if mark != self._seen:
                text = self._path.read_text()
                # The mark is older than the text: a change in between is read once more.
                self._seen = mark
                self._ring = KeyRing(text)
        except OSError:
            log.warning("key_ring_not_read", reason="the file cannot be read")
        except ValueError:
            log.warning("key_ring_not_read", reason="the file is no key ring")
        return self._ring

    def knowing(self, key_id: str) -> KeyRing:
        """A ring with this key if there is one: the one at hand, else the latest."""
        ring = self._ring
        return ring if key_id in ring else self.latest()

    def add(self, key_id: str | None = None) -> str:
        """Put a fresh primary key in front and return its id.

        Raises ValueError for an id that is taken or none, and OSError; the file is then as it was.
        """
        with alone_with(self._path):
            ring = KeyRing(self._path.read_text())
            entry = ring.fresh_entry(key_id)
            kept = ring.text(*ring.ids)
            # Last at first: nobody may seal with a key that a power cut could still take away.
            replace_private_file(self._path, f"{kept.strip()},{entry}\n")
            replace_private_file(self._path, f"{entry},{kept}")
        return entry.partition(":")[0]

    def remove(self, ids: Sequence[str]) -> None:
        """Forget these keys for ever: whatever is still sealed with one can never be read again.

        Raises ValueError for the primary key, for an unknown one, and soon after a change of the
        ring: a server may still be writing what it sealed before.
        """
        with alone_with(self._path):
            ring = KeyRing(self._path.read_text())
            for each in ids:
                if each not in ring:
                    raise ValueError(f"the ring has no key {each}")
                if each == ring.primary:
                    raise ValueError(f"{each} is the primary key; add another first")
            age = time.time() - self._path.stat().st_mtime
            if age < SETTLING_SECONDS:
                raise ValueError(
                    "the ring has just been changed, and a server may still be writing what it "
                    f"sealed before; try again in {SETTLING_SECONDS - int(age)} seconds"
                )
            replace_private_file(
                self._path, ring.text(*(each for each in ring.ids if each not in ids))
            )


def _entry(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}"
