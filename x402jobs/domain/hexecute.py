"""What Claude is asked when a task runs: the tiles around it, its plan, and what to do now."""

import re
from collections.abc import Iterable, Iterator, Sequence

from x402jobs.domain.errors import ContextTooLong
from x402jobs.domain.hexplan import (
    MAX_NOTE_CHARACTERS,
    SIGNS,
    Hexplan,
    StepState,
    one_line,
    shortened,
)
from x402jobs.domain.prompt_template import MAX_PROMPT_BYTES
from x402jobs.domain.tile import HEXPLAN_TITLE, TaskContext, Tile

INTRODUCTION = """\
You carry out one task out of a tree of tiles. A tile is a piece of work or of knowledge. Its
coords say where it is: one number for each step down from the root, 1 to 6 for a subtask, -1 to -6
for context, 0 for a plan.
Below, each tile is an element with its title and coords; what stands in it is the tile's own text.
There &lt; &gt; &amp; &quot; and &apos; stand for plain characters: read them as such, and write the
plain characters in your answer.
A plan has a line for each step: 📋 is pending, 🟡 started, ✅ complete, 🔴 blocked. A line below a
step is a note from the run that ended it."""

ABOUT_ANCESTORS = "The tiles above the task, from the root down. Each holds for all below it."

NO_TOOLS = (
    "You have no tools and nobody can be asked. Your answer is the result: give the finished work "
    "itself, not a report of how it was or would be done. If something is missing, choose what "
    "its author would most likely want, and say so in one sentence."
)
DO_THE_TASK = "Do the task now, also where its plan says that an earlier run has done it."
DO_ONE_STEP = (
    "Do only the step named here, the next one of the plan, and see the task as what it is a part "
    "of. Leave all other steps alone: each has a run of its own."
)
DO_AGAIN = "No step of the plan is pending and the task was asked for again. Do it as a whole."
AS_INSTRUCTED = "Follow the instruction."

TOO_LONG = (
    f"The task and the tiles around it make a prompt of more than {MAX_PROMPT_BYTES} bytes. "
    "Shorten their texts, or the instruction."
)

