"""Tiles over HTTP: put in their places, changed, shown, taken away, and nobody else's."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from tests.blueprints.conftest import hurry
from tests.blueprints.creators import Creator, ada, bob, faulty, newcomer
from tests.blueprints.credentials import shown_by
from tests.blueprints.credentials import stranger as nobodys
from tests.conftest import Shop, events
from x402jobs.blueprints.schemas import TileChangeSchema, TileSchema
from x402jobs.domain.caller import Method
from x402jobs.domain.coords import Coords
from x402jobs.stores import local_tokens

DOOR, TASK = "/api/tiles", "/api/stream/execute-task"
RICH = {
    "title": "Ünïcode 🌧 </hexplan>",
    "content": "line\r\n\t{{#x}} 📋",
    "preview": "two\nlines",
    "visibility": "private",
}
CHILDREN = ["1", "2", "3", "4", "5", "6", "-1", "-2", "-3", "-4", "-5", "-6"]


class Gardener:
    """Somebody with tiles of their own; a path without an account is theirs, in group 0."""

    def __init__(self, shop: Shop, creator: Creator) -> None:
        self.creator, self.id = creator, str(creator.get("/auth/me")["id"])
        self._shop = shop

    def at(self, path: str) -> str:
        return f"{self.id},0:{path}" if path else f"{self.id},0"

    def ask(self, verb: str, coords: str | None = None, body: Any = None) -> TestResponse:
        return self.creator.ask(verb, DOOR if coords is None else f"{DOOR}/{quote(coords)}", body)

    def post(self, coords: str, **fields: Any) -> TestResponse:
        return self.ask("POST", None, {"coords": coords, "title": f"Title of {coords}"} | fields)

    def make(self, *paths: str, **fields: Any) -> list[Any]:
        made = [self.post(self.at(path), **fields) for path in paths]
        assert {reply.status_code for reply in made} <= {201}, [reply.text for reply in made]
        return [reply.json for reply in made]

    def get(self, path: str) -> Any:
        return self.creator.get(f"{DOOR}/{self.at(path)}")

    def patch(self, path: str, **changes: Any) -> Any:
        reply = self.ask("PATCH", self.at(path), changes)
        assert reply.status_code == 200, reply.text
        return reply.json

    def told(self, query: str = "?limit=100") -> list[str]:
        return [each["coords"] for each in self.creator.get(DOOR + query)["tiles"]]

    def below(self, coords: str) -> list[str]:
        return self.told(f"?limit=100&under={coords}")

    def rows(self) -> list[Any]:
        return self._shop.query("SELECT * FROM tiles WHERE user_id = ? ORDER BY path", self.id)

    def plan(self, path: str) -> None:
        """What a run of the tile leaves there."""
        mapping = self._shop.services.mapping
        mapping.ensure_plan(mapping.context(self.id, Coords.parse(self.at(path))), self.id)


@pytest.fixture
def gardener(shop: Shop) -> Gardener:
    """ada, with a root that has not been made yet."""
    hurry(shop)
    return Gardener(shop, ada(shop))


@pytest.fixture
def stranger(shop: Shop) -> Gardener:
    return Gardener(shop, bob(shop))


def test_a_tile_is_shown_as_it_was_sent(gardener: Gardener) -> None:
    coords = gardener.at("1")

    reply = gardener.post(coords, **RICH)

    assert reply.status_code == 201
    assert reply.headers["Location"] == f"{DOOR}/{coords}"
    times = {name: reply.json[name] for name in ("createdAt", "updatedAt")}
    assert reply.json == {"coords": coords} | RICH | times
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", times["createdAt"])
    assert times["createdAt"] == times["updatedAt"]
    assert gardener.creator.get(reply.headers["Location"]) == reply.json
    assert reply.json in gardener.creator.get(DOOR)["tiles"]


def test_what_is_left_out_is_empty_and_private(gardener: Gardener) -> None:
    (made,) = gardener.make("1")

    assert (made["content"], made["preview"], made["visibility"]) == ("", "", "private")


def test_an_account_begins_with_its_root(shop: Shop, gardener: Gardener) -> None:
    (root,) = gardener.creator.get(DOOR)["tiles"]

    assert (root["coords"], root["title"], root["content"]) == (gardener.at(""), "ada", "")
    assert gardener.get("") == root
    nameless = Gardener(shop, newcomer(shop))
    assert [each["title"] for each in nameless.creator.get(DOOR)["tiles"]] == ["Home"]


def test_the_root_may_be_spelt_with_its_colon(gardener: Gardener) -> None:
    assert gardener.creator.get(f"{DOOR}/{gardener.id},0:") == gardener.get("")
    assert gardener.creator.get(f"{DOOR}/{gardener.id}%2C0") == gardener.get("")
    assert gardener.below(f"{gardener.id},0:") == []


def test_a_further_group_begins_with_its_own_root(gardener: Gardener) -> None:
    assert gardener.post(f"{gardener.id},7").status_code == 201

    assert gardener.told() == [gardener.at(""), f"{gardener.id},7"]
    faulty(gardener.post(gardener.at("")), 409, "CONFLICT", "coords")


NO_COORDS = [
    "u",
    "u,",
    "u,x",
    ",0",
    "u,0:7",
    "u,0:-7",
    "u,0:1,,2",
    "u,0:1,",
    "u,0:,1",
    "u,0:1:2",
    "u,0,0",
    "u,-1",
    "u,1.5",
    "u,00",
    "u,0:01",
    "u,0:+1",
    "u,0: 1",
    "u,0:1\n",
    "u,0:١",
    "ü,0",
    "u u,0",
    "u" * 65 + ",0",
    "u,0:" + ",".join(["1"] * 101),
    "null",
]


@pytest.mark.parametrize("coords", NO_COORDS)
def test_what_are_no_coordinates_is_refused_wherever_they_stand(
    gardener: Gardener, coords: str
) -> None:
    replies = {
        "coords": [
            gardener.ask("GET", coords),
            gardener.ask("PATCH", coords, {"title": "New"}),
            gardener.ask("DELETE", coords),
            gardener.post(coords),
        ],
        "under": [gardener.creator.ask("GET", DOOR, query_string={"under": coords})],
    }

    for field, refused in replies.items():
        for reply in refused:
            said = faulty(reply, 400, "INVALID_REQUEST", field)
            assert "u" * 65 not in said["error"]


def test_a_tile_has_six_subtasks_and_six_context_children(gardener: Gardener) -> None:
    gardener.make(*reversed(CHILDREN))

    assert gardener.below(gardener.at("")) == [gardener.at(path) for path in CHILDREN]
    for path in CHILDREN:
        faulty(gardener.post(gardener.at(path)), 409, "CONFLICT", "coords")
    for path in ("7", "-7"):
        faulty(gardener.post(gardener.at(path)), 400, "INVALID_REQUEST", "coords")


def test_a_hundred_steps_down_is_as_deep_as_it_goes(gardener: Gardener) -> None:
    down = [",".join(["1"] * depth) for depth in range(1, 101)]

    gardener.make(*down, title="Deeper")
    gardener.plan(down[-1])

    assert gardener.get(down[-1])["title"] == "Deeper"
    assert gardener.get(down[-1] + ",0")["title"] == "Hexplan"
    faulty(gardener.post(gardener.at(down[-1] + ",1")), 400, "INVALID_REQUEST", "coords")
    assert gardener.told("?limit=3&offset=99") == [
        gardener.at(path) for path in (down[98], down[99], down[99] + ",0")
    ]


@pytest.mark.parametrize("orphan", ["1,1", "-1,2", "2,2,2"])
def test_a_tile_is_put_under_one_that_is_there(gardener: Gardener, orphan: str) -> None:
    gardener.make("2")

    said = faulty(gardener.post(gardener.at(orphan)), 404, "NOT_FOUND", "coords")

    assert "Make that one first." in said["error"]
    assert gardener.told() == [gardener.at(""), gardener.at("2")]


EVERY_TYPE: list[Any] = [None, True, 0, 1, 1.5, [], ["1"], {}, {"a": 1}]
GOOD: dict[str, list[Any]] = {
    "title": ["t", "t" * 200, "🌧" * 200, " t ", "'quoted' \"twice\" <b>"],
    "content": ["", "c" * 65_536, "🌧" * 16_384, "two\nlines\tand\r\nmore"],
    "preview": ["", "p" * 2000, "🌧" * 2000, "two\nlines"],
    "visibility": ["private", "public"],
}
BAD: dict[str, list[Any]] = {
    "title": ["", " ", "\u00a0", "t" * 201, "two\nlines", "tab\t", "\x1b[31m", "\u2028"],
    "content": ["c" * 65_537, "🌧" * 16_384 + "c"],
    "preview": ["p" * 2001],
    "visibility": ["", "Public", "PRIVATE", "hidden", "public "],
    "updatedAt": ["", "now", "2026-11-21", "2026-13-21T06:55:37.529Z", "2026-11-21T06:55:37"],
}


def test_the_tables_have_every_field_there_is() -> None:
    assert set(TileSchema().fields) == {"coords", *GOOD}
    assert set(TileChangeSchema().fields) == {"updatedAt", *GOOD} == set(BAD)


@pytest.mark.parametrize("name", GOOD)
def test_a_field_within_its_limits_is_kept_as_it_was_sent(gardener: Gardener, name: str) -> None:
    gardener.patch("", visibility="public")

    for value in GOOD[name]:
        (made,) = gardener.make("1", **{name: value})
        assert gardener.ask("DELETE", gardener.at("1")).status_code == 204
        gardener.make("1")
        changed = gardener.patch("1", **{name: value})
        assert made[name] == changed[name] == gardener.get("1")[name] == value
        gardener.ask("DELETE", gardener.at("1"))


@pytest.mark.parametrize("name", BAD)
def test_a_field_outside_its_limits_is_refused_by_its_name(gardener: Gardener, name: str) -> None:
    gardener.make("1")
    before = gardener.rows()

    for value in BAD[name] + EVERY_TYPE:
        faulty(gardener.post(gardener.at("2"), **{name: value}), 400, "INVALID_REQUEST", name)
        reply = gardener.ask("PATCH", gardener.at("1"), {name: value})
        faulty(reply, 400, "INVALID_REQUEST", name)

    assert gardener.rows() == before


def test_a_tile_needs_coordinates_and_a_title(gardener: Gardener) -> None:
    for missing in ("coords", "title"):
        body = {"coords": gardener.at("1"), "title": "One"}
        del body[missing]
        faulty(gardener.ask("POST", None, body), 400, "INVALID_REQUEST", missing)
    for wrong in EVERY_TYPE:
        body = {"coords": wrong, "title": "One"}
        faulty(gardener.ask("POST", None, body), 400, "INVALID_REQUEST", "coords")


def test_a_tile_stays_in_its_place_and_keeps_its_birthday(gardener: Gardener) -> None:
    for name in ("coords", "createdAt", "hexplan", "ownerId"):
        reply = gardener.ask("PATCH", gardener.at(""), {name: gardener.at("1")})
        faulty(reply, 400, "INVALID_REQUEST", name)


CHANGES = {"title": "New", "content": "new", "preview": "n", "visibility": "public"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_one_field_leaves_the_others_alone(gardener: Gardener, name: str) -> None:
    gardener.patch("", visibility="public")
    (made, other) = gardener.make("1", "2", **RICH)

    changed = gardener.patch("1", **{name: CHANGES[name]})

    assert changed == made | {name: CHANGES[name], "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > made["updatedAt"]
    assert gardener.get("1") == changed
    assert gardener.get("2") == other


def test_what_was_read_can_be_sent_back_once(gardener: Gardener) -> None:
    (read,) = gardener.make("1", **RICH)
    sent = {name: read[name] for name in TileChangeSchema().fields}

    changed = gardener.patch("1", **sent)

    assert changed == read | {"updatedAt": changed["updatedAt"]}
    reply = gardener.ask("PATCH", gardener.at("1"), sent)
    faulty(reply, 409, "CONFLICT")
    assert gardener.patch("1", **sent | {"updatedAt": changed["updatedAt"]})


def test_of_two_who_read_the_same_the_second_reads_again(gardener: Gardener) -> None:
    (read,) = gardener.make("1")
    first = gardener.patch("1", title="First", updatedAt=read["updatedAt"])

    reply = gardener.ask(
        "PATCH", gardener.at("1"), {"content": "second", "updatedAt": read["updatedAt"]}
    )

    said = faulty(reply, 409, "CONFLICT")
    assert "Read it again" in said["error"]
    assert gardener.get("1") == first


def test_whoever_is_overtaken_between_reading_and_writing_changes_nothing(
    shop: Shop, gardener: Gardener, monkeypatch: pytest.MonkeyPatch
) -> None:
    gardener.make("1")
    mapping = shop.services.mapping
    read = mapping.get

    def read_and_be_overtaken(reader_id: str, coords: Coords) -> Any:
        found = read(reader_id, coords)
        monkeypatch.setattr(mapping, "get", read)
        gardener.patch("1", title="First")
        return found

    monkeypatch.setattr(mapping, "get", read_and_be_overtaken)
    reply = gardener.ask("PATCH", gardener.at("1"), {"content": "second"})

    faulty(reply, 409, "CONFLICT")
    said = gardener.get("1")
    assert (said["title"], said["content"]) == ("First", "")


def test_a_tile_is_public_under_public_ones_only(gardener: Gardener, stranger: Gardener) -> None:
    reply = gardener.post(gardener.at("1"), visibility="public")
    said = faulty(reply, 400, "INVALID_REQUEST", "visibility")
    assert f"Make {gardener.at('')} public first." in said["error"]
    gardener.make("1", "1,1")
    reply = gardener.ask("PATCH", gardener.at("1,1"), {"visibility": "public"})
    faulty(reply, 400, "INVALID_REQUEST", "visibility")

    for path in ("", "1", "1,1"):
        gardener.patch(path, visibility="public")

    assert stranger.creator.get(f"{DOOR}/{gardener.at('1,1')}") == gardener.get("1,1")


def test_a_tile_hides_after_all_below_it_have(gardener: Gardener, stranger: Gardener) -> None:
    gardener.patch("", visibility="public")
    gardener.make("1", "1,1", "1,-1", visibility="public")

    reply = gardener.ask("PATCH", gardener.at("1"), {"visibility": "private"})

    said = faulty(reply, 400, "INVALID_REQUEST", "visibility")
    assert "Public tiles below this one: 2." in said["error"]
    assert f"from {gardener.at('1,1')} upwards" in said["error"]
    assert gardener.patch("1", title="Still public")["visibility"] == "public"
    for path in ("1,1", "1,-1", "1"):
        gardener.patch(path, visibility="private")
    assert stranger.below(gardener.at("")) == []


def test_deleting_takes_all_below_and_nothing_beside(
    gardener: Gardener, stranger: Gardener
) -> None:
    for each in (gardener, stranger):
        each.make("1", "1,1", "1,1,-2", "2", "-1", "-1,1")
        each.plan("1")

    reply = gardener.ask("DELETE", gardener.at("1"))

    assert (reply.status_code, reply.get_data()) == (204, b"")
    left = ["", "2", "-1", "-1,1"]
    assert gardener.told() == [gardener.at(path) for path in left]
    assert len(stranger.told()) == 8
    faulty(gardener.ask("DELETE", gardener.at("1")), 404, "NOT_FOUND")
    gardener.make("1")
    assert gardener.below(gardener.at("1")) == [], "its place is free, and empty"


def test_a_deleted_root_begins_anew(gardener: Gardener) -> None:
    gardener.make("1")
    gardener.patch("", title="Mine", content="c")

    assert gardener.ask("DELETE", gardener.at("")).status_code == 204

    assert gardener.told() == [gardener.at("")]
    assert (gardener.get("")["title"], gardener.get("")["content"]) == ("ada", "")


def test_a_plan_is_its_owners_to_read_and_to_delete(gardener: Gardener, stranger: Gardener) -> None:
    gardener.patch("", visibility="public")
    gardener.make("1", "2", visibility="public")
    gardener.plan("")
    steps = [f"📋 {number}. Title of {gardener.at(str(number))}" for number in (1, 2)]

    said = gardener.get("0")

    assert (said["title"], said["visibility"]) == ("Hexplan", "private")
    assert [line.partition(" → ")[0] for line in said["content"].splitlines()] == steps
    assert gardener.below(gardener.at("")) == [gardener.at(path) for path in "012"]
    assert stranger.below(gardener.at("")) == [gardener.at(path) for path in "12"]
    for who, status in ((gardener, 400), (stranger, 404)):
        reply = who.ask("PATCH", gardener.at("0"), {"content": "✅"})
        assert reply.status_code == status
    faulty(stranger.ask("DELETE", gardener.at("0")), 404, "NOT_FOUND")
    assert gardener.get("0") == said
    assert gardener.ask("DELETE", gardener.at("0")).status_code == 204
    faulty(gardener.ask("GET", gardener.at("0")), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["0", "1,0", "0,1", "1,0,-1"])
def test_a_plan_is_made_by_running_its_task(gardener: Gardener, path: str) -> None:
    gardener.make("1")
    gardener.plan("")

    said = faulty(gardener.post(gardener.at(path)), 400, "INVALID_REQUEST", "coords")

    assert "made by running its task" in said["error"]
    assert gardener.told() == [gardener.at(each) for each in ("", "0", "1")]


def test_a_list_goes_on_until_it_says_that_there_is_no_more(gardener: Gardener) -> None:
    gardener.make("1", "1,1", "1,-1", "2", "-1")

    def walk(under: str) -> Iterator[tuple[list[str], int, bool]]:
        for offset in (0, 2, 4, 6):
            said = gardener.creator.get(f"{DOOR}?limit=2&offset={offset}{under}")
            paths = [each["coords"].partition(":")[2] for each in said["tiles"]]
            yield paths, said["pagination"]["total"], said["pagination"]["hasMore"]

    assert list(walk("")) == [
        (["", "1"], 6, True),
        (["1,1", "1,-1"], 6, True),
        (["2", "-1"], 6, False),
        ([], 6, False),
    ]
    part = list(walk(f"&under={gardener.at('1')}"))
    assert part[:2] == [(["1,1", "1,-1"], 2, False), ([], 2, False)]


VERBS: list[tuple[str, Any]] = [
    ("GET", None),
    ("PATCH", {"title": "Mine now"}),
    ("PATCH", {"visibility": "public"}),
    ("DELETE", None),
]


def told(reply: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of a reply but its request's own id."""
    body = reply.get_data()
    if reply.is_json:
        body = body.replace(reply.headers["X-Request-Id"].encode(), b"")
    headers = [each for each in reply.headers if each[0] != "X-Request-Id"]
    return reply.status_code, body, sorted(headers)


