"""What the README tells a newcomer is so."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import text_of
from tests.tools import need
from x402jobs.cli.template_file import parameters_of, read_template
from x402jobs.devkit.demo import Demo
from x402jobs.domain.money import parse_usdc
from x402jobs.domain.networks import DEVELOPMENT
from x402jobs.domain.template_draft import TemplateDraft

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ANSWER = "Rain taps the window.\nNobody is \u201chome\u201d. \U0001f327"

pytestmark = pytest.mark.wire


def example(language: str, demo: Demo) -> str:
    """The README's one example in this language, at the address of this demo."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return code.replace("http://127.0.0.1:4020", demo.url)


def output_of(*command: str, cwd: Path, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | variables
    ended = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    home = tmp_path_factory.mktemp("readme")
    with Demo(home / ".x402jobs", pace_ms=5, environ={"PATH": os.environ["PATH"]}) as demo:
        yield demo


@pytest.fixture(autouse=True)
def answer(demo: Demo) -> None:
    assert demo.claude is not None
    demo.claude.script({"text": ANSWER})


def test_the_python_example_pays_and_prints_the_answer(demo: Demo, tmp_path: Path) -> None:
    before = demo.ledger.balance(demo.wallet.address)

    printed = output_of(sys.executable, "-c", example("python", demo), cwd=demo.data.parent)

    assert printed == ANSWER
    assert demo.ledger.balance(demo.wallet.address) == before - 10_000


def test_the_javascript_example_prints_the_answer(demo: Demo, tmp_path: Path) -> None:
    node = need("node")
    (script := tmp_path / "example.mjs").write_text(example("javascript", demo))

    printed = output_of(node, str(script), cwd=tmp_path, TOKEN=demo.creator_token)

    assert printed == ANSWER


def test_the_curl_example_prints_events_as_they_are_written(demo: Demo, tmp_path: Path) -> None:
    need("curl")
    (command,) = re.findall(r"\$ (curl -N .*?\n.*?)\ndata:", README, re.DOTALL)
    command = command.replace("http://127.0.0.1:4020", demo.url)

    printed = output_of("sh", "-c", command, cwd=tmp_path, TOKEN=demo.creator_token)

    said = [json.loads(event.removeprefix("data: ")) for event in printed.split("\n\n")[:-1]]
    assert printed.startswith('data: {"type":"text","content":"Rain')
    assert text_of(said) == ANSWER


def test_the_template_in_the_readme_can_be_sold_as_it_stands(tmp_path: Path) -> None:
    (written,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (file := tmp_path / "limerick.toml").write_text(written)

    fields = read_template(str(file))
    draft = TemplateDraft(
        name=fields["name"],
        price=parse_usdc(fields["priceUsdc"]),
        system_prompt=fields["systemPrompt"],
        parameters=parameters_of(fields["systemPrompt"]),
    )

    assert set(fields) == {"name", "priceUsdc", "systemPrompt"}
    assert draft.warnings() == []
    draft.check()


def test_the_play_money_in_the_readme_is_the_one_we_use() -> None:
    assert DEVELOPMENT.token in README
    assert DEVELOPMENT.id in README


def test_the_readme_is_finished() -> None:
    assert "@@" not in README


def test_every_page_the_readme_names_is_there() -> None:
    for page in re.findall(r"`(docs/[^`]+|\.env\.example)`|\]\(([A-Z]+\.md)\)", README):
        assert (ROOT / (page[0] or page[1])).exists(), page
