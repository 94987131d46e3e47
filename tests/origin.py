"""What the origin service has written, and would write."""

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

SECRET = "test-secret"
VECTOR = (
    "000102030405060708090a0b0c0d0e0f:"
    "6005fd1922f6bd7d8e5156500524526eee9d00a4ae7a4faf39a8450ef9aa3e70"
)
"""Published with the format: VECTOR_KEY under SECRET."""
VECTOR_KEY = "sk-ant-api03-EXAMPLE"


def sealed(text: str | bytes, secret: str = SECRET, iv: bytes = bytes(range(16))) -> str:
    """The text as the origin service would keep it."""
    padder = PKCS7(128).padder()
    data = padder.update(text if isinstance(text, bytes) else text.encode()) + padder.finalize()
    key = hashlib.sha256(secret.encode()).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return f"{iv.hex()}:{(encryptor.update(data) + encryptor.finalize()).hex()}"


def raw(value: str, secret: str) -> bytes:
    """What a secret makes of a sealed value, padding and all."""
    iv, data = (bytes.fromhex(each) for each in value.split(":"))
    key = hashlib.sha256(secret.encode()).digest()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()
