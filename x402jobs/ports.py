"""What we need from outside. Each docstring is a contract; it also says what is *not* done.

Every method of a store may raise StoreUnavailable. Stores keep sealed texts as they are given:
sealing and opening is the services' work.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from x402jobs.domain.coords import Coords
from x402jobs.domain.credentials import ApiKey, InternalKey, Session
from x402jobs.domain.execution import Execution, State
from x402jobs.domain.listing import ClaudeConfig, Listing, StoredTemplate
from x402jobs.domain.networks import Network
from x402jobs.domain.page import Page
from x402jobs.domain.payment import Authorization, Payment, PaymentRequirements
from x402jobs.domain.prompt_template import Prompt
from x402jobs.domain.sales import Sales
from x402jobs.domain.secret import Secret
from x402jobs.domain.tile import TaskContext, Tile


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards, for deadlines."""
        ...


class Closable(Protocol):
    """Something that holds files or sockets."""

    def close(self) -> None:
        """Let go of them; a later use opens them again."""
        ...


@dataclass(frozen=True)
class Trouble:
    """Why something cannot be relied on now: a code in snake_case, and a sentence for the operator.

    In our own words: no URL, no secret, nothing that a vendor has said.
    """

    reason: str
    sentence: str


@dataclass(frozen=True)
class OpenMatters:
    """What of the ledger waits for somebody: settlements not decided, and debts.

    `oldest_settling_seconds` is since its request, by the database's clock; 0.0 without one.
    """

    settling: int
    refund_due: int
    oldest_settling_seconds: float


class Ledger(Protocol):
    """The executions: who bought what, how far it got, and the sealed answers."""

    def claim(self, execution: Execution) -> Execution | None:
        """Insert the row, or take up a released row of the same claim key, in one statement.

        The unique claim key is the lock across every process and host. Returns the row as it now
        stands (a taken-up row keeps its id and has one attempt more), or None when somebody else
        has it. Does not wait.
        """
        ...

    def swap(
        self,
        before: Execution,
        after: Execution,
        *,
        sealed_payment: str | None = None,
        sealed_answer: str | None = None,
    ) -> None:
        """Write `after` where (id, attempt, state) still equal `before`'s, or raise Superseded.

        `before` is the row as it stands; when it was verified and opened may have been noted since.

        Raises TransferUsed when another row has the same network, transaction and log index.

        The sealed payment is kept until the row leaves `settling` or `settled`; the sealed answer
        is written in the same transaction. Does not judge whether the step is lawful: the
        execution already did.
        """
        ...

    def begin(self, task: Execution) -> bool:
        """Insert a task's row. False while its caller's last run of the same tile has not ended."""
        ...

    def earlier(self, claim_key: str) -> Execution | None:
        """What this payment has bought, or is buying, as it stands now."""
        ...

    def record(self, execution: Execution) -> None:
        """Insert a finished unpaid run."""
        ...

    def beat(self, worker: str) -> None:
        """Say that the worker is alive, at the database's time."""
        ...

    def take_over(
        self,
        worker: str,
        left: Mapping[str, int],
        limit: int,
        *,
        opening_seconds: float,
        run_seconds: float,
    ) -> list[tuple[Execution, str | None]]:
        """Make unfinished rows this worker's, with their sealed payments.

        These are the rows of workers that have not beaten for 15 s by the database's clock; those
        of `left` (attempts by id), which this worker has given up itself; and, whoever has them,
        those that are held longer than they can last: a claim `opening_seconds` after it was
        created, a settled row or a task `run_seconds`. A store may have written what its asker
        was never told of, and nobody works on that. A settling row may wait for as long as it
        takes.

        Each gets one attempt more, so that whoever still works on it loses their next swap. At
        most `limit`, oldest first. What was taken and not told, for the answer was lost, is told
        by a later call.
        """
        ...

    def purge(self, now: float) -> int:
        """Forget what nobody can ask for any more; how many rows went.

        Answers a day after their ending, rows a day after they were released, workers unseen for
        a day. A row that has reached `settling` stays for ever.
        """
        ...

    def open_matters(self) -> OpenMatters:
        """How many rows are `settling` and `refund_due` now. Cheap, however many others there are:
        every worker asks every half a minute.
        """
        ...

    def sales(
        self, template_ids: Sequence[str], uncounted: Sequence[str] = ()
    ) -> Mapping[str, Sales]:
        """What each of these templates has done; one that has done nothing may be absent.

        Runs that were paid on an `uncounted` network, by its CAIP-2 name, are left out.
        """
        ...

    def executions_of(
        self,
        limit: int,
        offset: int,
        *,
        template_id: str | None = None,
        caller_id: str | None = None,
    ) -> Page[Execution]:
        """The runs of a template, or those an account has asked for, newest first.

        Claims that were released before anybody had verified them are left out.
        """
        ...

    def execution(self, execution_id: str) -> tuple[Execution, str | None] | None:
        """One execution, and the id of its template's creator; a deleted template still has one.

        A task has no template, and nobody but its caller.
        """
        ...

    def sealed_answer(self, execution: Execution) -> str | None:
        """The answer of a completed execution, or None when it was not kept this long."""
        ...


