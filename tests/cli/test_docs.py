"""What docs/cli.md tells creators is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click

from tests.cli.conftest import ROOT, environment
from tests.cli.serving import served
from x402jobs.cli import main
from x402jobs.devkit.claude_server import ClaudeServer

CLI = (ROOT / "docs" / "cli.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", CLI, re.DOTALL)


def test_its_lines_lead_from_nothing_to_a_template_that_answers(
    claude: ClaudeServer, tmp_path: Path
) -> None:
    (lines,), (file,) = blocks("console"), blocks("toml")
    (tmp_path / "haiku.toml").write_text(file)
    typed = "\n".join(line.removeprefix("$ ") for line in lines.splitlines())
    ours = f'x402jobs() {{ {shlex.quote(sys.executable)} -m x402jobs "$@"; }}'
    claude.script({"text": "Rain, and nobody home.", "deltaMs": 0})

    with served(tmp_path, claude) as url:
        ended = subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                f"{ours}\n{typed}".replace("http://127.0.0.1:4020", url),
            ],
            cwd=tmp_path,
            env=environment(ANTHROPIC_API_KEY="sk-planted", X402JOBS_URL=url, X402JOBS_DATA="data"),
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert ended.returncode == 0, ended.stderr
    assert '"type":"done"' in ended.stdout
    assert '"tests": 1' in ended.stdout.splitlines()[-1]
    assert "sk-planted" not in ended.stdout + ended.stderr


def test_every_command_and_flag_it_names_is_there() -> None:
    def flags(command: click.Command) -> set[str]:
        inner = command.commands.values() if isinstance(command, click.Group) else []
        own = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
        return own.union(*map(flags, inner))

    def find(words: list[str]) -> click.Command:
        command: click.Command = main
        for word in words:
            assert isinstance(command, click.Group)
            command = command.commands[word]
        return command

    named = set(re.findall(r"--[a-z][a-z-]+", CLI))
    rows = re.findall(r"^\| `((?:template|usage|integrations|profile)[a-z ]*)", CLI, re.MULTILINE)

    assert {"--price", "--pause", "--verify", "--yes", "--owner-test"} <= named
    assert named - {"--help"} <= flags(main)
    assert len(rows) == 9
    for row in rows:
        find(row.split())
