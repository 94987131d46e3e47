"""Rotating under load: readers and writers at work, the rotation killed again and again.

`python -m tests.rotation_drill --rows 10000 --kills 20 --store supabase` prints what came of it.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import string
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests import origin
from tests.contract.conftest import HAIKU, bought
from tests.supabase.rig import Rig, rig
from x402jobs import stores
from x402jobs.adapters.key_ring import KeyRing, KeyRingFile
from x402jobs.adapters.secret_box import RingSecretBox
from x402jobs.domain.errors import StoreUnavailable, Unreadable
from x402jobs.domain.execution import State
from x402jobs.ports import Place, SealedValue
from x402jobs.services.iam.internal_keys import internal_key_place
from x402jobs.services.iam.pepper import pepper_place
from x402jobs.services.integrations import claude_key_place
from x402jobs.services.rotation import Rotation, Standing
from x402jobs.services.runs import answer_place
from x402jobs.services.settlement import payment_place
from x402jobs.services.templates import prompt_place
from x402jobs.settings import Settings

PLACES = (
    claude_key_place,
    prompt_place,
    payment_place,
    answer_place,
    internal_key_place,
    pepper_place,
)
NEW = "k3"
"""The key that is made while readers and writers are at work."""
BATCH = 25
PAUSE_SECONDS = 0.002
"""Between a server's turns. Without one SQLite, which lets nobody queue, starves the others."""
PAGE = 500
ALPHABET = string.ascii_letters + string.digits + "-_"


@dataclass(frozen=True)
class House:
    """A store with its key ring: the embedded one, or a project's."""

    data: Path
    project: Rig | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What its servers are told."""
        ours = {"X402JOBS_DATA": str(self.data), "INTEGRATION_ENCRYPTION_SECRET": origin.SECRET}
        return ours | (self.project.environment if self.project else {})

    def server(self) -> "Server":
        return Server(Settings.from_env(self.environment))

    def sql(self, text: str, *values: object) -> None:
        """Change the store behind the product's back."""
        if self.project is not None:
            self.project.sql(text, *values)
            return
        with closing(sqlite3.connect(self.data / "x402jobs.sqlite3")) as connection, connection:
            connection.execute(text.replace("%s", "?"), values)

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows like one that is there already, if any, with changes."""
        if self.project is not None:
            self.project.sql(
                f"""insert into {table} select (jsonb_populate_record(l.known, c)).*
                from (select (select t from {table} t limit 1) as known) l,
                    jsonb_array_elements(%s::jsonb) c""",
                json.dumps(rows),
            )
            return
        with closing(sqlite3.connect(self.data / "x402jobs.sqlite3")) as connection, connection:
            connection.row_factory = sqlite3.Row
            known = connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
            for changes in rows:
                row = dict(known or {}) | changes
                names = ", ".join(f'"{each}"' for each in row)
                marks = ", ".join("?" * len(row))
                connection.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values())
                )


class Server:
    """What of a server reads and writes sealed values: the real adapters over the ring's file."""

    def __init__(self, settings: Settings) -> None:
        store = stores.store(settings)
        self.catalogue, self.keys, self.ledger = store.catalogue, store.keys, store.ledger
        self.sealed, self.database = store.sealed, store.database
        self.box = stores.secret_box(settings)
        self.rotation = Rotation(store.sealed, self.box, PLACES)

    def read(self, chance: random.Random) -> int:
        """Open a few values from anywhere, each of which tells whose it is; how many."""
        place_of = chance.choice(PLACES)
        spot = place_of("")
        page = self.sealed.page(spot.table, spot.column, row_id(chance.randrange(2**32)), 5)
        for value in page:
            text = self.box.open(value.sealed, place_of(value.owner)).reveal()
            assert value.row in text, (spot, value.row)
        return len(page)

    def values(self, place_of: Any) -> Iterator[SealedValue]:
        """All of a column."""
        spot, after = place_of(""), ""
        while page := self.sealed.page(spot.table, spot.column, after, PAGE):
            yield from page
            after = page[-1].row

    def text(self, place: Place, sealed: str) -> str | None:
        """What it says, None when it does not open."""
        try:
            return self.box.open(sealed, place).reveal()
        except Unreadable:
            return None


