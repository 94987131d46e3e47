"""How the origin service sealed its creators' Claude keys; read for ever, never written."""

import hashlib
import re

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from x402jobs.domain.errors import Unreadable
from x402jobs.domain.secret import Secret

SHAPE = re.compile(r"([0-9a-f]{32}):((?:[0-9a-f]{32})+)")
_CLAUDE_KEY = re.compile(r"sk-ant-[!-~]+")


class OriginCipher:
    """AES-256-CBC, PKCS#7, under SHA-256 of INTEGRATION_ENCRYPTION_SECRET; `<iv hex>:<hex>`.

    It has no seal on it: nothing in the value says who sealed it, where, or that it is whole. A
    wrong key passes the padding once in 300 times, so what is opened must look like a Claude key.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(secret.encode()).digest()

    def open(self, sealed: str) -> Secret:
        """The Claude key, or Unreadable, whatever is wrong."""
        shape = SHAPE.fullmatch(sealed)
        if shape is None:
            raise Unreadable()
        iv, data = (bytes.fromhex(each) for each in shape.groups())
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(iv)).decryptor()
        unpadder = PKCS7(algorithms.AES.block_size).unpadder()
        try:
            padded = decryptor.update(data) + decryptor.finalize()
            text = (unpadder.update(padded) + unpadder.finalize()).decode()
        except ValueError:
            raise Unreadable() from None
        if _CLAUDE_KEY.fullmatch(text) is None:
            raise Unreadable()
        return Secret(text)
