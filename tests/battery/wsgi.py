"""The shop as the battery's servers load it: two networks, one facilitator, and places to die at.

`BATTERY_FACILITATOR` is its URL. Several hosts of one shop share the directory `BATTERY_DATA`: the
play money, and the wishes of whoever kills. `BATTERY_HURRY`, a JSON object, sets constants of the
product that only say how long somebody waits: {"x402jobs.services.caretaker.BEAT_SECONDS": 1}.
`BATTERY_BUG` names a planted bug (see BUGS), which a check has to find. `GET /battery/held` tells
what is alive.
"""

import gc
import importlib
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event, active_count, current_thread

from flask import Flask
from gevent import get_hub
from greenlet import getcurrent, greenlet

from tests.battery.money import BOTH, ledgers
from tests.blueprints.conftest import Chains
from x402jobs import wiring, worker
from x402jobs.adapters import sqlite, supabase
from x402jobs.adapters.claude import Claude
from x402jobs.adapters.facilitator import RemoteFacilitator, X402Facilitator
from x402jobs.adapters.sqlite import SqliteLedger
from x402jobs.adapters.sqlite import ledger as statements
from x402jobs.adapters.supabase import SupabaseLedger
from x402jobs.app import create_app
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.networks import Network
from x402jobs.domain.payment import Authorization, Payment, PaymentRequirements
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.domain.transcript import Transcript
from x402jobs.ports import (
    Refused,
    Seen,
    Settled,
    Speech,
    Unknown,
    Unseen,
    Verified,
)
from x402jobs.services.caretaker import Caretaker
from x402jobs.services.runs import Follower
from x402jobs.services.settlement import Settlement
from x402jobs.settings import Settings
from x402jobs.wiring import Money, build_services

SETTINGS = Settings.from_env()
SHARED = Path(os.environ.get("BATTERY_DATA", SETTINGS.data))
CONTROL = SHARED / "battery"
DIE, FREEZE = "die", "freeze"
BLIND = "blind"


def reached(step: str) -> None:
    """End, or freeze, this process here if somebody has asked for it; the first one alone.

    Steps are those of a request: recovery, which takes some of them too, does not grant the wish.
    """
    if current_thread().name.startswith("caretaker-"):
        return
    for wish, sign in ((DIE, signal.SIGKILL), (FREEZE, signal.SIGSTOP)):
        asked = CONTROL / f"{wish}-{step}"
        try:
            asked.rename(CONTROL / f"{wish}-{step}-{os.getpid()}")
        except FileNotFoundError:
            continue
        os.kill(os.getpid(), sign)


class MortalLedger:
    """A ledger of the product's, which may be the last thing its process has spoken to.

    Mixed in before either store's, which is what `super` is: mypy sees none (misc).
    """

    def claim(self, execution: Execution) -> Execution | None:
        reached("claiming")
        claimed: Execution | None = super().claim(execution)  # type: ignore[misc]
        reached("claimed")
        return claimed

    def swap(
        self,
        before: Execution,
        after: Execution,
        *,
        sealed_payment: str | None = None,
        sealed_answer: str | None = None,
    ) -> None:
        if after.state is State.COMPLETED:
            reached("completing")
        super().swap(  # type: ignore[misc]
            before, after, sealed_payment=sealed_payment, sealed_answer=sealed_answer
        )
        reached(after.state)


class MortalSqliteLedger(MortalLedger, SqliteLedger):
    pass


class MortalSupabaseLedger(MortalLedger, SupabaseLedger):
    pass


class MortalFacilitator:
    """ports.Facilitator, with a place to die after each answer."""

    def __init__(self, facilitator: X402Facilitator) -> None:
        self._facilitator = facilitator

    def offers(self, network: Network) -> bool:
        return self._facilitator.offers(network)

    def signer(self, payment: Payment, network: Network) -> str | None:
        return self._facilitator.signer(payment, network)

    def verify(self, payment: Payment, requirements: PaymentRequirements) -> Verified | Refused:
        said = self._facilitator.verify(payment, requirements)
        reached("verified")
        return said

    def settle(
        self, payment: Payment, requirements: PaymentRequirements
    ) -> Settled | Refused | Unknown:
        said = self._facilitator.settle(payment, requirements)
        reached("moved")
        return said


