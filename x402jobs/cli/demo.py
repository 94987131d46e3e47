"""The demo on the terminal: a paid call and a task, step by step, then a shop to play with."""

import base64
import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from x402jobs.cli.answer import events, parse, receipt_lines
from x402jobs.cli.options import data_option
from x402jobs.cli.terminal import complain, plain
from x402jobs.domain.money import as_usdc
from x402jobs.domain.secret import Secret
from x402jobs.settings import Settings

if TYPE_CHECKING:
    from x402jobs.devkit.demo import Demo

TOPIC = "autumn rain"
STEP_SECONDS = 60
INDENT = "   "
TEXT_IN = {"text": "content", "text_delta": "text"}
"""Where the events of each door have their words."""


@click.command()
@click.option(
    "--port",
    default=4020,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port on 127.0.0.1; 0 is any free one.",
)
@click.option("--once", is_flag=True, help="End after both: 0 only if all of it came true.")
@click.option("--no-call", is_flag=True, help="Only serve.")
@click.option("--json", "as_json", is_flag=True, help="With --no-call: say where, for a script.")
@data_option
@click.pass_context
def demo(
    context: click.Context, port: int, once: bool, no_call: bool, as_json: bool, data: Path
) -> None:
    """Serve a template on this machine, buy one answer from it live, and run a task.

    Claude is played by a stand-in, unless ANTHROPIC_API_KEY is set: then it is the real one, and
    the key is kept, sealed, in the data directory.

    With --json --no-call the first line of the output is a JSON object with url, templateUrl,
    creatorToken, walletKey, claudeUrl and claudeControlUrl, printed once the server answers. Over
    Supabase, which issues the tokens, creatorToken is null.
    """
    if once and no_call:
        raise click.UsageError("--once and --no-call exclude each other.")
    if as_json and not no_call:
        raise click.UsageError("--json goes with --no-call.")
    from x402jobs.devkit.demo import Demo, DemoError

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)  # not during the imports: until here there is no child
    key = os.environ.get("ANTHROPIC_API_KEY")
    try:
        with Demo(data, port, claude_key=Secret(key) if key else None) as running:
            if as_json:
                click.echo(json.dumps(_facts(running)))
            else:
                _introduce(running)
            if not no_call:
                _buy(running)
                _run_task(running)
            if once:
                return
            if not as_json:
                _go_on(running, data)
            _serve(running)
    except KeyboardInterrupt:
        if not no_call:  # the call was to be seen to its end
            raise
    except DemoError as error:
        complain(str(error))
        context.exit(1)


