"""The keys that secrets are sealed with, from the command line."""

import base64
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import origin
from tests.cli.conftest import X402JOBS, Command
from tests.cli.test_call import on_a_terminal
from tests.contract.conftest import HAIKU, SqliteStore
from x402jobs.adapters.key_ring import SETTLING_SECONDS, KeyRing, KeyRingFile
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.domain.errors import Unauthenticated
from x402jobs.services.integrations import claude_key_place
from x402jobs.services.templates import prompt_place
from x402jobs.settings import Settings
from x402jobs.stores import internal_keys

ORIGIN = {"INTEGRATION_ENCRYPTION_SECRET": origin.SECRET}
KEY, PROMPT, PLAIN = "sk-ant-planted-key", "Planted prompt.", "The origin's planted prompt."
KEYS = "x402_user_claude_configs.api_key_encrypted"
PROMPTS = "x402_resources.pt_system_prompt"
PAYMENTS = "x402_executions.sealed_payment"
ANSWERS = "x402_answers.sealed_answer"
INTERNAL = "x402_internal_api_keys.sealed_key"
PEPPERS = "x402_peppers.sealed_pepper"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / ".x402jobs"


@pytest.fixture
def worker(data: Path) -> Iterator[SqliteStore]:
    """A store with two keys and two prompts; of each one is ours, and one as the origin had it."""
    worker = SqliteStore(data)
    box = RingSecretBox(KeyRingFile(data / "keys"))
    for name in ("ada", "bob"):
        user = worker.catalogue.add_user(name)
        key, prompt = box.seal(KEY, claude_key_place(user)), box.seal(PROMPT, prompt_place(user))
        if name == "bob":
            key, prompt = origin.VECTOR, PLAIN
        worker.keys.put_claude_key(user, key)
        template = replace(
            HAIKU, id=str(uuid4()), owner_id=user, username=name, sealed_prompt=prompt
        )
        worker.catalogue.add_template(template)
    yield worker
    worker.database.close()


def sealed_keys(worker: SqliteStore) -> list[str]:
    """What rests in the column of keys: ada's, then bob's."""
    found = worker.sealed.page("x402_user_claude_configs", "api_key_encrypted", "", 10)
    order = [worker.catalogue.user_id(name) for name in ("ada", "bob")]
    return [value.sealed for value in sorted(found, key=lambda each: order.index(each.row))]


def aged(data: Path) -> None:
    """The ring as if it had not been changed for a while."""
    then = time.time() - 2 * SETTLING_SECONDS
    os.utime(data / "keys", (then, then))


def ids(data: Path) -> tuple[str, ...]:
    return KeyRing((data / "keys").read_text()).ids


def column(name: str, **counts: Any) -> dict[str, Any]:
    return {"column": name, "keys": {}, "origin": {}, "damaged": 0} | counts


def test_status_tells_what_is_sealed_with_what(x402jobs: Command, worker: SqliteStore) -> None:
    told = x402jobs("keys", "status", **ORIGIN)

    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout) == {
        "primary": "k1",
        "ring": ["k1"],
        "columns": [
            column(KEYS, keys={"k1": 1}, origin={"aes-256-cbc": 1}),
            column(PROMPTS, keys={"k1": 1}, origin={"plaintext": 1}),
            column(PAYMENTS),
            column(ANSWERS),
            column(INTERNAL),
            column(PEPPERS),
        ],
        "old": 2,
        "unreadable": [],
    }
    assert len(told.stdout.splitlines()) == 1


def test_status_changes_nothing(x402jobs: Command, worker: SqliteStore, data: Path) -> None:
    before = (sealed_keys(worker), (data / "keys").read_text())

    x402jobs("keys", "status", **ORIGIN)

    assert (sealed_keys(worker), (data / "keys").read_text()) == before


