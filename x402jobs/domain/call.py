"""What a caller sent to a paid door, read once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from x402jobs.domain.digest import request_digest
from x402jobs.domain.payment import Payment


@dataclass(frozen=True)
class Mark:
    """How far a stream has come: the `id:` of an event, and the Last-Event-ID of who comes back.

    `after` is in Unicode code points of the answer, so that no chunk boundary need be remembered.
    """

    execution_id: str
    after: int = 0

    @classmethod
    def parse(cls, text: str) -> "Mark | None":
        """The mark that `<executionId>.<n>` is, None for anything else."""
        match = re.fullmatch(r"([0-9A-Za-z-]{1,64})\.([0-9]{1,10})", text)
        return cls(match[1], int(match[2])) if match is not None else None

    def __str__(self) -> str:
        return f"{self.execution_id}.{self.after}"


@dataclass(frozen=True)
class Call:
    """A request to run a template.

    `values` are the caller's own words. `owner_test` is the X-OWNER-TEST header as it came, None
    when it did not; with it, `payment` is None: a payment sent along is ignored. `bare` says that
    there was neither body nor query. `began` is unix seconds. `network` is the name of the one to
    be asked on, as it came; without `streams` the answer is wanted in one piece. Both steer the
    reply alone: the fingerprint leaves them out.

    `ids` asks for resumable ids in the stream. `last_event_id` is the header as it came: with it
    the call only follows what has been bought, which `resume_token` may show as well as a payment.
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
    ids: bool = False
    last_event_id: str | None = None
    resume_token: str | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """The fingerprint of what is asked for."""
        return request_digest(self.path, self.values)

    @property
    def is_probe(self) -> bool:
        """Whether it only asks what the price is, as discovery crawlers do."""
        return self.bare and self.payment is None and self.owner_test is None
