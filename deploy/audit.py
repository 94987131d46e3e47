"""`make audit`: what goes into the image, held against its lock, its licences and what is known."""

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy import licences
from deploy.lock import BUILD, ROOT, RUNTIME, pins
from x402jobs.version import VERSION

BUILT = ROOT / "build"
BILL = BUILT / "sbom.json"
INSTALLED = BUILT / "audited"
"""An environment of what the lock names and nothing else, as in the image."""


class Fault(Exception):
    """A check that has not passed; the lines are for whoever ran it."""


def dockerfile() -> str:
    """The recipe is in the form that its linter knows as sound."""
    linted = _run(_script("hadolint"), "Dockerfile")
    if linted.returncode:
        raise Fault(linted.stdout.strip() or linted.stderr.strip())
    return "hadolint has nothing to say"


def hashes() -> str:
    """Everything in the lock is to be had, byte for byte what it was."""
    shutil.rmtree(INSTALLED, ignore_errors=True)
    made = _run(sys.executable, "-m", "venv", "--without-pip", str(INSTALLED))
    if made.returncode:
        raise Fault(made.stderr.strip())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    pip += ["--python", str(INSTALLED / "bin" / "python"), "install"]
    installed = _run(*pip, "--require-hashes", "--only-binary", ":all:", "--requirement", RUNTIME)
    if installed.returncode:
        raise Fault(installed.stderr.strip())
    return f"{len(pins(RUNTIME.read_text()))} packages are what they were when they were locked"


def bill_of_materials() -> str:
    """CycloneDX's list of what was installed just now, with ourselves on top of it."""
    written = _run(
        *(_script("cyclonedx-py"), "environment", INSTALLED / "bin" / "python"),
        *("--spec-version", "1.6", "--output-reproducible", "--output-file", BILL),
    )
    if written.returncode:
        raise Fault(written.stderr.strip())
    bill = json.loads(BILL.read_text())
    bill["metadata"]["component"] = {
        "type": "application",
        "bom-ref": "x402jobs",
        "name": "x402jobs",
        "version": VERSION,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    BILL.write_text(json.dumps(bill, indent=2) + "\n")
    return f"{BILL.relative_to(ROOT)}, {len(bill['components'])} packages"


def allowed() -> str:
    """Every package may be shipped (deploy/licences.py)."""
    bill = json.loads(BILL.read_text())
    if refused := licences.faults(bill):
        ask = "not in deploy/licences.py: read it, then allow it there or do without the package"
        raise Fault("\n".join([*refused, ask]))
    return f"{len(bill['components'])} packages, each under one that deploy/licences.py allows"


def vulnerabilities() -> str:
    """No package is known to be vulnerable, to a service that was asked and has answered."""
    asked = _run(
        *(_script("pip-audit"), "--format", "json", "--progress-spinner", "off"),
        *("--disable-pip", "--require-hashes", "--requirement", RUNTIME, "--requirement", BUILD),
    )
    try:
        answers: Sequence[Mapping[str, Any]] = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = asked.stderr.strip().splitlines()[-1:]
        raise Fault("\n".join(["NOT CHECKED: pip-audit could not ask.", *why])) from None
    return judged(answers)


def judged(answers: Sequence[Mapping[str, Any]]) -> str:
    """What pip-audit's answers come to. It passes over a package that its service does not know,
    as it does over all of them where the service cannot be reached; here that is a fault."""
    known = [
        f"{each['name']} {each['version']}: {found['id']}, "
        f"mended in {', '.join(found['fix_versions']) or 'no version'}"
        for each in answers
        for found in each.get("vulns", [])
    ]
    unanswered = [each["name"] for each in answers if "skip_reason" in each]
    if unanswered or not answers:
        known.append(
            f"NOT CHECKED: {len(unanswered)} of {len(answers)} packages. The service of "
            "advisories had no answer about them; run this where pip-audit can reach it."
        )
    if known:
        raise Fault("\n".join(known))
    return f"none known of {len(answers)} packages"


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("Dockerfile", dockerfile),
    ("hashes", hashes),
    ("bill of materials", bill_of_materials),
    ("licences", allowed),
    ("vulnerabilities", vulnerabilities),
)


def audit(checks: Sequence[tuple[str, Callable[[], str]]] = CHECKS) -> int:
    """Do every check, say a line about each, and count those that have not passed."""
    failed = 0
    for name, check in checks:
        try:
            print(f"ok    {name}: {check()}", flush=True)
        except Fault as fault:
            failed += 1
            print(f"FAIL  {name}:", *str(fault).splitlines(), sep="\n      ", flush=True)
    return failed


def _script(name: str) -> str:
    """A program that the extra `audit` brings."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


if __name__ == "__main__":
    BUILT.mkdir(exist_ok=True)
    sys.exit(1 if audit() else 0)
