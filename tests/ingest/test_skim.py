"""The compiled pass leaves out what is known to be wanted by nobody, and nothing else; and is used from Python as it should be."""

import json
import random
from typing import Any

import pytest

from tests.ingest import fuzz_skim
from tests.ingest.fuzz_skim import plain_records
from tests.ingest.plain_texts import KEY, SKIMMED, USUAL, skimmer, text_of
from worker.ingest import skim
from worker.ingest.skim import Skimmed, Skimmer

pytestmark = SKIMMED

# Which records are left out.


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (USUAL, KEY),
        (b'{"eventSource":"s","eventName":"n","userIdentity":{"type":"t"}}', ("s", "n", "t")),
        (b'{"userIdentity":{"a":{"type":"x"},"type":"t"},"eventName":"n","eventSource":"s"}', ("s", "n", "t")),
        (b'{"eventName":"n","eventName":"o","eventSource":"s","eventSource":"r"}', ("s", "n", None)),
        (b'{"eventName":"n","userIdentity":{"type":"t","type":"u"},"userIdentity":{"type":"v"}}', (None, "n", "t")),
        (b'{"eventName":"n","userIdentity":{"type":1,"type":"u"}}', (None, "n", None)),
        (b'{"eventName":"n","userIdentity":[{"type":"t"}],"eventSource":null}', (None, "n", None)),
        (b'{"eventName":"n","userIdentity":"t","eventSource":{"eventSource":"s"}}', (None, "n", None)),
        (b'{"eventName":"n","userIdentity":{},"eventSource":""}', ("", "n", None)),
        (b'{"eventName":"n","userIdentity":{"type":""}}', (None, "n", "")),
        (b'{"detail":{"eventName":"o"},"a":"\\"","b":[{"eventName":"p"}],"eventName":"n"}', (None, "n", None)),
        (b'{"a":["\\\\",{"b":"]}\\"}"}],"eventName":"n"}', (None, "n", None)),
        ('{"eventName":"É€😀"}'.encode(), (None, "É€😀", None)),
        (USUAL.replace(b'"type":"IAMUser"', b'"type":"IAMUser","type":"Root"'), KEY),
        (USUAL.replace(b'"userName":"a"', b'"a":[[{}],{"b":{}}],"eventName":"o"'), KEY),
        (USUAL.replace(b'"readOnly":true', b'"eventName":"o","userIdentity":{"type":"Root"}'), KEY),
        (USUAL.replace(b'"1.08"', b"{}"), KEY),
        (USUAL.replace(b'"1.08"', b'"\\n"'), KEY),
        (USUAL.replace(b'"eventTime":', b'"more":[],"eventTime":'), KEY),
    ],
    ids=lambda one: None if isinstance(one, tuple) else repr(one[:60]),
)
def test_a_record_is_known_by_three_members(record, key):
    """It is left out if exactly its source, name and identity type were added, wherever they stand: of equal members the first."""
    pad = b'{"pad":"' + b"x" * 64 + b'"}'
    text = text_of(record, pad)
    last = (2, 13 + len(record), 13 + len(record) + len(pad))
    assert fuzz_skim.key_of(next(iter((plain_records(text) or {}).values()))) == key
    assert skimmer(key).skim(text, 9) == (2, [last])
    near = [
        (*key[:i], other, *key[i + 1 :])
        for i in range(3)
        for other in ("x", None, "", (key[i] or "") + "x", (key[i] or "x")[:-1])
        if other != key[i]
    ]
    near = [one for one in near if one[1] is not None]
    assert skimmer(*near).skim(text, 9) == (2, [(1, 12, 12 + len(record)), last])


@pytest.mark.parametrize(
    "record",
    [
        b'{"a":1}',
        b'{"eventName":null}',
        b'{"eventName":3,"eventName":"n"}',
        b'{"eventName":{"eventName":"n"}}',
        b'{"event\\u004eame":"o","eventName":"n"}',
        b'{"eventName":"\\u006e"}',
        b'{"userIdentity":{"t\\u0079pe":"Root","type":"t"},"eventName":"n"}',
        b'{"detail":{"eventName":"n"}}',
        b'{"Records":[{"eventName":"n"}]}',
        b'{"CloudTrailEvent":"{}"}',
        b"{}",
    ],
)
def test_a_record_that_is_not_understood_is_never_left_out(record):
    """Without a name that is plain text, a record may be anything: it is told, whatever was added."""
    known = skimmer(*((source, name, kind) for source in (None, "") for name in ("n", "o", "", "3") for kind in (None, "t", "")))
    assert known.skim(text_of(record, USUAL), 9) == (2, [(1, 12, 12 + len(record)), (2, 13 + len(record), 13 + len(record) + len(USUAL))])


def test_most_is_the_limit():
    """Where more may be wanted than allowed, nothing is told; as many are."""
    text = text_of(*[USUAL] * 50)
    for most in (-(2**63), -1, 0, 1, 49):
        assert skimmer().skim(text, most) is None
    assert len(skimmer().skim(text, 50)[1]) == 50
    assert skimmer(KEY).skim(text, 0) == skimmer(KEY).skim(text, -1) == (50, [])
    assert Skimmer().skim(text) is None
    one: Any = Skimmer()
    assert one.skim(text_of(*[USUAL] * skim.FEW)) == Skimmed(4, skimmer().skim(text_of(*[USUAL] * 4), 4)[1])