@dataclass(frozen=True)
class Entry:
    """An execution, and whose template it ran: creator and slug, deleted or not."""

    execution: Execution
    username: str | None
    slug: str | None


@dataclass(frozen=True)
class Findings:
    """How many executions there are, and by invariant the ids of the rows that break it."""

    executions: int
    broken: Mapping[str, Sequence[str]]


class LedgerAudit(Protocol):
    """The ledger as a whole, for its operator. Changes nothing, and opens nothing sealed."""

    def findings(self, opening_seconds: float, run_seconds: float) -> Findings:
        """Look at every row for every name of `INVARIANTS`; all of it as of one moment.

        The limits are how long a claim may take to open and how long a run may take. Times are
        judged by the database's clock. Does not rely on the store's own constraints.
        """
        ...

    def paid_on(self, network: str) -> Sequence[Execution]:
        """Every paid row of a network that is in a state we know, oldest first."""
        ...

    def payouts(self) -> Sequence[str]:
        """The payout addresses of all creators, lower-case."""
        ...

    def entries(
        self, limit: int, *, state: State | None = None, template: tuple[str, str] | None = None
    ) -> Page[Entry]:
        """The executions, newest first: all, or those in a state, or of a creator's slug.

        A slug that several templates have had one after the other stands for all of them.
        """
        ...

    def entry(self, execution_id: str) -> Entry | None:
        """One execution."""
        ...

    def has_template(self, username: str, slug: str) -> bool:
        """Whether there is a template of this creator's and slug, a deleted one included."""
        ...


class Transfer(Protocol):
    """One line of the development ledger: `value` in micro-dollars, `at` in unix seconds."""

    @property
    def transaction(self) -> str: ...
    @property
    def payer(self) -> str: ...
    @property
    def payee(self) -> str: ...
    @property
    def value(self) -> int: ...
    @property
    def nonce(self) -> str: ...
    @property
    def at(self) -> float: ...


class Transfers(Protocol):
    """All the money that moves, where it is play money."""

    def transfers(self) -> Sequence[Transfer]:
        """Every transfer, oldest first. `at` is later than the row that caused it."""
        ...


class Catalogue(Protocol):
    """Profiles and templates."""

    def listing(self, username: str, slug: str, claim_key: str | None) -> Listing:
        """Everything a call needs to know, in one request to the database.

        Usernames match case-insensitively; only active templates are found. The earlier execution
        is looked up by claim key alone, whatever became of the template; where it is a debt, its
        own template comes along, by id.
        """
        ...

    def add_user(self, username: str) -> str:
        """The id of the user of this name, made when there was none.

        Raises Conflict where somebody else makes the accounts, or a deleted one had this name.
        """
        ...

    def user_id(self, username: str) -> str | None:
        """The id of the user of this name."""
        ...

    def username(self, user_id: str) -> str | None:
        """The user's name, or None before they have chosen one."""
        ...

    def know(self, user_id: str) -> None:
        """Have an account of this id, without a name where it is new.

        Raises Unauthenticated for one that has been deleted.
        """
        ...

    def give_username(self, user_id: str, username: str) -> str | None:
        """Name a user who has no name yet.

        Returns the name they have afterwards, which may be an earlier one, or None when this one
        is somebody else's.
        """
        ...

    def templates(self, owner_id: str, limit: int, offset: int) -> Page[StoredTemplate]:
        """The owner's templates, paused ones too, newest first."""
        ...

    def shelf(self, limit: int, offset: int) -> Page[StoredTemplate]:
        """Everybody's active templates, newest first."""
        ...

    def template(self, owner_id: str, template_id: str) -> StoredTemplate | None:
        """One of the owner's templates; a deleted one is gone."""
        ...

    def has_written(self, owner_id: str, template_id: str) -> bool:
        """Whether the template is or was the owner's: what it sold is theirs to see."""
        ...

    def add_template(self, template: StoredTemplate) -> None:
        """Insert it. Raises SlugTaken when its creator has another under the same slug."""
        ...

    def replace_template(self, before: StoredTemplate, after: StoredTemplate) -> None:
        """Write `after` where id and version still equal `before`'s. Raises Stale or SlugTaken."""
        ...

    def delete_template(self, owner_id: str, template_id: str, now: float) -> bool:
        """Hide it for ever and free its slug; its row stays, sales point at it.

        False when the owner has none of this id.
        """
        ...