def everything(who: Gardener, coords: str) -> list[tuple[int, bytes, list[tuple[str, str]]]]:
    """All that somebody is told who tries every verb on a tile, and below it."""
    replies = [who.ask(verb, coords, body) for verb, body in VERBS]
    replies.append(who.creator.ask("GET", DOOR, query_string={"under": coords}))
    replies.append(who.post(coords))
    replies.append(who.post(f"{coords},1" if ":" in coords else f"{coords}:1"))
    return [told(reply) for reply in replies]


def test_three_accounts_neither_see_nor_change_anything_of_each_others(shop: Shop) -> None:
    hurry(shop)
    everybody = [Gardener(shop, Creator(shop, shop.token(name))) for name in ("ada", "bob", "cleo")]
    for each in everybody:
        each.patch("", title="Planted title")
        each.make("1", "1,1", "-1", content="Planted content", preview="Planted preview")
        each.plan("")
    before = shop.query("SELECT * FROM tiles")
    nobody = Gardener(shop, newcomer(shop))
    shop.query("DELETE FROM tiles WHERE user_id = ?", nobody.id)

    for owner in everybody:
        for other in everybody:
            if owner is not other:
                for path in ("", "0", "1", "1,1", "-1"):
                    hidden = everything(other, owner.at(path))
                    assert {status for status, *_ in hidden} <= {400, 404}
                    assert hidden == everything(other, nobody.at(path)), path
                    assert hidden[:5] == everything(other, owner.at("6" + path.lstrip("-")[1:]))[:5]
                    assert "Planted" not in str(hidden)

    assert shop.query("SELECT * FROM tiles WHERE user_id <> ?", nobody.id) == before


