"""Who is calling, and who may test a template for nothing."""

import threading
from dataclasses import dataclass, field, replace
from itertools import combinations

import pytest

from tests.fakes import FakeCatalogue, FakeClock, FakeLimits, FakeTokens, PlainBox
from x402jobs.adapters.sqlite import SqliteIdentities, embedded_database
from x402jobs.domain.caller import Caller, Method
from x402jobs.domain.credentials import Credentials
from x402jobs.domain.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
    TooManyRequests,
    Unauthenticated,
)
from x402jobs.domain.prompt_template import PromptTemplate
from x402jobs.ports import Identities
from x402jobs.services.iam import ApiKeys, Iam, InternalKeys, Sessions
from x402jobs.services.iam.pepper import NAME, Pepper, pepper_place

HOME = "127.0.0.1"
ADA = Caller("ada", method=Method.BEARER)
TEMPLATE = PromptTemplate("t", 1, "ada", "/@ada/h", "H", "", 0, "", [], "claude", 1, False)
HOUR, DAY = 3600, 24 * 3600


@dataclass
class House:
    """The room over a store of its own, at a time that stands still until it is moved."""

    store: Identities
    limits: FakeLimits = field(default_factory=FakeLimits)
    clock: FakeClock = field(default_factory=FakeClock)
    catalogue: FakeCatalogue = field(default_factory=FakeCatalogue)

    def __post_init__(self):
        pepper = Pepper(self.store, PlainBox())
        self.sessions = Sessions(self.store, pepper, self.limits, self.clock)
        self.api_keys = ApiKeys(self.store, pepper, self.limits, self.clock)
        self.internal_keys = InternalKeys(self.store, pepper, PlainBox(), self.clock)
        self.iam = Iam(
            FakeTokens({"good": "ada", "bob's": "bob"}),
            self.limits,
            self.catalogue,
            sessions=self.sessions,
            api_keys=self.api_keys,
            internal_keys=self.internal_keys,
        )

    def recognise(self, **shown):
        return self.iam.recognise(Credentials(**shown), HOME)

    def refuses(self, **shown):
        """The words in which nobody is let in."""
        with pytest.raises(Unauthenticated) as refusal:
            self.recognise(**shown)
        return refusal.value.message

    def shown_by(self, user, method):
        """A good credential of this kind."""
        match method:
            case Method.SESSION:
                return {"session": self.sessions.begin(user).reveal()}
            case Method.BEARER:
                return {"authorization": "Bearer good" if user == "ada" else "Bearer bob's"}
            case Method.INTERNAL:
                return {"api_key": self.internal_keys.get_or_create(user, "tools")[1].reveal()}
            case Method.EXTERNAL:
                return {"api_key": self.api_keys.make(user, "mine")[1].reveal()}


@pytest.fixture
def database(tmp_path):
    database = embedded_database(tmp_path / "data")
    yield database
    database.close()


@pytest.fixture
def house(database):
    return House(SqliteIdentities(database))


@pytest.fixture
def shut(database):
    """Where every limit is used up."""
    return House(SqliteIdentities(database), FakeLimits(shut=7.5))


def test_no_credential_is_nobody_and_no_fault(shut):
    assert shut.recognise() is None
    assert shut.recognise(hint="ada") is None
    assert shut.limits.hits == []


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "BEARER good", "Bearer  good "])
def test_a_good_token_is_its_account(shut, header):
    assert shut.recognise(authorization=header) == ADA
    assert shut.limits.hits == []


@pytest.mark.parametrize("method", Method)
def test_each_credential_alone_says_who_and_how(house, method):
    assert house.recognise(**house.shown_by("ada", method)) == Caller("ada", method)


KEYS = {Method.INTERNAL, Method.EXTERNAL}
PAIRS = [pair for pair in combinations(Method, 2) if set(pair) != KEYS]
"""There is one header for both kinds of key."""


@pytest.mark.parametrize("pair", PAIRS)
def test_of_two_of_one_account_the_first_kind_counts(house, pair):
    shown = house.shown_by("ada", pair[0]) | house.shown_by("ada", pair[1])

    assert house.recognise(**shown) == Caller("ada", pair[0])


@pytest.mark.parametrize("pair", PAIRS)
def test_two_of_different_accounts_are_a_mistake(house, pair):
    shown = house.shown_by("ada", pair[0]) | house.shown_by("bob", pair[1])

    with pytest.raises(InvalidRequest, match="different accounts"):
        house.recognise(**shown)
    assert ("failed_credential", HOME) not in house.limits.hits


