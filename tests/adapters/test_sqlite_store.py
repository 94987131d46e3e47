"""What only the embedded store has: a file, its owner, its locks and its faults."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from tests.contract.conftest import CLAIM_KEY, HAIKU, bought, earlier, walked
from x402jobs.adapters.sqlite import UPGRADES, Database, embedded_store
from x402jobs.adapters.sqlite.ledger import _OPEN_MATTERS, _PURGE, _TAKE_OVER, INDEXED
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.execution import State


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def worker(data):
    worker = embedded_store(data)
    publish(worker)
    yield worker
    worker.database.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("x402jobs.adapters.sqlite.database.BUSY_SECONDS", 0.05)


def publish(worker):
    worker.catalogue.add_template(replace(HAIKU, owner_id=worker.catalogue.add_user("ada")))


def raw(data):
    return closing(sqlite3.connect(data / "x402jobs.sqlite3", isolation_level=None))


def in_processes(script, data, count):
    """Let so many processes run the script at the same moment; what each one printed."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + script, str(data), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(count)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * count
    return said


PREAMBLE = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.contract.conftest import HAIKU, bought
from x402jobs.adapters.sqlite import embedded_store
data, number = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
"""
CREATE = """
worker = embedded_store(data)
print(worker.catalogue.add_user("ada"))
"""
CLAIM = """
worker = embedded_store(data)
for round in range(13):
    row = worker.ledger.claim(bought(id=f"{number}-{round}", worker=number, claim_key=f"c{round}"))
    print("-" if row is None else row.id)
