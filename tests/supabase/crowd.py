"""A crowd that writes through one worker's store, greenlets or threads, and says how it went.

    python -m tests.supabase.crowd greenlets 170

Each member claims a row, settles it and has settled it. One JSON object tells what each was told.
"""

import sys

if __name__ == "__main__" and sys.argv[1] == "greenlets":
    from gevent import monkey

    monkey.patch_all()

import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tests.contract.conftest import bought
from x402jobs.adapters.supabase import database, supabase_store
from x402jobs.domain.errors import X402JobsError
from x402jobs.domain.execution import State
from x402jobs.domain.secret import Secret
from x402jobs.logs import configure_logs
from x402jobs.ports import Ledger

PATIENCE = 60.0
"""For a turn, and for an answer: how busy this machine is decides nothing."""


def walk(ledger: Ledger, name: str, start: Barrier) -> list[str]:
    """What one member was told, write by write."""
    told = []
    start.wait()
    try:
        row = ledger.claim(bought(id=name, claim_key=f"key-{name}", digest=name))
        if row is None:
            return ["taken"]
        told.append(row.state)
        steps: tuple[tuple[State, dict[str, str]], ...] = (
            (State.SETTLING, {}),
            (State.SETTLED, {"transaction": f"0x{name}"}),
        )
        for state, facts in steps:
            after = row.become(state, **facts)
            ledger.swap(row, after)
            row = after
            told.append(row.state)
    except X402JobsError as error:
        told.append(error.code)
    return told


def main(count: int) -> None:
    configure_logs("WARNING")
    database.QUEUE_SECONDS = database.TRY_SECONDS = PATIENCE
    url, key = os.environ["SUPABASE_URL"], os.environ["SUPABASE_SECRET_KEY"]
    store = supabase_store(url, Secret(key))
    start = Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        told = pool.map(lambda n: walk(store.ledger, f"e{n}", start), range(count))
        print(json.dumps({f"e{n}": each for n, each in enumerate(told)}))
    store.database.close()


if __name__ == "__main__":
    main(int(sys.argv[2]))