def test_a_key_is_replaced_in_three_commands(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    first = (data / "keys").read_text()

    added = x402jobs("keys", "add")
    rotated = x402jobs("keys", "rotate", **ORIGIN)
    aged(data)
    removed = x402jobs("keys", "remove", "k1")

    assert [each.returncode for each in (added, rotated, removed)] == [0, 0, 0]
    assert added.stdout == "k2 is the primary key now. Next: x402jobs keys rotate\n"
    assert json.loads(rotated.stdout) == {
        "primary": "k2",
        "ring": ["k2", "k1"],
        "columns": [
            column(KEYS, keys={"k2": 2}),
            column(PROMPTS, keys={"k2": 2}),
            column(PAYMENTS),
            column(ANSWERS),
            column(INTERNAL),
            column(PEPPERS),
        ],
        "old": 0,
        "unreadable": [],
        "resealed": 4,
    }
    assert ids(data) == ("k2",)
    assert first.split(":")[1].strip() not in (data / "keys").read_text()
    assert json.loads(x402jobs("keys", "status").stdout)["unreadable"] == []
    assert json.loads(x402jobs("keys", "rotate").stdout)["resealed"] == 0


def test_no_command_shows_a_key_a_prompt_or_a_ciphertext(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    sealed = sealed_keys(worker)
    worker.keys.put_claude_key(worker.catalogue.add_user("eve"), "planted and damaged")
    secrets = [KEY, PROMPT, PLAIN, origin.SECRET, origin.VECTOR_KEY, "planted", *sealed]

    said = [
        x402jobs("keys", *arguments, **ORIGIN)
        for arguments in (["status"], ["add"], ["rotate"], ["remove", "k1"], ["status"])
    ]

    secrets += [entry.strip()[3:] for entry in (data / "keys").read_text().split(",")]
    heard = "".join(each.stdout + each.stderr for each in said)
    assert [each for each in secrets if each in heard] == []


@pytest.mark.parametrize(
    ("secret", "damage"),
    [
        ("", origin.VECTOR),
        ("another", origin.VECTOR),
        (origin.SECRET, "v1.lost.AAAA"),
        (origin.SECRET, "v1.k1.AAAA"),
        (origin.SECRET, "sk-ant-in-the-open"),
    ],
)
def test_a_row_that_does_not_open_is_named_and_left_alone(
    x402jobs: Command, worker: SqliteStore, secret: str, damage: str
) -> None:
    bob = worker.catalogue.add_user("bob")
    worker.keys.put_claude_key(bob, damage)
    x402jobs("keys", "add")

    rotated = x402jobs("keys", "rotate", INTEGRATION_ENCRYPTION_SECRET=secret)

    standing = json.loads(rotated.stdout)
    assert (rotated.returncode, standing["resealed"], standing["old"]) == (1, 3, 1)
    assert standing["unreadable"] == [{"column": KEYS, "row": bob}]
    assert sealed_keys(worker)[1] == damage


def test_a_key_in_use_is_not_removed(x402jobs: Command, worker: SqliteStore, data: Path) -> None:
    x402jobs("keys", "add")
    aged(data)

    refused = x402jobs("keys", "remove", "k1", **ORIGIN)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"x402jobs: k1 is in use: 1 in {KEYS}, 1 in {PROMPTS}. First: x402jobs keys rotate\n"
    )
    assert ids(data) == ("k2", "k1")


@pytest.mark.parametrize(
    ("key_id", "says"),
    [("k2", "k2 is the primary key"), ("k9", "the ring has no key k9"), ("k1", "try again in")],
)
def test_a_key_that_must_stay_is_not_removed(
    x402jobs: Command, worker: SqliteStore, data: Path, key_id: str, says: str
) -> None:
    x402jobs("keys", "add")
    x402jobs("keys", "rotate", **ORIGIN)
    if key_id == "k2":
        worker.database.close()
        with closing(sqlite3.connect(data / "x402jobs.sqlite3")) as connection, connection:
            connection.execute("DELETE FROM x402_user_claude_configs")
            connection.execute("DELETE FROM x402_resources")

    refused = x402jobs("keys", "remove", key_id)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert says in refused.stderr
    assert ids(data) == ("k2", "k1")


def test_a_named_key_is_added_once(x402jobs: Command, worker: SqliteStore, data: Path) -> None:
    first, second = (x402jobs("keys", "add", "spring-2027") for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 1)
    assert second.stderr == "x402jobs: the ring already has a key spring-2027.\n"
    assert ids(data) == ("spring-2027", "k1")


@pytest.fixture
def ring(data: Path, worker: SqliteStore) -> dict[str, str]:
    """The ring in the environment instead of the file."""
    ring = (data / "keys").read_text().strip()
    (data / "keys").unlink()
    return {"X402JOBS_KEYS": ring, **ORIGIN}


def test_with_the_ring_in_the_environment_a_new_entry_is_printed_and_nothing_changed(
    x402jobs: Command, ring: dict[str, str], data: Path
) -> None:
    told = x402jobs("keys", "add", **ring)

    key_id, encoded = told.stdout.strip().split(":")
    assert (told.returncode, key_id, len(base64.b64decode(encoded))) == (1, "k2", 32)
    assert re.search("X402JOBS_KEYS is set.*last, and restart.*first, and restart", told.stderr)
    assert not (data / "keys").exists()


def test_a_ring_in_the_environment_is_rotated_by_putting_an_entry_last_and_then_first(
    x402jobs: Command, ring: dict[str, str], worker: SqliteStore
) -> None:
    old = ring["X402JOBS_KEYS"]
    fresh = x402jobs("keys", "add", **ring).stdout.strip()

    prepared = x402jobs("keys", "rotate", **ring | {"X402JOBS_KEYS": f"{old},{fresh}"})
    rotated = x402jobs("keys", "rotate", **ring | {"X402JOBS_KEYS": f"{fresh},{old}"})

    assert [json.loads(each.stdout)["primary"] for each in (prepared, rotated)] == ["k1", "k2"]
    assert [each.returncode for each in (prepared, rotated)] == [0, 0]
    left = x402jobs("keys", "status", X402JOBS_KEYS=fresh)
    assert json.loads(left.stdout)["unreadable"] == []


def test_a_ring_in_the_environment_is_not_ours_to_shorten(
    x402jobs: Command, ring: dict[str, str]
) -> None:
    refused = x402jobs("keys", "remove", "k1", **ring)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "X402JOBS_KEYS is set" in refused.stderr


@pytest.mark.parametrize("command", ["status", "rotate", "add", "remove k1"])
def test_where_there_is_no_data_directory_none_is_made(
    x402jobs: Command, tmp_path: Path, command: str
) -> None:
    refused = x402jobs("keys", *command.split(), "--data", "nowhere")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "x402jobs: there is no data directory nowhere.\n"
    assert not (tmp_path / "nowhere").exists()


def test_a_broken_ring_is_named_by_its_file_and_never_by_its_value(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    (data / "keys").write_text("k1:planted\n")

    refused = x402jobs("keys", "status")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("x402jobs: .x402jobs/keys: key ring entry 1 is not")
    assert "planted" not in refused.stderr


@pytest.mark.parametrize("batch", ["0", "-1", "10001", "many"])
def test_a_batch_that_cannot_be_is_wrong_usage(x402jobs: Command, batch: str) -> None:
    assert x402jobs("keys", "rotate", "--batch", batch).returncode == 2


def test_help_tells_the_one_shape_of_the_json(x402jobs: Command, worker: SqliteStore) -> None:
    helped = x402jobs("keys", "--help").stdout

    told = json.loads(x402jobs("keys", "rotate", **ORIGIN).stdout)
    for name in (*told, *told["columns"][0]):
        assert re.search(rf"^ +{name}  ", helped, re.MULTILINE), name


def test_on_a_terminal_it_is_a_table_with_progress(worker: SqliteStore, data: Path) -> None:
    bob, eve = (worker.catalogue.add_user(name) for name in ("bob", "eve"))
    worker.keys.put_claude_key(eve, "v1.lost.AAAA")

    status, shown = on_a_terminal(*X402JOBS, "keys", "rotate", "--batch", "1", "--data", str(data))

    assert status == 1
    assert "\r1 values seen, 0 sealed" in shown and "\r5 values seen, 1 sealed anew\n" in shown
    assert "key ring  k1 (primary)\n" in shown
    rows = [line.split("  ") for line in shown.splitlines()]
    assert {tuple(cell.strip() for cell in row if cell) for row in rows} >= {
        ("column", "kept under", "values"),
        (KEYS, "k1", "1"),
        (KEYS, "lost (not in the ring)", "1"),
        (KEYS, "aes-256-cbc", "1"),
        (PROMPTS, "k1", "2"),
        (PAYMENTS, "-", "0"),
    }
    assert "not under k1: 2\n" in shown
    for row in (bob, eve):
        assert f"x402jobs: {KEYS}, row {row}: does not open\n" in shown


def printed(x402jobs: Command, *options: str) -> str:
    """The internal key of ada's that the command prints, and nothing beside it."""
    told = x402jobs("keys", "internal", "ada", "--purpose", "tools", *options)
    assert (told.returncode, told.stderr) == (0, ""), told
    (key,) = told.stdout.splitlines()
    return key


def test_an_internal_key_is_printed_and_the_same_one_again(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    key = printed(x402jobs)

    assert re.fullmatch(r"xi_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", key)
    assert printed(x402jobs, "--ttl", "1h") == key
    assert printed(x402jobs, "--purpose", "mail") != key
    ada = worker.catalogue.user_id("ada")
    kept = worker.identities.internal_key(ada, "tools")
    assert (kept.id, kept.expires_at) == (key[3:19], None)
    assert internal_keys(Settings(data=data)).caller(key, ada).user_id == ada


def test_a_rotated_internal_key_is_taken_no_more(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    before, after = printed(x402jobs), printed(x402jobs, "--rotate")

    taken = internal_keys(Settings(data=data))
    assert taken.caller(after, None).user_id == worker.catalogue.user_id("ada")
    with pytest.raises(Unauthenticated):
        taken.caller(before, None)


def test_an_internal_key_outlives_a_change_of_the_ring(
    x402jobs: Command, worker: SqliteStore, data: Path
) -> None:
    key = printed(x402jobs)

    for arguments in (["add"], ["rotate"]):
        assert x402jobs("keys", *arguments, **ORIGIN).returncode == 0
    aged(data)
    assert x402jobs("keys", "remove", "k1").returncode == 0

    assert printed(x402jobs) == key
    taken = internal_keys(Settings(data=data))
    assert taken.caller(key, None).user_id == worker.catalogue.user_id("ada")


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("45s", 45), ("10m", 600), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_a_life_is_a_number_and_a_unit(
    x402jobs: Command, worker: SqliteStore, ttl: str, seconds: int
) -> None:
    printed(x402jobs, "--ttl", ttl)

    kept = worker.identities.internal_key(worker.catalogue.user_id("ada"), "tools")
    assert kept.expires_at == kept.created_at + seconds


@pytest.mark.parametrize("ttl", ["0s", "10", "m", "-1h", "1.5h", "1w", "1h30m", "999999d", ""])
def test_any_other_life_is_refused(x402jobs: Command, worker: SqliteStore, ttl: str) -> None:
    told = x402jobs("keys", "internal", "ada", "--purpose", "tools", "--ttl", ttl)

    assert (told.returncode, told.stdout) == (2, "")
    assert "such as 10m or 30d" in told.stderr


@pytest.mark.parametrize(
    ("user", "purpose", "says"),
    [
        ("eve", "tools", "there is no user eve in .x402jobs. To add one: x402jobs user add eve"),
        ("ada", "To ols", "purpose: 1 to 64 lower-case letters, digits and hyphens, please."),
    ],
)
def test_a_key_for_nobody_or_nothing_is_not_made(
    x402jobs: Command, worker: SqliteStore, user: str, purpose: str, says: str
) -> None:
    told = x402jobs("keys", "internal", user, "--purpose", purpose)

    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"x402jobs: {says}\n")


def test_on_a_terminal_it_is_said_what_the_key_is(worker: SqliteStore, data: Path) -> None:
    asked = ["keys", "internal", "ada", "--purpose", "tools", "--data", str(data)]

    code, said = on_a_terminal(*X402JOBS, *asked)
    _, of_an_hour = on_a_terminal(*X402JOBS, *asked, "--rotate", "--ttl", "1h")

    key, about = said.splitlines()
    ada = worker.catalogue.user_id("ada")
    assert (code, key[:3]) == (0, "xi_")
    assert about == f"Speaks for ada ({ada}), for tools, until it is rotated."
    assert re.search(r"for tools, until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.$", of_an_hour.strip())