def row_id(number: int, minor: int = 0) -> str:
    return f"{number:08x}-{minor:04x}-4000-8000-000000000000"


def fill(house: House, rows: int) -> None:
    """So many values, a quarter in each column, under two old keys and in the origin's forms.

    And a few more in the two columns that never have many.
    """
    server = house.server()
    ring = KeyRingFile(house.data / "keys")
    first = server.box
    old = RingSecretBox(KeyRing(ring.latest().text("k1")))
    ring.add()
    ada = server.catalogue.add_user("ada")
    server.keys.put_claude_key(ada, "to be copied")
    server.catalogue.add_template(replace(HAIKU, owner_id=ada))
    claim = server.ledger.claim(bought())
    assert claim is not None
    server.ledger.swap(claim, claim.become(State.SETTLING), sealed_payment="to be copied")
    server.database.close()

    filled: dict[str, list[dict[str, Any]]] = {
        "profiles": [],
        "x402_servers": [],
        "x402_user_claude_configs": [],
        "x402_resources": [],
        "x402_executions": [],
        "x402_answers": [],
        "x402_internal_api_keys": [],
        "x402_peppers": [],
    }
    ids = [row_id(number) for number in random.Random(1).sample(range(2**32), rows // 4)]
    for number, row in enumerate(ids):
        box = (old, first)[number % 2]
        key, prompt = f"sk-ant-{row}-0", f"{row} 0"
        sealed_key = box.seal(key, claude_key_place(row))
        sealed_prompt = box.seal(prompt, prompt_place(row))
        if number % 3 == 0:
            sealed_key, sealed_prompt = origin.sealed(key), prompt
        payment = box.seal(f"{row} 0", payment_place(row))
        answer = box.seal(f"{row} {'words ' * 300}", answer_place(row))
        template = {"id": row, "registered_by": row, "pt_system_prompt": sealed_prompt}
        if house.project is not None:
            filled["x402_servers"].append({"id": row, "registered_by": row, "origin_url": row})
            template["server_id"] = row
        filled["profiles"].append({"id": row, "username": f"u{row[:8]}"})
        filled["x402_user_claude_configs"].append({"user_id": row, "api_key_encrypted": sealed_key})
        filled["x402_resources"].append(template)
        filled["x402_executions"].append(
            {"id": row, "claim_key": row, "template_id": row, "sealed_payment": payment}
        )
        filled["x402_answers"].append({"execution_id": row, "sealed_answer": answer})
        if number % 50 == 0:
            internal = {
                "id": row,
                "user_id": row,
                "purpose": "tools",
                "digest": row,
                "sealed_key": box.seal(f"{row} 0", internal_key_place(row)),
                "created_at": 1000.0,
            }
            pepper = {"name": row, "sealed_pepper": box.seal(f"{row} 0", pepper_place(row))}
            filled["x402_internal_api_keys"].append(internal)
            filled["x402_peppers"].append(pepper)
    for table, made in filled.items():
        if made:
            house.insert(table, made)
    house.sql("DELETE FROM x402_executions WHERE id = %s", claim.id)
    house.sql("DELETE FROM x402_resources WHERE id = %s", HAIKU.id)
    house.sql("DELETE FROM x402_user_claude_configs WHERE user_id = %s", ada)


def read_for_ever(server: Server, seed: int) -> Iterator[dict[str, int]]:
    chance, said = random.Random(seed), {"read": 0, "unreadable": 0, "busy": 0}
    while True:
        try:
            said["read"] += server.read(chance)
        except Unreadable:
            said["unreadable"] += 1
        except StoreUnavailable:
            said["busy"] += 1
        yield said


def write_for_ever(server: Server, seed: int) -> Iterator[dict[str, Any]]:
    """Save keys, as creators do; sell, as the shop does; remember what the store has taken."""
    chance, spot = random.Random(seed), claude_key_place("")
    users = [each.row for each in server.values(claude_key_place)]
    said: dict[str, Any] = {"written": 0, "busy": 0, "keys": {}, "answers": {}}
    front = ""
    while True:
        # Where the rotation is just at work, so that they get in each other's way.
        page = server.sealed.page(spot.table, spot.column, front, BATCH)
        forms = {server.box.form(each.sealed, spot).key_id for each in page}
        if forms == {NEW}:
            front = page[-1].row
        user = chance.choice([each.row for each in page] or users)
        number = said["written"]
        key, place = f"sk-ant-{user}-{number}", claude_key_place(user)
        sold = row_id(seed, number)
        try:
            server.keys.put_claude_key(user, server.box.seal(key, place))
            said["keys"][user] = key
            claim = bought(id=sold, claim_key=sold, template_id=user)
            assert server.ledger.claim(claim)
            settling = claim.become(State.SETTLING)
            payment = server.box.seal(f"{sold} payment", payment_place(sold))
            server.ledger.swap(claim, settling, sealed_payment=payment)
            settled = settling.become(State.SETTLED, transaction="0x1")
            server.ledger.swap(settling, settled)
            answer = server.box.seal(f"{sold} answer", answer_place(sold))
            server.ledger.swap(settled, settled.become(State.COMPLETED), sealed_answer=answer)
            said["answers"][sold] = f"{sold} answer"
            said["written"] += 1
        except StoreUnavailable:
            said["busy"] += 1
        yield said


def rotate(server: Server, seed: int) -> Iterator[str]:
    """Say after each batch that had something old how many values are sealed anew so far."""
    before = 0

    def tell(_: int, resealed: int) -> None:
        nonlocal before
        if resealed > before:
            before = resealed
            print(resealed, flush=True)

    server.rotation.rotate(BATCH, tell)
    yield "done"


PARTS = {"read": read_for_ever, "write": write_for_ever, "rotate": rotate}


class Part:
    """One process of the drill."""

    def __init__(self, name: str, house: House, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.rotation_drill", "--part", name, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | house.environment,
        )
        self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> dict[str, Any]:
        """Let it stop and say what it has done."""
        said, _ = self.process.communicate("", timeout=60)
        assert self.process.returncode == 0
        document: dict[str, Any] = json.loads(said)
        return document

    def kill(self) -> int:
        """SIGKILL; the exit status, -9 unless it had ended before."""
        self.process.kill()
        self.process.communicate(timeout=60)
        return self.process.returncode


@dataclass
class Outcome:
    """What came of a drill."""

    read: int
    written: int
    busy: int
    unreadable: int
    before_each_kill: list[int]
    exits: list[int]
    lost: list[str]
    standing: Standing
    tampered: int
    opened: list[str]
    not_told: list[str]
    seconds: float


def drill(house: House, rows: int, kills: int, seed: int = 1) -> Outcome:
    """Fill a store, put load on it, make a new key, and rotate until nothing old is left."""
    fill(house, rows)
    chance = random.Random(seed)
    began = time.monotonic()
    reader, writer = Part("read", house, 7), Part("write", house, 8)
    KeyRingFile(house.data / "keys").add(NEW)
    before_each_kill, exits = [], []
    try:
        for _ in range(kills):
            rotator = Part("rotate", house, 0)
            # Somewhere within its share of the work, which leaves some for every other.
            for _ in range(chance.randint(1, rows // BATCH // (kills + 1))):
                resealed = int(rotator.line())
            time.sleep(chance.random() * 0.01)
            exits.append(rotator.kill())
            before_each_kill.append(resealed)
        last = Part("rotate", house, 0)
        last.process.communicate("", timeout=600)
        exits.append(last.process.returncode)
    finally:
        said, heard = writer.end(), reader.end()
    server = house.server()
    lost = [
        row
        for texts, place_of in ((said["keys"], claude_key_place), (said["answers"], answer_place))
        for row, text in texts.items()
        if text_at(server, place_of, row) != text
    ]
    standing = server.rotation.standing(PAGE)
    tampered, opened = tamper(server, chance)
    not_told = tamper_at_rest(server, chance)
    server.database.close()
    return Outcome(
        read=heard["read"],
        written=said["written"],
        busy=said["busy"] + heard["busy"],
        unreadable=heard["unreadable"],
        before_each_kill=before_each_kill,
        exits=exits,
        lost=lost,
        standing=standing,
        tampered=tampered,
        opened=opened,
        not_told=not_told,
        seconds=time.monotonic() - began,
    )


def text_at(server: Server, place_of: Any, row: str) -> str | None:
    spot = place_of("")
    behind = str(uuid.UUID(int=uuid.UUID(row).int - 1))
    (value,) = server.sealed.page(spot.table, spot.column, behind, 1)
    return server.text(place_of(value.owner), value.sealed) if value.row == row else None


def tamper(server: Server, chance: random.Random, samples: int = 3) -> tuple[int, list[str]]:
    """Change each character of a few values of every column; how many changes, and which open."""
    tampered, opened = 0, []
    for place_of in PLACES:
        values = list(server.values(place_of))
        for value in chance.sample(values, min(samples, len(values))):
            place = place_of(value.owner)
            for at, right in enumerate(value.sealed):
                wrong = chance.choice([each for each in ALPHABET if each != right])
                damaged = f"{value.sealed[:at]}{wrong}{value.sealed[at + 1 :]}"
                tampered += 1
                if server.text(place, damaged) is not None:
                    opened.append(f"{place.table} {value.row} at {at}")
    return tampered, opened


def tamper_at_rest(server: Server, chance: random.Random) -> list[str]:
    """Damage one value of every column where it rests; the columns where it was not told."""
    not_told = []
    for place_of in PLACES:
        spot = place_of("")
        value = chance.choice(list(server.values(place_of)))
        at = chance.randrange(len(value.sealed))
        wrong = chance.choice([each for each in ALPHABET if each != value.sealed[at]])
        damaged = replace(value, sealed=f"{value.sealed[:at]}{wrong}{value.sealed[at + 1 :]}")
        server.sealed.replace(spot.table, spot.column, [(value, damaged.sealed)])
        unreadable = server.rotation.standing(PAGE).unreadable
        server.sealed.replace(spot.table, spot.column, [(damaged, value.sealed)])
        if unreadable != [(f"{spot.table}.{spot.column}", value.row)]:
            not_told.append(spot.table)
    return not_told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--store", choices=("sqlite", "supabase"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    of_a_project = rig() if arguments.store == "supabase" else nullcontext()
    with tempfile.TemporaryDirectory() as directory, of_a_project as project:
        house = House(Path(directory) / "data", project)
        outcome = drill(house, arguments.rows, arguments.kills, arguments.seed)
    for name, value in vars(outcome).items():
        print(f"{name:17} {value}")


def play(name: str, seed: int) -> None:
    """One part: told to stop by the end of its input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_blocking(sys.stdin.fileno(), False)
    part: Iterator[Any] = PARTS[name](Server(Settings.from_env()), seed)
    if name == "rotate":
        print("ready", flush=True)
    said = next(part)
    if name != "rotate":  # a server, which has read its ring before the new key is made
        print("ready", flush=True)
        while sys.stdin.buffer.raw.read(1) != b"":  # type: ignore[attr-defined]
            time.sleep(PAUSE_SECONDS)
            said = next(part)
    print(json.dumps(said))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        play(sys.argv[2], int(sys.argv[3]))
    else:
        main()
