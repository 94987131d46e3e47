"""Running tiles: context, plan, prompt, Claude, and the plan marked afterwards."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil

import structlog

from x402jobs.domain import hexecute
from x402jobs.domain.caller import Caller
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import (
    ContextTooLong,
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
    TooManyRequests,
    X402JobsError,
)
from x402jobs.domain.events import Done, Ending, Failed
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.hexplan import Hexplan, StepState
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.secret import Secret
from x402jobs.domain.task import Task
from x402jobs.domain.tile import TaskContext
from x402jobs.domain.transcript import Transcript
from x402jobs.logs import name_execution
from x402jobs.ports import Clock, Ledger, Limits, Line, Speech
from x402jobs.services.agentic import Agentic
from x402jobs.services.integrations import Integrations
from x402jobs.services.left_rows import LeftRows
from x402jobs.services.mapping import Mapping
from x402jobs.services.runs import Follower, Runs

NOTHING_ASKED = "nothing_asked"
"""The stop reason of an answer for which Claude was not asked."""
REFUSAL = "refusal"

RUNNING = "This task is already running. Wait for its end, then try again."
CUT_OFF = "max_tokens"
REFUSED = "Claude refused to do this."
NO_KEY = (
    "No Claude key is stored and switched on for your account: PUT /integrations/claude/config, "
    "or x402jobs integrations claude set."
)

Opening = Callable[[Prompt, Caller, Line], AbstractContextManager[Speech]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Started:
    """A run and its first follower; `prompt` tells what Claude was sent, once it is written."""

    follower: Follower
    prompt: Callable[[], str | None] = lambda: None


class Tasks:
    """The second door's order: one run of a tile at a time, and every fault as its ending."""

    def __init__(
        self,
        *,
        mapping: Mapping,
        integrations: Integrations,
        agentic: Agentic,
        runs: Runs,
        ledger: Ledger,
        limits: Limits,
        left: LeftRows,
        clock: Clock,
        worker: str,
        shared_key: Secret | None,
        first_content_seconds: float,
    ) -> None:
        self._mapping = mapping
        self._integrations = integrations
        self._agentic = agentic
        self._runs = runs
        self._ledger = ledger
        self._limits = limits
        self._left = left
        self._clock = clock
        self._worker = worker
        self._shared_key = shared_key
        self._first_content_seconds = first_content_seconds

    def run(self, task: Task, caller: Caller) -> Started:
        """Begin. Whatever goes wrong from here on is how that which is followed ends."""
        execution = Execution(
            id=str(uuid.uuid4()),
            kind=Kind.TASK,
            state=State.CLAIMED,
            template_id=None,
            template_version=None,
            tile=str(task.coords),
            digest=task.digest,
            worker=self._worker,
            created_at=task.began,
            caller_id=caller.user_id,
        )
        name_execution(execution.id)
        try:
            self._admit(execution, caller)
        except X402JobsError as error:
            return Started(_refused(execution, error))
        speech = TaskSpeech(task, caller, self._mapping, self._open)
        try:
            return Started(self._runs.start(speech, execution, speech.mark), lambda: speech.prompt)
        except BaseException:
            self._left.leave(execution)
            raise

    def _open(self, prompt: Prompt, caller: Caller, line: Line) -> AbstractContextManager[Speech]:
        """Ask Claude, with the caller's own key or, where the operator shares it, the shop's."""
        key = self._integrations.own_claude_key(caller.user_id)
        if key is None and not self._integrations.claude_config(caller.user_id).has_key:
            key = self._shared_key
        if key is None:
            raise InvalidApiKey(NO_KEY)
        by = self._clock.monotonic() + self._first_content_seconds
        return self._agentic.open(self._agentic.prepare(prompt), key, by=by, line=line)

    def _admit(self, execution: Execution, caller: Caller) -> None:
        """Raises TooManyRequests: over the limit, or the same tile is running for this caller."""
        if self._runs.is_running(caller.user_id, execution.tile):
            raise TooManyRequests(RUNNING)  # which uses up none of the caller's runs
        if (wait := self._limits.hit("task", caller.user_id)) is not None:
            raise TooManyRequests(f"Too many tasks. Try again in {ceil(wait)} s.", retry_after=wait)
        try:
            begun = self._ledger.begin(execution)
        except StoreUnavailable:
            self._left.leave(execution)  # it may have been written all the same
            raise
        if not begun:
            raise TooManyRequests(RUNNING)


