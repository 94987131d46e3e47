"""The task door from the pages of a real browser: who may run a task, and who comes back."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.nginx import certificate
from tests.tools import need
from tests.waiting import eventually
from tests.wire.account import DOOR, Account, behind_nginx, documented, printed, prompts
from tests.wire.chromium import Chromium, Page, Visitor, chromium
from tests.wire.conftest import HEARTBEAT_SECONDS, Server
from tests.wire.test_leaving import released_after
from x402jobs.devkit.wallet import Wallet

pytestmark = pytest.mark.wire

WORDS = "The gutters are “clean”.\nNobody fell \U0001f327."
SILENT_AFTER_THREE = {"text": "one two three four", "afterDeltas": 3, "stallSeconds": 60}
BROKEN = {"text": "one two three", "errorEvent": "overloaded_error", "afterDeltas": 2}
BUSY = [{"status": 429, "headers": {"retry-after": "0"}}] * 3
SIGN_IN, RUN_TASK = documented("Browsers", "javascript")
ANY_PAGE = "/healthz"
"""A page of the service's own; what it shows does not matter, where it comes from does."""


@dataclass(frozen=True)
class Place:
    """A running shop, and other people's pages: their origins, one of them named to the shop."""

    server: Server
    browser: Chromium
    neighbour: str
    """The same host on another port: its pages send our cookies, `SameSite` or not."""
    elsewhere: str
    frontend: str
    """A neighbour too, in FRONTEND_ORIGINS."""


class BlankPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>blank</title>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def blank_pages(directory: Path) -> Iterator[int]:
    """A port of this machine, under each of its names, on which there are nothing but pages."""
    (file := directory / "pages.pem").write_bytes(certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as pages:
        # A connection opened in advance shakes hands in a thread of its own, or never.
        pages.socket = context.wrap_socket(
            pages.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=partial(pages.serve_forever, 0.05))
        thread.start()
        try:
            yield pages.server_port
        finally:
            pages.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        stranger = stack.enter_context(blank_pages(tmp_path_factory.mktemp("stranger")))
        named = stack.enter_context(blank_pages(tmp_path_factory.mktemp("named")))
        frontend = f"https://127.0.0.1:{named}"
        server = stack.enter_context(
            behind_nginx(tmp_path_factory.mktemp("shop"), FRONTEND_ORIGINS=frontend)
        )
        # Last, and so the first to go: nobody waits for its connections then.
        browser = stack.enter_context(chromium(tmp_path_factory.mktemp("profile")))
        yield Place(
            server=server,
            browser=browser,
            neighbour=f"https://127.0.0.1:{stranger}",
            elsewhere=f"https://localhost:{stranger}",
            frontend=frontend,
        )


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    """Nothing is started in vain, and each test says what it lacks."""
    for program in ("chromium", "nginx"):
        need(program)
    everybody: Place = request.getfixturevalue("everybody")
    return everybody


@pytest.fixture
def server(place: Place, tmp_path: Path) -> Server:
    return place.server.visit(Wallet.open(tmp_path / "wallet.key"))


@pytest.fixture
def account(server: Server) -> Account:
    server.claude.script(*[{"text": WORDS}] * 9)
    return Account.at(server)


@pytest.fixture
def visitor(place: Place) -> Iterator[Visitor]:
    with place.browser.visitor() as visitor:
        yield visitor


@pytest.fixture
def page(visitor: Visitor, account: Account) -> Page:
    """A page of the service's own, of somebody who has signed in there as docs/tasks.md says."""
    page = visitor.page(account.server.url + ANY_PAGE)
    token = json.dumps(account.bearer.removeprefix("Bearer "))
    page.run(f"(async () => {{ const token = {token};\n{SIGN_IN} }})()")
    assert page.run("document.cookie") == "", "no script can read it"
    return page


def source(url: str) -> str:
    """A script: an EventSource that writes down all it hears, and is never closed."""
    return f"""
      var heard = [], opened = 0;
      var source = new EventSource({json.dumps(url)}, {{ withCredentials: true }});
      source.onopen = () => opened += 1;
      source.onmessage = ({{ data }}) => heard.push(JSON.parse(data));
    """


def heard(page: Page, kind: str) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = page.run("heard")
    return [event for event in said if event["type"] == kind]


def text_heard(page: Page) -> str:
    return "".join(event["text"] for event in heard(page, "text_delta"))


def is_closed(page: Page) -> bool:
    """Whether the browser has given up by itself."""
    return bool(page.run("source.readyState === EventSource.CLOSED"))


# Seed 3's examples


def test_the_event_source_of_seed_3_runs_as_printed(account: Account, page: Page) -> None:
    """Its heartbeats, while Claude is silent, it never hears of."""
    account.server.claude.script({"text": WORDS, "afterDeltas": 2, "stallSeconds": 1.3})
    task = account.tile("1", "Clean the gutters")

    page.run(printed("event_source.js", coords=task))

    assert eventually(lambda: page.run("eventSource.readyState === EventSource.CLOSED"), 10)
    *texts, complete = page.console
    assert {text[0] for text in texts} == {"Text:"}
    assert "".join(text[1] for text in texts) == WORDS
    assert [complete[0], complete[2], complete[4]] == ["Complete:", "tokens in", "ms"]
    assert complete[1] > 0 and complete[3] > 1300
    (prompt,) = prompts(account.server)
    assert "Focus on error handling" in prompt


def test_the_event_source_of_seed_3_tells_an_error(account: Account, page: Page) -> None:
    page.run(printed("event_source.js", coords=f"{account.id},0:5"))

    assert eventually(lambda: page.run("eventSource.readyState === EventSource.CLOSED"))
    assert page.console[0][:2] == ["Error:", "UNKNOWN"]


@pytest.mark.parametrize("kind", ["external", "internal"])
def test_the_fetch_of_seed_3_runs_as_printed(account: Account, visitor: Visitor, kind: str) -> None:
    key, hint = account.api_key(), "user-id-hint"
    if kind == "internal":
        key, hint = account.internal_key(), account.id
    url = account.door(account.tile("1", "Clean the gutters"))
    example = printed("fetch.js", key=key, hint=hint, handled="console.log(JSON.stringify(event));")
    page = visitor.page(account.server.url + ANY_PAGE)

    page.run(f"(async () => {{ const url = new URL({json.dumps(url)});\n{example} }})()")

    said = [json.loads(line) for (line,) in page.console]
    assert "".join(event["text"] for event in said[:-1]) == WORDS
    assert said[-1]["type"] == "done"


# The example of docs/tasks.md


def run_task(task: str) -> str:
    """A script: the page's example, whose last event is then in `last`; it does not wait long."""
    return f"""
      var shown = [], waits = [], sources = [], last, sleep = setTimeout;
      window.EventSource = class extends EventSource {{
        constructor(url) {{ super(url); sources.push(this); }}
      }};
      window.setTimeout = (go, ms) => {{ waits.push(ms); sleep(go, 10); }};
      {RUN_TASK}
      runTask({{ taskCoords: {json.dumps(task)} }}, text => shown.push(text))
        .then(event => last = event);
      undefined
    """


def test_the_example_shows_the_answer_as_it_grows(account: Account, page: Page) -> None:
    account.server.claude.script({"text": WORDS, "deltaMs": 30})

    page.run(run_task(account.tile("1", "Clean the gutters")))

    assert eventually(lambda: page.run("last"))["type"] == "done"
    first, *shown = page.run("shown")
    assert (first, shown[-1], shown) == ("", WORDS, sorted(shown, key=len))
    assert len(shown) > 1
    assert len(account.server.claude.calls) == 1
    assert page.run("sources.map(source => source.readyState === EventSource.CLOSED)") == [True]


def test_the_example_waits_and_asks_again_after_what_is_recoverable(
    account: Account, page: Page
) -> None:
    account.server.claude.script(*BUSY, BROKEN, {"text": WORDS})

    page.run(run_task(account.tile("1", "Clean the gutters")))

    assert eventually(lambda: page.run("last"), 10)["type"] == "done"
    assert page.run("shown.at(-1)") == WORDS
    first, second = page.run("waits")
    assert 1000 <= first <= 3000 and 2000 <= second <= 6000
    assert len(account.server.rows()) == 3


def test_the_example_gives_up_where_asking_again_does_not_help(
    account: Account, visitor: Visitor
) -> None:
    """Nobody has signed in."""
    page = visitor.page(account.server.url + ANY_PAGE)

    page.run(run_task(account.tile("1", "Clean the gutters")))

    assert eventually(lambda: page.run("last")) == {
        "type": "error",
        "code": 401,
        "recoverable": False,
    }
    assert page.run("waits") == []


def test_the_example_ends_claudes_stream_when_its_page_is_left(
    account: Account, page: Page
) -> None:
    """The browser keeps the page, to go back to, and would keep the stream."""
    account.server.claude.script(SILENT_AFTER_THREE)
    page.run(run_task(account.tile("1", "Clean the gutters")))
    assert eventually(lambda: page.run("shown.at(-1)") == "one two three")

    page.open("about:blank")
    left = time.time()

    assert released_after(account.server, left) < HEARTBEAT_SECONDS + 1


# Leaving, and coming back


LEAVING: dict[str, Callable[[Page], None]] = {
    "the source is closed": lambda page: page.run("source.close()"),
    "the tab is closed": Page.close,
}


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
def test_who_leaves_ends_claudes_stream(
    account: Account, page: Page, leave: Callable[[Page], None]
) -> None:
    account.server.claude.script(SILENT_AFTER_THREE)
    page.run(source(account.door(account.tile("1", "Clean the gutters"))))
    assert eventually(lambda: text_heard(page) == "one two three")
    assert not account.server.call()["hungUp"]

    leave(page)
    left = time.time()

    assert released_after(account.server, left) < HEARTBEAT_SECONDS + 1


def test_who_never_closes_hears_the_end_again_and_runs_nothing_twice(
    account: Account, page: Page
) -> None:
    page.run(source(account.door(account.tile("1", "Clean the gutters"))))

    assert eventually(lambda: page.run("opened") == 2 and len(heard(page, "done")) == 2, 15)
    assert text_heard(page) == WORDS
    first, again = heard(page, "done")
    assert first == again
    assert len(account.server.claude.calls) == len(account.server.rows()) == 1


def test_who_never_closes_after_an_error_is_sent_away_and_runs_nothing_twice(
    account: Account, page: Page
) -> None:
    """Seed 3's own loop does not close after what is recoverable; 204 ends it."""
    account.server.claude.script(BROKEN, {"text": WORDS})

    page.run(source(account.door(account.tile("1", "Clean the gutters"))))

    assert eventually(lambda: heard(page, "error"))
    assert eventually(lambda: is_closed(page), 15)
    (error,) = heard(page, "error")
    assert (error["code"], error["recoverable"]) == ("RATE_LIMIT", True)
    assert page.run("opened") == 1
    assert len(account.server.claude.calls) == len(account.server.rows()) == 1


# Whose pages may


def ask(url: str, **options: Any) -> str:
    """A script: ask as any page can ask any address, whatever it may read of the reply."""
    sent = json.dumps({"mode": "no-cors", "credentials": "include"} | options)
    return f"fetch({json.dumps(url)}, {sent}).then(() => undefined)"


ATTACKS: dict[str, Callable[[str, str], str]] = {
    "fetch": lambda url, task: ask(url),
    "fetch, POST": lambda url, task: ask(
        url.partition("?")[0], method="POST", body=json.dumps({"taskCoords": task})
    ),
    "EventSource": lambda url, task: (
        source(url) + "new Promise(refused => source.onerror = () => refused())"
    ),
    "image": lambda url, task: (
        f"new Promise(refused => {{ const image = new Image(); image.onerror = () => refused();"
        f" image.src = {json.dumps(url)} }})"
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_neighbours_page_cannot_run_a_task_with_our_cookie(
    place: Place, account: Account, page: Page, visitor: Visitor, attack: Callable[[str, str], str]
) -> None:
    task = account.tile("1", "Clean the gutters")
    stranger, before = visitor.page(place.neighbour), len(statuses(account.server))

    stranger.run(attack(account.door(task), task))

    assert eventually(lambda: statuses(account.server)[before:]) == ["403"], "or without the cookie"
    assert (account.server.claude.calls, account.server.rows()) == ([], [])
    page.run(source(account.door(task)))
    assert eventually(lambda: heard(page, "done")), "the owner's own page can"


@pytest.mark.parametrize("origin", ["neighbour", "elsewhere"])
def test_a_link_on_another_site_runs_nothing(
    place: Place, account: Account, page: Page, visitor: Visitor, origin: str
) -> None:
    """A link takes the cookie along, from any site there is."""
    stranger = visitor.page(getattr(place, origin))

    stranger.follow(f"location.href = {json.dumps(account.door(account.tile('1', 'Task')))}")

    assert json.loads(stranger.run("document.body.innerText"))["code"] == "FORBIDDEN"
    assert (account.server.claude.calls, account.server.rows()) == ([], [])


def test_a_frontend_that_the_operator_has_named_may(
    place: Place, account: Account, page: Page, visitor: Visitor
) -> None:
    frontend = visitor.page(place.frontend)

    frontend.run(source(account.door(account.tile("1", "Clean the gutters"))))

    assert eventually(lambda: heard(frontend, "done"))
    assert text_heard(frontend) == WORDS


@pytest.mark.parametrize(("origin", "may"), [("frontend", True), ("neighbour", False)])
def test_a_page_with_a_key_reads_only_where_the_operator_has_named_it(
    place: Place, account: Account, visitor: Visitor, origin: str, may: bool
) -> None:
    """A key in a header is asked about first."""
    headers = json.dumps({"headers": {"x-api-key": account.api_key()}})
    url = json.dumps(account.door(account.tile("1", "Clean the gutters")))
    stranger = visitor.page(getattr(place, origin))

    read = stranger.run(f"fetch({url}, {headers}).then(reply => reply.text(), () => null)")

    assert (read is not None and '"type":"done"' in read) is may
    assert bool(account.server.claude.calls) is may


def statuses(server: Server) -> list[str]:
    """What the task door has said so far, by nginx's log."""
    lines = (server.settings.data.parent / "access.log").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    return [line["status"] for line in said if line["path"] == DOOR]
