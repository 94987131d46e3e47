"""The checks of the store: is it there, is it ours, is all in order in it?"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote

from x402jobs import stores, wiring
from x402jobs.adapters import claude
from x402jobs.adapters.bounded_http import Connections, within
from x402jobs.adapters.sqlite import UPGRADES
from x402jobs.doctor import Check, Finding, clocks, fail, not_run, ok, warn
from x402jobs.domain.errors import InvalidRequest, Unreadable
from x402jobs.domain.execution import State
from x402jobs.domain.listing import StoredTemplate
from x402jobs.domain.models import SUCCESSORS, Models
from x402jobs.domain.money import as_usdc
from x402jobs.ports import Place, SealedValue, SecretBox, Store
from x402jobs.services.audit import Audit
from x402jobs.services.iam.pepper import pepper_place
from x402jobs.services.integrations import Integrations, claude_key_place
from x402jobs.settings import Settings

TEMPLATES = 500
"""At most so many of the newest on sale are looked at."""
PAGE = 200
SETTLING_SECONDS = 600
"""The chain has decided about a payment long before."""
SHOWN = 5
ASK_SECONDS = 5.0


def checks(settings: Settings, url: str | None) -> list[Check]:
    """`url` is a database's own, of which the migrations can be asked exactly."""
    store = stores.store(settings)
    shelf = _Shelf(store)
    ready, ring = ("database",), ("database", "key ring")
    found = [
        Check("store", "database", lambda: _database(settings, store), ("data directory",), 60),
        Check("store", "migrations", lambda: _migrations(settings, url), ready),
        Check("store", "its key ring", lambda: _sealed(settings, store), ring, 60),
        Check("ledger", "invariants", lambda: _invariants(settings), ready, 120),
        Check("ledger", "debts", lambda: _debts(store), ready),
        Check("ledger", "settlements", lambda: _settlements(store), ready),
        Check("templates", "models", lambda: _models(shelf), ready, 60),
        Check("templates", "creators", lambda: _creators(settings, store, shelf), ring, 120),
    ]
    if not settings.is_embedded:
        found.insert(1, Check("store", "its clock", lambda: _clock(settings), ready))
    return found


class _Shelf:
    """The newest templates on sale, read once."""

    def __init__(self, store: Store) -> None:
        self._catalogue = store.catalogue
        self._read: list[StoredTemplate] | None = None

    def templates(self) -> list[StoredTemplate]:
        if self._read is None:
            self._read = [
                template
                for start in range(0, TEMPLATES, PAGE)
                for template in self._catalogue.shelf(PAGE, start).items
            ]
        return self._read


def _database(settings: Settings, store: Store) -> Finding:
    """The file is looked at first: the store's own way makes one, or brings it up to date."""
    if settings.is_embedded and (fault := _file(settings.data / "x402jobs.sqlite3")):
        return fault
    if trouble := store.database.trouble():
        return fail(trouble.sentence, "docs/operations.md, database")
    return ok(
        "the embedded file" if settings.is_embedded else f"the project {settings.supabase_url}"
    )


def _file(path: Path) -> Finding | None:
    """What is wrong with the embedded store's file. It is opened for reading only."""
    if not path.is_file():
        return fail(f"there is no {path}", "say --data as the server has it, or start it once")
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error:
        return fail(f"{path} cannot be read as a database", "restore it: docs/operations.md")
    newest = len(UPGRADES) + 1
    if version < newest:
        return fail(
            f"{path} is of version {version}, and this release needs {newest}",
            "restart the server with this release: it upgrades the file as it opens it",
        )
    if version > newest:
        return fail(
            f"{path} is of version {version}, and this release knows {newest}",
            "use the release that wrote it, for the server as well",
        )
    return None


def _migrations(settings: Settings, url: str | None) -> Finding:
    if settings.is_embedded:
        return ok(f"version {len(UPGRADES) + 1}, the newest")
    if not url:
        return ok("the newest one is there; with DATABASE_URL set all are compared")
    from x402jobs.adapters.migrations import CannotMigrate, Migration, Standing, migrate

    pending: list[str] = []

    def tell(migration: Migration, standing: Standing) -> None:
        if standing != "present":
            pending.append(str(migration))

    try:
        migrate(url, tell, dry_run=True)
    except CannotMigrate as error:
        return not_run(str(error))
    if pending:
        return fail(f"not applied: {', '.join(pending)}", "x402jobs migrate")
    return ok("all of this release are applied")


def _sealed(settings: Settings, store: Store) -> Finding:
    """Of all that is sealed the pepper is the first; asked for in its own way it would be made."""
    box = stores.secret_box(settings)
    for value in store.sealed.page("x402_peppers", "sealed_pepper", "", 1):
        if not _opens(box, value.sealed, pepper_place(value.owner)):
            return fail(
                "the key ring is not the one that the store is sealed with",
                "set X402JOBS_KEYS, or restore the file keys, as they were: docs/operations.md, "
                "key_ring",
            )
        return ok("opens what is sealed")
    return ok("nothing is sealed yet")


def _opens(box: SecretBox, sealed: str, place: Place) -> bool:
    try:
        box.open(sealed, place)
    except Unreadable:
        return False
    return True


