"""Every import contract of setup.cfg holds, and fails when it is broken."""

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = Path(sys.executable).with_name("lint-imports")

setup_cfg = ConfigParser()
setup_cfg.read(ROOT / "setup.cfg", encoding="utf-8")
NAMES = {
    section.rpartition(":")[2]: setup_cfg[section]["name"]
    for section in setup_cfg.sections()
    if section.startswith("importlinter:contract:")
}

BREAKS = [
    ("inward", "domain/money.py", "import x402jobs.ports"),
    ("inward", "domain/money.py", "import x402jobs.services.runs"),
    ("inward", "ports.py", "import x402jobs.services"),
    ("inward", "services/iam.py", "from x402jobs.blueprints import line"),
    ("adapters", "adapters/clock.py", "import x402jobs.services.runs"),
    ("adapters", "adapters/claude/faults.py", "import x402jobs.wiring"),
    ("adapters", "adapters/sqlite/keys.py", "import x402jobs.blueprints.sse"),
    ("adapters", "adapters/tokens/local.py", "import x402jobs.devkit.wallet"),
    ("adapters", "adapters/limits/memory.py", "import x402jobs.app"),
    ("wiring", "services/runs.py", "from x402jobs.adapters.clock import SystemClock"),
    ("wiring", "blueprints/sse.py", "import x402jobs.wiring"),
    ("wiring", "blueprints/instant.py", "import x402jobs.devkit.wallet"),
    ("wiring", "domain/digest.py", "import x402jobs.adapters.sqlite.ledger"),
    ("frameworks", "services/iam.py", "from flask import request"),
    ("frameworks", "services/agentic.py", "def late():\n    import anthropic"),
    ("frameworks", "domain/payment.py", "import x402.schemas"),
    ("frameworks", "ports.py", "import sqlite3"),
    ("frameworks", "services/paygate.py", "import cryptography"),
    ("pure", "domain/execution.py", "import time"),
    ("pure", "domain/models.py", "from os import environ"),
    ("pure", "domain/transcript.py", "import structlog"),
    ("doors", "blueprints/sse.py", "import anthropic"),
    ("doors", "blueprints/line.py", "import httpx2"),
    ("doors", "blueprints/payment_headers.py", "from x402.http import utils"),
    ("doors", "blueprints/errors.py", "import sqlite3"),
    ("x402", "adapters/tokens/local.py", "import x402"),
    ("x402", "adapters/claude/speech.py", "from x402.schemas import PaymentPayload"),
    ("x402", "wiring.py", "import x402.http"),
    ("x402", "adapters/a_new_one.py", "import x402"),
    ("x402", "settings.py", "import x402"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its contracts, to be broken one at a time."""
    copy = tmp_path_factory.mktemp("contracts")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "x402jobs", copy / "x402jobs", ignore=skip)
    shutil.copy(ROOT / "setup.cfg", copy)
    return copy


def lint(copy):
    """The exit code, and the contracts that were found broken and kept."""
    done = subprocess.run(
        [LINT, "--no-cache"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout.splitlines()

    def named(verdict):
        return {
            name
            for name in NAMES.values()
            if any(line.startswith(f"{name} {verdict}") for line in said)
        }

    return done.returncode, named("BROKEN"), named("KEPT")


def test_the_package_keeps_every_contract(copy):
    assert lint(copy) == (0, set(), set(NAMES.values()))


def test_each_contract_is_broken_here_at_least_once():
    assert {contract for contract, _, _ in BREAKS} == set(NAMES)


@pytest.mark.parametrize(("contract", "path", "offence"), BREAKS)
def test_an_import_that_breaks_a_contract_is_found(copy, contract, path, offence):
    module = copy / "x402jobs" / path
    before = module.read_bytes() if module.exists() else None
    try:
        module.write_text((before or b"").decode() + f"\n\n{offence}\n")

        code, broken, _ = lint(copy)
    finally:
        if before is None:
            module.unlink()
        else:
            module.write_bytes(before)

    assert code == 1
    assert NAMES[contract] in broken
