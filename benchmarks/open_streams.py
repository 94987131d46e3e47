"""What an open stream holds, and what a call costs among many of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from statistics import harmonic_mean

from benchmarks.contest import Contestant, orders_of
from benchmarks.held import held, silent
from benchmarks.results import CROWDED_CALL, MEMORY, Part, Row
from benchmarks.rounds import Round, per_call, play_rounds, tell

AFTERWARDS = "0 again"
"""A worker gets quicker as it warms up: the calls in a crowd are compared with those before it and
those after it, with the mean of both."""


def open_streams(
    begin: Callable[[], AbstractContextManager[Contestant]],
    rounds: int,
    numbers: Sequence[int],
    calls: int,
) -> list[Part]:
    """A fresh worker each round, since memory that was once taken does not come back.

    `numbers` are of open streams, beginning with 0. The open ones are silent meanwhile, so that the
    CPU is the calls' own.
    """

    def play() -> Round:
        with begin() as product:
            return among(product, numbers, calls)

    played = play_rounds(
        f"{calls} calls of one delta among {', '.join(map(str, numbers))} open streams",
        rounds,
        play,
    )
    most = str(numbers[-1])
    rows = [
        *(Row(f"{each} open", played.values(str(each), per_call)) for each in numbers),
        Row("0 open, afterwards", played.values(AFTERWARDS, per_call)),
    ]
    ratios = zip(
        played.ratios(most, "0", per_call), played.ratios(most, AFTERWARDS, per_call), strict=True
    )
    crowded = {CROWDED_CALL: [harmonic_mean(both) for both in ratios]}
    memory = played.readings("KiB")
    return [
        Part("CPU of a 1-delta call among open streams", "ms", 1, rows, played.dropped, crowded),
        Part(
            f"Memory per open stream, {most} open",
            "KiB",
            0,
            [Row("product", memory)],
            played.dropped,
            {MEMORY: memory},
        ),
    ]


def among(product: Contestant, numbers: Sequence[int], calls: int) -> Round:
    """The same calls with more and more streams open beside them."""
    service, figures, opened = product.service, {}, 0
    tell("warming up", product, orders_of(calls, 1), calls / 25)
    before = service.resident()
    with ExitStack() as streams:
        for number in numbers:
            more = silent(opened, number - opened)
            for few in (more[at : at + 100] for at in range(0, len(more), 100)):
                streams.enter_context(held(service.port, product.requests(few)))  # freshly signed
            opened = number
            if number == numbers[-1]:
                kibibytes = (service.resident() - before) / 1024 / max(1, opened)
            orders = orders_of(calls, 1)
            figures[str(number)] = tell(f"{number} open", product, orders, calls / 25)
        print(f"  {kibibytes:.0f} KiB a stream", flush=True)
    figures[AFTERWARDS] = tell(AFTERWARDS, product, orders_of(calls, 1), calls / 25)
    return Round(figures, {"KiB": kibibytes})
