"""What a caller sent to a paid door, read once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from x402jobs.domain.digest import request_digest
from x402jobs.domain.payment import Payment


@dataclass(frozen=True)
class Call:
    """A request to run a template.

    `values` are the caller's own words. `owner_test` is the X-OWNER-TEST header as it came, None
    when it did not; with it, `payment` is None: a payment sent along is ignored. `bare` says that
    there was neither body nor query. `began` is unix seconds. `network` is the name of the one to
    be asked on, as it came; without `streams` the answer is wanted in one piece. Both steer the
    reply alone: the fingerprint leaves them out.
    """

    path: str
    values: Mapping[str, str | None] = field(repr=False)
    payment: Payment | None = field(repr=False)
    owner_test: str | None
    bare: bool
    address: str
    began: float
    network: str | None = None
    streams: bool = True

    @property
    def digest(self) -> str:
        """The fingerprint of what is asked for."""
        return request_digest(self.path, self.values)

    @property
    def is_probe(self) -> bool:
        """Whether it only asks what the price is, as discovery crawlers do."""
        return self.bare and self.payment is None and self.owner_test is None
