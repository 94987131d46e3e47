"""What a caller wants of a tile, read once."""

from dataclasses import dataclass, field

from x402jobs.domain.coords import Coords
from x402jobs.domain.digest import request_digest

MAX_INSTRUCTION_CHARACTERS = 8000
MAX_TOKENS = 8192
DEFAULT_MODEL = "claude-opus-4-20250514"
DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True)
class Task:
    """A request to run a tile (spec/tasks.md, Query). `began` is unix seconds.

    With `reruns` a parent whose plan has no pending step is run all the same. `temperature` is
    what was asked for, 0 to 2. The rest steers the reply alone: whether the prompt is told, whether
    events have ids, and the Last-Event-ID header as it came, which starts no run.
    """

    coords: Coords
    began: float
    instruction: str = field(default="", repr=False)
    model: str = DEFAULT_MODEL
    temperature: float | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    reruns: bool = False
    tells_prompt: bool = False
    ids: bool = False
    last_event_id: str | None = None

    @property
    def digest(self) -> str:
        """The fingerprint of the tile alone: of an instruction not even a hash is stored."""
        return request_digest(str(self.coords), {})
