"""A whole run of the wire tests, and nothing planted in anything it has left behind:
`python -m tests.hostile.canaries [test …]`.

Runs the tests in a directory of their own, which keeps what every server and every nginx has
written: logs, databases with their WAL, temporary files. Then every file is searched for what the
servers were planted with, in all the forms of tests/wire/leaks.py. Prints how much was searched,
and every finding: a secret's name, a place, no content. Ends with status 1 where there is one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.wire.conftest import PLANTED_FILE, ROOT
from tests.wire.leaks import leaked

CHOSEN = ("secrets", "paying", "nginx", "resuming", "creators_day", "task_door", "json", "leaving")
RUN = "run"
OURS = {"wallet.key", "keys", "token-secret", PLANTED_FILE}
"""Files in which a secret of the embedded store or of a test has its place."""


def left_behind(directory: Path) -> Iterator[Path]:
    """Every file that a server, or what stood in front of it, has written.

    What a test keeps for itself, such as the program of a customer with a key in it, is none.
    """
    homes = {path.parent for path in directory.rglob(PLANTED_FILE)}
    for path in sorted(directory.rglob("*")):
        is_a_tests = path.is_relative_to(directory / RUN) and not homes & set(path.parents)
        if path.is_file() and not path.is_symlink() and not is_a_tests and path.name not in OURS:
            yield path


def planted(directory: Path) -> dict[str, str]:
    """What the servers of this run were planted with, each secret once."""
    found: dict[str, str] = {}
    for path in directory.rglob(PLANTED_FILE):
        secrets: Mapping[str, str] = json.loads(path.read_text())
        found |= {secret: f"{name} of {path.parent.name}" for name, secret in secrets.items()}
    return {name: secret for secret, name in found.items()}


def search(directory: Path) -> tuple[int, int, int, list[str]]:
    """How many files, bytes and secrets there were; a line for each secret found in a file."""
    secrets, files, size, findings = planted(directory), 0, 0, list[str]()
    for path in left_behind(directory):
        content = path.read_bytes()
        files, size = files + 1, size + len(content)
        found = leaked(secrets, content)
        findings += [f"{path.relative_to(directory)}: {each}" for each in found]
    return files, size, len(secrets), findings


def main() -> None:
    chosen = sys.argv[1:] or [f"tests/wire/test_{name}.py" for name in CHOSEN]
    with tempfile.TemporaryDirectory(prefix="canaries-") as place:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n0", *chosen]
            + ["--basetemp", f"{place}/{RUN}", "-o", "tmp_path_retention_policy=all"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": place},
        )
        files, size, secrets, findings = search(Path(place))
    print(f"{secrets} secrets, {files} files, {size / 1e6:.1f} MB; {len(findings)} findings")
    print("\n".join(findings[:40]))
    sys.exit(1 if findings or run.returncode or not secrets else 0)


if __name__ == "__main__":
    main()
