"""Every goal of ours, measured: `python -m benchmarks`; forty minutes, on a quiet machine.

benchmarks/README.md tells what the figures mean. `--small` shows that it works, and nothing else.
"""

import argparse
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from benchmarks import growth, open_streams, paid_call, relaying
from benchmarks.contest import BURST, RAMP, Contestant, check_upstream, orders_of
from benchmarks.load import WrongStream
from benchmarks.plot import picture
from benchmarks.processes import ProcessFailed, Service
from benchmarks.results import Part, markdown
from benchmarks.rounds import tell
from benchmarks.shop import PATH, Shop
from benchmarks.stage import QUIET, Stage, stage


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rounds: int
    streams: int
    deltas: int
    short: int
    long: int
    ramp: float
    burst: int
    beside_litellm: int
    numbers: tuple[int, ...]
    crowd: int
    opened: tuple[int, ...]
    calls: int
    rows: tuple[int, ...]
    kilobytes: tuple[int, ...]
    workers: tuple[int, ...]


FULL = Size(
    rounds=6,
    streams=100,
    deltas=500,
    short=200,
    long=1000,
    ramp=RAMP,
    burst=BURST,
    beside_litellm=20,
    numbers=(100, 250, 500),
    crowd=250,
    opened=(0, 250, 500, 1000),
    calls=100,
    rows=(1_000, 100_000, 1_000_000),
    kilobytes=(1, 10, 50, 100, 195),
    workers=(1, 2, 4),
)
SMALL = Size(
    rounds=1,
    streams=5,
    deltas=10,
    short=5,
    long=10,
    ramp=0.2,
    burst=5_000,
    beside_litellm=5,
    numbers=(5,),
    crowd=5,
    opened=(0, 10),
    calls=5,
    rows=(1_000,),
    kilobytes=(1, 195),
    workers=(1, 2),
)
LITELLM = "litellm"
PROJECT = ("SUPABASE_URL", "SUPABASE_SECRET_KEY")


@dataclass
class Run:
    """One run: where, how much, and where LiteLLM is, if it is."""

    stage: Stage
    size: Size
    litellm: str | None
    stack: ExitStack

    @cached_property
    def house(self) -> tuple[Service, Shop]:
        """The product that all parts share but those that ask for a fresh one, and its shop."""
        shop = self.stage.shop(self.size.kilobytes)
        service = self.stack.enter_context(self.stage.product(shop))
        self.warm_up(self.stage.selling("product", service, shop), self.stage.giving(service))
        return service, shop

    def product(self, path: str = PATH) -> Contestant:
        """The shared one, paid."""
        return self.stage.selling("product", *self.house, path)

    def warm_up(self, *contestants: Contestant) -> None:
        """Imports, connections, tables."""
        for each in contestants:
            tell(f"warm: {each.name}", each, orders_of(self.size.calls, 5), self.size.ramp)

    def relaying(self) -> list[Part]:
        """Everybody side by side, and LiteLLM where there is one."""
        size, here = self.size, self.stage
        if not check_upstream(here.fake, size.streams, size.deltas, size.ramp, size.burst):
            raise ProcessFailed("the upstream alone is too slow for this load")
        product = self.product()
        with ExitStack() as stack:
            others = [
                here.passing("nginx", stack.enter_context(here.nginx())),
                here.passing("floor", stack.enter_context(here.relay("floor"))),
                here.asking("naive", stack.enter_context(here.relay("naive"))),
            ]
            self.warm_up(*others)
            contestants = [*others, here.giving(product.service), product]
            load = relaying.Load(size.streams, size.deltas, size.short, size.ramp)
            parts = relaying.side_by_side(contestants, size.rounds, load)
            if self.litellm is not None:
                theirs = here.proxying(stack.enter_context(here.litellm(self.litellm)))
                self.warm_up(theirs)
                few = replace(load, streams=size.beside_litellm)
                parts += relaying.beside_litellm([theirs, product], size.rounds, few)
        return parts

    def many(self) -> list[Part]:
        """Loads that the upstream alone does not bear are left out."""
        size, fake = self.size, self.stage.fake
        numbers = [
            each
            for each in size.numbers
            if check_upstream(fake, each, size.long, size.ramp * each / 100, size.burst)
        ]
        if not numbers:
            raise ProcessFailed("the upstream alone is too slow for every load")
        return [
            relaying.how_many(
                self.product(),
                size.rounds,
                numbers,
                size.long,
                size.short,
                size.ramp,
                size.crowd,
            )
        ]

    def open(self) -> list[Part]:
        """Memory, and calls among many open streams."""

        @contextmanager
        def fresh() -> Iterator[Contestant]:
            shop = self.stage.shop()
            with self.stage.product(shop, **QUIET) as service:
                product = self.stage.selling("product", service, shop)
                self.warm_up(product)
                yield product

        return open_streams.open_streams(fresh, self.size.rounds, self.size.opened, self.size.calls)

    def paid(self) -> list[Part]:
        """Our own time in a paid call."""
        return [paid_call.paid_call(self.product(), self.size.rounds, self.size.calls)]

    def rows(self) -> list[Part]:
        """One product a ledger."""
        products = {}
        with ExitStack() as stack:
            for number in self.size.rows:
                shop = self.stage.shop()
                growth.fill(shop.data, number)
                service = stack.enter_context(self.stage.product(shop))
                products[f"{number:,} rows"] = self.stage.selling("product", service, shop)
            self.warm_up(*products.values())
            return [growth.with_rows(products, self.size.rounds, self.size.calls)]

    def prompts(self) -> list[Part]:
        """One product, a template a size."""
        products = {f"{each} KB": self.product(f"{PATH}-{each}") for each in self.size.kilobytes}
        self.warm_up(*products.values())
        return [growth.with_prompts(products, self.size.rounds, self.size.calls)]

    def workers(self) -> list[Part]:
        """One product a number of workers, over the project that the environment names."""
        project = {name: os.environ[name] for name in PROJECT}
        shop, products = self.stage.shop(environment=project), {}
        with ExitStack() as stack:
            for number in self.size.workers:
                several = {"WEB_CONCURRENCY": str(number), **project}
                service = stack.enter_context(self.stage.product(shop, **several))
                label = f"{number} workers" if number > 1 else "1 worker"
                products[label] = self.stage.selling("product", service, shop)
            self.warm_up(*products.values())
            return [growth.with_workers(products, self.size.rounds, self.size.calls)]


