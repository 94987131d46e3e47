"""What of a paid call's time is ours: the product's own account of it, as its operator sees it."""

import re
from dataclasses import replace
from http.client import HTTPConnection

from benchmarks.contest import Contestant, orders_of
from benchmarks.processes import ProcessFailed
from benchmarks.results import OWN_TIME, Part, Row
from benchmarks.rounds import Round, per_call, play_rounds, tell

_SAMPLE = re.compile(r"^x402jobs_(\w+)_seconds_(sum|count)\{(?:door|on)=\"(\w+)\"\} (\S+)$", re.M)
WAITS = ("store", "facilitator_verify", "facilitator_settle")
"""What the account names besides Claude. The store's is ours, and has the ending in it, which comes
after the first event, as well as the worker's beats."""
DELTAS = 5
"""A tenth of a second. The account ends with the first event; of an answer that were over by then
it would have the ending's work as well."""


def paid_call(product: Contestant, rounds: int, calls: int) -> Part:
    """Calls so few that they do not wait for each other: each by itself, twenty a second."""

    def play() -> Round:
        orders = orders_of(calls, DELTAS)
        signed = product.requests(orders)  # for which a quote was asked, and that is in the account
        before = account(product.service.port)
        figures = tell("product", replace(product, requests=lambda _: signed), orders, calls / 20)
        spent = since(account(product.service.port), before, calls)
        print(f"  {', '.join(f'{name} {spent[name]:.2f} ms' for name in spent)}", flush=True)
        return Round({"product": figures}, spent)

    title = f"A paid call of {DELTAS} deltas, by the product's own account, {calls} calls"
    played = play_rounds(title, rounds, play)
    own = played.readings("own")
    rows = [
        Row("our own time, the store included", own),
        *(Row(f"waiting: {name}", played.readings(name)) for name in WAITS),
        Row("CPU of the whole call", played.values("product", per_call)),
    ]
    note = (
        "The development ledger settles inside the process: the facilitator's lines are CPU here. "
        "What the SDK takes to ask Claude is in the wait for Claude, and so is in none of these. "
        "The store's line has the ending and the worker's beats in it, our own time has not. "
        "Over a Supabase project a paid call makes 5 requests of the database: "
        "tests/supabase/test_requests.py names each."
    )
    return Part(title, "ms", 2, rows, played.dropped, {OWN_TIME: own}, note)


def account(port: int) -> dict[tuple[str, str, str], float]:
    """The sums and counts of `/metrics`: what is timed, `sum` or `count`, where."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        said = connection.getresponse().read().decode()
    finally:
        connection.close()
    return {(name, kind, of): float(value) for name, kind, of, value in _SAMPLE.findall(said)}


def since(
    after: dict[tuple[str, str, str], float],
    before: dict[tuple[str, str, str], float],
    calls: int,
) -> dict[str, float]:
    """Milliseconds a call of our own, and of each wait.

    Raises ProcessFailed when the product has counted other calls than these.
    """
    more = {each: value - before.get(each, 0.0) for each, value in after.items()}
    if (counted := more.get(("overhead", "count", "instant"))) != calls:
        raise ProcessFailed(f"{calls} calls were made and the product counts {counted}")
    waits = {name: 1e3 * more.get(("wait", "sum", name), 0.0) / calls for name in WAITS}
    own = 1e3 * more[("overhead", "sum", "instant")] / calls
    return {"own": own, **waits}
