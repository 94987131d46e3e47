"""Who is calling."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

USERNAME = re.compile(r"[a-z0-9_]{3,20}")
"""What a user may be called. Set once; in the URLs of templates letter case makes no difference."""


class Method(StrEnum):
    """A kind of credential, in the order in which they are believed (spec/identity.md)."""

    SESSION = "session"
    BEARER = "bearer"
    INTERNAL = "internal"
    EXTERNAL = "external"


@dataclass(frozen=True)
class Caller:
    """An account, and how it proved itself.

    `is_renewed` says that a session's days have begun anew, and its cookie's should as well.
    """

    user_id: str
    method: Method
    is_renewed: bool = field(default=False, compare=False)