def test_a_public_tile_is_read_by_anybody_and_changed_by_its_owner(
    gardener: Gardener, stranger: Gardener
) -> None:
    gardener.patch("", visibility="public")
    gardener.make("1", "1,1", visibility="public")
    gardener.make("2", "1,2", content="Planted")
    before = gardener.rows()

    for path in ("", "1", "1,1"):
        get, *writes = everything(stranger, gardener.at(path))
        assert json.loads(get[1]) == gardener.get(path)
        assert [status for status, *_ in writes] == [404, 404, 404, 200, 404, 404]
    hidden = everything(stranger, gardener.at("2"))
    assert hidden == everything(stranger, gardener.at("5"))

    assert stranger.below(gardener.at("")) == [gardener.at("1"), gardener.at("1,1")]
    assert stranger.told() == [stranger.at("")]
    assert gardener.rows() == before


def test_an_accounts_id_is_its_own_in_one_letter_case_alone(gardener: Gardener) -> None:
    gardener.make("1")

    for other in (gardener.id.upper(), gardener.id[:-1], gardener.id + "0", str(uuid.uuid4())):
        faulty(gardener.ask("GET", f"{other},0:1"), 404, "NOT_FOUND")


def test_a_token_is_needed_even_for_what_is_public(shop: Shop, gardener: Gardener) -> None:
    gardener.patch("", visibility="public")

    for path in (DOOR, f"{DOOR}/{gardener.at('')}", f"{DOOR}?under={gardener.at('')}"):
        faulty(shop.client.get(path), 401, "UNAUTHENTICATED")