def _clock(settings: Settings) -> Finding:
    """The database's own, which leases are timed by."""
    connections = Connections(1024)
    headers = {
        "apikey": settings.supabase_secret_key,
        "Authorization": f"Bearer {settings.supabase_secret_key}",
    }
    url = f"{settings.supabase_url}/rest/v1/rpc/x402_now"
    before = time.time()
    try:
        with within(ASK_SECONDS), closing(connections):
            said = connections.client().post(url, json={}, headers=headers).content
        then = float(json.loads(said))
    except Exception:  # whatever it is, its words can quote the key
        return not_run("the project did not say what time it is")
    return clocks.compared("the database's", then, before, time.time())


def _invariants(settings: Settings) -> Finding:
    report = _audit(settings).check()
    if report.broken:
        return fail(
            f"do not hold: {', '.join(each.name for each in report.broken)}",
            "x402jobs ledger check names the rows; docs/payments.md says what to do",
        )
    return ok(f"all {report.invariants} hold, over {report.executions} executions")


def _audit(settings: Settings) -> Audit:
    """With the play money only where there is some: asked for, its file would be made."""
    if (settings.data / "development-ledger.sqlite3").is_file():
        return wiring.audit(settings)
    return stores.audit(settings)


def _debts(store: Store) -> Finding:
    page = store.audit.entries(PAGE, state=State.REFUND_DUE)
    if page.total == 0:
        return ok("none")
    owed = as_usdc(sum(entry.execution.amount or 0 for entry in page.items))
    newest = f", the newest {PAGE} of them" if page.total > PAGE else ""
    return warn(
        f"{page.total} refunds are due{newest} {owed} USDC",
        "x402jobs ledger list --state refund_due; docs/operations.md, Refunds",
    )


def _settlements(store: Store) -> Finding:
    page = store.audit.entries(PAGE, state=State.SETTLING)
    old = [
        entry.execution.id
        for entry in page.items
        if time.time() - entry.execution.created_at > SETTLING_SECONDS
    ]
    if old:
        return fail(
            f"unknown for more than {SETTLING_SECONDS // 60} minutes: {', '.join(old[:SHOWN])}"
            + (f" and {len(old) - SHOWN} more" if len(old) > SHOWN else ""),
            "docs/operations.md, chain: a node has to tell what became of them",
        )
    return ok("none is unknown" if page.total == 0 else f"{page.total} are under way")


def _models(shelf: _Shelf) -> Finding:
    """As the anthropic package knows them; a name it has not heard of is Claude's to judge."""
    models, today = Models(claude.retirements(), SUCCESSORS), datetime.now(UTC).date()
    retired, retiring = [], []
    for template in shelf.templates():
        match _standing(models, template.model, today):
            case "retired":
                retired.append(_named(template))
            case "retiring":
                retiring.append(_named(template))
    if retired:
        return fail(f"of retired models: {_some(retired)}", f"{THEIRS} x402jobs template edit")
    if retiring:
        return warn(
            f"of models that retire within 90 days: {_some(retiring)}",
            f"{THEIRS} x402jobs template edit",
        )
    return ok(f"{_counted(shelf)}, none of a model that ends soon")


THEIRS = "their creators' to mend:"


def _standing(models: Models, name: str, today: date) -> str:
    try:
        warnings = models.accept(name, today)
    except InvalidRequest:
        return "retired"
    return "retiring" if any("will be retired" in each for each in warnings) else "living"


def _creators(settings: Settings, store: Store, shelf: _Shelf) -> Finding:
    box = stores.secret_box(settings)
    unreadable = [
        value.owner
        for value in _claude_keys(store)
        if not _opens(box, value.sealed, claude_key_place(value.owner))
    ]
    if unreadable:
        return fail(
            f"Claude keys that the ring does not open, of accounts {_some(unreadable)}",
            "restore the ring's missing key, or let them store their keys again",
        )
    integrations = Integrations(store.keys, box)
    owners: dict[str, tuple[str, int]] = {}
    for template in shelf.templates():
        price = max(template.price, owners.get(template.owner_id, ("", 0))[1])
        owners[template.owner_id] = (template.username, price)
    shut = {
        name: said[0].partition(":")[0].rstrip(".")
        for owner, (name, price) in owners.items()
        if (said := integrations.warnings(owner, price))
    }
    if shut:
        return warn(
            "whose templates nobody can call: "
            + _some([f"{name} ({why})" for name, why in shut.items()]),
            f"{THEIRS} x402jobs integrations claude set, x402jobs integrations wallet set",
        )
    return ok(f"{len(owners)} with templates on sale, each with a key that opens and a wallet")


def _claude_keys(store: Store) -> Iterator[SealedValue]:
    place, after = claude_key_place(""), ""
    while page := store.sealed.page(place.table, place.column, after, PAGE):
        yield from page
        after = page[-1].row


def _named(template: StoredTemplate) -> str:
    return f"@{template.username}/{template.slug}"


def _counted(shelf: _Shelf) -> str:
    count = len(shelf.templates())
    return f"the newest {count} on sale" if count >= TEMPLATES else f"{count} on sale"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
