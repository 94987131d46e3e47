"""A Supabase project's functions, in a hurry or with a bug planted in them."""

from collections.abc import Mapping

from tests.beneath import Project

UNSEEN = "x402jobs.adapters.sqlite.ledger.UNSEEN_SECONDS"
NO_FENCE = {
    "and e.attempt = attempt_before and e.state = state_before": "",
    "values (stepped.id, answer)": "values (stepped.id, answer) on conflict (execution_id)"
    " do update set sealed_answer = excluded.sealed_answer",
}


def alter(project: Project, hurry: Mapping[str, float], bug: str | None) -> None:
    """What the processes of the embedded store change in themselves, changed in the database."""
    if (seconds := hurry.get(UNSEEN)) is not None:
        _replace(project, "x402_take_over", {"< moment - 15": f"< moment - {seconds}"})
    if bug == "no fence":
        _replace(project, "x402_swap", NO_FENCE)


def _replace(project: Project, function: str, changes: Mapping[str, str]) -> None:
    (found,) = project.sql(
        "select pg_get_functiondef(oid) as text from pg_proc where proname = %s", function
    )
    text = found["text"]
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    project.sql(text)