class MortalSpeech:
    """ports.Speech, with a place to die after its beginning and in its middle."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech

    def begin(self) -> None:
        self._speech.begin()
        reached("opened")

    def __iter__(self) -> Iterator[str]:
        for text in self._speech:
            yield text
            reached("speaking")

    def close(self) -> None:
        self._speech.close()

    @property
    def usage(self) -> dict[str, object]:
        return self._speech.usage

    @property
    def model(self) -> str:
        return self._speech.model

    @property
    def stop_reason(self) -> str | None:
        return self._speech.stop_reason


class MortalClaude(Claude):
    """The product's Claude, whose speeches are mortal: a port's, and no ClaudeSpeech (override)."""

    def speech(self, prompt: Prompt, key: Secret) -> Speech:  # type: ignore[override]
        return MortalSpeech(super().speech(prompt, key))


class BlindableChain:
    """ports.Chain over the play money of both networks; tells nothing while a file lies there."""

    def __init__(self, data: Path) -> None:
        self._chains = Chains(ledgers(data))

    def look(self, signed: Authorization, network: Network, since: float) -> Seen:
        if (CONTROL / BLIND).exists():
            return Unseen("no_answer")
        return self._chains.look(signed, network, since)


def _no_take_over() -> None:
    Caretaker.start = lambda *_: None  # type: ignore[method-assign]


def _claim_not_unique() -> None:
    claim = MortalLedger.claim

    def claim_anew(self: MortalLedger, execution: Execution) -> Execution | None:
        return claim(self, replace(execution, claim_key=f"{execution.claim_key}#{uuid.uuid4()}"))

    MortalLedger.claim = claim_anew  # type: ignore[method-assign]


def _lost_is_failed() -> None:
    judge = Settlement._judge

    def believe_silence(
        self: Settlement, row: Execution, *presented: object, **more: object
    ) -> Execution | None:
        if any(isinstance(each, Unknown) for each in presented):
            return self._released(row, "lost")
        return judge(self, row, *presented, **more)  # type: ignore[arg-type]

    Settlement._judge = believe_silence  # type: ignore[method-assign, assignment]


def _no_fence() -> None:
    """The embedded store's. A project's fence is in its database: see `project`."""
    fence = "AND attempt = :attempt_before AND state = :state_before"
    assert fence in statements._SWAP
    statements._SWAP = statements._SWAP.replace(fence, "")
    statements._KEEP_ANSWER = statements._KEEP_ANSWER.replace("INSERT", "INSERT OR REPLACE")


def _off_by_one() -> None:
    follow = Transcript.follow
    Transcript.follow = lambda self, silence, after=0: follow(  # type: ignore[method-assign]
        self, silence, after and after + 1
    )


def _follower_stays() -> None:
    close = Follower.close

    def stay(self: Follower) -> None:
        close(self)
        Event().wait()

    Follower.close = stay  # type: ignore[method-assign]


def _no_write_limit() -> None:
    worker.WRITE_SECONDS = 60


BUGS: Mapping[str, Callable[[], None]] = {
    "no take-over": _no_take_over,
    "claim not unique": _claim_not_unique,
    "lost answer is failure": _lost_is_failed,
    "no fence": _no_fence,
    "offset off by one": _off_by_one,
    "follower stays": _follower_stays,
    "no write limit": _no_write_limit,
}


def build() -> Flask:
    """The application, its ports wrapped; everything else is the product."""
    for name, value in json.loads(os.environ.get("BATTERY_HURRY", "{}")).items():
        module, _, constant = name.rpartition(".")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(importlib.import_module(module), constant, value)
    if bug := os.environ.get("BATTERY_BUG"):
        BUGS[bug]()
    sqlite.SqliteLedger = MortalSqliteLedger  # type: ignore[misc]
    supabase.SupabaseLedger = MortalSupabaseLedger  # type: ignore[misc]
    wiring.claude.Claude = MortalClaude  # type: ignore[misc]
    remote = RemoteFacilitator(os.environ["BATTERY_FACILITATOR"])
    facilitator = X402Facilitator(
        remote, settle_seconds=float(os.environ.get("BATTERY_SETTLE_SECONDS", "90"))
    )
    money = Money(MortalFacilitator(facilitator), BlindableChain(SHARED), BOTH, held=(remote,))
    app = create_app(SETTINGS, build_services(SETTINGS, money))
    app.add_url_rule("/battery/held", view_func=held)
    return app


def held() -> dict[str, int]:
    """What is alive in this process, where gevent's threads are greenlets too.

    Those of its pool of real threads, `pooled` many, are greenlets of another thread.
    """
    gc.collect()
    alive = [each for each in gc.get_objects() if isinstance(each, greenlet) and not each.dead]
    return {
        "greenlets": sum(_root(each) is _root(getcurrent()) for each in alive),
        "threads": active_count(),
        "pooled": get_hub().threadpool.size,
    }


def _root(each: greenlet) -> greenlet:
    """The first greenlet of its thread."""
    while each.parent is not None:
        each = each.parent
    return each


app = build()
