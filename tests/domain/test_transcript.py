"""What has been said so far, for any number of followers; the same under gevent."""

import os
import random
import subprocess
import sys
import threading
import time

import pytest

from x402jobs.alarms import Bell
from x402jobs.domain.events import Done
from x402jobs.domain.execution import Execution, Kind, State
from x402jobs.domain.transcript import PARTS_AT_ONCE, Transcript

END = Done(Execution("e1", Kind.FREE, State.COMPLETED, "t", 1, "d", "w", 0.0))
PATIENT = 30.0


def in_threads(*works):
    """Let all of them work at once; whatever one raises is raised here."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=[work], daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert not any(thread.is_alive() for thread in threads)
    for failure in failures:
        raise failure


def heard(transcript):
    """All that a follower hears; a long silence is a word that rang for nobody."""
    said = []
    for each in transcript.follow(Bell(PATIENT)):
        assert each is not None, said
        said.append(each)
    return said


def test_what_was_said_before_is_heard_in_one_piece_and_then_the_end():
    transcript = Transcript()
    for word in ("Rain ", "taps ", "on."):
        transcript.write(word)
    transcript.close(END)

    assert heard(transcript) == ["Rain taps on.", END]
    assert heard(transcript) == ["Rain taps on.", END]
    assert transcript.text == "Rain taps on."


@pytest.mark.parametrize(("text", "expected"), [("", [END]), ("Rain.", ["Rain.", END])])
def test_a_transcript_from_the_store_is_followed_like_a_live_one(text, expected):
    assert heard(Transcript(text, END)) == expected


@pytest.mark.parametrize("after", range(9))
@pytest.mark.parametrize("joined", [True, False], ids=["late", "live"])
def test_a_follower_leaves_out_what_they_have_already(after, joined):
    parts = ["Ra", "\U0001f327", "in", "", "\ud83c", "\udf27"]
    transcript = Transcript()
    follower, said = transcript.follow(Bell(0.001), after), []
    for part in parts:
        transcript.write(part)
        if not joined:
            said += iter(lambda: next(follower), None)
    transcript.close(END)
    said += follower

    assert said.pop() is END
    assert "".join(said) == "".join(parts)[after:]
    assert "" not in said


def test_each_follower_reads_at_their_own_pace_from_the_beginning():
    transcript = Transcript()
    transcript.write("a")
    early = transcript.follow(Bell(PATIENT))
    assert next(early) == "a"
    transcript.write("b")
    transcript.write("c")
    late = transcript.follow(Bell(PATIENT))

    assert next(late) == "abc"
    assert next(early) == "bc"
    transcript.close(END)
    assert (next(early), next(late)) == (END, END)


def test_silence_is_none_again_and_again_and_costs_no_words():
    transcript = Transcript()
    follower = transcript.follow(Bell(0.01))

    assert [next(follower), next(follower)] == [None, None]
    transcript.write("a")
    assert next(follower) == "a"
    assert next(follower) is None
    transcript.close(END)
    assert list(follower) == [END]


def test_words_wake_a_follower_at_once_and_not_at_the_end_of_the_silence():
    transcript = Transcript()
    said = []

    def speak():
        time.sleep(0.05)
        transcript.write("a")
        time.sleep(0.05)
        transcript.close(END)

    in_threads(speak, lambda: said.extend(heard(transcript)))

    assert said == ["a", END]


MOMENTS = [
    "before the bell is silenced",
    "after the bell is silenced",
    "before the ending is read",
    "after the ending is read",
    "before waiting",
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("nth", [1, 2])
def test_what_is_said_at_any_moment_of_a_followers_look_is_heard(moment, nth):
    """The two threads' steps in every order that matters."""
    counts = dict.fromkeys(MOMENTS, 0)

    def now(here):
        counts[here] += 1
        if here == moment and counts[here] == nth:
            transcript.write("last words")
            transcript.close(END)

    class Watching:
        rung = False

        def set(self):
            self.rung = True

        def clear(self):
            now("before the bell is silenced")
            self.rung = False
            now("after the bell is silenced")

        def wait(self):
            now("before waiting")
            assert self.rung or "last" not in transcript.text, "nobody rang for the last words"
            return self.rung

        def cancel(self):
            pass

    class Watched(Transcript):
        @property
        def ending(self):
            now("before the ending is read")
            ending = self.__dict__["ending"]
            now("after the ending is read")
            return ending

        @ending.setter
        def ending(self, ending):
            self.__dict__["ending"] = ending

    transcript = Watched()
    transcript.write("first words, ")

    *said, ending = transcript.follow(Watching())

    assert "".join(filter(None, said)) == "first words, last words"
    assert ending is END


@pytest.mark.parametrize("leave", ["before listening", "while listening", "at the end"])
def test_who_leaves_is_not_rung_for_any_more(leave):
    transcript = Transcript()
    transcript.write("a")
    follower = transcript.follow(Bell(0.01))
    if leave != "before listening":
        assert next(follower) == "a"
    if leave == "at the end":
        transcript.close(END)
        assert list(follower) == [END]
    follower.close()

    assert transcript._bells == set()
    transcript.write("b")


def test_fifty_followers_who_come_at_any_time_hear_every_word_once():
    transcript = Transcript()
    words = [f"{number} " for number in range(400)]

    def speak():
        for word in words:
            transcript.write(word)
            if word.endswith("0 "):
                time.sleep(0.001)
        transcript.close(END)

    def follow(wait):
        time.sleep(wait)
        *said, ending = heard(transcript)
        assert "".join(said) == "".join(words)
        assert ending is END

    in_threads(speak, *(lambda wait=wait: follow(wait / 1000) for wait in range(50)))


def test_in_300_rounds_nothing_is_lost_or_said_twice():
    seeded = random.Random(402)
    for _ in range(300):
        transcript = Transcript()
        words = [chr(97 + number) for number in range(seeded.randint(0, 12))]
        pauses = [seeded.choice([0, 0, 0.0002]) for _ in words]

        def speak(transcript=transcript, words=words, pauses=pauses):
            for word, pause in zip(words, pauses, strict=True):
                time.sleep(pause)
                transcript.write(word)
            transcript.close(END)

        def follow(wait, transcript=transcript, words=words):
            time.sleep(wait)
            *said, ending = heard(transcript)
            assert "".join(said) == "".join(words)
            assert ending is END

        waits = [0, 0, seeded.choice([0, 0.0005]), seeded.choice([0, 0.002])]
        in_threads(speak, *(lambda wait=wait: follow(wait) for wait in waits))


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, threading
import pytest
assert monkey.is_module_patched("threading")
sys.exit(pytest.main([
    sys.argv[1], "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", "not under_gevent",
]))
"""


def test_all_of_this_is_as_true_under_gevent():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNDER_GEVENT, __file__],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COVERAGE_PROCESS_START": ""},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_who_was_away_gets_what_they_missed_in_pieces_and_holds_one_of_them():
    parts = [f"{number} " for number in range(3 * PARTS_AT_ONCE)]
    transcript = Transcript()
    for part in parts:
        transcript.write(part)
    transcript.close(END)

    *pieces, ending = transcript.follow(Bell(1.0))

    assert ("".join(pieces), ending) == ("".join(parts), END)
    assert len(pieces) == 3
