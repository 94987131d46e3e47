"""What the embedded store promises of tiles besides: one request, and never the whole tree."""

import pytest

from x402jobs.adapters.sqlite import SqliteTiles, embedded_database, tiles
from x402jobs.adapters.tile_rows import place, to_row
from x402jobs.domain.coords import Coords
from x402jobs.domain.errors import StoreUnavailable
from x402jobs.domain.tile import Tile, Visibility


@pytest.fixture
def database(tmp_path):
    database = embedded_database(tmp_path)
    yield database
    database.close()


def thousand():
    """Coordinates of a root and a thousand tiles under it, level by level."""
    places = [Coords("u")]
    for above in places:
        if len(places) <= 1000:
            places += [above.child(step) for step in (1, 2, 3, 4, 5, 6, -1, -2)]
    return places[:1001]


@pytest.fixture
def store(database):
    store = SqliteTiles(database)
    database.read("PRAGMA synchronous = OFF")
    for coords in thousand():
        store.add(Tile(coords, f"Title of {coords}", "c" * 500, visibility=Visibility.PUBLIC))
    return store


@pytest.fixture
def statements(database):
    """Every statement the database has been asked, from now on."""
    asked = []
    with database.connection() as connection:
        connection.set_trace_callback(asked.append)
    yield asked
    with database.connection() as connection:
        connection.set_trace_callback(None)


@pytest.mark.parametrize("reader", ["u", "v"])
def test_the_context_of_a_thousand_tiles_is_one_request(store, statements, reader):
    told = store.context(Coords("u"), reader)

    assert len(statements) == 1
    assert (len(told.subtasks), len(told.context), len(told.leaves)) == (6, 2, 396)


@pytest.mark.parametrize(
    "sql",
    [tiles._CONTEXT, f"SELECT * FROM tiles WHERE {tiles._BELOW}", tiles._ABOVE, tiles._REPLACE],
    ids=["context", "below", "above", "replace"],
)
def test_a_request_looks_at_its_part_of_the_tree_alone(database, sql):
    values = place(Coords("u", 0, (1, 2))) | to_row(Tile(Coords("u"), "t")) | {
        "reader_id": "u", "near": "[]", "above": "[]", "updated_before": 0.0,
    }  # fmt: skip
    with database.connection() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()

    steps = [row["detail"] for row in plan if " tiles" in row["detail"] or " t " in row["detail"]]
    assert steps and all(
        step.startswith("SEARCH ") and "group_id=? AND path" in step for step in steps
    )


@pytest.mark.parametrize(
    "spoil",
    [
        "path = '7'",
        "path = '1,2'",
        "path = 'g'",
        "path = '0'",
        "hexplan = '{}'",
        "visibility = 'secret'",
        "group_id = -1",
    ],
)
def test_the_table_itself_refuses_what_is_no_tile(database, spoil):
    store = SqliteTiles(database)
    store.add(Tile(Coords("u"), "Root"))

    with pytest.raises(StoreUnavailable), database.write() as connection:
        connection.execute(f"UPDATE tiles SET {spoil}")

    assert store.tile(Coords("u"), "u") == Tile(Coords("u"), "Root")
