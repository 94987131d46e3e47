"""What one look into the store tells about a call: the template, its shop, and what came before."""

import json
from dataclasses import dataclass, field
from typing import Any

from x402jobs.domain.execution import Execution


@dataclass(frozen=True)
class StoredTemplate:
    """A template as it rests: the prompt sealed, the parameters JSON nobody has looked at yet.

    `price` is in micro-USDC, `network` the creator's preferred one, by its short name where it has
    one; times are unix seconds. A template that is not active is paused: nobody can call it.
    """

    id: str
    version: int
    owner_id: str
    username: str
    slug: str
    name: str
    description: str
    price: int
    sealed_prompt: str = field(repr=False)
    parameters: str
    model: str
    max_tokens: int
    allows_user_message: bool
    network: str
    created_at: float
    updated_at: float
    is_active: bool = True

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """The parameters' definitions; what the origin may have stored instead is left out."""
        try:
            stored = json.loads(self.parameters)
        except ValueError:
            return []
        stored = stored if isinstance(stored, list) else []
        return [each for each in stored if isinstance(each, dict)]


@dataclass(frozen=True)
class ClaudeConfig:
    """What a creator may know of their stored Claude key: whether it is there, and switched on."""

    has_key: bool = False
    is_enabled: bool = False


@dataclass(frozen=True)
class Listing:
    """The answer to one joined read; whatever is absent is None.

    `sealed_key` is None unless the creator has stored a Claude key and enabled it. `pay_to` is the
    creator's payout address. `earlier` is the execution this payment has already bought.

    Where that is a debt, `owed` is the template it was paid for, paused and deleted ones too, and
    `owed_key` its creator's Claude key; what stands at the address may be another by now.
    """

    template: StoredTemplate | None = None
    sealed_key: str | None = field(default=None, repr=False)
    pay_to: str | None = None
    earlier: Execution | None = None
    owed: StoredTemplate | None = None
    owed_key: str | None = field(default=None, repr=False)