class TaskSpeech:
    """ports.Speech of a whole task: its context, plan and prompt, and what Claude says to it.

    So a fault of any of these steps is the run's, and told as its ending.
    """

    def __init__(self, task: Task, caller: Caller, mapping: Mapping, open_: Opening) -> None:
        self._task = task
        self._caller = caller
        self._mapping = mapping
        self._open = open_
        self._context: TaskContext | None = None
        self._step: int | None = None
        self._claude: Speech | None = None
        self._is_closed = False
        self._answer: list[str] = []
        self.prompt: str | None = None

    def begin(self) -> None:
        """Nothing is waited for: what can go wrong is told to who follows."""

    def __iter__(self) -> Iterator[str]:
        task, reader = self._task, self._caller.user_id
        try:
            context = self._mapping.context(reader, task.coords)
        except NotFound:
            raise NotFound("Task not found.") from None
        if not context.task.title.strip():
            raise InvalidRequest(f"The tile {task.coords} has no title. Give it one, then run it.")
        context = self._context = self._mapping.ensure_plan(context, reader)
        assert context.hexplan is not None and context.hexplan.hexplan is not None
        plan, is_leaf = context.hexplan.hexplan, not context.subtasks
        self._step = _own_step(plan, task) if is_leaf else plan.next_index
        if self._step is None and task.reruns and (blocked := plan.first(StepState.BLOCKED)):
            self._step, plan = blocked[0], plan.marked(blocked[0], StepState.PENDING)
        if self._step is None and not (is_leaf or task.instruction or task.reruns):
            yield hexecute.nothing_pending(plan)
            return
        self.prompt = hexecute.write(context, plan, task.instruction, self._around_step(plan))
        prompt = Prompt(task.model, task.max_tokens, "", self.prompt, temperature=task.temperature)
        with self._open(prompt, self._caller, self) as claude:
            self._claude = claude
            if self._is_closed:
                claude.close()
            for text in claude:
                self._answer.append(text)
                yield text

    def close(self) -> None:
        """Hang up on Claude, at the latest a second from now where it has not begun to speak."""
        self._is_closed = True
        if self._claude is not None:
            self._claude.close()

    def gone(self) -> bool:
        """ports.Line: whoever opens Claude looks here whether anybody still listens."""
        return self._is_closed

    def mark(self, ending: Ending) -> None:
        """Write down what has become of the plan's step.

        An answer completes it; what the task itself cannot do blocks it. After anything else it
        stays as it was, so that a retry does the work.
        """
        if self._context is None or self._step is None:
            return
        match ending:
            case Done() if self.stop_reason == REFUSAL:
                state, note = StepState.BLOCKED, REFUSED
            case Done():
                state, note = StepState.COMPLETE, hexecute.note_of("".join(self._answer))
                if self.stop_reason == CUT_OFF:
                    note = f"Cut off at {self._task.max_tokens} tokens: {note}"
            case Failed(_, ContextTooLong() as error) if not self._task.instruction:
                state, note = StepState.BLOCKED, error.message
            case _:
                return
        try:
            self._mapping.mark(self._context, self._caller.user_id, self._step, state, note)
        except X402JobsError as trouble:
            log.error("plan_not_marked", execution_id=ending.execution.id, code=trouble.code)

    @property
    def usage(self) -> dict[str, object]:
        return self._claude.usage if self._claude is not None else {}

    @property
    def model(self) -> str:
        return self._claude.model if self._claude is not None else self._task.model

    @property
    def stop_reason(self) -> str | None:
        return self._claude.stop_reason if self._claude is not None else NOTHING_ASKED

    def _around_step(self, plan: Hexplan) -> TaskContext | None:
        """What is known of the tile that the next step names. Raises NotFound."""
        step = plan.next_step
        if step is None or step.coords == str(self._task.coords):
            return None
        try:
            return self._mapping.context(self._caller.user_id, Coords.parse(step.coords))
        except NotFound:
            raise NotFound(
                f"The next step's tile, {step.coords}, is not there any more. Delete the plan to "
                "have it made anew."
            ) from None


def _own_step(plan: Hexplan, task: Task) -> int | None:
    """A leaf is the one step of its plan, and done as often as it is asked for.

    None where the plan is older than that: made while the tile had subtasks.
    """
    return 0 if plan.steps[0].coords == str(task.coords) else None


def _refused(execution: Execution, error: X402JobsError) -> Follower:
    """What somebody follows who was not let in."""
    return Follower(Transcript("", Failed(execution, error)), execution)
