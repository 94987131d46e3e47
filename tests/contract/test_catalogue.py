"""Profiles, templates and the one joined read, whatever store is behind them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from uuid import NAMESPACE_OID, uuid5

import pytest

from x402jobs.domain.errors import SlugTaken, Stale
from x402jobs.domain.execution import State
from x402jobs.domain.listing import Listing

from .conftest import CLAIM_KEY, HAIKU, bought, walked

NEW = "00000000-0000-4000-8000-0000000000aa"
"""An account that nobody has heard of."""
MOST = 9_999_999_999
"""The highest price: what the origin's column can hold."""


def an_id(*of):
    """The same id for the same things."""
    return str(uuid5(NAMESPACE_OID, repr(of)))


def test_nothing_is_known_of_nobody(store):
    assert store.catalogue.listing("nobody", "haiku", None) == Listing()
    assert store.catalogue.listing("nobody", "haiku", CLAIM_KEY) == Listing()


@pytest.mark.parametrize("username", ["ada", "Ada", "ADA"])
def test_a_creator_is_found_in_any_letter_case(store, username):
    listing = store.catalogue.listing(username, "haiku", None)

    assert listing == Listing(template=replace(HAIKU, owner_id=store.ada))
    assert store.catalogue.user_id(username) == store.ada
    assert store.catalogue.add_user(username) == store.ada


@pytest.mark.parametrize(
    "username",
    ["", "ad", "adaa", "ada ", "äda", "ＡＤＡ", "%", "_da", "ada'--", "a" * 10_000, "🌧"],
)
def test_a_name_that_only_looks_alike_is_somebody_else(store, username):
    assert store.catalogue.listing(username, "haiku", None).template is None
    assert store.catalogue.user_id(username) is None


@pytest.mark.parametrize("slug", ["", "Haiku", "haik", "haiku2", "hai%", "' OR 1=1"])
def test_a_template_is_found_by_exactly_its_slug(store, slug):
    assert store.catalogue.listing("ada", slug, None).template is None


def test_a_letter_that_only_looks_like_an_ascii_one_is_another_one(store):
    store.catalogue.add_user("kim")

    assert store.catalogue.user_id("KIM") is not None
    assert store.catalogue.user_id("\N{KELVIN SIGN}im") is None


def test_each_name_gets_one_account(store):
    bob = store.catalogue.add_user("bob")

    assert bob != store.ada
    assert store.catalogue.add_user("Bob") == bob
    assert store.catalogue.user_id("bob") == bob


def test_a_creator_with_no_template_of_this_name_still_has_a_key_and_an_address(store):
    store.keys.put_claude_key(store.ada, "sealed", enabled=True)
    store.keys.put_pay_to(store.ada, "0xADA")

    listing = store.catalogue.listing("ada", "nothing", None)

    assert listing == Listing(template=None, sealed_key="sealed", pay_to="0xADA")


def test_everything_a_call_needs_comes_in_one_listing(store):
    store.keys.put_claude_key(store.ada, "sealed", enabled=True)
    store.keys.put_pay_to(store.ada, "0xADA")
    row = store.ledger.claim(bought())

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert listing == Listing(replace(HAIKU, owner_id=store.ada), "sealed", "0xADA", row)


def test_keys_and_addresses_are_their_owners_alone(store):
    bob = store.catalogue.add_user("bob")
    store.keys.put_claude_key(bob, "bob's", enabled=True)
    store.keys.put_pay_to(bob, "0xB0B")

    listing = store.catalogue.listing("ada", "haiku", None)

    assert (listing.sealed_key, listing.pay_to) == (None, None)


def test_every_column_of_a_template_comes_back_as_it_went(store):
    rich = replace(
        HAIKU,
        id=an_id("t2"),
        owner_id=store.ada,
        slug="rich",
        name="Ünïcode 🌧 'quoted' \"twice\"",
        description="line\nline",
        price=MOST,
        sealed_prompt="v1.k1.other",
        parameters='[{"enum": ["é", "🌧"], "name": "x", "maxLength": 5}, {}]',
        model="claude-other",
        max_tokens=8192,
        allows_user_message=True,
        network="base",
        created_at=1_800_000_000.123,
        updated_at=1_800_000_001.5,
    )

    store.catalogue.add_template(rich)

    assert store.catalogue.listing("ada", "rich", None).template == rich