TORN = {
    Method.SESSION: {"session": "A" * 43},
    Method.BEARER: {"authorization": "Bearer bad"},
    Method.INTERNAL: {"api_key": f"xi_{'0' * 16}_{'A' * 43}"},
    Method.EXTERNAL: {"api_key": f"xj_{'0' * 16}_{'A' * 43}"},
}
WORDS = Unauthenticated.sentence


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("bad", [0, 1])
def test_a_bad_one_is_not_made_up_for_by_a_good_one(house, pair, bad):
    shown = house.shown_by("ada", pair[1 - bad]) | TORN[pair[bad]]

    assert house.refuses(**shown) == WORDS
    assert house.limits.hits[-1] == ("failed_credential", HOME)


def ways_to_be_bad(house):
    """Everything that is wrong with a credential, and all that anybody may be told about it."""
    clock = house.clock
    ended = house.shown_by("ada", Method.SESSION)
    house.sessions.end(ended["session"])
    deleted, text = house.api_keys.make("ada", "mine")
    house.api_keys.delete("ada", deleted.id)
    expiring = house.api_keys.make("ada", "mine", clock.now() + HOUR)[1].reveal()
    short = house.internal_keys.get_or_create("ada", "short", HOUR)[1].reveal()
    rotated = house.internal_keys.get_or_create("ada", "rotated")[1].reveal()
    house.internal_keys.rotate("ada", "rotated")
    old = house.shown_by("ada", Method.SESSION)
    clock.advance(7 * DAY)
    good = house.shown_by("ada", Method.EXTERNAL)["api_key"]
    inner = house.shown_by("ada", Method.INTERNAL)["api_key"]
    return {
        "an ended session": ended,
        "an expired session": old,
        "an unknown session": TORN[Method.SESSION],
        "no session": {"session": "x"},
        "two sessions": {"session": f"{'A' * 43},{'A' * 43}"},
        "an unknown token": TORN[Method.BEARER],
        "a deleted key": {"api_key": text.reveal()},
        "an expired key": {"api_key": expiring},
        "an unknown key": TORN[Method.EXTERNAL],
        "a key with another's id": {"api_key": f"xj_{deleted.id}{good[19:]}"},
        "a key with another secret": {"api_key": good[:-43] + "A" * 43},
        "a key and more": {"api_key": f"{good},{good}"},
        "a key with a line end": {"api_key": good + "\n"},
        "no key": {"api_key": ""},
        "a key under the other kind's name": {"api_key": f"xi{good[2:]}"},
        "an internal key under the other name": {"api_key": f"xj{inner[2:]}"},
        "an expired internal key": {"api_key": short},
        "a rotated internal key": {"api_key": rotated},
        "an unknown internal key": TORN[Method.INTERNAL],
        "an internal key with another secret": {"api_key": inner[:-43] + "A" * 43},
        "a hint at somebody else": {"api_key": inner, "hint": "bob"},
        "a hint at nobody": {"api_key": inner, "hint": ""},
        "a hint in other letters": {"api_key": inner, "hint": "ADA"},
    }


def test_whatever_is_wrong_with_a_credential_it_is_said_in_the_same_words(house):
    bad = ways_to_be_bad(house)

    assert {name: house.refuses(**shown) for name, shown in bad.items()} == dict.fromkeys(
        bad, WORDS
    )
    assert house.limits.hits[-len(bad) :] == [("failed_credential", HOME)] * len(bad)


def test_an_internal_key_is_taken_with_its_owner_for_a_hint(house):
    shown = house.shown_by("ada", Method.INTERNAL)

    assert house.recognise(**shown, hint="ada") == Caller("ada", Method.INTERNAL)


@pytest.mark.parametrize("method", [Method.SESSION, Method.BEARER, Method.EXTERNAL])
@pytest.mark.parametrize("hint", ["ada", "bob", ""])
def test_a_hint_with_any_other_credential_means_nothing(house, method, hint):
    assert house.recognise(**house.shown_by("ada", method), hint=hint) == Caller("ada", method)


BAD = [
    "",
    "Bearer",
    "Bearer ",
    "good",
    "Basic good",
    "Bearer bad",
    "Bearer good,good",
    "Token good",
]


@pytest.mark.parametrize("header", BAD)
def test_a_bad_header_is_refused_and_counted_against_its_address(house, header):
    house.refuses(authorization=header)

    assert house.limits.hits == [("failed_credential", HOME)]


@pytest.mark.parametrize("shown", [*TORN.values(), *({"authorization": each} for each in BAD)])
def test_an_address_that_sends_too_many_bad_ones_is_told_to_wait(shut, shown):
    with pytest.raises(TooManyRequests) as refusal:
        shut.recognise(**shown)
    assert refusal.value.retry_after == 7.5