class Keys(Protocol):
    """Creators' sealed Claude keys, and their payout addresses."""

    def claude_config(self, user_id: str) -> ClaudeConfig:
        """Whether the user has a key, and whether it is enabled."""
        ...

    def sealed_claude_key(self, user_id: str) -> str | None:
        """The user's sealed key; None unless it is stored and enabled."""
        ...

    def put_claude_key(
        self, user_id: str, sealed_key: str | None, *, enabled: bool | None = None
    ) -> ClaudeConfig:
        """Store the key and the switch; what is None stays as it is, a new key's switch is on.

        Returns what is stored afterwards: nothing, when there was no key and none was given.
        """
        ...

    def delete_claude_key(self, user_id: str) -> None:
        """Forget the key, if there is one."""
        ...

    def pay_to(self, user_id: str) -> str | None:
        """The user's payout address."""
        ...

    def put_pay_to(self, user_id: str, address: str) -> None:
        """Store or replace the user's payout address."""
        ...

    def delete_pay_to(self, user_id: str) -> None:
        """Forget the payout address, if there is one."""
        ...


class Identities(Protocol):
    """Sessions and API keys. Holds digests and sealed texts, never what a caller shows.

    What is found may be over: whether it still counts is the services' to say. Whoever is given
    something has an account, although perhaps no name yet.
    """

    def pepper(self, name: str, sealed_pepper: str) -> str:
        """The sealed pepper of this name: the given one, when there was none."""
        ...

    def add_session(self, session: Session) -> None:
        """Insert it, and forget those that had expired when it was made."""
        ...

    def session(self, digest: str) -> Session | None:
        """The session of this digest, in one indexed look-up."""
        ...

    def renew_session(self, session: Session) -> None:
        """Write its times, if it is still there."""
        ...

    def end_session(self, digest: str) -> None:
        """Forget it, if there is one."""
        ...

    def add_api_key(self, key: ApiKey) -> None:
        """Insert it."""
        ...

    def api_key(self, key_id: str) -> ApiKey | None:
        """The key of this id, in one indexed look-up. Compares no digest."""
        ...

    def api_keys(self, user_id: str, limit: int, offset: int) -> Page[ApiKey]:
        """The account's keys, newest first."""
        ...

    def delete_api_key(self, user_id: str, key_id: str) -> bool:
        """Forget it. False when the account has none of this id."""
        ...

    def note_api_key_used(self, key_id: str, now: float) -> None:
        """Write down when it was last used, if it is still there."""
        ...

    def internal_key(self, user_id: str, purpose: str) -> InternalKey | None:
        """The one key that this account has for this purpose."""
        ...

    def internal_key_of(self, digest: str) -> InternalKey | None:
        """The key of this digest, in one indexed look-up."""
        ...

    def put_internal_key(self, key: InternalKey, replaced: str | None) -> InternalKey:
        """Insert it where its account has none for its purpose, or has the one with id `replaced`.

        In one statement. Returns the key that stands there afterwards, which is another one when
        somebody was faster.
        """
        ...

    def note_internal_key_used(self, key_id: str, now: float) -> None:
        """Write down when it was last used, if it is still there."""
        ...


