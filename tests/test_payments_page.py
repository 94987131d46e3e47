"""What docs/payments.md says is so: its states, crashes, lies, invariants and figures are ours."""

import re
from pathlib import Path

import pytest

from tests.battery.__main__ import CAUGHT_BY, PARTS
from tests.battery.liars import LIES
from tests.battery.steps import EXPECTED
from tests.simulator.mutants import MUTANTS
from x402jobs.adapters.rows import UNSEEN_SECONDS
from x402jobs.blueprints.json_reply import PATIENCE_SECONDS
from x402jobs.domain.execution import MAX_RERUNS, State
from x402jobs.domain.invariants import GRACE_SECONDS, INVARIANTS, PLAY_MONEY
from x402jobs.domain.payment import LEAST_SECONDS_LEFT
from x402jobs.services.caretaker import BEAT_SECONDS, DRAIN_MARGIN_SECONDS
from x402jobs.services.recovery import LONGEST_PAUSE_SECONDS, PAUSE_SECONDS
from x402jobs.services.runs import ANSWER_KEPT_SECONDS, STORE_PATIENCE_SECONDS
from x402jobs.services.settlement import CONFIRM_SECONDS
from x402jobs.settings import Settings
from x402jobs.worker import WRITE_SECONDS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "payments.md").read_text()
FLOWING = " ".join(PAGE.split())
"""Without its line breaks."""


def section(heading: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    _, found, rest = PAGE.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(r"\n#+ ", rest)[0]


def tables(heading: str) -> list[list[list[str]]]:
    """The rows of a section's tables, without the heads; cells without their backticks."""
    blocks = section(heading).replace("`", "").split("\n\n")
    return [
        [line.strip("| ").split(" | ") for line in block.strip().splitlines()[2:]]
        for block in blocks
        if block.lstrip().startswith("|")
    ]


def names(table: list[list[str]]) -> list[str]:
    """Everything its first cells name, each as often as it is named."""
    return sorted(name for first, *_ in table for name in first.split(", "))


def brief(cell: str) -> str:
    """A cell's status and code, without what is said about them."""
    return cell.partition(",")[0]


def test_every_state_is_explained_and_no_other() -> None:
    (states,) = tables("## The life of a payment")

    assert names(states) == sorted(State)


def test_every_step_to_die_at_is_there_with_what_is_found_and_heard() -> None:
    told = {}
    deaths, _ = tables("## When a process dies")
    for step, _, state, at_once, taken_over, moved, calls in deaths:
        told[step] = (state, at_once, taken_over, moved.partition(":")[0], calls)

    assert told == {
        step: (
            end.state or "none",
            end.at_once or "as the first time",
            end.taken_over or "none",
            "yes" if end.transfers else "no",
            str(end.calls),
        )
        for step, end in EXPECTED.items()
    }


def test_every_lie_is_there_with_what_moves_and_what_is_heard() -> None:
    (faults,) = tables("## When the facilitator lies")

    told = {name: (moved, brief(heard)) for name, _, moved, heard in faults}

    assert told == {
        name: ("yes" if lie.transfers else "no", lie.first) for name, lie in LIES.items()
    }


def test_every_invariant_is_explained_and_no_other() -> None:
    *ours, play_money = tables("### When `check` speaks")

    assert names([row for table in ours for row in table]) == sorted(INVARIANTS)
    assert names(play_money) == sorted(PLAY_MONEY)


def test_every_part_of_the_battery_is_there_and_as_large_as_it_is() -> None:
    (parts,) = tables("## How it is shown")
    sizes = {name: size for name, _, size, _ in parts}

    assert list(sizes) == [*PARTS, "bugs", "simulator", "mutants"]
    assert sizes["steps"].startswith(f"{len(EXPECTED)} steps ")
    assert sizes["liars"].startswith(f"{len(LIES)} faults ")
    assert sizes["bugs"] == f"{len(CAUGHT_BY)} bugs"
    assert sizes["mutants"] == f"{len(MUTANTS)} bugs"


def test_what_is_tried_over_supabase_is_a_part_and_make_battery_runs_it() -> None:
    (parts,) = tables("### Over Supabase")
    makefile = (DOCS.parent / "Makefile").read_text()

    assert {name for name, *_ in parts} <= PARTS.keys()
    assert f"--store supabase {' '.join(name for name, *_ in parts)}\n" in makefile


FIGURES = [
    f"at the latest {GRACE_SECONDS} seconds after the time limit of its run",
    f"for {ANSWER_KEPT_SECONDS // 3600} hours with the same payment and request",
    f"(a free re-run, at most {MAX_RERUNS})",
    f"Claude has begun within {Settings().first_content_seconds:.0f} s",
    f"at first every {PAUSE_SECONDS:.0f} s, later after a tenth of the row's age "
    f"({LONGEST_PAUSE_SECONDS:.0f} s at most)",
    f"Every worker beats every {BEAT_SECONDS:.0f} seconds. "
    f"Who has not beaten for {UNSEEN_SECONDS} seconds is gone",
    f"at the latest some {UNSEEN_SECONDS + BEAT_SECONDS:.0f} seconds after the death, "
    f"or {BEAT_SECONDS:.0f} after the start of a server",
    f"which needs {LEAST_SECONDS_LEFT} seconds left before `validBefore`",
    f"{DRAIN_MARGIN_SECONDS:.0f} seconds before the period's end",
    f"the run tries for {STORE_PATIENCE_SECONDS:.0f} seconds",
    f"Who waits for the chain waits {CONFIRM_SECONDS:.0f} seconds at most",
    f"does not take one event in {WRITE_SECONDS} seconds",
    f"has not ended {PATIENCE_SECONDS:.0f} seconds after the request",
]


@pytest.mark.parametrize("told", FIGURES)
def test_its_figures_are_ours(told: str) -> None:
    assert told in FLOWING


def anchors(page: Path) -> set[str]:
    """What a link may point at in a page."""
    headings = (line for line in page.read_text().splitlines() if line.startswith("#"))
    return {
        re.sub(r"[^a-z0-9 -]", "", each.lstrip("# ").lower()).replace(" ", "-") for each in headings
    }


@pytest.mark.parametrize("page", ["payments.md", "facilitators.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (DOCS / page).read_text())

    assert links
    for target, anchor in links:
        assert not anchor or anchor in anchors(DOCS / (target or page)), (target, anchor)
        assert (DOCS / target).exists(), target


def test_the_page_is_finished() -> None:
    assert "@@" not in PAGE
