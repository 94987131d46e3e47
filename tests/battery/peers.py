"""Claude and the facilitator on loopback, which lose, cut and lie as a part of the battery asks."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from x402 import x402FacilitatorSync

from x402jobs.devkit.claude_reply import Reply, compose
from x402jobs.devkit.claude_script import read_scripts
from x402jobs.devkit.claude_server import Call, ClaudeServer
from x402jobs.devkit.facilitator_server import Call as Question
from x402jobs.devkit.facilitator_server import FacilitatorServer
from x402jobs.devkit.facilitator_server import Script as Fault

TOPIC = re.compile(r"topic-[0-9a-f]{16}")
HONEST = Fault("settle")

PlayClaude = Callable[[str], dict[str, Any]]
"""The script of the call about this topic, besides its text."""
PlayFacilitator = Callable[[str, str, dict[str, Any]], Fault]
"""What becomes of the answer to `verify` or `settle` about this nonce, and this authorization."""


class BatteryClaude(ClaudeServer):
    """Answers each topic with its own words, and remembers how often it was asked."""

    def __init__(self, answer_to: Callable[[str], str]) -> None:
        super().__init__(delta_ms=0)
        self._answer_to = answer_to
        self.play: PlayClaude = lambda topic: {}
        self.asked: Counter[str] = Counter()
        self.calls_of: dict[str, list[Call]] = {}

    def receive(
        self, path: str, body: Any, key: str | None, headers: dict[str, str]
    ) -> tuple[Call, Reply]:
        found = TOPIC.search(json.dumps(body))
        assert found is not None, body
        topic = found.group()
        call = Call(
            path=path,
            body=None,
            key=key,
            headers={},
            startedAt=time.time(),
            finishedAt=None,
            hungUp=False,
            hungUpAt=None,
        )
        with self._lock:
            self.asked[topic] += 1
            self.calls_of.setdefault(topic, []).append(call)
        (script,) = read_scripts([{"text": self._answer_to(topic)} | self.play(topic)])
        return call, compose(script, body, 0)


class BatteryFacilitator(FacilitatorServer):
    """The development ledgers' facilitator; the part of the battery decides what is heard of it."""

    def __init__(self, facilitator: x402FacilitatorSync) -> None:
        super().__init__(facilitator)
        self.play: PlayFacilitator = lambda at, nonce, signed: HONEST
        self.before: Callable[[str, dict[str, Any]], None] = lambda at, signed: None

    def receive(self, at: str, body: Any) -> tuple[Question, Fault, bytes]:
        fault = HONEST
        if at != "supported":
            signed = body["paymentPayload"]["payload"]["authorization"]
            self.before(at, signed)
            fault = self.play(at, signed["nonce"], signed)
        answer = {} if fault.unheard else self._answer(at, body)
        text = json.dumps(answer | fault.change) if fault.body is None else fault.body
        return Question(at=at, body=None, hungUp=False), fault, text.encode()