@pytest.mark.parametrize(
    ("after", "renewed"), [(0, False), (DAY - 1, False), (DAY, True), (7 * DAY - 1, True)]
)
def test_a_sessions_seven_days_begin_anew_once_a_day(house, after, renewed):
    shown = house.shown_by("ada", Method.SESSION)
    house.clock.advance(after)

    assert house.recognise(**shown).is_renewed is renewed
    assert house.recognise(**shown).is_renewed is False
    house.clock.advance(7 * DAY - 1 - (0 if renewed else after))
    assert house.recognise(**shown) == Caller("ada", Method.SESSION)


def test_expired_sessions_are_forgotten_when_another_begins(house, database):
    house.shown_by("ada", Method.SESSION)
    house.clock.advance(7 * DAY)
    house.shown_by("bob", Method.SESSION)

    assert [row["user_id"] for row in database.read("SELECT * FROM x402_sessions")] == ["bob"]


@pytest.mark.parametrize("make", ["session", "api_key"])
def test_nobody_makes_more_than_so_many(shut, database, make):
    with pytest.raises(TooManyRequests) as refusal:
        shut.sessions.begin("ada") if make == "session" else shut.api_keys.make("ada", "mine")

    assert (refusal.value.retry_after, shut.limits.hits) == (7.5, [(make, "ada")])
    assert database.read(f"SELECT * FROM x402_{make}s") == []


def test_a_key_is_taken_until_its_last_moment(house):
    key, text = house.api_keys.make("ada", "mine", house.clock.now() + HOUR)

    assert text.reveal().startswith(f"{key.prefix}_")
    house.clock.advance(HOUR - 1)
    assert house.recognise(api_key=text.reveal()) == Caller("ada", Method.EXTERNAL)
    house.clock.advance(1)
    assert house.refuses(api_key=text.reveal()) == WORDS


@pytest.mark.parametrize("ago", [0, 1])
def test_a_key_that_would_be_over_already_is_not_made(house, ago):
    with pytest.raises(InvalidRequest) as refusal:
        house.api_keys.make("ada", "mine", house.clock.now() - ago)

    assert refusal.value.field == "expiresAt"
    assert (house.api_keys.page("ada", 9, 0).items, house.limits.hits) == ([], [])


def test_somebody_elses_key_is_not_there_to_be_deleted(house):
    key, text = house.api_keys.make("ada", "mine")

    with pytest.raises(NotFound):
        house.api_keys.delete("bob", key.id)
    assert house.recognise(api_key=text.reveal()) == Caller("ada", Method.EXTERNAL)


@pytest.mark.parametrize("method", [Method.EXTERNAL, Method.INTERNAL])
def test_when_a_key_was_last_used_is_written_at_most_once_a_minute(house, database, method):
    shown, began = house.shown_by("ada", method), house.clock.now()
    table = "x402_api_keys" if method is Method.EXTERNAL else "x402_internal_api_keys"
    used = []

    for seconds in (0, 59, 1, 1):
        house.clock.advance(seconds)
        house.recognise(**shown)
        ((last,),) = database.read(f"SELECT last_used_at FROM {table}")
        used.append(last - began)

    assert used == [0, 0, 60, 60]


def test_a_service_is_given_the_same_key_again_with_the_life_it_had(house):
    key, text = house.internal_keys.get_or_create("ada", "tools", HOUR)
    house.clock.advance(HOUR - 1)

    again = house.internal_keys.get_or_create("ada", "tools", 99 * HOUR)

    assert again == (key, text)
    assert key.expires_at == key.created_at + HOUR


def test_every_account_and_purpose_has_a_key_of_its_own(house):
    texts = {
        house.internal_keys.get_or_create(user, purpose)[1].reveal()
        for user in ("ada", "bob")
        for purpose in ("tools", "mail")
    }

    assert len(texts) == 4
    assert [house.recognise(api_key=each).user_id for each in sorted(texts)].count("ada") == 2


def test_a_key_that_is_over_gives_way_to_a_new_one(house):
    before = house.internal_keys.get_or_create("ada", "tools", HOUR)[1].reveal()
    house.clock.advance(HOUR)

    key, after = house.internal_keys.get_or_create("ada", "tools")

    assert (after.reveal() != before, key.expires_at) == (True, None)
    assert house.recognise(api_key=after.reveal()) == Caller("ada", Method.INTERNAL)
    assert house.refuses(api_key=before) == WORDS


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE x402_internal_api_keys SET sealed_key = 'from another ring'",
        "UPDATE x402_internal_api_keys SET digest = 'of another pepper'",
    ],
)
def test_a_key_that_would_be_of_no_use_is_taken_for_one_that_is_over(house, database, damage):
    before = house.internal_keys.get_or_create("ada", "tools")[1]
    with database.write() as connection:
        connection.execute(damage)

    after = house.internal_keys.get_or_create("ada", "tools")[1]

    assert after != before
    assert house.recognise(api_key=after.reveal()) == Caller("ada", Method.INTERNAL)