def test_an_account_that_has_no_name_has_tiles_all_the_same(shop: Shop) -> None:
    account = str(uuid.uuid4())
    creator = Creator(shop, local_tokens(shop.settings).issue(account))

    reply = creator.ask("POST", DOOR, {"coords": f"{account},0:1", "title": "One"})

    assert reply.status_code == 201


@pytest.mark.parametrize("kind", Method)
def test_no_kind_of_credential_opens_anothers_tiles_or_tasks(shop: Shop, kind: Method) -> None:
    hurry(shop)
    everybody = [Gardener(shop, Creator(shop, shop.token(name))) for name in ("ada", "bob", "cleo")]
    shown = {
        each.id: shown_by(shop, name, kind)
        for name, each in zip(("ada", "bob", "cleo"), everybody, strict=True)
    }
    for each in everybody:
        each.make("1", content="Planted content")
    before = shop.query("SELECT * FROM tiles")
    client = nobodys(shop)

    def tell(who: Gardener, coords: str) -> list[tuple[int, bytes, list[tuple[str, str]]]]:
        asked: list[tuple[str, str, Any]] = [
            (verb, f"{DOOR}/{quote(coords)}", body) for verb, body in VERBS
        ]
        asked += [
            ("GET", f"{DOOR}?under={coords}", None),
            ("POST", DOOR, {"coords": f"{coords},1", "title": "Mine now"}),
        ]
        return [
            told(client.open(path, method=verb, json=body, headers=shown[who.id]))
            for verb, path, body in asked
        ]

    def run(who: Gardener, coords: str) -> dict[str, Any]:
        reply = client.get(f"{TASK}?taskCoords={coords}", headers=shown[who.id])
        (event,) = events(reply)
        event.pop("executionId")
        return event

    for owner in everybody:
        for other in everybody:
            if owner is not other:
                hidden, missing = owner.at("1"), owner.at("5")
                assert tell(other, hidden) == tell(other, missing)
                assert {status for status, *_ in tell(other, hidden)} == {404}
                assert run(other, hidden) == run(other, missing)
                assert run(other, hidden)["message"] == "Task not found."
        assert client.get(f"{DOOR}/{owner.at('1')}", headers=shown[owner.id]).status_code == 200

    assert shop.query("SELECT * FROM tiles") == before
    assert shop.claude.calls == []
