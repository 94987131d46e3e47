"""Streams side by side: what a relayed delta costs, by how much it is late, how many are borne."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contest import Contestant, Figures, orders_of, spread
from benchmarks.results import (
    ADDED_DELAY,
    PER_DELTA_LITELLM,
    PER_DELTA_NAIVE,
    PER_DELTA_NGINX,
    STREAMS,
    Part,
    Row,
)
from benchmarks.rounds import Round, Rounds, per_delta, play_rounds, tell

LATEST = 100.0
"""Milliseconds: what is said later than this no longer feels live."""
QUEUED = 1.0
"""Seconds. A delta's delay does not count what its stream has waited to be opened: where the last
one ends so much later than it should, fewer were open than were asked for."""


@dataclass(frozen=True)
class Load:
    """So many streams of so many deltas, all of which begin within `ramp` seconds; and the same of
    `short` answers, of which the calls' own cost is a greater part.
    """

    streams: int
    deltas: int
    short: int
    ramp: float


def side_by_side(contestants: Sequence[Contestant], rounds: int, load: Load) -> list[Part]:
    """Everybody relays the same, in turns; the product is compared with nginx and the naive one.

    Those three relay the short answers as well.
    """
    names = [each.name for each in contestants]
    compared = [each for each in contestants if each.name in ("nginx", "naive", "product")]
    title = f"CPU per delta, {load.streams} streams of {load.deltas} deltas, 50 a second each"
    played = _both(title, contestants, compared, rounds, load)
    reached = {
        PER_DELTA_NGINX: played.ratios("product", "nginx", per_delta),
        PER_DELTA_NAIVE: played.ratios("product", "naive", per_delta),
        ADDED_DELAY: added_delay(played),
    }
    delays = [Row(name, played.values(name, lambda each: each.delay)) for name in names]
    joined = [
        f"{name} {median(played.values(name, lambda each: each.events / each.deltas)):.3f}"
        for name in names
        if played.kept
    ]
    note = f"Events for each delta: {', '.join(joined)}." if joined else ""
    return [
        Part(title, "us", 0, _rows(names, played), played.dropped, reached, note),
        _shorter(f"The same with answers of {load.short} deltas", compared, played),
        Part("Delay of the middle delta, the longer ones", "ms", 2, delays, played.dropped),
    ]


def added_delay(played: Rounds) -> list[float]:
    """What the product adds to the middle delta's delay, above what nginx adds, in ms."""
    pairs = zip(played.values("product", _delay), played.values("nginx", _delay), strict=True)
    return [product - nginx for product, nginx in pairs]


def beside_litellm(contestants: Sequence[Contestant], rounds: int, load: Load) -> list[Part]:
    """As few streams as LiteLLM bears on one core. It routes and logs, and takes no money."""
    names = [each.name for each in contestants]
    title = f"CPU per delta beside LiteLLM, {load.streams} streams of {load.deltas} deltas"
    played = _both(title, contestants, contestants, rounds, load)
    reached = {PER_DELTA_LITELLM: played.ratios("product", "litellm", per_delta)}
    return [
        Part(title, "us", 0, _rows(names, played), played.dropped, reached),
        _shorter(
            f"The same beside LiteLLM with answers of {load.short} deltas", contestants, played
        ),
    ]


def how_many(
    product: Contestant,
    rounds: int,
    numbers: Sequence[int],
    deltas: int,
    short: int,
    ramp: float,
    crowd: int,
) -> Part:
    """More and more streams on one worker. All must be whole; how late they are is what is asked.

    A hundred begin in each `ramp` seconds, and each lasts until all of them have been open together
    for some seconds. Beside them a `crowd` with `short` answers that begin all in one `ramp`: what
    happens where more calls come in than a core does.
    """
    loads = {f"{number} streams": (number, deltas, ramp * number / 100) for number in numbers}
    loads[f"{crowd} of {short} deltas that begin within {ramp:.0f} s"] = crowd, short, ramp

    def play() -> Round:
        return Round(
            {
                name: tell(name, product, orders_of(number, length), seconds)
                for name, (number, length, seconds) in loads.items()
            }
        )

    title = f"p99 delay of a delta on one worker, streams of {deltas} deltas, 50 a second each"
    played = play_rounds(title, rounds, play)
    rows = [Row(name, played.values(name, lambda each: each.slowest)) for name in loads]
    reached = {STREAMS: [float(borne(each, numbers)) for each in played.kept]}
    note = f"A hundred streams begin in {ramp:.0f} s."
    return Part(title, "ms", 0, rows, played.dropped, reached, note)


def borne(played: Round, numbers: Sequence[int]) -> int:
    """The most streams that were in time, open and said, and all fewer ones too."""
    most = 0
    for number in sorted(numbers):
        each = played.figures[f"{number} streams"]
        if each.slowest >= LATEST or each.wall >= each.nominal + QUEUED:
            break
        most = number
    return most


def _both(
    title: str,
    contestants: Sequence[Contestant],
    brief: Sequence[Contestant],
    rounds: int,
    load: Load,
) -> Rounds:
    """Rounds of everybody with the longer answers, and of some with the short ones."""
    orders, shorter = orders_of(load.streams, load.deltas), orders_of(load.streams, load.short)

    def play() -> Round:
        whole = {each.name: tell(each.name, each, orders, load.ramp) for each in contestants}
        after = {_brief(each): tell(_brief(each), each, shorter, load.ramp) for each in brief}
        return Round(whole | after)

    return play_rounds(title, rounds, play)


def _shorter(title: str, compared: Sequence[Contestant], played: Rounds) -> Part:
    """The shorter answers' own table, the ratios below it."""
    ratios = [
        f"{spread(played.ratios('product, short', _brief(each), per_delta), 2)} of {each.name}"
        for each in compared
        if each.name != "product" and played.kept
    ]
    note = f"The product takes {' and '.join(ratios)}." if ratios else ""
    rows = _rows([_brief(each) for each in compared], played)
    return Part(title, "us", 0, rows, played.dropped, note=note)


def _brief(contestant: Contestant) -> str:
    return f"{contestant.name}, short"


def _rows(names: Sequence[str], played: Rounds) -> list[Row]:
    return [Row(name, played.values(name, per_delta)) for name in names]


def _delay(figures: Figures) -> float:
    return figures.delay