PARTS: dict[str, Callable[[Run], list[Part]]] = {
    "relaying": Run.relaying,
    "many": Run.many,
    "open": Run.open,
    "paid": Run.paid,
    "rows": Run.rows,
    "prompts": Run.prompts,
    "workers": Run.workers,
}


def machine() -> str:
    """The machine's shape, in a line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    linux = ".".join(platform.release().split(".")[:2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {linux}, Python "
        f"{platform.python_version()}"
    )


def measured() -> str:
    """Which code, over which versions of what it stands on."""
    git = ["git", "describe", "--always", "--dirty"]
    try:
        code = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        code = "unknown"
    packages = ", ".join(f"{each} {version(each)}" for each in ("gunicorn", "gevent", "anthropic"))
    return f"Commit {code}, {packages}, SQLite {sqlite3.sqlite_version}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when there is a result, whatever it is; 1 when a stream was wrong or a process failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all that can be")
    parser.add_argument("--rounds", type=int, help="of each part; fewer than 5 prove nothing")
    parser.add_argument("--small", action="store_true", help="a little of everything")
    parser.add_argument(
        "--litellm",
        default=shutil.which(LITELLM),
        metavar="PROGRAM",
        help="its program, where it is installed apart",
    )
    parser.add_argument("--write", type=Path, metavar="DIRECTORY", help="table and plot, too")
    asked = parser.parse_args(arguments)
    if wrong := [each for each in asked.parts if each not in PARTS]:
        parser.error(f"no such part: {', '.join(wrong)}; there are {', '.join(PARTS)}")
    has_project = all(os.environ.get(name) for name in PROJECT)
    if "workers" in asked.parts and not has_project:
        parser.error(f"workers need a project: {' and '.join(PROJECT)}")
    names = asked.parts or [each for each in PARTS if each != "workers" or has_project]
    size = SMALL if asked.small else FULL
    size = replace(size, rounds=asked.rounds or size.rounds)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)  # so that every process is ended
    began, stands_on = datetime.now(UTC), measured()  # now: the checkout may be another at the end
    head = f"{machine()}, load average {os.getloadavg()[0]:.2f}"
    print(head, flush=True)
    parts: list[Part] = []
    failure = None
    try:
        for part in run(names, size, asked.litellm):
            parts.append(part)
    except (WrongStream, ProcessFailed, OSError) as error:
        failure = f"failed: {type(error).__name__}: {error}"
    except KeyboardInterrupt:
        failure = "interrupted"
    command = "python -m benchmarks " + " ".join(arguments or sys.argv[1:])
    report = (
        f"## {began:%Y-%m-%d %H:%M}\n\n{head} before the start, {os.getloadavg()[0]:.2f} at the "
        f"end. {stands_on}. `{command.strip()}`\n\n{markdown(parts)}"
    )
    print(f"\n{report}")
    if failure is not None:
        print(f"\n{failure}")
        return 1
    if asked.write:
        write(asked.write, began, report, parts)
    return 0


def run(names: Sequence[str], size: Size, litellm: str | None) -> Iterator[Part]:
    """Each part by itself, in turn."""
    with (
        tempfile.TemporaryDirectory(prefix="x402jobs-bench-") as directory,
        stage(Path(directory)) as here,
        ExitStack() as stack,
    ):
        each = Run(here, size, litellm, stack)
        for name in names:
            yield from PARTS[name](each)


def write(directory: Path, began: datetime, report: str, parts: Sequence[Part]) -> None:
    """`DATE-TIME.md`, with `DATE-TIME.svg` in it: an earlier result is never written over."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"{began:%Y-%m-%d-%H%M}"
    (directory / f"{name}.svg").write_text(picture(parts))
    (directory / f"{name}.md").write_text(f"{report}\n![The figures as bars]({name}.svg)\n")


if __name__ == "__main__":
    sys.exit(main())
