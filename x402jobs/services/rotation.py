"""Putting everything that is sealed under the primary key."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from x402jobs.domain.errors import Unreadable
from x402jobs.ports import Form, Place, RotatingBox, SealedValue, SealedValues

BATCH = 100
PASSES = 5
"""How often it is gone through everything before a server that keeps sealing with an old key is
left to its operator."""


@dataclass(frozen=True)
class Standing:
    """Which value is kept how, when each was looked at once.

    `forms` counts by `table.column`; `waiting` is how many values a rotation would seal anew;
    `unreadable` has (`table.column`, row id) of every value that does not open.
    """

    key_ids: Sequence[str]
    forms: Mapping[str, Counter[Form]]
    waiting: int
    unreadable: Sequence[tuple[str, str]]

    @property
    def old(self) -> int:
        """How many values are not under the primary key, readable or not."""
        under_primary = Form(key_id=self.key_ids[0])
        return sum(forms.total() - forms[under_primary] for forms in self.forms.values())

    def users_of(self, key_id: str) -> Mapping[str, int]:
        """How many values of which column name this key."""
        under_it = Form(key_id=key_id)
        return {name: forms[under_it] for name, forms in self.forms.items() if forms[under_it]}


class Rotation:
    """Goes through sealed values while others read and write them, and may be killed at any time.

    Each value is swapped for its successor only where it still stands, so at every instant each
    row holds either of two texts, and both open.
    """

    def __init__(
        self,
        values: SealedValues,
        box: RotatingBox,
        places: Sequence[Callable[[str], Place]],
    ) -> None:
        """`places` tells for each sealed column where a given owner's value rests."""
        self._values = values
        self._box = box
        self._places = places

    def standing(self, batch: int = BATCH) -> Standing:
        """Look at every value, and open it. Changes nothing."""
        forms: dict[str, Counter[Form]] = {}
        unreadable: list[tuple[str, str]] = []
        waiting = 0
        for place_of in self._places:
            name = _name(place_of)
            forms[name] = Counter()
            for page in self._pages(place_of, batch):
                for value in page:
                    place = place_of(value.owner)
                    form = self._box.form(value.sealed, place)
                    forms[name][form] += 1
                    if self._opened(value, place) is None:
                        unreadable.append((name, value.row))
                    elif form.key_id != self._box.key_ids[0]:
                        waiting += 1
        return Standing(tuple(self._box.key_ids), forms, waiting, unreadable)

    def rotate(
        self, batch: int = BATCH, told: Callable[[int, int], None] = lambda seen, sealed: None
    ) -> tuple[int, Standing]:
        """Seal anew what is not under the primary key; how many it were, and what is left.

        Values that came or changed meanwhile are looked at again, a few times. `told` hears after
        each batch how many values were seen and how many were sealed anew.
        """
        seen = resealed = 0
        for _ in range(PASSES):
            for place_of in self._places:
                spot = place_of("")
                for page in self._pages(place_of, batch):
                    fresh = list(self._resealed(page, place_of))
                    resealed += self._values.replace(spot.table, spot.column, fresh) if fresh else 0
                    seen += len(page)
                    told(seen, resealed)
            standing = self.standing(batch)
            if standing.waiting == 0:
                break
        return resealed, standing

    def _pages(
        self, place_of: Callable[[str], Place], batch: int
    ) -> Iterator[Sequence[SealedValue]]:
        spot, after = place_of(""), ""
        while page := self._values.page(spot.table, spot.column, after, batch):
            yield page
            after = page[-1].row

    def _resealed(
        self, page: Sequence[SealedValue], place_of: Callable[[str], Place]
    ) -> Iterator[tuple[SealedValue, str]]:
        """The old ones of a page that open, each with its successor."""
        for value in page:
            place = place_of(value.owner)
            if self._box.form(value.sealed, place).key_id != self._box.key_ids[0]:
                text = self._opened(value, place)
                if text is not None:
                    yield value, self._box.seal(text, place)

    def _opened(self, value: SealedValue, place: Place) -> str | None:
        try:
            return self._box.open(value.sealed, place).reveal()
        except Unreadable:
            return None


def _name(place_of: Callable[[str], Place]) -> str:
    spot = place_of("")
    return f"{spot.table}.{spot.column}"