def _interrupt(*_: object) -> None:
    """Stop, whichever signal asked for it; a second one must not interrupt the cleaning up."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _facts(running: "Demo") -> dict[str, Any]:
    claude = running.claude
    return {
        "url": running.url,
        "templateUrl": running.template_url,
        "creatorToken": running.creator_token if running.settings.is_embedded else None,
        "walletKey": running.wallet.key.reveal(),
        "claudeUrl": claude.url if claude else None,
        "claudeControlUrl": claude.control_url if claude else None,
    }


def _introduce(running: "Demo") -> None:
    from x402jobs.devkit.demo import TASK

    if running.claude:
        claude = f"a stand-in at {running.claude.url}; set ANTHROPIC_API_KEY to ask the real one"
    else:
        claude = f"the real one, {urlsplit(running.settings.claude_url).netloc}, with your key"
    click.echo()
    click.secho("x402jobs demo", bold=True)
    click.echo()
    _table(
        ("server", running.url),
        ("template", "/@ada/haiku, by ada, 0.01 USDC an answer"),
        ("task", f"{TASK} on ada's map: a tile of two steps, and one to know"),
        ("Claude", claude),
        ("money", "development dollars: real signatures, no value"),
        ("store", running.settings.supabase_url or "embedded"),
        ("data", f"{running.data}, with the server's log in {running.log.name}"),
    )


def _buy(running: "Demo") -> None:
    """One paid call, nothing hidden. Raises DemoError unless all of it comes true."""
    import requests

    from x402jobs.devkit.demo import PRICE, DemoError
    from x402jobs.devkit.wallet import sign

    payer, payee = running.wallet.address, running.creator_wallet.address
    before = [running.ledger.balance(each) for each in (payer, payee)]
    body = {"topic": TOPIC}
    with requests.Session() as session:
        session.trust_env = False  # no proxy between us and ourselves
        _step(1, "Ask without paying")
        click.echo(f"{INDENT}POST {running.template_url}\n{INDENT}{json.dumps(body)}")
        with session.post(running.template_url, json=body, timeout=STEP_SECONDS) as quote:
            if quote.status_code != 402:
                raise DemoError(f"the price was not told: {_sentence(quote)}")
            document = parse(base64.b64decode(quote.headers["PAYMENT-REQUIRED"]))
        (offer,) = document["accepts"]

        _step(2, "Be told the price")
        click.echo(f"{INDENT}402 Payment Required")
        _table(
            ("price", f"{as_usdc(int(offer['amount']))} {offer['extra']['name']}"),
            ("network", offer["network"]),
            ("pay to", f"{offer['payTo']} (ada)"),
        )

        _step(3, "Sign a payment and ask again")
        signature = sign(running.wallet, document)
        _table(
            ("signed by", f"{payer} (your demo wallet, {running.data / 'wallet.key'})"),
            ("sent as", f"PAYMENT-SIGNATURE: {signature[:24]}… ({len(signature)} characters)"),
        )
        headers = {"PAYMENT-SIGNATURE": signature}
        with session.post(
            running.template_url, json=body, headers=headers, stream=True, timeout=STEP_SECONDS
        ) as answer:
            if answer.status_code != 200:
                raise DemoError(f"the answer was not sold: {_sentence(answer)}")
            _step(4, "Read the answer as it is written")
            ending = _read(answer)

    _step(5, "Keep the receipt")
    if ending.get("type") != "done":
        raise DemoError(f"the answer did not finish: {ending.get('message', 'no last event')}")
    for line in receipt_lines(ending["receipt"]):
        click.echo(f"{INDENT}{plain(line)}")
    click.echo(f"{INDENT}answered by  {plain(ending['model'])}, in {ending['durationMs']} ms")

    after = [running.ledger.balance(each) for each in (payer, payee)]
    _step(6, "See the money move")
    click.echo(f"{INDENT}{'':8}{'before':>12}{'after':>12}")
    for name, was, now in zip(("you", "ada"), before, after, strict=True):
        moved = f"{'-' if now < was else '+'}{as_usdc(abs(now - was))}"
        click.echo(f"{INDENT}{name:8}{as_usdc(was):>12}{as_usdc(now):>12}{moved:>10}")
    if after != [before[0] - PRICE, before[1] + PRICE]:
        raise DemoError("the balances did not move by exactly the price")


def _run_task(running: "Demo") -> None:
    """One run of the creator's own task, which costs nobody but their Claude account anything.

    Raises DemoError unless it ends well. A rerun, because earlier demos may have done all steps.
    """
    import requests

    from x402jobs.devkit.demo import DemoError

    with requests.Session() as session:
        session.trust_env = False
        session.headers.update(running.creator_headers)
        url = f"{running.task_url}&rerun=true"
        _step(7, "Run a task: ada's own tiles, with her own key")
        click.echo(f"{INDENT}GET {url}\n")
        with session.get(url, stream=True, timeout=STEP_SECONDS) as answer:
            if answer.status_code != 200:
                raise DemoError(f"the task was not run: {_sentence(answer)}")
            ending = _read(answer)
        if ending.get("type") != "done":
            raise DemoError(f"the task did not finish: {ending.get('message', 'no last event')}")
        took = f"{ending['totalTokens']} tokens, in {ending['durationMs']} ms"
        click.echo(f"\n{INDENT}{plain(took)}")

        _step(8, "See its plan go on")
        plan = session.get(f"{running.url}/api/tiles/{running.task_coords},0", timeout=STEP_SECONDS)
        if plan.status_code != 200:
            raise DemoError(f"the plan was not shown: {_sentence(plan)}")
    for line in parse(plan.content)["content"].splitlines():
        if not line.startswith(" "):  # the notes repeat what was just read
            click.echo(f"{INDENT}{plain(line)}")
    click.echo()


def _read(answer: Any) -> dict[str, Any]:
    """Print the words as they arrive; the last event."""
    event: dict[str, Any] = {}
    click.echo(INDENT, nl=False)
    for data in events(answer.iter_content(chunk_size=None)):
        event = parse(data)
        if (name := TEXT_IN.get(event.get("type", ""))) is not None:
            words = plain(event[name]).replace("\n", f"\n{INDENT}")
            click.secho(words, fg="cyan", nl=False)
    click.echo()
    return event


def _go_on(running: "Demo", data: Path) -> None:
    """The lines to type next; each works as it is printed."""
    from x402jobs.devkit.demo import PURPOSE, TASK

    ours = _command()
    elsewhere = "" if data == _default_data() else f" --data {shlex.quote(str(data))}"
    url, body = running.template_url, shlex.quote(json.dumps({"topic": TOPIC}))
    posted = f"-H 'Content-Type: application/json' -d {body} {url}"
    where = "Go on, in another terminal"
    own = f"{ours} task run {TASK} --as ada --url {running.url}{elsewhere}"
    ask, has = f"TOKEN=$({ours} token ada{elsewhere})", '-H "Authorization: Bearer $TOKEN"'
    test = f"{ask}\ncurl -N -H 'X-OWNER-TEST: true' {has} {posted}"
    lines = [
        ("The price", f"curl -i {posted}"),
        ("The answer, free of charge for its creator (an owner test)", test),
        ("The answer, paid", f"{ours} call {url} -p topic={shlex.quote(TOPIC)}{elsewhere}"),
        ("Her task, its next step", own),
        ("The same, as a program of hers asks", f"{ask}\ncurl -N {has} '{running.task_url}'"),
    ]
    if not running.settings.is_embedded:  # Supabase Auth issues the tokens: no test, no --as
        where += " with the same SUPABASE_URL and SUPABASE_SECRET_KEY"
        ask = f"KEY=$({ours} keys internal ada --purpose {PURPOSE}{elsewhere})"
        run = f"{ask}\ncurl -N -H \"x-api-key: $KEY\" '{running.task_url}'"
        lines = [lines[0], lines[2], ("Her task, as a program of hers asks", run)]
    click.secho(where, bold=True)
    for title, line in lines:
        click.echo(f"\n{INDENT}{title}:")
        for each in line.splitlines():
            click.echo(f"{INDENT}{click.style(each, fg='green')}")
    click.echo("\nServing until Ctrl-C.")


def _serve(running: "Demo") -> None:
    """Wait to be stopped. Raises DemoError when the server ends by itself."""
    from x402jobs.devkit.demo import DemoError

    try:
        running.process.wait()
    except KeyboardInterrupt:
        return
    raise DemoError(f"the server has ended; its log is {running.log}")


def _command() -> str:
    """How this command is called from where we are."""
    script = Path(sys.argv[0])
    if script.name != "x402jobs":
        return f"{shlex.quote(sys.executable)} -m x402jobs"
    return "x402jobs" if shutil.which("x402jobs") else shlex.quote(str(script))


def _default_data() -> Path:
    return Path(os.environ.get("X402JOBS_DATA") or Settings().data)


def _sentence(reply: Any) -> str:
    body = parse(reply.content)
    return plain(str(body.get("message") or body.get("error") or f"status {reply.status_code}"))


def _step(number: int, title: str) -> None:
    click.echo(f"\n{click.style(f'{number}  {title}', bold=True)}")


def _table(*rows: tuple[str, str]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        click.echo(f"{INDENT}{click.style(name.ljust(width), dim=True)}{plain(text)}")
