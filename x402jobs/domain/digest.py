"""What a payment was for: the fingerprint a signature does not carry."""

import hashlib
import json
from collections.abc import Mapping


def request_digest(path: str, values: Mapping[str, str | None]) -> str:
    """SHA-256, in hex, of the path as requested and the caller's values (spec/money.md).

    Letter case of the path and order of the values make no difference, GET and POST are alike; a
    null counts as absent, and defaults are left out.
    """
    given = {name: value for name, value in values.items() if value is not None}
    canonical = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{path.lower()}\n{canonical}".encode()).hexdigest()
