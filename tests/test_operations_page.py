"""What docs/operations.md names is there: every reason, every metric, every command and place."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from x402jobs import metrics
from x402jobs.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operations.md").read_text()
SOURCES = sorted((ROOT / "x402jobs").rglob("*.py"))
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def sections(level: str, within: str = PAGE) -> dict[str, str]:
    parts = re.split(rf"^{level} (.+)$", within, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


RUNBOOK = sections("##")["When /readyz says 503"]


def table_of_readiness() -> dict[str, list[str]]:
    """Each check and its reasons, by the page about the doors."""
    readiness = sections("##", (ROOT / "docs/http-api.md").read_text())["Readiness"]
    rows = [line.strip("| ").split(" | ") for line in readiness.splitlines() if "| `" in line]
    return {row[0].strip("`"): re.findall(r"`([a-z_]+)`", row[1]) for row in rows}


def test_each_check_of_readiness_has_a_section_that_says_what_to_do_for_each_reason() -> None:
    told = sections("###", RUNBOOK)

    checks = table_of_readiness()
    assert set(told) == set(checks)
    for check, reasons in checks.items():
        for reason in reasons:
            assert f"`{reason}`" in told[check], f"{check}: {reason}"


def test_every_reason_in_the_code_is_in_the_runbook() -> None:
    code = "\n".join(path.read_text() for path in SOURCES)
    reasons = set(re.findall(r"""\bTrouble\(\s*"([a-z_]+)\"""", code))

    assert len(reasons) > 10
    assert {reason for reason in reasons if f"`{reason}`" not in RUNBOOK} == set()


def test_every_metric_it_names_is_counted_and_by_those_labels() -> None:
    families = {family.name: family for family in REGISTRY.collect()}
    assert metrics.REQUESTS._labelnames  # imported: the registry is full
    named = re.findall(r"\b(x402jobs_[a-z_]+)(?:\{([^}]*)\})?", PAGE)

    assert len(named) > 10
    for name, labels in named:
        bare = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        family = families.get(bare)
        assert family is not None, f"{name} is no metric"
        wanted = re.findall(r"(\w+)=", labels)
        assert set(wanted) <= set(labels_of(bare)), f"{name} has no such label"
        is_counter = family.type == "counter"
        assert name.endswith("_total") == is_counter, f"{name} is not what is scraped"
        assert name.endswith("_bucket") == (family.type == "histogram")


def labels_of(name: str) -> tuple[str, ...]:
    known = {each._name: each._labelnames for each in vars(metrics).values() if _counts(each)}
    return known[name]


def _counts(each: object) -> bool:
    return hasattr(each, "_labelnames") and hasattr(each, "_name")


def test_every_alert_has_a_way_on() -> None:
    rows = [line for line in sections("##")["Alerts to set"].splitlines() if line.count("|") > 4]
    targets = {
        "#" + re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    }

    links = re.findall(r"\]\((#[^)]+)\)", PAGE)
    assert len(rows) > 10
    assert set(links) <= targets


COMMANDS = set(re.findall(r"(?:^|`)x402jobs ([a-z]+)(?: ([a-z]+))?", PAGE, flags=re.MULTILINE))


@pytest.mark.parametrize(("noun", "verb"), sorted(COMMANDS))
def test_every_command_it_names_is_there(noun: str, verb: str) -> None:
    below = getattr(main.commands[noun], "commands", {})

    assert (verb in below) if below else not verb


@pytest.mark.parametrize("line", re.findall(r"`([a-z]+_[a-z_]+)`", sections("##")["Logs"]))
def test_every_line_of_the_log_it_explains_is_written_somewhere(line: str) -> None:
    code = "\n".join(path.read_text() for path in SOURCES)

    assert f'"{line}"' in code
