"""Who is calling."""

import re
from dataclasses import dataclass

USERNAME = re.compile(r"[a-z0-9_]{3,20}")
"""What a user may be called. Set once; in the URLs of templates letter case makes no difference."""


@dataclass(frozen=True)
class Caller:
    """An account, and how it proved itself (`bearer`)."""

    user_id: str
    method: str
