"""A Supabase project on this machine, to be used by hand or by one command.

python -m tests.supabase                     serve until Ctrl-C, and say what to export
python -m tests.supabase run COMMAND...      run a command over it, then end
python -m tests.supabase outages [--times N] stop and start its database under paid calls
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.supabase.postgres import of_the_wheel, postgres
from tests.supabase.rig import Rig, rig


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.supabase",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--wheel", action="store_true", help="the wheel's PostgreSQL, not the machine's"
    )
    doing = parser.add_subparsers(dest="doing")
    doing.add_parser("run").add_argument("command", nargs=argparse.REMAINDER)
    doing.add_parser("outages").add_argument("--times", type=int, default=30)
    asked = parser.parse_args()
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, _stop)
    programs = of_the_wheel() if asked.wheel else None
    try:
        if asked.doing == "outages":
            return _outages(programs, asked.times)
        with rig(programs) as running:
            if asked.doing == "run":
                return _run(running, asked.command)
            _show(running)
            while True:  # a signal that comes just before a wait without end would not end it
                time.sleep(1)
    except KeyboardInterrupt:
        return 0
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


def _stop(*_: object) -> None:
    """A second signal must not interrupt the cleaning up."""
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show(running: Rig) -> None:
    for name, value in running.environment.items():
        print(f"export {name}={value}")
    print(f"# its publishable key: {running.publishable_key}")
    print(f"# its database: {running.postgres.url(running.database)}")
    print(f"# an access token: POST an email and a password to {running.url}/auth/v1/signup")
    print("# Ctrl-C ends all of it.", flush=True)


def _run(running: Rig, command: list[str]) -> int:
    """The command's exit status; it hears of Ctrl-C by itself, and of SIGTERM through us."""
    process = subprocess.Popen(command, env={**os.environ, **running.environment})
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        return process.wait()
    finally:
        process.kill()
        process.wait()


def _outages(programs: Path | None, times: int) -> int:
    from tests.supabase.outages import outages

    with tempfile.TemporaryDirectory() as directory, postgres(programs) as server:
        report = outages(server, Path(directory), times)
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
