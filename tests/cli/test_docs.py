"""What docs/cli.md tells creators is so."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click

from tests.cli.conftest import ROOT, Command, environment
from tests.cli.person import Person
from tests.cli.serving import served
from x402jobs.cli import main
from x402jobs.cli.place import place
from x402jobs.devkit.claude_server import ClaudeServer
from x402jobs.devkit.demo import Demo

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


def test_its_task_is_made_and_run_as_it_says(
    shop: Demo, claude: ClaudeServer, x402jobs: Command, tmp_path: Path
) -> None:
    (lines,) = blocks("sh")
    (tmp_path / "haiku.txt").write_text("Three lines.")
    claude.script({"text": "Quince, roof, gate."}, {"text": "Rain? No."})
    bob = Person(shop, x402jobs)

    ran = [bob.run(*shlex.split(line)[1:]) for line in lines.splitlines()]

    assert [each.stderr for each in ran if each.returncode] == []
    asked = [call["body"]["messages"][0]["content"] for call in claude.calls]
    assert ["No rain in it." in prompt for prompt in asked] == [False, True]
    plan = json.loads(ran[-1].stdout)["content"]
    assert re.findall(r"✅ \d. (.*) →", plan) == ["Find three images", "Write the haiku"]


def test_the_places_it_lists_are_places() -> None:
    (table,) = re.findall(r"\| COORDS \| \|\n\|---\|---\|\n((?:\|.*\n)+)", CLI)
    written = re.findall(r"^\| `(.*?)`", table, re.MULTILINE)

    assert len(written) == 6
    assert [place(click.Context(main), main.params[0], each) for each in written] == written


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
    rows = re.findall(
        r"^\| `((?:template|usage|integrations|profile|keys|tile|task)[a-z ]*)", CLI, re.MULTILINE
    )

    assert {"--price", "--pause", "--verify", "--yes", "--owner-test", "--rerun"} <= named
    assert named - {"--help"} <= flags(main)
    assert len(rows) == 15
    for row in rows:
        find(row.split())
