"""Tiles from the command line."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.listener import listening
from tests.cli.person import Person
from x402jobs.devkit.demo import Demo


@pytest.fixture
def bob(shop: Demo, x402jobs: Command) -> Person:
    return Person(shop, x402jobs)


@pytest.fixture
def tree(bob: Person) -> Person:
    """bob, with a task of two steps and something to know."""
    for place, title in (("0:1", "Clean"), ("0:1,1", "Sweep"), ("0:1,2", "Mop"), ("0:1,-1", "Hut")):
        bob.put(place, title)
    return bob


def test_on_a_pipe_each_reply_is_the_doors_own_document(tree: Person) -> None:
    for arguments, door in (
        (["list"], "/api/tiles"),
        (["list", "--limit", "1", "--offset", "1"], "/api/tiles?limit=1&offset=1"),
        (["list", "--under", "0:1"], f"/api/tiles?under={tree.id},0:1"),
        (["list", "--under", f"{tree.id},0:1"], f"/api/tiles?under={tree.id},0:1"),
        (["show", "0:1"], f"/api/tiles/{tree.id},0:1"),
        (["show", "0:1", "--json"], f"/api/tiles/{tree.id},0:1"),
        (["show", f"{tree.id},0:1,-1"], f"/api/tiles/{tree.id},0:1,-1"),
    ):
        asked = tree.run("tile", *arguments)

        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout) == tree.knock(door)
        assert len(asked.stdout.splitlines()) == 1


@pytest.mark.parametrize("written", ["0", "0:", "0:1", "0:1,-1", "0:1,2"])
def test_without_an_account_it_is_the_map_of_whoever_asks(tree: Person, written: str) -> None:
    shown = json.loads(tree.run("tile", "show", written).stdout)

    assert shown["coords"] == f"{tree.id},{written}".removesuffix(":")


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ([], "title", "Rake"),
        ([], "content", ""),
        ([], "preview", ""),
        ([], "visibility", "private"),
        (["--content", "All of it."], "content", "All of it."),
        (["--content", "a@b"], "content", "a@b"),
        (["--content", "@leaves.txt"], "content", "Läves\n"),
        (["--content", "@-"], "content", "@typed\n"),
        (["--preview", "Leaves"], "preview", "Leaves"),
        (["--preview", "@leaves.txt"], "preview", "@leaves.txt"),
        (["--private"], "visibility", "private"),
        (["--public"], "visibility", "public"),
    ],
)
def test_a_tile_is_made_of_flags(
    bob: Person, tmp_path: Path, flags: list[str], field: str, value: str
) -> None:
    (tmp_path / "leaves.txt").write_text("Läves\n")
    bob.run("tile", "edit", "0", "--public")

    added = bob.run("tile", "add", "0:1", "--title", "Rake", *flags, input="@typed\n")

    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout) == bob.knock(f"/api/tiles/{bob.id},0:1")
    assert json.loads(added.stdout)[field] == value


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        (["--title", "Scrub"], {"title"}),
        (["--content", "Twice."], {"content"}),
        (["--content", ""], {"content"}),
        (["--preview", "Wet"], {"preview"}),
        (["--title", "Scrub", "--preview", "Wet"], {"title", "preview"}),
    ],
)
def test_an_edit_leaves_alone_what_it_does_not_name(
    bob: Person, flags: list[str], changed: set[str]
) -> None:
    before = bob.put("0:1", "Mop", content="Once.", preview="Dry")

    after = json.loads(bob.run("tile", "edit", "0:1", *flags).stdout)

    assert {name for name in after if after[name] != before[name]} == changed | {"updatedAt"}
    assert after == bob.knock(f"/api/tiles/{bob.id},0:1")


def test_rm_wants_to_be_sure_and_takes_what_is_below(tree: Person) -> None:
    unsure = tree.run("tile", "rm", "0:1")
    after_that = tree.places()
    sure = tree.run("tile", "rm", "0:1", "--yes")

    assert (unsure.returncode, "say --yes" in unsure.stderr) == (2, True)
    assert after_that == ["0", "0:1", "0:1,1", "0:1,2", "0:1,-1"]
    assert (sure.returncode, sure.stdout) == (0, "")
    assert sure.stderr == "0:1 has been removed, and what was below it.\n"
    assert tree.places() == ["0"]


@pytest.mark.parametrize(
    ("typed", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 2), ("\x03", 130, 2)]
)
def test_on_a_terminal_rm_asks(bob: Person, typed: str, code: int, left: int) -> None:
    bob.put("0:1")

    ended, output = bob.on_a_terminal(
        "tile", "rm", "0:1", question="all below it for good? [y/N]: ", typed=typed
    )

    assert (ended, len(bob.places())) == (code, left), output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "0:3"], 4, "There is no such tile. (NOT_FOUND, req_"),
        (["rm", "0:3", "--yes"], 4, "NOT_FOUND"),
        (["edit", "0:3", "--title", "x"], 4, "NOT_FOUND"),
        (["add", "0:2,1", "--title", "x"], 4, "NOT_FOUND"),
        (["add", "0:1", "--title", "x"], 4, "CONFLICT"),
        (["add", "0:2", "--title", " "], 4, "title: Must not be blank."),
        (["add", "0:2", "--title", "x", "--public"], 4, "INVALID_REQUEST"),
        (["add", "0:1,0", "--title", "x"], 4, "is made by running its task"),
        (["list", "--limit", "101"], 4, "limit: Must be"),
        (["add", "0:2"], 2, "Missing option '--title'"),
        (["add", "0:2", "--title", "x", "--content", "@gone"], 2, "gone: No such file"),
        (["add", "0:2", "--title", "x", "--content", "@raw"], 2, "raw: not UTF-8."),
        (["edit", "0:1"], 2, "Say what to change: --title"),
        (["show"], 2, "Missing argument 'COORDS'"),
        (["show", "0:7"], 2, "On your own map leave the account out: 0 is its root, 0:1,2 below"),
        (["show", "1,2"], 4, "NOT_FOUND"),  # group 2 of the account called 1
        (["list", "--under", "1:"], 4, "NOT_FOUND"),
        (["list", "--under", "garden"], 2, "coordinates must be like userId,0:1,2: an account"),
        (["rm", "0:1,,2", "--yes"], 2, "must be like"),
        (["show", "../auth/me"], 2, "must be like"),
        (["show", "0:" + ",".join(["1"] * 101)], 2, "at most 100 steps deep"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_an_exit_code(
    bob: Person, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "raw").write_bytes(b"\xff")
    bob.put("0:1")

    refused = bob.run("tile", *arguments)

    assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
    assert said in refused.stderr
    assert bob.places() == ["0", "0:1"]


def test_what_others_keep_private_is_as_if_it_were_not(
    bob: Person, shop: Demo, x402jobs: Command
) -> None:
    eve = Person(shop, x402jobs)
    eve.put("0:1")

    for verb in (["show"], ["edit", "--title", "x"], ["rm", "--yes"], ["list", "--under"]):
        hidden, missing = (bob.run("tile", *verb, f"{eve.id},0:{n}") for n in "12")

        assert (hidden.returncode, hidden.stdout) == (4, "")
        assert hidden.stderr.partition("req_")[0] == missing.stderr.partition("req_")[0]
    assert eve.knock(f"/api/tiles/{eve.id},0:1")["title"] == "Sweep"


def test_on_a_terminal_tiles_are_a_table(tree: Person) -> None:
    code, output = tree.on_a_terminal("tile", "list", NO_COLOR="1")

    head, root, *rest = [line.split() for line in output.splitlines()]
    assert code == 0
    assert head == ["coords", "visibility", "updated", "title"]
    assert [root[0], root[1], root[3]] == ["0", "private", tree.name]
    assert [(line[0], line[3]) for line in rest] == [
        ("0:1", "Clean"),
        ("0:1,1", "Sweep"),
        ("0:1,2", "Mop"),
        ("0:1,-1", "Hut"),
    ]


def test_a_table_names_the_account_where_it_was_named(tree: Person) -> None:
    code, output = tree.on_a_terminal(
        "tile", "list", "--under", f"{tree.id},0:1", "--limit", "1", NO_COLOR="1"
    )

    _, sweep, more = output.splitlines()
    assert (code, sweep.split()[0]) == (0, f"{tree.id},0:1,1")
    assert more == "1 to 1 of 3; the next: --offset 1"


def test_on_a_terminal_a_tile_is_shown_in_words(bob: Person) -> None:
    bob.put("0:1", "Sweep", content="All\nof it.\x1b]0;title\x07", preview="Dust")

    code, output = bob.on_a_terminal("tile", "show", "0:1", NO_COLOR="1")

    assert code == 0
    assert "title       Sweep\n" in output
    assert f"coords      {bob.id},0:1\n" in output
    assert "preview     Dust\n" in output
    assert output.endswith("\n\nAll\nof it.]0;title\n")


@pytest.mark.parametrize("command", ["list", "list --under u,0", "show 0", "show u,0"])
@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (200, b"<p>hello", 1, "is not an x402jobs shop."),
        (200, b'{"ok":true}', 1, "is not an x402jobs shop."),
        (401, b'{"error":"Sign in.","code":"UNAUTHENTICATED"}', 4, "Sign in. (UNAUTHENTICATED)"),
        (503, b'{"error":"Away.","code":"STORE_UNAVAILABLE"}', 5, "Away."),
    ],
)
def test_whatever_a_server_says_there_is_a_sentence_for_it(
    bob: Person, command: str, status: int, body: bytes, code: int, said: str
) -> None:
    with listening(status, {}, body) as stranger:
        refused = bob.run("tile", *command.split(), "--url", stranger.url)

    assert (refused.returncode, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert len(stranger.heard) == 1


def test_what_is_malformed_is_not_sent(bob: Person) -> None:
    with listening(200, {}, b"{}") as stranger:
        for written in ("0:7", "u,-1", "u,0:1,,2", "u,1.5", "/etc", "u,0:1/../../2", "0:1?x"):
            refused = bob.run("tile", "show", written, "--url", stranger.url)

            assert (refused.returncode, stranger.heard) == (2, [])