@pytest.mark.parametrize("price", [0, 1, 999, 10_000, 1_001_000, 29_000, MOST])
def test_a_price_is_kept_to_the_micro_dollar(store, price):
    before = replace(HAIKU, owner_id=store.ada)
    after = replace(before, version=2, price=price)

    store.catalogue.replace_template(before, after)

    assert store.catalogue.template(store.ada, HAIKU.id) == after


def test_definitions_mean_the_same_however_they_are_spelled(store):
    spelled = '[{"required":true,  "name": "\\u00e9", "enum": ["b", "a"], "maxLength": 5}]'
    other = replace(HAIKU, id=an_id("t2"), owner_id=store.ada, slug="other", parameters=spelled)

    store.catalogue.add_template(other)

    found = store.catalogue.template(store.ada, other.id)
    assert found.definitions == other.definitions
    assert replace(found, parameters=spelled) == other


def test_texts_of_any_length_come_back_whole(store):
    after = replace(
        HAIKU,
        owner_id=store.ada,
        version=2,
        name="n" * 100,
        description="🌧" * 500,
        sealed_prompt="v1.k1." + "A" * 300_000,
        model="m" * 100,
        slug="s" * 60,
        parameters='[{"name": "x", "description": "%s"}]' % ("d" * 190_000),
    )

    store.catalogue.replace_template(replace(HAIKU, owner_id=store.ada), after)

    assert store.catalogue.listing("ada", "s" * 60, None).template == after


def test_a_debt_comes_with_the_template_it_was_paid_for_and_its_creators_key(store):
    bob = store.catalogue.add_user("bob")
    store.keys.put_claude_key(store.ada, "ada's")
    store.keys.put_claude_key(bob, "bob's")
    row = owed(store)
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)
    bobs = published(store, bob, "haiku", 3000.0)

    listing = store.catalogue.listing("bob", "haiku", CLAIM_KEY)

    gone = replace(HAIKU, owner_id=store.ada, is_active=False)
    assert listing == Listing(bobs, "bob's", None, row, gone, "ada's")


def test_a_creators_key_that_is_switched_off_pays_for_no_debt(store):
    store.keys.put_claude_key(store.ada, "ada's", enabled=False)
    row = owed(store)

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert (listing.earlier, listing.owed_key) == (row, None)
    assert listing.owed == listing.template


def test_a_payment_that_is_no_debt_brings_no_second_template(store):
    store.keys.put_claude_key(store.ada, "ada's")
    row = store.ledger.claim(bought())

    listing = store.catalogue.listing("ada", "haiku", row.claim_key)

    assert (listing.owed, listing.owed_key) == (None, None)


def owed(store):
    """A debt for HAIKU, as it stands."""
    return walked(store, State.SETTLING, State.SETTLED, State.REFUND_DUE)


def test_a_payment_is_remembered_although_its_template_is_gone(store):
    row = store.ledger.claim(bought())
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)

    listing = store.catalogue.listing("ada", "haiku", CLAIM_KEY)

    assert (listing.template, listing.earlier) == (None, row)
    assert store.catalogue.listing("nobody", "nothing", CLAIM_KEY).earlier == row


@pytest.mark.parametrize("claim_key", [None, "", CLAIM_KEY.upper(), CLAIM_KEY[:-1], "%"])
def test_another_payment_is_not_taken_for_it(store, claim_key):
    store.ledger.claim(bought())

    assert store.catalogue.listing("ada", "haiku", claim_key).earlier is None


def test_an_unpaid_run_is_not_taken_for_a_payment_without_a_key(store):
    unpaid = bought(kind="free", state=State.COMPLETED, claim_key=None, payer=None, amount=0)
    store.ledger.record(unpaid)

    assert store.catalogue.listing("ada", "haiku", None).earlier is None


def test_another_worker_sees_the_same_at_once(store):
    other = store.worker()

    row = store.ledger.claim(bought())

    assert other.catalogue.listing("Ada", "haiku", CLAIM_KEY).earlier == row


# names


