"""Reading finds the same with the compiled pass and without it, whatever the text, in one thread or in several."""

import gzip
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest.fuzz_skim import Examiner, check_skim, run, sieve, told_by
from tests.ingest.made_texts import made
from tests.ingest.plain_texts import KEY, LONG_BYTES, SKIMMED, USUAL, is_read_alike, is_taken, skimmer, text_of
from worker.ingest import skim, trail
from worker.ingest.skim import Skimmed, Skimmer

pytestmark = SKIMMED

# What is read.


def test_a_number_beyond_all_floats_changes_no_other_record():
    """For such a text the exact way has another parser, to which the last of equal members counts: the pass does not take it."""
    twice = b'{"eventSource":"iam.amazonaws.com","eventName":"DescribeX","eventName":"DeleteInstanceProfile"}'
    for value in (b"1e999", b"-1E400", b'"\\ud800"', b'"\\ud800x"', b'"\\ud800\\ud83d\\ude00"', b"9" * 400):
        text = text_of(USUAL, twice, b'{"eventName":"A","more":' + value + b"}")
        assert not is_taken(text)
        assert is_read_alike(text)


def test_a_record_larger_than_many_pieces_is_no_fault():
    """A plain text is whole, however large its records are beside a piece, and however many lists they hold."""
    large = b'{"eventName":"Wanted","pad":"' + b"x" * 2_000 + b'"}'
    lists = b'{"eventName":"Wanted","list":[' + b",".join([b'{"version":"1"}'] * 60) + b"]}"
    for record in (large, lists):
        text = text_of(USUAL, record, b"{}", record)
        for piece_bytes in (60, 100, 200, 400):
            found = told_by(sieve(blind=True), text, piece_bytes)
            assert found == told_by(sieve(blind=False), text, piece_bytes)
            assert found[0] == "2 records of 3"


def test_a_fault_tells_the_same_place():
    """Which record of how many, in which order of faults, with which count: as the exact way words it."""
    large = b'{"eventName":"Wanted","pad":"' + b"x" * 4_000 + b'"}'
    wrapped = b'{"Records":[{"a":1},{"eventName":"Wanted"},7]}'
    told = b'{"CloudTrailEvent":"{"}'
    filler = [USUAL] * 40
    records = [
        *filler,
        b'{"a":1}',
        *filler,
        wrapped,
        large,
        *filler,
        told,
        b"{}",
        large,
        b'{"detail":{"detail":{}}}',
        b'{"eventCategory":"Insight"}',
    ]
    text = text_of(*records, *[USUAL] * 400)
    warm = sieve(blind=False)
    told_by(warm, text, 1_000_000)
    assert warm.skimmer.skim(text) is not None
    for piece_bytes in (1_000, 50_000, 1_000_000):
        assert told_by(warm, text, piece_bytes) == told_by(sieve(blind=True), text, piece_bytes)
        assert is_read_alike(text, piece_bytes)
    assert "record 41 of 528" in "".join(told_by(warm, text, 1_000_000))


def test_more_wanted_records_than_a_piece_hands_on(monkeypatch):
    """Records that are handed on a few at a time are the same, with the same faults at the end."""
    monkeypatch.setattr(trail, "RECORDS_A_PIECE", 2)
    wanted = b'{"eventName":"Wanted","n":%d}'
    text = text_of(*(wanted % n for n in range(9)), *[USUAL] * 2000, b'{"a":1}', wanted % 9)
    warm = sieve(blind=False)
    told_by(warm, text, 1_000_000)
    assert warm.skimmer.skim(text) is not None
    assert told_by(warm, text, 1_000_000) == told_by(sieve(blind=True), text, 1_000_000)


def test_a_sieve_that_forgets_begins_anew(monkeypatch):
    """Where too many kinds are dull all are forgotten, by the pass as well, and reading goes on alike."""
    monkeypatch.setattr(trail, "MOST_DULL", 3)
    chance = random.Random(2)
    with_pass, exact = sieve(blind=False), sieve(blind=True)
    for _ in range(60):
        records = [USUAL.replace(b"Instances", b"%d" % chance.randrange(12)) for _ in range(chance.randrange(1, 5))]
        assert told_by(with_pass, text_of(*records), 1_000_000) == told_by(exact, text_of(*records), 1_000_000)