def test_many_who_want_the_first_key_at_once_are_given_one(house):
    together, given = threading.Barrier(8), []

    def want():
        together.wait()
        given.append(house.internal_keys.get_or_create("ada", "tools")[1].reveal())

    threads = [threading.Thread(target=want) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(given) == 8
    assert house.recognise(api_key=given[0]) == Caller("ada", Method.INTERNAL)
    assert len(set(given)) == 1


@pytest.mark.parametrize(
    ("purpose", "ttl", "named"),
    [
        ("", None, "purpose"),
        (" ", None, "purpose"),
        ("Tools", None, "purpose"),
        ("a" * 65, None, "purpose"),
        ("to_ols", None, "purpose"),
        ("tools\n", None, "purpose"),
        ("tools", 0, "ttl"),
        ("tools", -1, "ttl"),
    ],
)
def test_a_key_for_nothing_or_for_no_time_is_refused_by_its_name(
    house, database, purpose, ttl, named
):
    for make in (house.internal_keys.get_or_create, house.internal_keys.rotate):
        with pytest.raises(InvalidRequest) as refusal:
            make("ada", purpose, ttl)
        assert refusal.value.field == named
    assert database.read("SELECT * FROM x402_internal_api_keys") == []


def test_another_servers_pepper_is_the_same_one(house, database):
    shown = house.shown_by("ada", Method.EXTERNAL)

    assert House(SqliteIdentities(database)).recognise(**shown) == Caller("ada", Method.EXTERNAL)


def test_without_its_pepper_nobody_is_let_in_nor_taken_for_a_stranger(house, database):
    shown = house.shown_by("ada", Method.EXTERNAL)
    sealed = PlainBox().seal("00", replace(pepper_place(NAME), owner="another"))
    with database.write() as connection:
        connection.execute("UPDATE x402_peppers SET sealed_pepper = ?", (sealed,))

    with pytest.raises(StoreUnavailable):
        House(SqliteIdentities(database)).recognise(**shown)


def test_credentials_do_not_show_themselves(house):
    key, text = house.internal_keys.get_or_create("ada", "tools")
    shown = Credentials(session="planted", authorization="planted", api_key="planted")

    assert "planted" not in repr(shown)
    assert key.sealed_key not in repr(key) and key.digest not in repr(key)
    assert text.reveal()[-43:] not in repr((key, text))


@pytest.mark.parametrize("caller", [None, ADA, Caller("bob", Method.BEARER)])
def test_nobody_who_does_not_ask_for_a_test_gets_one(shut, caller):
    assert shut.iam.owner_test(None, caller, TEMPLATE) is False
    assert shut.limits.hits == []


@pytest.mark.parametrize("header", ["", "True", "TRUE", "1", "yes", "false", "true,true", " true"])
@pytest.mark.parametrize("caller", [None, ADA])
def test_a_wish_that_is_not_exactly_true_is_refused_by_its_name(house, header, caller):
    with pytest.raises(InvalidRequest) as refusal:
        house.iam.owner_test(header, caller, TEMPLATE)
    assert refusal.value.field == "X-OWNER-TEST"


@pytest.mark.parametrize(
    ("caller", "refused"), [(None, Unauthenticated), (Caller("bob", Method.BEARER), Forbidden)]
)
def test_only_the_creator_may_test(house, caller, refused):
    with pytest.raises(refused):
        house.iam.owner_test("true", caller, TEMPLATE)
    assert house.limits.hits == []


def test_the_creator_tests_for_nothing_within_a_limit(house, shut):
    assert house.iam.owner_test("true", ADA, TEMPLATE) is True
    assert house.limits.hits == [("owner_test", "ada")]
    with pytest.raises(TooManyRequests) as refusal:
        shut.iam.owner_test("true", ADA, TEMPLATE)
    assert refusal.value.retry_after == 7.5


class OneName(FakeCatalogue):
    """A catalogue whose only name is what it is told."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def give_username(self, user_id, username):
        self.looked_up.append((user_id, username, None))
        return self.given


@pytest.mark.parametrize("stored", ["ada", "Ada"])
def test_a_chosen_name_is_the_one_that_is_stored(database, stored):
    catalogue = OneName(stored)
    house = House(SqliteIdentities(database), catalogue=catalogue)

    assert house.iam.choose_username("u1", "ada") == stored
    assert catalogue.looked_up == [("u1", "ada", None)]


@pytest.mark.parametrize(
    ("given", "says"),
    [(None, "This username is taken."), ("bob", "You are called bob; a username is chosen once.")],
)
def test_a_name_that_is_somebody_elses_or_comes_second_is_refused(database, given, says):
    house = House(SqliteIdentities(database), catalogue=OneName(given))

    with pytest.raises(Conflict) as refusal:
        house.iam.choose_username("u1", "ada")
    assert (refusal.value.message, refusal.value.field) == (says, "username")