def test_a_name_is_given_once(store):
    assert store.catalogue.username(NEW) is None

    assert store.catalogue.give_username(NEW, "cleo") == "cleo"
    assert store.catalogue.give_username(NEW, "other") == "cleo"
    assert store.catalogue.give_username(NEW, "cleo") == "cleo"

    assert store.catalogue.username(NEW) == "cleo"
    assert store.catalogue.user_id("CLEO") == NEW
    assert store.catalogue.user_id("other") is None


def test_an_account_that_has_stored_something_gets_its_name_later(store):
    store.keys.put_claude_key(NEW, "sealed")
    assert store.catalogue.username(NEW) is None

    assert store.catalogue.give_username(NEW, "cleo") == "cleo"
    assert store.keys.claude_config(NEW).has_key is True


@pytest.mark.parametrize("username", ["ada", "Ada", "ADA"])
@pytest.mark.parametrize("has_stored_something", [True, False])
def test_a_name_is_taken_in_any_letter_case(store, username, has_stored_something):
    if has_stored_something:
        store.keys.put_pay_to(NEW, "0x1")

    assert store.catalogue.give_username(NEW, username) is None
    assert store.catalogue.username(NEW) is None
    assert store.catalogue.username(store.ada) == "ada"
    assert store.catalogue.give_username(NEW, "adb") == "adb"


def test_a_name_does_not_change_its_owner_by_being_asked_for_again(store):
    assert store.catalogue.give_username(store.ada, "bob") == "ada"
    assert store.catalogue.add_user("bob") != store.ada


def race(count, run):
    """What `run(0)`, `run(1)`, … came to, all begun together."""
    together = Barrier(count)

    def begin(number):
        together.wait()
        return run(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def test_one_of_many_workers_gets_a_name_for_its_account(store):
    workers = [store.worker() for _ in range(4)]

    given = race(
        20, lambda number: workers[number % 4].catalogue.give_username(an_id(number), "wanted")
    )

    assert sorted(map(str, given)) == ["None"] * 19 + ["wanted"]
    assert store.catalogue.user_id("wanted") == an_id(given.index("wanted"))


def test_one_account_is_made_for_a_name_that_many_add(store):
    workers = [store.worker() for _ in range(4)]

    made = race(20, lambda number: workers[number % 4].catalogue.add_user("wanted"))

    assert set(made) == {store.catalogue.user_id("wanted")}


def test_one_account_gets_one_of_many_names(store):
    given = race(20, lambda number: store.catalogue.give_username(NEW, f"name{number}"))

    assert set(given) == {store.catalogue.username(NEW)}
    assert len([n for n in range(20) if store.catalogue.user_id(f"name{n}") is not None]) == 1


# the creator's templates, and everybody's


def published(store, owner_id, name, at, **changes):
    template = replace(
        HAIKU,
        id=an_id(name, owner_id),
        owner_id=owner_id,
        username=store.catalogue.username(owner_id),
        slug=name,
        created_at=at,
        **changes,
    )
    store.catalogue.add_template(template)
    return template


def test_an_empty_list_is_a_page_of_nothing(store):
    bob = store.catalogue.add_user("bob")

    page = store.catalogue.templates(bob, 10, 0)

    assert (list(page.items), page.total, page.limit, page.offset) == ([], 0, 10, 0)
    assert store.catalogue.templates("nobody", 10, 5).total == 0


def test_a_creator_sees_their_own_templates_newest_first(store):
    bob = store.catalogue.add_user("bob")
    one = published(store, bob, "one", 5000.0)
    three = published(store, bob, "three", 7000.0, is_active=False)
    two = published(store, bob, "two", 6000.0)
    gone = published(store, bob, "gone", 8000.0)
    store.catalogue.delete_template(bob, gone.id, 9000.0)

    page = store.catalogue.templates(bob, 10, 0)

    assert (list(page.items), page.total) == ([three, two, one], 3)
    assert list(store.catalogue.templates(store.ada, 10, 0).items) == [
        replace(HAIKU, owner_id=store.ada)
    ]


def test_the_shelf_has_everybodys_active_templates_newest_first(store):
    bob = store.catalogue.add_user("bob")
    bobs = published(store, bob, "haiku", 5000.0)
    published(store, bob, "paused", 6000.0, is_active=False)
    gone = published(store, store.ada, "gone", 7000.0)
    adas = published(store, store.ada, "ada-s", 4000.0)
    store.catalogue.delete_template(store.ada, gone.id, 9000.0)

    page = store.catalogue.shelf(10, 0)

    assert list(page.items) == [bobs, adas, replace(HAIKU, owner_id=store.ada)]
    assert page.total == 3


@pytest.mark.parametrize(
    ("limit", "offset", "shown"),
    [
        (2, 0, ["e", "d"]),
        (2, 2, ["c", "b"]),
        (2, 4, ["a"]),
        (2, 5, []),
        (2, 10**9, []),
        (5, 0, ["e", "d", "c", "b", "a"]),
        (100, 1, ["d", "c", "b", "a"]),
    ],
)
def test_a_list_comes_in_parts_and_always_knows_its_whole(store, limit, offset, shown):
    bob = store.catalogue.add_user("bob")
    for at, name in enumerate("abcde"):
        published(store, bob, name, 5000.0 + at)
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)

    for page in (
        store.catalogue.templates(bob, limit, offset),
        store.catalogue.shelf(limit, offset),
    ):
        assert [each.slug for each in page.items] == shown
        assert (page.total, page.limit, page.offset) == (5, limit, offset)
        assert page.has_more is (offset + len(shown) < 5 and bool(shown))


