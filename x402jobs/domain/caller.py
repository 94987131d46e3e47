"""Who is calling."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """An account, and how it proved itself (`bearer`)."""

    user_id: str
    method: str
