"""Accounts that are made elsewhere, when they first come here."""

from collections import OrderedDict

from x402jobs.ports import Catalogue, Clock

AGAIN_SECONDS = 600
"""How long a deleted account's token may go on to be taken."""
MOST = 10_000


class Newcomers:
    """Has the store know of whoever shows a good token: once for each account, for a while."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._met: OrderedDict[str, float] = OrderedDict()

    def meet(self, user_id: str) -> None:
        """From now on the account has a profile. Raises Unauthenticated where it is deleted."""
        now, met = self._clock.monotonic(), self._met.get(user_id)
        if met is not None and now <= met + AGAIN_SECONDS:
            return
        self._catalogue.know(user_id)
        self._met[user_id] = now
        self._met.move_to_end(user_id)
        if len(self._met) > MOST:
            self._met.popitem(last=False)