# Made-up texts.


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_made_up_texts_are_read_alike(chance, most_records):
    """Whatever may stand in a file, whole or damaged: the pass says only what is so, and a Trail does not depend on it."""
    Examiner().examine(made(chance, most_records), chance)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_worker_that_has_read_many_texts_reads_the_next_alike(seed):
    """The same with a memory, over thousands; a good share is taken, and a good share is not."""
    counts = run(seed, lambda texts: texts < 1_500)
    assert counts.taken > 0.25 * counts.texts
    assert counts.refused > 0.25 * counts.texts


@pytest.mark.parametrize("compact", [True, False], ids=["compact", "as they lie there"])
def test_real_objects_are_read_alike_and_nearly_all_are_plain(shared_data, compact):
    """Each of the 55 real objects, and the two loose collections as objects of a hundred records, gives the same with the pass and without it."""
    texts = [gzip.decompress(path.read_bytes()) for path in sorted(shared_data.glob("cloudtrail/invictus/AWSLogs/**/*.gz"))]
    for path in sorted(shared_data.glob("cloudtrail/*/records.jsonl")):
        lines = path.read_bytes().splitlines()
        texts += [text_of(*lines[at : at + 100]) for at in range(0, len(lines), 100)]
    assert len(texts) == 66
    if compact:
        texts = [json.dumps(json.loads(text), separators=(",", ":")).encode() for text in texts]
    with_pass, exact = sieve(blind=False), sieve(blind=True)
    for piece_bytes in (1_000, 10_000, 1_000_000):
        for text in texts:
            assert told_by(with_pass, text, piece_bytes) == told_by(exact, text, piece_bytes)
    taken = [check_skim(skimmer(), set(), text, 10_000) for text in texts]
    assert all(taken if compact else taken[:55])


# Several threads.


def test_a_long_text_is_skimmed_while_others_go_on():
    """Over a long text the others run meanwhile: what cannot be added then is told so, every answer stays right, and it is learnt later."""
    shared = skimmer()
    wanted = b'{"eventName":"Wanted"}'
    long = text_of(wanted, *[USUAL] * (3 * LONG_BYTES // len(USUAL)), wanted)
    short = text_of(wanted, USUAL, wanted)
    assert shared.add(*KEY)
    expected = shared.skim(long, 10)
    expected_short = shared.skim(short, 10)
    assert [number for number, _, _ in expected[1]] == [1, expected[0]]
    over = threading.Event()
    answers = set()

    def skim_long():
        assert all(shared.skim(text, 10) == expected for text in [long, bytearray(long)] * 10)

    def disturb(which):
        number = 0
        while not over.is_set():
            answers.add(shared.add(f"{which}", f"Name{number}", None))
            assert shared.skim(short, 10) == expected_short
            assert skimmer().skim(short, 10)[0] == 3
            number += 1

    with ThreadPoolExecutor(5) as threads:
        disturbing = [threads.submit(disturb, which) for which in range(2)]
        skimming = [threads.submit(skim_long) for _ in range(3)]
        try:
            for one in skimming:
                one.result()
        finally:
            over.set()
        for one in disturbing:
            one.result()
    assert answers <= {True, False}
    assert shared.add("s", "Wanted", None)
    assert shared.add(None, "Wanted", None)
    assert shared.skim(long, 10) == (expected[0], [])


def test_what_cannot_be_added_yet_is_learnt_with_a_later_text():
    """While another thread is busy an event waits; the first text after that is skimmed with it."""

    class Busy:
        def __init__(self, real):
            self.real, self.is_busy = real, True
            self.skim = real.skim

        def add(self, *key):
            return not self.is_busy and self.real.add(*key)

    one: Any = Skimmer()
    one._known = busy = Busy(one._known)
    one.add(*KEY)
    one.add(None, "Other", None)
    text = text_of(USUAL, USUAL)
    assert one.skim(text).wanted == one.skim(text).wanted != []
    busy.is_busy = False
    assert one.skim(text) == Skimmed(2, [])
    assert one.skim(text_of(b'{"eventName":"Other","pad":"' + b"x" * 64 + b'"}')) == Skimmed(1, [])


def test_threads_learn_from_one_list():
    """What one thread takes from the list of what is to be learnt, another does not miss."""

    class TakenMeanwhile(list[Any]):
        def __bool__(self):
            self.clear()
            return True

    one: Any = Skimmer()
    one._learnt = TakenMeanwhile([KEY])
    assert one.skim(text_of(USUAL)).records == 1


def test_without_the_compiled_part_nothing_is_known(monkeypatch):
    """A skimmer then says nothing of any text, and forgets what it is told."""
    monkeypatch.setattr(skim, "AVAILABLE", False)
    one: Any = Skimmer()
    one.add(*KEY)
    assert one.skim(text_of(USUAL)) is None
    assert one._learnt == []