def test_many_that_are_dull_hide_nothing_else():
    """60,000 kinds, alike at both ends and of every length: nearly all are known, and no other is taken for one of them."""
    known = skimmer()
    keys = [
        (f"begins alike {number:05} ends alike"[: 5 + number % 32], f"Name{number}", ("t" * (number % 41)) or None)
        for number in range(60_000)
    ]
    keys += [("s" * source, "n" * name, "k" * kind) for source in range(0, 20, 3) for name in range(1, 40) for kind in range(12)]
    keys += [("begins alike ", f"begins {'-' * 20}{number:04}{'-' * 20} ends alike", "t") for number in range(2_000)]
    random.Random(1).shuffle(keys)
    assert all(known.add(*key) for key in keys)
    distinct = set(keys)

    def left_out(told):
        records = [{"eventSource": s, "eventName": n, "userIdentity": {"type": k}} for s, n, k in told]
        text = json.dumps({"Records": records}, separators=(",", ":")).encode()
        count, wanted = known.skim(text, len(told))
        assert count == len(told)
        return count - len(wanted)

    assert left_out([(s, n + "x", k) for s, n, k in keys]) == sum((s, n + "x", k) in distinct for s, n, k in keys)
    assert left_out([((s or "") + "\x7f", n, k) for s, n, k in keys]) == 0
    assert left_out([(s, n, (k or "") + "\x7f") for s, n, k in keys]) == 0
    assert left_out([(s, n[:8] + "!" + n[9:], k) for s, n, k in keys if len(n) > 16]) == 0
    assert left_out(keys) > 0.9 * len(keys)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_texts_that_differ_in_the_middle_alone_are_told_apart(which):
    """They fall on one place of the set: only a look at every byte keeps a wanted record from being left out."""
    known, other = list(KEY), list(KEY)
    known[which], other[which] = "12345678-a-12345678", "12345678-b-12345678"
    source, name, kind = other
    record = f'{{"eventSource":"{source}","eventName":"{name}","userIdentity":{{"type":"{kind}"}}}}'.encode()
    assert skimmer(known).skim(text_of(record), 10) == (1, [(1, 12, 12 + len(record))])
    assert skimmer(other).skim(text_of(record), 10) == (1, [])


def test_an_event_that_is_too_long_is_judged_anew_each_time():
    """Beyond 1,024 bytes together nothing is kept; up to there it is."""
    for source, name, kind in [("s" * 512, "n" * 500, "k" * 12), ("", "n" * 1024, None), ("s" * 1023, "n", "")]:
        for more in ("", "x"):
            known = skimmer((source, name + more, kind))
            record = {"eventSource": source, "eventName": name + more, "userIdentity": {"type": kind}}
            text = json.dumps({"Records": [record]}, separators=(",", ":")).encode()
            assert len(known.skim(text, 9)[1]) == len(more)
    assert skimmer(("s" * 5_000_000, "é" * 600, None)).skim(text_of(USUAL), 9) is not None


# The edge to Python.


def test_arguments_of_another_kind_are_refused():
    """What is no text is a TypeError, and half a surrogate pair, which no plain text holds, is not kept."""
    known = skimmer()
    for arguments in [
        (),
        ("a", "b"),
        ("a", "b", "c", "d"),
        (1, "b", "c"),
        ("a", None, "c"),
        ("a", b"b", "c"),
        ("a", "b", 1),
        (b"a", "b", None),
    ]:
        with pytest.raises(TypeError):
            known.add(*arguments)
    for given_to_skim in [(), (b"{}",), ("{}", 1), (None, 1), (b"{}", None), (b"{}", "1"), (b"{}", 1.5), (b"{}", 1, 2)]:
        with pytest.raises(TypeError):
            known.skim(*given_to_skim)
    with pytest.raises(OverflowError):
        known.skim(b"{}", 2**70)
    new: Any = skim._skim.Skimmer
    with pytest.raises(TypeError):
        new(1)
    with pytest.raises(TypeError):
        new(a=1)
    for arguments in [("\ud800", "n", "t"), ("s", "\udc00", "t"), ("s", "n", "\ud800")]:
        assert known.add(*arguments)
    assert known.skim(text_of(USUAL), 1) == (1, [(1, 12, 12 + len(USUAL))])


def test_any_contiguous_buffer_is_read():
    """bytes, bytearray and views of them are read alike; a view with gaps is refused; none is held afterwards."""
    text = text_of(USUAL, b"{}")
    told = skimmer(KEY).skim(text, 9)
    changing = bytearray(b"??" + text)
    assert told == skimmer(KEY).skim(bytearray(text), 9) == skimmer(KEY).skim(memoryview(changing)[2:], 9)
    changing.append(0)  # raises while anybody holds it
    with pytest.raises(BufferError):
        skimmer().skim(memoryview(changing)[::2], 9)
    assert skimmer().skim(b"", 9) is skimmer().skim(bytearray(), 9) is skimmer().skim(memoryview(b"")[:0], 9) is None