def test_templates_of_one_moment_are_each_on_one_page(store):
    bob = store.catalogue.add_user("bob")
    for name in "cabed":
        published(store, bob, name, 5000.0)

    found = [store.catalogue.templates(bob, 1, offset).items[0].slug for offset in range(5)]

    assert sorted(found) == list("abcde")
    assert found == [each.slug for each in store.catalogue.templates(bob, 5, 0).items]


@pytest.mark.parametrize("nothing", ["nothing", "", NEW, HAIKU.id.upper()[:-1], "' OR 1=1", "🌧"])
def test_an_id_of_nothing_finds_nothing(store, nothing):
    assert store.catalogue.username(nothing) is None
    assert store.catalogue.template(store.ada, nothing) is None
    assert store.catalogue.template(nothing, HAIKU.id) is None
    assert store.catalogue.has_written(store.ada, nothing) is False
    assert store.catalogue.has_written(nothing, HAIKU.id) is False
    assert store.catalogue.delete_template(store.ada, nothing, 2000.0) is False
    assert store.catalogue.delete_template(nothing, HAIKU.id, 2000.0) is False
    assert store.catalogue.templates(nothing, 10, 0).total == 0


def test_what_a_creator_has_written_they_have_written_for_ever(store):
    bob = store.catalogue.add_user("bob")
    store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0)

    assert store.catalogue.has_written(store.ada, HAIKU.id) is True
    assert store.catalogue.has_written(bob, HAIKU.id) is False


def test_a_template_is_its_owners_alone(store):
    bob = store.catalogue.add_user("bob")

    assert store.catalogue.template(store.ada, HAIKU.id) == replace(HAIKU, owner_id=store.ada)
    assert store.catalogue.template(bob, HAIKU.id) is None
    assert store.catalogue.template(store.ada, "nothing") is None
    assert store.catalogue.delete_template(bob, HAIKU.id, 2000.0) is False
    assert store.catalogue.template(store.ada, HAIKU.id) is not None


def test_a_slug_is_taken_by_active_and_paused_templates_of_the_same_creator(store):
    bob = store.catalogue.add_user("bob")
    published(store, store.ada, "paused", 5000.0, is_active=False)

    for slug in ("haiku", "paused"):
        with pytest.raises(SlugTaken):
            store.catalogue.add_template(
                replace(HAIKU, id=an_id("again", slug), owner_id=store.ada, slug=slug)
            )
        published(store, bob, slug, 5000.0 + len(slug))

    assert store.catalogue.templates(store.ada, 10, 0).total == 2