class Tiles(Protocol):
    """Every account's trees of tiles, and the plans at direction 0 of them.

    A tile is seen by its owner, who is `coords.user_id`; by anybody else only where it is public
    itself. Plans are their owner's alone. What a reader may not see is not there for them.

    Each method is one transaction. Who may write is the services' business: the methods that
    write do not ask.
    """

    def tile(self, coords: Coords, reader_id: str) -> Tile | None:
        """One tile, or plan."""
        ...

    def under(self, coords: Coords, reader_id: str, limit: int, offset: int) -> Page[Tile]:
        """What is below this place, the place itself not, from the top and depth first.

        At each tile its plan comes before its subtasks 1 to 6, and these before its context
        children -1 to -6.
        """
        ...

    def tiles_of(self, user_id: str, limit: int, offset: int) -> Page[Tile]:
        """All that the account has, group by group, each from its root on in that same order."""
        ...

    def context(self, coords: Coords, reader_id: str) -> TaskContext | None:
        """All that a run of this tile needs to know, as of one moment and in one request.

        `leaves` are there where there are subtasks and no plan: at most 1001, the first ones depth
        first, with title and coords alone. A leaf is below the task by subtasks only, and has none
        that the reader sees.
        """
        ...

    def ensure_root(self, user_id: str, title: str, now: float) -> Tile:
        """The root of the account's group 0, made, private, when there was none."""
        ...

    def add(self, tile: Tile) -> None:
        """Insert it. The root of a group needs nothing above it.

        Raises NothingAbove when any other one's parent is missing, PlaceTaken, and AboveIsPrivate.
        """
        ...

    def replace(self, before: Tile, after: Tile) -> None:
        """Write title, content, preview and visibility where `updated_at` still is `before`'s.

        Raises Stale, also for a tile that is gone; AboveIsPrivate; BelowIsPublic.
        """
        ...

    def delete(self, coords: Coords) -> int:
        """Delete what is at this place and below it; how many tiles and plans that were."""
        ...

    def add_plan(self, plan: Tile) -> Tile:
        """Insert a plan, private, or leave the one alone that is there; the one there afterwards.

        Raises NotFound when the tile whose plan it is is gone.
        """
        ...

    def swap_plan(self, before: Tile, after: Tile) -> bool:
        """Write the plan where it still equals `before`'s. False when somebody was faster."""
        ...


Origin = Literal["aes-256-cbc", "plaintext"]
"""How the origin service kept a column that was its own before it was ours."""


@dataclass(frozen=True)
class Place:
    """Where a sealed value rests. It opens in no other place.

    `origin` is how the origin service kept this column: what it wrote is read for ever, and bound
    to nothing.
    """

    table: str
    column: str
    owner: str
    origin: Origin | None = None


class SecretBox(Protocol):
    """Seals texts under a key ring, bound to their place."""

    def seal(self, text: str, place: Place) -> str:
        """The sealed form; never the same twice."""
        ...

    def open(self, sealed: str, place: Place) -> Secret:
        """The text, or Unreadable: wrong key, tampered with, or moved. Which is not told."""
        ...

    def sign(self, text: str) -> str:
        """A token that proves we said `text`; the same for the same text and primary key."""
        ...

    def is_signed(self, text: str, token: str) -> bool:
        """Whether `sign` made this token of this text, under any key there is.

        How long it takes does not tell how much of it was right.
        """
        ...


@dataclass(frozen=True)
class Form:
    """How a value is kept: under a key of ours, or in the origin's way. Neither is damage."""

    key_id: str | None = None
    origin: Origin | None = None


class RotatingBox(SecretBox, Protocol):
    """A secret box whose keys can be told apart."""

    @property
    def key_ids(self) -> Sequence[str]:
        """The keys that open, as they are now; the first of them, the primary one, seals."""
        ...

    def form(self, sealed: str, place: Place) -> Form:
        """How this value is kept, by its looks. Opens nothing."""
        ...


@dataclass(frozen=True)
class SealedValue:
    """One sealed value as it rests: the id of its row, whose it is, and its text."""

    row: str
    owner: str
    sealed: str = field(repr=False)


class SealedValues(Protocol):
    """Every sealed value of a store, whatever it is for."""

    def page(self, table: str, column: str, after: str, limit: int) -> Sequence[SealedValue]:
        """The next values in the order of their row ids; empty values are left out."""
        ...

    def replace(self, table: str, column: str, fresh: Sequence[tuple[SealedValue, str]]) -> int:
        """Write each text where the row still holds the value it was made from; how many it did.

        All of them are durable together, or none is. Whoever was faster keeps what they wrote.
        """
        ...


class Database(Closable, Protocol):
    """What a store rests in."""

    def trouble(self) -> Trouble | None:
        """Why nothing can be found or written down here now; None where everything can.

        Asks once, whether it answers, takes writes and has the tables this version needs. Waits
        some seconds at most; changes nothing that anybody sees. Never raises.
        """
        ...


@dataclass(frozen=True)
class Store:
    """One database, behind every port that rests in it."""

    ledger: Ledger
    audit: LedgerAudit
    catalogue: Catalogue
    keys: Keys
    sealed: SealedValues
    identities: Identities
    tiles: Tiles
    database: Database


class TokenVerifier(Protocol):
    """Reads bearer tokens."""

    def user_id(self, token: str) -> str:
        """The account the token speaks for, or Unauthenticated, whatever is wrong with it."""
        ...


class Limits(Closable, Protocol):
    """Counts hits against named limits."""

    def hit(self, limit: str, key: str) -> float | None:
        """Count one. None while within the limit, else the seconds until it opens again.

        Raises LimitsUnavailable where nothing can be counted now.
        """
        ...

    def check(self) -> None:
        """Raises LimitsUnavailable where nothing can be counted now."""
        ...