"""


def test_the_file_and_its_directory_are_their_owners_alone(data, tmp_path):
    before = os.umask(0)
    try:
        worker = embedded_store(data)
        publish(worker)
    finally:
        os.umask(before)

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in data.iterdir()}
    worker.database.close()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert modes["x402jobs.sqlite3"] == 0o600
    assert set(modes.values()) == {0o600}


def test_nothing_is_made_before_the_first_use(data):
    embedded_store(data)

    assert not data.exists()


def test_a_closed_store_opens_again_with_everything_in_it(worker):
    row = walked(worker)
    worker.database.close()
    worker.database.close()

    assert earlier(worker) == row


def test_the_schema_is_made_once_by_processes_that_come_at_once(data):
    said = in_processes(CREATE, data, 8)

    assert len({user_id for (user_id,) in said}) == 1
    with raw(data) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1 + len(UPGRADES),)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM profiles").fetchone() == (1,)


def test_the_schema_is_made_once_by_threads_that_come_at_once(data):
    worker, ids = embedded_store(data), []
    threads = [
        Thread(target=lambda: ids.append(worker.catalogue.add_user("ada"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    worker.database.close()
    assert (len(ids), len(set(ids))) == (20, 1)


def test_of_a_hundred_claims_by_eight_processes_at_once_one_wins_each_time(worker, data):
    said = in_processes(CLAIM, data, 8)

    for round, claims in enumerate(zip(*said, strict=True)):
        (winner,) = [each for each in claims if each != "-"]
        assert earlier(worker, f"c{round}").id == winner


def test_a_committed_step_survives_a_power_cut(worker):
    with worker.database.connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_store_that_somebody_has_locked_is_unavailable_and_then_available_again(
    impatient, worker, data
):
    worker.database.close()
    assert earlier(worker) is None
    with raw(data) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailable):
            worker.ledger.claim(bought())
        assert earlier(worker) is None, "whoever only reads does not wait for a writer"
        other.execute("ROLLBACK")

    assert worker.ledger.claim(bought()) == bought()


def test_a_store_that_cannot_be_written_is_unavailable_and_can_still_be_read(worker):
    row = walked(worker)
    with worker.database.connection() as connection:
        connection.execute("PRAGMA query_only = ON")

    with pytest.raises(StoreUnavailable):
        worker.ledger.swap(row, row.become(State.SETTLING))
    with pytest.raises(StoreUnavailable):
        worker.ledger.record(bought(id="e2", claim_key=None))
    assert earlier(worker) == row


def test_a_full_disk_makes_the_store_unavailable_until_there_is_room(worker):
    row = walked(worker, State.SETTLING, State.SETTLED)
    done = row.become(State.COMPLETED)
    with worker.database.connection() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StoreUnavailable):
        worker.ledger.swap(row, done, sealed_answer="a" * 100_000)
    assert earlier(worker) == row, "the step is undone with its answer"
    with worker.database.connection() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    worker.ledger.swap(row, done, sealed_answer="a" * 100_000)

    assert earlier(worker) == done


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"This is not a database, and never was. " * 100),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 20_000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.parent.rmdir(), path.parent.write_text("a file")),
    ],
    ids=["not a database", "corrupt", "a directory", "a file for its directory"],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda worker: worker.catalogue.listing("ada", "haiku", CLAIM_KEY),
        lambda worker: worker.catalogue.add_user("ada"),
        lambda worker: worker.ledger.claim(bought()),
        lambda worker: worker.ledger.sealed_answer(bought()),
        lambda worker: worker.keys.put_pay_to("ada", "0xADA"),
    ],
    ids=["listing", "add_user", "claim", "sealed_answer", "put_pay_to"],
)
def test_a_spoiled_store_is_unavailable_and_says_nothing_of_its_path(data, spoil, use):
    worker = embedded_store(data)
    publish(worker)
    worker.database.close()
    for each in data.iterdir():
        if each.name != "x402jobs.sqlite3":
            each.unlink()
    spoil(data / "x402jobs.sqlite3")

    with pytest.raises(StoreUnavailable) as refusal:
        use(worker)

    assert refusal.value.message == StoreUnavailable.sentence
    worker.database.close()


def test_an_exception_in_the_middle_of_a_step_undoes_it(worker):
    with pytest.raises(KeyboardInterrupt), worker.database.write() as connection:
        connection.execute("INSERT INTO profiles VALUES ('b', 'bob')")
        raise KeyboardInterrupt

    assert worker.catalogue.user_id("bob") is None
    assert worker.catalogue.add_user("bob") != "b"


def test_a_forked_child_has_a_connection_of_its_own(worker):
    row = walked(worker)

    child = os.fork()
    if child == 0:
        status = 1
        try:
            settling = row.become(State.SETTLING)
            if earlier(worker) == row:
                worker.ledger.swap(row, settling)
                worker.database.close()
                status = 0 if earlier(worker) == settling else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert earlier(worker) == row.become(State.SETTLING)


def test_what_a_child_writes_after_its_parent_has_closed_is_not_lost(worker, data):
    """SQLite keeps locks per process; an inherited one must not pass for the child's own."""
    row = walked(worker)
    to_child, to_parent = os.pipe(), os.pipe()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            worker.ledger.swap(row, row.become(State.SETTLING))
            os.write(to_parent[1], b"1")
            os.read(to_child[0], 1)
            settling = row.become(State.SETTLING)
            worker.ledger.swap(settling, settling.become(State.RELEASED))
            status = 0
        finally:
            os._exit(status)
    os.read(to_parent[0], 1)
    worker.database.close()
    os.write(to_child[1], b"1")
    _, status = os.waitpid(child, 0)
    for each in (*to_child, *to_parent):
        os.close(each)

    assert os.waitstatus_to_exitcode(status) == 0
    assert earlier(worker).state is State.RELEASED
    with raw(data) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_close_that_is_put_off_leaves_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gevent's `os.close` may close later; the second opening would wait for the first's lock."""
    put_off: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", put_off.append)
        stores = [Database(tmp_path / name, "CREATE TABLE t (x);") for name in ("one", "two")]
        opening = [Thread(target=store.read, args=["SELECT * FROM t"]) for store in stores]
        for each in opening:
            each.daemon = True
            each.start()
            each.join(5)

    for descriptor in put_off:
        os.close(descriptor)
    assert not any(each.is_alive() for each in opening)
    for store in stores:
        store.close()


def shape(data):
    """Every table, index and constraint, in the words SQLite keeps, without their layout."""
    with raw(data) as connection:
        words = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        columns = connection.execute(
            """SELECT m.name, c.* FROM sqlite_master m, pragma_table_info(m.name) c
            WHERE m.type = 'table' ORDER BY m.name, c.name"""
        ).fetchall()
        keys = connection.execute(
            """SELECT m.name, f."table", f."from", f."to"
            FROM sqlite_master m, pragma_foreign_key_list(m.name) f ORDER BY 1, 2, 3"""
        ).fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    names = sorted((kind, name) for kind, name, _ in words)
    # Not the place of a column in its table: an added one comes last.
    # `column` is name, type, NOT NULL, default, primary key.
    return version, names, sorted(map(str, ((table, *rest) for table, _, *rest in columns))), keys


def test_a_file_of_the_first_version_is_brought_up_to_this_one_and_keeps_its_rows(data, tmp_path):
    data.mkdir()
    schema = Path(__file__).with_name("schema_1.sql").read_text()
    with raw(data) as connection:
        connection.executescript(f"""{schema}
            INSERT INTO profiles VALUES ('ada-id', 'ada');
            INSERT INTO x402_user_claude_configs VALUES ('ada-id', 'sealed', 1);
            INSERT INTO x402_resources VALUES
                ('t0', 1, 'ada-id', 'haiku', 'Old', '', 1, 0, 'p', '[]', 'claude', 9, 0),
                ('t1', 3, 'ada-id', 'haiku', 'Haiku', '', 1, 1, 'p', '[]', 'claude', 9, 0);
            INSERT INTO x402_executions
                (id, kind, state, attempt, worker, template_id, template_version, digest,
                amount, created_at)
                VALUES ('e1', 'free', 'completed', 1, 'w1', 't0', 1, 'd', 0, 1000.25);
            PRAGMA user_version = 1;""")
    worker, fresh = embedded_store(data), embedded_store(tmp_path / "fresh")

    listing = worker.catalogue.listing("ADA", "haiku", None)
    fresh.catalogue.user_id("ada")

    assert (listing.template.id, listing.template.version) == ("t1", 3)
    assert (listing.template.network, listing.sealed_key) == ("eip155:31337", "sealed")
    assert [run.id for run in worker.ledger.executions_of(9, 0, template_id="t0").items] == ["e1"]
    assert shape(data) == shape(tmp_path / "fresh")
    with raw(data) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    worker.database.close()
    fresh.database.close()


def test_a_file_of_a_later_version_is_left_alone_and_says_so(data, worker):
    with raw(data) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreUnavailable, match="newer version") as refusal:
        embedded_store(data).catalogue.user_id("ada")

    assert str(data / "x402jobs.sqlite3") in refusal.value.message


def test_the_columns_of_indexes_are_known_by_name(worker):
    """What is noted between two steps is always written, indexed or not."""
    columns = set()
    with worker.database.connection() as connection:
        names = {row["name"] for row in connection.execute("PRAGMA table_info(x402_executions)")}
        for index in connection.execute("PRAGMA index_list(x402_executions)").fetchall():
            sql = "SELECT sql FROM sqlite_master WHERE name = ?"
            (made,) = connection.execute(sql, [index["name"]]).fetchone()
            asked = set(re.findall(r"\w+", (made or "").partition(" WHERE ")[2]))
            keys = connection.execute(f"PRAGMA index_info({index['name']})").fetchall()
            columns |= {key["name"] for key in keys} | (asked & names)

    assert columns == INDEXED | {"opened_at"}


def test_what_is_done_every_few_minutes_does_not_read_the_whole_ledger(worker):
    values = {
        "yesterday": 0,
        "worker": "w",
        "left": "{}",
        "limit": 9,
        "unseen": 15,
        "opening_seconds": 60,
        "run_seconds": 600,
    }
    with worker.database.connection() as connection:
        plans = [
            row["detail"]
            for sql in (*_PURGE, _TAKE_OVER, _OPEN_MATTERS)
            for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        ]

    scans = [plan for plan in plans if plan.startswith(("SCAN x402_executions", "SCAN e"))]
    assert scans == ["SCAN e USING INDEX x402_executions_open"], "which has what is at work alone"


def test_what_must_be_on_the_disk_before_anything_follows_is(worker):
    """SQLite itself is asked, since no power can be cut here."""
    ledger, how = worker.ledger, []
    with worker.database.connection() as connection:
        connection.set_trace_callback(how.append)

    def waited_for_the_disk(step):
        how.clear()
        step()
        assert "COMMIT" in how
        return "PRAGMA synchronous = FULL" in how[: how.index("COMMIT")]

    claimed = bought()
    settling = claimed.become(State.SETTLING)
    settled = settling.become(State.SETTLED, transaction=f"0x{'ab' * 32}", settled_at=3.0)
    completed = settled.become(State.COMPLETED, ended_at=4.0)

    assert not waited_for_the_disk(lambda: ledger.claim(claimed))
    assert waited_for_the_disk(lambda: ledger.swap(claimed, settling))
    assert not waited_for_the_disk(lambda: ledger.swap(settling, settled))
    assert waited_for_the_disk(lambda: ledger.swap(settled, completed, sealed_answer="sealed"))
    assert waited_for_the_disk(lambda: ledger.beat("worker"))