def test_deleting_frees_the_slug_for_ever_and_happens_once(store):
    for number in range(3):
        assert store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0) is (number == 0)
    assert store.catalogue.template(store.ada, HAIKU.id) is None
    assert store.catalogue.listing("ada", "haiku", None).template is None

    again = replace(HAIKU, id=an_id("t2"), owner_id=store.ada)
    store.catalogue.add_template(again)

    assert store.catalogue.listing("ada", "haiku", None).template == again
    with pytest.raises(Stale):
        store.catalogue.replace_template(
            replace(HAIKU, owner_id=store.ada), replace(HAIKU, owner_id=store.ada, version=2)
        )


def test_a_change_is_written_whole(store):
    before = replace(HAIKU, owner_id=store.ada)
    after = replace(
        before,
        version=2,
        slug="other",
        name="Other",
        description="Another",
        price=MOST,
        sealed_prompt="v1.k2.sealed",
        parameters="[]",
        model="other",
        max_tokens=1,
        allows_user_message=True,
        network="base",
        updated_at=3000.25,
        is_active=False,
    )

    store.catalogue.replace_template(before, after)

    assert store.catalogue.template(store.ada, HAIKU.id) == after
    assert store.catalogue.listing("ada", "other", None).template is None
    store.catalogue.replace_template(after, replace(after, version=3, is_active=True))
    assert store.catalogue.listing("ada", "other", None).template is not None
    assert store.catalogue.listing("ada", "haiku", None).template is None


def test_a_change_to_anothers_slug_writes_nothing(store):
    published(store, store.ada, "other", 5000.0)
    before = replace(HAIKU, owner_id=store.ada)

    with pytest.raises(SlugTaken):
        store.catalogue.replace_template(before, replace(before, version=2, slug="other"))

    assert store.catalogue.template(store.ada, HAIKU.id) == before


def test_a_change_of_what_has_been_changed_meanwhile_writes_nothing(store):
    before = replace(HAIKU, owner_id=store.ada)
    first = replace(before, version=2, name="First")
    store.catalogue.replace_template(before, first)

    with pytest.raises(Stale):
        store.catalogue.replace_template(before, replace(before, version=2, name="Second"))

    assert store.catalogue.template(store.ada, HAIKU.id) == first


def test_one_of_many_changes_of_one_version_is_written(store):
    before, workers = replace(HAIKU, owner_id=store.ada), [store.worker() for _ in range(4)]

    def change(number):
        after = replace(before, version=2, name=f"name {number}")
        try:
            workers[number % 4].catalogue.replace_template(before, after)
        except Stale:
            return None
        return after

    (written,) = [each for each in race(20, change) if each is not None]

    assert store.catalogue.template(store.ada, HAIKU.id) == written


def test_a_template_is_deleted_once_by_many(store):
    gone = race(20, lambda _: store.catalogue.delete_template(store.ada, HAIKU.id, 2000.0))

    assert sorted(gone) == [False] * 19 + [True]


def test_the_first_templates_of_a_creator_may_come_all_at_once(store):
    bob, workers = store.catalogue.add_user("bob"), [store.worker() for _ in range(4)]

    def add(number):
        template = replace(HAIKU, id=an_id(number), owner_id=bob, slug=f"slug-{number}")
        workers[number % 4].catalogue.add_template(template)

    race(20, add)

    found = [store.catalogue.listing("bob", f"slug-{n}", None).template for n in range(20)]
    assert [each.id for each in found] == [an_id(n) for n in range(20)]
    assert store.catalogue.templates(bob, 100, 0).total == 20


def test_a_slug_that_many_templates_are_changed_to_is_one_ones(store):
    templates = [published(store, store.ada, f"slug-{number}", 5000.0) for number in range(20)]

    def change(template):
        try:
            store.catalogue.replace_template(template, replace(template, version=2, slug="wanted"))
        except SlugTaken:
            return None
        return template.id

    (written,) = [each for each in race(20, lambda n: change(templates[n])) if each is not None]

    assert store.catalogue.listing("ada", "wanted", None).template.id == written


def test_one_of_many_templates_gets_a_slug_that_all_want(store):
    def add(number):
        try:
            store.catalogue.add_template(
                replace(HAIKU, id=an_id(number), owner_id=store.ada, slug="wanted")
            )
        except SlugTaken:
            return None
        return an_id(number)

    (written,) = [each for each in race(20, add) if each is not None]

    assert store.catalogue.listing("ada", "wanted", None).template.id == written
