"""A part of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """`items` are those from `offset` on, at most `limit`, of `total` that there are."""

    items: Sequence[Item]
    total: int
    limit: int
    offset: int

    @property
    def has_more(self) -> bool:
        """Whether there are items after these."""
        return self.offset + len(self.items) < self.total