_ESCAPES = str.maketrans(
    {chr(code): "\ufffd" for code in (*range(32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF)}
    | {"\t": "\t", "\n": "\n", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
    | {'"': "&quot;", "'": "&apos;"}
)
"""What XML cannot carry at all becomes the replacement character."""
_BLOCK_MARKS = re.compile(r"\A(?:[#>*+-]{1,6} ){1,6}")
"""At the beginning of a line, and bounded: an answer may be one long line of them."""
_SENTENCE = re.compile(r".*[.!?](?= )")
_BLOCKED_SHOWN = 20


def write(
    context: TaskContext, plan: Hexplan, instruction: str = "", step: TaskContext | None = None
) -> str:
    """The whole prompt, as one text that is sent once.

    `step` is what is known of the tile that the plan's next step names, where its reader may see
    it. Nothing that a tile, the plan or the instruction contains is read as markup, or twice.

    Raises ContextTooLong before a text over 200 KB is built.
    """
    pieces, room = [], MAX_PROMPT_BYTES
    for piece in _pieces(context, plan, instruction, step):
        room -= len(piece.encode())
        if room < 0:
            raise ContextTooLong(TOO_LONG)
        pieces.append(piece)
    return "".join(pieces)


def nothing_pending(plan: Hexplan) -> str:
    """What a parent answers by itself, Claude not being asked, when no step is to be done."""
    ways = "Send an instruction, or rerun=true, to have the task done as a whole once more."
    anew = "Where there are new subtasks, delete the plan to have it made anew."
    blocked = [
        (number, each)
        for number, each in enumerate(plan.steps, 1)
        if each.state is StepState.BLOCKED
    ]
    if not blocked:
        return (
            f"The plan is complete: {len(plan.steps)} of {len(plan.steps)} steps are done. "
            f"{anew} {ways}"
        )
    lines = [f"No step of the plan is pending; blocked are {len(blocked)} of {len(plan.steps)}:"]
    for number, each in blocked[:_BLOCKED_SHOWN]:
        lines.append(f"{SIGNS[each.state]} {number}. {each.title} → {each.coords}")
        lines.append(f"   {each.note or 'no reason was noted'}")
    if len(blocked) > _BLOCKED_SHOWN:
        lines.append(f"(and {len(blocked) - _BLOCKED_SHOWN} more)")
    lines.append("Mend these tiles, then send rerun=true to have the first of them tried again.")
    return "\n".join(lines)


def note_of(answer: str) -> str:
    """What a finished step's line says of its answer: the first line that says something.

    A line that is too long is cut where a sentence ends, else wherever 200 characters are reached.
    """
    for line in answer.splitlines():
        text = _BLOCK_MARKS.sub("", one_line(line), count=1)
        if any(map(str.isalnum, text)) and not text.startswith("```"):
            break
    else:
        return "Done."
    if len(text) > MAX_NOTE_CHARACTERS and (
        whole := _SENTENCE.match(text[: MAX_NOTE_CHARACTERS + 1])
    ):
        return whole[0]
    return shortened(text)


def _pieces(
    context: TaskContext, plan: Hexplan, instruction: str, step: TaskContext | None
) -> Iterator[str]:
    """Section by section, each with a blank line behind it; a tile's text is always one piece."""
    task = context.task
    yield f"<introduction>\n{INTRODUCTION}\n</introduction>\n\n"
    if ancestors := _with_content(context.ancestors):
        yield f"<ancestor-context>\n{ABOUT_ANCESTORS}\n"
        for each in ancestors:
            yield _element("ancestor", each, each.content)
        yield "</ancestor-context>\n\n"
    for each in _with_content(context.context):
        yield _element("context", each, each.content) + "\n"
    if context.subtasks:
        yield "<subtasks>\n"
        for each in context.subtasks:
            yield _element("subtask", each, each.preview)
        yield "</subtasks>\n\n"
    yield f"<task{_attributes(task)}>\n{_goal(task)}</task>\n\n"
    if instruction.strip():
        yield f"<instruction>\n{_escaped(instruction)}\n</instruction>\n\n"
    place = f' title="{HEXPLAN_TITLE}" coords="{_escaped(str(task.coords.hexplan))}"'
    yield f"<hexplan{place}>\n{_escaped(plan.excerpt)}\n</hexplan>\n\n"
    yield "<what-to-do-now>\n"
    yield from _what_to_do(context, plan, bool(instruction.strip()), step)
    yield "</what-to-do-now>\n"


def _what_to_do(
    context: TaskContext, plan: Hexplan, instructed: bool, step: TaskContext | None
) -> Iterator[str]:
    next_step, index = plan.next_step, plan.next_index
    as_instructed = f" {AS_INSTRUCTED}" if instructed else ""
    if not context.subtasks or (next_step and next_step.coords == str(context.task.coords)):
        yield f"{DO_THE_TASK}{as_instructed}\n{NO_TOOLS}\n"
    elif next_step is None or index is None:
        yield f"{DO_AGAIN}{as_instructed}\n{NO_TOOLS}\n"
    else:
        yield f"{DO_ONE_STEP}{as_instructed}\n{NO_TOOLS}\n"
        named = f'number="{index + 1}" title="{_escaped(next_step.title)}"'
        yield f'<step {named} coords="{_escaped(next_step.coords)}">\n'
        if step is not None:
            yield from _around(step, context.task)
        yield "</step>\n"


def _around(step: TaskContext, task: Tile) -> Iterator[str]:
    """What the prompt has not said yet: the way from the task to the step, and the step itself."""
    between = [each for each in step.ancestors if each.coords.is_under(task.coords)]
    for each in _with_content(between):
        yield _element("ancestor", each, each.content)
    for each in _with_content(step.context):
        yield _element("context", each, each.content)
    yield _goal(step.task)


def _with_content(tiles: Iterable[Tile]) -> Sequence[Tile]:
    return [each for each in tiles if each.content.strip()]


def _goal(tile: Tile) -> str:
    text = one_line(tile.title)
    if tile.content.strip():
        text += f"\n\n{tile.content}"
    return f"<goal>\n{_escaped(text)}\n</goal>\n"


def _element(name: str, tile: Tile, body: str) -> str:
    if not body.strip():
        return f"<{name}{_attributes(tile)} />\n"
    return f"<{name}{_attributes(tile)}>\n{_escaped(body)}\n</{name}>\n"


def _attributes(tile: Tile) -> str:
    return f' title="{_escaped(one_line(tile.title))}" coords="{_escaped(str(tile.coords))}"'


def _escaped(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_ESCAPES)