class Line(Protocol):
    """The caller's connection."""

    def gone(self) -> bool:
        """Whether the caller has hung up. False where it cannot be known."""
        ...


class Speech(Protocol):
    """One answer of Claude's, as it is spoken. Owned by one thread, except for `close`."""

    def begin(self) -> None:
        """Call Claude and wait for the first content, or raise the ModelError it meets instead.

        Raises EmptyAnswer when the end comes before any text. Does not retry. Asked for no time
        limit but those on connecting and on silence: whoever waits calls `close`.
        """
        ...

    def __iter__(self) -> Iterator[str]:
        """The text, from its first character on. Raises Truncated without Claude's end marker."""
        ...

    def close(self) -> None:
        """Hang up on Claude: a blocked read ends at once. May be called twice, by any thread."""
        ...

    @property
    def usage(self) -> dict[str, object]:
        """Tokens as Claude reports them; complete once iteration has ended."""
        ...

    @property
    def model(self) -> str:
        """The model that answers, in Claude's words."""
        ...

    @property
    def stop_reason(self) -> str | None:
        """Why Claude ended."""
        ...


class LanguageModel(Protocol):
    """Claude."""

    def speech(self, prompt: Prompt, key: Secret) -> Speech:
        """A speech not begun yet. No call is made here."""
        ...

    def check_key(self, key: Secret) -> None:
        """Return if Claude takes the key. Spends no tokens, and does not retry.

        Raises InvalidApiKey when it does not, or the ModelError met instead of an answer: then
        nothing is known about the key. Waits some seconds at most.
        """
        ...


@dataclass(frozen=True)
class Verified:
    """The facilitator would settle this."""


@dataclass(frozen=True)
class Refused:
    """Definitely not, and nothing was broadcast."""

    reason: str


@dataclass(frozen=True)
class Settled:
    """The transfer happened, in this transaction."""

    transaction: str


@dataclass(frozen=True)
class Unknown:
    """The money may have moved."""

    reason: str


class Facilitator(Protocol):
    """Whoever verifies and settles payments, in the x402 specification's sense."""

    def offers(self, network: Network) -> bool:
        """Whether payments on this network can be taken now.

        May ask the facilitator what it supports, and remembers that; never raises.
        """
        ...

    def signer(self, payment: Payment, network: Network) -> str | None:
        """The lower-case address whose key made the signature, or None when it is not one.

        Computed here, under the EIP-712 domain of the network's token; nobody is asked.
        """
        ...

    def verify(self, payment: Payment, requirements: PaymentRequirements) -> Verified | Refused:
        """Whether the payment would settle now. Raises FacilitatorUnavailable. Moves nothing."""
        ...

    def settle(
        self, payment: Payment, requirements: PaymentRequirements
    ) -> Settled | Refused | Unknown:
        """Move the money. Never raises: whatever is not certain is Unknown."""
        ...


@dataclass(frozen=True)
class Transferred:
    """The money has moved: `log_index` is the place of its Transfer among the block's logs.

    Transaction and log index together name one transfer, and nothing else ever does.
    """

    transaction: str
    log_index: int


@dataclass(frozen=True)
class Canceled:
    """The payer has taken the authorization back. It will never be used."""


@dataclass(frozen=True)
class SpentElsewhere:
    """The payer signed its nonce twice, and the other one was used. This one never will be."""


@dataclass(frozen=True)
class Unused:
    """Not used up to a block of time `at`, in unix seconds.

    Where `at` is past `validBefore` it will never be used.
    """

    at: float


Doubt = Literal[
    "no_answer",
    "malformed",
    "another_chain",
    "inconsistent",
    "behind",
    "shallow",
    "not_found",
    "no_transfer",
]
"""Why nothing can be said.

Nobody answered, or in time; what they said cannot be read, is about another chain or contradicts
itself; the node has not kept up; it was used, but not deep enough yet; it was used, but longer ago
than we looked back; it was used, and no transfer follows.
"""


@dataclass(frozen=True)
class Unseen:
    """Nothing is known: the money may have moved, or may yet move."""

    reason: Doubt


Seen = Transferred | Canceled | SpentElsewhere | Unused | Unseen


class Chain(Protocol):
    """Where money moves, as a node of it tells."""

    def look(self, signed: Authorization, network: Network, since: float) -> Seen:
        """What became of an authorization, on blocks deep enough to count.

        `since` is when it came to us, in unix seconds: a use from somewhat before that on is found.
        Waits some seconds at most and does not wait for depth: who needs it looks again. Never
        raises: whatever is not certain is Unseen.
        """
        ...
